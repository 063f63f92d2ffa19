//! What a [`super::Run`] hands out.

use super::graph::JobResult;
use super::reference::{RemoteWorkflow, WorkflowReference};
use crate::context::Contexts;
use crate::expr::{Object, Value};
use crate::model::{Job, Workflow};

/// Identity of a planned job within its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey(pub(crate) usize);

impl JobKey {
    /// A number that no other job of the run has, from 0 in order of planning.
    pub const fn number(self) -> usize {
        self.0
    }
}

/// What a run wants done next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Run this job, then call [`super::Run::finish`].
    Start(Box<PlannedJob>),
    /// Read this workflow, then call [`super::Run::answer`].
    Fetch(WorkflowRequest),
    /// A job ended without running.
    Skipped {
        /// Its display name.
        name: String,
        /// Its id.
        job_id: String,
        /// Skipped, or cancelled before it began.
        result: JobResult,
    },
    /// A job ended because it could not be planned.
    Failed {
        /// Its display name.
        name: String,
        /// Its id.
        job_id: String,
        /// Why, in one sentence.
        message: String,
    },
    /// `fail-fast`: cancel this running job; it still has to be finished.
    Cancel(JobKey),
}

/// A reusable workflow that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowRequest {
    /// Number to answer under.
    pub number: usize,
    /// What `uses` says.
    pub reference: WorkflowReference,
    /// The remote workflow that says it; a local path is in that repository and commit. `None` when the
    /// run's own repository says it.
    pub from: Option<RemoteWorkflow>,
}

/// An evaluated `concurrency`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConcurrencyGroup {
    /// `group`
    pub group: String,
    /// `cancel-in-progress`
    pub cancel_in_progress: bool,
}

/// One job to run: one leg of a matrix, with everything a server knows about it.
#[derive(Debug, Clone)]
pub struct PlannedJob {
    /// Its identity.
    pub key: JobKey,
    /// Display name, callers' names before it: `deploy / test (linux, 18)`.
    pub name: String,
    /// Labels of `runs-on`.
    pub runs_on: Vec<String>,
    /// The workflow with this job alone and its needs erased.
    pub workflow: Workflow,
    /// The combination of the matrix; empty without one.
    pub matrix: Object,
    /// `strategy` context: `fail-fast`, `job-index`, `job-total`, `max-parallel`.
    pub strategy: Value,
    /// `needs` context.
    pub needs: Value,
    /// `inputs` context.
    pub inputs: Value,
    /// `github` context.
    pub github: Value,
    /// `vars` context.
    pub vars: Value,
    /// `secrets` context.
    pub secrets: Value,
    /// Whether a failure counts as success.
    pub continue_on_error: bool,
    /// The job's own concurrency group.
    pub concurrency: Option<ConcurrencyGroup>,
    /// `uses` of the callers, outermost first.
    pub callers: Vec<WorkflowReference>,
}

impl PlannedJob {
    /// The job itself.
    pub fn job(&self) -> &Job {
        &self.workflow.jobs[0]
    }

    /// The contexts that a server knows before the job starts; `env`, `job`, `runner` and `steps` are the runner's.
    pub fn contexts(&self) -> Contexts {
        Contexts::new()
            .with("github", self.github.clone())
            .with("vars", self.vars.clone())
            .with("secrets", self.secrets.clone())
            .with("inputs", self.inputs.clone())
            .with("needs", self.needs.clone())
            .with("strategy", self.strategy.clone())
            .with("matrix", Value::object(self.matrix.clone()))
    }

    /// The single-job workflow as YAML, in the form in which Gitea hands it to runners.
    pub fn payload(&self) -> String {
        super::payload::write(self)
    }
}
