//! The server's rules, tried without a network: a story may rely on them.

use std::time::Duration;

use proto::runner::v1::{
    LogRow, Result as TaskResult, StepState, TaskState, UpdateLogRequest, UpdateTaskRequest,
};

use super::{Dialect, Generation, Push, RunnerRow, State, Status, service::status};

const TWO_JOBS: &str = "on: push\njobs:\n  a:\n    runs-on: lab\n    outputs: {x: y}\n    steps: [{run: one}, {run: two}]\n  b:\n    needs: a\n    runs-on: lab\n    steps: [{run: three}]\n";

fn server(generation: Generation) -> (State, RunnerRow) {
    let mut state = State::new(Dialect { generation, ..Dialect::default() }, "http://fake");
    let token = state.registration_tokens[0].0.clone();
    let runner = state.register("r", &token, vec!["lab".to_owned()], false).expect("a good token registers");
    (state, runner)
}

fn rows(texts: &[&str]) -> Vec<LogRow> {
    texts.iter().map(|text| LogRow { time: None, content: (*text).to_owned() }).collect()
}

fn log(task: i64, index: i64, texts: &[&str], no_more: bool) -> UpdateLogRequest {
    UpdateLogRequest { task_id: task, index, rows: rows(texts), no_more }
}

fn report(task: i64, result: TaskResult) -> UpdateTaskRequest {
    let steps = vec![StepState { id: 0, result: TaskResult::Success.into(), ..StepState::default() }];
    let state = TaskState { id: task, result: result.into(), steps, ..TaskState::default() };
    UpdateTaskRequest { state: Some(state), ..UpdateTaskRequest::default() }
}

#[test]
fn a_fetch_with_the_current_version_gets_nothing_and_one_task_a_call() {
    let (mut state, runner) = server(Generation::First);
    let (nothing, version) = state.fetch(&runner, 0).expect("a fetch is answered");
    assert!(nothing.is_none());
    state.push(&Push::new(TWO_JOBS));
    let (stale, newer) = state.fetch(&runner, version).expect("a fetch is answered");
    assert!(stale.is_some() && newer > version);
    assert!(state.fetch(&runner, newer).expect("a fetch is answered").0.is_none());
}

#[test]
fn a_dependent_waits_for_the_final_report_and_gets_outputs_of_its_needs() {
    let (mut state, runner) = server(Generation::First);
    state.push(&Push::new(TWO_JOBS));
    let task = state.fetch(&runner, 0).expect("a fetch is answered").0.expect("job a");
    assert!(state.fetch(&runner, 0).expect("a fetch is answered").0.is_none(), "b is blocked");
    let mut done = report(task.id, TaskResult::Success);
    done.outputs.insert("x".to_owned(), "1".to_owned());
    let (_, sent) = state.update_task(&runner, &done).expect("a report is taken");
    assert_eq!(sent, ["x"]);
    done.outputs.insert("x".to_owned(), "2".to_owned());
    state.update_task(&runner, &done).expect("a second report is harmless");
    let second = state.fetch(&runner, 0).expect("a fetch is answered").0.expect("job b");
    assert_eq!(second.needs["a"].outputs["x"], "1", "the first value wins");
    assert_eq!(second.needs["a"].result(), TaskResult::Success);
}

#[test]
fn a_failed_need_skips_what_has_no_condition() {
    let (mut state, runner) = server(Generation::First);
    let jobs = state.push(&Push::new(TWO_JOBS));
    let task = state.fetch(&runner, 0).expect("a fetch is answered").0.expect("job a");
    state.update_task(&runner, &report(task.id, TaskResult::Failure)).expect("a report is taken");
    let last = state.jobs.iter().find(|job| job.id == jobs[1]).map(|job| job.status);
    assert_eq!(last, Some(Status::Skipped));
}

#[test]
fn gaps_duplicates_and_overlaps_go_by_position() {
    let (mut state, runner) = server(Generation::First);
    state.push(&Push::new(TWO_JOBS));
    let task = state.fetch(&runner, 0).expect("a fetch is answered").0.expect("job a").id;
    assert_eq!(state.update_log(&runner, &log(task, 0, &["a", "b"], false)), Ok(2));
    assert_eq!(state.update_log(&runner, &log(task, 5, &["z"], false)), Ok(2), "a gap");
    assert_eq!(state.update_log(&runner, &log(task, 0, &["a"], false)), Ok(2), "a duplicate");
    assert_eq!(state.update_log(&runner, &log(task, 1, &["b", "c\nd"], false)), Ok(3), "an overlap");
    assert_eq!(state.task(task).expect("the task").lines(), ["a", "b", "c\\nd"]);
}

#[test]
fn only_the_second_generation_seals_without_a_row() {
    for (generation, sealed) in [(Generation::First, false), (Generation::Second, true)] {
        let (mut state, runner) = server(generation);
        state.push(&Push::new(TWO_JOBS));
        let task = state.fetch(&runner, 0).expect("a fetch is answered").0.expect("job a").id;
        state.update_log(&runner, &log(task, 0, &["a"], false)).expect("rows are taken");
        state.update_log(&runner, &log(task, 1, &[], true)).expect("an empty request is answered");
        assert_eq!(state.task(task).expect("the task").archived, sealed, "{generation:?}");
    }
}

#[test]
fn a_sealed_log_takes_no_new_rows() {
    let (mut state, runner) = server(Generation::Second);
    state.push(&Push::new(TWO_JOBS));
    let task = state.fetch(&runner, 0).expect("a fetch is answered").0.expect("job a").id;
    assert_eq!(state.update_log(&runner, &log(task, 0, &["a"], true)), Ok(1));
    assert_eq!(state.update_log(&runner, &log(task, 0, &["a"], true)), Ok(1), "nothing new is fine");
    let refused = state.update_log(&runner, &log(task, 1, &["b"], false)).expect_err("the log is sealed");
    let text = status(state.dialect.errors, refused).message().to_owned();
    assert_eq!(text, "rpc error: code = AlreadyExists desc = log file has been archived");
}

#[test]
fn a_cancel_is_final_for_old_runners_and_waits_for_those_that_can() {
    for (generation, can, after) in [
        (Generation::First, true, Status::Cancelled),
        (Generation::Second, false, Status::Cancelled),
        (Generation::Second, true, Status::Cancelling),
    ] {
        let (mut state, runner) = server(generation);
        if can {
            state.runners[0].capabilities = vec!["cancelling".to_owned()];
        }
        let jobs = state.push(&Push::new(TWO_JOBS));
        let run = state.jobs[0].run;
        let task = state.fetch(&runner, 0).expect("a fetch is answered").0.expect("job a").id;
        state.cancel(run);
        assert_eq!(state.task(task).expect("the task").status, after);
        let (answer, _) =
            state.update_task(&runner, &report(task, TaskResult::Unspecified)).expect("a heartbeat");
        assert_eq!(answer.result(), TaskResult::Cancelled);
        state.update_task(&runner, &report(task, TaskResult::Success)).expect("a late report is taken");
        assert_eq!(state.task(task).expect("the task").status, Status::Cancelled);
        assert!(state.jobs.iter().filter(|job| jobs.contains(&job.id)).all(|job| job.status.is_final()));
    }
}

#[test]
fn an_ephemeral_runner_is_gone_with_its_task() {
    let (mut state, _) = server(Generation::First);
    let token = state.registration_tokens[0].0.clone();
    let once = state.register("once", &token, vec!["lab".to_owned()], true).expect("a good token registers");
    state.push(&Push::new(TWO_JOBS));
    let task = state.fetch(&once, 0).expect("a fetch is answered").0.expect("job a").id;
    assert!(state.fetch(&once, 0).expect("a fetch is answered").0.is_none());
    state.update_task(&once, &report(task, TaskResult::Success)).expect("a report is taken");
    assert!(state.authenticate(&once.uuid, &once.token).is_err());
}

#[test]
fn the_sweep_ends_silent_tasks_and_seals_their_logs() {
    let (mut state, runner) = server(Generation::First);
    state.push(&Push::new(TWO_JOBS));
    let task = state.fetch(&runner, 0).expect("a fetch is answered").0.expect("job a").id;
    assert_eq!(state.sweep(Duration::from_mins(10)), 0);
    assert_eq!(state.sweep(Duration::ZERO), 1);
    let (answer, _) =
        state.update_task(&runner, &report(task, TaskResult::Unspecified)).expect("a heartbeat");
    assert_eq!(answer.result(), TaskResult::Failure);
    assert!(state.task(task).expect("the task").archived);
}
