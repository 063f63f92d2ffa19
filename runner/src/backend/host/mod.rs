//! Steps as processes of this machine: one agent process and one scratch folder for each job.
//!
//! Owns the scratch folders (`<scratch>/<16 hex>`, each with a note of whose it is), the list of variables that a job
//! may see of the daemon's own environment, and the finding of what a crash has left.

mod env;
mod leftovers;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub use env::HostEnv;
pub use leftovers::{Leftover, reap};

use super::{Backend, BackendError, JobSpec, Notes, docker::DockerBackend};
use crate::cancel::Cancel;

/// Variables of the daemon's environment that jobs get; `LC_` stands for all that begin with it.
const INHERITED: [&str; 18] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_",
    "TZ",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// The note in a scratch folder that says whose it is.
const NOTE: &str = "owner.json";

/// Where jobs on the host live.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// This program, or a copy that stays when it is replaced: it is started as the agent.
    pub executable: PathBuf,
    /// The folder of the scratch folders; made when it is missing.
    pub scratch: PathBuf,
    /// The tool cache of all jobs; `None` gives each job its own.
    pub tool_cache: Option<PathBuf>,
    /// What the daemon's environment holds; only the harmless names are handed on.
    pub environ: BTreeMap<String, String>,
    /// Runs docker actions and services; `None` when no engine answers.
    pub engine: Option<DockerBackend>,
    /// `runner.allocate_pty`: processes have a terminal.
    pub terminal: bool,
}

/// Makes places on this machine.
#[derive(Debug, Clone)]
pub struct HostBackend {
    config: std::sync::Arc<HostConfig>,
}

impl HostBackend {
    /// A backend with this configuration.
    pub fn new(config: HostConfig) -> Self {
        Self { config: std::sync::Arc::new(config) }
    }
}

impl Backend for HostBackend {
    type Env = HostEnv;

    async fn prepare<N: Notes>(
        &self,
        spec: JobSpec,
        notes: &N,
        cancel: &Cancel,
    ) -> Result<HostEnv, BackendError> {
        tokio::select! {
            biased;
            _ = cancel.cancelled() => Err(BackendError::Cancelled),
            env = Box::pin(HostEnv::make(&self.config, spec, notes, cancel)) => env,
        }
    }
}

/// The part of the daemon's environment that jobs get.
fn inherited(environ: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    environ
        .iter()
        .filter(|(name, _)| {
            INHERITED
                .iter()
                .any(|allowed| *name == allowed || (allowed.ends_with('_') && name.starts_with(allowed)))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// A scratch folder that goes with its owner.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make(parent: &Path, owner: &str, task: i64) -> std::io::Result<Self> {
        fs::create_dir_all(parent)?;
        let name = uuid::Uuid::new_v4().simple().to_string();
        let path = parent.join(&name[..16]);
        fs::create_dir(&path)?;
        let scratch = Self { path };
        let note = serde_json::json!({ "owner": owner, "task": task });
        fs::write(scratch.path.join(NOTE), note.to_string())?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(folder = %self.path.display(), %error, "a job's scratch folder could not be removed");
        }
    }
}

/// Removes a folder and all in it; folders that a job has closed are opened first.
pub(super) fn remove_tree(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let remove = || match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    remove().or_else(|_| {
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            // Not ours to open: the second removal says what is wrong.
            let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
            let inner = fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(
                inner
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        remove()
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt};

    use super::{Scratch, inherited};

    #[test]
    fn the_daemons_own_variables_stay_with_the_daemon() {
        let environ = ["PATH", "LC_ALL", "GITEA_RUNNER_REGISTRATION_TOKEN", "AWS_SECRET", "LC"]
            .map(|name| (name.to_owned(), "value".to_owned()));
        let names: Vec<_> = inherited(&BTreeMap::from(environ)).into_keys().collect();
        assert_eq!(names, ["LC_ALL", "PATH"]);
    }

    #[test]
    fn a_scratch_folder_goes_even_when_a_job_has_closed_a_folder_in_it() {
        let parent = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::make(parent.path(), "owner", 7).expect("made");
        let closed = scratch.path.join("closed");
        fs::create_dir_all(closed.join("deep")).expect("folders");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).expect("closed");
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).expect("still there").count(), 0);
    }
}
