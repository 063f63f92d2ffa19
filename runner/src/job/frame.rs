//! Where a step stands: in the job itself or inside a composite action, with the scope that belongs to it.

use std::sync::Arc;

use workflows::{JobStatus, Step, StepKind, Value};

use super::state::{EnvMap, StepScope};
use crate::{
    action::{Actions, LoadedAction, Origin, Reference, ReferenceError},
    report::Conclusion,
};

/// The scope of a run of steps.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// Finished steps of this scope.
    pub(crate) steps: StepScope,
    /// The inputs of a composite action; `None` in the job, whose inputs are the workflow's.
    pub(crate) inputs: Option<Value>,
    /// `env` of the enclosing composite steps.
    pub(crate) overlay: EnvMap,
    /// The composite action whose steps these are.
    pub(crate) action: Option<Arc<LoadedAction>>,
    /// How the composite's own steps went.
    pub(crate) status: JobStatus,
    /// Steps of this scope whose action has begun and has a post stage.
    pub(crate) posts: Vec<Arc<Planned>>,
    /// The steps of this scope.
    pub(crate) planned: Vec<Arc<Planned>>,
}

/// A step as it will be run.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Unique in the job: `2`, or `2/0` inside a composite action.
    pub(crate) key: String,
    /// The index of the outer step in the payload.
    pub(crate) index: usize,
    /// What the file says.
    pub(crate) step: Step,
    /// `github.action`: the id, or a name made from what the step does.
    pub(crate) context_name: String,
    /// What a `uses` means.
    pub(crate) uses: Option<Result<Uses, ReferenceError>>,
}

/// A followed `uses`.
#[derive(Debug, Clone)]
pub(crate) enum Uses {
    /// An image.
    Image(String),
    /// A folder of the workspace, read when the step is reached.
    Local(String),
    /// An action that is here already.
    Loaded(Arc<LoadedAction>),
    /// `actions/checkout` of the repository at hand, when that is a local folder.
    WorkingTree,
}

impl Frame {
    /// Whether this is the job's own scope.
    pub(crate) const fn is_job(&self) -> bool {
        self.action.is_none()
    }

    /// The steps whose action has begun and has a post stage, last step first. GitHub counts from the begin of an
    /// action's *pre* stage; Gitea's runner goes by the order of the steps, and so does this one.
    pub(crate) fn posts_in_order(&self) -> Vec<Arc<Planned>> {
        let registered = |planned: &&Arc<Planned>| self.posts.iter().any(|post| Arc::ptr_eq(post, planned));
        self.planned.iter().rev().filter(registered).cloned().collect()
    }

    /// Lets the result of an inner step count in its composite.
    pub(crate) fn count(&mut self, conclusion: Conclusion) {
        if conclusion == Conclusion::Failure && self.status == JobStatus::Success {
            self.status = JobStatus::Failure;
        }
    }
}

/// Plans the steps of one scope. `texts` gives the text of each `uses`, interpolated where that is allowed.
pub(crate) fn plan_steps(
    steps: &[Step],
    path: &str,
    outer: Option<usize>,
    texts: &[Option<String>],
    actions: &Actions,
    origin: &Origin,
) -> Vec<Arc<Planned>> {
    let mut names: Vec<String> = Vec::new();
    let mut planned = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let text = texts.get(index).cloned().flatten();
        let uses = text.map(|text| {
            Ok(match Reference::parse(&text)? {
                Reference::Docker(image) => Uses::Image(image),
                Reference::Local(path) => Uses::Local(path),
                reference if actions.working_tree && is_checkout(&reference, step) => Uses::WorkingTree,
                remote => Uses::Loaded(actions.get(&remote, origin)?),
            })
        });
        let context_name =
            step.id.as_ref().map_or_else(|| unique_name(step, &mut names), |id| id.value.clone());
        planned.push(Arc::new(Planned {
            key: if path.is_empty() { index.to_string() } else { format!("{path}/{index}") },
            index: outer.unwrap_or(index),
            step: step.clone(),
            context_name,
            uses,
        }));
    }
    planned
}

/// Whether a step checks out the repository of the workflow itself.
pub(crate) fn is_checkout(reference: &Reference, step: &Step) -> bool {
    let Reference::Remote(remote) = reference else { return false };
    let StepKind::Uses { with, .. } = &step.kind else { return false };
    remote.name().eq_ignore_ascii_case("actions/checkout")
        && remote.path.is_empty()
        && with.as_ref().is_none_or(|with| with.get("repository").is_none())
}

/// GitHub's name of a step without id: `__run`, `__owner_repo`, with `_2` and so on when it comes again.
fn unique_name(step: &Step, names: &mut Vec<String>) -> String {
    let base = match &step.kind {
        StepKind::Uses { uses, .. } => match Reference::parse(uses.raw()) {
            Ok(Reference::Remote(remote)) => format!("__{}_{}", remote.owner, remote.repository),
            Ok(Reference::Docker(image)) => format!("__{image}"),
            _ => "__self".to_owned(),
        },
        _ => "__run".to_owned(),
    };
    let base: String = base
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' })
        .collect();
    let mut name = base.clone();
    let mut number = 1;
    while names.contains(&name) {
        number += 1;
        name = format!("{base}_{number}");
    }
    names.push(name.clone());
    name
}
