//! One worker that holds a connection and takes what waits.

use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Connection, Database, Pool};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ACQUIRE, Shared, StartError};

/// Most questions taken at once.
const BATCH: usize = 128;
/// A batch that takes longer than this has lost its database.
const BATCH_PATIENCE: Duration = Duration::from_secs(3);
/// A connection that rested longer than this is tried before it is used.
const RESTED: Duration = Duration::from_secs(1);

/// A connection kept between batches.
#[derive(Debug)]
pub(super) struct Lane<D: Database> {
    pool: Pool<D>,
    held: Option<(PoolConnection<D>, Instant)>,
}

impl<D: Database> Lane<D> {
    pub(super) fn new(pool: Pool<D>) -> Self {
        Self { pool, held: None }
    }

    /// The held connection if it is sound, or a fresh one.
    pub(super) async fn take(&mut self) -> Result<PoolConnection<D>, sqlx::Error> {
        if let Some((mut connection, used)) = self.held.take() {
            if used.elapsed() < RESTED {
                return Ok(connection);
            }
            match tokio::time::timeout(ACQUIRE, connection.ping()).await {
                Ok(Ok(())) => return Ok(connection),
                Ok(Err(_)) | Err(_) => connection.close_on_drop(),
            }
        }
        self.pool.acquire().await
    }

    /// Keeps the connection for the next batch.
    pub(super) fn keep(&mut self, connection: PoolConnection<D>) {
        self.held = Some((connection, Instant::now()));
    }
}

/// Bounds one batch. What runs out of time counts as a lost database.
pub(super) async fn bounded<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let outcome = tokio::time::timeout(BATCH_PATIENCE, work).await;
    outcome.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

/// The next batch: what waits now, at least one. `None` once the service ends and nothing waits.
pub(super) async fn next_batch<Q>(queue: &Shared<Q>, stop: &CancellationToken) -> Option<Vec<Q>> {
    let mut batch = Vec::new();
    let mut queue = queue.lock().await;
    tokio::select! {
        biased;
        taken = queue.recv_many(&mut batch, BATCH) => (taken > 0).then_some(batch),
        () = stop.cancelled() => None,
    }
}

/// Shares a queue between lanes.
pub(super) fn share<Q>(queue: mpsc::Receiver<Q>) -> Shared<Q> {
    Shared::new(tokio::sync::Mutex::new(queue))
}

/// Tries until it works or `wait` is over, at growing distances of up to a second; gives the last refusal.
pub(super) async fn retry<T>(
    wait: Duration,
    attempt: impl AsyncFn() -> Result<T, StartError>,
) -> Result<T, StartError> {
    let deadline = Instant::now() + wait;
    let mut pause = Duration::from_millis(20);
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if Instant::now() + pause > deadline {
            return Err(error);
        }
        tracing::warn!("the database is not usable yet: {error}; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
