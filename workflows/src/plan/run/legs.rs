//! Legs of a job: the matrix expanded, names given, and each leg made a job that can be run.

use super::{Leg, LegState, MAX_JOBS, Run, eval_concurrency};
use crate::context::Contexts;
use crate::expr::{Object, Scope, Value, text};
use crate::model::Workflow;
use crate::plan::matrix::{expand_matrix, leg_name};
use crate::plan::planned::{JobKey, PlannedJob};

impl Run {
    /// The legs of a node's matrix; one without a matrix.
    pub(super) fn expand_node(
        &self,
        node: usize,
        scope: &Scope<'_>,
    ) -> Result<(Vec<Leg>, usize, bool), String> {
        let job = self.job(node);
        let prefix = &self.frames[self.nodes[node].frame].prefix;
        let said = |key: &'static str| move |error: crate::EvalError| format!("{key} of job: {error}");
        let (mut fail_fast, mut max_parallel, mut matrix) = (true, None, Value::Null);
        if let Some(strategy) = &job.strategy {
            if let Some(whole) = &strategy.whole {
                let value = whole.eval(scope).map_err(said("strategy"))?;
                matrix = value.get("matrix").cloned().unwrap_or_default();
                fail_fast = value.get("fail-fast").is_none_or(|value| value.to_text() != "false");
                max_parallel = value.get("max-parallel").map(Value::to_number);
            }
            if let Some(node) = &strategy.matrix {
                matrix = node.eval(scope).map_err(said("matrix"))?;
            }
            if let Some(template) = &strategy.fail_fast {
                fail_fast = template.eval_bool(scope).map_err(said("fail-fast"))?;
            }
            if let Some(template) = &strategy.max_parallel {
                max_parallel = Some(template.eval_number(scope).map_err(said("max-parallel"))?);
            }
        }
        let mut combinations =
            if matrix == Value::Null { vec![Object::new()] } else { expand_matrix(&matrix)? };
        let total = combinations.len();
        // A leg keeps its index among all when only some are wanted.
        let mut indexed: Vec<(usize, Object)> = combinations.drain(..).enumerate().collect();
        if !self.options.matrix.is_empty() {
            indexed.retain(|(_, leg)| self.leg_is_wanted(leg));
            if indexed.is_empty() {
                return Err("no combination of the matrix is selected".to_owned());
            }
        }
        if self.legs.len() + indexed.len() > MAX_JOBS {
            return Err(format!("the run has more than {MAX_JOBS} jobs"));
        }
        let mut legs = Vec::with_capacity(indexed.len());
        for (index, combination) in indexed {
            let mut strategy = Object::new();
            strategy.insert("fail-fast", fail_fast);
            strategy.insert("job-index", u32::try_from(index).unwrap_or(u32::MAX));
            strategy.insert("job-total", u32::try_from(total).unwrap_or(u32::MAX));
            strategy.insert(
                "max-parallel",
                max_parallel.unwrap_or_else(|| f64::from(u32::try_from(total).unwrap_or(u32::MAX))),
            );
            let strategy = Value::object(strategy);
            let contexts = scope
                .contexts
                .clone()
                .with("matrix", Value::object(combination.clone()))
                .with("strategy", strategy.clone());
            let scope = Scope::new(&contexts);
            let name = match &job.name {
                Some(name) if name.has_expression() => name.eval_string(&scope).map_err(said("name"))?,
                Some(name) if !name.raw().is_empty() => leg_name(name.raw(), &combination),
                _ => String::new(),
            };
            let name = if name.is_empty() { leg_name(&job.id, &combination) } else { name };
            let continue_on_error = match &job.continue_on_error {
                Some(template) => template.eval_bool(&scope).map_err(said("continue-on-error"))?,
                None => false,
            };
            legs.push(Leg {
                node,
                name: format!("{prefix}{name}"),
                matrix: combination,
                strategy,
                continue_on_error,
                state: LegState::Held,
                outputs: Object::new(),
            });
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a small range first"
        )]
        let max_parallel = max_parallel.map_or(usize::MAX, |limit| limit.clamp(1.0, 4096.0) as usize);
        Ok((legs, max_parallel, fail_fast))
    }

    fn leg_is_wanted(&self, leg: &Object) -> bool {
        let filter = &self.options.matrix;
        filter.iter().all(|(key, _)| {
            leg.get(key).is_none_or(|value| {
                let value = value.to_text();
                filter.iter().any(|(own, wanted)| text::equals_ignore_case(own, key) && *wanted == value)
            })
        })
    }

    pub(super) fn leg_contexts(&self, leg: usize) -> Contexts {
        let leg = &self.legs[leg];
        self.node_contexts(leg.node)
            .with("matrix", Value::object(leg.matrix.clone()))
            .with("strategy", leg.strategy.clone())
    }

    pub(super) fn plan_job(&self, key: usize) -> Result<PlannedJob, String> {
        let leg = &self.legs[key];
        let node = &self.nodes[leg.node];
        let frame = &self.frames[node.frame];
        let mut job = frame.workflow.jobs[node.job].clone();
        let contexts = self.leg_contexts(key);
        let scope = Scope::new(&contexts);
        let runs_on = match &job.runs_on {
            Some(runs_on) => {
                runs_on.eval_labels(&scope).map_err(|error| format!("runs-on of job: {error}"))?
            }
            None => Vec::new(),
        };
        let concurrency = match &job.concurrency {
            Some(concurrency) => Some(eval_concurrency(concurrency, &contexts)?),
            None => None,
        };
        job.needs.clear();
        let own = &frame.workflow;
        let workflow = Workflow {
            name: own.name.clone(),
            run_name: own.run_name.clone(),
            on: own.on.clone(),
            permissions: own.permissions.clone(),
            env: own.env.clone(),
            defaults: own.defaults.clone(),
            concurrency: None,
            jobs: vec![job],
            source: own.source.clone(),
        };
        Ok(PlannedJob {
            key: JobKey(key),
            name: leg.name.clone(),
            runs_on,
            workflow,
            matrix: leg.matrix.clone(),
            strategy: leg.strategy.clone(),
            needs: self.needs_context(leg.node),
            inputs: frame.inputs.clone(),
            github: self.options.github.clone(),
            vars: self.options.vars.clone(),
            secrets: frame.secrets.clone(),
            continue_on_error: leg.continue_on_error,
            concurrency,
            callers: frame.callers.clone(),
        })
    }
}
