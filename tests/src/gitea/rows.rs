//! What a server keeps: runners, jobs, tasks with their steps and rows, and a record of each call.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use proto::runner::v1::Result as TaskResult;

use super::payload::{Planned, Push};

/// How errors look on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// Gitea: always `unknown`, the meant code inside of the text.
    Gitea,
    /// Forgejo: the true code.
    Forgejo,
}

/// Which generation of the server this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// A final request without rows does not seal a log; a cancelled task is over at once.
    First,
    /// Duplicates are trimmed first, empty final requests seal; a runner that can is told of a cancel and finishes.
    Second,
}

/// How this server behaves where servers differ.
#[derive(Debug, Clone)]
pub struct Dialect {
    /// The look of errors.
    pub errors: Errors,
    /// The generation.
    pub generation: Generation,
    /// `X-Gitea-Actions-Capabilities` of Declare's answer, if any.
    pub capabilities: Option<String>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { errors: Errors::Gitea, generation: Generation::First, capabilities: None }
    }
}

/// Status of a job or a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Ended well.
    Success,
    /// Ended badly.
    Failure,
    /// Ended from outside.
    Cancelled,
    /// Never ran.
    Skipped,
    /// A runner may take it.
    Waiting,
    /// A runner has it.
    Running,
    /// Its needs are not done.
    Blocked,
    /// A runner is told to end it.
    Cancelling,
}

impl Status {
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Cancelled | Self::Skipped)
    }

    pub(crate) fn of(result: TaskResult) -> Option<Self> {
        match result {
            TaskResult::Unspecified => None,
            TaskResult::Success => Some(Self::Success),
            TaskResult::Failure => Some(Self::Failure),
            TaskResult::Cancelled => Some(Self::Cancelled),
            TaskResult::Skipped => Some(Self::Skipped),
        }
    }

    pub(crate) fn result(self) -> TaskResult {
        match self {
            Self::Success => TaskResult::Success,
            Self::Failure => TaskResult::Failure,
            Self::Cancelled | Self::Cancelling => TaskResult::Cancelled,
            Self::Skipped => TaskResult::Skipped,
            Self::Waiting | Self::Running | Self::Blocked => TaskResult::Unspecified,
        }
    }
}

/// A registered runner.
#[derive(Debug, Clone)]
pub struct RunnerRow {
    /// Row number.
    pub id: i64,
    /// Names it on the wire.
    pub uuid: String,
    /// Its own secret.
    pub token: String,
    /// As registered.
    pub name: String,
    /// Names only.
    pub labels: Vec<String>,
    /// One task, then gone.
    pub ephemeral: bool,
    /// As declared.
    pub version: String,
    /// As declared.
    pub capabilities: Vec<String>,
    /// How often it declared itself.
    pub declared: usize,
}

/// A job of a run.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// Row number.
    pub id: i64,
    /// The run.
    pub run: i64,
    /// Where it is.
    pub status: Status,
    /// The task that runs it.
    pub task: Option<i64>,
    pub(crate) planned: Planned,
    pub(crate) push: Push,
}

/// A step of a task, as last reported.
#[derive(Debug, Clone, Default)]
pub struct StepRow {
    /// Its result, once it has one.
    pub result: Option<Status>,
    /// Whether a start was ever reported.
    pub started: bool,
    /// Whether an end was ever reported.
    pub stopped: bool,
    /// First row.
    pub log_index: i64,
    /// Number of rows.
    pub log_length: i64,
}

/// A task as the server keeps it.
#[derive(Debug, Clone)]
pub struct TaskRow {
    /// Never used twice.
    pub id: i64,
    /// The job it runs.
    pub job: i64,
    /// The runner's row number.
    pub runner: i64,
    /// Where it is.
    pub status: Status,
    /// Last sign of life.
    pub updated: Instant,
    /// When it was assigned.
    pub assigned: Instant,
    /// When it became final.
    pub ended: Option<Instant>,
    /// Seconds since the epoch; 0 when the runner gave no end.
    pub stopped_at: i64,
    /// In the order of the payload.
    pub steps: Vec<StepRow>,
    /// What was appended: the runner's time and the stored text.
    pub rows: Vec<(SystemTime, String)>,
    /// When each row arrived, as long as `rows`.
    pub arrived: Vec<SystemTime>,
    /// Whether the log is sealed.
    pub archived: bool,
    /// First value wins.
    pub outputs: BTreeMap<String, String>,
    /// The `GITHUB_TOKEN`.
    pub token: String,
    /// The runtime token.
    pub runtime_token: String,
    /// How many UpdateTask calls carried a result.
    pub final_reports: usize,
}

impl TaskRow {
    /// The rows' texts.
    pub fn lines(&self) -> Vec<&str> {
        self.rows.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// The rows of one step, as the web page cuts them.
    ///
    /// # Panics
    /// When the step's range is not within the log.
    pub fn step_lines(&self, index: usize) -> Vec<&str> {
        let step = &self.steps[index];
        let from = usize::try_from(step.log_index).expect("an index is not negative");
        let length = usize::try_from(step.log_length).expect("a length is not negative");
        self.rows[from..from + length].iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Whether some row contains `text`.
    pub fn says(&self, text: &str) -> bool {
        self.rows.iter().any(|(_, row)| row.contains(text))
    }
}

/// One call, as it came in.
#[derive(Debug, Clone)]
pub struct Record {
    /// `Register`, `Declare`, `FetchTask`, `UpdateTask`, `UpdateLog`.
    pub method: &'static str,
    /// When.
    pub at: Instant,
    /// The task it is about, 0 if none.
    pub task: i64,
    /// UpdateLog: the number of the first row.
    pub index: i64,
    /// UpdateLog: how many rows.
    pub rows: usize,
    /// UpdateLog: the last one.
    pub no_more: bool,
    /// UpdateTask: the result it carries.
    pub result: Option<Status>,
    /// The message, encoded: the bytes that left the runner.
    pub bytes: Vec<u8>,
}
