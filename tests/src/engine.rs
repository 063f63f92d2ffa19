//! What is in the Docker Engine, seen by its own command line.

use std::process::{Command, Stdio};

/// Whether an engine answers.
pub fn answers() -> bool {
    let status = Command::new("docker").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Runs `docker` with these arguments; what it printed.
///
/// # Panics
/// When it fails.
pub fn docker(arguments: &[&str]) -> String {
    let output =
        Command::new("docker").args(arguments).stdin(Stdio::null()).output().expect("docker can be started");
    assert!(
        output.status.success(),
        "docker {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Containers, networks and volumes any of whose labels has this value (a runner's uuid), each as `kind name`.
///
/// # Panics
/// When docker fails.
pub fn objects_of(owner: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, list) in [
        ("container", ["ps", "-a", "--format", "{{.Names}}\t{{.Labels}}"].as_slice()),
        ("network", ["network", "ls", "--format", "{{.Name}}\t{{.Labels}}"].as_slice()),
        ("volume", ["volume", "ls", "--format", "{{.Name}}\t{{.Labels}}"].as_slice()),
    ] {
        for line in docker(list).lines() {
            let (name, labels) = line.split_once('\t').unwrap_or((line, ""));
            if labels.split(',').filter_map(|label| label.split_once('=')).any(|(_, value)| value == owner) {
                found.push(format!("{kind} {name}"));
            }
        }
    }
    found
}
