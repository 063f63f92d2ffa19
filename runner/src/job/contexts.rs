//! The contexts that expressions see, built from the assignment, the place and the state.

use workflows::{
    Answers, CompositeStatus, Contexts, EvalError, JobStatus, Need, Object, Scope, StatusFunctions, Value,
};

use super::{
    effects::CommandFiles,
    frame::{Frame, Planned},
    state::EnvMap,
    steps::JobRun,
};
use crate::{
    assignment::Assignment,
    backend::{JobEnv, Layout},
    step::shell::DefaultShell,
};

/// How status functions answer in some scope.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Status {
    /// At the level of the job.
    Job(JobStatus),
    /// Inside a composite action.
    Composite(CompositeStatus),
}

impl StatusFunctions for Status {
    fn success(&self, jobs: &[String]) -> bool {
        match self {
            Self::Job(status) => status.success(jobs),
            Self::Composite(status) => status.success(jobs),
        }
    }

    fn failure(&self, jobs: &[String]) -> bool {
        match self {
            Self::Job(status) => status.failure(jobs),
            Self::Composite(status) => status.failure(jobs),
        }
    }

    fn cancelled(&self) -> bool {
        match self {
            Self::Job(status) => status.cancelled(),
            Self::Composite(status) => status.cancelled(),
        }
    }
}

/// The contexts that hold before there is a place: what `if`, `container`, `env` and `uses` of a job may read.
pub(crate) fn before_place(work: &Assignment) -> Contexts {
    let mut contexts = Contexts::new();
    contexts
        .set("github", Value::object(work.github.clone()))
        .set("vars", strings(work.vars.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
        .set(
            "secrets",
            strings(work.secrets.iter().map(|(name, value)| (name.as_str(), value.expose().as_str()))),
        )
        .set("needs", work.needs_value())
        .set("strategy", work.strategy.clone())
        .set("matrix", work.matrix.clone())
        .set("inputs", work.inputs.clone());
    contexts
}

/// Adds what is known once there is a place.
pub(crate) fn in_place(work: &Assignment, layout: &Layout, debug: bool) -> Contexts {
    let mut contexts = before_place(work);
    let mut github = work.github.clone();
    github.insert("workspace", layout.workspace.as_str());
    github.insert("event_path", event_path(layout));
    contexts.set("github", Value::object(github));
    contexts.set("runner", runner_value(work, layout, debug));
    contexts
}

/// Where the event's payload is inside the place.
pub(crate) fn event_path(layout: &Layout) -> String {
    format!("{}/_github_workflow/event.json", layout.temp)
}

fn runner_value(work: &Assignment, layout: &Layout, debug: bool) -> Value {
    let mut runner = Object::new();
    runner.insert("os", layout.os);
    runner.insert("arch", layout.arch);
    runner.insert("name", work.runner.name.as_str());
    runner.insert("environment", "self-hosted");
    runner.insert("temp", layout.temp.as_str());
    runner.insert("tool_cache", layout.tool_cache.as_str());
    let parent = layout.workspace.rsplit_once('/').map_or("/", |(parent, _)| parent);
    runner.insert("workspace", if parent.is_empty() { "/" } else { parent });
    if debug {
        runner.insert("debug", "1");
    }
    Value::object(runner)
}

/// `job`: status, container and services. `container` is there, as at GitHub, when the workflow asked for one: a label's
/// image does not count, so that `job.container && 'sh' || 'bash'` is right in both.
fn job_value(layout: &Layout, status: JobStatus, declared: bool) -> Value {
    let mut job = Object::new();
    job.insert("status", status.as_str());
    if declared {
        let mut container = Object::new();
        container.insert("id", layout.container_id.as_str());
        container.insert("network", layout.network.as_str());
        job.insert("container", Value::object(container));
    }
    let services = layout.services.iter().map(|(id, facts)| {
        let mut service = Object::new();
        service.insert("id", facts.id.as_str());
        service.insert("network", facts.network.as_str());
        service.insert(
            "ports",
            strings(facts.ports.iter().map(|(inside, outside)| (inside.as_str(), outside.as_str()))),
        );
        (id.as_str(), Value::object(service))
    });
    job.insert("services", Value::object(services.collect()));
    Value::object(job)
}

fn strings<'s>(entries: impl Iterator<Item = (&'s str, &'s str)>) -> Value {
    Value::object(entries.collect())
}

impl<E: JobEnv> JobRun<'_, E> {
    /// The contexts of a step, or of a scope when no step is given.
    pub(crate) fn contexts(
        &self,
        frame: &Frame,
        env: &EnvMap,
        step: Option<(&Planned, &CommandFiles)>,
    ) -> Contexts {
        let mut contexts = self.base.clone();
        let mut github = contexts.get("github").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some((planned, files)) = step {
            github.insert("action", planned.context_name.as_str());
            // Empty, not missing, where no remote action runs: some actions look for the variables.
            github.insert("action_repository", "");
            github.insert("action_ref", "");
            for (key, path) in files.context() {
                github.insert(key, path);
            }
        }
        if let Some(action) = &frame.action {
            github.insert("action_path", action.folder(self.place.layout()));
            github.insert("action_status", frame.status.as_str());
            if let Some((repository, git_ref)) = action.remote() {
                github.insert("action_repository", repository);
                github.insert("action_ref", git_ref);
            }
            // What a composite action is to know comes through its inputs.
            contexts.remove("secrets");
            contexts.remove("needs");
            contexts.remove("vars");
        }
        contexts.set("github", Value::object(github));
        if let Some(inputs) = &frame.inputs {
            contexts.set("inputs", inputs.clone());
        }
        contexts.set("env", env.to_value());
        contexts.set("steps", frame.steps.to_value());
        let declared = self.default_shell == DefaultShell::Container;
        contexts.set("job", job_value(self.place.layout(), self.state.status, declared));
        contexts
    }

    /// How status functions answer in `frame`.
    pub(crate) fn status(&self, frame: &Frame) -> Status {
        if frame.is_job() {
            self.status_of_job()
        } else {
            Status::Composite(CompositeStatus { action: frame.status, job: self.state.status })
        }
    }

    /// How status functions answer at the level of the job.
    pub(crate) fn status_of_job(&self) -> Status {
        Status::Job(self.state.status)
    }

    /// The environment of `frame`: the job's, under what the enclosing steps say.
    pub(crate) fn frame_env(&self, frame: &Frame) -> EnvMap {
        let mut env = self.state.env.clone();
        env.extend(frame.overlay.iter());
        env
    }

    /// Evaluates, asking the place for hashes of files where they are needed.
    pub(crate) async fn answered<T>(
        &self,
        contexts: &Contexts,
        status: &Status,
        evaluate: impl Fn(&Scope<'_>) -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        let mut answers = Answers::new();
        loop {
            let result = evaluate(&Scope::new(contexts).status(status).answers(&answers));
            let Err(EvalError::Need(need)) = result else { return result };
            let Need::HashFiles(patterns) = &need;
            let mut patterns = patterns.clone();
            let follow = patterns.first().is_some_and(|first| first == "--follow-symbolic-links");
            if follow {
                patterns.remove(0);
            }
            let answer = match patterns.iter().find(|pattern| pattern.starts_with("--")) {
                Some(option) => Err(format!("hashFiles knows no option {option}")),
                None => self.place.hash_files(patterns, follow).await.map_err(|error| error.to_string()),
            };
            answers.add(need, answer);
        }
    }
}
