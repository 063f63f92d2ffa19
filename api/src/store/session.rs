//! What both databases are asked in the same words: a borrowed connection that reads tasks and changes single ones.
//!
//! Every statement has a bound of its own. A batch may take longer than one statement while the database is slow; a
//! statement that takes longer than [`STATEMENT`] has lost its database.

use std::time::Duration;

use sqlx::{ColumnIndex, Database, Decode, Encode, Executor, IntoArguments, Row, Type};

use super::{Created, Lists, Outcome, Page, Read, STREAM_PAGE, WaitingList, Write, now, send};
use crate::model::{ListQuery, Task, Title};

/// How long one statement may take; below a request's patience.
const STATEMENT: Duration = Duration::from_secs(3);

const COUNT: &str = "SELECT count(*) FROM tasks";
const COUNT_BY_DONE: &str = "SELECT count(*) FROM tasks WHERE done = $1";
const GET: &str = "SELECT id, title, done FROM tasks WHERE id = $1";
const CHANGE: &str = "UPDATE tasks SET title = coalesce($2, title), done = coalesce($3, done) WHERE id = $1 \
                      RETURNING id, title, done";
const REMOVE: &str = "DELETE FROM tasks WHERE id = $1 RETURNING id";
const CREATE: &str = "INSERT INTO tasks (title) VALUES ($1) RETURNING id";
/// Waits for a transaction that uses the same key at this moment.
const CLAIM_KEY: &str = "INSERT INTO idempotency_keys (key, title, task_id, created_at) VALUES ($1, $2, 0, $3) \
                         ON CONFLICT (key) DO NOTHING RETURNING task_id";
const NOTE_KEY: &str = "UPDATE idempotency_keys SET task_id = $2 WHERE key = $1";
const KEY: &str = "SELECT title, task_id FROM idempotency_keys WHERE key = $1";
const PRUNE: &str = "DELETE FROM idempotency_keys WHERE key IN \
                     (SELECT key FROM idempotency_keys WHERE created_at < $1 LIMIT $2) RETURNING created_at";
/// Keys removed by one statement, so that none takes long.
const PRUNE_LIMIT: i64 = 1000;

/// Where the two databases differ in how a list is asked for.
pub(super) trait Dialect: Database {
    /// One row of three values for a page: how many, the last id, and the rows as JSON, joined in order.
    const LIST: &'static str;
    /// The same for tasks that are done, or for open ones.
    const LIST_BY_DONE: &'static str;
}

/// A connection in use.
pub(super) struct Session<'c, D: Database>(pub(super) &'c mut D::Connection);

impl<D> Session<'_, D>
where
    D: Dialect,
    D::Arguments: IntoArguments<D>,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    usize: ColumnIndex<D::Row>,
    bool: Type<D> + for<'v> Encode<'v, D> + for<'v> Decode<'v, D>,
    i64: Type<D> + for<'v> Encode<'v, D> + for<'v> Decode<'v, D>,
    String: Type<D> + for<'v> Decode<'v, D>,
    for<'v> &'v str: Type<D> + Encode<'v, D>,
    for<'v> Option<&'v str>: Encode<'v, D>,
    Option<bool>: for<'v> Encode<'v, D>,
{
    /// Answers one batch. On an error, dropping the unanswered tells the waiting requests.
    pub(super) async fn answer(&mut self, batch: Vec<Read>) -> Result<(), sqlx::Error> {
        let mut lists = Lists::default();
        for question in batch {
            match question {
                Read::List { query, counted, reply } => lists.add(query, counted, reply),
                Read::Get { id, reply } => send(reply, Ok(bounded(self.get(id)).await?)),
                Read::Ready { reply } => {
                    bounded(self.0.fetch_one("SELECT version FROM schema_version")).await?;
                    send(reply, Ok(()));
                }
            }
        }
        for WaitingList { query, counted, replies } in lists.0 {
            let page = bounded(self.page(query, counted)).await?;
            for reply in replies {
                send(reply, Ok(page.clone()));
            }
        }
        Ok(())
    }

    async fn page(&mut self, query: ListQuery, counted: bool) -> Result<Page, sqlx::Error> {
        let limit = query.limit.unwrap_or(STREAM_PAGE);
        let statement = match query.done {
            None => sqlx::query(D::LIST).bind(query.after).bind(limit),
            Some(done) => sqlx::query(D::LIST_BY_DONE).bind(query.after).bind(limit).bind(done),
        };
        let row = self.0.fetch_one(statement).await?;
        let joined: String = row.try_get(2)?;
        let mut page = Page::new(row.try_get(0)?, row.try_get(1)?, &joined);
        if counted {
            page.total = Some(if query.after == 0 && !page.is_full(limit) {
                page.rows
            } else {
                let statement = match query.done {
                    None => sqlx::query(COUNT),
                    Some(done) => sqlx::query(COUNT_BY_DONE).bind(done),
                };
                self.0.fetch_one(statement).await?.try_get(0)?
            });
        }
        Ok(page)
    }

    async fn get(&mut self, id: i64) -> Result<Option<Task>, sqlx::Error> {
        let row = self.0.fetch_optional(sqlx::query(GET).bind(id)).await?;
        row.map(|row| task(&row)).transpose()
    }

    /// Makes one change. Its outcome must not leave before the change is committed.
    pub(super) async fn apply(&mut self, question: Write) -> Result<Outcome, sqlx::Error> {
        Ok(match question {
            Write::Create { title, key: None, reply } => {
                Outcome::Created(reply, Created::Task(self.create(title.into_string()).await?))
            }
            Write::Create { title, key: Some(key), reply } => {
                Outcome::Created(reply, self.create_once(title.into_string(), &key).await?)
            }
            Write::Change { id, change, reply } => {
                let title = change.title.as_ref().map(Title::as_str);
                let statement = sqlx::query(CHANGE).bind(id).bind(title).bind(change.done);
                let row = self.0.fetch_optional(statement).await?;
                Outcome::Changed(reply, row.map(|row| task(&row)).transpose()?)
            }
            Write::Remove { id, reply } => {
                let removed = self.0.fetch_optional(sqlx::query(REMOVE).bind(id)).await?;
                Outcome::Removed(reply, removed.is_some())
            }
            Write::Prune { before, reply } => {
                let removed = self.0.fetch_all(sqlx::query(PRUNE).bind(before).bind(PRUNE_LIMIT)).await?;
                Outcome::Pruned(reply, i64::try_from(removed.len()).is_ok_and(|rows| rows >= PRUNE_LIMIT))
            }
        })
    }

    async fn create(&mut self, title: String) -> Result<Task, sqlx::Error> {
        let row = self.0.fetch_one(sqlx::query(CREATE).bind(title.as_str())).await?;
        Ok(Task { id: row.try_get(0)?, title, done: false })
    }

    /// Stores a task and its key, or finds what the key made before. To be called in a transaction.
    async fn create_once(&mut self, title: String, key: &str) -> Result<Created, sqlx::Error> {
        let claim = sqlx::query(CLAIM_KEY).bind(key).bind(title.as_str()).bind(now());
        if self.0.fetch_optional(claim).await?.is_some() {
            let task = self.create(title).await?;
            self.0.execute(sqlx::query(NOTE_KEY).bind(key).bind(task.id)).await?;
            return Ok(Created::Task(task));
        }
        let row = self.0.fetch_one(sqlx::query(KEY).bind(key)).await?;
        let same = row.try_get::<String, _>(0)? == title;
        let task = Task { id: row.try_get(1)?, title, done: false };
        Ok(if same { Created::Task(task) } else { Created::KeyReused })
    }
}

fn task<R: Row>(row: &R) -> Result<Task, sqlx::Error>
where
    usize: ColumnIndex<R>,
    for<'v> i64: Type<R::Database> + Decode<'v, R::Database>,
    for<'v> String: Type<R::Database> + Decode<'v, R::Database>,
    for<'v> bool: Type<R::Database> + Decode<'v, R::Database>,
{
    Ok(Task { id: row.try_get(0)?, title: row.try_get(1)?, done: row.try_get(2)? })
}

/// Bounds what asks the database once or twice.
pub(super) async fn bounded<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let outcome = tokio::time::timeout(STATEMENT, work).await;
    outcome.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}
