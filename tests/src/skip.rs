//! What cannot run here is said aloud, never passed silently; with `CI=true` a missing engine is a failure.

use std::{fs::OpenOptions, io::Write};

/// Says that `what` is skipped and `why`: past the test framework's capture, and into the file that `tests/run` shows.
pub fn say(what: &str, why: &str) {
    let line = format!("skipped: {what}: {why}\n");
    // The framework captures the print macros only; this goes to the real standard error.
    drop(std::io::stderr().write_all(line.as_bytes()));
    if let Some(path) = std::env::var_os("ESTEIRA_SKIP_LOG") {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the skip log can be written");
    }
}

/// Whether a Docker Engine answers; if not, says that `what` is skipped.
///
/// # Panics
/// With `CI=true`, where a skipped engine test is a failure.
pub fn without_engine(what: &str) -> bool {
    if crate::engine::answers() {
        return false;
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{what}: no Docker Engine answers, and CI=true asks for it"
    );
    say(what, "no Docker Engine answers");
    true
}

/// How often a repetition runs: twice, or `full` times under `tests/run --long`.
pub fn repetitions(full: usize) -> usize {
    if std::env::var_os("ESTEIRA_LONG").is_some() { full } else { full.min(2) }
}
