//! The end of a report: summaries, then the one call that carries the result, until all of it is acknowledged.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use proto::runner::v1::UpdateTaskRequest;
use tokio::time::{Instant, timeout};

use super::{
    CallError, Ended, Reporter, Server, Verdict,
    log::{LogEnd, backoff},
    state::{task_state, wire_result},
};
use crate::report::Conclusion;

/// What a server takes as the name of an output, in bytes.
const OUTPUT_NAME_LIMIT: usize = 255;

/// What a server takes as an output, in bytes.
const OUTPUT_LIMIT: usize = 1 << 20;

/// How often outputs are sent that the server does not acknowledge.
const OUTPUT_ATTEMPTS: u32 = 5;

/// For one summary, and for all.
const SUMMARY_LIMIT: Duration = Duration::from_secs(5);
const SUMMARIES_LIMIT: Duration = Duration::from_secs(15);

/// How long a daemon that goes down waits for a server that does not answer.
const HURRY_PATIENCE: Duration = Duration::from_secs(30);

impl<S: Server> Reporter<S> {
    /// Sends what is left. The log's end decides only whether there is any hope.
    pub(super) async fn close(&self, log: LogEnd) -> Ended {
        let task = self.desk.task();
        match log {
            LogEnd::Sealed => {}
            LogEnd::Closed(reason) => {
                tracing::warn!(task, reason, "the log of a task is not complete at the server");
            }
            LogEnd::Unreachable(reason) => return self.give_up(&reason),
        }
        let (report, verdict) = {
            let core = self.desk.core();
            (core.progress.finished.clone(), core.verdict.clone())
        };
        match verdict {
            Some(Verdict::Unregistered) => return Ended::Unregistered,
            Some(Verdict::Gone(reason)) => {
                tracing::warn!(task, reason, "the server does not know a task any more");
                return Ended::EndedByServer;
            }
            _ => {}
        }
        let Some(report) = report else { return self.give_up("the job has no result") };
        self.put_summaries().await;
        let ended_by_server = match verdict {
            Some(Verdict::Result(result)) => Some(result),
            _ => None,
        };
        let result = ended_by_server.unwrap_or(report.conclusion);
        self.final_state(result, acceptable(task, report.outputs), ended_by_server.is_some()).await
    }

    async fn final_state(
        &self,
        result: Conclusion,
        mut outputs: HashMap<String, String>,
        ended_by_server: bool,
    ) -> Ended {
        let begun = Instant::now();
        let mut hurried_since = None;
        let (mut failures, mut answered) = (0_u32, 0_u32);
        let mut sent = false;
        let mut ended = if ended_by_server { Ended::EndedByServer } else { Ended::Reported };
        loop {
            let state = task_state(self.desk.task(), &self.desk.core().progress, Some(result));
            let request = UpdateTaskRequest { state: Some(state), outputs: outputs.clone() };
            let limit = self.limits.close_timeout * (failures + 1).min(6);
            let answer = match timeout(limit, self.server.update_task(request)).await {
                Ok(answer) => answer,
                Err(_) => Err(CallError::Transient("no answer in time".to_owned())),
            };
            let reason = match answer {
                Ok(answer) => {
                    self.desk.core().contact = Instant::now();
                    outputs.retain(|name, _| !answer.sent_outputs.contains(name));
                    answered += 1;
                    failures = 0;
                    let theirs = answer.state.as_ref().map_or(0, |state| state.result);
                    if theirs != 0 && theirs != i32::from(wire_result(result)) {
                        ended = Ended::EndedByServer;
                    }
                    if outputs.is_empty() {
                        return ended;
                    }
                    if answered >= OUTPUT_ATTEMPTS {
                        let names: Vec<&String> = outputs.keys().collect();
                        tracing::warn!(
                            task = self.desk.task(),
                            ?names,
                            "the server does not take outputs of a job"
                        );
                        return ended;
                    }
                    tokio::time::sleep(backoff(answered)).await;
                    continue;
                }
                // An ephemeral runner is deleted by its own last report, whose answer may have been lost.
                Err(CallError::Unregistered) if sent => return ended,
                Err(CallError::Unregistered) => return Ended::Unregistered,
                Err(CallError::TaskGone(reason)) => {
                    tracing::warn!(
                        task = self.desk.task(),
                        reason,
                        "the server does not know a task any more"
                    );
                    return Ended::EndedByServer;
                }
                Err(error) => error.to_string(),
            };
            sent = true;
            failures += 1;
            if self.hurry.is_cancelled() {
                hurried_since.get_or_insert_with(Instant::now);
            }
            let contact = self.desk.core().contact.max(begun);
            let hurried = hurried_since.is_some_and(|since: Instant| since.elapsed() > HURRY_PATIENCE);
            if contact.elapsed() > self.limits.patience || hurried {
                return self.give_up(&reason);
            }
            tokio::select! {
                () = tokio::time::sleep(backoff(failures)) => {}
                () = self.hurry.cancelled(), if hurried_since.is_none() => {}
            }
        }
    }

    /// The journal stays: the next start tries again.
    fn give_up(&self, reason: &str) -> Ended {
        let folder = self.desk.core().journal.folder().display().to_string();
        Ended::GaveUp(format!(
            "task {} could not be reported: {reason}; its log is kept in {folder}",
            self.desk.task()
        ))
    }

    /// A summary that cannot be had costs a line in the daemon's log, never the job.
    async fn put_summaries(&self) {
        let Some(target) = &self.limits.summaries else { return };
        let summaries: BTreeMap<usize, String> = self.desk.core().progress.summaries.clone();
        let all = async {
            for (step, markdown) in summaries.iter().filter(|(_, markdown)| !markdown.trim().is_empty()) {
                for attempt in 0..2 {
                    let put = timeout(SUMMARY_LIMIT, self.server.put_summary(target, *step, markdown)).await;
                    let reason = match put {
                        Ok(Ok(())) => break,
                        Ok(Err(CallError::Transient(reason))) => reason,
                        Ok(Err(error)) => {
                            tracing::warn!(task = self.desk.task(), step, %error, "a summary was not taken");
                            break;
                        }
                        Err(_) => "no answer in time".to_owned(),
                    };
                    if attempt == 1 {
                        tracing::warn!(
                            task = self.desk.task(),
                            step,
                            reason,
                            "a summary could not be handed over"
                        );
                    }
                }
            }
        };
        if timeout(SUMMARIES_LIMIT, all).await.is_err() {
            tracing::warn!(task = self.desk.task(), "not all summaries could be handed over in time");
        }
    }
}

/// Outputs within the server's limits; the others it would drop without a word.
fn acceptable(task: i64, outputs: BTreeMap<String, String>) -> HashMap<String, String> {
    outputs
        .into_iter()
        .filter(|(name, value)| {
            let fits = name.len() <= OUTPUT_NAME_LIMIT && value.len() <= OUTPUT_LIMIT;
            if !fits {
                tracing::warn!(
                    task,
                    name_bytes = name.len(),
                    bytes = value.len(),
                    "an output beyond the server's limits is dropped"
                );
            }
            fits
        })
        .collect()
}
