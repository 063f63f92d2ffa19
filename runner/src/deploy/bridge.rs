//! The engine's API through the docker command line.
//!
//! `docker system dial-stdio` joins its standard streams to the engine that the command line would speak to, whatever
//! way leads there: a socket, TLS, a context, `ssh://`. A socket in a private folder stands before it, one child per
//! connection; the HTTP client keeps its connection, so this is one child for a whole deployment.

use std::{process::Stdio, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy},
    net::{UnixListener, UnixStream},
    process::{ChildStdin, ChildStdout},
    sync::watch,
    task::JoinSet,
};

use crate::deploy::{DeployError, docker::DockerCli, engine::Engine, explain};

/// So much of what a child complains about is kept.
const COMPLAINT_LIMIT: usize = 4096;

/// The socket and its folder; both go with it.
#[derive(Debug)]
pub(super) struct Bridge {
    accepting: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Bridge {
    /// Opens the bridge and a client on it.
    pub(super) fn open(cli: &DockerCli) -> Result<(Self, Engine), DeployError> {
        let failed = |error: std::io::Error| {
            DeployError::Unreachable(format!("opening a socket to reach the engine: {error}"))
        };
        let folder = tempfile::Builder::new().prefix("esteira-deploy-").tempdir().map_err(failed)?;
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        let (complain, complaint) = watch::channel(String::new());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(cli.clone()), complain));
        Ok((Self { accepting, _folder: folder }, Engine::new(socket, complaint)))
    }

    /// Ends every child and removes the socket.
    pub(super) async fn close(mut self) {
        self.accepting.shutdown().await;
    }
}

async fn accept(listener: UnixListener, cli: Arc<DockerCli>, complain: watch::Sender<String>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (cli, complain) = (Arc::clone(&cli), complain.clone());
                    connections.spawn(async move { carry(stream, &cli, &complain).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "the bridge to the engine takes no more connections");
                    return;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(stream: UnixStream, cli: &DockerCli, complain: &watch::Sender<String>) {
    let child = cli
        .command(&["system", "dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            complain.send_replace(format!("`docker system dial-stdio` could not be started: {error}"));
            return;
        }
    };
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return };
    let carried = async {
        pump(stream, stdin, stdout).await;
        if let Err(error) = child.kill().await {
            tracing::debug!(%error, "the way to the engine had already ended");
        }
    };
    tokio::join!(carried, listen(stderr, complain));
}

/// Whichever side ends first ends the other; the HTTP client sees a closed connection and opens a new one.
async fn pump(stream: UnixStream, mut to_engine: ChildStdin, mut from_engine: ChildStdout) {
    let (mut from_client, mut to_client) = stream.into_split();
    let up = async {
        let copied = copy(&mut from_client, &mut to_engine).await;
        let closed = to_engine.shutdown().await;
        copied.and(closed)
    };
    tokio::select! {
        _ = up => {}
        _ = copy(&mut from_engine, &mut to_client) => {}
    }
}

/// Passes on what the child complains about, as it comes: a multiplexed ssh may keep the pipe open for long.
async fn listen(mut stderr: impl AsyncRead + Unpin, complain: &watch::Sender<String>) {
    let mut said = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut bytes).await {
        said.extend_from_slice(&bytes[..count]);
        let surplus = said.len().saturating_sub(COMPLAINT_LIMIT);
        said.drain(..surplus);
        complain.send_replace(explain::last_words(&String::from_utf8_lossy(&said)));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::{COMPLAINT_LIMIT, listen};

    #[tokio::test]
    async fn the_last_complaint_is_kept_and_no_more() {
        let (complain, complaint) = watch::channel(String::new());
        let noise = "x".repeat(3 * COMPLAINT_LIMIT);
        listen(format!("{noise}\nssh: the manager has gone away\n").as_bytes(), &complain).await;
        assert_eq!(*complaint.borrow(), "ssh: the manager has gone away");
        listen(noise.as_bytes(), &complain).await;
        assert_eq!(complaint.borrow().len(), COMPLAINT_LIMIT);
    }
}
