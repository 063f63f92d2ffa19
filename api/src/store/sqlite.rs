//! SQLite: a file in WAL mode. Two lanes read; one lane writes, since SQLite has one writer anyway, and commits
//! everything that waits with one flush (`synchronous=FULL`: an acknowledged task survives a power cut).

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Executor, Row, SqlitePool};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lane::{Lane, bounded, next_batch, share};
use super::{
    ACQUIRE, Created, Lists, Page, Pools, Read, Reply, STREAM_PAGE, Shared, StartError, WaitingList, Write,
    migrations, now, send,
};
use crate::model::{ListQuery, Task, Title};

const READ_LANES: u32 = 2;
/// How long SQLite waits for another process that writes to the same file.
const BUSY: Duration = Duration::from_millis(2500);

/// One row of three values for a page: how many, the last id, and the rows as JSON, joined. SQLite keeps the order
/// of an ordered subquery under `group_concat`.
const LIST: &str = r#"SELECT count(*), max(id), coalesce(group_concat(
    '{"id":' || id || ',"title":' || json_quote(title) || ',"done":' || iif(done, 'true', 'false') || '}'), '')
    FROM (SELECT id, title, done FROM tasks WHERE id > $1 ORDER BY id LIMIT $2)"#;
const LIST_BY_DONE: &str = r#"SELECT count(*), max(id), coalesce(group_concat(
    '{"id":' || id || ',"title":' || json_quote(title) || ',"done":' || iif(done, 'true', 'false') || '}'), '')
    FROM (SELECT id, title, done FROM tasks WHERE id > $1 AND done = $3 ORDER BY id LIMIT $2)"#;
const COUNT: &str = "SELECT count(*) FROM tasks";
const COUNT_BY_DONE: &str = "SELECT count(*) FROM tasks WHERE done = $1";
const GET: &str = "SELECT id, title, done FROM tasks WHERE id = $1";
const CREATE: &str = "INSERT INTO tasks (title) VALUES ($1) RETURNING id";
const CHANGE: &str = "UPDATE tasks SET title = coalesce($2, title), done = coalesce($3, done) WHERE id = $1 \
                      RETURNING id, title, done";
const REMOVE: &str = "DELETE FROM tasks WHERE id = $1";
const KEY: &str = "SELECT title, task_id FROM idempotency_keys WHERE key = $1";
const NOTE_KEY: &str =
    "INSERT INTO idempotency_keys (key, title, task_id, created_at) VALUES ($1, $2, $3, $4)";
const PRUNE: &str = "DELETE FROM idempotency_keys WHERE created_at < $1";

/// Opens or creates the file and brings its schema up to date.
pub(super) async fn open(file: &Path) -> Result<Pools, StartError> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|source| StartError::Folder { folder: folder.display().to_string(), source })?;
    }
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY);
    let pool = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(None)
            .max_lifetime(None)
    };
    let writer = pool(1).connect_with(options.clone()).await?;
    migrations::migrate_sqlite(&mut *writer.acquire().await?).await?;
    let readers = pool(READ_LANES).connect_lazy_with(options.pragma("query_only", "ON"));
    Ok(Pools::Sqlite { readers, writer })
}

/// Starts the lanes.
pub(super) fn start(
    readers: &SqlitePool,
    writer: &SqlitePool,
    reads: mpsc::Receiver<Read>,
    writes: mpsc::Receiver<Write>,
    lanes: &TaskTracker,
    stop: &CancellationToken,
) {
    let reads = share(reads);
    for _ in 0..READ_LANES {
        lanes.spawn(read_lane(Lane::new(readers.clone()), reads.clone(), stop.clone()));
    }
    lanes.spawn(write_lane(Lane::new(writer.clone()), share(writes), stop.clone()));
}

async fn read_lane(mut lane: Lane<sqlx::Sqlite>, queue: Shared<Read>, stop: CancellationToken) {
    while let Some(batch) = next_batch(&queue, &stop).await {
        let outcome = async {
            let mut connection = lane.take().await?;
            match bounded(read(&mut connection, batch)).await {
                Ok(()) => lane.keep(connection),
                Err(error) => {
                    connection.close_on_drop();
                    return Err(error);
                }
            }
            Ok::<_, sqlx::Error>(())
        };
        if let Err(error) = outcome.await {
            tracing::warn!("reading from the database failed: {error}");
        }
    }
}

/// Answers one batch. On an error, dropping the unanswered tells the waiting requests.
async fn read(connection: &mut SqliteConnection, batch: Vec<Read>) -> Result<(), sqlx::Error> {
    let mut lists = Lists::default();
    for question in batch {
        match question {
            Read::List { query, counted, reply } => lists.add(query, counted, reply),
            Read::Get { id, reply } => {
                let row = connection.fetch_optional(sqlx::query(GET).bind(id)).await?;
                send(reply, Ok(row.map(|row| task(&row)).transpose()?));
            }
            Read::Ready { reply } => {
                connection.fetch_one(sqlx::query("SELECT 1 FROM schema_version")).await?;
                send(reply, Ok(()));
            }
        }
    }
    for WaitingList { query, counted, replies } in lists.0 {
        let page = list(connection, query, counted).await?;
        for reply in replies {
            send(reply, Ok(page.clone()));
        }
    }
    Ok(())
}

async fn list(
    connection: &mut SqliteConnection,
    query: ListQuery,
    counted: bool,
) -> Result<Page, sqlx::Error> {
    let limit = query.limit.unwrap_or(STREAM_PAGE);
    let statement = match query.done {
        None => sqlx::query(LIST).bind(query.after).bind(limit),
        Some(done) => sqlx::query(LIST_BY_DONE).bind(query.after).bind(limit).bind(done),
    };
    let row = connection.fetch_one(statement).await?;
    let mut page = Page::new(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if counted {
        page.total = Some(if query.after == 0 && !page.is_full(limit) {
            page.rows
        } else {
            let statement = match query.done {
                None => sqlx::query(COUNT),
                Some(done) => sqlx::query(COUNT_BY_DONE).bind(done),
            };
            connection.fetch_one(statement).await?.try_get(0)?
        });
    }
    Ok(page)
}

fn task(row: &sqlx::sqlite::SqliteRow) -> Result<Task, sqlx::Error> {
    Ok(Task { id: row.try_get(0)?, title: row.try_get(1)?, done: row.try_get(2)? })
}

/// An answer that waits for the commit.
enum Outcome {
    Created(Reply<Created>, Created),
    Changed(Reply<Option<Task>>, Option<Task>),
    Removed(Reply<bool>, bool),
}

async fn write_lane(mut lane: Lane<sqlx::Sqlite>, queue: Shared<Write>, stop: CancellationToken) {
    while let Some(batch) = next_batch(&queue, &stop).await {
        let outcome = async {
            let mut connection = lane.take().await?;
            match bounded(write(&mut connection, batch)).await {
                Ok(outcomes) => {
                    lane.keep(connection);
                    Ok(outcomes)
                }
                Err(error) => {
                    // Closing the connection rolls back what was begun.
                    connection.close_on_drop();
                    Err(error)
                }
            }
        };
        match outcome.await {
            Ok(outcomes) => outcomes.into_iter().for_each(Outcome::send),
            Err(error) => tracing::warn!("writing to the database failed: {error}"),
        }
    }
}

impl Outcome {
    fn send(self) {
        match self {
            Self::Created(reply, created) => send(reply, Ok(created)),
            Self::Changed(reply, task) => send(reply, Ok(task)),
            Self::Removed(reply, removed) => send(reply, Ok(removed)),
        }
    }
}

/// Commits one batch. On an error nothing of it is stored, and dropping it tells the waiting requests.
async fn write(connection: &mut SqliteConnection, batch: Vec<Write>) -> Result<Vec<Outcome>, sqlx::Error> {
    let mut outcomes = Vec::with_capacity(batch.len());
    connection.execute("BEGIN IMMEDIATE").await?;
    for question in batch {
        match question {
            Write::Create { title, key, reply } => {
                let created = create(connection, title.into_string(), key).await?;
                outcomes.push(Outcome::Created(reply, created));
            }
            Write::Change { id, change, reply } => {
                let title = change.title.as_ref().map(Title::as_str);
                let statement = sqlx::query(CHANGE).bind(id).bind(title).bind(change.done);
                let row = connection.fetch_optional(statement).await?;
                outcomes.push(Outcome::Changed(reply, row.map(|row| task(&row)).transpose()?));
            }
            Write::Remove { id, reply } => {
                let removed = connection.execute(sqlx::query(REMOVE).bind(id)).await?.rows_affected() > 0;
                outcomes.push(Outcome::Removed(reply, removed));
            }
            Write::Prune { before } => {
                connection.execute(sqlx::query(PRUNE).bind(before)).await?;
            }
        }
    }
    connection.execute("COMMIT").await?;
    Ok(outcomes)
}

async fn create(
    connection: &mut SqliteConnection,
    title: String,
    key: Option<String>,
) -> Result<Created, sqlx::Error> {
    if let Some(key) = &key
        && let Some(row) = connection.fetch_optional(sqlx::query(KEY).bind(key.as_str())).await?
    {
        let same = row.try_get::<String, _>(0)? == title;
        let task = Task { id: row.try_get(1)?, title, done: false };
        return Ok(if same { Created::Task(task) } else { Created::KeyReused });
    }
    let id: i64 = connection.fetch_one(sqlx::query(CREATE).bind(title.as_str())).await?.try_get(0)?;
    if let Some(key) = key {
        let statement = sqlx::query(NOTE_KEY).bind(key).bind(title.as_str()).bind(id).bind(now());
        connection.execute(statement).await?;
    }
    Ok(Created::Task(Task { id, title, done: false }))
}
