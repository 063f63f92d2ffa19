//! One worker that holds a connection and takes what waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{Connection, Database, Pool};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::StartError;

/// Most questions taken at once.
const BATCH: usize = 128;
/// A connection that rested longer than this is tried before it is used, for at most [`TRIAL`].
const RESTED: Duration = Duration::from_secs(1);
const TRIAL: Duration = Duration::from_secs(1);
/// How long a lost connection is made again before the waiting requests are told; below their patience, and long
/// enough for a database that restarts.
pub(super) const ACQUIRE: Duration = Duration::from_secs(3);
/// Between two attempts to connect.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

/// A queue that lanes share.
#[derive(Debug)]
pub(super) struct Queue<Q> {
    waiting: Arc<Mutex<mpsc::Receiver<Q>>>,
    stop: CancellationToken,
    /// Among how many lanes what waits is divided.
    divisor: usize,
}

impl<Q> Clone for Queue<Q> {
    fn clone(&self) -> Self {
        Self { waiting: Arc::clone(&self.waiting), stop: self.stop.clone(), divisor: self.divisor }
    }
}

impl<Q> Queue<Q> {
    /// A queue of which each lane takes everything that waits: for questions that are cheaper together.
    pub(super) fn whole(waiting: mpsc::Receiver<Q>, stop: &CancellationToken) -> Self {
        Self::divided(waiting, stop, 1)
    }

    /// A queue of which each of `lanes` takes its share: for questions that are answered one by one.
    pub(super) fn divided(waiting: mpsc::Receiver<Q>, stop: &CancellationToken, lanes: usize) -> Self {
        Self { waiting: Arc::new(Mutex::new(waiting)), stop: stop.clone(), divisor: lanes.max(1) }
    }

    /// What waits now, at least one. `None` once the service ends and nothing waits.
    async fn next_batch(&self) -> Option<Vec<Q>> {
        let mut batch = Vec::new();
        let mut waiting = self.waiting.lock().await;
        let share = match self.divisor {
            1 => BATCH,
            lanes => waiting.len().div_ceil(lanes).clamp(1, BATCH),
        };
        tokio::select! {
            biased;
            taken = waiting.recv_many(&mut batch, share) => (taken > 0).then_some(batch),
            () = self.stop.cancelled() => None,
        }
    }
}

/// The lanes of one database.
#[derive(Debug)]
pub(super) struct Lanes<D: Database> {
    pub(super) readers: Vec<Lane<D>>,
    pub(super) writers: Vec<Lane<D>>,
}

/// A connection kept between batches.
#[derive(Debug)]
pub(super) struct Lane<D: Database> {
    pool: Pool<D>,
    held: Option<(PoolConnection<D>, Instant)>,
}

impl<D: Database> Lane<D> {
    /// A lane with its connection, so that no request has to wait for one to be made.
    pub(super) async fn open(pool: &Pool<D>) -> Result<Self, sqlx::Error> {
        let connection = pool.acquire().await?;
        Ok(Self { pool: pool.clone(), held: Some((connection, Instant::now())) })
    }

    /// Works until the service ends: takes what waits and has it answered. What `answer` leaves unanswered on an error
    /// is refused by being dropped.
    pub(super) async fn serve<Q>(
        mut self,
        queue: Queue<Q>,
        answer: impl for<'c> Fn(&'c mut D::Connection, Vec<Q>) -> BoxFuture<'c, Result<(), sqlx::Error>>,
    ) {
        while let Some(batch) = queue.next_batch().await {
            if let Err(error) = self.work(batch, &answer).await {
                tracing::warn!("the database failed: {error}");
            }
        }
    }

    async fn work<Q>(
        &mut self,
        batch: Vec<Q>,
        answer: &impl for<'c> Fn(&'c mut D::Connection, Vec<Q>) -> BoxFuture<'c, Result<(), sqlx::Error>>,
    ) -> Result<(), sqlx::Error> {
        let mut connection = self.take().await?;
        let outcome = answer(&mut connection, batch).await;
        if outcome.is_ok() {
            self.held = Some((connection, Instant::now()));
        } else {
            // Closing it rolls back what was begun.
            connection.close_on_drop();
        }
        outcome
    }

    /// The held connection if it is sound, or a fresh one.
    async fn take(&mut self) -> Result<PoolConnection<D>, sqlx::Error> {
        if let Some((mut connection, used)) = self.held.take() {
            if used.elapsed() < RESTED {
                return Ok(connection);
            }
            match tokio::time::timeout(TRIAL, connection.ping()).await {
                Ok(Ok(())) => return Ok(connection),
                Ok(Err(_)) | Err(_) => connection.close_on_drop(),
            }
        }
        let deadline = Instant::now() + ACQUIRE;
        loop {
            match self.pool.acquire().await {
                Ok(connection) => return Ok(connection),
                Err(error) if Instant::now() + ATTEMPT_PAUSE > deadline => return Err(error),
                Err(error) => tracing::debug!("connecting to the database failed: {error}; trying again"),
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
    }
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
