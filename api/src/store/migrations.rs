//! The schema, step by step. Steps are only ever added, and each must suit the release before it: during a rolling
//! update both run on the same tables. A database that is ahead of us is therefore fine.
//!
//! Replicas that start together take turns: SQLite by `BEGIN IMMEDIATE`, PostgreSQL by an advisory lock.

use sqlx::{Executor, PgConnection, Row, SqliteConnection};

/// Every step in both dialects; the position is the version.
const STEPS: &[Step] = &[
    Step {
        sqlite: &[
            "CREATE TABLE tasks (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, done BOOLEAN NOT NULL DEFAULT FALSE)",
            "CREATE INDEX tasks_by_done ON tasks (done, id)",
            "CREATE TABLE idempotency_keys (key TEXT PRIMARY KEY, title TEXT NOT NULL, task_id INTEGER NOT NULL, created_at INTEGER NOT NULL) WITHOUT ROWID",
        ],
        postgres: &[
            "CREATE TABLE tasks (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title TEXT NOT NULL, done BOOLEAN NOT NULL DEFAULT FALSE)",
            "CREATE INDEX tasks_by_done ON tasks (done, id)",
            "CREATE TABLE idempotency_keys (key TEXT PRIMARY KEY, title TEXT NOT NULL, task_id BIGINT NOT NULL, created_at BIGINT NOT NULL)",
        ],
    },
    Step {
        sqlite: &["CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at)"],
        postgres: &["CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at)"],
    },
];

/// Holds the version; created by whoever comes first.
const BOOK: &str = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)";
const VERSION: &str = "SELECT coalesce(max(version), 0) FROM schema_version";
const NOTE: &str = "INSERT INTO schema_version (version) VALUES ($1)";

/// The advisory lock of this schema; any number that nobody else uses.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7461736573)";

struct Step {
    sqlite: &'static [&'static str],
    postgres: &'static [&'static str],
}

/// Brings a SQLite file up to date; waits for its turn as long as the busy time-out says.
pub(super) async fn migrate_sqlite(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    connection.execute("BEGIN IMMEDIATE").await?;
    let migrated = async {
        connection.execute(BOOK).await?;
        let version: i64 = connection.fetch_one(VERSION).await?.try_get(0)?;
        for (number, step) in pending(version) {
            for statement in step.sqlite {
                connection.execute(*statement).await?;
            }
            sqlx::query(NOTE).bind(number).execute(&mut *connection).await?;
        }
        connection.execute("COMMIT").await
    }
    .await;
    if migrated.is_err() {
        // The first error is the one to tell; a failed rollback ends with the connection.
        drop(connection.execute("ROLLBACK").await);
    }
    migrated.map(drop)
}

/// Brings a PostgreSQL database up to date.
pub(super) async fn migrate_postgres(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = sqlx::Connection::begin(connection).await?;
    transaction.execute(LOCK).await?;
    transaction.execute(BOOK).await?;
    let version: i64 = transaction.fetch_one(VERSION).await?.try_get(0)?;
    for (number, step) in pending(version) {
        for statement in step.postgres {
            transaction.execute(*statement).await?;
        }
        sqlx::query(NOTE).bind(number).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// The steps after `version`, with their numbers.
fn pending(version: i64) -> impl Iterator<Item = (i64, &'static Step)> {
    (1..).zip(STEPS).filter(move |(number, _)| *number > version)
}
