//! What the loops of a reporter share: the journal, the progress, and what the server has said.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    cancel::{Cancel, CancelCause},
    report::{
        Conclusion,
        journal::{Journal, Record},
        local_copy::LocalCopy,
        progress::Progress,
    },
};

/// What a server has said that ends a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has this result already.
    Result(Conclusion),
    /// It does not know the task.
    Gone(String),
    /// It does not know the runner.
    Unregistered,
}

/// See the module. No lock is held across an await.
#[derive(Debug)]
pub(super) struct Desk {
    core: Mutex<Core>,
    /// Rows or the end have come.
    pub(super) log_wake: Notify,
    /// A step has changed, or the server has more rows of one.
    pub(super) state_wake: Notify,
    /// The server has taken rows: there may be room again.
    pub(super) room: Notify,
    /// The job's token.
    pub(super) cancel: Cancel,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) journal: Journal,
    pub(super) progress: Progress,
    pub(super) verdict: Option<Verdict>,
    /// When the server last answered anything.
    pub(super) contact: Instant,
    /// The journal cannot be written any more.
    broken: bool,
    /// Rows that came afterwards.
    pub(super) dropped: u64,
    /// The operator's own.
    copy: Option<LocalCopy>,
}

impl Desk {
    pub(super) fn new(journal: Journal, progress: Progress, cancel: Cancel, copy: Option<LocalCopy>) -> Self {
        let core = Core {
            journal,
            progress,
            verdict: None,
            contact: Instant::now(),
            broken: false,
            dropped: 0,
            copy,
        };
        Self {
            core: Mutex::new(core),
            log_wake: Notify::new(),
            state_wake: Notify::new(),
            room: Notify::new(),
            cancel,
        }
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn task(&self) -> i64 {
        self.core().journal.task()
    }

    /// Writes one record down and takes it into the progress. Wakes nobody.
    pub(super) fn record(&self, record: Record) {
        let failed = self.core().record(record);
        if let Err(error) = failed {
            tracing::error!(task = self.task(), %error, "the journal of a job cannot be written: the job fails");
            self.cancel.cancel(CancelCause::DiskFull);
            self.log_wake.notify_one();
        }
    }

    /// The server has said something that ends the task: stops the job.
    pub(super) fn conclude(&self, verdict: Verdict) {
        let cause = match verdict {
            Verdict::Result(Conclusion::Cancelled) => CancelCause::Server,
            _ => CancelCause::ServerEnded,
        };
        let fresh = {
            let mut core = self.core();
            let stronger =
                !matches!(verdict, Verdict::Result(_)) && matches!(core.verdict, Some(Verdict::Result(_)));
            let fresh = core.verdict.is_none() || stronger;
            if fresh {
                core.verdict = Some(verdict);
            }
            fresh
        };
        if fresh {
            self.cancel.cancel(cause);
            self.log_wake.notify_one();
            self.state_wake.notify_one();
            self.room.notify_one();
        }
    }

    /// Makes what is written survive a power cut.
    pub(super) async fn sync(&self) {
        let file = self.core().journal.unsynced();
        let result = match file {
            Ok(None) => return,
            Ok(Some(file)) => tokio::task::spawn_blocking(move || file.sync_data())
                .await
                .map_err(io::Error::other)
                .flatten(),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::warn!(task = self.task(), %error, "a job's journal could not be made to survive a power cut");
        }
    }

    /// Rows that the server does not have.
    pub(super) fn unsent_rows(&self) -> u64 {
        let core = self.core();
        core.progress.rows - core.progress.acked
    }

    pub(super) fn into_journal(self) -> Journal {
        self.core.into_inner().unwrap_or_else(PoisonError::into_inner).journal
    }
}

impl Core {
    /// The error is answered once, when the journal breaks.
    fn record(&mut self, record: Record) -> io::Result<()> {
        if let Some(Err(error)) = self.copy.as_mut().map(|copy| copy.take(&record)) {
            tracing::warn!(task = self.journal.task(), %error, "the local copy of a job's log ends here");
            self.copy = None;
        }
        if self.broken {
            self.record_broken(record);
            return Ok(());
        }
        let written = self.journal.append(std::slice::from_ref(&record), &self.progress);
        if written.is_ok() {
            self.progress.apply(&record);
            return Ok(());
        }
        self.broken = true;
        if let Err(error) = self.journal.use_reserve() {
            tracing::warn!(%error, "the room for a job's last words is not there");
        }
        self.record_broken(record);
        written
    }

    /// Without room: rows are counted, everything else is small and tried once more.
    fn record_broken(&mut self, record: Record) {
        let record = match record {
            Record::Rows { rows, .. } => {
                self.dropped += rows.len() as u64;
                return;
            }
            Record::Finished(mut report) => {
                let text = format!(
                    "##[error]The disk of the runner is full: this job's log could not be written. The last {} rows are \
                     missing and the job has failed.",
                    self.dropped
                );
                let rows = Record::Rows { first: self.progress.rows, rows: vec![(SystemTime::now(), text)] };
                self.last_words(rows);
                report.conclusion = Conclusion::Failure;
                Record::Finished(report)
            }
            other => other,
        };
        self.last_words(record);
    }

    fn last_words(&mut self, record: Record) {
        // What cannot be written is still sent, as long as this process lives: states come from memory. A row that is
        // not on disk cannot be read back, so it does not count.
        let written = self.journal.append(std::slice::from_ref(&record), &self.progress);
        if written.is_ok() || !matches!(record, Record::Rows { .. }) {
            self.progress.apply(&record);
        }
    }
}
