//! The corners of job execution in which runners differ, each in GitHub's form, through the real program: on the host,
//! and in containers those that need some.
//!
//! All cases of a place are jobs of one workflow, so the program runs once. Number 40, a cancel while a step that always
//! runs is running, needs somebody who cancels: it is in `job/tests/cancel.rs`.

mod cases;

use std::{collections::BTreeMap, fs, process::Command};

use cases::{CASES, CONTAINER_CASES, Case, FILES};

/// Secrets of the run: one is the beginning of the other.
const SECRETS: [&str; 2] = ["SHORT=zqx", "LONG=zqxwvu"];

fn workflow(cases: &[Case]) -> String {
    let mut text = "on: push\nenv: {LEVEL: workflow}\njobs:\n".to_owned();
    for case in cases {
        let keys = if case.keys.is_empty() { String::new() } else { format!("    {}\n", case.keys) };
        let steps: String = case.steps.trim_end().lines().map(|line| format!("    {line}\n")).collect();
        text.push_str(&format!("  {}:\n    runs-on: here\n{keys}    steps:\n{steps}", case.name));
    }
    text
}

/// What each job printed, by its name.
fn run(cases: &[Case], image: &str) -> BTreeMap<String, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (path, text) in FILES {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(root.join("tricky.yml"), workflow(cases)).unwrap();
    fs::write(root.join("event.json"), r#"{"n": {"a": 1}, "list": ["x", "y"], "o": {"5": "five"}}"#).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_esteira"));
    command
        .current_dir(root)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", root.join("home"))
        .envs(std::env::var_os("DOCKER_HOST").map(|address| ("DOCKER_HOST", address)))
        .args(["exec", "--image", image, "-W", "tricky.yml", "--eventpath", "event.json"]);
    for secret in SECRETS {
        command.args(["--secret", secret]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut jobs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((job, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
            jobs.entry(job.to_owned()).or_default().push(rest.to_owned());
        }
    }
    assert!(!jobs.is_empty(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    jobs
}

/// What a case got wrong.
fn judge(case: &Case, lines: &[String]) -> Option<String> {
    let missing = case.says.iter().find(|wanted| !lines.iter().any(|line| line == *wanted));
    if let Some(missing) = missing {
        return Some(format!("{}: lacks {missing:?} in\n  {}", case.name, lines.join("\n  ")));
    }
    let wrong = case.never.iter().find(|words| lines.iter().any(|line| line == *words));
    if let Some(wrong) = wrong {
        return Some(format!("{}: says {wrong:?} in\n  {}", case.name, lines.join("\n  ")));
    }
    let ended = if case.succeeds { "✓ success" } else { "✗ failure" };
    (!lines.iter().any(|line| line == ended))
        .then(|| format!("{}: did not end with {ended} in\n  {}", case.name, lines.join("\n  ")))
}

#[test]
fn every_corner_is_as_on_github() {
    check(CASES, "-self-hosted");
}

#[tokio::test]
async fn and_those_of_containers() {
    // Says why when there is no engine.
    if super::backend::docker::backend(|_| {}).await.is_some() {
        tokio::task::spawn_blocking(|| check(CONTAINER_CASES, "esteira-test/base")).await.unwrap();
    }
}

fn check(cases: &[Case], image: &str) {
    let jobs = run(cases, image);
    let empty = Vec::new();
    let wrong: Vec<String> =
        cases.iter().filter_map(|case| judge(case, jobs.get(case.name).unwrap_or(&empty))).collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
