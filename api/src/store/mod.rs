//! Tasks in a database: SQLite or PostgreSQL, two typed pools behind one enum.
//!
//! Requests do not hold connections. They put a question into one of two bounded queues; a few lanes (`lane`) each
//! hold a connection and take what waits. That makes both directions fast without keeping any answer:
//!
//! - **Reads**: requests that wait for the same list at the moment a query starts share its answer. Every answer was
//!   read from the database after its request had arrived, so a task written by another replica is seen at once.
//! - **Writes**: what waits is committed together, so one flush of the disk serves all of them. An answer leaves
//!   after its commit.
//!
//! A lane whose connection fails answers "unavailable" and takes a fresh connection for the next question.

mod lane;
mod migrations;
mod postgres;
mod session;
mod sqlite;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::ApiError;
use crate::model::{Change, ListQuery, Task, Title};
use crate::settings::Database;

/// Rows of one page when a whole list is streamed.
pub(crate) const STREAM_PAGE: i64 = 500;
/// Questions that may wait, for each direction.
const QUEUE: usize = 1024;
/// How long a request waits for its answer, with the wait for a place in the queue. Afterwards it is 503, and what it
/// asked for is not begun any more.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an `Idempotency-Key` is remembered, in seconds.
const KEY_LIFETIME: i64 = 24 * 60 * 60;
/// How often old keys are removed.
const PRUNE: Duration = Duration::from_mins(15);

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database refused, or did not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The folder of the SQLite file cannot be made.
    #[error("cannot make the folder {folder}: {source}")]
    Folder {
        /// The folder.
        folder: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Titles in any language do not fit into this PostgreSQL database.
    #[error("the database's encoding is {0}; it must be UTF8")]
    Encoding(String),
}

/// A database operation failed; the log has the cause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unavailable;

impl From<Unavailable> for ApiError {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

/// Part of a list, already as JSON: the database writes it, which saves a value for every field of every row.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// A complete JSON array.
    pub(crate) json: Bytes,
    rows: i64,
    /// The highest id in it.
    pub(crate) last: Option<i64>,
    /// How many tasks the filter matches on all pages, if that was asked for.
    pub(crate) total: Option<i64>,
}

impl Page {
    fn new(rows: i64, last: Option<i64>, joined: &str) -> Self {
        let mut json = BytesMut::with_capacity(joined.len() + 2);
        json.put_u8(b'[');
        json.put_slice(joined.as_bytes());
        json.put_u8(b']');
        Self { json: json.freeze(), rows, last, total: None }
    }

    /// Whether there may be more after it.
    pub(crate) fn is_full(&self, limit: i64) -> bool {
        self.rows >= limit
    }

    /// The rows without the array around them, after `lead`.
    pub(crate) fn rows_with(&self, lead: u8) -> Bytes {
        let mut chunk = BytesMut::with_capacity(self.json.len());
        chunk.put_u8(lead);
        chunk.put_slice(&self.json[1..self.json.len() - 1]);
        chunk.freeze()
    }
}

/// What POST led to.
#[derive(Clone, Debug)]
pub(crate) enum Created {
    /// A new task, or the one that the same key made before.
    Task(Task),
    /// The key was used for another title.
    KeyReused,
}

/// Where an answer goes. Nobody listens when the client has left.
type Reply<T> = oneshot::Sender<Result<T, Unavailable>>;

/// A question that changes nothing.
#[derive(Debug)]
enum Read {
    List { query: ListQuery, counted: bool, reply: Reply<Page> },
    Get { id: i64, reply: Reply<Option<Task>> },
    Ready { reply: Reply<()> },
}

/// A change.
#[derive(Debug)]
enum Write {
    Create { title: Title, key: Option<String>, reply: Reply<Created> },
    Change { id: i64, change: Change, reply: Reply<Option<Task>> },
    Remove { id: i64, reply: Reply<bool> },
    Prune { before: i64, reply: Reply<bool> },
}

impl Write {
    /// Whether somebody still waits for it. What nobody waits for was refused, or its client has left, and may come
    /// again: it must not happen behind their back.
    fn is_awaited(&self) -> bool {
        !match self {
            Self::Create { reply, .. } => reply.is_closed(),
            Self::Change { reply, .. } => reply.is_closed(),
            Self::Remove { reply, .. } | Self::Prune { reply, .. } => reply.is_closed(),
        }
    }
}

/// What a change led to, with where to tell it.
#[derive(Debug)]
enum Outcome {
    Created(Reply<Created>, Created),
    Changed(Reply<Option<Task>>, Option<Task>),
    Removed(Reply<bool>, bool),
    /// Whether there may be more to remove.
    Pruned(Reply<bool>, bool),
}

impl Outcome {
    fn send(self) {
        match self {
            Self::Created(reply, created) => send(reply, Ok(created)),
            Self::Changed(reply, task) => send(reply, Ok(task)),
            Self::Removed(reply, yes) | Self::Pruned(reply, yes) => send(reply, Ok(yes)),
        }
    }
}

/// The pools; the lanes hold connections of theirs.
#[derive(Debug)]
enum Pools {
    Sqlite { readers: sqlx::SqlitePool, writer: sqlx::SqlitePool },
    Postgres(sqlx::PgPool),
}

/// Numbers for `/metrics`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) connections: i64,
    pub(crate) idle: i64,
    pub(crate) queued_reads: i64,
    pub(crate) queued_writes: i64,
}

/// The door to the database.
#[derive(Debug)]
pub(crate) struct Store {
    reads: mpsc::Sender<Read>,
    writes: mpsc::Sender<Write>,
    pools: Pools,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Store {
    /// Connects, migrates and starts the lanes; tries again until `wait` is over.
    pub(crate) async fn open(
        database: &Database,
        pool_size: u32,
        wait: Duration,
    ) -> Result<Self, StartError> {
        let (reads, read_queue) = mpsc::channel(QUEUE);
        let (writes, write_queue) = mpsc::channel(QUEUE);
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let pools = match database {
            Database::Sqlite(file) => {
                let (pools, lanes) = lane::retry(wait, async || sqlite::open(file).await).await?;
                sqlite::start(lanes, read_queue, write_queue, &tasks, &stop);
                pools
            }
            Database::Postgres(url) => {
                let (pools, lanes) = lane::retry(wait, async || postgres::open(url, pool_size).await).await?;
                postgres::start(lanes, read_queue, write_queue, &tasks, &stop);
                pools
            }
        };
        tasks.spawn(prune_keys(writes.clone(), stop.clone()));
        Ok(Self { reads, writes, pools, tasks, stop })
    }

    /// One page: at most `limit` (or [`STREAM_PAGE`]) tasks, with the total if `counted`.
    pub(crate) async fn list(&self, query: ListQuery, counted: bool) -> Result<Page, Unavailable> {
        ask(&self.reads, |reply| Read::List { query, counted, reply }).await
    }

    /// The task with this id.
    pub(crate) async fn get(&self, id: i64) -> Result<Option<Task>, Unavailable> {
        ask(&self.reads, |reply| Read::Get { id, reply }).await
    }

    /// Whether the database answers.
    pub(crate) async fn ready(&self) -> Result<(), Unavailable> {
        ask(&self.reads, |reply| Read::Ready { reply }).await
    }

    /// Stores a new task, once for each key.
    pub(crate) async fn create(&self, title: Title, key: Option<String>) -> Result<Created, Unavailable> {
        ask(&self.writes, |reply| Write::Create { title, key, reply }).await
    }

    /// Changes the task with this id, if there is one.
    pub(crate) async fn change(&self, id: i64, change: Change) -> Result<Option<Task>, Unavailable> {
        ask(&self.writes, |reply| Write::Change { id, change, reply }).await
    }

    /// Removes the task with this id; false if there is none.
    pub(crate) async fn remove(&self, id: i64) -> Result<bool, Unavailable> {
        ask(&self.writes, |reply| Write::Remove { id, reply }).await
    }

    /// The numbers of now.
    pub(crate) fn status(&self) -> Status {
        let (size, idle) = match &self.pools {
            Pools::Sqlite { readers, writer } => {
                (readers.size() + writer.size(), readers.num_idle() + writer.num_idle())
            }
            Pools::Postgres(pool) => (pool.size(), pool.num_idle()),
        };
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        Status {
            connections: i64::from(size),
            idle: count(idle),
            queued_reads: count(self.reads.max_capacity() - self.reads.capacity()),
            queued_writes: count(self.writes.max_capacity() - self.writes.capacity()),
        }
    }

    /// Ends the lanes and closes the connections, within two seconds. What waits is answered first.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        let closed = tokio::time::timeout(Duration::from_secs(2), async {
            self.tasks.wait().await;
            match &self.pools {
                Pools::Sqlite { readers, writer } => {
                    readers.close().await;
                    writer.close().await;
                }
                Pools::Postgres(pool) => pool.close().await,
            }
        });
        if closed.await.is_err() {
            tracing::warn!("the database connections did not close in time");
        }
    }
}

/// Queues a question and waits for its answer.
async fn ask<Q, T>(queue: &mpsc::Sender<Q>, question: impl FnOnce(Reply<T>) -> Q) -> Result<T, Unavailable> {
    let answered = async {
        let (reply, answer) = oneshot::channel();
        queue.send(question(reply)).await.map_err(|_| Unavailable)?;
        answer.await.map_err(|_| Unavailable)?
    };
    tokio::time::timeout(PATIENCE, answered).await.unwrap_or(Err(Unavailable))
}

/// Removes old keys now and then; a missed round is made up for by the next.
async fn prune_keys(writes: mpsc::Sender<Write>, stop: CancellationToken) {
    let mut rounds = tokio::time::interval(PRUNE);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let before = now() - KEY_LIFETIME;
        while let Ok(true) = ask(&writes, |reply| Write::Prune { before, reply }).await {}
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The lists that wait, each with everybody who waits for the same one.
#[derive(Debug, Default)]
struct Lists(Vec<WaitingList>);

#[derive(Debug)]
struct WaitingList {
    query: ListQuery,
    counted: bool,
    replies: Vec<Reply<Page>>,
}

impl Lists {
    fn add(&mut self, query: ListQuery, counted: bool, reply: Reply<Page>) {
        match self.0.iter_mut().find(|list| list.query == query && list.counted == counted) {
            Some(list) => list.replies.push(reply),
            None => self.0.push(WaitingList { query, counted, replies: vec![reply] }),
        }
    }
}

/// Answers; the client may have left, which is its right.
fn send<T>(reply: Reply<T>, answer: Result<T, Unavailable>) {
    drop(reply.send(answer));
}
