//! The server itself: build → serve → stop.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use proto::transport::Options as Wire;
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    Limits,
    http::{Forwarder, Shared, routes},
    sign::Signer,
    store::{Store, StoreError, on_disk},
    tokens::{JobFacts, Tokens},
};
use crate::{metrics::Metrics, secret::Secret};

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Everybody who reaches this machine: jobs in containers do so from networks of their own.
    Everywhere,
    /// Processes of this machine.
    Loopback,
}

/// How a cache is served.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where it is kept.
    pub folder: PathBuf,
    /// 0: any free one.
    pub port: u16,
    /// Who may connect.
    pub listening: Listening,
    /// What it may take.
    pub limits: Limits,
    /// Lets other runners register their jobs.
    pub secret: Option<Secret<String>>,
    /// How instances are reached that take artifact calls.
    pub wire: Wire,
    /// What counts.
    pub metrics: Metrics,
}

/// There is no cache.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CacheError(String);

impl From<StoreError> for CacheError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

/// A cache that is served. It ends at once when it is dropped.
#[derive(Debug)]
pub struct CacheServer {
    shared: Arc<Shared>,
    port: u16,
    _tasks: JoinSet<()>,
}

impl CacheServer {
    /// Opens the folder and the port, and serves.
    pub async fn start(options: ServerOptions) -> Result<Self, CacheError> {
        let ServerOptions { folder, port, listening, limits, secret, wire, metrics } = options;
        let listener = listen(listening, port).await.map_err(|error| {
            CacheError(format!(
                "the port {port} of the cache cannot be opened: {error} (cache.port names another)"
            ))
        })?;
        let port = listener.local_addr().map_err(|error| CacheError(error.to_string()))?.port();
        let opened = tokio::task::spawn_blocking(move || {
            let store = Store::open(&folder, limits)?;
            let signer = Signer::open(store.folder()).map_err(|source| StoreError::Io {
                what: format!("the key in the cache folder {}", store.folder().display()),
                source,
            })?;
            Ok::<_, StoreError>((store, signer))
        });
        let (store, signer) = opened.await.map_err(|error| CacheError(error.to_string()))??;
        let shared = Arc::new(Shared {
            store: Arc::new(store),
            signer,
            tokens: Tokens::default(),
            secret,
            forwarder: Forwarder::new(wire),
            grown: tokio::sync::Notify::new(),
            metrics,
        });
        let mut tasks = JoinSet::new();
        let served = warp::serve(routes(shared.clone())).incoming(listener);
        tasks.spawn(served.run());
        tasks.spawn(keep_small(shared.clone()));
        Ok(Self { shared, port, _tasks: tasks })
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Lets a job in, until the answer is dropped. `instance` takes its artifact calls.
    pub(super) fn register(&self, token: &Secret<String>, repository: &str, instance: &str) -> Registered {
        let facts = JobFacts {
            repository: repository.to_owned(),
            instance: instance.to_owned(),
            insecure: false,
            public_url: String::new(),
        };
        self.shared.tokens.register(token.expose(), facts);
        Registered { shared: self.shared.clone(), token: token.clone() }
    }
}

/// A job that is let in.
#[derive(Debug)]
pub(super) struct Registered {
    shared: Arc<Shared>,
    token: Secret<String>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.tokens.revoke(self.token.expose());
    }
}

/// Opens the port: for both versions of IP where the machine has both.
async fn listen(listening: Listening, port: u16) -> io::Result<TcpListener> {
    match listening {
        Listening::Loopback => TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await,
        Listening::Everywhere => {
            match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
                }
                listener => listener,
            }
        }
    }
}

/// Sweeps at the start, now and then, and whenever something was added.
async fn keep_small(shared: Arc<Shared>) {
    loop {
        match on_disk(&shared.store, Store::sweep).await {
            Ok((0, _)) => {}
            Ok((archives, bytes)) => tracing::info!(archives, bytes, "the cache was swept"),
            Err(error) => tracing::warn!(%error, "the cache could not be swept"),
        }
        tokio::select! {
            () = tokio::time::sleep(shared.store.interval()) => {}
            () = shared.grown.notified() => {}
        }
    }
}
