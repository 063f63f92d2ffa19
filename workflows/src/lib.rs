//! The workflow language of GitHub and Gitea Actions, pure: no I/O, no clock, no environment.
//!
//! | module | owns |
//! |---|---|
//! | [`yaml`] | YAML as a tree in which every node knows its place, bounded |
//! | [`model`] | workflows and `action.yml`: spanned, unevaluated nouns |
//! | [`expr`] | expressions, templates, conditions: parsed once, evaluated often |
//! | [`plan`] | events, the graph of jobs, matrices, reusable workflows, concurrency |
//! | [`commands`], [`command_files`] | what steps print and write to talk to their runner |
//!
//! A text becomes a [`SourceFile`], that a [`Workflow`] with [`Diagnostic`]s; expressions in it are
//! evaluated against [`Contexts`] in a [`Scope`].
//!
//! ```
//! use workflows::{Contexts, JobStatus, Scope, SourceFile, parse_payload};
//! let source = SourceFile::new("ci.yml", "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: echo ${{ github.actor }}\n");
//! let workflow = parse_payload(&source).into_result().expect("valid");
//! let contexts = Contexts::new().with("github", serde_json::json!({"actor": "mona"}));
//! let scope = Scope::new(&contexts).status(&JobStatus::Success);
//! let script = workflow.jobs[0].steps[0].script().expect("a run step");
//! assert_eq!(script.eval_string(&scope).unwrap(), "echo mona");
//! ```

mod check;
pub mod command_files;
pub mod commands;
pub mod context;
pub mod diagnostic;
pub mod expr;
mod lint;
pub mod model;
pub mod plan;
mod render;
pub mod shell;
pub mod source;
mod suggest;
pub mod yaml;

pub use check::Files;
pub use context::{Context, ContextName, Contexts};
pub use diagnostic::{Code, Diagnostic, Severity};
pub use expr::{
    Answers, CompositeStatus, Condition, EvalError, Evaluated, Expression, Function, JobStatus, Need, Object,
    Scope, StatusFunctions, SyntaxError, SyntaxErrorKind, Template, TemplateMap, TemplateNode, Value,
    with_answers,
};
pub use lint::{FileKind, LintOptions, lint};
pub use model::{
    Action, ActionInput, ActionOutput, CallOutput, CallSecret, Concurrency, Container, Credentials,
    Environment, Filter, Input, InputKind, Job, Mode, Parsed, Permissions, RunDefaults, Runs, RunsOn,
    Schedule, Service, Snapshot, Step, StepKind, Strategy, Trigger, Triggers, Workflow, WorkflowCall,
    WorkflowSecrets, parse_action, parse_action_with, parse_payload, parse_workflow, parse_workflow_with,
};
pub use render::{Colour, render, render_line};
pub use source::{Position, SourceFile, Span, Spanned};
