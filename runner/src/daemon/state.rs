//! The state folder: who owns it, and what is in it.
//!
//! `lock` (held while the daemon lives), `jobs/` (journals), `actions/` (fetched actions), `host/` (folders of host
//! jobs), `health.sock`, and `agent-<sha256>`: a copy of this program that stays what it is when the program is replaced.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made, read or written.
    #[error("the state folder {path} cannot be used: {source} (runner.state_dir names another)")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("the state folder {0} is in use by another daemon")]
    InUse(PathBuf),
}

/// The folder, locked.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

/// The program as it is given to jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCopy {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256, hex.
    pub hash: String,
}

impl StateFolder {
    /// Makes the folder if it is not there, for its owner only, and takes its lock.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let fail = |source| StateError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(fail)?;
        let path = fs::canonicalize(path).map_err(fail)?;
        let lock =
            OpenOptions::new().create(true).append(true).mode(0o600).open(path.join("lock")).map_err(fail)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::InUse(path)),
            Err(error) => Err(fail(error.into())),
        }
    }

    /// The folder itself, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder inside; made for its owner only.
    pub fn folder(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.path.join(name);
        match DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(StateError::Io { path, source }),
        }
    }

    /// Copies the running program to `agent-<sha256>` unless it is there, and removes copies of other versions.
    pub fn agent(&self) -> Result<AgentCopy, StateError> {
        self.copy_program().map_err(|source| StateError::Io { path: self.path.clone(), source })
    }

    fn copy_program(&self) -> io::Result<AgentCopy> {
        let mut program = File::open("/proc/self/exe").or_else(|_| File::open(std::env::current_exe()?))?;
        let mut scratch = tempfile::Builder::new()
            .prefix(".agent-")
            .permissions(Permissions::from_mode(0o755))
            .tempfile_in(&self.path)?;
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let read = program.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            digest.update(&buffer[..read]);
            scratch.write_all(&buffer[..read])?;
        }
        let hash = crate::agent::hash::hex(&digest.finalize());
        let name = format!("agent-{hash}");
        let path = self.path.join(&name);
        if !path.exists() {
            scratch.persist(&path).map_err(|failed| failed.error)?;
        }
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let other = entry.file_name().to_string_lossy().into_owned();
            if other.starts_with("agent-") && other != name {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(AgentCopy { path, hash })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::{StateError, StateFolder};

    #[test]
    fn it_is_private_and_has_one_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/state");
        let state = StateFolder::open(&path).expect("it is free");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);
        assert!(matches!(StateFolder::open(&path), Err(StateError::InUse(_))));
        drop(state);
        StateFolder::open(&path).expect("it is free again");
    }

    #[test]
    fn the_program_is_copied_once_and_older_copies_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::open(folder.path()).expect("it is free");
        fs::write(folder.path().join("agent-0000"), "old").expect("a file");
        let copy = state.agent().expect("it is copied");
        assert!(copy.path.ends_with(format!("agent-{}", copy.hash)));
        assert_eq!(fs::metadata(&copy.path).expect("it is there").permissions().mode() & 0o777, 0o755);
        assert!(!folder.path().join("agent-0000").exists());
        assert_eq!(state.agent().expect("it is there already"), copy);
    }
}
