//! Whether a job may be fetched now: the engine answers, there is space, and the operator's own check agrees.
//!
//! Looking is cheap and rare: each check keeps its answer for a while, and only a poll asks.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::Instant};

use crate::settings::HealthCheck;

/// How long an answer of the engine counts.
const ENGINE_MEMORY: Duration = Duration::from_secs(10);

/// Below so many MiB a job cannot even keep its journal, whatever the configuration says.
const LEAST_SPACE: u64 = 32;

/// Asks the engine for a sign of life.
pub type Probe = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What the script is told.
#[derive(Debug, Clone)]
pub struct About {
    /// The runner's name.
    pub name: String,
    /// The instance.
    pub instance: String,
}

/// All checks. Owned by the poll loop.
pub struct Gate {
    settings: HealthCheck,
    folders: Vec<PathBuf>,
    engine: Option<Probe>,
    about: About,
    engine_said: Option<(Instant, Result<(), String>)>,
    script_said: Option<(Instant, Result<(), String>)>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("settings", &self.settings)
            .field("folders", &self.folders)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// Checks for jobs that work in `folders` and, when there is one, in `engine`.
    pub fn new(settings: HealthCheck, folders: Vec<PathBuf>, engine: Option<Probe>, about: About) -> Self {
        Self { settings, folders, engine, about, engine_said: None, script_said: None }
    }

    /// Whether a job may be fetched while `running` others run; otherwise why not.
    pub async fn check(&mut self, running: usize) -> Result<(), String> {
        self.check_space()?;
        if let Some(engine) = &self.engine {
            let said = match &self.engine_said {
                Some((when, said @ Ok(()))) if when.elapsed() < ENGINE_MEMORY => said.clone(),
                _ => engine().await,
            };
            self.engine_said = Some((Instant::now(), said.clone()));
            said.map_err(|reason| format!("the container engine does not answer: {reason}"))?;
        }
        if self.settings.enabled && !self.settings.script.as_os_str().is_empty() {
            let due =
                self.script_said.as_ref().is_none_or(|(when, _)| when.elapsed() >= self.settings.interval);
            // Between jobs only: a check may well be slow, or look at what a job is just using.
            if due && running == 0 {
                let said = self.run_script().await;
                self.script_said = Some((Instant::now(), said));
            }
            if let Some((_, said)) = &self.script_said {
                said.clone()?;
            }
        }
        Ok(())
    }

    fn check_space(&self) -> Result<(), String> {
        let least = if self.settings.enabled { self.settings.min_free_disk_space_mb } else { LEAST_SPACE };
        for folder in &self.folders {
            let free = free_space(folder)?;
            if free < least {
                let key = if self.settings.enabled { " (health_check.min_free_disk_space_mb)" } else { "" };
                return Err(format!(
                    "{free} MiB are free at {}, {least} MiB are needed{key}",
                    folder.display()
                ));
            }
        }
        Ok(())
    }

    async fn run_script(&self) -> Result<(), String> {
        let script = &self.settings.script;
        let mut command = Command::new(script);
        command
            .env("GITEA_RUNNER_HEALTH_CHECK", "1")
            .env("GITEA_RUNNER_NAME", &self.about.name)
            .env("GITEA_INSTANCE_URL", &self.about.instance)
            .env("GITEA_RUNNER_RUNNING_JOBS", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        run_bounded(command, self.settings.timeout)
            .await
            .map_err(|reason| format!("the health script {} {reason}", script.display()))
    }
}

/// MiB that a job of ours could still write at `folder` (or where it will be).
pub fn free_space(folder: &Path) -> Result<u64, String> {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let space = rustix::fs::statvfs(there).map_err(|error| format!("{}: {error}", there.display()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize) >> 20)
}

/// Runs a program of the operator's to its end, for at most `limit`; then it and all that it has started are killed.
pub(super) async fn run_bounded(mut command: Command, limit: Duration) -> Result<(), String> {
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("failed: {status}")),
        Ok(Err(error)) => Err(format!("cannot be waited for: {error}")),
        Err(_) => {
            if let Some(group) = group {
                // It may have ended in this very moment.
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = child.wait().await;
            Err(format!("took longer than {limit:.0?} and was killed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        path::{Path, PathBuf},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use super::{About, Gate, Probe};
    use crate::settings::HealthCheck;

    fn gate(settings: HealthCheck, engine: Option<Probe>) -> Gate {
        let about = About { name: "builder".into(), instance: "http://gitea".into() };
        Gate::new(settings, vec![PathBuf::from("/")], engine, about)
    }

    fn script(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("check");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
        path
    }

    #[tokio::test]
    async fn too_little_space_is_named_with_its_key() {
        let settings =
            HealthCheck { enabled: true, min_free_disk_space_mb: u64::MAX, ..HealthCheck::default() };
        let why = gate(settings, None).check(0).await.expect_err("no disk is that large");
        assert!(why.contains("min_free_disk_space_mb"), "{why}");
    }

    #[tokio::test]
    async fn a_silent_engine_is_asked_again_and_a_good_one_only_now_and_then() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let probe: Probe = Box::new(move || {
            let first = counter.fetch_add(1, Ordering::Relaxed) == 0;
            Box::pin(async move { if first { Err("connection refused".to_owned()) } else { Ok(()) } })
        });
        let mut gate = gate(HealthCheck::default(), Some(probe));
        assert!(gate.check(0).await.expect_err("it is down").contains("connection refused"));
        gate.check(0).await.expect("it is back");
        gate.check(0).await.expect("that is remembered");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn the_script_decides_and_cannot_hang() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = |text: &str| HealthCheck {
            enabled: true,
            min_free_disk_space_mb: 0,
            script: script(folder.path(), text),
            interval: Duration::ZERO,
            timeout: Duration::from_millis(300),
        };
        gate(settings("test \"$GITEA_RUNNER_NAME\" = builder"), None).check(0).await.expect("it agrees");
        let why = gate(settings("exit 3"), None).check(0).await.expect_err("it does not");
        assert!(why.contains("failed"), "{why}");
        let why = gate(settings("sleep 60 & wait"), None).check(0).await.expect_err("it hangs");
        assert!(why.contains("killed"), "{why}");
        gate(settings("exit 3"), None).check(1).await.expect("not while jobs run");
    }
}
