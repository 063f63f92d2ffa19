//! The docker command line, called with bounded time and bounded output.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use crate::deploy::{DeployError, explain};

/// Output beyond this many bytes is dropped: a rendered stack file is some kilobytes.
const OUTPUT_LIMIT: u64 = 8 << 20;

/// The docker command line with its engine address.
#[derive(Debug, Clone)]
pub(super) struct DockerCli {
    host: Option<String>,
}

/// What one call printed.
#[derive(Debug)]
pub(super) struct CliOutput {
    /// Whether it exited with 0.
    pub(super) success: bool,
    /// Standard output.
    pub(super) stdout: String,
    /// Standard error.
    pub(super) stderr: String,
}

impl DockerCli {
    pub(super) const fn new(host: Option<String>) -> Self {
        Self { host }
    }

    /// The command with the engine's address, its children bound to us.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.args(["--host", host]);
        }
        command.args(arguments).kill_on_drop(true);
        command
    }

    /// Runs to the end; `Err` only when the program could not run or took longer than `limit`.
    pub(super) async fn run(
        &self,
        arguments: &[&str],
        input: Option<&[u8]>,
        limit: Duration,
    ) -> Result<CliOutput, DeployError> {
        let what = format!("docker {}", arguments.join(" "));
        let mut child = self
            .command(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                DeployError::Unreachable(format!("the docker command line could not be started ({error}): install it, `esteira deploy` speaks to Swarm through it"))
            })?;
        let broken = |error: std::io::Error| DeployError::Unreachable(format!("`{what}`: {error}"));
        let mut stdin = child.stdin.take();
        let mut stdout = child.stdout.take().map(|pipe| pipe.take(OUTPUT_LIMIT));
        let mut stderr = child.stderr.take().map(|pipe| pipe.take(OUTPUT_LIMIT));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let work = async {
            let write = async {
                if let (Some(mut pipe), Some(bytes)) = (stdin.take(), input) {
                    // A program that exits before it has read its input says why on standard error.
                    let _ = pipe.write_all(bytes).await;
                }
                Ok::<_, std::io::Error>(())
            };
            let read_out = async {
                match stdout.as_mut() {
                    Some(pipe) => pipe.read_to_end(&mut out).await.map(|_| ()),
                    None => Ok(()),
                }
            };
            let read_err = async {
                match stderr.as_mut() {
                    Some(pipe) => pipe.read_to_end(&mut err).await.map(|_| ()),
                    None => Ok(()),
                }
            };
            tokio::try_join!(write, read_out, read_err)?;
            child.wait().await
        };
        let status = tokio::time::timeout(limit, work)
            .await
            .map_err(|_| {
                DeployError::Unreachable(format!("`{what}` did not end within {} s", limit.as_secs()))
            })?
            .map_err(broken)?;
        Ok(CliOutput {
            success: status.success(),
            stdout: String::from_utf8_lossy(&out).into_owned(),
            stderr: String::from_utf8_lossy(&err).into_owned(),
        })
    }

    /// Asks the engine whether it is a Swarm manager; this is also the first use of the way to it.
    pub(super) async fn require_manager(&self) -> Result<(), DeployError> {
        let output = self
            .run(
                &["info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}"],
                None,
                Duration::from_secs(60),
            )
            .await?;
        if !output.success {
            return Err(DeployError::Unreachable(explain::unreachable(&output.stderr)));
        }
        match output.stdout.trim() {
            "active true" => Ok(()),
            "active false" => Err(DeployError::Unreachable(
                "the engine is a Swarm worker, not a manager: name a manager with --host ssh://user@manager".to_owned(),
            )),
            _ => Err(DeployError::Unreachable(
                "the engine is not part of a Swarm: run `docker swarm init` on it, or name a manager with --host".to_owned(),
            )),
        }
    }
}
