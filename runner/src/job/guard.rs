//! Keeps one running step on its leash: its timeout, the job's cancellation, the end of all patience.
//!
//! When the job is cancelled, the `if` of the running step is asked once more, now under the status "cancelled": a step
//! that still wants to run (`always()`) goes on, any other is ended. What goes on, and what runs afterwards, has five
//! minutes in all. A runner that goes down, or a server that has closed the task, asks nobody.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use workflows::{Condition, Contexts, JobStatus, Scope};

use crate::cancel::{Cancel, CancelCause};

/// How long steps may go on after a cancel: for the main steps, and again for the posts.
pub(crate) const GRACE: Duration = Duration::from_secs(300);

/// Until when the current run of steps may go on; starts with the cancel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patience(Arc<OnceLock<Instant>>);

impl Patience {
    /// A patience that has begun, for the posts of a cancelled job.
    pub(crate) fn begun() -> Self {
        let patience = Self::default();
        patience.until();
        patience
    }

    /// The end; the first call starts the clock.
    fn until(&self) -> Instant {
        *self.0.get_or_init(|| Instant::now() + GRACE)
    }
}

/// What decides about a running step.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// The job's token.
    pub(crate) job: Cancel,
    /// The token of the enclosing composite step.
    pub(crate) outer: Option<Cancel>,
    pub(crate) patience: Patience,
    /// The step's `if` and the contexts in which it was asked; no condition is `success()`.
    pub(crate) condition: Option<Condition>,
    pub(crate) contexts: Contexts,
    /// The step's own limit.
    pub(crate) timeout: Option<Duration>,
}

impl Guard {
    /// Runs what `make` makes to its end, with a token that is fired when it has to end.
    pub(crate) async fn run<T, F: Future<Output = T>>(
        self,
        make: impl FnOnce(Cancel) -> F,
    ) -> (T, Option<CancelCause>) {
        let token = self.outer.as_ref().map_or_else(Cancel::new, Cancel::child);
        let mut work = std::pin::pin!(make(token.clone()));
        let timeout = self.timeout.map(|limit| Instant::now() + limit);
        // A step that was started after the cancel has already been asked.
        let mut asked = self.job.is_cancelled();
        let mut rung = false;
        loop {
            let patience = self.job.is_cancelled().then(|| self.patience.until());
            tokio::select! {
                result = &mut work => return (result, token.cause()),
                cause = self.job.cancelled(), if !asked => {
                    asked = true;
                    self.patience.until();
                    if !self.still_wanted(cause) {
                        token.cancel(cause);
                    }
                }
                () = until(timeout), if timeout.is_some() && !rung => {
                    rung = true;
                    token.cancel(CancelCause::StepTimeout);
                }
                () = until(patience), if patience.is_some() && !token.is_cancelled() => {
                    token.cancel(self.job.cause().unwrap_or(CancelCause::Shutdown));
                }
            }
        }
    }

    fn still_wanted(&self, cause: CancelCause) -> bool {
        if ends_everything(cause) {
            return false;
        }
        let Some(condition) = &self.condition else { return false };
        let scope = Scope::new(&self.contexts).status(&JobStatus::Cancelled);
        // An `if` that cannot be answered is no reason to go on.
        condition.eval(&scope).unwrap_or(false)
    }
}

/// Whether nothing of the job may run any more, `always()` or not.
pub(crate) const fn ends_everything(cause: CancelCause) -> bool {
    matches!(cause, CancelCause::Shutdown | CancelCause::ServerEnded)
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;
    use workflows::{Condition, Contexts};

    use super::{GRACE, Guard, Patience};
    use crate::cancel::{Cancel, CancelCause};

    fn guard(job: &Cancel, condition: &str, timeout: Option<u64>) -> Guard {
        Guard {
            job: job.clone(),
            outer: None,
            patience: Patience::default(),
            condition: Some(Condition::parse(condition)),
            contexts: Contexts::new(),
            timeout: timeout.map(Duration::from_secs),
        }
    }

    /// Runs for `seconds`, or until it is told to end.
    async fn work(token: Cancel, seconds: u64) -> bool {
        tokio::select! {
            () = sleep(Duration::from_secs(seconds)) => true,
            _ = token.cancelled() => false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_ends_a_step_unless_its_condition_still_holds() {
        for (condition, finished) in [("success()", false), ("always()", true), ("cancelled()", true)] {
            let job = Cancel::new();
            let run = guard(&job, condition, None).run(|token| work(token, 20));
            let (result, ()) = tokio::join!(run, async {
                sleep(Duration::from_secs(1)).await;
                job.cancel(CancelCause::Server);
            });
            assert_eq!(result.0, finished, "{condition}");
            assert_eq!(result.1, (!finished).then_some(CancelCause::Server), "{condition}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_when_the_runner_goes_down() {
        let job = Cancel::new();
        job.cancel(CancelCause::Shutdown);
        let job_later = Cancel::new();
        let run = guard(&job_later, "always()", None).run(|token| work(token, 20));
        let (result, ()) = tokio::join!(run, async {
            job_later.cancel(CancelCause::Shutdown);
        });
        assert_eq!(result, (false, Some(CancelCause::Shutdown)));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let job = Cancel::new();
        job.cancel(CancelCause::Server);
        let (finished, cause) =
            guard(&job, "always()", None).run(|token| work(token, GRACE.as_secs() + 10)).await;
        assert_eq!((finished, cause), (false, Some(CancelCause::Server)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_has_its_own_limit() {
        let job = Cancel::new();
        let (finished, cause) = guard(&job, "success()", Some(5)).run(|token| work(token, 20)).await;
        assert_eq!((finished, cause), (false, Some(CancelCause::StepTimeout)));
        assert!(!job.is_cancelled());
    }
}
