//! What a step does: a script, an image of its own, or an action.
//!
//! Everything here turns a step into processes and hands these to the place; whether a step runs at all, how long, and
//! what its result means for the job is the business of `job::steps`.

pub(crate) mod image;
mod script;
pub(crate) mod shell;

pub(crate) use script::{Script, join};
use workflows::{Contexts, EvalError};

use crate::{
    backend::{BackendError, Collected, ExecOutcome, ExecSpec, Exit, FileOut, ImageRun, JobEnv},
    cancel::Cancel,
    job::{effects, effects::CommandFiles, frame::Planned, state::EnvMap, steps::JobRun},
    log::StepLogOptions,
};

/// Why a step is red: a sentence for its log, empty when that was said already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) String);

impl From<EvalError> for Failed {
    fn from(error: EvalError) -> Self {
        Self(error.to_string())
    }
}

/// One run of a step or of a stage of its action.
pub(crate) struct Attempt<'a> {
    /// What its expressions see.
    pub(crate) contexts: &'a Contexts,
    /// Its `env` context.
    pub(crate) env: &'a EnvMap,
    /// The variables that the step itself declares, for its header.
    pub(crate) step_env: &'a EnvMap,
    /// Its command files.
    pub(crate) files: &'a CommandFiles,
    /// Its outputs so far.
    pub(crate) outputs: Vec<(String, String)>,
}

/// A process in the job's place, or in a container of its own.
pub(crate) enum Process {
    /// In the place.
    Exec(ExecSpec),
    /// Beside it.
    Image(ImageRun),
}

impl<E: JobEnv> JobRun<'_, E> {
    /// Runs one process of a step: its output goes through the step's log, and what it asked for takes effect.
    pub(crate) async fn run(
        &mut self,
        planned: &Planned,
        mut process: Process,
        attempt: &mut Attempt<'_>,
        cancel: &Cancel,
    ) -> Result<Exit, Failed> {
        let gate = |name: &str| attempt.env.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let workspace = self.place.layout().workspace.clone();
        let mut output = self.log.step(StepLogOptions {
            allow_unsecure_commands: gate("ACTIONS_ALLOW_UNSECURE_COMMANDS"),
            allow_unsecure_stop_tokens: gate("ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS"),
            debug: self.debug,
            workspace: workspace.clone(),
        });
        let mut requests = output.matcher_requests().await;
        let place = self.place;
        match &mut process {
            Process::Exec(spec) => spec.files.append(&mut self.state.pending),
            Process::Image(run) => run.files.append(&mut self.state.pending),
        }
        let serve = async {
            while let Some(request) = requests.next().await {
                let path = join(&workspace, &request.path);
                let file = FileOut { path, limit: effects::FILE_LIMIT, within: None };
                match place.read(file).await {
                    Ok(Collected::Content(content)) => request.answer(Ok(&content)).await,
                    Ok(Collected::Missing) => request.answer(Err("there is no such file".to_owned())).await,
                    Ok(Collected::TooLarge(size)) => {
                        request.answer(Err(format!("it is {size} bytes long"))).await;
                    }
                    Ok(Collected::Refused(reason)) => request.answer(Err(reason)).await,
                    Err(error) => request.answer(Err(error.to_string())).await,
                }
            }
        };
        let work = async {
            let outcome = match process {
                Process::Exec(spec) => Box::pin(place.exec(spec, &mut output, cancel)).await,
                Process::Image(run) => Box::pin(place.run_image(run, &mut output, cancel)).await,
            };
            (outcome, output.finish().await)
        };
        let ((outcome, findings), ()) = tokio::join!(work, serve);
        let outcome = outcome.map_err(|error| self.note_broken(&error))?;
        self.take_effects(planned, findings, outcome, attempt).await
    }

    async fn take_effects(
        &mut self,
        planned: &Planned,
        findings: crate::log::StepFindings,
        outcome: ExecOutcome,
        attempt: &mut Attempt<'_>,
    ) -> Result<Exit, Failed> {
        let effects = effects::read(findings, &outcome.files, self.log).await;
        self.state.apply(&effects);
        attempt.outputs.extend(effects.outputs);
        self.state.memory.entry(planned.key.clone()).or_default().saved.extend(effects.state);
        if !effects.summary.is_empty() {
            let summary = self.state.summaries.entry(planned.index).or_default();
            if !summary.is_empty() && !summary.ends_with('\n') {
                summary.push('\n');
            }
            summary.push_str(&effects.summary);
        }
        if outcome.output_held {
            self.log
                .row("A background process still holds the output of this step; the job goes on without it.")
                .await;
        }
        for process in &outcome.lost {
            self.log.warning(&format!("The process {process} survived its cancellation.")).await;
        }
        if effects.failed {
            return Err(match outcome.exit {
                Exit::Code(code) if code != 0 => Failed(format!("Process completed with exit code {code}.")),
                _ => Failed(String::new()),
            });
        }
        Ok(outcome.exit)
    }

    /// Remembers that the place is gone when it is, and says what happened.
    pub(crate) fn note_broken(&mut self, error: &BackendError) -> Failed {
        if matches!(error, BackendError::Lost(_)) {
            self.state.lost = true;
        }
        Failed(error.to_string())
    }
}
