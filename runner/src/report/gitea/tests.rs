//! The reporter against a server that misbehaves, under a clock that does not move by itself.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use proto::runner::v1::{
    Result as WireResult, TaskState, UpdateLogRequest, UpdateLogResponse, UpdateTaskRequest,
    UpdateTaskResponse,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{CallError, Ended, ReportLimits, Reporter, Server, SummaryTarget};
use crate::{
    cancel::{Cancel, CancelCause},
    log::Masker,
    report::{Conclusion, JobEvent, JobReport, Row, Sink, recover},
};

/// How a log call goes wrong.
#[derive(Debug, Clone)]
enum LogFault {
    /// The server takes the rows and the answer is lost.
    LoseAnswer,
    /// The call does not arrive.
    Fail(CallError),
    /// The server forgets all but so many rows, then goes on as usual.
    Forget(usize),
    /// It never answers.
    Hang,
}

#[derive(Debug, Default)]
struct State {
    stored: Vec<String>,
    archived: bool,
    log_calls: Vec<Instant>,
    log_faults: VecDeque<LogFault>,
    log_down: Option<CallError>,
    states: Vec<(Instant, UpdateTaskRequest)>,
    told_faults: VecDeque<CallError>,
    down: bool,
    /// What the task's result is, whatever the runner says.
    result: WireResult,
    outputs: BTreeMap<String, String>,
    /// Outputs that are never acknowledged.
    deaf_to: Option<String>,
    summaries: BTreeMap<usize, String>,
    /// The order of final calls.
    order: Vec<&'static str>,
}

#[derive(Debug, Clone, Default)]
struct Fake {
    state: Arc<Mutex<State>>,
}

impl Fake {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().expect("not poisoned"))
    }
}

impl Server for Fake {
    async fn update_log(&self, request: UpdateLogRequest) -> Result<UpdateLogResponse, CallError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let fault = self.with(|state| {
            if state.down {
                return Some(LogFault::Fail(CallError::Transient("connection refused".to_owned())));
            }
            if let Some(error) = state.log_down.clone() {
                return Some(LogFault::Fail(error));
            }
            state.log_faults.pop_front()
        });
        match &fault {
            Some(LogFault::Fail(error)) => return Err(error.clone()),
            Some(LogFault::Hang) => std::future::pending().await,
            _ => {}
        }
        let answer = self.with(|state| {
            assert!(!request.rows.is_empty(), "a call without rows does nothing");
            state.log_calls.push(Instant::now());
            if let Some(LogFault::Forget(left)) = fault {
                state.stored.truncate(left);
            }
            let stored = state.stored.len();
            let index = usize::try_from(request.index).expect("not negative");
            if index > stored || index + request.rows.len() <= stored {
                return Ok(stored);
            }
            if state.archived {
                return Err(CallError::LogArchived);
            }
            state.stored.extend(request.rows.into_iter().skip(stored - index).map(|row| row.content));
            if request.no_more {
                state.archived = true;
                state.order.push("sealed");
            }
            Ok(state.stored.len())
        })?;
        if matches!(fault, Some(LogFault::LoseAnswer)) {
            return Err(CallError::Transient("broken pipe".to_owned()));
        }
        Ok(UpdateLogResponse { ack_index: i64::try_from(answer).expect("few") })
    }

    async fn update_task(&self, request: UpdateTaskRequest) -> Result<UpdateTaskResponse, CallError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.with(|state| {
            if state.down {
                return Err(CallError::Transient("connection refused".to_owned()));
            }
            if let Some(error) = state.told_faults.pop_front() {
                return Err(error);
            }
            let told = request.state.clone().expect("a state");
            for step in &told.steps {
                let stored = i64::try_from(state.stored.len()).expect("few");
                assert!(
                    step.log_index + step.log_length <= stored,
                    "a step has rows that the server does not have"
                );
            }
            for (name, value) in &request.outputs {
                if state.deaf_to.as_ref() != Some(name) {
                    state.outputs.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
            if told.result != 0 {
                state.order.push("result");
                if state.result == WireResult::Unspecified {
                    state.result = WireResult::try_from(told.result).expect("known");
                }
            }
            state.states.push((Instant::now(), request));
            let answer = TaskState { id: told.id, result: state.result.into(), ..TaskState::default() };
            Ok(UpdateTaskResponse {
                state: Some(answer),
                sent_outputs: state.outputs.keys().cloned().collect(),
            })
        })
    }

    async fn put_summary(
        &self,
        target: &SummaryTarget,
        step: usize,
        markdown: &str,
    ) -> Result<(), CallError> {
        assert_eq!(target.url, "http://server/steps/");
        self.with(|state| {
            state.summaries.insert(step, markdown.to_owned());
            state.order.push("summary");
        });
        Ok(())
    }
}

struct Stage {
    fake: Fake,
    folder: TempDir,
    sink: Sink,
    cancel: Cancel,
    hurry: CancellationToken,
    report: tokio::task::JoinHandle<Ended>,
    printed: usize,
}

fn stage() -> Stage {
    stage_with(ReportLimits::default())
}

fn stage_with(limits: ReportLimits) -> Stage {
    let (fake, folder, cancel) = (Fake::default(), TempDir::new().expect("a folder"), Cancel::new());
    let hurry = CancellationToken::new();
    let (sink, events): (Sink, mpsc::Receiver<JobEvent>) = Sink::new(cancel.clone());
    let reporter = Reporter::start(
        fake.clone(),
        7,
        &folder.path().join("jobs"),
        limits,
        events,
        cancel.clone(),
        hurry.clone(),
    )
    .expect("started");
    #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
    let report = tokio::spawn(reporter.run());
    Stage { fake, folder, sink, cancel, hurry, report, printed: 0 }
}

impl Stage {
    fn jobs(&self) -> PathBuf {
        self.folder.path().join("jobs")
    }

    async fn send(&self, event: JobEvent) {
        self.sink.send(event).await.expect("the reporter listens");
    }

    async fn started(&self, steps: usize) {
        let steps = (0..steps).map(|step| Masker::new().mask(&format!("step {step}"))).collect();
        self.send(JobEvent::Started { at: SystemTime::now(), steps }).await;
    }

    async fn print(&mut self, count: usize) {
        let rows = (self.printed..self.printed + count)
            .map(|number| Row { time: SystemTime::now(), text: Masker::new().mask(&format!("row {number}")) })
            .collect();
        self.printed += count;
        self.send(JobEvent::Rows(rows)).await;
    }

    async fn step(&self, index: usize) {
        self.send(JobEvent::StepStarted { index, at: SystemTime::now() }).await;
    }

    async fn step_done(&self, index: usize, conclusion: Conclusion) {
        self.send(JobEvent::StepFinished { index, conclusion, at: SystemTime::now() }).await;
    }

    async fn finish(&self, conclusion: Conclusion, outputs: &[(&str, &str)]) {
        let outputs = outputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.send(JobEvent::Finished(JobReport { conclusion, outputs, at: SystemTime::now() })).await;
    }

    /// The server has every row that was printed, in order and once; then perhaps a closing one.
    fn assert_all_rows(&self) {
        let mut stored = self.fake.with(|state| state.stored.clone());
        if stored.len() == self.printed + 1 {
            assert_eq!(stored.pop().as_deref(), Some(""));
        }
        assert_eq!(stored, (0..self.printed).map(|number| format!("row {number}")).collect::<Vec<_>>());
    }

    fn final_state(&self) -> TaskState {
        self.fake.with(|state| state.states.last().expect("a state").1.state.clone().expect("a state"))
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[tokio::test(start_paused = true)]
async fn a_job_from_begin_to_end() {
    let target = SummaryTarget { url: "http://server/steps/".to_owned(), token: String::new().into() };
    let mut stage = stage_with(ReportLimits { summaries: Some(target), ..ReportLimits::default() });
    stage.started(3).await;
    stage.print(2).await;
    stage.step(0).await;
    stage.print(3).await;
    stage.step_done(0, Conclusion::Success).await;
    pass(ms(1000)).await;
    let told = stage.final_state();
    assert_eq!(told.result, 0, "no result before the end");
    assert_eq!(told.steps.len(), 3);
    assert_eq!((told.steps[0].log_index, told.steps[0].log_length, told.steps[0].result), (2, 3, 1));
    stage.step_done(1, Conclusion::Skipped).await;
    stage.step(2).await;
    stage.print(4).await;
    stage.step_done(2, Conclusion::Failure).await;
    stage.send(JobEvent::Summary { index: 2, markdown: Masker::new().mask("# sum") }).await;
    stage.print(1).await;
    stage.finish(Conclusion::Failure, &[("a", "1"), ("b", "2")]).await;
    let folder = stage.jobs().join("7");
    assert!(folder.exists());
    assert_eq!((&mut stage.report).await.expect("no panic"), Ended::Reported);
    assert!(!folder.exists(), "a journal goes with the last acknowledgement");
    stage.assert_all_rows();
    let told = stage.final_state();
    assert_eq!(told.result, i32::from(WireResult::Failure));
    assert!(told.stopped_at.is_some() && told.started_at.is_some());
    let steps: Vec<_> =
        told.steps.iter().map(|step| (step.log_index, step.log_length, step.result)).collect();
    assert_eq!(steps, [(2, 3, 1), (5, 0, 4), (5, 4, 2)]);
    stage.fake.with(|state| {
        assert_eq!(state.order, ["sealed", "summary", "result"]);
        assert_eq!(state.outputs.len(), 2);
        assert_eq!(state.summaries[&2], "# sum");
    });
}

#[tokio::test(start_paused = true)]
async fn rows_are_seen_soon_and_calls_are_few() {
    let mut stage = stage();
    stage.started(1).await;
    stage.step(0).await;
    let begin = Instant::now();
    stage.print(1).await;
    pass(ms(40)).await;
    stage.fake.with(|state| assert_eq!(state.stored.len(), 1, "the first row goes at once"));
    while begin.elapsed() < Duration::from_secs(90) {
        stage.print(1).await;
        pass(ms(50)).await;
    }
    stage.fake.with(|state| {
        let calls = |from: u64, until: u64| {
            state.log_calls.iter().filter(|call| (from..until).contains(&(**call - begin).as_secs())).count()
        };
        assert!((20..=30).contains(&calls(10, 20)), "{}", calls(10, 20));
        assert!((8..=10).contains(&calls(70, 80)), "{}", calls(70, 80));
    });
    stage.finish(Conclusion::Success, &[]).await;
    assert_eq!((&mut stage.report).await.expect("no panic"), Ended::Reported);
    stage.assert_all_rows();
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_in_silence() {
    let stage = stage();
    stage.started(1).await;
    pass(Duration::from_mins(1)).await;
    let beats = stage.fake.with(|state| state.states.len());
    assert!((29..=33).contains(&beats), "{beats}");
    stage.finish(Conclusion::Skipped, &[]).await;
    assert_eq!(stage.report.await.expect("no panic"), Ended::Reported);
    stage.fake.with(|state| {
        assert_eq!(state.stored, [""], "a log without rows is sealed by one");
        let told = state.states.last().and_then(|(_, request)| request.state.clone()).expect("a state");
        assert_eq!((told.result, told.steps[0].result), (4, 4));
    });
}

#[tokio::test(start_paused = true)]
async fn lost_answers_forgotten_rows_and_hanging_calls_lose_nothing() {
    let mut stage = stage();
    stage.started(1).await;
    stage.fake.with(|state| {
        state.log_faults = VecDeque::from([
            LogFault::LoseAnswer,
            LogFault::Fail(CallError::Transient("bad gateway".to_owned())),
            LogFault::LoseAnswer,
        ]);
    });
    for _ in 0..20 {
        stage.print(7).await;
        pass(ms(200)).await;
    }
    stage.fake.with(|state| state.log_faults.push_back(LogFault::Forget(3)));
    stage.print(5).await;
    pass(ms(3000)).await;
    stage.print(5).await;
    stage.fake.with(|state| state.log_faults = VecDeque::from([LogFault::Hang, LogFault::LoseAnswer]));
    stage.finish(Conclusion::Success, &[]).await;
    assert_eq!((&mut stage.report).await.expect("no panic"), Ended::Reported);
    stage.assert_all_rows();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_minutes_gets_everything_afterwards() {
    let mut stage = stage();
    stage.started(1).await;
    stage.print(10).await;
    pass(ms(500)).await;
    stage.fake.with(|state| state.down = true);
    stage.print(2000).await;
    pass(Duration::from_mins(2)).await;
    stage.print(1).await;
    stage.finish(Conclusion::Success, &[("k", "v")]).await;
    pass(Duration::from_mins(5)).await;
    stage.fake.with(|state| state.down = false);
    assert_eq!((&mut stage.report).await.expect("no panic"), Ended::Reported);
    stage.assert_all_rows();
    stage.fake.with(|state| assert_eq!(state.outputs["k"], "v"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_away_is_given_up_and_the_journal_stays() {
    let mut stage = stage();
    stage.started(1).await;
    stage.fake.with(|state| state.down = true);
    stage.print(3).await;
    stage.finish(Conclusion::Success, &[]).await;
    let begun = Instant::now();
    let ended = (&mut stage.report).await.expect("no panic");
    assert!(matches!(&ended, Ended::GaveUp(text) if text.contains("connection refused")), "{ended:?}");
    assert!(begun.elapsed() >= Duration::from_mins(10));
    assert!(stage.jobs().join("7").exists());

    stage.fake.with(|state| state.down = false);
    let hurry = CancellationToken::new();
    let recovered = recover(&stage.jobs(), &stage.fake, &ReportLimits::default(), &hurry).await;
    assert_eq!(recovered.len(), 1);
    assert_eq!((recovered[0].task, &recovered[0].ended), (7, &Ended::Reported));
    stage.assert_all_rows();
    assert_eq!(
        stage.fake.with(|state| state.result),
        WireResult::Success,
        "a job that had ended keeps its result"
    );
    assert!(!stage.jobs().join("7").exists());
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_goes_down_does_not_wait_for_ever() {
    let mut stage = stage();
    stage.started(1).await;
    stage.fake.with(|state| state.down = true);
    stage.finish(Conclusion::Success, &[]).await;
    pass(ms(1000)).await;
    stage.hurry.cancel();
    let begun = Instant::now();
    assert!(matches!((&mut stage.report).await.expect("no panic"), Ended::GaveUp(_)));
    assert!(begun.elapsed() < Duration::from_mins(1));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_in_the_web_page_is_heard_within_the_heartbeat() {
    let mut stage = stage();
    stage.started(1).await;
    stage.step(0).await;
    pass(ms(10_000)).await;
    stage.fake.with(|state| state.result = WireResult::Cancelled);
    let clicked = Instant::now();
    assert_eq!(stage.cancel.cancelled().await, CancelCause::Server);
    assert!(clicked.elapsed() <= ms(2100));
    stage.print(2).await;
    stage.step_done(0, Conclusion::Cancelled).await;
    stage.finish(Conclusion::Cancelled, &[]).await;
    assert_eq!((&mut stage.report).await.expect("no panic"), Ended::EndedByServer);
    stage.assert_all_rows();
    assert_eq!(stage.final_state().result, i32::from(WireResult::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn another_result_of_the_server_ends_the_job_and_is_told_back() {
    let stage = stage();
    stage.started(1).await;
    stage.fake.with(|state| state.result = WireResult::Failure);
    assert_eq!(stage.cancel.cancelled().await, CancelCause::ServerEnded);
    stage.finish(Conclusion::Cancelled, &[]).await;
    let fake = stage.fake.clone();
    assert_eq!(stage.report.await.expect("no panic"), Ended::EndedByServer);
    let told = fake.with(|state| state.states.last().expect("a state").1.state.clone().expect("a state"));
    assert_eq!(told.result, i32::from(WireResult::Failure));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_the_server_has_archived_is_kept_as_text() {
    let mut stage = stage();
    stage.started(1).await;
    stage.print(1).await;
    pass(ms(100)).await;
    stage.fake.with(|state| {
        state.archived = true;
        state.result = WireResult::Failure;
    });
    stage.print(2).await;
    stage.finish(Conclusion::Success, &[]).await;
    assert_eq!((&mut stage.report).await.expect("no panic"), Ended::EndedByServer);
    assert!(!stage.jobs().join("7").exists());
    let kept = stage.folder.path().join("undelivered/7.log");
    let text = std::fs::read_to_string(kept).expect("kept");
    let rows: Vec<&str> = text.lines().filter_map(|line| line.split_once(' ').map(|(_, row)| row)).collect();
    assert_eq!(rows, ["row 0", "row 1", "row 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_never_gets_through_does_not_keep_the_result_back() {
    let stage = stage();
    stage.started(1).await;
    stage.fake.with(|state| state.log_down = Some(CallError::Refused("413 too large".to_owned())));
    stage.finish(Conclusion::Success, &[]).await;
    let fake = stage.fake.clone();
    assert_eq!(stage.report.await.expect("no panic"), Ended::Reported);
    assert_eq!(fake.with(|state| state.result), WireResult::Success);
}

#[tokio::test(start_paused = true)]
async fn an_unregistered_runner_stops_the_job_and_calls_no_more() {
    let stage = stage();
    stage.started(1).await;
    pass(ms(100)).await;
    stage.fake.with(|state| state.told_faults = VecDeque::from(vec![CallError::Unregistered; 3]));
    assert_eq!(stage.cancel.cancelled().await, CancelCause::ServerEnded);
    let calls = stage.fake.with(|state| state.states.len());
    stage.finish(Conclusion::Cancelled, &[]).await;
    let fake = stage.fake.clone();
    assert_eq!(stage.report.await.expect("no panic"), Ended::Unregistered);
    assert_eq!(fake.with(|state| state.states.len()), calls);
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_runner_whose_last_answer_is_lost_has_reported() {
    let stage = stage();
    stage.started(1).await;
    pass(ms(500)).await;
    stage.fake.with(|state| {
        state.told_faults =
            VecDeque::from([CallError::Transient("broken pipe".to_owned()), CallError::Unregistered]);
    });
    stage.finish(Conclusion::Success, &[]).await;
    assert_eq!(stage.report.await.expect("no panic"), Ended::Reported);
}

#[tokio::test(start_paused = true)]
async fn outputs_beyond_the_limits_stay_and_a_deaf_server_is_not_asked_for_ever() {
    let stage = stage();
    stage.started(1).await;
    stage.fake.with(|state| state.deaf_to = Some("lost".to_owned()));
    let (name, value) = ("n".repeat(256), "v".repeat((1 << 20) + 1));
    stage
        .finish(
            Conclusion::Success,
            &[("ok", "1"), (name.as_str(), "x"), ("big", value.as_str()), ("lost", "x")],
        )
        .await;
    let fake = stage.fake.clone();
    assert_eq!(stage.report.await.expect("no panic"), Ended::Reported);
    assert_eq!(fake.with(|state| state.outputs.keys().cloned().collect::<Vec<_>>()), ["ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_dies_without_a_word_has_failed() {
    let stage = stage();
    stage.started(1).await;
    let Stage { sink, report, fake, .. } = stage;
    drop(sink);
    assert_eq!(report.await.expect("no panic"), Ended::Reported);
    fake.with(|state| {
        assert_eq!(state.result, WireResult::Failure);
        assert!(state.stored[0].starts_with("##[error]The runner failed"));
    });
}

#[tokio::test(start_paused = true)]
async fn a_job_that_prints_too_much_is_held_until_the_server_has_taken_some() {
    let mut stage = stage_with(ReportLimits { journal_bytes: 40_000, ..ReportLimits::default() });
    stage.started(1).await;
    stage.fake.with(|state| state.down = true);
    let held = async {
        for _ in 0..200 {
            stage.print(100).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_mins(1), held).await.is_err(), "the job is held");
    let bytes: u64 = std::fs::read_dir(stage.jobs().join("7"))
        .expect("readable")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "journal"))
        .map(|entry| entry.metadata().expect("there").len())
        .sum();
    assert!(bytes < 50_000, "{bytes}");
    stage.cancel.cancel(CancelCause::JobTimeout);
    stage.fake.with(|state| state.down = false);
    stage.finish(Conclusion::Failure, &[]).await;
    assert_eq!((&mut stage.report).await.expect("no panic"), Ended::Reported);
    stage.fake.with(|state| {
        assert!(state.stored.iter().any(|row| row.starts_with("##[warning]This job has printed more")));
    });
}

#[tokio::test(start_paused = true)]
async fn a_killed_runners_task_is_finished_at_the_next_start() {
    let mut stage = stage();
    stage.started(3).await;
    stage.print(1).await;
    stage.step(0).await;
    stage.print(2).await;
    stage.step_done(0, Conclusion::Success).await;
    stage.step(1).await;
    stage.print(3).await;
    pass(ms(5)).await;
    let hurry = CancellationToken::new();
    let limits = ReportLimits::default();
    assert!(recover(&stage.jobs(), &stage.fake, &limits, &hurry).await.is_empty(), "its owner is alive");
    stage.report.abort();
    assert!((&mut stage.report).await.expect_err("aborted").is_cancelled());
    let begun = Instant::now();
    let recovered = recover(&stage.jobs(), &stage.fake, &limits, &hurry).await;
    assert_eq!((recovered[0].task, &recovered[0].ended), (7, &Ended::Reported));
    assert!(begun.elapsed() < Duration::from_secs(2));
    let mut stored = stage.fake.with(|state| state.stored.clone());
    assert_eq!(
        stored.pop().as_deref(),
        Some("##[error]The runner was stopped while the job ran. Re-run the job to try again.")
    );
    assert_eq!(stored, (0..6).map(|number| format!("row {number}")).collect::<Vec<_>>());
    let told = stage.final_state();
    let results: Vec<i32> = told.steps.iter().map(|step| step.result).collect();
    assert_eq!((told.result, results), (2, vec![1, 2, 3]));
    assert!(recover(&stage.jobs(), &stage.fake, &limits, &hurry).await.is_empty(), "once");
}
