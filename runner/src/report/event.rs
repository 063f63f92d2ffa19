//! What a job tells the outside, as values: the one language between `job/` and everything that reports.
//!
//! A job emits these into its [`Sink`] in order; the journal, the Gitea reporter and the console all read the same
//! list. All text in here is [`Masked`].

use std::{collections::BTreeMap, time::SystemTime};

use tokio::sync::mpsc;

use crate::{cancel::Cancel, log::Masked};

/// How a job or a step ended, in the four words of GitHub and Gitea.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Conclusion {
    /// It did what it should.
    Success,
    /// It did not, or the runner could not find out.
    Failure,
    /// It was ended from outside.
    Cancelled,
    /// Its `if` said no.
    Skipped,
}

impl Conclusion {
    /// The word that expressions see (`steps.*.conclusion`, `needs.*.result`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// One line of the log: masked, without line ends, cut to what a server takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When the runner saw the line.
    pub time: SystemTime,
    /// The text.
    pub text: Masked,
}

/// Something that happened in a job, in the order in which it happened.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    /// The job is on; always the first event.
    Started {
        /// When.
        at: SystemTime,
        /// The display names of the job's steps: as many as the payload has, indexed as the server does.
        steps: Vec<Masked>,
    },
    /// A main step has begun. Rows that follow are its own, until it is finished.
    StepStarted {
        /// Its index in the payload, from 0.
        index: usize,
        /// When.
        at: SystemTime,
    },
    /// Lines: of the running step, otherwise of "Set up job" (before the first step) or "Complete job".
    Rows(Vec<Row>),
    /// A main step has ended; also sent (without a start) for one that was skipped.
    StepFinished {
        /// Its index in the payload, from 0.
        index: usize,
        /// After `continue-on-error`.
        conclusion: Conclusion,
        /// When.
        at: SystemTime,
    },
    /// Markdown that a step wrote to its summary, masked and cut to the limit of 1 MiB.
    Summary {
        /// The index of the (outer) step.
        index: usize,
        /// The text.
        markdown: Masked,
    },
    /// The job has ended; always the last event.
    Finished(JobReport),
}

/// What is left of a job when it is over.
#[derive(Debug, Clone, PartialEq)]
pub struct JobReport {
    /// The result that the server gets.
    pub conclusion: Conclusion,
    /// Evaluated job outputs that have passed the secret check and the server's limits.
    pub outputs: BTreeMap<String, String>,
    /// When it ended.
    pub at: SystemTime,
}

/// Where a job's story goes, and from where its end may come.
///
/// The queue is bounded: when the far side is slow the job waits and memory does not grow. Control never queues
/// behind text, because it travels on the token.
#[derive(Debug, Clone)]
pub struct Sink {
    events: mpsc::Sender<JobEvent>,
    cancel: Cancel,
}

/// The far side has gone away: nobody reads this job's events any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads this job's events any more")]
pub struct SinkClosed;

/// How many events may wait between a job and its reporter. Rows travel in batches of up to 64 KiB of output each.
pub const SINK_DEPTH: usize = 8;

impl Sink {
    /// A sink that is cancelled by `cancel`, and the end at which its events come out.
    pub fn new(cancel: Cancel) -> (Self, mpsc::Receiver<JobEvent>) {
        let (events, receiver) = mpsc::channel(SINK_DEPTH);
        (Self { events, cancel }, receiver)
    }

    /// Hands over one event; waits while the queue is full.
    pub async fn send(&self, event: JobEvent) -> Result<(), SinkClosed> {
        self.events.send(event).await.map_err(|_| SinkClosed)
    }

    /// The job's token, which the far side fires.
    pub const fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}
