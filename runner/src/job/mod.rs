//! One job, from its assignment to its report.
//!
//! [`run`] is the whole of it, and it cannot fail: whatever goes wrong *is* the report. Before the first step everything
//! that the job uses is had: its place is prepared while its actions are fetched. After the last one the place is torn
//! down on its own clock, the outputs are evaluated, and one `match` turns the cause of a cancel into a conclusion.

mod cache;
mod contexts;
pub(crate) mod effects;
pub(crate) mod env;
pub(crate) mod frame;
pub(crate) mod guard;
mod hooks;
mod outputs;
mod place;
mod reusable;
mod setup;
pub(crate) mod state;
pub(crate) mod steps;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    time::{Duration, SystemTime},
};

pub(crate) use contexts::before_place as contexts_before_place;
pub(crate) use place::spare_proxy;
pub(crate) use reusable::{fetch_called, parse_called};
use workflows::{Contexts, JobStatus, Scope, StatusFunctions};

use self::{guard::Patience, place::Chosen, state::JobState, steps::JobRun};
use crate::{
    action::{ActionStore, Actions},
    assignment::Assignment,
    backend::{Backend, BackendError, FileIn, JobEnv},
    cancel::{Cancel, CancelCause},
    log::JobLog,
    report::{Conclusion, JobEvent, JobReport, Sink},
};

/// How long a place may take to disappear.
const TEARDOWN: Duration = Duration::from_secs(60);

/// Which part of an action runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before all main steps.
    Pre,
    /// In its turn.
    Main,
    /// After all main steps, in reverse order.
    Post,
}

/// The two kinds of places that a runner has.
#[derive(Debug, Clone)]
pub struct Backends<H, D> {
    /// Processes of this machine.
    pub host: H,
    /// Containers; or why there is no engine, as a sentence.
    pub docker: Result<D, String>,
}

/// Runs one assignment; tells its story into `sink`, first event to last. A cancel comes from `sink.cancel()`.
pub fn run<'a, H: Backend, D: Backend>(
    work: &'a Assignment,
    backends: &'a Backends<H, D>,
    store: &'a ActionStore,
    sink: &'a Sink,
) -> Pin<Box<dyn Future<Output = JobReport> + Send + 'a>> {
    Box::pin(run_reported(work, backends, store, sink))
}

async fn run_reported<H: Backend, D: Backend>(
    work: &Assignment,
    backends: &Backends<H, D>,
    store: &ActionStore,
    sink: &Sink,
) -> JobReport {
    let log = JobLog::open(sink.clone(), work.masker());
    let cancel = sink.cancel().child();
    let contexts = contexts::before_place(work);
    let steps = setup::step_names(work, &contexts).iter().map(|name| log.mask(name)).collect();
    log.emit(JobEvent::Started { at: SystemTime::now(), steps }).await;
    setup::rows(work, &log).await;
    let limit = work.runner.config.timeout;
    let job = Box::pin(run_job(work, backends, store, &log, &cancel, &contexts));
    let (conclusion, outputs) = with_limit(Some(limit), CancelCause::RunnerTimeout, &cancel, job).await;
    let conclusion = conclude(conclusion, &cancel, work, &log).await;
    let report = JobReport { conclusion, outputs, at: SystemTime::now() };
    log.emit(JobEvent::Finished(report.clone())).await;
    report
}

type Ended = (Conclusion, BTreeMap<String, String>);

async fn run_job<H: Backend, D: Backend>(
    work: &Assignment,
    backends: &Backends<H, D>,
    store: &ActionStore,
    log: &JobLog,
    cancel: &Cancel,
    contexts: &Contexts,
) -> Ended {
    match wanted(work, contexts) {
        Ok(true) => {}
        Ok(false) => {
            log.row("The job is skipped: its `if` does not hold.").await;
            return (Conclusion::Skipped, BTreeMap::new());
        }
        Err(error) => return failed(log, &format!("The job's `if` cannot be evaluated: {error}")).await,
    }
    if work.job().call.is_some() {
        return Box::pin(reusable::run_called(work, backends, store, log, cancel)).await;
    }
    let limit = match time_limit(work, contexts) {
        Ok(limit) => limit,
        Err(error) => {
            return failed(log, &format!("The job's timeout-minutes cannot be evaluated: {error}")).await;
        }
    };
    let chosen = match place::choose(work, contexts, log.masker()) {
        Ok(chosen) => chosen,
        Err(error) => return failed(log, &error).await,
    };
    let in_place = async {
        match (&chosen.spec.container, &backends.docker) {
            (None, _) => Box::pin(run_in(work, &backends.host, chosen, store, log, cancel, contexts)).await,
            (Some(_), Ok(docker)) => {
                Box::pin(run_in(work, docker, chosen, store, log, cancel, contexts)).await
            }
            (Some(_), Err(error)) => failed(log, error).await,
        }
    };
    with_limit(limit, CancelCause::JobTimeout, cancel, in_place).await
}

/// Runs the steps in a place of `backend`, which is there for this job only.
async fn run_in<B: Backend>(
    work: &Assignment,
    backend: &B,
    chosen: Chosen,
    store: &ActionStore,
    log: &JobLog,
    cancel: &Cancel,
    contexts: &Contexts,
) -> Ended {
    let prepare = prepare(backend, chosen.spec, log, cancel);
    let fetch = setup::actions(work, store, log, contexts);
    let (place, fetched) = tokio::join!(prepare, fetch);
    let place = match place {
        Ok(place) => place,
        Err(BackendError::Cancelled) => return (Conclusion::Cancelled, BTreeMap::new()),
        Err(error) => return failed(log, &error.to_string()).await,
    };
    // Another job of a called workflow may have been first.
    let _ = work.workspace.set(place.layout().workspace.clone());
    let ended = match fetched {
        Ok((actions, texts)) => {
            let mut run =
                JobRun::new(work, &place, log, store, actions, cancel.clone(), chosen.default_shell);
            run.services.extend(cache::services(&work.cache, &place, log).await);
            Box::pin(run.whole_job(&texts)).await
        }
        Err(error) => failed(log, &error).await,
    };
    log.row(&format!("Cleaning up after job {}", work.display_name)).await;
    let teardown = Box::pin(place.teardown(TEARDOWN)).await;
    for process in &teardown.ended {
        log.row(&format!("Terminate orphan process: {process}")).await;
    }
    for left in &teardown.left_over {
        log.warning(left).await;
    }
    ended
}

/// Boxed, so that the compiler can see that a job may move between threads.
fn prepare<'a, B: Backend>(
    backend: &'a B,
    spec: crate::backend::JobSpec,
    log: &'a JobLog,
    cancel: &'a Cancel,
) -> Pin<Box<dyn Future<Output = Result<B::Env, BackendError>> + Send + 'a>> {
    Box::pin(backend.prepare(spec, log, cancel))
}

impl<'a, E: JobEnv> JobRun<'a, E> {
    fn new(
        work: &'a Assignment,
        place: &'a E,
        log: &'a JobLog,
        store: &'a ActionStore,
        actions: Actions,
        cancel: Cancel,
        default_shell: crate::step::shell::DefaultShell,
    ) -> Self {
        let debug = setup::is_debug(work);
        let layout = place.layout();
        let event =
            work.github.get("event").map_or_else(|| "{}".to_owned(), |event| event.to_json().to_string());
        let event =
            FileIn { path: contexts::event_path(layout), mode: 0o644, bytes: event.into_bytes().into() };
        let mut state = JobState { pending: vec![event], ..JobState::default() };
        state.env.extend(setup::markers(work));
        state.env.extend(work.runner.config.envs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        Self {
            work,
            place,
            log,
            actions,
            store,
            cancel,
            state,
            base: contexts::in_place(work, layout, debug),
            run_defaults: (None, None),
            default_shell,
            debug,
            services: setup::services(work),
            patience: Patience::default(),
        }
    }

    /// All stages of all steps, hooks before and after, outputs at the end.
    async fn whole_job(&mut self, uses: &[Option<String>]) -> Ended {
        let mut frame = match self.open_job(uses).await {
            Ok(frame) => frame,
            Err(error) => return failed(self.log, &error).await,
        };
        if self.run_hook(0).await {
            Box::pin(self.run_all(&mut frame)).await;
        }
        self.run_hook(1).await;
        let outputs = self.evaluate_outputs(&frame).await;
        let conclusion = match self.state.status {
            JobStatus::Success => Conclusion::Success,
            JobStatus::Failure => Conclusion::Failure,
            JobStatus::Cancelled => Conclusion::Cancelled,
        };
        (conclusion, outputs)
    }
}

/// Runs `work`, and cancels with `cause` when `limit` is over; then waits for its end.
async fn with_limit<T>(
    limit: Option<Duration>,
    cause: CancelCause,
    cancel: &Cancel,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    let Some(limit) = limit else { return work.await };
    tokio::select! {
        result = &mut work => return result,
        () = tokio::time::sleep(limit) => cancel.cancel(cause),
    }
    work.await
}

async fn failed(log: &JobLog, error: &str) -> Ended {
    log.error(error).await;
    (Conclusion::Failure, BTreeMap::new())
}

/// The one place where the cause of a cancel becomes a conclusion.
async fn conclude(conclusion: Conclusion, cancel: &Cancel, work: &Assignment, log: &JobLog) -> Conclusion {
    let conclusion = match cancel.cause() {
        None | Some(CancelCause::StepTimeout) => conclusion,
        Some(CancelCause::Server | CancelCause::ServerEnded) => Conclusion::Cancelled,
        Some(CancelCause::Shutdown) => {
            log.error("The runner was shut down.").await;
            Conclusion::Cancelled
        }
        // The reporter says why, in the room that it has kept for that.
        Some(CancelCause::DiskFull) => Conclusion::Failure,
        Some(CancelCause::JobTimeout) => {
            log.error("The job has exceeded its timeout-minutes.").await;
            Conclusion::Failure
        }
        Some(CancelCause::RunnerTimeout) => {
            let limit = work.runner.config.timeout.as_secs();
            log.error(&format!("The job has exceeded this runner's limit of {limit} s (runner.timeout)."))
                .await;
            Conclusion::Failure
        }
    };
    let word = match conclusion {
        Conclusion::Success => "succeeded",
        Conclusion::Failure => "failed",
        Conclusion::Cancelled => "was cancelled",
        Conclusion::Skipped => "was skipped",
    };
    log.row(&format!("Job {word}")).await;
    conclusion
}

/// How `success()` and `failure()` answer in a job's `if`: by what its needs have become.
struct Needs<'a>(&'a Assignment);

impl Needs<'_> {
    fn any(&self, jobs: &[String], hit: impl Fn(&str) -> bool) -> bool {
        self.0.needs.iter().any(|(id, need)| {
            (jobs.is_empty() || jobs.iter().any(|job| job.eq_ignore_ascii_case(id))) && hit(&need.result)
        })
    }
}

impl StatusFunctions for Needs<'_> {
    fn success(&self, jobs: &[String]) -> bool {
        !self.any(jobs, |result| result != "success")
    }

    fn failure(&self, jobs: &[String]) -> bool {
        self.any(jobs, |result| result == "failure")
    }

    fn cancelled(&self) -> bool {
        false
    }
}

fn wanted(work: &Assignment, contexts: &Contexts) -> Result<bool, workflows::EvalError> {
    let needs = Needs(work);
    match &work.job().condition {
        Some(condition) => condition.eval(&Scope::new(contexts).status(&needs)),
        None => Ok(needs.success(&[])),
    }
}

fn time_limit(work: &Assignment, contexts: &Contexts) -> Result<Option<Duration>, workflows::EvalError> {
    let Some(template) = &work.job().timeout_minutes else { return Ok(None) };
    Ok(minutes(template.eval_number(&Scope::new(contexts))?))
}

/// A limit in minutes; 0 and less is none.
pub(crate) fn minutes(minutes: f64) -> Option<Duration> {
    if minutes > 0.0 { Duration::try_from_secs_f64(minutes * 60.0).ok() } else { None }
}
