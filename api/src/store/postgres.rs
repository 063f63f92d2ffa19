//! PostgreSQL: a third of the lanes read, the rest write. New tasks that wait together are stored by one statement;
//! everything else commits by itself, so that lanes and replicas never wait for each other's rows crosswise.

use std::collections::HashMap;
use std::str::FromStr;

use futures_util::future::try_join_all;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{Executor, Postgres, Row};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lane::{ACQUIRE, Lane, Lanes, Queue};
use super::session::{Dialect, Session, bounded};
use super::{Created, Outcome, Pools, Read, Reply, StartError, Write, migrations, send};
use crate::model::{Task, Title};
use crate::settings::Secret;

const ISOLATION: &str = "SET default_transaction_isolation = 'read committed'";
const CREATE_MANY: &str = "INSERT INTO tasks (title) SELECT unnest($1::text[]) RETURNING id, title";

impl Dialect for Postgres {
    const LIST: &'static str = r#"SELECT count(*), max(id), coalesce(string_agg(
        '{"id":' || id || ',"title":' || to_json(title)::text || ',"done":' || done::text || '}', ',' ORDER BY id), '')
        FROM (SELECT id, title, done FROM tasks WHERE id > $1 ORDER BY id LIMIT $2) AS page"#;
    const LIST_BY_DONE: &'static str = r#"SELECT count(*), max(id), coalesce(string_agg(
        '{"id":' || id || ',"title":' || to_json(title)::text || ',"done":' || done::text || '}', ',' ORDER BY id), '')
        FROM (SELECT id, title, done FROM tasks WHERE id > $1 AND done = $3 ORDER BY id LIMIT $2) AS page"#;
}

/// Connects, as many times as there are lanes, and brings the schema up to date.
pub(super) async fn open(url: &Secret, pool_size: u32) -> Result<(Pools, Lanes<Postgres>), StartError> {
    let options = PgConnectOptions::from_str(url.expose())?.application_name("task-api");
    let pool = PgPoolOptions::new()
        .max_connections(pool_size)
        .acquire_timeout(ACQUIRE)
        // What a database prescribes for others (`ALTER DATABASE … SET`) would make single changes fail under load.
        .after_connect(|connection, _| Box::pin(async { connection.execute(ISOLATION).await.map(drop) }))
        .connect_with(options)
        .await?;
    let encoding: String = pool.fetch_one("SHOW server_encoding").await?.try_get(0)?;
    if encoding != "UTF8" {
        return Err(StartError::Encoding(encoding));
    }
    migrations::migrate_postgres(&mut *pool.acquire().await?).await?;
    let mut readers = try_join_all((0..pool_size).map(|_| Lane::open(&pool))).await?;
    let writers = readers.split_off(usize::try_from(pool_size / 3).map_or(1, |third| third.max(1)));
    Ok((Pools::Postgres(pool), Lanes { readers, writers }))
}

/// Starts the lanes.
pub(super) fn start(
    lanes: Lanes<Postgres>,
    reads: mpsc::Receiver<Read>,
    writes: mpsc::Receiver<Write>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let (reads, writes) = (Queue::whole(reads, stop), Queue::divided(writes, stop, lanes.writers.len()));
    for lane in lanes.readers {
        tasks.spawn(lane.serve(reads.clone(), |connection, batch| {
            Box::pin(async { Session::<Postgres>(connection).answer(batch).await })
        }));
    }
    for lane in lanes.writers {
        tasks.spawn(lane.serve(writes.clone(), |connection, batch| Box::pin(write(connection, batch))));
    }
}

/// Stores one batch, each change in a commit of its own. On an error, dropping the unanswered tells the waiting
/// requests; what was answered is stored.
async fn write(connection: &mut PgConnection, batch: Vec<Write>) -> Result<(), sqlx::Error> {
    let mut new = Vec::new();
    let mut others = Vec::new();
    for question in batch.into_iter().filter(Write::is_awaited) {
        match question {
            Write::Create { title, key: None, reply } => new.push((title, reply)),
            question => others.push(question),
        }
    }
    if !new.is_empty() {
        bounded(create_many(connection, new)).await?;
    }
    for question in others {
        // It may have waited for the ones before it.
        if question.is_awaited() {
            bounded(change(connection, question)).await?.send();
        }
    }
    Ok(())
}

/// A key and its task are stored together; everything else is one statement.
async fn change(connection: &mut PgConnection, question: Write) -> Result<Outcome, sqlx::Error> {
    if !matches!(question, Write::Create { .. }) {
        return Session::<Postgres>(connection).apply(question).await;
    }
    connection.execute("BEGIN").await?;
    let outcome = Session::<Postgres>(connection).apply(question).await?;
    connection.execute("COMMIT").await?;
    Ok(outcome)
}

/// Stores all new tasks with one statement, and gives each id to somebody who sent that very title.
async fn create_many(
    connection: &mut PgConnection,
    new: Vec<(Title, Reply<Created>)>,
) -> Result<(), sqlx::Error> {
    let titles: Vec<&str> = new.iter().map(|(title, _)| title.as_str()).collect();
    let rows = connection.fetch_all(sqlx::query(CREATE_MANY).bind(titles)).await?;
    let mut waiting: HashMap<String, Vec<Reply<Created>>> = HashMap::new();
    for (title, reply) in new {
        waiting.entry(title.into_string()).or_default().push(reply);
    }
    for row in rows {
        let task = Task { id: row.try_get(0)?, title: row.try_get(1)?, done: false };
        if let Some(reply) = waiting.get_mut(&task.title).and_then(Vec::pop) {
            send(reply, Ok(Created::Task(task)));
        }
    }
    Ok(())
}
