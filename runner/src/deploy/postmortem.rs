//! What a service that did not converge has to say: its tasks' errors and their last lines.

use std::time::Duration;

use crate::deploy::{
    docker::DockerCli,
    follow::Unfinished,
    observe::{Phase, TaskFacts},
};

/// At most this many tasks are examined, the newest first.
const TASKS: usize = 3;
/// At most this many lines of each.
const LINES: &str = "40";
/// A log driver that does not answer must not hold up the end.
const LOG_LIMIT: Duration = Duration::from_secs(15);

/// One service's report.
#[derive(Debug)]
pub(super) struct Postmortem {
    pub(super) service: String,
    pub(super) why: String,
    pub(super) tasks: Vec<TaskReport>,
}

/// One task's report.
#[derive(Debug)]
pub(super) struct TaskReport {
    /// `service.slot (id)`.
    pub(super) name: String,
    /// Swarm's error, with the exit code if there is one.
    pub(super) error: String,
    /// The last lines that it printed.
    pub(super) lines: Vec<String>,
    /// Why there are no lines, when they could not be read.
    pub(super) unreadable: Option<String>,
}

/// Fetches errors and last lines of the tasks that failed, or that never came to run.
pub(super) async fn examine(cli: &DockerCli, unfinished: &Unfinished) -> Postmortem {
    let mut tasks = unfinished.failed.clone();
    if let Some(facts) = &unfinished.facts {
        let waiting = facts.tasks.iter().filter(|task| {
            task.current
                && task.wanted
                && task.phase != Phase::Running
                && !tasks.iter().any(|seen| seen.id == task.id)
        });
        let waiting: Vec<TaskFacts> = waiting.cloned().collect();
        tasks.extend(waiting);
    }
    tasks.sort_by(|a, b| b.changed.cmp(&a.changed));
    tasks.truncate(TASKS);
    let mut reports = Vec::new();
    for task in tasks {
        reports.push(report(cli, &unfinished.service, &task).await);
    }
    Postmortem { service: unfinished.service.clone(), why: unfinished.why.clone(), tasks: reports }
}

async fn report(cli: &DockerCli, service: &str, task: &TaskFacts) -> TaskReport {
    let short: String = task.id.chars().take(12).collect();
    let mut error = if task.error.is_empty() {
        "no error yet, it has not come to run".to_owned()
    } else {
        task.error.clone()
    };
    if let Some(code) = task.exit_code.filter(|code| *code != 0 && !error.contains("exit")) {
        error = format!("{error} (exit code {code})");
    }
    let output = cli.run(&["service", "logs", "--raw", "--tail", LINES, &task.id], None, LOG_LIMIT).await;
    let (lines, unreadable) = match output {
        Ok(output) if output.success => {
            let lines: Vec<String> =
                output.stdout.lines().chain(output.stderr.lines()).map(str::to_owned).collect();
            (lines, None)
        }
        // It has never run anywhere: its error is all there is.
        Ok(output) if output.stderr.contains("has not been scheduled") => (Vec::new(), None),
        Ok(output) => (Vec::new(), Some(output.stderr.trim().to_owned())),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    TaskReport { name: format!("{service}.{} ({short})", task.slot), error, lines, unreadable }
}
