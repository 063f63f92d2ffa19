//! The daemon: build → run → drain.
//!
//! Two things can be stopped apart. Polling stops first and lets jobs end; jobs are cancelled when their time is up, when
//! a second signal asks for it, or never. A third signal leaves everything to the next start, which finishes it.

mod endpoint;
mod engine;
mod gate;
pub mod health;
mod poller;
mod signals;
mod state;
mod sweep;
mod tasks;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    engine::Engine,
    gate::{About, Gate, Probe, free_space},
    signals::Signals,
    state::{AgentCopy, StateError, StateFolder},
    sweep::Sweeper,
};
use self::{
    health::{HealthSocket, Pulse},
    poller::{End, Poller},
    tasks::{Shop, run_task},
};
use crate::{
    action::ActionStore,
    assignment::RunnerFacts,
    backend::Backend,
    cache::Caches,
    cancel::{Cancel, CancelCause},
    job::Backends,
    report::{
        self, CopyOptions,
        gitea::{Ended, ReportLimits},
    },
    server::{Backoff, Client},
    settings::Settings,
};

/// Everything that the daemon works with, made by `cli::daemon`.
#[derive(Debug)]
pub struct Daemon<H, D> {
    /// Resolved.
    pub settings: Settings,
    /// Who we are.
    pub facts: Arc<RunnerFacts>,
    /// The server, with our credentials.
    pub client: Client,
    /// Ours, locked.
    pub state: StateFolder,
    /// Where jobs run.
    pub backends: Backends<H, D>,
    /// Where their actions are.
    pub store: ActionStore,
    /// Their cache.
    pub caches: Caches,
    /// When not to fetch.
    pub gate: Gate,
    /// What removes leftovers.
    pub sweeper: Sweeper,
    /// One job and no more.
    pub once: bool,
    /// The server forgets us after one job.
    pub ephemeral: bool,
}

/// How the daemon has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it was asked to.
    Stopped,
    /// It has run its one job.
    OneJob,
    /// The server does not know it (any more).
    Unregistered,
    /// It was told three times to stop and left at once.
    Abandoned,
}

/// The daemon could not begin.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// A socket.
    #[error("{what} cannot be opened: {source}")]
    Socket {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

impl<H: Backend, D: Backend> Daemon<H, D> {
    /// Runs until it is told to stop or has nothing to do any more.
    pub async fn run(self, mut signals: Signals) -> Result<Outcome, DaemonError> {
        let runner = self.settings.runner.clone();
        let metrics = self.client.metrics().clone();
        metrics.introduce(&self.facts.name, runner.capacity);
        let pulse = Pulse::new(runner.fetch_interval_max * 3 + runner.fetch_timeout);
        let stop = CancellationToken::new();
        let helpers = TaskTracker::new();
        let ends = CancellationToken::new();
        self.open_doors(&pulse, &helpers, &ends).await?;
        let jobs_folder = self.state.folder("jobs")?;
        let limits = limits(&self.settings);
        let hurry = CancellationToken::new();
        let (ended, seen_ended) = watch::channel(0);
        let poller = Poller {
            source: self.client.with_limit(runner.fetch_timeout),
            slots: Arc::new(Semaphore::new(runner.capacity)),
            capacity: runner.capacity,
            ended: seen_ended,
            backoff: Backoff::new(runner.fetch_interval, runner.fetch_interval_max),
            once: self.once || self.ephemeral,
            pulse: pulse.clone(),
            metrics: metrics.clone(),
            gate: self.gate,
        };
        let jobs = Cancel::new();
        let shop = Arc::new(Shop {
            facts: self.facts,
            backends: self.backends,
            store: self.store,
            caches: self.caches.clone(),
            client: self.client.clone(),
            limits: limits.clone(),
            runner: runner.clone(),
            jobs_folder: jobs_folder.clone(),
            jobs: jobs.clone(),
            hurry: hurry.clone(),
            pulse,
            metrics,
            ended,
            running: Mutex::new(HashSet::new()),
        });
        let running = TaskTracker::new();
        let unregistered = CancellationToken::new();
        // What an earlier run has left is finished beside the first jobs: a server may take its time.
        helpers.spawn({
            let (client, hurry) = (self.client, hurry.clone());
            async move {
                for one in report::recover(&jobs_folder, &client, &limits, &hurry).await {
                    tracing::info!(task = one.task, ended = ?one.ended, "a job of an earlier run is finished");
                }
            }
        });
        helpers.spawn({
            let (sweeper, shop, ends) = (self.sweeper, shop.clone(), ends.clone());
            async move { ends.run_until_cancelled(sweep_when_idle(&sweeper, &shop)).await }
        });
        let poll = poller.run(&stop, |task, slot| {
            let (shop, unregistered) = (shop.clone(), unregistered.clone());
            running.spawn(async move {
                let ended = Box::pin(run_task(shop, task)).await;
                drop(slot);
                if ended == Some(Ended::Unregistered) {
                    unregistered.cancel();
                }
            });
        });
        tracing::info!("waiting for jobs");
        let end = until_stopped(poll, &stop, &unregistered, &mut signals).await;
        running.close();
        let told = end == End::Stopped && stop.is_cancelled() && !unregistered.is_cancelled();
        let limit = told.then_some(runner.shutdown_timeout);
        let drained = drain(&running, limit, &jobs, &hurry, &mut signals).await;
        ends.cancel();
        self.caches.close().await;
        helpers.close();
        if !drained {
            return Ok(Outcome::Abandoned);
        }
        hurry.cancel();
        if tokio::time::timeout(Duration::from_secs(30), helpers.wait()).await.is_err() {
            tracing::warn!(
                "what an earlier run has left could not be finished yet; the next start goes on with it"
            );
        }
        let forgotten = end == End::Unregistered || unregistered.is_cancelled();
        Ok(match end {
            _ if forgotten && !self.ephemeral => Outcome::Unregistered,
            End::Taken => Outcome::OneJob,
            End::Unregistered => Outcome::Unregistered,
            End::Stopped => Outcome::Stopped,
        })
    }

    /// The health socket and, where it is wanted, the endpoint of the metrics.
    async fn open_doors(
        &self,
        pulse: &Pulse,
        helpers: &TaskTracker,
        ends: &CancellationToken,
    ) -> Result<(), DaemonError> {
        let socket = HealthSocket::bind(self.state.path()).map_err(|source| DaemonError::Socket {
            what: "the health socket in the state folder".to_owned(),
            source,
        })?;
        helpers.spawn({
            let (pulse, ends) = (pulse.clone(), ends.clone());
            async move { ends.run_until_cancelled(socket.serve(pulse)).await }
        });
        let metrics = &self.settings.metrics;
        if metrics.enabled {
            let listener = endpoint::bind(&metrics.addr).await.map_err(|source| DaemonError::Socket {
                what: format!("metrics.addr {}", metrics.addr),
                source,
            })?;
            let counted = self.client.metrics().clone();
            let stores = [("journal", "jobs"), ("actions", "actions")];
            let store = |(name, folder)| endpoint::Store { name, folder: self.state.path().join(folder) };
            let stores = stores.map(store).to_vec();
            let (pulse, grace) = (pulse.clone(), metrics.readiness_grace);
            helpers.spawn(endpoint::serve(listener, counted, pulse, grace, stores, ends.clone()));
        }
        Ok(())
    }
}

/// Removes leftovers now and then, while no job runs.
async fn sweep_when_idle<H: Send + Sync + 'static, D: Send + Sync + 'static>(
    sweeper: &Sweeper,
    shop: &Arc<Shop<H, D>>,
) {
    let (interval, age) = (shop.runner.idle_cleanup_interval, shop.runner.workdir_cleanup_age);
    if interval.is_zero() || age.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep(interval).await;
        if shop.is_idle() {
            // A task that begins while we look is known before it makes anything.
            let shop = shop.clone();
            sweeper.sweep(Arc::new(move |task| shop.is_running(task))).await;
        }
    }
}

/// The configuration's report keys.
fn limits(settings: &Settings) -> ReportLimits {
    let (runner, copy) = (&settings.runner, &settings.log.job);
    ReportLimits {
        log_interval: runner.log_report_interval,
        log_latency: runner.log_report_max_latency,
        // The official default is far below what comes at once; only an operator's own number is meant.
        log_rows: u64::try_from(runner.log_report_batch_size).ok().filter(|rows| *rows != 100),
        state_interval: runner.state_report_interval,
        close_timeout: runner.report_close_timeout,
        copy: (!copy.dir.as_os_str().is_empty()).then(|| CopyOptions {
            folder: copy.dir.clone(),
            retention: copy.retention,
            limit: copy.max_size,
        }),
        ..ReportLimits::default()
    }
}

/// Polls until there is a reason not to.
async fn until_stopped(
    poll: impl Future<Output = End>,
    stop: &CancellationToken,
    unregistered: &CancellationToken,
    signals: &mut Signals,
) -> End {
    tokio::pin!(poll);
    tokio::select! {
        end = &mut poll => {
            if end == End::Unregistered {
                tracing::error!("the server does not know this runner any more: no more jobs are fetched");
            }
            return end;
        }
        () = signals.stop() => tracing::info!("shutting down: no more jobs are fetched"),
        () = unregistered.cancelled() => {
            tracing::error!("the server does not know this runner any more: no more jobs are fetched");
        }
    }
    stop.cancel();
    // A fetch that is under way may still bring a task, which then has to be reported.
    poll.await
}

/// Waits for the jobs: as long as they take, or for `limit`. Whether they have all been reported.
async fn drain(
    running: &TaskTracker,
    limit: Option<Duration>,
    jobs: &Cancel,
    hurry: &CancellationToken,
    signals: &mut Signals,
) -> bool {
    if running.is_empty() {
        running.wait().await;
        return true;
    }
    let clock = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = running.wait() => return true,
        () = signals.stop() => tracing::warn!(jobs = running.len(), "told to shut down again: jobs are cancelled"),
        () = clock => tracing::warn!(jobs = running.len(), "runner.shutdown_timeout is over: jobs are cancelled"),
    }
    jobs.cancel(CancelCause::Shutdown);
    hurry.cancel();
    tokio::select! {
        biased;
        () = running.wait() => true,
        () = signals.stop() => {
            tracing::error!(jobs = running.len(), "told to shut down a third time: the next start finishes what is left");
            false
        }
    }
}
