//! What a service that did not converge has to say: its tasks' errors and their last lines.

use std::time::Duration;

use tokio::time::Instant;

use crate::deploy::{
    docker::DockerCli,
    follow::Unfinished,
    observe::{Phase, TaskFacts},
};

/// At most this many tasks are examined, the newest first.
const TASKS: usize = 3;
/// At most this many lines of each.
const LINES: &str = "40";
/// At most so much of a line.
const WIDTH: usize = 2000;
/// A log driver that does not answer must not hold up the end.
const LOG_LIMIT: Duration = Duration::from_secs(15);
/// And many of them must not do it together.
const LIMIT: Duration = Duration::from_secs(60);

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
    /// The last lines that it printed, or why they could not be read.
    pub(super) log: Result<Vec<String>, String>,
}

/// When the last report has to be there.
pub(super) fn deadline() -> Instant {
    Instant::now() + LIMIT
}

/// Fetches errors and last lines of the tasks that failed, or that never came to run.
pub(super) async fn examine(cli: &DockerCli, unfinished: &Unfinished, deadline: Instant) -> Postmortem {
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
    tasks.sort_by_key(|task| std::cmp::Reverse(task.changed));
    tasks.truncate(TASKS);
    let mut reports = Vec::new();
    for task in tasks {
        reports.push(TaskReport {
            name: name(&unfinished.service, &task),
            error: error(&task),
            log: log(cli, &task, deadline).await,
        });
    }
    Postmortem { service: unfinished.service.clone(), why: unfinished.why.clone(), tasks: reports }
}

fn name(service: &str, task: &TaskFacts) -> String {
    let short: String = task.id.chars().take(12).collect();
    format!("{service}.{} ({short})", task.slot)
}

fn error(task: &TaskFacts) -> String {
    if task.error.is_empty() {
        return "no error yet, it has not come to run".to_owned();
    }
    match task.exit_code.filter(|code| *code != 0 && !task.error.contains("exit")) {
        Some(code) => format!("{} (exit code {code})", task.error),
        None => task.error.clone(),
    }
}

/// The task's last lines, or why they could not be read.
async fn log(cli: &DockerCli, task: &TaskFacts, deadline: Instant) -> Result<Vec<String>, String> {
    let limit = LOG_LIMIT.min(deadline.duration_since(Instant::now()));
    if limit.is_zero() {
        return Err("the logs before it took too long".to_owned());
    }
    match cli.run(&["service", "logs", "--raw", "--tail", LINES, &task.id], None, limit).await {
        Ok(output) if output.success => {
            Ok(output.stdout.lines().chain(output.stderr.lines()).map(cut).collect())
        }
        // It has never run anywhere: its error is all there is.
        Ok(output) if output.stderr.contains("has not been scheduled") => Ok(Vec::new()),
        Ok(output) => Err(output.stderr.trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}… ({} bytes more)", &line[..end], line.len() - end),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{WIDTH, cut, log};
    use crate::deploy::{
        docker::DockerCli,
        observe::{Phase, TaskFacts},
    };

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let cut = cut(&"é".repeat(WIDTH + 3));
        assert!(cut.starts_with('é') && cut.ends_with("… (6 bytes more)"), "{cut}");
    }

    #[tokio::test]
    async fn after_the_deadline_no_log_is_asked_for() {
        let task = TaskFacts {
            id: "t".into(),
            slot: "1".into(),
            current: true,
            kept: false,
            wanted: true,
            phase: Phase::Failed,
            error: String::new(),
            exit_code: None,
            changed: None,
        };
        let asked = log(&DockerCli::new(None), &task, Instant::now()).await;
        assert_eq!(asked, Err("the logs before it took too long".to_owned()));
    }
}
