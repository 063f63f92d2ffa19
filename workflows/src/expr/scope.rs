//! What an evaluation may see: the contexts, how the job stands, and answers to earlier needs.

use super::error::Need;
use crate::context::Contexts;

/// How a job or a composite action stands so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum JobStatus {
    /// Nothing failed.
    #[default]
    Success,
    /// A step failed and its failure counted.
    Failure,
    /// Somebody cancelled.
    Cancelled,
}

impl JobStatus {
    /// `success`, `failure` or `cancelled`, as in `job.status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Answers `success()`, `failure()` and `cancelled()`; `always()` needs no asking.
///
/// [`JobStatus`] implements it for steps. `jobs` are the ids given as arguments, allowed in a job's `if`.
pub trait StatusFunctions {
    /// Whether everything before went well.
    fn success(&self, jobs: &[String]) -> bool;
    /// Whether something before failed.
    fn failure(&self, jobs: &[String]) -> bool;
    /// Whether the run was cancelled.
    fn cancelled(&self) -> bool;
}

impl StatusFunctions for JobStatus {
    fn success(&self, _jobs: &[String]) -> bool {
        *self == Self::Success
    }
    fn failure(&self, _jobs: &[String]) -> bool {
        *self == Self::Failure
    }
    fn cancelled(&self) -> bool {
        *self == Self::Cancelled
    }
}

/// Status inside a composite action: success and failure look at the composite's own steps, cancelled
/// at the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompositeStatus {
    /// How the composite's steps went so far.
    pub action: JobStatus,
    /// How the job stands.
    pub job: JobStatus,
}

impl StatusFunctions for CompositeStatus {
    fn success(&self, _jobs: &[String]) -> bool {
        self.action == JobStatus::Success
    }
    fn failure(&self, _jobs: &[String]) -> bool {
        self.action == JobStatus::Failure
    }
    fn cancelled(&self) -> bool {
        self.job == JobStatus::Cancelled
    }
}

/// Answers to [`Need`]s, collected over the evaluations of one expression or template.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    hashes: Vec<(Vec<String>, Result<String, String>)>,
}

impl Answers {
    /// No answers yet.
    pub const fn new() -> Self {
        Self { hashes: Vec::new() }
    }

    /// Keeps the answer to a need. An `Err` becomes the error of the evaluation.
    pub fn add(&mut self, need: Need, answer: Result<String, String>) {
        let Need::HashFiles(patterns) = need;
        self.hashes.push((patterns, answer));
    }

    pub(crate) fn hash(&self, patterns: &[String]) -> Option<&Result<String, String>> {
        self.hashes.iter().find(|(known, _)| known == patterns).map(|(_, answer)| answer)
    }
}

static NO_ANSWERS: Answers = Answers::new();

/// Everything one evaluation reads.
///
/// ```
/// use workflows::{Contexts, JobStatus, Scope};
/// let contexts = Contexts::new();
/// let scope = Scope::new(&contexts).status(&JobStatus::Failure);
/// # let _ = scope;
/// ```
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    pub(crate) contexts: &'a Contexts,
    pub(crate) status: Option<&'a dyn StatusFunctions>,
    pub(crate) answers: &'a Answers,
    pub(crate) strict: bool,
}

impl std::fmt::Debug for Scope<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Scope").field("contexts", self.contexts).finish_non_exhaustive()
    }
}

impl<'a> Scope<'a> {
    /// A scope with contexts only: status functions behave as in a job in which all went well,
    /// known contexts that are not set are null.
    pub const fn new(contexts: &'a Contexts) -> Self {
        Self { contexts, status: None, answers: &NO_ANSWERS, strict: false }
    }

    /// Lets the status functions answer from `status`.
    #[must_use]
    pub const fn status(self, status: &'a dyn StatusFunctions) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Gives answers to needs of an earlier try.
    #[must_use]
    pub const fn answers(self, answers: &'a Answers) -> Self {
        Self { answers, ..self }
    }

    /// Makes reading a context that is not set an error, even one that the language knows.
    #[must_use]
    pub const fn strict(self) -> Self {
        Self { strict: true, ..self }
    }
}
