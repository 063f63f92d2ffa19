//! The engine behind a socket that counts requests on their way to it, for the tests and for the benchmark.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

/// The counting engine; its socket goes with it.
pub(crate) struct Counted {
    /// For `docker_host`.
    pub(crate) address: String,
    requests: Arc<AtomicUsize>,
    _proxy: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Counted {
    /// Listens before the engine that `DOCKER_HOST` names, or the machine's own.
    pub(crate) fn engine() -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let mut proxy = JoinSet::new();
        proxy.spawn(carry_and_count(listener, Arc::clone(&requests)));
        Self { address: format!("unix://{}", socket.display()), requests, _proxy: proxy, _folder: folder }
    }

    /// How many there were since the last call.
    pub(crate) fn taken(&self) -> usize {
        self.requests.swap(0, Ordering::Relaxed)
    }
}

async fn carry_and_count(listener: UnixListener, requests: Arc<AtomicUsize>) {
    let engine = std::env::var("DOCKER_HOST").unwrap_or_default();
    let engine = engine.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // Without an engine the client finds its connection closed, and says so.
        let Ok(server) = UnixStream::connect(&engine).await else { continue };
        let requests = Arc::clone(&requests);
        connections.spawn(async move {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let up = async {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    let heads =
                        buffer[..read].windows(11).filter(|window| *window == b" HTTP/1.1\r\n").count();
                    requests.fetch_add(heads, Ordering::Relaxed);
                    if to_server.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
                to_server.shutdown().await.ok();
            };
            let down = async {
                tokio::io::copy(&mut from_server, &mut to_client).await.ok();
                to_client.shutdown().await.ok();
            };
            tokio::join!(up, down);
        });
    }
}
