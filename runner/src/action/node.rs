//! JavaScript actions: their script, run by the node of the image, else by the one that the runner was given.

use std::sync::Arc;

use super::{Inputs, LoadedAction, input_variables};
use crate::{
    backend::{ExecSpec, Exit, JobEnv, Ladder},
    cancel::Cancel,
    job::{
        frame::{Frame, Planned},
        steps::JobRun,
    },
    report::Conclusion,
    step::{Attempt, Failed, Process, image::finished, join},
};

impl<E: JobEnv> JobRun<'_, E> {
    /// Runs a script of a node action.
    #[expect(clippy::too_many_arguments, reason = "a stage is made of these, each used once")]
    pub(crate) async fn run_node(
        &mut self,
        frame: &Frame,
        planned: &Planned,
        action: &Arc<LoadedAction>,
        script: Option<&str>,
        inputs: &Inputs,
        attempt: &mut Attempt<'_>,
        cancel: &Cancel,
    ) -> Result<Conclusion, Failed> {
        let Some(script) = script else { return Ok(Conclusion::Success) };
        let place = self.place;
        let layout = place.layout();
        let script = join(&action.folder(layout), script);
        loop {
            let node = self.state.node.clone().unwrap_or_else(|| "node".to_owned());
            let mut env = self.action_env(frame, planned, action, inputs, attempt);
            env.remove("NODE_ICU_DATA");
            let spec = ExecSpec {
                argv: vec![node, script.clone()],
                env,
                cwd: layout.workspace.clone(),
                files: attempt.files.files().collect(),
                collect: attempt.files.collect().collect(),
                ladder: Ladder::default(),
            };
            match self.run(planned, Process::Exec(spec), attempt, cancel).await? {
                Exit::NotStarted(reason) if self.state.node.is_none() => {
                    self.state.node = Some(self.supplied_node(&reason)?);
                }
                exit => return finished(exit),
            }
        }
    }

    /// The runner's own node, for images that have none.
    fn supplied_node(&self, reason: &str) -> Result<String, Failed> {
        match self.place.layout().node.as_str() {
            "" => Err(Failed(format!(
                "This action needs node, and there is none here: {reason}. Use an image that has node, or give the runner one to supply (`runner.node_dir` in its configuration)."
            ))),
            node => Ok(node.to_owned()),
        }
    }

    /// The environment of an action's process: inputs, what it saved in earlier stages, and what it is.
    pub(crate) fn action_env(
        &self,
        frame: &Frame,
        planned: &Planned,
        action: &LoadedAction,
        inputs: &Inputs,
        attempt: &Attempt<'_>,
    ) -> std::collections::BTreeMap<String, String> {
        let variables = self.action_variables(planned, inputs);
        let mut env = self.process_env(attempt.contexts, attempt.env, &variables, attempt.files);
        self.name_action(frame, action, &mut env);
        env
    }

    /// `INPUT_*` and `STATE_*`.
    pub(crate) fn action_variables(&self, planned: &Planned, inputs: &Inputs) -> Vec<(String, String)> {
        let mut variables = input_variables(&inputs.0);
        if let Some(memory) = self.state.memory.get(&planned.key) {
            variables
                .extend(memory.saved.iter().map(|(name, value)| (format!("STATE_{name}"), value.clone())));
        }
        variables
    }

    /// Which action is running, for those that ask.
    pub(crate) fn name_action(
        &self,
        _frame: &Frame,
        action: &LoadedAction,
        env: &mut std::collections::BTreeMap<String, String>,
    ) {
        if let Some((repository, git_ref)) = action.remote() {
            env.insert("GITHUB_ACTION_REPOSITORY".to_owned(), repository.to_owned());
            env.insert("GITHUB_ACTION_REF".to_owned(), git_ref.to_owned());
        }
        env.insert("GITHUB_ACTION_PATH".to_owned(), action.folder(self.place.layout()));
    }
}
