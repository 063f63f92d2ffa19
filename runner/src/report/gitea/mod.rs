//! The road from a job's events to Gitea, by way of the journal.
//!
//! A [`Reporter`] is one task's actor. Three loops share its `desk::Desk` and nothing else:
//!
//! - `ingest` takes events, writes them down, and only then are they there for the others;
//! - `log` sends rows from the journal, as often as `pace` says, until the last call has sealed the log;
//! - `state` tells steps and heartbeats, whatever the log does, and hears when the server has ended the job.
//!
//! When the log is sealed (or given up) `close` sends summaries and the one final state, until it and all outputs are
//! acknowledged. A result leaves in no other call. The job's token is fired from here and never awaited for sending:
//! reporting outlives what it reports on.
//!
//! Facts of Gitea that shape it: a log call without rows seals nothing; an answer carries how many rows the server has,
//! which may be fewer than we sent or than it once said; any result in the answer to a state call means that the server
//! regards the job as over; rows of a step that the server has not heard of are not shown, hence a state call follows
//! each log call that moved a running step.

mod close;
mod desk;
mod ingest;
mod log;
mod pace;
mod server;
mod state;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::desk::{Desk, Verdict};
pub use self::server::{CallError, Server};
use super::{
    JobEvent,
    journal::{JOURNAL_LIMIT, Journal, JournalError},
    local_copy::LocalCopy,
    progress::Progress,
};
use crate::{cancel::Cancel, secret::Secret};

/// How a reporter behaves. Times of the configuration are upper bounds: it is never slower than they say.
#[derive(Debug, Clone)]
pub struct ReportLimits {
    /// `runner.log_report_interval`.
    pub log_interval: Duration,
    /// `runner.log_report_max_latency`.
    pub log_latency: Duration,
    /// `runner.log_report_batch_size`, when the operator has chosen it: so many waiting rows do not wait for a longer
    /// interval, but there are never more than three calls a second.
    pub log_rows: Option<u64>,
    /// Between two heartbeats: `runner.state_report_interval`, 2 s when that is not set.
    pub state_interval: Duration,
    /// For one attempt of a closing call: `runner.report_close_timeout`.
    pub close_timeout: Duration,
    /// How long a closing report waits for a server that does not answer: its zombie time-out.
    pub patience: Duration,
    /// How many bytes the journal may hold.
    pub journal_bytes: u64,
    /// The operator's own copy of the log.
    pub copy: Option<super::CopyOptions>,
    /// Where summaries go, when the server takes them.
    pub summaries: Option<SummaryTarget>,
}

impl Default for ReportLimits {
    fn default() -> Self {
        Self {
            log_interval: Duration::from_secs(5),
            log_latency: Duration::from_secs(3),
            log_rows: None,
            state_interval: Duration::from_secs(2),
            close_timeout: Duration::from_secs(10),
            patience: Duration::from_mins(10),
            journal_bytes: JOURNAL_LIMIT,
            copy: None,
            summaries: None,
        }
    }
}

/// The address of a job's summaries: the step's number and `/summary` follow.
#[derive(Debug, Clone)]
pub struct SummaryTarget {
    /// `<runtime url>_apis/pipelines/workflows/<run>/jobs/<job>/steps/`.
    pub url: String,
    /// The job's runtime token.
    pub token: Secret<String>,
}

/// How a report ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The server has everything.
    Reported,
    /// The server had ended the task by itself.
    EndedByServer,
    /// The server does not know this runner any more.
    Unregistered,
    /// It could not be finished; the sentence says why and where the log is.
    GaveUp(String),
}

/// Why a reporter could not begin: the job must not run, its log would be lost.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] JournalError);

/// Reports one task. See the module.
#[derive(Debug)]
pub struct Reporter<S> {
    desk: Desk,
    server: S,
    limits: ReportLimits,
    events: Option<mpsc::Receiver<JobEvent>>,
    hurry: CancellationToken,
}

impl<S: Server> Reporter<S> {
    /// Begins to report task `task`: makes its journal in the folder `jobs`. `cancel` is the job's token, which the
    /// reporter fires; `hurry` says that the daemon is going down and cannot wait for a server that does not answer.
    pub fn start(
        server: S,
        task: i64,
        jobs: &Path,
        limits: ReportLimits,
        events: mpsc::Receiver<JobEvent>,
        cancel: Cancel,
        hurry: CancellationToken,
    ) -> Result<Self, StartError> {
        let journal = Journal::create(jobs, task)?;
        let copy = limits.copy.as_ref().and_then(|options| {
            LocalCopy::begin(options, task)
                .inspect_err(|error| tracing::warn!(task, %error, "no local copy of a job's log can be made"))
                .ok()
        });
        let desk = Desk::new(journal, Progress::default(), cancel, copy);
        Ok(Self { desk, server, limits, events: Some(events), hurry })
    }

    /// Finishes what another runner has begun.
    pub(super) fn resume(
        server: S,
        journal: Journal,
        progress: Progress,
        limits: ReportLimits,
        hurry: CancellationToken,
    ) -> Self {
        Self { desk: Desk::new(journal, progress, Cancel::new(), None), server, limits, events: None, hurry }
    }

    /// Reports to the end: returns after the job's last event, when the server has everything or has to be given up.
    pub async fn run(mut self) -> Ended {
        let events = self.events.take();
        let sealed = CancellationToken::new();
        let ingest = async {
            if let Some(events) = events {
                self.ingest(events).await;
            }
            self.desk.sync().await;
        };
        let log = async {
            let end = self.ship_log().await;
            sealed.cancel();
            end
        };
        let (end, ()) = {
            let ((), end, ()) = tokio::join!(ingest, log, self.ship_state(&sealed));
            (end, ())
        };
        let ended = self.close(end).await;
        self.put_away(ended)
    }

    /// Removes the journal, or says where the log is.
    fn put_away(self, ended: Ended) -> Ended {
        let task = self.desk.task();
        let missing = self.desk.unsent_rows();
        let journal = self.desk.into_journal();
        if matches!(ended, Ended::GaveUp(_)) {
            return ended;
        }
        if missing > 0 {
            match super::journal_text::keep(&journal) {
                Ok(path) => tracing::warn!(
                    task,
                    missing,
                    path = %path.display(),
                    "the server did not take the whole log of a task; it is kept here"
                ),
                Err(error) => {
                    tracing::error!(task, %error, "the log of a task that the server did not take could not be kept");
                }
            }
        }
        let folder = journal.folder().to_owned();
        if let Err(error) = journal.delete() {
            tracing::warn!(task, folder = %folder.display(), %error, "a journal that is not needed any more stays");
        }
        ended
    }
}
