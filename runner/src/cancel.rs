//! Cancellation with a cause.
//!
//! Every wait of a job can be cancelled, and whoever asks later why it ended reads the cause here instead of guessing
//! from an error's text. The first cause wins. A child is cancelled with its parent and then answers with the
//! parent's cause; cancelling a child leaves the parent alone.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why something was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelCause {
    /// A user pressed "cancel", or a newer run of the concurrency group took over: the server answered CANCELLED.
    Server,
    /// The server had already given the task another final result (zombie or endless sweep, deleted repository).
    ServerEnded,
    /// The job's own `timeout-minutes`.
    JobTimeout,
    /// `runner.timeout` of the configuration.
    RunnerTimeout,
    /// A step's `timeout-minutes`; only ever seen on the step's own child.
    StepTimeout,
    /// The daemon is going down and its shutdown limit (or a second signal) ended the jobs.
    Shutdown,
    /// The runner's disk is full and the job's log cannot be written.
    DiskFull,
}

/// A cancellation token that remembers the first cause. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    token: CancellationToken,
    cause: Arc<OnceLock<CancelCause>>,
    parent: Option<Arc<Cancel>>,
}

impl Cancel {
    /// A token that nobody has cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is cancelled with this one, and can be cancelled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), cause: Arc::default(), parent: Some(Arc::new(self.clone())) }
    }

    /// Cancels, unless that has happened already; the first cause stays.
    pub fn cancel(&self, cause: CancelCause) {
        // A second cause is not an error: the first one is the truth.
        let _ = self.cause.set(cause);
        self.token.cancel();
    }

    /// Completes when this token or an ancestor is cancelled.
    pub async fn cancelled(&self) -> CancelCause {
        self.token.cancelled().await;
        self.cause().unwrap_or(CancelCause::Shutdown)
    }

    /// Whether this token or an ancestor is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The first cause: this token's own, else that of the nearest cancelled ancestor.
    pub fn cause(&self) -> Option<CancelCause> {
        if !self.token.is_cancelled() {
            return None;
        }
        self.cause.get().copied().or_else(|| self.parent.as_ref().and_then(|parent| parent.cause()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cancel, CancelCause};

    #[test]
    fn the_first_cause_wins_and_children_answer_with_it() {
        let job = Cancel::new();
        let step = job.child();
        job.cancel(CancelCause::Server);
        job.cancel(CancelCause::Shutdown);
        assert_eq!(step.cause(), Some(CancelCause::Server));
    }

    #[test]
    fn a_step_can_be_cancelled_alone() {
        let job = Cancel::new();
        let step = job.child();
        step.cancel(CancelCause::StepTimeout);
        assert_eq!(step.cause(), Some(CancelCause::StepTimeout));
        assert!(!job.is_cancelled());
        assert_eq!(job.cause(), None);
    }
}
