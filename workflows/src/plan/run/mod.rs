//! The state machine that walks a workflow's jobs.
//!
//! Every instance of a workflow (the run's own, and one for each call of a reusable one) is a frame; every
//! job of a frame is a node; every leg of a node's matrix is planned on its own. [`Run::advance`] moves
//! whatever can move until nothing can, and returns what the caller has to do.

mod calls;
mod legs;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::context::Contexts;
use crate::diagnostic::Diagnostic;
use crate::expr::{Object, Scope, Value, text};
use crate::model::{Concurrency, Job, Workflow};
use crate::plan::graph::{Ancestors, JobResult, NeedResult, check_needs};
use crate::plan::planned::{ConcurrencyGroup, JobKey, Step, WorkflowRequest};
use crate::plan::reference::{RemoteWorkflow, WorkflowReference};

/// Deepest nesting of reusable workflows below the run's own.
pub const MAX_CALL_DEPTH: usize = 9;
/// Most jobs that one run may plan, all calls and legs counted.
const MAX_JOBS: usize = 4096;

/// What a run is started with.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// `github` context without what is the job's own.
    pub github: Value,
    /// `vars` context.
    pub vars: Value,
    /// `secrets` context.
    pub secrets: Value,
    /// `inputs` context (see [`super::resolve_inputs`]).
    pub inputs: Value,
    /// Only these jobs and what they need; empty for all.
    pub jobs: Vec<String>,
    /// Only legs whose matrix has these values (compared as text); several values of one key are alternatives.
    pub matrix: Vec<(String, String)>,
    /// Hands out jobs that call a reusable workflow as they are, as servers do that leave calls to runners.
    pub calls_as_jobs: bool,
    /// Results of needed jobs that ran elsewhere: what a server sends with a payload.
    pub needs: Vec<NeedResult>,
}

/// A workflow on its way.
///
/// ```
/// use workflows::plan::{JobResult, Run, RunOptions, Step};
/// use workflows::{Object, SourceFile, parse_payload};
/// let text = "on: push\njobs:\n  a: {runs-on: x, steps: [run: x]}\n  b: {needs: a, runs-on: x, steps: [run: x]}\n";
/// let workflow = parse_payload(&SourceFile::new("ci.yml", text)).into_result().unwrap();
/// let mut run = Run::new(workflow, RunOptions::default()).unwrap();
/// while !run.is_finished() {
///     for step in run.advance() {
///         if let Step::Start(job) = step {
///             run.finish(job.key, JobResult::Success, Object::new()); // here the job would run
///         }
///     }
/// }
/// assert_eq!(run.result(), Some(JobResult::Success));
/// ```
#[derive(Debug)]
pub struct Run {
    frames: Vec<Frame>,
    nodes: Vec<Node>,
    legs: Vec<Leg>,
    requests: Vec<WorkflowRequest>,
    answers: Vec<Option<Result<Arc<Workflow>, String>>>,
    options: RunOptions,
    cancelled: bool,
    steps: VecDeque<Step>,
}

/// One instance of a workflow.
#[derive(Debug)]
struct Frame {
    workflow: Arc<Workflow>,
    inputs: Value,
    secrets: Value,
    /// The leg that called it.
    caller: Option<usize>,
    /// Where it came from, when from another repository.
    remote: Option<RemoteWorkflow>,
    /// Callers' display names with their separators.
    prefix: String,
    callers: Vec<WorkflowReference>,
    nodes: Vec<usize>,
}

#[derive(Debug)]
struct Node {
    frame: usize,
    job: usize,
    needs: Vec<usize>,
    state: NodeState,
}

#[derive(Debug)]
enum NodeState {
    Waiting,
    Running { legs: Vec<usize>, max_parallel: usize, fail_fast: bool },
    Done(NeedResult),
}

#[derive(Debug)]
struct Leg {
    node: usize,
    name: String,
    matrix: Object,
    strategy: Value,
    continue_on_error: bool,
    state: LegState,
    outputs: Object,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum LegState {
    Held,
    Running,
    /// Waits for the workflow that it calls.
    Asking(usize),
    Calling(usize),
    Done(JobResult),
}

impl Run {
    /// Plans a workflow.
    ///
    /// # Errors
    /// Needs that do not exist or go in a circle, or a selected job that does not exist.
    pub fn new(workflow: Workflow, options: RunOptions) -> Result<Self, Vec<Diagnostic>> {
        let mut run = Self {
            frames: Vec::new(),
            nodes: Vec::new(),
            legs: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            options,
            cancelled: false,
            steps: VecDeque::new(),
        };
        let (inputs, secrets) = (run.options.inputs.clone(), run.options.secrets.clone());
        run.open_frame(Arc::new(workflow), inputs, secrets, None, None, String::new(), Vec::new())?;
        Ok(run)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a frame, given once each at two places")]
    fn open_frame(
        &mut self,
        workflow: Arc<Workflow>,
        inputs: Value,
        secrets: Value,
        caller: Option<usize>,
        remote: Option<RemoteWorkflow>,
        prefix: String,
        callers: Vec<WorkflowReference>,
    ) -> Result<(), Vec<Diagnostic>> {
        // A payload's needs ran elsewhere and may be erased or not.
        let given = caller.is_none() && !self.options.needs.is_empty();
        if !given {
            let errors: Vec<Diagnostic> =
                check_needs(&workflow).into_iter().filter(Diagnostic::is_error).collect();
            if !errors.is_empty() {
                return Err(errors);
            }
        }
        let selected =
            if caller.is_none() { self.select_jobs(&workflow)? } else { vec![true; workflow.jobs.len()] };
        let frame = self.frames.len();
        let first = self.nodes.len();
        let position: Vec<Option<usize>> = selected
            .iter()
            .scan(first, |next, selected| {
                let own = selected.then_some(*next);
                *next += usize::from(*selected);
                Some(own)
            })
            .collect();
        for (index, job) in workflow.jobs.iter().enumerate() {
            if position[index].is_none() {
                continue;
            }
            let needs = job
                .needs
                .iter()
                .filter_map(|need| {
                    workflow.jobs.iter().position(|job| text::equals_ignore_case(&job.id, need))
                })
                .filter_map(|need| position[need])
                .collect();
            self.nodes.push(Node { frame, job: index, needs, state: NodeState::Waiting });
        }
        let nodes = (first..self.nodes.len()).collect();
        self.frames.push(Frame { workflow, inputs, secrets, caller, remote, prefix, callers, nodes });
        Ok(())
    }

    /// Marks the selected jobs and everything they need.
    fn select_jobs(&self, workflow: &Workflow) -> Result<Vec<bool>, Vec<Diagnostic>> {
        let mut selected = vec![self.options.jobs.is_empty(); workflow.jobs.len()];
        let index = |id: &str| workflow.jobs.iter().position(|job| text::equals_ignore_case(&job.id, id));
        let mut queue: Vec<usize> = Vec::new();
        for id in &self.options.jobs {
            let Some(found) = index(id) else {
                let known = workflow.jobs.iter().map(|job| job.id.value.as_str());
                let mut error = Diagnostic::error(
                    crate::diagnostic::Code::Needs,
                    crate::source::Span::default(),
                    format!("there is no job '{id}' in {}", workflow.source.name()),
                );
                error.help = crate::suggest::nearest(id, known).map(|near| format!("did you mean '{near}'?"));
                return Err(vec![error]);
            };
            queue.push(found);
        }
        while let Some(next) = queue.pop() {
            if !std::mem::replace(&mut selected[next], true) {
                queue.extend(workflow.jobs[next].needs.iter().filter_map(|need| index(need)));
            }
        }
        Ok(selected)
    }

    /// Everything that can be done now. Empty while jobs run or answers are missing, and at the end.
    pub fn advance(&mut self) -> Vec<Step> {
        loop {
            let mut moved = false;
            for node in 0..self.nodes.len() {
                moved |= self.move_node(node);
            }
            if !moved {
                return self.steps.drain(..).collect();
            }
        }
    }

    /// Whether every job has ended.
    pub fn is_finished(&self) -> bool {
        self.frames[0].nodes.iter().all(|node| matches!(self.nodes[*node].state, NodeState::Done(_)))
    }

    /// How the run ended, once it has.
    pub fn result(&self) -> Option<JobResult> {
        self.is_finished().then(|| self.frame_result(0))
    }

    /// What the jobs of the run's own workflow that have ended left, in the order of the file.
    pub fn results(&self) -> impl Iterator<Item = &NeedResult> {
        self.frames[0].nodes.iter().filter_map(|node| match &self.nodes[*node].state {
            NodeState::Done(result) => Some(result),
            _ => None,
        })
    }

    /// Stops the run: jobs that wait are cancelled unless their `if` holds for a cancelled run. Running
    /// jobs are named by [`Step::Cancel`] and still have to be finished.
    pub fn cancel(&mut self) {
        if std::mem::replace(&mut self.cancelled, true) {
            return;
        }
        for (key, leg) in self.legs.iter_mut().enumerate() {
            match leg.state {
                LegState::Running => self.steps.push_back(Step::Cancel(JobKey(key))),
                LegState::Held => leg.state = LegState::Done(JobResult::Cancelled),
                _ => {}
            }
        }
    }

    /// Tells how a started job ended, with its outputs. A second word about the same job is ignored.
    pub fn finish(&mut self, key: JobKey, result: JobResult, outputs: Object) {
        if let Some(leg) = self.legs.get_mut(key.0)
            && leg.state == LegState::Running
        {
            leg.outputs = outputs;
            self.end_leg(key.0, result);
        }
    }

    /// Answers a [`Step::Fetch`] with the workflow or the sentence why there is none.
    pub fn answer(&mut self, request: &WorkflowRequest, answer: Result<Workflow, String>) {
        if let Some(slot) = self.answers.get_mut(request.number) {
            *slot = Some(answer.map(Arc::new));
        }
    }

    /// `run-name`, evaluated.
    pub fn run_name(&self) -> Option<Result<String, String>> {
        let template = self.frames[0].workflow.run_name.as_ref()?;
        let contexts = self.base_contexts(0);
        Some(template.eval_string(&Scope::new(&contexts)).map_err(|error| error.to_string()))
    }

    /// The workflow's own concurrency group, evaluated.
    pub fn concurrency(&self) -> Option<Result<ConcurrencyGroup, String>> {
        let concurrency = self.frames[0].workflow.concurrency.as_ref()?;
        Some(eval_concurrency(concurrency, &self.base_contexts(0)))
    }

    fn job(&self, node: usize) -> &Job {
        let node = &self.nodes[node];
        &self.frames[node.frame].workflow.jobs[node.job]
    }

    fn base_contexts(&self, frame: usize) -> Contexts {
        let frame = &self.frames[frame];
        Contexts::new()
            .with("github", self.options.github.clone())
            .with("vars", self.options.vars.clone())
            .with("inputs", frame.inputs.clone())
    }

    /// Contexts of job-level keys; the matrix comes with each leg.
    fn node_contexts(&self, node: usize) -> Contexts {
        let mut contexts = self.base_contexts(self.nodes[node].frame);
        contexts.set("needs", self.needs_context(node));
        contexts
    }

    fn given_needs(&self, node: usize) -> &[NeedResult] {
        if self.nodes[node].frame == 0 { &self.options.needs } else { &[] }
    }

    fn needs_context(&self, node: usize) -> Value {
        let done = self.nodes[node].needs.iter().filter_map(|need| match &self.nodes[*need].state {
            NodeState::Done(result) => Some(result),
            _ => None,
        });
        NeedResult::context(self.given_needs(node).iter().chain(done))
    }

    fn ancestors(&self, node: usize) -> Ancestors {
        let mut seen = vec![false; self.nodes.len()];
        let mut queue = self.nodes[node].needs.clone();
        let mut results: Vec<(String, JobResult)> =
            self.given_needs(node).iter().map(|need| (need.id.clone(), need.result)).collect();
        while let Some(next) = queue.pop() {
            if std::mem::replace(&mut seen[next], true) {
                continue;
            }
            if let NodeState::Done(need) = &self.nodes[next].state {
                results.push((need.id.clone(), need.result));
            }
            queue.extend(&self.nodes[next].needs);
        }
        Ancestors { results, cancelled: self.cancelled }
    }

    fn move_node(&mut self, node: usize) -> bool {
        match &self.nodes[node].state {
            NodeState::Done(_) => false,
            NodeState::Waiting => {
                let ready = self.nodes[node]
                    .needs
                    .iter()
                    .all(|need| matches!(self.nodes[*need].state, NodeState::Done(_)));
                if ready {
                    self.begin_node(node);
                }
                ready
            }
            NodeState::Running { legs, max_parallel, .. } => {
                let (legs, max_parallel) = (legs.clone(), *max_parallel);
                let mut moved = false;
                let is_active = |leg: &Leg| !matches!(leg.state, LegState::Held | LegState::Done(_));
                let mut active = legs.iter().filter(|leg| is_active(&self.legs[**leg])).count();
                for leg in &legs {
                    match self.legs[*leg].state {
                        LegState::Held if active < max_parallel => {
                            active += 1;
                            self.start_leg(*leg);
                            moved = true;
                        }
                        LegState::Asking(request) => {
                            if let Some(answer) = self.answers[request].clone() {
                                self.begin_call(*leg, request, answer);
                                moved = true;
                            }
                        }
                        LegState::Calling(frame) if self.frame_is_done(frame) => {
                            self.end_call(*leg, frame);
                            moved = true;
                        }
                        _ => {}
                    }
                }
                if legs.iter().all(|leg| matches!(self.legs[*leg].state, LegState::Done(_))) {
                    self.end_node(node, &legs);
                    moved = true;
                }
                moved
            }
        }
    }

    /// The name without a matrix.
    fn base_name(&self, node: usize) -> String {
        let job = self.job(node);
        let contexts = self.node_contexts(node);
        let name = match &job.name {
            Some(name) => name.eval_string(&Scope::new(&contexts)).unwrap_or_else(|_| name.raw().to_owned()),
            None => String::new(),
        };
        let name = if name.is_empty() { job.id.value.clone() } else { name };
        format!("{}{name}", self.frames[self.nodes[node].frame].prefix)
    }

    fn begin_node(&mut self, node: usize) {
        let job_id = self.job(node).id.value.clone();
        let ancestors = self.ancestors(node);
        let contexts = self.node_contexts(node);
        let scope = Scope::new(&contexts).status(&ancestors);
        let holds = match &self.job(node).condition {
            Some(condition) => condition.eval(&scope).map_err(|error| format!("the job's if: {error}")),
            None => Ok(crate::expr::StatusFunctions::success(&ancestors, &[])),
        };
        let planned = match holds {
            Ok(true) => self.expand_node(node, &scope),
            Ok(false) => {
                let result = if self.cancelled { JobResult::Cancelled } else { JobResult::Skipped };
                self.steps.push_back(Step::Skipped {
                    name: self.base_name(node),
                    job_id: job_id.clone(),
                    result,
                });
                self.nodes[node].state =
                    NodeState::Done(NeedResult { id: job_id, result, outputs: Object::new() });
                return;
            }
            Err(message) => Err(message),
        };
        match planned {
            Ok((legs, max_parallel, fail_fast)) => {
                let first = self.legs.len();
                self.legs.extend(legs);
                let legs = (first..self.legs.len()).collect();
                self.nodes[node].state = NodeState::Running { legs, max_parallel, fail_fast };
            }
            Err(message) => {
                self.steps.push_back(Step::Failed {
                    name: self.base_name(node),
                    job_id: job_id.clone(),
                    message,
                });
                let result = JobResult::Failure;
                self.nodes[node].state =
                    NodeState::Done(NeedResult { id: job_id, result, outputs: Object::new() });
            }
        }
    }

    fn start_leg(&mut self, leg: usize) {
        let started = if self.job(self.legs[leg].node).call.is_some() && !self.options.calls_as_jobs {
            self.request_workflow(leg)
        } else {
            self.plan_job(leg).map(|planned| {
                self.legs[leg].state = LegState::Running;
                self.steps.push_back(Step::Start(Box::new(planned)));
            })
        };
        if let Err(message) = started {
            self.fail_leg(leg, message);
        }
    }

    fn fail_leg(&mut self, leg: usize, message: String) {
        let job_id = self.job(self.legs[leg].node).id.value.clone();
        self.steps.push_back(Step::Failed { name: self.legs[leg].name.clone(), job_id, message });
        self.end_leg(leg, JobResult::Failure);
    }

    fn frame_is_done(&self, frame: usize) -> bool {
        self.frames[frame].nodes.iter().all(|node| matches!(self.nodes[*node].state, NodeState::Done(_)))
    }

    fn frame_result(&self, frame: usize) -> JobResult {
        let results = self.frames[frame].nodes.iter().filter_map(|node| match &self.nodes[*node].state {
            NodeState::Done(need) => Some(need.result),
            _ => None,
        });
        combine(results, self.frames[frame].caller.is_some())
    }

    fn end_leg(&mut self, leg: usize, result: JobResult) {
        self.legs[leg].state = LegState::Done(result);
        let counts = result == JobResult::Failure && !self.legs[leg].continue_on_error;
        let NodeState::Running { legs, fail_fast, .. } = &self.nodes[self.legs[leg].node].state else {
            return;
        };
        if !counts || !*fail_fast {
            return;
        }
        for other in legs.clone() {
            self.cancel_leg(other);
        }
    }

    /// `fail-fast`: what runs is to be cancelled, what has not begun never will.
    fn cancel_leg(&mut self, leg: usize) {
        match self.legs[leg].state {
            LegState::Running => self.steps.push_back(Step::Cancel(JobKey(leg))),
            LegState::Held | LegState::Asking(_) => {
                let job_id = self.job(self.legs[leg].node).id.value.clone();
                let (name, result) = (self.legs[leg].name.clone(), JobResult::Cancelled);
                self.steps.push_back(Step::Skipped { name, job_id, result });
                self.legs[leg].state = LegState::Done(result);
            }
            LegState::Calling(frame) => {
                for node in self.frames[frame].nodes.clone() {
                    match &self.nodes[node].state {
                        NodeState::Running { legs, .. } => {
                            for inner in legs.clone() {
                                self.cancel_leg(inner);
                            }
                        }
                        NodeState::Waiting => {
                            let id = self.job(node).id.value.clone();
                            let (result, outputs) = (JobResult::Cancelled, Object::new());
                            self.nodes[node].state = NodeState::Done(NeedResult { id, result, outputs });
                        }
                        NodeState::Done(_) => {}
                    }
                }
            }
            LegState::Done(_) => {}
        }
    }

    fn end_node(&mut self, node: usize, legs: &[usize]) {
        let results = legs.iter().filter_map(|leg| match self.legs[*leg].state {
            LegState::Done(JobResult::Failure) if self.legs[*leg].continue_on_error => {
                Some(JobResult::Success)
            }
            LegState::Done(result) => Some(result),
            _ => None,
        });
        let result = combine(results, true);
        let mut outputs = Object::new();
        for leg in legs {
            for (key, value) in self.legs[*leg].outputs.iter() {
                // An empty output of one leg does not hide what another has set.
                if value.is_truthy() || !outputs.contains_key(key) {
                    outputs.insert(key, value.clone());
                }
            }
        }
        let id = self.job(node).id.value.clone();
        self.nodes[node].state = NodeState::Done(NeedResult { id, result, outputs });
    }
}

/// One result for several: failure over cancelled over success; all skipped is skipped.
fn combine(results: impl Iterator<Item = JobResult>, skipped_counts: bool) -> JobResult {
    let results: Vec<JobResult> = results.collect();
    if results.contains(&JobResult::Failure) {
        JobResult::Failure
    } else if results.contains(&JobResult::Cancelled) {
        JobResult::Cancelled
    } else if skipped_counts
        && !results.is_empty()
        && results.iter().all(|result| *result == JobResult::Skipped)
    {
        JobResult::Skipped
    } else {
        JobResult::Success
    }
}

fn eval_concurrency(concurrency: &Concurrency, contexts: &Contexts) -> Result<ConcurrencyGroup, String> {
    let scope = Scope::new(contexts);
    let said = |error: crate::EvalError| format!("concurrency: {error}");
    let group = match &concurrency.group {
        Some(group) => group.eval_string(&scope).map_err(said)?,
        None => String::new(),
    };
    let cancel_in_progress = match &concurrency.cancel_in_progress {
        Some(template) => template.eval_bool(&scope).map_err(said)?,
        None => false,
    };
    Ok(ConcurrencyGroup { group, cancel_in_progress })
}
