//! The docker command line, called with bounded time and bounded output.

use std::{
    io::{self, IsTerminal},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use crate::deploy::{DeployError, explain};

/// Output beyond this many bytes is read and dropped: a rendered stack file is some kilobytes.
const OUTPUT_LIMIT: u64 = 8 << 20;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// There is no docker command line.
    #[error(
        "the docker command line could not be started ({0}): install it, `esteira deploy` speaks to Swarm through it"
    )]
    Start(io::Error),
    /// Its pipes broke.
    #[error("`{0}`: {1}")]
    Broken(String, io::Error),
    /// It was ended, because it took too long.
    #[error("`{0}` did not end within {seconds} s", seconds = .1.as_secs())]
    TooLong(String, Duration),
}

impl From<CliError> for DeployError {
    fn from(error: CliError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

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

impl CliOutput {
    /// The remarks on standard error, one each, however many lines the command line has broken them into.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = Vec::new();
        let mut is_new = true;
        for line in self.stderr.lines().map(str::trim) {
            match remarks.last_mut() {
                _ if line.is_empty() => is_new = true,
                Some(last) if !is_new || last.ends_with(':') => {
                    last.push(' ');
                    last.push_str(line);
                    is_new = false;
                }
                _ => {
                    remarks.push(line.to_owned());
                    is_new = false;
                }
            }
        }
        remarks
    }
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
        // A cancelled job signals its whole process group; a hand-over under way has to be let end. In a terminal
        // the child stays where ssh can ask for a passphrase.
        if !io::stdin().is_terminal() {
            command.process_group(0);
        }
        command
    }

    /// Runs to the end; `Err` only when the program could not run or took longer than `limit`.
    pub(super) async fn run(
        &self,
        arguments: &[&str],
        input: Option<&[u8]>,
        limit: Duration,
    ) -> Result<CliOutput, CliError> {
        finish(self.command(arguments), format!("docker {}", arguments.join(" ")), input, limit).await
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

async fn finish(
    mut command: Command,
    what: String,
    input: Option<&[u8]>,
    limit: Duration,
) -> Result<CliOutput, CliError> {
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(CliError::Start)?;
    match tokio::time::timeout(limit, exchange(&mut child, input)).await {
        Ok(ended) => ended.map_err(|error| CliError::Broken(what, error)),
        Err(_) => Err(CliError::TooLong(what, limit)),
    }
}

/// Gives the child its input and takes its output until it ends.
async fn exchange(child: &mut Child, input: Option<&[u8]>) -> io::Result<CliOutput> {
    let stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let write = async {
        if let (Some(mut pipe), Some(bytes)) = (stdin, input) {
            // A program that exits before it has read its input says why on standard error.
            let _ = pipe.write_all(bytes).await;
        }
        Ok(())
    };
    let ((), stdout, stderr) = tokio::try_join!(write, read(stdout), read(stderr))?;
    Ok(CliOutput { success: child.wait().await?.success(), stdout, stderr })
}

/// The pipe's text up to the limit. The rest is read as well, or its writer would wait for ever.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(pipe) = pipe else { return Ok(String::new()) };
    let mut kept = Vec::new();
    let mut pipe = pipe.take(OUTPUT_LIMIT);
    pipe.read_to_end(&mut kept).await?;
    tokio::io::copy(&mut pipe.into_inner(), &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::process::Command;

    use super::{CliError, CliOutput, OUTPUT_LIMIT, finish};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).kill_on_drop(true);
        command
    }

    #[tokio::test]
    async fn a_program_that_prints_too_much_ends_all_the_same() {
        let output = finish(
            shell("head -c 10000000 /dev/zero; echo told >&2"),
            String::new(),
            None,
            Duration::from_secs(60),
        );
        let output = output.await.expect("it ends");
        assert!(output.success);
        assert_eq!(output.stdout.len() as u64, OUTPUT_LIMIT);
        assert_eq!(output.remarks(), ["told"]);
    }

    #[test]
    fn a_remark_is_one_whatever_its_lines() {
        let stderr = "Ignoring unsupported options: build\n\nIgnoring deprecated options:\n\ncontainer_name: no.\n\n\
                      image x could not be accessed\nits digest.\n\n";
        let output = CliOutput { success: true, stdout: String::new(), stderr: stderr.to_owned() };
        let wanted = [
            "Ignoring unsupported options: build",
            "Ignoring deprecated options: container_name: no.",
            "image x could not be accessed its digest.",
        ];
        assert_eq!(output.remarks(), wanted);
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_ended() {
        let output =
            finish(shell("exec sleep 600"), "docker x".into(), None, Duration::from_millis(50)).await;
        assert!(matches!(output, Err(CliError::TooLong(..))), "{output:?}");
    }
}
