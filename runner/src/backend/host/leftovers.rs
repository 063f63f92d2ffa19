//! What a runner that was killed has left on the host: processes that carry its tracking id, and scratch folders.

use std::{fs, path::Path, time::Duration};

use super::{NOTE, remove_tree};
use crate::{agent::tree, backend::TRACKING_PREFIX};

/// Something that was found and removed, for the daemon's log.
#[derive(Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A process: its name and pid.
    Process(String, i32),
    /// A scratch folder.
    Folder(std::path::PathBuf),
    /// A folder that could not be removed, and why.
    Stuck(std::path::PathBuf, String),
}

/// Ends processes and removes folders of `owner` whose task `is_live` does not know. Other owners' are left alone.
/// Blocks for up to a second when processes have to be ended.
pub fn reap(scratch: &Path, owner: &str, is_live: impl Fn(i64) -> bool) -> Vec<Leftover> {
    let mut found = Vec::new();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        let mut any = false;
        for process in tree::all() {
            let task = tree::tracking(process.pid).and_then(|id| task_of(&id, owner));
            if task.is_some_and(|task| !is_live(task)) {
                any = true;
                tree::signal(process.pid, signal);
                let leftover = Leftover::Process(process.name, process.pid);
                if !found.contains(&leftover) {
                    found.push(leftover);
                }
            }
        }
        if any {
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        let path = entry.path();
        let note = fs::read_to_string(path.join(NOTE)).ok();
        let note: Option<serde_json::Value> = note.and_then(|text| serde_json::from_str(&text).ok());
        let Some(note) = note else { continue };
        let task = note.get("task").and_then(serde_json::Value::as_i64);
        let ours = note.get("owner").and_then(serde_json::Value::as_str) == Some(owner);
        if ours && task.is_some_and(|task| !is_live(task)) {
            found.push(match remove_tree(&path) {
                Ok(()) => Leftover::Folder(path),
                Err(error) => Leftover::Stuck(path, error.to_string()),
            });
        }
    }
    found
}

/// The task in a tracking id of this owner.
fn task_of(id: &str, owner: &str) -> Option<i64> {
    id.strip_prefix(TRACKING_PREFIX)?.strip_prefix(owner)?.strip_prefix('_')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::{Leftover, reap, task_of};
    use crate::backend::{host::Scratch, tracking_id};

    #[test]
    fn a_tracking_id_names_owner_and_task() {
        assert_eq!(task_of(&tracking_id("me", 7), "me"), Some(7));
        assert_eq!(task_of(&tracking_id("me", 7), "you"), None);
        assert_eq!(task_of("github_1234", "me"), None);
    }

    #[test]
    fn only_what_is_ours_and_dead_is_removed() {
        let parent = tempfile::tempdir().expect("a folder");
        let keep = |owner: &str, task| {
            let scratch = Scratch::make(parent.path(), owner, task).expect("made");
            let path = scratch.path.clone();
            std::mem::forget(scratch);
            path
        };
        let owner = uuid::Uuid::new_v4().to_string();
        let (dead, live, other) = (keep(&owner, 1), keep(&owner, 2), keep("other", 1));
        let mut sleeper = Command::new("sleep")
            .arg("60")
            .env("RUNNER_TRACKING_ID", tracking_id(&owner, 1))
            .spawn()
            .expect("sleep starts");
        let found = reap(parent.path(), &owner, |task| task == 2);
        assert!(found.contains(&Leftover::Folder(dead)), "{found:?}");
        assert!(
            found.iter().any(|one| matches!(one, Leftover::Process(name, _) if name == "sleep")),
            "{found:?}"
        );
        assert!(live.exists() && other.exists());
        assert!(!sleeper.wait().expect("it has ended").success());
        fs::remove_dir_all(parent.path()).expect("removed");
    }
}
