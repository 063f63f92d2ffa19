//! One task from its arrival to its last acknowledgement. Whatever happens in it stays in it: a panic is a failed job.

use std::{
    collections::HashSet,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{process::Command, sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{gate::run_bounded, health::Pulse};
use crate::{
    action::ActionStore,
    assignment::{Assignment, RunnerFacts},
    backend::Backend,
    cache::{Caches, Entered, Offer},
    cancel::Cancel,
    job::{self, Backends},
    metrics::Metrics,
    report::{
        Conclusion, JobReport, Sink,
        gitea::{Ended, ReportLimits},
    },
    server::{Client, Task},
    settings::Runner,
    source::gitea::{self, Opened},
};

/// What every task needs, once per daemon.
#[derive(Debug)]
pub(super) struct Shop<H, D> {
    /// Who we are.
    pub facts: Arc<RunnerFacts>,
    /// Where jobs run.
    pub backends: Backends<H, D>,
    /// Where their actions are.
    pub store: ActionStore,
    /// Their cache.
    pub caches: Caches,
    /// Whom to report to.
    pub client: Client,
    /// How.
    pub limits: ReportLimits,
    /// `runner` of the configuration.
    pub runner: Runner,
    /// Folder of the journals.
    pub jobs_folder: PathBuf,
    /// Cancels all jobs.
    pub jobs: Cancel,
    /// There is no time to wait for a server that does not answer.
    pub hurry: CancellationToken,
    /// What to tell about ourselves.
    pub pulse: Pulse,
    /// What to count.
    pub metrics: Metrics,
    /// Counts jobs that have ended.
    pub ended: watch::Sender<u64>,
    /// Tasks that run now.
    pub running: Mutex<HashSet<i64>>,
}

/// Removes a task from the running ones, whatever happens.
struct Running<'s, H, D> {
    shop: &'s Shop<H, D>,
    task: i64,
}

impl<'s, H, D> Running<'s, H, D> {
    /// `None` when it runs already.
    fn begin(shop: &'s Shop<H, D>, task: i64) -> Option<Self> {
        let new = shop.running.lock().unwrap_or_else(PoisonError::into_inner).insert(task);
        shop.tell();
        new.then_some(Self { shop, task })
    }
}

impl<H, D> Drop for Running<'_, H, D> {
    fn drop(&mut self) {
        self.shop.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.task);
        self.shop.tell();
        self.shop.ended.send_modify(|count| *count += 1);
    }
}

impl<H, D> Shop<H, D> {
    /// Whether a task runs now.
    pub(super) fn is_running(&self, task: i64) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).contains(&task)
    }

    /// Whether none does.
    pub(super) fn is_idle(&self) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn tell(&self) {
        let count = self.running.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.pulse.jobs(count);
        self.metrics.running(count, self.runner.capacity);
    }
}

/// Runs a task and reports it. How its report ended, and the job's conclusion.
pub(super) async fn run_task<H: Backend, D: Backend>(shop: Arc<Shop<H, D>>, task: Task) -> Option<Ended> {
    let id = task.id;
    let Some(_running) = Running::begin(&shop, id) else {
        tracing::error!(task = id, "the server has handed out a task twice; the second time is ignored");
        return None;
    };
    let start = Instant::now();
    let cancel = shop.jobs.child();
    let opened = gitea::open(
        task,
        &shop.facts,
        &shop.client,
        &shop.jobs_folder,
        shop.limits.clone(),
        cancel,
        shop.hurry.clone(),
    );
    let Opened { work, sink, reporter, masker } = match opened {
        Ok(opened) => opened,
        Err(reason) => {
            tracing::error!(task = id, reason, "a task cannot begin, so it is reported as failed");
            gitea::refuse(&shop.client, id, &format!("The runner cannot keep this job's journal: {reason}"))
                .await;
            return None;
        }
    };
    let repository = work.as_ref().map(Assignment::repository).unwrap_or_default();
    tracing::info!(task = id, repository, "a job begins");
    let shop_of_job = shop.clone();
    let tell = async move {
        let told = match work {
            Ok(mut work) => {
                let entered = enter_cache(&shop_of_job, &work).await;
                work.cache = entered.as_ref().map_or(Offer::None, |entered| entered.offer.clone());
                let work = Arc::new(work);
                let report = guarded(&shop_of_job, work.clone(), sink.clone()).await;
                if let Some(entered) = entered {
                    entered.leave().await;
                }
                if let Some(report) = report {
                    (report, Some(work))
                } else {
                    let text =
                        "The runner failed inside this job. Its own log says more, under this task's number.";
                    (gitea::tell_failure(&sink, &masker, false, text).await, Some(work))
                }
            }
            Err(reason) => (gitea::tell_failure(&sink, &masker, true, &reason).await, None),
        };
        // The reporter ends when the last clone of the sink is gone or the story is over.
        drop(sink);
        told
    };
    let ((report, work), ended) = tokio::join!(tell, reporter.run());
    let took = start.elapsed();
    shop.metrics.job_ended(report.conclusion, took);
    let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
    match &ended {
        Ended::Reported => {
            tracing::info!(task = id, result = report.conclusion.as_str(), seconds, "a job has ended");
        }
        Ended::EndedByServer => {
            tracing::info!(
                task = id,
                result = report.conclusion.as_str(),
                seconds,
                "the server has ended a job"
            );
        }
        other => {
            tracing::warn!(task = id, result = report.conclusion.as_str(), seconds, report = ?other, "a job has ended");
        }
    }
    if let Some(work) = work {
        after(&shop, &work, report.conclusion).await;
    }
    Some(ended)
}

/// Lets the job into the cache; `None` when it has no token to show there.
async fn enter_cache<H, D>(shop: &Shop<H, D>, work: &Assignment) -> Option<Entered> {
    let token = work.runtime_token()?;
    Some(shop.caches.enter(token, &work.repository(), &shop.facts.address).await)
}

/// The job in a task of its own, so that its panic is ours to see. `None` after one.
async fn guarded<H: Backend, D: Backend>(
    shop: &Arc<Shop<H, D>>,
    work: Arc<Assignment>,
    sink: Sink,
) -> Option<JobReport> {
    let id = work.task;
    let shop = shop.clone();
    let mut alone = JoinSet::new();
    alone.spawn(async move { job::run(&work, &shop.backends, &shop.store, &sink).await });
    match alone.join_next().await? {
        Ok(report) => Some(report),
        Err(error) => {
            tracing::error!(task = id, %error, "a job has brought down its task");
            None
        }
    }
}

/// The operator's script, after the report.
async fn after<H, D>(shop: &Shop<H, D>, work: &Assignment, conclusion: Conclusion) {
    let script = &shop.runner.post_task_script;
    if script.as_os_str().is_empty() {
        return;
    }
    let mut command = Command::new(script);
    command
        .env("GITEA_TASK_ID", work.task.to_string())
        .env("GITEA_RUN_ID", work.github.get("run_id").map(workflows::Value::to_text).unwrap_or_default())
        .env("GITEA_REPOSITORY", work.repository())
        .env("GITEA_WORKSPACE", work.workspace.get().map_or("", String::as_str))
        .env("GITEA_JOB_RESULT", conclusion.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Err(reason) = run_bounded(command, shop.runner.post_task_script_timeout).await {
        tracing::warn!(task = work.task, script = %script.display(), reason, "runner.post_task_script");
    }
}
