//! Gitea's actions written in Go: built and run by the `go` of the image.

use std::sync::Arc;

use super::{Inputs, LoadedAction};
use crate::{
    backend::{ExecSpec, Exit, JobEnv, Ladder},
    cancel::Cancel,
    job::{
        frame::{Frame, Planned},
        steps::JobRun,
    },
    report::Conclusion,
    step::{Attempt, Failed, Process, image::finished},
};

impl<E: JobEnv> JobRun<'_, E> {
    /// Builds the package of this stage beside its sources, then runs it in the workspace.
    #[expect(clippy::too_many_arguments, reason = "a stage is made of these, each used once")]
    pub(crate) async fn run_go(
        &mut self,
        frame: &Frame,
        planned: &Planned,
        action: &Arc<LoadedAction>,
        package: Option<&str>,
        inputs: &Inputs,
        attempt: &mut Attempt<'_>,
        cancel: &Cancel,
    ) -> Result<Conclusion, Failed> {
        let Some(package) = package else { return Ok(Conclusion::Success) };
        let place = self.place;
        let layout = place.layout();
        let program = format!("{}/_runner_go/{}", layout.temp, self.state.next_file());
        let env = self.action_env(frame, planned, action, inputs, attempt);
        let build = ExecSpec {
            argv: ["go", "build", "-o", &program, package].map(str::to_owned).to_vec(),
            env: env.clone(),
            cwd: action.folder(layout),
            files: attempt.files.files().collect(),
            collect: attempt.files.collect().collect(),
            ladder: Ladder::default(),
        };
        match self.run(planned, Process::Exec(build.clone()), attempt, cancel).await? {
            Exit::Code(0) => {}
            Exit::NotStarted(reason) => {
                return Err(Failed(format!(
                    "This action is built with go, and there is none here: {reason}"
                )));
            }
            exit => return finished(exit),
        }
        let run = ExecSpec { argv: vec![program], cwd: layout.workspace.clone(), ..build };
        finished(self.run(planned, Process::Exec(run), attempt, cancel).await?)
    }
}
