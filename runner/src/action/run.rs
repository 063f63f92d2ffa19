//! Runs one stage of an action, whatever its kind.

use std::sync::Arc;

use workflows::{Contexts, Object, Runs, StepKind, TemplateMap, Value};

use super::{LoadedAction, Reference, Residence, definition_names, parse_definition};
use crate::{
    backend::{Collected, FileOut, JobEnv},
    cancel::Cancel,
    job::{
        Stage,
        frame::{Frame, Planned, Uses, is_checkout},
        steps::JobRun,
    },
    report::Conclusion,
    step::{Attempt, Failed, join},
};

/// The inputs of an action with their values, in the order of its `action.yml`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Inputs(pub(crate) Vec<(String, String)>);

impl Inputs {
    /// As the `inputs` context of a composite action.
    pub(crate) fn to_value(&self) -> Value {
        let object: Object = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Value::object(object)
    }
}

/// `INPUT_*`: GitHub's name (spaces become `_`, all in upper case) and, where it differs, Gitea's (every other
/// character becomes `_`).
pub(crate) fn input_variables(inputs: &[(String, String)]) -> Vec<(String, String)> {
    let mut variables = Vec::with_capacity(inputs.len());
    for (name, value) in inputs {
        let github = name.replace(' ', "_").to_uppercase();
        let gitea: String = github
            .chars()
            .map(|c| if c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-' { c } else { '_' })
            .collect();
        if gitea != github {
            variables.push((format!("INPUT_{gitea}"), value.clone()));
        }
        variables.push((format!("INPUT_{github}"), value.clone()));
    }
    variables
}

impl<E: JobEnv> JobRun<'_, E> {
    /// The action of a step, as far as it is known yet.
    pub(crate) fn action_of(&self, planned: &Planned) -> Option<Arc<LoadedAction>> {
        match planned.uses.as_ref()?.as_ref().ok()? {
            Uses::Loaded(action) => Some(action.clone()),
            Uses::Local(_) => self.state.memory.get(&planned.key)?.loaded.clone(),
            Uses::Image(_) | Uses::WorkingTree => None,
        }
    }

    /// Runs one stage of `action` for the step `planned`.
    pub(crate) async fn run_stage(
        &mut self,
        frame: &mut Frame,
        planned: &Arc<Planned>,
        action: Arc<LoadedAction>,
        stage: Stage,
        attempt: &mut Attempt<'_>,
        cancel: Cancel,
    ) -> Result<Conclusion, Failed> {
        let memory = self.state.memory.entry(planned.key.clone()).or_default();
        if stage != Stage::Post && !memory.registered && action.stage_condition(Stage::Post).is_some() {
            memory.registered = true;
            frame.posts.push(planned.clone());
        }
        let inputs = self.inputs(frame, planned, &action, attempt.contexts, stage).await?;
        self.stage_header(planned, stage, attempt, &inputs).await;
        self.bring(&action).await?;
        match &action.definition.runs {
            Runs::Node { main, pre, post, .. } => {
                let script = match stage {
                    Stage::Pre => pre.as_deref(),
                    Stage::Main => Some(main.as_str()),
                    Stage::Post => post.as_deref(),
                };
                Box::pin(self.run_node(frame, planned, &action, script, &inputs, attempt, &cancel)).await
            }
            Runs::Go { main, pre, post, .. } => {
                let package = match stage {
                    Stage::Pre => pre.as_deref(),
                    Stage::Main => Some(main.as_str()),
                    Stage::Post => post.as_deref(),
                };
                Box::pin(self.run_go(frame, planned, &action, package, &inputs, attempt, &cancel)).await
            }
            Runs::Docker { .. } => {
                Box::pin(self.run_docker(frame, planned, &action, stage, &inputs, attempt, &cancel)).await
            }
            Runs::Composite { steps } => {
                Box::pin(self.run_composite(frame, planned, &action, steps, stage, &inputs, attempt, &cancel))
                    .await
            }
        }
    }

    /// Values of all declared inputs, and of those that were given without being declared.
    pub(crate) async fn inputs(
        &self,
        frame: &Frame,
        planned: &Planned,
        action: &LoadedAction,
        contexts: &Contexts,
        stage: Stage,
    ) -> Result<Inputs, Failed> {
        let given = match &planned.step.kind {
            StepKind::Uses { with: Some(map), .. } => self.given(frame, map, contexts).await?,
            _ => Vec::new(),
        };
        let mut inputs = Vec::new();
        let status = self.status(frame);
        // A default sees the run, not the step that left it out.
        let mut outside = contexts.clone();
        for name in ["inputs", "env", "steps", "secrets", "needs", "vars"] {
            outside.remove(name);
        }
        for declared in &action.definition.inputs {
            let name = declared.name.value.clone();
            let value =
                match (given.iter().find(|(key, _)| key.eq_ignore_ascii_case(&name)), &declared.default) {
                    (Some((_, value)), _) => {
                        if stage == Stage::Main
                            && let Some(message) = &declared.deprecation
                        {
                            self.log
                                .warning(&format!(
                                    "Input '{name}' has been deprecated with message: {message}"
                                ))
                                .await;
                        }
                        value.clone()
                    }
                    (None, Some(default)) => {
                        self.answered(&outside, &status, |scope| default.eval_string(scope)).await?
                    }
                    (None, None) => String::new(),
                };
            inputs.push((name, value));
        }
        let is_docker = matches!(action.definition.runs, Runs::Docker { .. });
        let mut unexpected = Vec::new();
        for (name, value) in given {
            if action.definition.input(&name).is_none() {
                let usual = is_docker
                    && (name.eq_ignore_ascii_case("args") || name.eq_ignore_ascii_case("entrypoint"));
                if !usual {
                    unexpected.push(format!("'{name}'"));
                }
                inputs.push((name, value));
            }
        }
        if stage == Stage::Main && !unexpected.is_empty() && action.definition.source.text().contains("runs")
        {
            let valid: Vec<String> =
                action.definition.inputs.iter().map(|input| format!("'{}'", input.name.value)).collect();
            let text = format!(
                "Unexpected input(s) {}, valid inputs are [{}]",
                unexpected.join(", "),
                valid.join(", ")
            );
            self.log.warning(&text).await;
        }
        Ok(Inputs(inputs))
    }

    async fn given(
        &self,
        frame: &Frame,
        map: &TemplateMap,
        contexts: &Contexts,
    ) -> Result<Vec<(String, String)>, Failed> {
        Ok(self.answered(contexts, &self.status(frame), |scope| map.eval_strings(scope)).await?)
    }

    async fn stage_header(&self, planned: &Planned, stage: Stage, attempt: &Attempt<'_>, inputs: &Inputs) {
        match stage {
            Stage::Main => self.uses_header(planned, attempt, &inputs.0).await,
            Stage::Pre => self.log.row(&format!("Run Pre {}", self.step_name(planned, attempt).await)).await,
            Stage::Post => {
                self.log.row(&format!("Run Post {}", self.step_name(planned, attempt).await)).await;
            }
        }
    }

    /// The folded rows above the output of a step with `uses`.
    pub(crate) async fn uses_header(
        &self,
        planned: &Planned,
        attempt: &Attempt<'_>,
        inputs: &[(String, String)],
    ) {
        let title = format!("Run {}", self.step_name(planned, attempt).await);
        let mut shown: Vec<&(String, String)> =
            inputs.iter().filter(|(_, value)| !value.is_empty()).collect();
        shown.sort();
        let mut rows = String::new();
        if !shown.is_empty() {
            rows.push_str("with:");
        }
        for (name, value) in shown {
            rows.push_str(&format!("\n  {name}: {value}"));
        }
        self.header(&title, &rows, attempt.step_env).await;
    }

    /// The step's name for people: `name` evaluated, else what it uses.
    pub(crate) async fn step_name(&self, planned: &Planned, attempt: &Attempt<'_>) -> String {
        let fallback = match &planned.step.kind {
            StepKind::Uses { uses, .. } => uses.raw().to_owned(),
            _ => planned.step.default_name(),
        };
        let Some(name) = &planned.step.name else { return fallback };
        let status = self.status_of_job();
        match self.answered(attempt.contexts, &status, |scope| name.eval_string(scope)).await {
            Ok(name) if !name.trim().is_empty() => name,
            _ => fallback,
        }
    }

    /// Unpacks a remote action into the place, once.
    pub(crate) async fn bring(&mut self, action: &LoadedAction) -> Result<(), Failed> {
        let Residence::Archive { archive, root, .. } = &action.residence else { return Ok(()) };
        if self.state.unpacked.contains(root) {
            return Ok(());
        }
        let into = format!("{}/{root}", self.place.layout().actions);
        self.place.unpack(archive.path(), &into).await.map_err(|error| self.note_broken(&error))?;
        self.state.unpacked.insert(root.clone());
        Ok(())
    }

    /// Reads an action out of the workspace. It is read anew at each use: a step before may have changed it.
    pub(crate) async fn load_local(
        &mut self,
        planned: &Planned,
        path: &str,
    ) -> Result<Arc<LoadedAction>, Failed> {
        let place = self.place;
        let layout = place.layout();
        let folder = join(&layout.workspace, path);
        for name in definition_names("") {
            let within = Some(layout.workspace.clone());
            let file = FileOut { path: format!("{folder}/{name}"), limit: 1024 * 1024, within };
            let content = match place.read(file).await.map_err(|error| self.note_broken(&error))? {
                Collected::Content(content) => content,
                Collected::Missing => continue,
                Collected::TooLarge(size) => {
                    return Err(Failed(format!("{folder}/{name} is {size} bytes long")));
                }
                Collected::Refused(reason) => {
                    return Err(Failed(format!("{folder}/{name} cannot be read: {reason}")));
                }
            };
            let shown = format!("./{path}");
            let definition = parse_definition(&name, &content)
                .map_err(|why| Failed(format!("The action `{shown}` is broken: {why}")))?;
            let action = Arc::new(LoadedAction {
                shown,
                definition,
                residence: Residence::Workspace(folder),
                origin: self.work.origin(),
            });
            self.state.memory.entry(planned.key.clone()).or_default().loaded = Some(action.clone());
            return Ok(action);
        }
        Err(Failed(format!(
            "Can't find 'action.yml', 'action.yaml' or 'Dockerfile' under '{folder}'. Did you forget to run actions/checkout before running your local action?"
        )))
    }

    /// Remote actions that a local one uses are not known before it is read: they are fetched when it is.
    pub(crate) fn references_of(&self, action: &LoadedAction) -> Vec<Reference> {
        match &action.definition.runs {
            Runs::Composite { steps } => {
                let references = steps.iter().filter_map(|step| {
                    let reference = Reference::parse(step.uses()?.raw()).ok()?;
                    (!(self.actions.working_tree && is_checkout(&reference, step))).then_some(reference)
                });
                references.collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::input_variables;

    #[test]
    fn inputs_have_githubs_name_and_giteas_where_it_differs() {
        let variables =
            input_variables(&[("my.input x".into(), "1".into()), ("plain-one".into(), "2".into())]);
        let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["INPUT_MY_INPUT_X", "INPUT_MY.INPUT_X", "INPUT_PLAIN-ONE"]);
    }
}
