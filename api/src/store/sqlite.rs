//! SQLite: a file in WAL mode. Two lanes read; one lane writes, since SQLite has one writer anyway, and commits
//! everything that waits with one flush (`synchronous=FULL`: an acknowledged task survives a power cut).

use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Executor, Sqlite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lane::{ACQUIRE, Lane, Lanes, Queue};
use super::session::{Dialect, Session, bounded};
use super::{Outcome, Pools, Read, StartError, Write, migrations};

const READ_LANES: u32 = 2;
/// How long SQLite waits for another process that writes to the same file.
const BUSY: Duration = Duration::from_millis(2500);

impl Dialect for Sqlite {
    /// SQLite keeps the order of an ordered subquery under `group_concat`.
    const LIST: &'static str = r#"SELECT count(*), max(id), coalesce(group_concat(
        '{"id":' || id || ',"title":' || json_quote(title) || ',"done":' || iif(done, 'true', 'false') || '}'), '')
        FROM (SELECT id, title, done FROM tasks WHERE id > $1 ORDER BY id LIMIT $2)"#;
    const LIST_BY_DONE: &'static str = r#"SELECT count(*), max(id), coalesce(group_concat(
        '{"id":' || id || ',"title":' || json_quote(title) || ',"done":' || iif(done, 'true', 'false') || '}'), '')
        FROM (SELECT id, title, done FROM tasks WHERE id > $1 AND done = $3 ORDER BY id LIMIT $2)"#;
}

/// Opens or creates the file and brings its schema up to date.
pub(super) async fn open(file: &Path) -> Result<(Pools, Lanes<Sqlite>), StartError> {
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
    let readers = pool(READ_LANES).connect_with(options.pragma("query_only", "ON")).await?;
    let lanes = Lanes {
        readers: try_join_all((0..READ_LANES).map(|_| Lane::open(&readers))).await?,
        writers: vec![Lane::open(&writer).await?],
    };
    Ok((Pools::Sqlite { readers, writer }, lanes))
}

/// Starts the lanes.
pub(super) fn start(
    lanes: Lanes<Sqlite>,
    reads: mpsc::Receiver<Read>,
    writes: mpsc::Receiver<Write>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let (reads, writes) = (Queue::whole(reads, stop), Queue::whole(writes, stop));
    for lane in lanes.readers {
        tasks.spawn(lane.serve(reads.clone(), |connection, batch| {
            Box::pin(async { Session::<Sqlite>(connection).answer(batch).await })
        }));
    }
    for lane in lanes.writers {
        tasks.spawn(
            lane.serve(writes.clone(), |connection, batch| Box::pin(bounded(write(connection, batch)))),
        );
    }
}

/// Commits one batch. On an error nothing of it is stored, and dropping it tells the waiting requests.
async fn write(connection: &mut SqliteConnection, batch: Vec<Write>) -> Result<(), sqlx::Error> {
    let mut outcomes = Vec::with_capacity(batch.len());
    connection.execute("BEGIN IMMEDIATE").await?;
    for question in batch.into_iter().filter(Write::is_awaited) {
        outcomes.push(Session::<Sqlite>(connection).apply(question).await?);
    }
    connection.execute("COMMIT").await?;
    outcomes.into_iter().for_each(Outcome::send);
    Ok(())
}
