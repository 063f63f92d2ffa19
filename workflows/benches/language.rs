//! What the language costs: checking a file beside the YAML parser's own events, and evaluating a
//! typical `if`. Prints times and ratios; judges nothing.
//!
//! `BENCH_FILES` names a folder whose workflow files are checked after the examples. With `ESTEIRA_BIN` and
//! `ACTIONLINT`, two programs, `esteira lint` and actionlint without its external linters check them, too.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark that reads files and prints"
)]

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use saphyr_parser::Parser;
use workflows::{
    Condition, Contexts, FileKind, JobStatus, LintOptions, Scope, SourceFile, lint, parse_payload,
};

/// The workflow files of a folder and of those below it.
fn files_of(folder: &Path) -> Vec<SourceFile> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            let file = SourceFile::new(&path.to_string_lossy(), &text);
            // Actions stand beside workflows in real repositories.
            files.extend((FileKind::of_path(file.name()) == FileKind::Workflow).then_some(file));
        }
    }
    files
}

/// The sum over all files of each one's best time: short measurements find a quiet moment on a busy machine.
fn best_of_each(files: &[SourceFile], mut work: impl FnMut(&SourceFile)) -> Duration {
    files
        .iter()
        .map(|file| {
            let mut once = || {
                let start = Instant::now();
                work(file);
                start.elapsed()
            };
            (0..25).map(|_| once()).min().unwrap_or_default()
        })
        .sum()
}

/// The best time of one evaluation among many short series.
fn best(mut work: impl FnMut()) -> Duration {
    let mut series = || {
        let start = Instant::now();
        (0..100).for_each(|_| work());
        start.elapsed() / 100
    };
    (0..200).map(|_| series()).min().unwrap_or_default()
}

/// One run of a program over the files.
fn run_time(program: &str, arguments: &[&str], files: &[SourceFile]) -> Duration {
    let start = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .args(files.iter().map(SourceFile::name))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the program can be started");
    assert!(matches!(status.code(), Some(0 | 1)), "{program} could not work: {status}");
    start.elapsed()
}

/// `esteira lint` beside actionlint, as programs on all processors.
fn compare_programs(files: &[SourceFile]) {
    let named = |name: &str| std::env::var(name).ok();
    let (Some(esteira), Some(actionlint)) = (named("ESTEIRA_BIN"), named("ACTIONLINT")) else { return };
    let (mut own, mut other): (Vec<Duration>, Vec<Duration>) = (0..9)
        .map(|_| {
            let own = run_time(&esteira, &["lint", "--no-shellcheck"], files);
            (own, run_time(&actionlint, &["-shellcheck=", "-pyflakes="], files))
        })
        .unzip();
    own.sort();
    other.sort();
    let (own, other) = (own[own.len() / 2], other[other.len() / 2]);
    let ratio = other.as_secs_f64() / own.as_secs_f64();
    println!("esteira lint             {own:>12.1?}");
    println!("actionlint               {other:>12.1?}  {ratio:.2} x esteira lint (bar: 1.5)");
}

/// Reading and checking beside the events of the YAML parser.
fn compare_with_events(files: &[SourceFile]) {
    let bytes: usize = files.iter().map(|file| file.text().len()).sum();
    let events = best_of_each(files, |file| {
        let mut parser = Parser::new_from_str(file.text());
        while let Some(Ok(event)) = parser.next_event() {
            black_box(&event);
        }
    });
    let ratio = |time: Duration| time.as_secs_f64() / events.as_secs_f64();
    println!("{} files, {bytes} bytes", files.len());
    println!("parser events            {events:>12.1?}");
    let payload = best_of_each(files, |file| drop(black_box(parse_payload(file))));
    println!("tree and model           {payload:>12.1?}  {:.2} x events", ratio(payload));
    let options = LintOptions::default();
    let linted = best_of_each(files, |file| drop(black_box(lint(file, &options))));
    println!("tree, model and checks   {linted:>12.1?}  {:.2} x events (bar: 2)", ratio(linted));
}

fn main() {
    compare_with_events(&files_of(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"))));
    if let Ok(folder) = std::env::var("BENCH_FILES") {
        let files = files_of(Path::new(&folder));
        compare_with_events(&files);
        compare_programs(&files);
    }

    let contexts = Contexts::new()
        .with(
            "github",
            serde_json::json!({
                "actor": "mona", "event_name": "push", "ref": "refs/heads/main", "repository": "o/r",
                "sha": "0", "workflow": "CI", "run_id": "1", "event": {"pull_request": {"draft": false}},
            }),
        )
        .with("steps", serde_json::json!({"cache": {"outputs": {"cache-hit": "true"}, "outcome": "success"}}))
        .with("matrix", serde_json::json!({"os": "linux", "version": 18}));
    let scope = Scope::new(&contexts).status(&JobStatus::Success);
    for text in [
        "github.event_name == 'push' && github.ref == 'refs/heads/main'",
        "steps.cache.outputs.cache-hit != 'true'",
        "always() && contains(fromJSON('[\"a\", \"linux\"]'), matrix.os)",
    ] {
        let condition = Condition::parse(text);
        let time = best(|| {
            let _ = black_box(black_box(&condition).eval(&scope));
        });
        println!("if: {text:<64} {time:>9.0?} (bar: 2 µs)");
    }
}
