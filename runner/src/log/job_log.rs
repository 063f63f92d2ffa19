//! The job's log: what the runner itself says, and where every step's log comes from.

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use super::{Added, Masked, Masker, StepLog, StepLogOptions, matcher::MatcherSet, rows::RowBuffer};
use crate::{
    backend::Notes,
    report::{JobEvent, Row, Sink},
};

/// The one way out of a job. Clones speak into the same log.
///
/// Everything leaves at once and in the order of the calls. When the far side is gone, what is said is lost: the job
/// learns of that from its token, not from here.
#[derive(Debug, Clone)]
pub struct JobLog {
    sink: Sink,
    masker: Masker,
    matchers: Arc<Mutex<MatcherSet>>,
}

impl JobLog {
    /// A log that ends in `sink` and hides what `masker` knows.
    pub fn open(sink: Sink, masker: Masker) -> Self {
        Self { sink, masker, matchers: Arc::default() }
    }

    /// Text from the runner; each line becomes a row. Never read for commands.
    pub async fn row(&self, text: &str) {
        self.tagged("", text).await;
    }

    /// Opens a group; groups do not nest.
    pub async fn group(&self, title: &str) {
        self.tagged("##[group]", title).await;
    }

    /// Ends the group.
    pub async fn end_group(&self) {
        self.tagged("##[endgroup]", "").await;
    }

    /// An error that the web page shows in red; only its first line.
    pub async fn error(&self, text: &str) {
        self.tagged("##[error]", text).await;
    }

    /// A warning, in yellow.
    pub async fn warning(&self, text: &str) {
        self.tagged("##[warning]", text).await;
    }

    /// A line that only those see who have turned debugging on; the caller knows whether they have.
    pub async fn debug(&self, text: &str) {
        self.tagged("##[debug]", text).await;
    }

    /// Sends one event behind all rows so far.
    pub async fn emit(&self, event: JobEvent) {
        // The far side is gone only when the job's token has been fired; there is nobody left to tell.
        let _ = self.sink.send(event).await;
    }

    /// Text as it may leave the runner.
    pub fn mask(&self, text: &str) -> Masked {
        self.masker.mask(text)
    }

    /// Masks `value` from now on.
    pub fn add_mask(&self, value: &str) -> Added {
        self.masker.add(value)
    }

    /// Whether `text` has a secret in it: such an output must not leave.
    pub fn would_mask(&self, text: &str) -> bool {
        self.masker.would_mask(text)
    }

    /// The masker, to be shared with what reports outside of the log.
    pub const fn masker(&self) -> &Masker {
        &self.masker
    }

    /// Where the rows go.
    pub const fn sink(&self) -> &Sink {
        &self.sink
    }

    /// The log of one process or action: bytes are lines, commands are obeyed.
    pub fn step(&self, options: StepLogOptions) -> StepLog {
        StepLog::new(self.clone(), options)
    }

    pub(super) const fn matchers(&self) -> &Arc<Mutex<MatcherSet>> {
        &self.matchers
    }

    pub(super) async fn rows(&self, rows: Vec<Row>) {
        self.emit(JobEvent::Rows(rows)).await;
    }

    async fn tagged(&self, tag: &str, text: &str) {
        let time = SystemTime::now();
        let mut buffer = RowBuffer::default();
        // Masked as a whole first: a secret may have lines.
        let masked = self.masker.mask(text).into_string();
        let mut lines = masked.trim_end_matches(['\r', '\n']).split('\n');
        let first = lines.next().unwrap_or_default().trim_end_matches('\r');
        buffer.push(time, self.masker.mask_owned(format!("{tag}{first}")));
        for line in lines {
            buffer.push(time, self.masker.mask(line.trim_end_matches('\r')));
        }
        if let Some(rows) = buffer.take() {
            self.rows(rows).await;
        }
    }
}

impl Notes for JobLog {
    async fn note(&self, line: &str) {
        self.row(line).await;
    }
}
