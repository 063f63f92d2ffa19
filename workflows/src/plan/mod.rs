//! From an event and a workflow to jobs that can be run: what a server does before a runner sees a job.
//!
//! [`matches()`] says whether an event starts a workflow. A [`Run`] then walks the graph of jobs: it
//! evaluates job-level `if`s, expands matrices, resolves reusable workflows and hands out
//! [`PlannedJob`]s as their needs end. It does no I/O: files it wants come out as
//! [`Step::Fetch`], results go in with [`Run::finish`]. The payload of a server, which holds one job, goes
//! through the same code.

mod glob;
mod graph;
mod inputs;
mod matrix;
mod payload;
mod planned;
mod reference;
mod run;
mod trigger;

pub use glob::{Glob, passes};
pub(crate) use glob::{GlobKind, check as check_glob};
pub(crate) use graph::check_needs;
pub use graph::{Ancestors, JobResult, NeedResult};
pub use inputs::{inputs_as_given, resolve_inputs};
pub use matrix::{MAX_COMBINATIONS, expand_matrix, leg_name};
pub use planned::{ConcurrencyGroup, JobKey, PlannedJob, Step, WorkflowRequest};
pub use reference::{RemoteWorkflow, WorkflowReference};
pub use run::{MAX_CALL_DEPTH, Run, RunOptions};
pub use trigger::{Event, Match, matches};
