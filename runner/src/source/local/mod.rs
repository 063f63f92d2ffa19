//! A server in miniature: plans the workflows of a folder and hands out the same assignments that Gitea would.
//!
//! It stands in for the server only. From [`job::run`] on not one line differs from the daemon's road.

mod event;
mod files;
mod repository;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

pub use event::{EventError, EventSpec};
pub use files::{FoundWorkflow, find};
pub use repository::Repository;
use tokio::{sync::Semaphore, task::JoinSet};
use workflows::{
    Diagnostic, Object, Value, Workflow,
    plan::{JobKey, JobResult, PlannedJob, Run, RunOptions, Step, WorkflowReference, WorkflowRequest},
};

use crate::{
    action::{ActionSource, ActionStore, Origin, WorkingTree},
    assignment::{Assignment, Parts, RunnerFacts},
    backend::Backend,
    cache::Caches,
    cancel::{Cancel, CancelCause},
    job::{self, Backends},
    label::{Label, Placement},
    report::{
        Conclusion, JobReport, Sink,
        console::{Console, JobLine},
    },
    secret::Secret,
};

/// Everything that a local run is told.
#[derive(Debug)]
pub struct LocalOptions {
    /// The repository.
    pub root: PathBuf,
    /// The `github` context of the run, without the job's own keys.
    pub github: Object,
    /// `secrets`.
    pub secrets: Vec<(String, Secret<String>)>,
    /// `vars`.
    pub vars: Vec<(String, String)>,
    /// Only these jobs and what they need.
    pub jobs: Vec<String>,
    /// Only these values of a matrix.
    pub matrix: Vec<(String, String)>,
    /// Where labels lead: by name, and `None` for all others.
    pub placements: (HashMap<String, Placement>, Placement),
    /// How many jobs run at a time.
    pub parallel: usize,
    /// From where actions come.
    pub source: ActionSource,
    /// What `actions/checkout` means; `None` clones.
    pub working_tree: Option<Arc<WorkingTree>>,
    /// Who runs.
    pub runner: RunnerFacts,
    /// Plan only: every job is told and taken as successful.
    pub plan_only: bool,
}

/// Runs one workflow to its end.
#[derive(Debug)]
pub struct LocalRun<'a, H, D> {
    /// What was asked for.
    pub options: &'a LocalOptions,
    /// Where jobs run.
    pub backends: &'a Backends<H, D>,
    /// Where actions are kept.
    pub store: &'a ActionStore,
    /// Their cache.
    pub caches: &'a Caches,
    /// Where everything is told.
    pub console: &'a Console,
    /// Ends the run.
    pub cancel: &'a Cancel,
}

struct Finished {
    key: JobKey,
    line: JobLine,
    report: JobReport,
    continue_on_error: bool,
}

impl<H: Backend, D: Backend> LocalRun<'_, H, D> {
    /// Runs `workflow` for the event of the options. Answers its result and a line for each job.
    pub async fn workflow(
        &self,
        workflow: Workflow,
        inputs: Value,
    ) -> Result<(JobResult, Vec<JobLine>), Vec<Diagnostic>> {
        let options = self.options;
        let mut github = options.github.clone();
        github.insert("workflow", workflow.display_name());
        if let Some(event) = dispatched(&github, &inputs) {
            github.insert("event", event);
        }
        let mut run = Run::new(
            workflow,
            RunOptions {
                github: Value::object(github),
                vars: strings(options.vars.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
                secrets: strings(
                    options.secrets.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())),
                ),
                inputs,
                jobs: options.jobs.clone(),
                matrix: options.matrix.clone(),
                ..RunOptions::default()
            },
        )?;
        let mut lines = Vec::new();
        let mut running: JoinSet<Finished> = JoinSet::new();
        let mut tokens: HashMap<JobKey, Cancel> = HashMap::new();
        let seats = Arc::new(Semaphore::new(options.parallel.max(1)));
        let mut told = false;
        loop {
            let steps = run.advance();
            let moved = !steps.is_empty();
            let mut answered = false;
            for step in steps {
                match step {
                    Step::Start(planned) if options.plan_only => {
                        self.tell_plan(&planned);
                        run.finish(planned.key, JobResult::Success, Object::new());
                        answered = true;
                    }
                    Step::Start(planned) => {
                        let cancel = self.cancel.child();
                        tokens.insert(planned.key, cancel.clone());
                        self.start(*planned, cancel, seats.clone(), &mut running);
                    }
                    Step::Fetch(request) => {
                        let answer = self.fetch(&request).await;
                        run.answer(&request, answer);
                        answered = true;
                    }
                    Step::Skipped { name, result, .. } => {
                        let conclusion = conclusion(result);
                        self.console.note(&format!("{name}: {}", conclusion.as_str()));
                        lines.push(JobLine { name, conclusion, duration: Duration::ZERO });
                    }
                    Step::Failed { name, message, .. } => {
                        self.console.error(&format!("{name}: {message}"));
                        lines.push(JobLine {
                            name,
                            conclusion: Conclusion::Failure,
                            duration: Duration::ZERO,
                        });
                    }
                    Step::Cancel(key) => {
                        if let Some(token) = tokens.get(&key) {
                            token.cancel(CancelCause::Server);
                        }
                    }
                }
            }
            if run.is_finished() {
                break;
            }
            if answered || (moved && running.is_empty()) {
                continue;
            }
            if running.is_empty() {
                self.console.error("the plan waits for something that nobody does");
                return Ok((JobResult::Failure, lines));
            }
            tokio::select! {
                Some(done) = running.join_next() => match done {
                    Ok(done) => {
                        let result = match done.report.conclusion {
                            Conclusion::Failure if done.continue_on_error => JobResult::Success,
                            Conclusion::Success => JobResult::Success,
                            Conclusion::Failure => JobResult::Failure,
                            Conclusion::Cancelled => JobResult::Cancelled,
                            Conclusion::Skipped => JobResult::Skipped,
                        };
                        let outputs: Object =
                            done.report.outputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                        run.finish(done.key, result, outputs);
                        lines.push(done.line);
                    }
                    Err(error) => {
                        self.console.error(&format!("a job has crashed: {error}"));
                        return Ok((JobResult::Failure, lines));
                    }
                },
                _ = self.cancel.cancelled(), if !told => {
                    told = true;
                    run.cancel();
                }
            }
        }
        Ok((run.result().unwrap_or(JobResult::Failure), lines))
    }

    /// What would run, and where.
    fn tell_plan(&self, planned: &PlannedJob) {
        let (by_name, other) = &self.options.placements;
        let place = match planned.runs_on.iter().find_map(|label| by_name.get(label)).unwrap_or(other) {
            Placement::Docker(image) => image,
            Placement::Host => "this machine",
        };
        self.console.note(&format!("  {} on {} ({place})", planned.name, planned.runs_on.join(", ")));
    }

    fn start(
        &self,
        planned: PlannedJob,
        cancel: Cancel,
        seats: Arc<Semaphore>,
        running: &mut JoinSet<Finished>,
    ) {
        let work = self.assignment(&planned);
        let (backends, store, console) = (self.backends.clone(), self.store.clone(), self.console.clone());
        let caches = self.caches.clone();
        let (key, continue_on_error) = (planned.key, planned.continue_on_error);
        running.spawn(perform(work, backends, store, caches, console, seats, cancel, key, continue_on_error));
    }

    fn assignment(&self, planned: &PlannedJob) -> Assignment {
        let options = self.options;
        let (by_name, other) = &options.placements;
        let labels =
            planned.runs_on.iter().map(|name| Label::new(name, by_name.get(name).unwrap_or(other).clone()));
        let mut runner = options.runner.clone();
        runner.labels = labels.collect();
        if let Placement::Docker(image) = other {
            runner.config.default_image = Some(image.clone());
        }
        let parts = Parts {
            task: i64::try_from(planned.key.number()).unwrap_or(i64::MAX).saturating_add(1),
            vars: options.vars.clone(),
            services: vec![("ACTIONS_RUNTIME_TOKEN".to_owned(), runtime_token())],
            source: options.source.clone(),
            working_tree: options.working_tree.clone(),
            ..Parts::default()
        };
        Assignment::from_planned(planned, parts, Arc::new(runner))
    }

    /// Reads a called workflow: from this folder, or from another repository.
    async fn fetch(&self, request: &WorkflowRequest) -> Result<Workflow, String> {
        if let (WorkflowReference::Local { path }, None) = (&request.reference, &request.from) {
            let file = self.options.root.join(path);
            let text =
                std::fs::read_to_string(&file).map_err(|error| format!("{path} cannot be read: {error}"))?;
            return job::parse_called(path, &text);
        }
        job::fetch_called(request, &self.options.source, &Origin::default(), self.store).await
    }
}

/// What a job of this run shows to the cache. Nobody else knows it.
fn runtime_token() -> Secret<String> {
    let [one, other] = [(); 2].map(|()| uuid::Uuid::new_v4().simple().to_string());
    Secret::new(one + &other)
}

/// Runs one job beside others.
#[expect(clippy::too_many_arguments, reason = "what a task of its own has to own")]
fn perform<H: Backend, D: Backend>(
    mut work: Assignment,
    backends: Backends<H, D>,
    store: ActionStore,
    caches: Caches,
    console: Console,
    seats: Arc<Semaphore>,
    cancel: Cancel,
    key: JobKey,
    continue_on_error: bool,
) -> std::pin::Pin<Box<dyn Future<Output = Finished> + Send>> {
    Box::pin(async move {
        // The semaphore is never closed: a missing permit would only mean one job more at a time.
        let _seat = seats.acquire_owned().await.ok();
        let begun = Instant::now();
        let entered = match work.runtime_token() {
            Some(token) => Some(caches.enter(token, &work.repository(), "").await),
            None => None,
        };
        work.cache = entered.as_ref().map(|entered| entered.offer.clone()).unwrap_or_default();
        let (sink, events) = Sink::new(cancel);
        let name = work.display_name.clone();
        let job = async {
            let report = job::run(&work, &backends, &store, &sink).await;
            drop(sink);
            report
        };
        let (report, ()) = tokio::join!(job, console.follow(&name, events));
        if let Some(entered) = entered {
            entered.leave().await;
        }
        let line = JobLine { name, conclusion: report.conclusion, duration: begun.elapsed() };
        Finished { key, line, report, continue_on_error }
    })
}

const fn conclusion(result: JobResult) -> Conclusion {
    match result {
        JobResult::Success => Conclusion::Success,
        JobResult::Failure => Conclusion::Failure,
        JobResult::Cancelled => Conclusion::Cancelled,
        JobResult::Skipped => Conclusion::Skipped,
    }
}

/// The event of a dispatch, whose `inputs` are, as a server sends them, all inputs as text.
fn dispatched(github: &Object, inputs: &Value) -> Option<Value> {
    let inputs = inputs.as_object()?;
    if github.get("event_name").and_then(Value::as_str) != Some("workflow_dispatch") {
        return None;
    }
    let mut event = github.get("event").and_then(Value::as_object).cloned().unwrap_or_default();
    let texts: Object = inputs.iter().map(|(name, value)| (name, Value::from(value.to_text()))).collect();
    event.insert("inputs", Value::object(texts));
    Some(Value::object(event))
}

fn strings<'s>(entries: impl Iterator<Item = (&'s str, &'s str)>) -> Value {
    Value::object(entries.collect())
}
