//! Composite actions: steps inside a step, with a scope of their own.
//!
//! Inner steps see the job's environment (what they write to `GITHUB_ENV` and `GITHUB_PATH` goes to the job), the `env` of
//! the steps around them, the composite's inputs, and only their own `steps`. They get no `INPUT_*` of the composite and
//! neither secrets, needs nor vars. `success()` and `failure()` look at the composite's own steps.

use std::sync::Arc;

use workflows::{JobStatus, Step};

use super::{Inputs, LoadedAction};
use crate::{
    backend::JobEnv,
    cancel::Cancel,
    job::{
        Stage,
        frame::{Frame, Planned, plan_steps},
        steps::JobRun,
    },
    report::Conclusion,
    step::{Attempt, Failed},
};

impl<E: JobEnv> JobRun<'_, E> {
    /// Runs one stage of a composite action: of all its inner steps that have it.
    #[expect(clippy::too_many_arguments, reason = "a stage is made of these, each used once")]
    pub(crate) async fn run_composite(
        &mut self,
        frame: &Frame,
        planned: &Arc<Planned>,
        action: &Arc<LoadedAction>,
        steps: &[Step],
        stage: Stage,
        inputs: &Inputs,
        attempt: &mut Attempt<'_>,
        cancel: &Cancel,
    ) -> Result<Conclusion, Failed> {
        if planned.key.matches('/').count() >= super::load::DEPTH {
            return Err(Failed(format!(
                "Composite actions are nested more than {} deep.",
                super::load::DEPTH
            )));
        }
        let mut inner = match self.state.memory.entry(planned.key.clone()).or_default().frame.take() {
            Some(inner) => inner,
            None => self.open_frame(planned, action, steps).await?,
        };
        inner.inputs = Some(inputs.to_value());
        inner.overlay = frame.overlay.clone();
        inner.overlay.extend(attempt.step_env.iter());
        inner.status = JobStatus::Success;
        let steps = match stage {
            Stage::Pre | Stage::Main => inner.planned.clone(),
            Stage::Post => inner.posts_in_order(),
        };
        for step in &steps {
            if self.state.lost || (cancel.is_cancelled() && stage != Stage::Main) {
                break;
            }
            if stage == Stage::Main {
                let conclusion = Box::pin(self.perform(&mut inner, step, Some(cancel))).await;
                inner.count(conclusion);
            } else {
                Box::pin(self.perform_stage(&mut inner, step, stage, Some(cancel))).await;
            }
        }
        if stage == Stage::Main {
            self.composite_outputs(&inner, action, attempt).await?;
        }
        let failed = inner.status == JobStatus::Failure;
        self.state.memory.entry(planned.key.clone()).or_default().frame = Some(inner);
        if failed { Err(Failed(String::new())) } else { Ok(Conclusion::Success) }
    }

    async fn open_frame(
        &mut self,
        planned: &Arc<Planned>,
        action: &Arc<LoadedAction>,
        steps: &[Step],
    ) -> Result<Frame, Failed> {
        let references = self.references_of(action);
        self.actions
            .add(&references, &action.origin, self.store, self.log)
            .await
            .map_err(|error| Failed(error.to_string()))?;
        let texts: Vec<Option<String>> =
            steps.iter().map(|step| step.uses().map(|uses| uses.raw().to_owned())).collect();
        let planned_steps =
            plan_steps(steps, &planned.key, Some(planned.index), &texts, &self.actions, &action.origin);
        Ok(Frame { action: Some(action.clone()), planned: planned_steps, ..Frame::default() })
    }

    /// Outputs are evaluated after all steps, whether these failed or not.
    async fn composite_outputs(
        &mut self,
        inner: &Frame,
        action: &LoadedAction,
        attempt: &mut Attempt<'_>,
    ) -> Result<(), Failed> {
        let env = self.frame_env(inner);
        let contexts = self.contexts(inner, &env, None);
        let status = self.status(inner);
        for output in &action.definition.outputs {
            if let Some(value) = &output.value {
                let value = self.answered(&contexts, &status, |scope| value.eval_string(scope)).await?;
                attempt.outputs.push((output.name.value.clone(), value));
            }
        }
        Ok(())
    }
}
