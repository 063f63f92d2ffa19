//! From events to records. What is recorded is there for the other loops, and for the next start.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{Reporter, Server};
use crate::report::{Conclusion, JobEvent, JobReport, Row, journal::Record};

/// Events that are taken at a time. One may hold the thousands of rows of one piece of output.
const AT_A_TIME: usize = 4;

/// How often the disk is made to keep what it has been given.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// A cancelled job may go this far beyond the journal's limit; what it prints then is dropped.
const OVERTIME: u64 = 16 << 20;

impl<S: Server> Reporter<S> {
    /// Takes all events, to the last.
    pub(super) async fn ingest(&self, mut events: mpsc::Receiver<JobEvent>) {
        let mut batch = Vec::with_capacity(AT_A_TIME);
        let mut sync = tokio::time::interval(SYNC_EVERY);
        sync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut noted = false;
        loop {
            let taken = tokio::select! {
                taken = events.recv_many(&mut batch, AT_A_TIME) => Some(taken),
                _ = sync.tick() => None,
            };
            match taken {
                None => self.desk.sync().await,
                Some(0) => {
                    self.job_vanished();
                    return;
                }
                Some(_) => {
                    for event in batch.drain(..) {
                        let last = matches!(event, JobEvent::Finished(_));
                        if matches!(event, JobEvent::Rows(_)) {
                            self.wait_for_room(&mut noted).await;
                        }
                        self.take(event);
                        if last {
                            return;
                        }
                    }
                }
            }
        }
    }

    fn take(&self, event: JobEvent) {
        let desk = &self.desk;
        match event {
            JobEvent::Started { at, steps } => {
                let steps = steps.into_iter().map(crate::log::Masked::into_string).collect();
                desk.record(Record::Started { at, steps });
                desk.state_wake.notify_one();
            }
            JobEvent::StepStarted { index, at } => {
                desk.record(Record::StepStarted { index, at });
                desk.state_wake.notify_one();
            }
            JobEvent::Rows(rows) => self.rows(rows),
            JobEvent::StepFinished { index, conclusion, at } => {
                desk.record(Record::StepFinished { index, conclusion, at });
                desk.state_wake.notify_one();
            }
            JobEvent::Summary { index, markdown } => {
                desk.record(Record::Summary { index, markdown: markdown.into_string() });
            }
            JobEvent::Finished(report) => {
                desk.record(Record::Finished(report));
                desk.log_wake.notify_one();
            }
        }
    }

    fn rows(&self, rows: Vec<Row>) {
        let dropped = {
            let mut core = self.desk.core();
            let over = core.journal.bytes() > self.limits.journal_bytes.saturating_add(OVERTIME);
            if over {
                core.dropped += rows.len() as u64;
            }
            over
        };
        if dropped {
            return;
        }
        let first = self.desk.core().progress.rows;
        let rows = rows.into_iter().map(|row| (row.time, row.text.into_string())).collect();
        self.desk.record(Record::Rows { first, rows });
        self.desk.log_wake.notify_one();
    }

    /// The job is over and has not said so: whoever ran it has died.
    fn job_vanished(&self) {
        let first = self.desk.core().progress.rows;
        let at = SystemTime::now();
        let text = "##[error]The runner failed while it ran this job; its own log says more.".to_owned();
        self.desk.record(Record::Rows { first, rows: vec![(at, text)] });
        let report = JobReport { conclusion: Conclusion::Failure, outputs: BTreeMap::new(), at };
        self.desk.record(Record::Finished(report));
        self.desk.log_wake.notify_one();
    }

    /// Holds the job while the journal is full of rows that the server does not have.
    async fn wait_for_room(&self, noted: &mut bool) {
        loop {
            let room = self.desk.room.notified();
            {
                let mut core = self.desk.core();
                if core.journal.bytes() <= self.limits.journal_bytes {
                    return;
                }
                let acked = core.progress.acked;
                if let Err(error) = core.journal.shrink(self.limits.journal_bytes, acked) {
                    tracing::warn!(task = core.journal.task(), %error, "a journal that is too large could not be cut");
                }
                if core.journal.bytes() <= self.limits.journal_bytes || core.verdict.is_some() {
                    return;
                }
            }
            if self.desk.cancel.is_cancelled() {
                return;
            }
            if !std::mem::replace(noted, true) {
                let first = self.desk.core().progress.rows;
                let text = "##[warning]This job has printed more than the runner may keep. It is held until the server has \
                            taken some of it."
                    .to_owned();
                self.desk.record(Record::Rows { first, rows: vec![(SystemTime::now(), text)] });
                self.desk.log_wake.notify_one();
            }
            tokio::select! {
                () = room => {}
                _ = self.desk.cancel.cancelled() => {}
            }
        }
    }
}
