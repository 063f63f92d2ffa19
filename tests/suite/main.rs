//! The end-to-end stories: the real `esteira` against a Gitea made of Rust, a module per subject.
//!
//! Jobs run on the host where no container is the subject. Waits are on conditions with generous deadlines: nothing
//! here measures time.

mod architecture;
mod build;
mod cache;
mod crash;
mod disk;
mod docker;
mod identity;
mod jobs;
mod outage;
mod secrets;
mod shutdown;
mod together;
mod wire;

use tests::{
    gitea::{FakeGitea, Push, Run, Status, TaskRow},
    runner::{Home, Process},
};

/// A server, a registered runner with the host label `lab`, and its daemon.
fn host() -> (FakeGitea, Home, Process) {
    host_with(FakeGitea::start(), Home::new(), "")
}

/// The same with a server and a home of the story's own, and lines of `config.yaml`.
fn host_with(gitea: FakeGitea, home: Home, config: &str) -> (FakeGitea, Home, Process) {
    if !config.is_empty() {
        home.write("config.yaml", config);
    }
    home.register(&gitea, "lab:host");
    let daemon = home.daemon(&[]);
    (gitea, home, daemon)
}

/// Pushes a workflow of one job on `lab` with these steps (YAML, a list indented by four).
fn push_steps(gitea: &FakeGitea, steps: &str) -> Run {
    gitea.push(&Push::new(&workflow("", steps)))
}

/// One job on `lab`: more keys of the job, and its steps (a list indented by four).
fn workflow(keys: &str, steps: &str) -> String {
    format!("name: story\non: push\njobs:\n  job:\n    runs-on: lab\n{keys}    steps:\n{steps}")
}

/// The first step has succeeded, and its rows `line N of many` are all there once, in order.
fn numbered(task: &TaskRow, count: usize) {
    assert_eq!(task.status, Status::Success);
    let number = |line: &&str| line.strip_prefix("line ")?.strip_suffix(" of many")?.parse::<usize>().ok();
    let all: Vec<usize> = task.lines().iter().filter_map(number).collect();
    let wrong = (0..all.len().max(count)).find(|place| all.get(*place) != Some(&(place + 1)));
    let around = wrong.map(|place| &all[place.saturating_sub(3)..all.len().min(place + 4)]);
    assert_eq!(wrong, None, "{} lines; around the first wrong one: {around:?}", all.len());
    let of_step = task.step_lines(0).iter().filter_map(number).count();
    assert_eq!(of_step, count, "rows within the range of the step {:?}", task.steps[0]);
}
