//! The poll loop: a free slot first, then a question; what came of it decides about the wait.
//!
//! The server hands out a task with every answer that it likes, whether we have room or not, so that nothing is ever
//! asked without a slot in hand. A fetch that is under way is always waited for: it may carry a task.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{gate::Gate, health::Pulse};
use crate::{
    metrics::Metrics,
    server::{Backoff, Client, FetchTaskResponse, ServerError, Task},
};

/// After a job has ended its dependents follow within moments; so many empty polls are not yet a reason to wait long.
const EAGER_POLLS: u32 = 3;

/// The wait between those.
const EAGER_WAIT: Duration = Duration::from_millis(250);

/// A failure that goes on is told again after so many polls.
const TOLD_EVERY: u32 = 60;

/// Where tasks come from.
pub(super) trait Source {
    /// Asks once.
    fn fetch(
        &self,
        tasks_version: i64,
    ) -> impl Future<Output = Result<FetchTaskResponse, ServerError>> + Send;
}

impl Source for Client {
    fn fetch(
        &self,
        tasks_version: i64,
    ) -> impl Future<Output = Result<FetchTaskResponse, ServerError>> + Send {
        self.fetch_task(tasks_version)
    }
}

/// Why the loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to.
    Stopped,
    /// The server does not know us any more.
    Unregistered,
    /// It has taken the one task that it was to take.
    Taken,
}

/// The loop and what it needs.
#[derive(Debug)]
pub(super) struct Poller<S> {
    /// Whom to ask; its client has the fetch limit.
    pub source: S,
    /// As many permits as jobs may run.
    pub slots: Arc<Semaphore>,
    /// How many permits there are.
    pub capacity: usize,
    /// Counts jobs that have ended.
    pub ended: watch::Receiver<u64>,
    /// The wait between polls.
    pub backoff: Backoff,
    /// One task and no more.
    pub once: bool,
    /// What to tell about ourselves.
    pub pulse: Pulse,
    /// What to count.
    pub metrics: Metrics,
    /// When not to ask.
    pub gate: Gate,
}

impl<S: Source> Poller<S> {
    /// Polls until `stop`; hands each task to `start` together with its slot.
    pub(super) async fn run(
        mut self,
        stop: &CancellationToken,
        mut start: impl FnMut(Task, OwnedSemaphorePermit),
    ) -> End {
        let mut version = 0;
        let mut eager = 0;
        let mut failures = 0;
        loop {
            let slot = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                slot = self.slots.clone().acquire_owned() => slot,
            };
            let Ok(slot) = slot else { return End::Stopped };
            if self.ended.has_changed().unwrap_or(false) {
                self.ended.mark_unchanged();
                self.backoff.reset();
                eager = EAGER_POLLS;
            }
            self.pulse.turned();
            let running = self.capacity - self.slots.available_permits() - 1;
            if self.is_open(running).await {
                match self.source.fetch(version).await {
                    Ok(FetchTaskResponse { task: Some(task), .. }) => {
                        self.heard("task", &mut failures);
                        // More may wait, and a change of labels does not move the version: look again.
                        version = 0;
                        start(task, slot);
                        if self.once {
                            return End::Taken;
                        }
                        continue;
                    }
                    Ok(answer) => {
                        self.heard("empty", &mut failures);
                        version = version.max(answer.tasks_version);
                    }
                    Err(ServerError::Unregistered) => return End::Unregistered,
                    Err(error) => {
                        self.metrics.polled("error");
                        if failures % TOLD_EVERY == 0 {
                            tracing::warn!(%error, "no jobs can be fetched; trying on");
                        }
                        failures += 1;
                        eager = 0;
                    }
                }
            }
            drop(slot);
            let wait = if eager > 0 {
                eager -= 1;
                EAGER_WAIT
            } else {
                self.backoff.next_wait()
            };
            self.metrics.waits(wait);
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                _ = self.ended.changed() => {
                    self.backoff.reset();
                    eager = EAGER_POLLS;
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn is_open(&mut self, running: usize) -> bool {
        match self.gate.check(running).await {
            Ok(()) => {
                if self.pulse.trouble(None) {
                    tracing::info!("jobs are fetched again");
                }
                true
            }
            Err(why) => {
                if self.pulse.trouble(Some(&why)) {
                    tracing::warn!(%why, "no jobs are fetched until this is over");
                }
                false
            }
        }
    }

    fn heard(&mut self, result: &'static str, failures: &mut u32) {
        self.metrics.polled(result);
        self.pulse.contact();
        if result == "task" {
            self.backoff.reset();
        }
        if *failures > 0 {
            tracing::info!(failures, "the server answers again");
            *failures = 0;
            self.backoff.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use tokio::{
        sync::{Semaphore, watch},
        time::Instant,
    };
    use tokio_util::sync::CancellationToken;

    use super::{End, Poller, Source};
    use crate::{
        daemon::{
            gate::{About, Gate},
            health::Pulse,
        },
        metrics::Metrics,
        server::{Backoff, FetchTaskResponse, ServerError, Task},
        settings::HealthCheck,
    };

    type Answer = Result<(Option<i64>, i64), ServerError>;

    /// Answers from a list, then says that we are unregistered, which ends the loop.
    #[derive(Clone, Default)]
    struct Script {
        answers: Arc<Mutex<VecDeque<Answer>>>,
        asked: Arc<Mutex<Vec<(i64, Duration)>>>,
        start: Option<Instant>,
    }

    impl Source for Script {
        async fn fetch(&self, version: i64) -> Result<FetchTaskResponse, ServerError> {
            let since = self.start.expect("started").elapsed();
            self.asked.lock().expect("one thread").push((version, since));
            let answer = self
                .answers
                .lock()
                .expect("one thread")
                .pop_front()
                .unwrap_or(Err(ServerError::Unregistered));
            answer.map(|(task, tasks_version)| FetchTaskResponse {
                task: task.map(|id| Task { id, ..Task::default() }),
                tasks_version,
            })
        }
    }

    fn poller(
        answers: Vec<Answer>,
        capacity: usize,
        ended: watch::Receiver<u64>,
    ) -> (Poller<Script>, Script) {
        let source = Script {
            answers: Arc::new(Mutex::new(answers.into())),
            start: Some(Instant::now()),
            ..Script::default()
        };
        let about = About { name: String::new(), instance: String::new() };
        let poller = Poller {
            source: source.clone(),
            slots: Arc::new(Semaphore::new(capacity)),
            capacity,
            ended,
            backoff: Backoff::new(Duration::from_secs(2), Duration::from_secs(5)),
            once: false,
            pulse: Pulse::new(Duration::from_secs(15)),
            metrics: Metrics::default(),
            gate: Gate::new(HealthCheck::default(), Vec::new(), None, about),
        };
        (poller, source)
    }

    #[tokio::test(start_paused = true)]
    async fn the_version_is_kept_and_starts_again_after_a_task() {
        let (_sender, ended) = watch::channel(0);
        let (poller, source) =
            poller(vec![Ok((None, 4)), Ok((None, 3)), Ok((Some(7), 5)), Ok((None, 5))], 2, ended);
        let mut taken = Vec::new();
        let mut slots = Vec::new();
        let end = poller
            .run(&CancellationToken::new(), |task, slot| {
                taken.push(task.id);
                slots.push(slot);
            })
            .await;
        assert_eq!((end, taken), (End::Unregistered, vec![7]));
        let versions: Vec<i64> =
            source.asked.lock().expect("one thread").iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, [0, 4, 4, 0, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_slot_nothing_is_asked_and_a_freed_one_is_used_at_once() {
        let (sender, ended) = watch::channel(0);
        let (poller, source) = poller(vec![Ok((Some(1), 1)), Ok((Some(2), 1)), Ok((None, 1))], 1, ended);
        let held = Mutex::new(None);
        let stop = CancellationToken::new();
        let run = poller.run(&stop, |_, slot| *held.lock().expect("one thread") = Some(slot));
        let free = async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert_eq!(source.asked.lock().expect("one thread").len(), 1, "no slot, no question");
            drop(held.lock().expect("one thread").take());
            sender.send_replace(1);
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert_eq!(source.asked.lock().expect("one thread").len(), 2);
            drop(held.lock().expect("one thread").take());
            sender.send_replace(2);
        };
        let (end, ()) = tokio::join!(run, free);
        assert_eq!(end, End::Unregistered);
        let asked = source.asked.lock().expect("one thread").clone();
        assert_eq!(asked[1].1, Duration::from_mins(1), "at the very moment");
        assert_eq!(
            asked[3].1.saturating_sub(asked[2].1),
            super::EAGER_WAIT,
            "and eagerly for a while: {asked:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_each_time_and_the_loop_goes_on() {
        let (_sender, ended) = watch::channel(0);
        let away = || Err(ServerError::Transient("away".into()));
        let (poller, source) = poller(vec![away(), away(), away(), Ok((None, 1))], 1, ended);
        let end = poller.run(&CancellationToken::new(), |_, _| panic!("there is no task")).await;
        assert_eq!(end, End::Unregistered);
        let asked = source.asked.lock().expect("one thread").clone();
        let wait = |n: usize| asked[n + 1].1.saturating_sub(asked[n].1).as_millis();
        assert!((1600..=2400).contains(&wait(0)) && (3200..=4800).contains(&wait(1)), "{asked:?}");
        assert!((1600..=2400).contains(&wait(3)), "good news start again: {asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn once_takes_one_and_a_stop_is_heard_while_waiting() {
        let (_sender, ended) = watch::channel(0);
        let (mut one, _) = poller(vec![Ok((Some(1), 1)), Ok((Some(2), 1))], 3, ended.clone());
        one.once = true;
        assert_eq!(one.run(&CancellationToken::new(), |_, _| {}).await, End::Taken);
        let (idle, _) = poller(vec![Ok((None, 1)); 100], 1, ended);
        let stop = CancellationToken::new();
        let (end, ()) = tokio::join!(idle.run(&stop, |_, _| {}), async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            stop.cancel();
        });
        assert_eq!(end, End::Stopped);
    }
}
