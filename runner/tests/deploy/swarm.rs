//! A stack of a real Swarm that is removed when its test ends.

use std::{
    fmt, fs,
    io::Write as _,
    process::{Command, Output},
    sync::OnceLock,
};

use tempfile::TempDir;

/// How a run of the program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) text: String,
}

impl Ended {
    pub(super) fn of(output: &Output) -> Self {
        let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
        Self { code: output.status.code().unwrap_or(-1), text }
    }

    /// The last line that says something.
    pub(super) fn last(&self) -> &str {
        self.text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("")
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\n{}", self.code, self.text)
    }
}

pub(super) fn docker(words: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(words).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<&'static str>> = OnceLock::new();
    *MISSING.get_or_init(|| {
        let state = "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}";
        let Some(mut found) = docker(&["info", "--format", state]) else {
            return Some("no Docker Engine answers");
        };
        if found.starts_with("inactive")
            && docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]).is_some()
        {
            "active true".clone_into(&mut found);
        }
        if found != "active true" {
            return Some("the engine is no Swarm manager");
        }
        if docker(&["image", "inspect", "esteira-test/busybox"]).is_none() {
            return Some("the image esteira-test/busybox is missing (tests/images.sh makes it)");
        }
        None
    })
}

/// Whether there is a Swarm to deploy to; says it when there is none.
pub(super) fn available(what: &str) -> bool {
    let Some(why) = missing() else { return true };
    skipped(what, why);
    false
}

/// Says that a test is skipped; with `CI=true` it fails instead.
pub(super) fn skipped(what: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{what}: {why}, and CI=true asks for it");
    let line = format!("skipped: {what}: {why}\n");
    // Past the framework's capture, which takes the print macros only.
    drop(std::io::stderr().write_all(line.as_bytes()));
    if let Some(log) = std::env::var_os("ESTEIRA_SKIP_LOG") {
        let log = fs::OpenOptions::new().append(true).create(true).open(log);
        log.and_then(|mut log| log.write_all(line.as_bytes())).expect("the skip log can be written");
    }
}

/// A stack with a name of its own.
pub(super) struct Stack {
    name: String,
    folder: TempDir,
}

impl Stack {
    pub(super) fn new(name: &str) -> Self {
        let name = format!("esteira-test-{name}-{}", std::process::id());
        Self { name, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Writes the file and deploys it.
    pub(super) fn deploy(&self, file: &str, more: &[&str]) -> Ended {
        // Two deployments of one stack at once must not share the file.
        let folder = tempfile::tempdir_in(self.folder.path()).expect("a folder");
        let path = folder.path().join("stack.yml");
        fs::write(&path, file).expect("the stack file");
        self.deploy_file(&path.to_string_lossy(), more)
    }

    /// Deploys a file that is (or is not) there.
    pub(super) fn deploy_file(&self, path: &str, more: &[&str]) -> Ended {
        Ended::of(&self.command(path, more).output().expect("the program runs"))
    }

    /// The program with its arguments.
    pub(super) fn command(&self, path: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_esteira"));
        command
            .args(["deploy", &self.name, "--compose-file", path])
            .args(more)
            .env_remove("GITHUB_ACTIONS")
            .env_remove("GITHUB_SHA");
        command
    }

    /// The folder for this test's files.
    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Whether it has this service.
    pub(super) fn has(&self, service: &str) -> bool {
        docker(&["service", "inspect", &format!("{}_{service}", self.name)]).is_some()
    }

    /// What `format` makes of the tasks that are to run.
    pub(super) fn tasks(&self, service: &str, format: &str) -> Vec<String> {
        let service = format!("{}_{service}", self.name);
        let ids = docker(&[
            "service",
            "ps",
            "--quiet",
            "--no-trunc",
            "--filter",
            "desired-state=running",
            &service,
        ]);
        ids.expect("the tasks")
            .lines()
            .map(|id| docker(&["inspect", "--type", "task", "--format", format, id]).expect("a task"))
            .collect()
    }

    /// A label of one of its services.
    pub(super) fn label(&self, service: &str, label: &str) -> String {
        let format = format!("{{{{index .Spec.Labels \"{label}\"}}}}");
        docker(&["service", "inspect", "--format", &format, &format!("{}_{service}", self.name)])
            .expect("the service")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = docker(&["stack", "rm", &self.name]);
        // Swarm leaves the ended containers of a job behind when its service goes.
        let label = format!("label=com.docker.stack.namespace={}", self.name);
        let ended =
            docker(&["ps", "-aq", "--filter", "status=exited", "--filter", &label]).unwrap_or_default();
        for id in ended.lines() {
            let _ = docker(&["rm", "--force", id]);
        }
    }
}
