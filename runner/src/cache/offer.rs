//! What a job gets of the cache, and the way there.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::{
    CacheServer, External, Listening, ServerOptions,
    address::{authority, outbound},
    server::Registered,
};
use crate::secret::Secret;

/// What a job is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Offer {
    /// Nothing.
    #[default]
    None,
    /// Nothing, and the job should know why: one sentence.
    Unavailable(String),
    /// A server at one of these hosts; which of them the job reaches is found out from inside.
    Here {
        /// Best first.
        hosts: Vec<String>,
        /// Where it listens.
        port: u16,
        /// Whether version 2 is announced.
        v2: bool,
        /// Whether the way to the host that a container has may be tried besides.
        guess: bool,
    },
    /// A server elsewhere.
    There {
        /// Its address, without slash at the end.
        url: String,
        /// Where it has version 2, if it has.
        results: Option<String>,
    },
}

impl Offer {
    /// The base of a server at `host`.
    pub fn base(host: &str, port: u16) -> String {
        format!("http://{}", authority(host, port))
    }

    /// Hosts that no proxy is needed for.
    pub fn hosts(&self) -> Vec<String> {
        match self {
            Self::None | Self::Unavailable(_) => Vec::new(),
            Self::Here { hosts, .. } => hosts.clone(),
            Self::There { url, .. } => {
                let host = url.parse::<url::Url>().ok().and_then(|url| url.host_str().map(str::to_owned));
                host.into_iter().collect()
            }
        }
    }
}

/// The cache of this process's jobs. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Caches {
    kind: Arc<Kind>,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Off,
    Own(Box<Own>),
    External(Box<External>),
}

#[derive(Debug)]
struct Own {
    options: ServerOptions,
    host: String,
    v2: bool,
    /// Started by the first job: until then it costs nothing.
    server: Mutex<Option<Arc<CacheServer>>>,
}

/// A job that has been let in. To be told when it is over.
#[derive(Debug)]
pub struct Entered {
    /// What the job is offered.
    pub offer: Offer,
    stay: Stay,
}

#[derive(Debug)]
enum Stay {
    Nowhere,
    Here(#[expect(dead_code, reason = "it is taken back when it is dropped")] Registered),
    There(Box<External>, Secret<String>),
}

impl Caches {
    /// Our own server, which listens at `host` for the jobs (empty: wherever this machine is reached).
    pub fn own(options: ServerOptions, host: &str, v2: bool) -> Self {
        let own = Own { options, host: host.to_owned(), v2, server: Mutex::new(None) };
        Self { kind: Arc::new(Kind::Own(Box::new(own))) }
    }

    /// A server elsewhere.
    pub fn external(external: External) -> Self {
        Self { kind: Arc::new(Kind::External(Box::new(external))) }
    }

    /// Lets a job in. `instance` takes its artifact calls; empty: none does.
    pub async fn enter(&self, token: &Secret<String>, repository: &str, instance: &str) -> Entered {
        match &*self.kind {
            Kind::Off => Entered { offer: Offer::None, stay: Stay::Nowhere },
            Kind::Own(own) => own.enter(token, repository, instance).await,
            Kind::External(external) => enter_elsewhere(external, token, repository, instance).await,
        }
    }

    /// Ends our own server.
    pub async fn close(&self) {
        if let Kind::Own(own) = &*self.kind {
            *own.server.lock().await = None;
        }
    }
}

impl Own {
    async fn enter(&self, token: &Secret<String>, repository: &str, instance: &str) -> Entered {
        let server = match self.server().await {
            Ok(server) => server,
            Err(sentence) => {
                tracing::warn!(reason = sentence, "there is no cache for jobs");
                return Entered { offer: Offer::Unavailable(sentence), stay: Stay::Nowhere };
            }
        };
        let hosts = match (self.host.as_str(), self.options.listening) {
            ("", Listening::Loopback) => vec!["127.0.0.1".to_owned()],
            // The last one is for jobs of this machine, and for containers that share its network.
            ("", Listening::Everywhere) => {
                outbound().iter().map(ToString::to_string).chain(["127.0.0.1".to_owned()]).collect()
            }
            (host, _) => vec![host.to_owned()],
        };
        let guess = self.host.is_empty() && self.options.listening == Listening::Everywhere;
        Entered {
            offer: Offer::Here { hosts, port: server.port(), v2: self.v2, guess },
            stay: Stay::Here(server.register(token, repository, instance)),
        }
    }

    /// The server; the first caller starts it. One that could not start is tried again by the next job.
    async fn server(&self) -> Result<Arc<CacheServer>, String> {
        let mut server = self.server.lock().await;
        if let Some(server) = &*server {
            return Ok(server.clone());
        }
        let started = CacheServer::start(self.options.clone()).await.map_err(|error| error.to_string())?;
        tracing::info!(port = started.port(), folder = %self.options.folder.display(), "the cache is served");
        Ok(server.insert(Arc::new(started)).clone())
    }
}

async fn enter_elsewhere(
    external: &External,
    token: &Secret<String>,
    repository: &str,
    instance: &str,
) -> Entered {
    let url = external.base().to_owned();
    if external.secret.expose().is_empty() {
        return Entered { offer: Offer::There { url, results: None }, stay: Stay::Nowhere };
    }
    match external.register(token, repository, instance).await {
        Ok(results) => Entered {
            offer: Offer::There { url, results: results.filter(|_| external.v2) },
            stay: Stay::There(Box::new(external.clone()), token.clone()),
        },
        Err(reason) => {
            let sentence = format!("this job cannot be registered with the cache server {url}: {reason}");
            tracing::warn!("{sentence}");
            Entered { offer: Offer::Unavailable(sentence), stay: Stay::Nowhere }
        }
    }
}

impl Entered {
    /// The job is over: its token opens nothing any more.
    pub async fn leave(self) {
        match self.stay {
            Stay::Nowhere | Stay::Here(_) => {}
            Stay::There(external, token) => {
                if let Err(reason) = external.revoke(&token).await {
                    tracing::warn!(
                        server = external.base(),
                        reason,
                        "the cache server does not know that a job is over"
                    );
                }
            }
        }
    }
}
