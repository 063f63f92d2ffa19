//! Tasks of a Gitea: each becomes an assignment, a sink, and a reporter that ships what comes out of the sink.

use std::{path::Path, sync::Arc, time::SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Request, StatusCode, header};
use prost_types::value::Kind;
use proto::runner::v1::{
    LogRow, Result as Outcome, Task, TaskState, UpdateLogRequest, UpdateLogResponse, UpdateTaskRequest,
    UpdateTaskResponse,
};
use tokio_util::sync::CancellationToken;

use crate::{
    assignment::{Assignment, RunnerFacts},
    cancel::Cancel,
    log::Masker,
    report::{
        Conclusion, JobEvent, JobReport, Row, Sink,
        gitea::{CallError, ReportLimits, Reporter, Server, SummaryTarget},
    },
    server::{Client, ServerError},
};

impl Server for Client {
    async fn update_log(&self, request: UpdateLogRequest) -> Result<UpdateLogResponse, CallError> {
        Self::update_log(self, request).await.map_err(call_error)
    }

    async fn update_task(&self, request: UpdateTaskRequest) -> Result<UpdateTaskResponse, CallError> {
        Self::update_task(self, request).await.map_err(call_error)
    }

    async fn put_summary(
        &self,
        target: &SummaryTarget,
        step: usize,
        markdown: &str,
    ) -> Result<(), CallError> {
        let refused = |error: http::Error| CallError::Refused(error.to_string());
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", target.token.expose()))
            .map_err(|error| CallError::Refused(error.to_string()))?;
        authorization.set_sensitive(true);
        let request = Request::put(format!("{}{step}/summary", target.url))
            .header(header::CONTENT_TYPE, "text/markdown; charset=utf-8")
            .header(header::AUTHORIZATION, authorization)
            .body(markdown.to_owned().into())
            .map_err(refused)?;
        let status = self.http(request).await.map_err(call_error)?;
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(CallError::Transient(status.to_string()))
            }
            _ if status.is_success() => Ok(()),
            _ if status.is_server_error() => Err(CallError::Transient(status.to_string())),
            _ => Err(CallError::Refused(status.to_string())),
        }
    }
}

fn call_error(error: ServerError) -> CallError {
    match error {
        ServerError::Unregistered => CallError::Unregistered,
        ServerError::TaskGone(reason) => CallError::TaskGone(reason),
        ServerError::LogArchived => CallError::LogArchived,
        ServerError::Refused(reason) => CallError::Refused(reason),
        // A proxy whose Gitea is away answers like something that never was one.
        ServerError::Transient(reason)
        | ServerError::Incompatible(reason)
        | ServerError::Certificate(reason) => CallError::Transient(reason),
    }
}

/// One task, opened.
#[derive(Debug)]
pub struct Opened {
    /// What to run, or the sentence for the log why it cannot be run.
    pub work: Result<Assignment, String>,
    /// Where its story goes.
    pub sink: Sink,
    /// What ships the story.
    pub reporter: Reporter<Client>,
    /// Hides the task's secrets, also when there is no assignment.
    pub masker: Masker,
}

/// Opens a task: its journal is there when this returns. `cancel` is the job's token.
pub fn open(
    task: Task,
    facts: &Arc<RunnerFacts>,
    client: &Client,
    jobs: &Path,
    mut limits: ReportLimits,
    cancel: Cancel,
    hurry: CancellationToken,
) -> Result<Opened, String> {
    let id = task.id;
    let masker = Masker::new();
    for (name, value) in &task.secrets {
        masker.seed(name, value);
    }
    limits.summaries = summary_target(&task, facts);
    let (sink, events) = Sink::new(cancel.clone());
    let reporter = Reporter::start(client.clone(), id, jobs, limits, events, cancel, hurry)
        .map_err(|error| error.to_string())?;
    let work = Assignment::from_task(task, facts).map_err(|broken| broken.to_string());
    Ok(Opened { work, sink, reporter, masker })
}

/// Tells a story that consists of its end: rows, then failure.
pub async fn tell_failure(sink: &Sink, masker: &Masker, begin: bool, text: &str) -> JobReport {
    let at = SystemTime::now();
    let report =
        JobReport { conclusion: Conclusion::Failure, outputs: std::collections::BTreeMap::new(), at };
    let rows =
        text.lines().map(|line| Row { time: at, text: masker.mask(&format!("##[error]{line}")) }).collect();
    let mut events = Vec::new();
    if begin {
        events.push(JobEvent::Started { at, steps: Vec::new() });
    }
    events.push(JobEvent::Rows(rows));
    events.push(JobEvent::Finished(report.clone()));
    for event in events {
        if sink.send(event).await.is_err() {
            break; // the reporter has ended already, because the server has ended the task
        }
    }
    report
}

/// Ends a task that cannot even be journalled: one row, then failure. Tries each a few times.
pub async fn refuse(client: &Client, task: i64, text: &str) {
    let now = Some(SystemTime::now().into());
    let row = LogRow { time: now, content: format!("##[error]{text}") };
    let log = UpdateLogRequest { task_id: task, index: 0, rows: vec![row], no_more: true };
    let state = TaskState {
        id: task,
        result: Outcome::Failure.into(),
        started_at: now,
        stopped_at: now,
        steps: Vec::new(),
    };
    let state = UpdateTaskRequest { state: Some(state), outputs: std::collections::HashMap::new() };
    let mut backoff =
        crate::server::Backoff::new(std::time::Duration::from_secs(1), std::time::Duration::from_secs(5));
    for attempt in 1.. {
        let logged = Client::update_log(client, log.clone()).await.map(|_| ());
        let told = Client::update_task(client, state.clone()).await.map(|_| ());
        match logged.and(told) {
            Err(error) if error.is_worth_retrying() && attempt < 5 => {
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(error) => {
                tracing::error!(task, %error, "the server could not be told that a task has failed");
                return;
            }
            Ok(()) => return,
        }
    }
}

/// Where the job's summaries go, when the server takes them.
fn summary_target(task: &Task, facts: &RunnerFacts) -> Option<SummaryTarget> {
    let offered = facts.capabilities.split([',', ' ']).any(|word| word == "job-summary");
    if !offered {
        return None;
    }
    let word = |key: &str| match task.context.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        _ => None,
    };
    let token = word("gitea_runtime_token")?;
    let job = job_of(&token)?;
    let run = word("run_id")?;
    let url =
        format!("{}/api/actions_pipeline/_apis/pipelines/workflows/{run}/jobs/{job}/steps/", facts.address);
    Some(SummaryTarget { url, token: token.into() })
}

/// `JobID` of the runtime token. Its signature is the server's business.
fn job_of(token: &str) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Claims {
        #[serde(rename = "JobID")]
        job: i64,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&payload).ok().map(|claims| claims.job)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use prost_types::{Struct, Value, value::Kind};
    use proto::runner::v1::Task;

    use super::{job_of, summary_target};
    use crate::assignment::RunnerFacts;

    fn token() -> String {
        format!("x.{}.y", URL_SAFE_NO_PAD.encode(r#"{"JobID":12,"RunID":3}"#))
    }

    #[test]
    fn summaries_go_to_the_job_that_the_token_names_and_only_where_they_are_taken() {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = BTreeMap::from([
            ("gitea_runtime_token".to_owned(), text(&token())),
            ("run_id".to_owned(), text("3")),
        ]);
        let task = Task { context: Some(Struct { fields }), secrets: HashMap::new(), ..Task::default() };
        let mut facts = RunnerFacts { address: "http://gitea/sub".into(), ..RunnerFacts::default() };
        assert!(summary_target(&task, &facts).is_none());
        facts.capabilities = "job-summary".into();
        let target = summary_target(&task, &facts).expect("they are taken");
        assert_eq!(
            target.url,
            "http://gitea/sub/api/actions_pipeline/_apis/pipelines/workflows/3/jobs/12/steps/"
        );
    }

    #[test]
    fn a_token_that_is_none_has_no_job() {
        for token in ["", "a.b.c", "0123456789", "a.e30.c"] {
            assert_eq!(job_of(token), None, "{token}");
        }
    }
}
