//! What workflow files and `action.yml` say: one noun per file, spanned and unevaluated.
//!
//! Scalars that may contain expressions are [`Template`]s, `if`s are [`Condition`]s, both parsed already.
//! The readers beside the nouns turn YAML nodes into them and report what does not fit.

mod action;
mod container;
pub(crate) mod events;
mod job;
mod reader;
mod step;
mod trigger;
mod workflow;

pub use action::{Action, ActionInput, ActionOutput, Runs, parse_action, parse_action_with};
pub use container::{Container, Credentials, Service};
pub use job::{
    Concurrency, Environment, Job, Permissions, RunDefaults, RunsOn, Snapshot, Strategy, WorkflowCall,
    WorkflowSecrets,
};
pub use reader::{Mode, Parsed};
pub use step::{Step, StepKind};
pub use trigger::{CallOutput, CallSecret, Filter, Input, InputKind, Schedule, Trigger, Triggers};
pub use workflow::{Workflow, parse_payload, parse_workflow, parse_workflow_with};

use crate::expr::{Condition, Template, TemplateMap, TemplateNode};
