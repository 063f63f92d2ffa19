//! The corners of job execution in which runners differ, each in GitHub's form, through the real program on the host.
//!
//! All cases are jobs of one workflow, so the program runs once.

mod cases;

use std::{collections::BTreeMap, fs, process::Command};

use cases::{CASES, Case, FILES};

/// Secrets of the run: one is the beginning of the other.
const SECRETS: [&str; 2] = ["SHORT=zqx", "LONG=zqxwvu"];

fn workflow() -> String {
    let mut text = "on: push\nenv: {LEVEL: workflow}\njobs:\n".to_owned();
    for case in CASES {
        let keys = if case.keys.is_empty() { String::new() } else { format!("    {}\n", case.keys) };
        let steps: String = case.steps.trim_end().lines().map(|line| format!("    {line}\n")).collect();
        text.push_str(&format!("  {}:\n    runs-on: here\n{keys}    steps:\n{steps}", case.name));
    }
    text
}

/// What each job printed, by its name.
fn run() -> BTreeMap<String, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (path, text) in FILES {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(root.join("tricky.yml"), workflow()).unwrap();
    fs::write(root.join("event.json"), r#"{"n": {"a": 1}, "list": ["x", "y"], "o": {"5": "five"}}"#).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_esteira"));
    command
        .current_dir(root)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", root.join("home"))
        .args(["exec", "--image=-self-hosted", "-W", "tricky.yml", "--eventpath", "event.json"]);
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
    let jobs = run();
    let empty = Vec::new();
    let wrong: Vec<String> =
        CASES.iter().filter_map(|case| judge(case, jobs.get(case.name).unwrap_or(&empty))).collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}
