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
    Diagnostic, Object, SourceFile, Value, Workflow, parse_payload,
    plan::{JobKey, JobResult, PlannedJob, Run, RunOptions, Step, WorkflowReference, WorkflowRequest},
};

use crate::{
    action::{ActionSource, ActionStore, RemoteReference, WorkingTree},
    assignment::{Assignment, Need, Parts, RunnerFacts},
    backend::Backend,
    cancel::{Cancel, CancelCause},
    job::{self, Backends},
    label::{Label, Placement},
    report::{
        Conclusion, JobReport, Sink,
        console::{Console, JobLine},
    },
    secret::Secret,
};

/// The largest workflow file that is read, in bytes.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

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
            for step in run.advance() {
                match step {
                    Step::Start(planned) => {
                        let cancel = self.cancel.child();
                        tokens.insert(planned.key, cancel.clone());
                        self.start(*planned, cancel, seats.clone(), &mut running);
                    }
                    Step::Fetch(request) => {
                        let answer = self.fetch(&request).await;
                        run.answer(&request, answer);
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
                else => {
                    self.console.error("the plan waits for something that nobody does");
                    return Ok((JobResult::Failure, lines));
                }
            }
        }
        Ok((run.result().unwrap_or(JobResult::Failure), lines))
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
        let (key, continue_on_error) = (planned.key, planned.continue_on_error);
        running.spawn(perform(work, backends, store, console, seats, cancel, key, continue_on_error));
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
        let secrets = planned.secrets.as_object().into_iter().flat_map(Object::iter);
        let needs = planned.needs.as_object().into_iter().flat_map(Object::iter);
        let mut github = planned.github.as_object().cloned().unwrap_or_default();
        github.insert("job", planned.job().id.value.as_str());
        let parts = Parts {
            task: i64::try_from(planned.key.number()).unwrap_or(i64::MAX).saturating_add(1),
            github,
            secrets: secrets.map(|(name, value)| (name.to_owned(), Secret::new(value.to_text()))).collect(),
            vars: options.vars.clone(),
            needs: needs.map(|(id, need)| (id.to_owned(), to_need(need))).collect(),
            inputs: planned.inputs.clone(),
            matrix: if planned.matrix.is_empty() {
                Value::Null
            } else {
                Value::object(planned.matrix.clone())
            },
            strategy: planned.strategy.clone(),
            services: Vec::new(),
            source: options.source.clone(),
            working_tree: options.working_tree.clone(),
        };
        let mut work = Assignment::new(parts, Arc::new(planned.workflow.clone()), 0, Arc::new(runner));
        work.display_name.clone_from(&planned.name);
        work
    }

    /// Reads a called workflow: from this folder, or from another repository.
    async fn fetch(&self, request: &WorkflowRequest) -> Result<Workflow, String> {
        let (name, text) = match (&request.reference, &request.from) {
            (WorkflowReference::Local { path }, None) => {
                let file = self.options.root.join(path);
                let text = std::fs::read_to_string(&file)
                    .map_err(|error| format!("{path} cannot be read: {error}"))?;
                (path.clone(), text)
            }
            (WorkflowReference::Local { path }, Some(from)) => {
                let remote = RemoteReference { path: path.clone(), ..remote_reference(from) };
                self.remote_file(&remote).await?
            }
            (WorkflowReference::Remote(remote), _) => self.remote_file(&remote_reference(remote)).await?,
        };
        let source = SourceFile::new(&name, &text);
        parse_payload(&source).into_result().map_err(|diagnostics| {
            diagnostics.first().map_or_else(
                || format!("{name} cannot be read"),
                |diagnostic| workflows::render_line(diagnostic, &source),
            )
        })
    }

    async fn remote_file(&self, reference: &RemoteReference) -> Result<(String, String), String> {
        let source = &self.options.source;
        let remote = source.remote(reference);
        let archive =
            self.store.obtain(&remote, &reference.git_ref).await.map_err(|error| format!("{error}"))?;
        let found = archive
            .read_first(std::slice::from_ref(&reference.path), FILE_LIMIT)
            .map_err(|error| format!("{reference} cannot be read: {error}"))?;
        let (_, content) = found.ok_or_else(|| format!("{reference} does not exist"))?;
        let text = String::from_utf8(content).map_err(|_| format!("{reference} is no UTF-8"))?;
        Ok((reference.to_string(), text))
    }
}

/// Runs one job beside others.
#[expect(clippy::too_many_arguments, reason = "what a task of its own has to own")]
fn perform<H: Backend, D: Backend>(
    work: Assignment,
    backends: Backends<H, D>,
    store: ActionStore,
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
        let (sink, events) = Sink::new(cancel);
        let name = work.display_name.clone();
        let job = async {
            let report = job::run(&work, &backends, &store, &sink).await;
            drop(sink);
            report
        };
        let (report, ()) = tokio::join!(job, console.follow(&name, events));
        let line = JobLine { name, conclusion: report.conclusion, duration: begun.elapsed() };
        Finished { key, line, report, continue_on_error }
    })
}

fn remote_reference(remote: &workflows::plan::RemoteWorkflow) -> RemoteReference {
    RemoteReference {
        base: remote.server.clone(),
        owner: remote.owner.clone(),
        repository: remote.repository.clone(),
        path: remote.path.clone(),
        git_ref: remote.reference.clone(),
    }
}

fn to_need(need: &Value) -> Need {
    let outputs = need.get("outputs").and_then(Value::as_object).into_iter().flat_map(Object::iter);
    Need {
        result: need.get("result").map(Value::to_text).unwrap_or_default(),
        outputs: outputs.map(|(name, value)| (name.to_owned(), value.to_text())).collect(),
    }
}

const fn conclusion(result: JobResult) -> Conclusion {
    match result {
        JobResult::Success => Conclusion::Success,
        JobResult::Failure => Conclusion::Failure,
        JobResult::Cancelled => Conclusion::Cancelled,
        JobResult::Skipped => Conclusion::Skipped,
    }
}

fn strings<'s>(entries: impl Iterator<Item = (&'s str, &'s str)>) -> Value {
    Value::object(entries.collect())
}
