//! Names to addresses without the host's NSS modules: a static executable cannot load them.
//!
//! The hosts file and the name servers of `/etc/resolv.conf` are asked by hickory. The file is looked at again when it
//! has changed, because a daemon outlives networks.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::SystemTime,
};

use hickory_resolver::{TokioResolver, config::LookupIpStrategy};
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Resolves host names for a client's connections. Clones share one cache.
#[derive(Clone, Default)]
pub struct Resolver {
    made: Arc<Mutex<Option<Made>>>,
}

struct Made {
    resolver: TokioResolver,
    changed: Option<SystemTime>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// All addresses of `host`, in the order in which they should be tried.
    pub async fn lookup(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let resolver = self.current()?;
        let found = resolver.lookup_ip(host).await.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(found.iter().map(|address| SocketAddr::new(address, 0)).collect())
    }

    fn current(&self) -> io::Result<TokioResolver> {
        let changed = std::fs::metadata(RESOLV_CONF).and_then(|file| file.modified()).ok();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref()
            && made.changed == changed
        {
            return Ok(made.resolver.clone());
        }
        let fail = |error| io::Error::other(format!("{RESOLV_CONF}: {error}"));
        let mut builder = TokioResolver::builder_tokio().map_err(fail)?;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        builder.options_mut().cache_size = 32;
        let resolver = builder.build().map_err(fail)?;
        *made = Some(Made { resolver: resolver.clone(), changed });
        Ok(resolver)
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.lookup(name.as_str()).await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use super::Resolver;

    #[tokio::test]
    async fn localhost_needs_no_name_server() {
        let found = Resolver::default().lookup("localhost").await.expect("localhost");
        assert!(found.iter().all(|address| address.ip().is_loopback()) && !found.is_empty(), "{found:?}");
    }
}
