//! Checks across nouns: what a file says as a whole, after every noun has been read.
//!
//! Errors are what GitHub's parser refuses or no runner can run; all else is a warning.

mod actions;
mod calls;
mod contexts;
mod cron;
mod expressions;
mod infer;
mod jobs;
mod labels;
mod matrix;
mod permissions;
mod place;
mod scripts;
mod steps;
mod triggers;
mod types;
mod untrusted;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Action, Runs, Trigger, Workflow};
use crate::plan::check_needs;
use crate::source::{SourceFile, Span};

use contexts::Known;
use expressions::Use;
use place::Place;
use types::Type;

/// Files beside the one that is checked. Pure: the caller reads, or says there is nothing.
pub trait Files {
    /// The text of a reusable workflow; `None` when it cannot be had.
    fn workflow(&self, reference: &crate::plan::WorkflowReference) -> Option<SourceFile>;
    /// The `action.yml` of a local action (`./path`); `None` when it cannot be had.
    fn action(&self, path: &str) -> Option<SourceFile>;
    /// Whether a local file that is not found is missing for certain.
    fn is_complete(&self) -> bool {
        false
    }
}

/// Collects findings of one file.
pub(crate) struct Checker<'a> {
    pub(crate) source: &'a SourceFile,
    pub(crate) files: Option<&'a dyn Files>,
    pub(crate) labels: &'a [String],
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(source: &'a SourceFile, files: Option<&'a dyn Files>, labels: &'a [String]) -> Self {
        Self { source, files, labels, diagnostics: Vec::new() }
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn error(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::error(code, span, message));
    }

    fn warn(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::warning(code, span, message));
    }

    /// Everything about a workflow that needs more than one noun.
    pub(crate) fn workflow(mut self, workflow: &Workflow) -> Vec<Diagnostic> {
        triggers::check(&mut self, workflow);
        for finding in check_needs(workflow) {
            self.push(finding);
        }
        let mut known = Known::of_workflow(workflow);
        self.workflow_keys(workflow, &mut known);
        for job in &workflow.jobs {
            jobs::check(&mut self, workflow, job, &mut known);
        }
        self.diagnostics
    }

    fn workflow_keys(&mut self, workflow: &Workflow, known: &mut Known) {
        self.optional(workflow.run_name.as_ref(), Place::RunName, Use::Text, known);
        if let Some(concurrency) = &workflow.concurrency {
            self.optional(concurrency.group.as_ref(), Place::WorkflowConcurrency, Use::Text, known);
            self.optional(
                concurrency.cancel_in_progress.as_ref(),
                Place::WorkflowConcurrency,
                Use::Bool,
                known,
            );
        }
        self.map(workflow.env.as_ref(), Place::WorkflowEnv, known);
        jobs::check_env_names(self, workflow.env.as_ref());
        if let Some(defaults) = &workflow.defaults {
            self.optional(defaults.shell.as_ref(), Place::Nowhere, Use::Text, known);
            self.optional(defaults.working_directory.as_ref(), Place::Nowhere, Use::Text, known);
            steps::check_shell(self, defaults.shell.as_ref(), None);
        }
        if let Some(permissions) = &workflow.permissions {
            permissions::check(self, permissions);
        }
        let Some(call) = workflow.on.get("workflow_call") else { return };
        self.call_defaults(call, known);
        let outputs = workflow.jobs.iter().map(|job| {
            let entry = Type::closed(vec![
                ("result".into(), Type::String),
                ("outputs".into(), calls::outputs_of_job(self.files, job)),
            ]);
            (job.id.value.as_str().into(), entry)
        });
        known.jobs = Type::closed(outputs.collect());
        for output in &call.outputs {
            self.optional(output.value.as_ref(), Place::CallOutputValue, Use::Text, known);
        }
    }

    /// The default of an input sees the inputs before it.
    fn call_defaults(&mut self, call: &Trigger, known: &Known) {
        let mut known = Known { inputs: Type::closed(Vec::new()), ..known.clone() };
        for input in &call.inputs {
            self.optional(input.default.as_ref(), Place::CallInputDefault, Use::Input(input.kind), &known);
            known.add_input(input);
        }
    }

    /// Everything about an action that needs more than one noun.
    pub(crate) fn action(mut self, action: &Action) -> Vec<Diagnostic> {
        let mut known = Known {
            github: contexts::any_github(),
            inputs: Type::closed(
                action.inputs.iter().map(|input| (input.name.value.as_str().into(), Type::String)).collect(),
            ),
            secrets: Type::Any,
            matrix: Type::Any,
            needs: Type::Any,
            steps: Type::closed(Vec::new()),
            jobs: Type::Any,
        };
        for input in &action.inputs {
            self.optional(input.default.as_ref(), Place::ActionInputDefault, Use::Text, &known);
        }
        match &action.runs {
            Runs::Composite { steps: list } => {
                steps::check(&mut self, list, &mut known, Place::CompositeStep, None);
                for output in &action.outputs {
                    if let Some(value) = &output.value {
                        self.template(value, Place::CompositeOutput, Use::Text, &known);
                    } else {
                        let message = format!(
                            "output '{}' of a composite action lacks the required key 'value'",
                            output.name.value
                        );
                        self.error(Code::MissingKey, output.name.span, message);
                    }
                }
            }
            Runs::Docker { args, env, .. } => {
                for argument in args.iter().flatten() {
                    self.template(argument, Place::ActionDocker, Use::Text, &known);
                }
                self.map(env.as_ref(), Place::ActionDocker, &known);
            }
            Runs::Node { .. } | Runs::Go { .. } => {}
        }
        self.diagnostics
    }
}
