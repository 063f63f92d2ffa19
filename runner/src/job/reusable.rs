//! A job that calls a reusable workflow, for servers that do not expand such calls: all jobs of the called workflow
//! run inside this one task, one after the other.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use workflows::{
    Object, SourceFile, Value, Workflow, parse_payload,
    plan::{
        JobResult, NeedResult, RemoteWorkflow, Run, RunOptions, Step, WorkflowReference, WorkflowRequest,
    },
};

use super::{Backends, Ended, failed};
use crate::{
    action::{ActionSource, ActionStore, Origin, RemoteReference},
    assignment::{Assignment, Parts},
    backend::Backend,
    cancel::Cancel,
    log::JobLog,
    report::{Conclusion, JobEvent, JobReport, Sink},
};

/// The largest workflow file that is read, in bytes.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// Runs the workflow that `work`'s job calls.
pub(super) async fn run_called<H: Backend, D: Backend>(
    work: &Assignment,
    backends: &Backends<H, D>,
    store: &ActionStore,
    log: &JobLog,
    cancel: &Cancel,
) -> Ended {
    let mut run = match plan(work) {
        Ok(run) => run,
        Err(error) => return failed(log, &error).await,
    };
    let mut told = false;
    loop {
        if cancel.is_cancelled() && !told {
            told = true;
            run.cancel();
        }
        let steps = run.advance();
        if steps.is_empty() {
            break;
        }
        for step in steps {
            match step {
                Step::Fetch(request) => {
                    let answer = fetch_called(&request, &work.source, &work.origin(), store).await;
                    run.answer(&request, answer);
                }
                Step::Start(planned) => {
                    let parts = Parts {
                        task: work.task,
                        vars: work.vars.clone(),
                        services: work.services.clone(),
                        cache: work.cache.clone(),
                        source: work.source.clone(),
                        working_tree: work.working_tree.clone(),
                        ..Parts::default()
                    };
                    let mut inner = Assignment::from_planned(&planned, parts, work.runner.clone());
                    inner.workspace = work.workspace.clone();
                    log.row(&format!("Run job {}", inner.display_name)).await;
                    let report = run_inner(&inner, backends, store, log, cancel).await;
                    let outputs: Object =
                        report.outputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    let result = match report.conclusion {
                        Conclusion::Failure if planned.continue_on_error => JobResult::Success,
                        Conclusion::Success => JobResult::Success,
                        Conclusion::Failure => JobResult::Failure,
                        Conclusion::Cancelled => JobResult::Cancelled,
                        Conclusion::Skipped => JobResult::Skipped,
                    };
                    run.finish(planned.key, result, outputs);
                }
                Step::Skipped { name, result, .. } => {
                    log.row(&format!("Job {name} was {}", result.as_str())).await;
                }
                Step::Failed { name, message, .. } => log.error(&format!("{name}: {message}")).await,
                // Nothing runs beside this loop.
                Step::Cancel(_) => {}
            }
        }
    }
    ended(&run)
}

fn ended(run: &Run) -> Ended {
    let conclusion = match run.result() {
        Some(JobResult::Success) => Conclusion::Success,
        Some(JobResult::Cancelled) => Conclusion::Cancelled,
        Some(JobResult::Skipped) => Conclusion::Skipped,
        Some(JobResult::Failure) | None => Conclusion::Failure,
    };
    let outputs: BTreeMap<String, String> = run
        .results()
        .flat_map(|result| result.outputs.iter())
        .map(|(name, value)| (name.to_owned(), value.to_text()))
        .collect();
    (conclusion, outputs)
}

/// A plan of the calling job alone, with what it may see.
fn plan(work: &Assignment) -> Result<Run, String> {
    let strings = |entries: Vec<(String, String)>| Value::object(entries.into_iter().collect());
    let secrets = work.secrets.iter().map(|(name, value)| (name.clone(), value.expose().clone())).collect();
    let needs = work.needs.iter().map(|(id, need)| NeedResult {
        id: id.clone(),
        result: JobResult::by_name(&need.result).unwrap_or(JobResult::Failure),
        outputs: need.outputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
    });
    let options = RunOptions {
        github: Value::object(work.github.clone()),
        vars: strings(work.vars.clone()),
        secrets: strings(secrets),
        inputs: work.inputs.clone(),
        needs: needs.collect(),
        ..RunOptions::default()
    };
    Run::new(work.workflow().clone(), options).map_err(|diagnostics| {
        diagnostics.first().map_or_else(
            || "The called workflow cannot be planned.".to_owned(),
            |diagnostic| workflows::render_line(diagnostic, &work.workflow().source),
        )
    })
}

/// Runs one job of the called workflow; its rows become rows of this task, its steps are no steps of the server's.
async fn run_inner<H: Backend, D: Backend>(
    work: &Assignment,
    backends: &Backends<H, D>,
    store: &ActionStore,
    log: &JobLog,
    cancel: &Cancel,
) -> JobReport {
    let token = cancel.child();
    let (sink, events) = Sink::new(token);
    let job = async {
        let report = super::run(work, backends, store, &sink).await;
        drop(sink);
        report
    };
    let (report, ()) = tokio::join!(job, forward(events, log));
    report
}

async fn forward(mut events: mpsc::Receiver<JobEvent>, log: &JobLog) {
    while let Some(event) = events.recv().await {
        match event {
            // Masked by the same secrets already.
            JobEvent::Rows(rows) => log.emit(JobEvent::Rows(rows)).await,
            JobEvent::Started { .. }
            | JobEvent::StepStarted { .. }
            | JobEvent::StepFinished { .. }
            | JobEvent::Summary { .. }
            | JobEvent::Finished(_) => {}
        }
    }
}

/// Reads a called workflow from the repository it is in. A local path is in the repository and commit of the file that
/// names it; a name without a server is on the job's own server, whatever the default place of actions is.
pub(crate) async fn fetch_called(
    request: &WorkflowRequest,
    source: &ActionSource,
    origin: &Origin,
    store: &ActionStore,
) -> Result<Workflow, String> {
    let reference = match (&request.reference, &request.from) {
        (WorkflowReference::Local { path }, Some(from)) => {
            RemoteReference { path: path.clone(), ..remote(from, source) }
        }
        (WorkflowReference::Local { path }, None) => {
            let (owner, repository) = origin
                .repository
                .split_once('/')
                .ok_or_else(|| format!("{path}: the repository is unknown"))?;
            RemoteReference {
                base: Some(source.instance_url.clone()),
                owner: owner.to_owned(),
                repository: repository.to_owned(),
                path: path.clone(),
                git_ref: origin.git_ref.clone(),
            }
        }
        (WorkflowReference::Remote(reference), _) => remote(reference, source),
    };
    let archive = match source.stand_in(&reference) {
        Some(folder) => store.pack_folder(folder).await,
        None => store.obtain(&source.remote(&reference), &reference.git_ref).await,
    };
    let archive = archive.map_err(|error| format!("the workflow {reference} cannot be had: {error}"))?;
    let found = archive
        .read_first(std::slice::from_ref(&reference.path), FILE_LIMIT)
        .map_err(|error| format!("the workflow {reference} cannot be read: {error}"))?;
    let (_, content) = found.ok_or_else(|| format!("the workflow {reference} does not exist"))?;
    let text = String::from_utf8(content).map_err(|_| format!("the workflow {reference} is no UTF-8"))?;
    parse_called(&reference.to_string(), &text)
}

/// Parses a called workflow; the error is one line with its place.
pub(crate) fn parse_called(name: &str, text: &str) -> Result<Workflow, String> {
    let source = SourceFile::new(name, text);
    parse_payload(&source).into_result().map_err(|diagnostics| {
        diagnostics
            .first()
            .map_or_else(|| format!("{name} cannot be read"), |found| workflows::render_line(found, &source))
    })
}

fn remote(remote: &RemoteWorkflow, source: &ActionSource) -> RemoteReference {
    RemoteReference {
        base: Some(remote.server.clone().unwrap_or_else(|| source.workflow_url().to_owned())),
        owner: remote.owner.clone(),
        repository: remote.repository.clone(),
        path: remote.path.clone(),
        git_ref: remote.reference.clone(),
    }
}
