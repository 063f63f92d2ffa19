//! The engine's API through the docker command line.
//!
//! `docker system dial-stdio` joins its standard streams to the engine that the command line would speak to, whatever
//! way leads there: a socket, TLS, a context, `ssh://`. A socket in a private folder stands before it, one child per
//! connection; the HTTP client keeps its connection, so this is one child for a whole deployment.

use std::{process::Stdio, sync::Arc};

use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::{
    io::{AsyncWriteExt, copy, join},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

use crate::deploy::{DeployError, docker::DockerCli};

/// How long one request may take, in seconds.
const REQUEST_LIMIT: u64 = 60;

/// The socket and its folder; both go with it.
#[derive(Debug)]
pub(super) struct Bridge {
    accepting: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Bridge {
    /// Opens the bridge and a client on it.
    pub(super) async fn open(cli: &DockerCli) -> Result<(Self, Docker), DeployError> {
        let failed = |error: std::io::Error| {
            DeployError::Unreachable(format!("opening a socket to reach the engine: {error}"))
        };
        let folder = tempfile::Builder::new().prefix("esteira-deploy-").tempdir().map_err(failed)?;
        let path = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(cli.clone())));
        let client = Docker::connect_with_unix(&path.to_string_lossy(), REQUEST_LIMIT, API_DEFAULT_VERSION)
            .map_err(|error| {
            DeployError::Unreachable(format!("the engine's address is not understood: {error}"))
        })?;
        let client = client
            .negotiate_version()
            .await
            .map_err(|error| DeployError::Unreachable(format!("the engine did not answer: {error}")))?;
        Ok((Self { accepting, _folder: folder }, client))
    }

    /// Ends every child and removes the socket.
    pub(super) async fn close(mut self) {
        self.accepting.shutdown().await;
    }
}

async fn accept(listener: UnixListener, cli: Arc<DockerCli>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let cli = Arc::clone(&cli);
                    connections.spawn(async move { carry(stream, &cli).await });
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

async fn carry(stream: UnixStream, cli: &DockerCli) {
    let child = cli
        .command(&["system", "dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        tracing::warn!("`docker system dial-stdio` could not be started");
        return;
    };
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return };
    let mut engine = join(stdout, stdin);
    let (mut from_client, mut to_client) = stream.into_split();
    let (mut from_engine, mut to_engine) = tokio::io::split(&mut engine);
    let up = async {
        let copied = copy(&mut from_client, &mut to_engine).await;
        let closed = to_engine.shutdown().await;
        copied.and(closed)
    };
    // Whichever side ends first ends the other; the HTTP client sees a closed connection and opens a new one.
    tokio::select! {
        _ = up => {}
        _ = copy(&mut from_engine, &mut to_client) => {}
    }
    if let Err(error) = child.kill().await {
        tracing::debug!(%error, "the way to the engine had already ended");
    }
}
