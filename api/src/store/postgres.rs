//! PostgreSQL: a third of the lanes read, the rest write. New tasks that wait together are stored by one statement;
//! everything else commits by itself, so that lanes and replicas never wait for each other's rows crosswise.

use std::collections::HashMap;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{Connection, Executor, PgPool, Row};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lane::{Lane, bounded, next_batch, share};
use super::{
    ACQUIRE, Created, Lists, Page, Pools, Read, Reply, STREAM_PAGE, Shared, StartError, WaitingList, Write,
    migrations, now, send,
};
use crate::model::{ListQuery, Task, Title};
use crate::settings::Secret;

/// One row of three values for a page: how many, the last id, and the rows as JSON, joined in order.
const LIST: &str = r#"SELECT count(*), max(id), coalesce(string_agg(
    '{"id":' || id || ',"title":' || to_json(title)::text || ',"done":' || done::text || '}', ',' ORDER BY id), '')
    FROM (SELECT id, title, done FROM tasks WHERE id > $1 ORDER BY id LIMIT $2) AS page"#;
const LIST_BY_DONE: &str = r#"SELECT count(*), max(id), coalesce(string_agg(
    '{"id":' || id || ',"title":' || to_json(title)::text || ',"done":' || done::text || '}', ',' ORDER BY id), '')
    FROM (SELECT id, title, done FROM tasks WHERE id > $1 AND done = $3 ORDER BY id LIMIT $2) AS page"#;
const COUNT: &str = "SELECT count(*) FROM tasks";
const COUNT_BY_DONE: &str = "SELECT count(*) FROM tasks WHERE done = $1";
const GET: &str = "SELECT id, title, done FROM tasks WHERE id = $1";
const CREATE_MANY: &str = "INSERT INTO tasks (title) SELECT unnest($1::text[]) RETURNING id, title";
const CREATE: &str = "INSERT INTO tasks (title) VALUES ($1) RETURNING id";
const CHANGE: &str = "UPDATE tasks SET title = coalesce($2, title), done = coalesce($3, done) WHERE id = $1 \
                      RETURNING id, title, done";
const REMOVE: &str = "DELETE FROM tasks WHERE id = $1";
/// Waits for a transaction that uses the same key at this moment.
const CLAIM_KEY: &str = "INSERT INTO idempotency_keys (key, title, task_id, created_at) VALUES ($1, $2, 0, $3) \
                         ON CONFLICT (key) DO NOTHING";
const KEY: &str = "SELECT title, task_id FROM idempotency_keys WHERE key = $1";
const NOTE_KEY: &str = "UPDATE idempotency_keys SET task_id = $2 WHERE key = $1";
const PRUNE: &str = "DELETE FROM idempotency_keys WHERE created_at < $1";

/// Connects and brings the schema up to date.
pub(super) async fn open(url: &Secret, pool_size: u32) -> Result<Pools, StartError> {
    let options = PgConnectOptions::from_str(url.expose())?.application_name("task-api");
    let pool = PgPoolOptions::new()
        .max_connections(pool_size)
        .acquire_timeout(ACQUIRE)
        .connect_with(options)
        .await?;
    migrations::migrate_postgres(&mut *pool.acquire().await?).await?;
    Ok(Pools::Postgres(pool))
}

/// Starts the lanes, one for each connection.
pub(super) fn start(
    pool: &PgPool,
    pool_size: u32,
    reads: mpsc::Receiver<Read>,
    writes: mpsc::Receiver<Write>,
    lanes: &TaskTracker,
    stop: &CancellationToken,
) {
    let (reads, writes) = (share(reads), share(writes));
    let read_lanes = (pool_size / 3).max(1);
    for _ in 0..read_lanes {
        lanes.spawn(read_lane(Lane::new(pool.clone()), reads.clone(), stop.clone()));
    }
    for _ in read_lanes..pool_size {
        lanes.spawn(write_lane(Lane::new(pool.clone()), writes.clone(), stop.clone()));
    }
}

async fn read_lane(mut lane: Lane<sqlx::Postgres>, queue: Shared<Read>, stop: CancellationToken) {
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
async fn read(connection: &mut PgConnection, batch: Vec<Read>) -> Result<(), sqlx::Error> {
    let mut lists = Lists::default();
    for question in batch {
        match question {
            Read::List { query, counted, reply } => lists.add(query, counted, reply),
            Read::Get { id, reply } => {
                let row = connection.fetch_optional(sqlx::query(GET).bind(id)).await?;
                send(reply, Ok(row.map(|row| task(&row)).transpose()?));
            }
            Read::Ready { reply } => {
                connection.fetch_one(sqlx::query("SELECT 1")).await?;
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

async fn list(connection: &mut PgConnection, query: ListQuery, counted: bool) -> Result<Page, sqlx::Error> {
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

fn task(row: &sqlx::postgres::PgRow) -> Result<Task, sqlx::Error> {
    Ok(Task { id: row.try_get(0)?, title: row.try_get(1)?, done: row.try_get(2)? })
}

async fn write_lane(mut lane: Lane<sqlx::Postgres>, queue: Shared<Write>, stop: CancellationToken) {
    while let Some(batch) = next_batch(&queue, &stop).await {
        let outcome = async {
            let mut connection = lane.take().await?;
            match bounded(write(&mut connection, batch)).await {
                Ok(()) => lane.keep(connection),
                Err(error) => {
                    connection.close_on_drop();
                    return Err(error);
                }
            }
            Ok::<_, sqlx::Error>(())
        };
        if let Err(error) = outcome.await {
            tracing::warn!("writing to the database failed: {error}");
        }
    }
}

/// Stores one batch, each change in a commit of its own. On an error, dropping the unanswered tells the waiting
/// requests; what was answered is stored.
async fn write(connection: &mut PgConnection, batch: Vec<Write>) -> Result<(), sqlx::Error> {
    let mut new = Vec::new();
    for question in batch {
        match question {
            Write::Create { title, key: None, reply } => new.push((title, reply)),
            Write::Create { title, key: Some(key), reply } => {
                send(reply, Ok(create_once(connection, title.into_string(), &key).await?));
            }
            Write::Change { id, change, reply } => {
                let title = change.title.as_ref().map(Title::as_str);
                let statement = sqlx::query(CHANGE).bind(id).bind(title).bind(change.done);
                let row = connection.fetch_optional(statement).await?;
                send(reply, Ok(row.map(|row| task(&row)).transpose()?));
            }
            Write::Remove { id, reply } => {
                let removed = connection.execute(sqlx::query(REMOVE).bind(id)).await?.rows_affected() > 0;
                send(reply, Ok(removed));
            }
            Write::Prune { before } => {
                connection.execute(sqlx::query(PRUNE).bind(before)).await?;
            }
        }
    }
    create_many(connection, new).await
}

/// Stores all new tasks with one statement, and gives each id to somebody who sent that very title.
async fn create_many(
    connection: &mut PgConnection,
    new: Vec<(Title, Reply<Created>)>,
) -> Result<(), sqlx::Error> {
    if new.is_empty() {
        return Ok(());
    }
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

/// Stores a task and its key together, or finds what the key made before.
async fn create_once(
    connection: &mut PgConnection,
    title: String,
    key: &str,
) -> Result<Created, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let claim = sqlx::query(CLAIM_KEY).bind(key).bind(title.as_str()).bind(now());
    let claimed = transaction.execute(claim).await?.rows_affected() > 0;
    let created = if claimed {
        let id: i64 = transaction.fetch_one(sqlx::query(CREATE).bind(title.as_str())).await?.try_get(0)?;
        transaction.execute(sqlx::query(NOTE_KEY).bind(key).bind(id)).await?;
        Created::Task(Task { id, title, done: false })
    } else {
        let row = transaction.fetch_one(sqlx::query(KEY).bind(key)).await?;
        let same = row.try_get::<String, _>(0)? == title;
        let task = Task { id: row.try_get(1)?, title, done: false };
        if same { Created::Task(task) } else { Created::KeyReused }
    };
    transaction.commit().await?;
    Ok(created)
}
