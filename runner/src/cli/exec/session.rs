//! One run of `exec`: the name that everything it makes carries, and a lock that says that it lives.
//!
//! The next run looks at the locks of earlier ones: where one is free, its owner has died, and what it has left in the
//! engine is removed. What belongs to a run that lives, or to a daemon, stays.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::backend::docker::DockerBackend;

/// A run that lives as long as this.
#[derive(Debug)]
pub(super) struct Session {
    /// Its name: the owner of all that it makes.
    pub(super) name: String,
    path: PathBuf,
    _lock: File,
}

impl Session {
    /// Begins a run; its lock stands in `folder`.
    pub(super) fn begin(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let name = uuid::Uuid::new_v4().to_string();
        let path = folder.join(&name);
        let lock = File::create(&path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { name, path, _lock: lock })
    }

    /// Removes what runs that have died left in the engine. Answers what could not be removed, as sentences.
    pub(super) async fn bury_the_dead(&self, docker: &DockerBackend) -> Vec<String> {
        let mut left = Vec::new();
        for (name, path, lock) in self.dead() {
            match docker.reap(&name, |_| false).await {
                Ok(_) => {
                    // Another run may have done the same; then it is gone already.
                    let _ = fs::remove_file(&path);
                }
                Err(error) => left.push(format!("what an earlier run left could not be removed: {error}")),
            }
            drop(lock);
        }
        left
    }

    /// Names of runs whose lock is free, with the lock, so that nobody else does the same work.
    fn dead(&self) -> Vec<(String, PathBuf, File)> {
        let entries = self.path.parent().and_then(|folder| fs::read_dir(folder).ok());
        let mut dead = Vec::new();
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else { continue };
            if path == self.path || uuid::Uuid::parse_str(&name).is_err() {
                continue;
            }
            if let Ok(lock) = File::open(&path)
                && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                dead.push((name, path, lock));
            }
        }
        dead
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A lock without its owner only means work for the next run.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Session;

    #[test]
    fn only_runs_without_an_owner_are_dead() {
        let folder = tempfile::tempdir().unwrap();
        let first = Session::begin(folder.path()).unwrap();
        let second = Session::begin(folder.path()).unwrap();
        assert!(second.dead().is_empty());
        let gone = uuid::Uuid::new_v4().to_string();
        fs::write(folder.path().join(&gone), "").unwrap();
        fs::write(folder.path().join("notes.txt"), "").unwrap();
        let dead: Vec<String> = second.dead().into_iter().map(|(name, ..)| name).collect();
        assert_eq!(dead, [gone]);
        let path = folder.path().join(&first.name);
        drop(first);
        assert!(!path.exists());
    }
}
