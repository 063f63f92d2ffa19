//! Which contexts and functions are available under which key: GitHub's table.

use crate::context::Context::{
    self, Env, Github, Inputs, Job, Jobs, Matrix, Needs, Runner, Secrets, Steps, Strategy, Vars,
};
use crate::expr::Function;

/// A key of workflow or action syntax at which expressions may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    RunName,
    WorkflowConcurrency,
    WorkflowEnv,
    JobIf,
    JobStrategy,
    /// `name`, `runs-on`, `container`, `services`, `concurrency`, `environment` and the like.
    JobKey,
    EnvironmentUrl,
    Credentials,
    ContainerEnv,
    JobEnv,
    JobDefaults,
    JobOutputs,
    SnapshotIf,
    CallWith,
    CallSecrets,
    StepIf,
    StepKey,
    /// Where GitHub takes no expression at all.
    Nowhere,
    CallOutputValue,
    CallInputDefault,
    ActionInputDefault,
    ActionDocker,
    CompositeIf,
    CompositeStep,
    CompositeOutput,
}

impl Place {
    /// The key, for messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RunName => "run-name",
            Self::WorkflowConcurrency => "concurrency",
            Self::WorkflowEnv => "env of the workflow",
            Self::JobIf => "if of a job",
            Self::JobStrategy => "strategy",
            Self::JobKey => "this key of a job",
            Self::EnvironmentUrl => "environment.url",
            Self::Credentials => "credentials",
            Self::ContainerEnv => "env of a container",
            Self::JobEnv => "env of a job",
            Self::JobDefaults => "defaults.run of a job",
            Self::JobOutputs => "outputs of a job",
            Self::SnapshotIf => "if of a snapshot",
            Self::CallWith => "with of a reusable workflow",
            Self::CallSecrets => "secrets of a reusable workflow",
            Self::StepIf => "if of a step",
            Self::StepKey => "a step",
            Self::Nowhere => "this key",
            Self::CallOutputValue => "value of a workflow_call output",
            Self::CallInputDefault => "default of a workflow_call input",
            Self::ActionInputDefault => "default of an action's input",
            Self::ActionDocker => "args and env of a docker action",
            Self::CompositeIf => "if of a composite action's step",
            Self::CompositeStep => "a composite action's step",
            Self::CompositeOutput => "value of a composite action's output",
        }
    }

    /// The contexts that can be read there.
    pub(crate) const fn contexts(self) -> &'static [Context] {
        match self {
            Self::RunName | Self::WorkflowConcurrency | Self::CallInputDefault => &[Github, Inputs, Vars],
            Self::WorkflowEnv => &[Github, Secrets, Inputs, Vars],
            Self::JobIf | Self::JobStrategy => &[Github, Needs, Vars, Inputs],
            Self::JobKey | Self::CallWith | Self::SnapshotIf => {
                &[Github, Needs, Strategy, Matrix, Vars, Inputs]
            }
            Self::EnvironmentUrl => &[Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Steps, Inputs],
            Self::Credentials => &[Github, Needs, Strategy, Matrix, Env, Vars, Secrets, Inputs],
            Self::ContainerEnv => {
                &[Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Secrets, Inputs, Steps]
            }
            Self::JobEnv | Self::CallSecrets => &[Github, Needs, Strategy, Matrix, Vars, Secrets, Inputs],
            Self::JobDefaults => &[Github, Needs, Strategy, Matrix, Env, Vars, Inputs],
            Self::JobOutputs | Self::StepKey => {
                &[Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Secrets, Steps, Inputs]
            }
            Self::StepIf => &[Github, Needs, Strategy, Matrix, Job, Runner, Env, Vars, Steps, Inputs],
            Self::Nowhere => &[],
            Self::CallOutputValue => &[Github, Jobs, Vars, Inputs],
            Self::ActionInputDefault => &[Github, Strategy, Matrix, Job, Runner],
            Self::ActionDocker => &[Inputs],
            Self::CompositeIf | Self::CompositeStep | Self::CompositeOutput => {
                &[Github, Inputs, Strategy, Matrix, Steps, Job, Runner, Env]
            }
        }
    }

    /// Whether a function can be called there.
    pub(crate) const fn allows(self, function: Function) -> bool {
        if function.is_status() {
            return matches!(self, Self::JobIf | Self::StepIf | Self::CompositeIf);
        }
        match function {
            Function::HashFiles => matches!(
                self,
                Self::StepIf
                    | Self::StepKey
                    | Self::CompositeIf
                    | Self::CompositeStep
                    | Self::ActionInputDefault
            ),
            _ => true,
        }
    }
}
