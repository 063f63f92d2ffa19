//! Opening connections: straight, through a proxy's `CONNECT` (for `https://`), or to a proxy that forwards (`http://`).

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::{
        legacy::{
            self,
            connect::{Connected, Connection, HttpConnector, proxy::Tunnel},
        },
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{Options, OptionsError, Protocol, TransportError, dns::Resolver, tls};

/// What the pool opens connections with.
pub(super) type Connector = HttpsConnector<ProxyConnector>;

type BoxError = Box<dyn Error + Send + Sync>;

/// Builds it. Trust is only loaded for servers that need it: the store costs memory.
pub(super) fn connector(
    options: &Options,
    encrypted: bool,
    proxies: Arc<Matcher>,
) -> Result<Connector, OptionsError> {
    let mut direct = HttpConnector::new_with_resolver(Resolver::default());
    direct.enforce_http(false);
    direct.set_nodelay(true);
    direct.set_keepalive(Some(Duration::from_mins(1)));
    direct.set_connect_timeout(Some(options.connect_timeout.unwrap_or(Duration::from_secs(10))));
    let inner = ProxyConnector { direct, proxies };
    let trust = if encrypted {
        tls::config(options)?
    } else {
        tls::config(&Options { insecure: true, ..Options::default() })? // never used: the address has no TLS
    };
    let builder = HttpsConnectorBuilder::new().with_tls_config(trust).https_or_http();
    Ok(match options.protocol {
        Protocol::Grpc => builder.enable_http2().wrap_connector(inner),
        Protocol::GrpcWeb => builder.enable_http1().enable_http2().wrap_connector(inner),
    })
}

/// Opens TCP, by way of a proxy if one is meant for the address.
#[derive(Clone)]
pub(super) struct ProxyConnector {
    direct: HttpConnector<Resolver>,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for ProxyConnector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut direct = self.direct.clone();
        let Some(proxy) = self.proxies.intercept(&uri) else {
            return Box::pin(async move {
                let io = direct.call(uri).await?;
                Ok(Stream { io, forwarded: false })
            });
        };
        let address = proxy.uri().clone();
        if address.scheme_str() != Some("http") {
            let scheme = address.scheme_str().unwrap_or_default().to_owned();
            return Box::pin(async move {
                Err(format!("a proxy that is spoken to in '{scheme}' is not supported: its address has to begin with http://").into())
            });
        }
        if uri.scheme_str() == Some("https") {
            let mut tunnel = Tunnel::new(address.clone(), direct);
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            return Box::pin(async move {
                let io = tunnel.call(uri).await.map_err(|error| through(&address, &error))?;
                Ok(Stream { io, forwarded: false })
            });
        }
        Box::pin(async move {
            let io = direct.call(address.clone()).await.map_err(|error| through(&address, &error))?;
            Ok(Stream { io, forwarded: true })
        })
    }
}

/// Names the proxy, without a password that its address may hold.
fn through(proxy: &Uri, error: &(dyn Error + 'static)) -> BoxError {
    let host = proxy.host().unwrap_or_default();
    let port = proxy.port_u16().unwrap_or(80);
    format!("through the proxy {host}:{port}: {}", chain(error)).into()
}

/// A TCP connection that knows whether a proxy reads the requests.
#[derive(Debug)]
pub(super) struct Stream {
    io: TokioIo<TcpStream>,
    forwarded: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.forwarded)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }
}

/// A pool's error as one of ours.
pub(super) fn explain(host: String, error: &legacy::Error) -> TransportError {
    let reason = error.source().map_or_else(|| error.to_string(), chain);
    if error.is_connect() {
        return TransportError::Connect { host, certificate: is_certificate(error), reason };
    }
    TransportError::Broken(reason)
}

/// All causes in one line, without repetitions.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn is_certificate(error: &(dyn Error + 'static)) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return matches!(error, rustls::Error::InvalidCertificate(_));
        }
        // An `io::Error` hides what it wraps from `source()`.
        if let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            return is_certificate(inner);
        }
        next = cause.source();
    }
    false
}

impl fmt::Debug for ProxyConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyConnector").finish_non_exhaustive()
    }
}
