//! How a daemon goes: once for "no more work", twice for "now".

use rustix::process::Signal;
use tests::{
    gitea::{FakeGitea, Push, Status, TaskRow},
    runner::{Home, processes_with},
};

use crate::{host_with, push_steps, workflow};

fn running(gitea: &FakeGitea, word: &str) -> TaskRow {
    gitea.until(60, "the step runs", |state| {
        state.tasks.first().filter(|task| task.lines().contains(&word)).cloned()
    })
}

#[test]
fn a_first_signal_lets_jobs_end_within_the_timeout() {
    let (gitea, _home, mut daemon) =
        host_with(FakeGitea::start(), Home::new(), "runner:\n  shutdown_timeout: 2m\n");
    let run = push_steps(&gitea, "    - run: echo on; sleep 4; echo done-$((1+1))\n");
    running(&gitea, "on");
    daemon.signal(Signal::TERM);
    let waiting = push_steps(&gitea, "    - run: echo never\n");
    assert!(daemon.wait(90).success(), "{}", daemon.text());
    let task = gitea.finished(1, &run);
    assert_eq!(task.status, Status::Success);
    assert!(task.says("done-2"));
    let state = gitea.state();
    let second = state.jobs.iter().find(|job| job.id == waiting.jobs[0]).map(|job| job.status);
    assert_eq!(second, Some(Status::Waiting), "nothing is taken after the signal");
}

#[test]
fn a_signal_while_a_job_is_set_up_does_not_hurt_it() {
    let (gitea, _home, mut daemon) =
        host_with(FakeGitea::start(), Home::new(), "runner:\n  shutdown_timeout: 2m\n");
    let run = push_steps(&gitea, "    - run: echo on; sleep 6; echo done-$((1+1))\n");
    gitea.task_of(60, &run, 0);
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(90).success(), "{}", daemon.text());
    let task = gitea.finished(1, &run);
    assert_eq!(task.status, Status::Success, "{:#?}", task.lines());
    assert!(task.says("done-2"));
}

#[test]
fn a_second_signal_ends_jobs_and_reports_them() {
    let mark = uuid::Uuid::new_v4().to_string();
    let (gitea, _home, mut daemon) =
        host_with(FakeGitea::start(), Home::new(), "runner:\n  shutdown_timeout: 2m\n");
    let text = workflow(
        &format!("    env: {{STORY_MARK: {mark}}}\n"),
        "    - run: echo on; sleep 600\n    - if: always()\n      run: echo always-$((40+2))\n",
    );
    let run = gitea.push(&Push::new(&text));
    running(&gitea, "on");
    daemon.signal(Signal::TERM);
    daemon.says(60, "no more jobs are fetched");
    daemon.signal(Signal::TERM);
    daemon.wait(60);
    let task = gitea.finished(1, &run);
    assert_eq!(task.status, Status::Cancelled, "{:#?}", task.lines());
    assert!(task.says("runner was shut down"), "{:#?}", task.lines());
    assert_eq!(processes_with(&mark), Vec::<String>::new());
}

#[test]
fn without_a_timeout_the_first_signal_cancels_as_the_official_runner_does() {
    let (gitea, _home, mut daemon) = host_with(FakeGitea::start(), Home::new(), "");
    let run = push_steps(&gitea, "    - run: echo on; sleep 600\n");
    running(&gitea, "on");
    daemon.signal(Signal::INT);
    daemon.wait(60);
    assert_eq!(gitea.finished(1, &run).status, Status::Cancelled);
    assert!(daemon.text().contains("shutdown_timeout"), "start-up names the key: {}", daemon.text());
}

#[test]
fn an_idle_daemon_ends_at_once_and_well() {
    let (gitea, _home, mut daemon) = host_with(FakeGitea::start(), Home::new(), "");
    gitea.until(90, "the runner polls", |state| {
        state.records.iter().any(|r| r.method == "FetchTask").then_some(())
    });
    assert!(daemon.stop().success(), "{}", daemon.text());
}
