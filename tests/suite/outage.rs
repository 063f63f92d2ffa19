//! Networks and servers fail: nothing is lost, nothing comes twice.

use std::time::Duration;

use tests::gitea::{FakeGitea, Fault, Run, Status};

use crate::{host, numbered, push_steps};

/// A step that prints 200 numbered lines over about four seconds.
const COUNTING: &str =
    "    - run: for i in $(seq 200); do echo tick $i; sleep 0.02; done\n    - run: echo end\n";

fn complete(gitea: &FakeGitea, run: &Run, seconds: u64) {
    let task = gitea.finished(seconds, run);
    assert_eq!(task.status, Status::Success, "{:#?}", task.lines());
    let lines = task.lines();
    let ticks = lines.iter().filter_map(|line| line.strip_prefix("tick ")?.parse::<u32>().ok());
    assert!(ticks.eq(1..=200), "a row is missing, doubled or out of order: {lines:#?}");
    assert_eq!(task.final_reports, 1, "one final report is enough once it is answered");
}

fn with_faults(faults: &[(&str, Fault)]) {
    let (gitea, _home, _daemon) = host();
    for (method, fault) in faults {
        gitea.fault(method, fault.clone());
    }
    let run = push_steps(&gitea, COUNTING);
    complete(&gitea, &run, 120);
    assert_eq!(gitea.faults_left(), 0, "every fault has happened");
}

#[test]
fn lost_answers_to_log_calls_double_no_row() {
    with_faults(&[
        ("UpdateLog", Fault::LostAnswer),
        ("UpdateLog", Fault::LostAnswer),
        ("UpdateLog", Fault::LostCall),
    ]);
}

#[test]
fn a_log_call_that_is_done_and_never_answered_doubles_no_row_of_a_long_log() {
    let (gitea, _home, _daemon) = host();
    gitea.fault("UpdateLog", Fault::LostAnswer);
    gitea.fault("UpdateLog", Fault::Silence);
    let run = push_steps(&gitea, "    - run: seq -f 'line %.0f of many' 1 50000\n");
    numbered(&gitea.finished(240, &run), 50_000);
}

#[test]
fn lost_answers_to_state_calls_change_no_result() {
    with_faults(&[("UpdateTask", Fault::LostAnswer), ("UpdateTask", Fault::LostCall)]);
}

#[test]
fn pages_of_a_proxy_are_no_reason_to_give_up() {
    with_faults(&[
        ("Declare", Fault::BadGateway),
        ("FetchTask", Fault::ProxyUnauthorized),
        ("UpdateLog", Fault::BadGateway),
        ("UpdateTask", Fault::ProxyUnauthorized),
        ("UpdateLog", Fault::ProxyUnauthorized),
    ]);
}

#[test]
fn slow_answers_slow_nothing_but_themselves() {
    with_faults(&[
        ("UpdateLog", Fault::Delay(Duration::from_secs(3))),
        ("UpdateTask", Fault::Delay(Duration::from_secs(3))),
    ]);
}

#[test]
fn a_fetch_that_never_answers_is_asked_again() {
    with_faults(&[("FetchTask", Fault::Hang)]);
}

#[test]
fn a_task_whose_assignment_was_lost_keeps_nobody_from_the_next() {
    let (gitea, _home, _daemon) = host();
    gitea.until(90, "the runner polls", |state| {
        state.records.iter().any(|r| r.method == "FetchTask").then_some(())
    });
    gitea.fault("FetchTask", Fault::LostAnswer);
    let lost = push_steps(&gitea, "    - run: echo lost\n");
    let next = push_steps(&gitea, "    - run: echo next\n");
    // The lost call may have been an empty one: then nothing is lost and both run.
    assert_eq!(gitea.finished(60, &next).status, Status::Success);
    gitea.sweep(Duration::ZERO);
    let status = gitea.finished(10, &lost).status;
    assert!(matches!(status, Status::Failure | Status::Success), "{status:?}");
}

#[test]
fn a_server_that_is_away_for_twenty_seconds_misses_nothing() {
    let (gitea, _home, _daemon) = host();
    let run = push_steps(
        &gitea,
        "    - run: for i in $(seq 200); do echo tick $i; sleep 0.05; done\n    - run: echo end\n",
    );
    gitea.until(60, "the first rows arrive", |state| {
        state.tasks.first().filter(|task| task.says("tick 5")).map(|_| ())
    });
    gitea.down();
    // The job ends meanwhile; its story has to wait on the runner's disk.
    std::thread::sleep(Duration::from_secs(20));
    gitea.up();
    complete(&gitea, &run, 90);
}

#[test]
fn a_sweep_of_the_server_ends_the_job_here_too() {
    let mark = uuid::Uuid::new_v4().to_string();
    let (gitea, _home, _daemon) = host();
    let run =
        push_steps(&gitea, &format!("    - run: echo on; sleep 600\n      env: {{STORY_MARK: {mark}}}\n"));
    gitea.until(60, "the step runs", |state| {
        state.tasks.first().filter(|task| task.lines().contains(&"on")).map(|_| ())
    });
    assert_eq!(gitea.sweep(Duration::ZERO), 1);
    assert_eq!(gitea.finished(30, &run).status, Status::Failure);
    let next = push_steps(&gitea, "    - run: echo next\n");
    assert_eq!(gitea.finished(90, &next).status, Status::Success, "the slot is free again");
    assert!(tests::runner::processes_with(&mark).is_empty());
}
