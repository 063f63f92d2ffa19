//! The end-to-end stories: the real `esteira` against a Gitea made of Rust, a module per subject.
//!
//! Jobs run on the host where no container is the subject. Waits are on conditions with generous deadlines: nothing
//! here measures time.

mod architecture;
mod build;
mod crash;
mod docker;
mod identity;
mod jobs;
mod outage;
mod secrets;
mod shutdown;
mod together;
mod wire;

use tests::{
    gitea::{FakeGitea, Push, Run},
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
