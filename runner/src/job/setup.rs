//! What happens and what is said before the first step.

use workflows::{Contexts, JobStatus, Scope, StepKind, Value};

use super::{
    frame::{Frame, is_checkout, plan_steps},
    steps::JobRun,
};
use crate::{
    action::{ActionStore, Actions, Reference},
    assignment::Assignment,
    backend::JobEnv,
    label::Label,
    log::JobLog,
};

/// The display names of the job's steps, as far as they can be known now.
pub(super) fn step_names(work: &Assignment, contexts: &Contexts) -> Vec<String> {
    let scope = Scope::new(contexts);
    let steps = work.job().steps.iter().map(|step| match &step.name {
        Some(name) => name.eval_string(&scope).unwrap_or_else(|_| name.raw().to_owned()),
        None => step.default_name(),
    });
    steps.collect()
}

/// The first rows of "Set up job".
pub(super) async fn rows(work: &Assignment, log: &JobLog) {
    let runner = &work.runner;
    let word = |key: &str| work.github.get(key).map(Value::to_text).unwrap_or_default();
    let labels: Vec<&str> = runner.labels.iter().map(Label::name).collect();
    let mut text = format!(
        "{} (version: {})\n##[group]Runner Information\nRunner labels: {}\nTask: {}\nJob: {}\nRepository: {}\nTriggered by event: {}\n##[endgroup]",
        runner.name,
        runner.version,
        labels.join(", "),
        work.task,
        work.display_name,
        word("repository"),
        word("event_name"),
    );
    let inputs = work.inputs.as_object().filter(|inputs| !inputs.is_empty());
    if let Some(inputs) = inputs {
        text.push_str("\n##[group]Inputs");
        for (name, value) in inputs.iter() {
            text.push_str(&format!("\n  {name}: {}", value.to_text()));
        }
        text.push_str("\n##[endgroup]");
    }
    log.row(&text).await;
    for warning in log.masker().warnings() {
        log.warning(&warning).await;
    }
}

/// Whether the steps of this job are to be debugged.
pub(super) fn is_debug(work: &Assignment) -> bool {
    let secret =
        work.secrets.iter().find(|(name, _)| name == "ACTIONS_STEP_DEBUG").map(|(_, value)| value.expose());
    let variable = work.vars.iter().find(|(name, _)| name == "ACTIONS_STEP_DEBUG").map(|(_, value)| value);
    secret.or(variable).is_some_and(|value| value.trim().eq_ignore_ascii_case("true") || value.trim() == "1")
}

/// Variables that tell a workflow which runner it is on: in the `env` context too, as with the official runner
/// (`if: ${{ !env.ACT }}`).
pub(super) fn markers(work: &Assignment) -> Vec<(&'static str, &str)> {
    let mut markers =
        vec![("GITEA_ACTIONS", "true"), ("GITEA_ACTIONS_RUNNER_VERSION", work.runner.version.as_str())];
    if work.runner.config.set_act_env {
        markers.push(("ACT", "true"));
    }
    markers
}

/// Variables that the runner sets beside the contexts' own.
pub(super) fn services(work: &Assignment) -> Vec<(String, String)> {
    let mut services: Vec<(String, String)> =
        work.services.iter().map(|(name, value)| (name.clone(), value.expose().clone())).collect();
    let mut add = |name: &str, value: &str| services.push((name.to_owned(), value.to_owned()));
    for (name, value) in markers(work) {
        add(name, value);
    }
    if !work.runner.capabilities.is_empty() {
        add("GITEA_ACTIONS_CAPABILITIES", &work.runner.capabilities);
    }
    add("RUNNER_PERFLOG", "/dev/null");
    services
}

/// Fetches and reads everything that the job uses. Besides: the text of each step's `uses`, interpolated.
pub(super) async fn actions(
    work: &Assignment,
    store: &ActionStore,
    log: &JobLog,
    contexts: &Contexts,
) -> Result<(Actions, Texts), String> {
    let (references, texts) = references(work, contexts)?;
    let mut actions = Actions::new(&work.source, work.working_tree.is_some());
    actions.add(&references, &work.origin(), store, log).await.map_err(|error| error.to_string())?;
    Ok((actions, texts))
}

type Texts = Vec<Option<String>>;

/// What the steps use, and the text of each `uses`.
fn references(work: &Assignment, contexts: &Contexts) -> Result<(Vec<Reference>, Texts), String> {
    let status = JobStatus::Success;
    let scope = Scope::new(contexts).status(&status);
    let mut texts = Vec::with_capacity(work.job().steps.len());
    let mut references = Vec::new();
    let working_tree = work.working_tree.is_some();
    for step in &work.job().steps {
        let StepKind::Uses { uses, .. } = &step.kind else {
            texts.push(None);
            continue;
        };
        let text = uses
            .eval_string(&scope)
            .map_err(|error| format!("`uses: {}` cannot be evaluated: {error}", uses.raw()))?;
        let reference = Reference::parse(&text).map_err(|error| error.to_string())?;
        if !(working_tree && is_checkout(&reference, step)) {
            references.push(reference);
        }
        texts.push(Some(text));
    }
    Ok((references, texts))
}

impl<E: JobEnv> JobRun<'_, E> {
    /// Evaluates what holds for the whole job and plans its steps. The error is a sentence.
    pub(super) async fn open_job(&mut self, uses: &[Option<String>]) -> Result<Frame, String> {
        let work = self.work;
        for (what, map) in [("workflow", &work.workflow().env), ("job", &work.job().env)] {
            let Some(map) = map else { continue };
            let contexts = self.contexts(&Frame::default(), &self.state.env, None);
            let status = self.status_of_job();
            let values = self
                .answered(&contexts, &status, |scope| map.eval_strings(scope))
                .await
                .map_err(|error| format!("The {what}'s env cannot be evaluated: {error}"))?;
            self.state.env.extend(values.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
        let contexts = self.contexts(&Frame::default(), &self.state.env, None);
        let status = self.status_of_job();
        for defaults in [&work.workflow().defaults, &work.job().defaults].into_iter().flatten() {
            let (shell, directory) = self
                .answered(&contexts, &status, |scope| defaults.eval(scope))
                .await
                .map_err(|error| format!("defaults.run cannot be evaluated: {error}"))?;
            // The job's own win over those of the workflow, each by itself.
            self.run_defaults.0 = shell.or_else(|| self.run_defaults.0.take());
            self.run_defaults.1 = directory.or_else(|| self.run_defaults.1.take());
        }
        let planned = plan_steps(&work.job().steps, "", None, uses, &self.actions, &work.origin());
        Ok(Frame { planned, ..Frame::default() })
    }
}
