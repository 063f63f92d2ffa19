//! `uses: docker://image`: a container of its own beside the job.

use std::collections::BTreeMap;

use workflows::TemplateMap;

use super::{Attempt, Failed, Process, shell};
use crate::{
    backend::{ContainerSpec, Exit, ImageRun, JobEnv, Ladder},
    cancel::Cancel,
    job::{
        frame::{Frame, Planned},
        steps::JobRun,
    },
    report::Conclusion,
};

impl<E: JobEnv> JobRun<'_, E> {
    /// Runs the image of a `docker://` step. `with.entrypoint` and `with.args` replace what the image starts; every
    /// entry is also an input variable.
    pub(crate) async fn run_docker_step(
        &mut self,
        frame: &Frame,
        planned: &Planned,
        image: &str,
        with: Option<&TemplateMap>,
        attempt: &mut Attempt<'_>,
        cancel: &Cancel,
    ) -> Result<Conclusion, Failed> {
        let status = self.status(frame);
        let with = match with {
            Some(map) => self.answered(attempt.contexts, &status, |scope| map.eval_strings(scope)).await?,
            None => Vec::new(),
        };
        self.uses_header(planned, attempt, &with).await;
        let find =
            |key: &str| with.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, v)| v.as_str());
        let words =
            |text: &str| shell::split(text).ok_or_else(|| Failed(format!("a quote is not closed: {text}")));
        let entrypoint = find("entrypoint").map(words).transpose()?.unwrap_or_default();
        let args = find("args").map(words).transpose()?;
        let inputs = crate::action::input_variables(&with);
        let env = self.image_env(attempt, &inputs);
        let run = image_run(image, env, entrypoint, args, attempt);
        finished(self.run(planned, Process::Image(run), attempt, cancel).await?)
    }

    /// The environment for a container of its own.
    pub(crate) fn image_env(
        &self,
        attempt: &Attempt<'_>,
        action: &[(String, String)],
    ) -> BTreeMap<String, String> {
        let mut env = crate::job::env::image(&self.env_parts(attempt.contexts, attempt.env, action));
        env.extend(attempt.files.variables());
        env
    }
}

/// A container beside the job, with the command files of this step.
pub(crate) fn image_run(
    image: &str,
    env: BTreeMap<String, String>,
    entrypoint: Vec<String>,
    args: Option<Vec<String>>,
    attempt: &Attempt<'_>,
) -> ImageRun {
    ImageRun {
        container: ContainerSpec { image: image.to_owned(), env, ..ContainerSpec::default() },
        entrypoint,
        args,
        files: attempt.files.files().collect(),
        collect: attempt.files.collect().collect(),
        ladder: Ladder::default(),
    }
}

/// What the end of an action's process means.
pub(crate) fn finished(exit: Exit) -> Result<Conclusion, Failed> {
    match exit {
        Exit::Code(0) => Ok(Conclusion::Success),
        Exit::Code(code) => Err(Failed(format!("Process completed with exit code {code}."))),
        Exit::Signal(signal) => Err(Failed(format!("Process was ended by signal {signal}."))),
        Exit::NotStarted(reason) => Err(Failed(reason)),
    }
}
