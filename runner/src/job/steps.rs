//! The steps of a job: pre, main and post stages, and what happens around every single step.
//!
//! The order inside one step is GitHub's: its `env` is evaluated, then its `if`, then its limits and inputs; it runs on a
//! leash ([`super::guard`]); what it asked for takes effect whether it failed or not; `continue-on-error` turns a failure
//! into a success for the steps after it; only then it appears in the `steps` context.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use workflows::{Condition, Contexts, JobStatus, StepKind};

use super::{
    Stage,
    effects::CommandFiles,
    env::Parts,
    frame::{Frame, Planned, Uses},
    guard::{Guard, Patience, ends_everything},
    state::{EnvMap, JobState, StepRecord},
};
use crate::{
    action::{ActionStore, Actions},
    assignment::Assignment,
    backend::JobEnv,
    cancel::{Cancel, CancelCause},
    log::JobLog,
    report::{Conclusion, JobEvent},
    step::{Attempt, Failed, Script, shell::DefaultShell},
};

/// A job in its place, being run.
pub(crate) struct JobRun<'a, E: JobEnv> {
    pub(crate) work: &'a Assignment,
    pub(crate) place: &'a E,
    pub(crate) log: &'a JobLog,
    pub(crate) actions: Actions,
    pub(crate) store: &'a ActionStore,
    pub(crate) cancel: Cancel,
    pub(crate) state: JobState,
    /// The contexts that do not change while the job runs.
    pub(crate) base: Contexts,
    /// `shell` and `working-directory` of `defaults.run`.
    pub(crate) run_defaults: (Option<String>, Option<String>),
    pub(crate) default_shell: DefaultShell,
    /// Whether step debugging is on.
    pub(crate) debug: bool,
    /// What the runner sets for services and as markers.
    pub(crate) services: Vec<(String, String)>,
    pub(super) patience: Patience,
}

impl<E: JobEnv> JobRun<'_, E> {
    /// Runs all stages of all steps of the job's own `frame`.
    pub(super) async fn run_all(&mut self, frame: &mut Frame) {
        let steps = frame.planned.clone();
        for planned in &steps {
            if self.is_over() {
                break;
            }
            Box::pin(self.perform_stage(frame, planned, Stage::Pre, None)).await;
        }
        self.log.row(&format!("Complete job name: {}", self.work.display_name)).await;
        for planned in &steps {
            self.note_cancel();
            let conclusion = if self.is_over() {
                let conclusion =
                    if self.cancel.is_cancelled() { Conclusion::Cancelled } else { Conclusion::Skipped };
                self.finish_step(planned, conclusion).await;
                continue;
            } else {
                Box::pin(self.perform(frame, planned, None)).await
            };
            self.state.count(conclusion);
        }
        self.note_cancel();
        if self.cancel.is_cancelled() {
            self.patience = Patience::begun();
        }
        for planned in &frame.posts_in_order() {
            if self.is_over() {
                break;
            }
            self.note_cancel();
            Box::pin(self.perform_stage(frame, planned, Stage::Post, None)).await;
        }
        self.note_cancel();
    }

    /// Whether nothing more may run: the place is gone, or nobody waits for this job any more.
    fn is_over(&self) -> bool {
        self.state.lost || self.cancel.cause().is_some_and(ends_everything)
    }

    /// Lets the status say that somebody cancelled.
    fn note_cancel(&mut self) {
        if self.cancel.is_cancelled() {
            self.state.status = JobStatus::Cancelled;
        }
    }

    /// Runs one main step from its `env` to its result.
    pub(crate) async fn perform(
        &mut self,
        frame: &mut Frame,
        planned: &Arc<Planned>,
        outer: Option<&Cancel>,
    ) -> Conclusion {
        self.note_cancel();
        let files = CommandFiles::new(&self.place.layout().temp, self.state.next_file());
        let mut env = self.frame_env(frame);
        let mut contexts = self.contexts(frame, &env, Some((planned, &files)));
        let status = self.status(frame);
        let step_env = match self.step_env(frame, planned, &contexts).await {
            Ok(step_env) => step_env,
            Err(Failed(error)) => {
                self.start_step(frame, planned).await;
                self.log.error(&format!("The step's env cannot be evaluated: {error}")).await;
                return self
                    .end_step(frame, planned, Conclusion::Failure, Conclusion::Failure, Vec::new())
                    .await;
            }
        };
        env.extend(step_env.iter());
        contexts.set("env", env.to_value());
        let condition = planned.step.condition.as_ref();
        let wanted = match condition {
            Some(condition) => self.answered(&contexts, &status, |scope| condition.eval(scope)).await,
            None => Ok(workflows::StatusFunctions::success(&status, &[])),
        };
        match wanted {
            Ok(true) => {}
            Ok(false) => {
                return self
                    .end_step(frame, planned, Conclusion::Skipped, Conclusion::Skipped, Vec::new())
                    .await;
            }
            Err(error) => {
                self.start_step(frame, planned).await;
                self.log.error(&format!("The step's `if` cannot be evaluated: {error}")).await;
                if !frame.is_job() {
                    frame.count(Conclusion::Failure);
                }
                return self
                    .end_step(frame, planned, Conclusion::Failure, Conclusion::Failure, Vec::new())
                    .await;
            }
        }
        self.start_step(frame, planned).await;
        let mut attempt = Attempt {
            contexts: &contexts,
            env: &env,
            step_env: &step_env,
            files: &files,
            outputs: Vec::new(),
        };
        let outcome = match self.step_limit(frame, planned, &contexts).await {
            Ok(timeout) => {
                let guard = self.guard(outer, condition.cloned(), &contexts, timeout);
                let (result, cause) = guard.run(|token| self.body(frame, planned, &mut attempt, token)).await;
                self.judge(planned, result, cause, timeout).await
            }
            Err(Failed(error)) => {
                self.log.error(&format!("The step's timeout-minutes cannot be evaluated: {error}")).await;
                Conclusion::Failure
            }
        };
        let outputs = attempt.outputs;
        let mut conclusion = outcome;
        if outcome == Conclusion::Failure && self.goes_on(frame, planned, &contexts).await {
            conclusion = Conclusion::Success;
        }
        self.end_step(frame, planned, outcome, conclusion, outputs).await
    }

    /// Runs the pre or post stage of a step's action, if it has one and its condition holds.
    pub(crate) async fn perform_stage(
        &mut self,
        frame: &mut Frame,
        planned: &Arc<Planned>,
        stage: Stage,
        outer: Option<&Cancel>,
    ) -> Conclusion {
        let Some(action) = self.action_of(planned) else { return Conclusion::Success };
        let Some(condition) = action.stage_condition(stage) else { return Conclusion::Success };
        if stage == Stage::Pre && !action.is_remote() {
            return Conclusion::Success;
        }
        let files = CommandFiles::new(&self.place.layout().temp, self.state.next_file());
        let mut env = self.frame_env(frame);
        let mut contexts = self.contexts(frame, &env, Some((planned, &files)));
        let result = match self.step_env(frame, planned, &contexts).await {
            Ok(step_env) => {
                env.extend(step_env.iter());
                contexts.set("env", env.to_value());
                let status = self.status_of_job();
                let wanted = match &condition {
                    // `pre-if` and `post-if` are lines of the action: they see its inputs.
                    Some(condition) => match self.inputs(frame, planned, &action, &contexts, stage).await {
                        Ok(inputs) => {
                            let inside = contexts.clone().with("inputs", inputs.to_value());
                            self.answered(&inside, &status, |scope| condition.eval(scope)).await
                        }
                        Err(Failed(error)) => Err(workflows::EvalError::Failed(error)),
                    },
                    None => Ok(true),
                };
                match wanted {
                    Ok(false) => return Conclusion::Skipped,
                    Ok(true) => {
                        let mut attempt = Attempt {
                            contexts: &contexts,
                            env: &env,
                            step_env: &step_env,
                            files: &files,
                            outputs: Vec::new(),
                        };
                        let always = Some(condition.unwrap_or_else(|| Condition::parse("always()")));
                        let guard = self.guard(outer, always, &contexts, None);
                        let run = guard
                            .run(|token| self.run_stage(frame, planned, action, stage, &mut attempt, token));
                        let (result, cause) = run.await;
                        self.judge(planned, result, cause, None).await
                    }
                    Err(error) => self.say_failed(&error.to_string()).await,
                }
            }
            Err(Failed(error)) => self.say_failed(&error).await,
        };
        if frame.is_job() {
            self.state.count(result);
            self.send_summary(planned.index).await;
        } else {
            frame.count(result);
        }
        result
    }

    async fn body(
        &mut self,
        frame: &mut Frame,
        planned: &Arc<Planned>,
        attempt: &mut Attempt<'_>,
        cancel: Cancel,
    ) -> Result<Conclusion, Failed> {
        match &planned.step.kind {
            StepKind::Run { script, shell, working_directory } => {
                let script = Script {
                    text: script,
                    shell: shell.as_ref(),
                    working_directory: working_directory.as_ref(),
                };
                Box::pin(self.run_script(frame, planned, script, attempt, &cancel)).await
            }
            StepKind::Uses { with, .. } => match &planned.uses {
                Some(Ok(Uses::Image(image))) => {
                    Box::pin(self.run_docker_step(frame, planned, image, with.as_ref(), attempt, &cancel)).await
                }
                Some(Ok(Uses::Local(path))) => {
                    let action = self.load_local(planned, path).await?;
                    Box::pin(self.run_stage(frame, planned, action, Stage::Main, attempt, cancel)).await
                }
                Some(Ok(Uses::Loaded(action))) => {
                    Box::pin(self.run_stage(frame, planned, action.clone(), Stage::Main, attempt, cancel)).await
                }
                Some(Ok(Uses::WorkingTree)) => {
                    self.run_checkout(frame, planned, with.as_ref(), attempt).await
                }
                Some(Err(error)) => Err(Failed(error.to_string())),
                None => Err(Failed("the step's `uses` is empty".to_owned())),
            },
            StepKind::Wait(_) | StepKind::WaitAll | StepKind::Cancel(_) => Err(Failed(
                "Background steps (`background`, `wait`, `wait-all`, `cancel`) are not supported by this runner.".to_owned(),
            )),
            StepKind::Empty => Err(Failed("The step has neither `run` nor `uses`.".to_owned())),
        }
    }

    pub(super) fn guard(
        &self,
        outer: Option<&Cancel>,
        condition: Option<Condition>,
        contexts: &Contexts,
        timeout: Option<Duration>,
    ) -> Guard {
        Guard {
            job: self.cancel.clone(),
            outer: outer.cloned(),
            patience: self.patience.clone(),
            condition,
            contexts: contexts.clone(),
            timeout,
        }
    }

    /// What the end of a step's work means, with a row that says why it is red.
    async fn judge(
        &self,
        planned: &Planned,
        result: Result<Conclusion, Failed>,
        cause: Option<CancelCause>,
        timeout: Option<Duration>,
    ) -> Conclusion {
        match (result, cause) {
            (_, Some(CancelCause::StepTimeout)) => {
                if let Some(timeout) = timeout {
                    let minutes = timeout.as_secs_f64() / 60.0;
                    let name = planned.step.default_name();
                    let name = planned.step.name.as_ref().map_or(name, |name| name.raw().to_owned());
                    self.log
                        .error(&format!("The action '{name}' has timed out after {minutes} minutes."))
                        .await;
                }
                Conclusion::Failure
            }
            (_, Some(_)) => {
                self.log.error("The operation was canceled.").await;
                Conclusion::Cancelled
            }
            (Ok(conclusion), None) => conclusion,
            (Err(Failed(text)), None) => self.say_failed(&text).await,
        }
    }

    async fn say_failed(&self, text: &str) -> Conclusion {
        if !text.is_empty() {
            self.log.error(text).await;
        }
        Conclusion::Failure
    }

    async fn step_env(
        &self,
        frame: &Frame,
        planned: &Planned,
        contexts: &Contexts,
    ) -> Result<EnvMap, Failed> {
        let mut env = EnvMap::default();
        if let Some(map) = &planned.step.env {
            let values =
                self.answered(contexts, &self.status(frame), |scope| map.eval_strings(scope)).await?;
            env.extend(values.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
        Ok(env)
    }

    async fn step_limit(
        &self,
        frame: &Frame,
        planned: &Planned,
        contexts: &Contexts,
    ) -> Result<Option<Duration>, Failed> {
        let Some(template) = &planned.step.timeout_minutes else { return Ok(None) };
        let minutes =
            self.answered(contexts, &self.status(frame), |scope| template.eval_number(scope)).await?;
        Ok(super::minutes(minutes))
    }

    /// Whether a failure of this step is to be overlooked.
    async fn goes_on(&self, frame: &Frame, planned: &Planned, contexts: &Contexts) -> bool {
        let Some(template) = &planned.step.continue_on_error else { return false };
        match self.answered(contexts, &self.status(frame), |scope| template.eval_bool(scope)).await {
            Ok(value) => value,
            Err(error) => {
                self.log.error(&format!("The step's continue-on-error cannot be evaluated: {error}")).await;
                false
            }
        }
    }

    async fn start_step(&self, frame: &Frame, planned: &Planned) {
        if frame.is_job() {
            self.log.emit(JobEvent::StepStarted { index: planned.index, at: SystemTime::now() }).await;
        }
    }

    async fn end_step(
        &mut self,
        frame: &mut Frame,
        planned: &Planned,
        outcome: Conclusion,
        conclusion: Conclusion,
        outputs: Vec<(String, String)>,
    ) -> Conclusion {
        if let Some(id) = &planned.step.id {
            frame.steps.record(id, StepRecord { outputs, outcome, conclusion });
        }
        if frame.is_job() {
            self.send_summary(planned.index).await;
            self.finish_step(planned, conclusion).await;
        }
        conclusion
    }

    async fn finish_step(&self, planned: &Planned, conclusion: Conclusion) {
        self.log
            .emit(JobEvent::StepFinished { index: planned.index, conclusion, at: SystemTime::now() })
            .await;
    }

    /// Sends what the outer step has written to its summary so far; a later one replaces it.
    async fn send_summary(&mut self, index: usize) {
        if let Some(text) = self.state.summaries.get(&index) {
            let markdown = self.log.mask(text);
            self.log.emit(JobEvent::Summary { index, markdown }).await;
        }
    }

    pub(crate) fn env_parts<'p>(
        &'p self,
        contexts: &'p Contexts,
        env: &'p EnvMap,
        action: &'p [(String, String)],
    ) -> Parts<'p> {
        Parts {
            layout: self.place.layout(),
            env,
            action,
            github: contexts.get("github").unwrap_or(&workflows::Value::Null),
            runner: self.base.get("runner").unwrap_or(&workflows::Value::Null),
            services: &self.services,
            prepended: &self.state.prepended,
        }
    }
}
