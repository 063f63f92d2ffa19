//! Steps and heartbeats to the server, whatever the log does; and what the server says back.

use std::collections::HashMap;

use proto::runner::v1::{Result as WireResult, StepState, TaskState, UpdateTaskRequest, UpdateTaskResponse};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{CallError, Reporter, Server, Verdict, log::backoff, pace::STATE_GAP};
use crate::report::{Conclusion, progress::Progress};

/// The server's word for a conclusion.
pub(super) const fn wire_result(conclusion: Conclusion) -> WireResult {
    match conclusion {
        Conclusion::Success => WireResult::Success,
        Conclusion::Failure => WireResult::Failure,
        Conclusion::Cancelled => WireResult::Cancelled,
        Conclusion::Skipped => WireResult::Skipped,
    }
}

const fn conclusion(result: WireResult) -> Option<Conclusion> {
    match result {
        WireResult::Unspecified => None,
        WireResult::Success => Some(Conclusion::Success),
        WireResult::Failure => Some(Conclusion::Failure),
        WireResult::Cancelled => Some(Conclusion::Cancelled),
        WireResult::Skipped => Some(Conclusion::Skipped),
    }
}

/// The state of a task whose server has `known` rows; `result` only in the closing call.
pub(super) fn task_state(task: i64, progress: &Progress, result: Option<Conclusion>) -> TaskState {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let steps = progress
        .steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let range = progress.range(index, progress.acked);
            StepState {
                id: number(index as u64),
                result: step.conclusion.map_or(WireResult::Unspecified, wire_result).into(),
                started_at: step.started.map(Into::into),
                stopped_at: step.stopped.map(Into::into),
                log_index: number(range.index),
                log_length: number(range.length),
            }
        })
        .collect();
    TaskState {
        id: task,
        result: result.map_or(WireResult::Unspecified, wire_result).into(),
        started_at: progress.started.map(Into::into),
        stopped_at: progress.finished.as_ref().filter(|_| result.is_some()).map(|report| report.at.into()),
        steps,
    }
}

impl<S: Server> Reporter<S> {
    /// Until the log is sealed; a call that is on its way then is let go, the closing one says it all.
    pub(super) async fn ship_state(&self, sealed: &CancellationToken) {
        let _ = sealed.run_until_cancelled(self.state_loop()).await;
    }

    async fn state_loop(&self) {
        let mut failures = 0;
        let mut last: Option<Instant> = None;
        loop {
            let heartbeat = last.map_or_else(Instant::now, |last| last + self.limits.state_interval);
            tokio::select! {
                () = sleep_until(heartbeat) => {}
                () = self.desk.state_wake.notified() => {}
            }
            if let Some(last) = last {
                let gap =
                    if failures > 0 { backoff(failures) } else { STATE_GAP.min(self.limits.state_interval) };
                sleep_until(last + gap).await;
            }
            if matches!(self.desk.core().verdict, Some(Verdict::Gone(_) | Verdict::Unregistered)) {
                return;
            }
            last = Some(Instant::now());
            let request = UpdateTaskRequest {
                state: Some(task_state(self.desk.task(), &self.desk.core().progress, None)),
                outputs: HashMap::new(),
            };
            match self.server.update_task(request).await {
                Ok(answer) => {
                    failures = 0;
                    self.heard(&answer);
                }
                Err(error) => {
                    failures += 1;
                    self.not_heard(error, failures);
                }
            }
        }
    }

    /// Any result in an answer means that the server regards the job as over.
    pub(super) fn heard(&self, answer: &UpdateTaskResponse) {
        self.desk.core().contact = Instant::now();
        let result = answer.state.as_ref().and_then(|state| WireResult::try_from(state.result).ok());
        if let Some(conclusion) = result.and_then(conclusion) {
            self.desk.conclude(Verdict::Result(conclusion));
        }
    }

    fn not_heard(&self, error: CallError, failures: u32) {
        match error {
            CallError::Unregistered => self.desk.conclude(Verdict::Unregistered),
            CallError::TaskGone(reason) => self.desk.conclude(Verdict::Gone(reason)),
            CallError::Transient(reason) | CallError::Refused(reason) => {
                if failures == 1 {
                    tracing::warn!(
                        task = self.desk.task(),
                        reason,
                        "the server does not hear the state of a task"
                    );
                }
            }
            CallError::LogArchived => {}
        }
    }
}
