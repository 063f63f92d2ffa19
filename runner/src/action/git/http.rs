//! One HTTP/1.1 connection to a git server: direct or through a proxy, plain or over TLS.
//!
//! A fetch is three requests to one host, so there is no pool: one connection is opened, used in turn and dropped.
//! Proxies come from the usual variables, roots from the system's store (`SSL_CERT_FILE` included), with the bundled
//! ones where that is empty.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::{client::proxy::matcher::Matcher, rt::TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// How long connecting, TLS included, may take.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a server may think before its answer begins.
const ANSWER: Duration = Duration::from_secs(60);

/// Proxies and trust for git connections. Cheap to clone.
#[derive(Clone)]
pub struct GitNetwork {
    proxies: Arc<Matcher>,
    tls: Arc<ClientConfig>,
    instance_tls: Arc<ClientConfig>,
}

impl std::fmt::Debug for GitNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitNetwork").finish_non_exhaustive()
    }
}

/// Why a server could not be asked. The text names what was tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// No connection.
    #[error("{0}")]
    Connect(String),
    /// The connection broke or the server was silent.
    #[error("{0}")]
    Transfer(String),
    /// The server answered, but not with success.
    #[error("the server answered {0}")]
    Status(StatusCode),
}

type Stream = Box<dyn ReadWrite>;
trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// An open connection.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Drives the connection; ends with it.
    _driver: JoinSet<()>,
    host: String,
    /// Behind a plain proxy requests carry the whole URL.
    absolute: bool,
    proxy_authorization: Option<header::HeaderValue>,
}

impl Default for GitNetwork {
    fn default() -> Self {
        Self::new(Arc::new(default_tls()))
    }
}

impl GitNetwork {
    /// Proxies from the environment, trust from `tls`.
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self { proxies: Arc::new(Matcher::from_env()), instance_tls: tls.clone(), tls }
    }

    /// Other trust for the job's own server alone (its CA file, or its `insecure` setting).
    #[must_use]
    pub fn with_instance_tls(mut self, tls: Arc<ClientConfig>) -> Self {
        self.instance_tls = tls;
        self
    }

    /// Connects to the host of `url`.
    pub(super) async fn connect(&self, url: &Uri, own_server: bool) -> Result<Connection, HttpError> {
        timeout(CONNECT, self.connect_now(url, own_server)).await.unwrap_or_else(|_| {
            Err(HttpError::Connect(format!("no connection within {} s", CONNECT.as_secs())))
        })
    }

    async fn connect_now(&self, url: &Uri, own_server: bool) -> Result<Connection, HttpError> {
        let host = url.host().ok_or_else(|| HttpError::Connect("the URL names no host".to_owned()))?;
        let secure = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let proxy = self.proxies.intercept(url);
        let (address, proxy_authorization) = match &proxy {
            Some(proxy) => {
                let uri = proxy.uri();
                let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
                (format!("{}:{port}", uri.host().unwrap_or_default()), proxy.basic_auth().cloned())
            }
            None => (format!("{host}:{port}"), None),
        };
        let tcp = TcpStream::connect(&address)
            .await
            .map_err(|error| HttpError::Connect(format!("cannot connect to {address}: {error}")))?;
        // Small requests wait for answers; a failure here costs only speed.
        let _ = tcp.set_nodelay(true);
        let mut stream: Stream = Box::new(tcp);
        if secure {
            if proxy.is_some() {
                open_tunnel(&mut stream, host, port, proxy_authorization.as_ref()).await?;
            }
            stream = self.wrap(stream, host, own_server).await?;
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| HttpError::Connect(format!("{address}: {error}")))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // What goes wrong here is seen by the request that waits for it.
            let _ = connection.await;
        });
        let absolute = proxy.is_some() && !secure;
        Ok(Connection { sender, _driver: driver, host: authority, absolute, proxy_authorization })
    }

    async fn wrap(&self, stream: Stream, host: &str, own_server: bool) -> Result<Stream, HttpError> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| HttpError::Connect(format!("`{host}` is no host name")))?;
        let config = if own_server { &self.instance_tls } else { &self.tls };
        let stream = tokio_rustls::TlsConnector::from(config.clone())
            .connect(name, stream)
            .await
            .map_err(|error| HttpError::Connect(format!("no trusted connection to {host}: {error}")))?;
        Ok(Box::new(stream))
    }
}

/// Asks a proxy for a tunnel. The answer has no body, so it is read to its empty line by hand.
async fn open_tunnel(
    stream: &mut Stream,
    host: &str,
    port: u16,
    authorization: Option<&header::HeaderValue>,
) -> Result<(), HttpError> {
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(value) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let broken = |error: std::io::Error| HttpError::Connect(format!("the proxy broke off: {error}"));
    stream.write_all(&request).await.map_err(broken)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > 16 * 1024 {
            return Err(HttpError::Connect("the proxy's answer is no HTTP".to_owned()));
        }
        answer.push(stream.read_u8().await.map_err(broken)?);
    }
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or("").to_owned();
    if status.starts_with('2') {
        Ok(())
    } else {
        Err(HttpError::Connect(format!("the proxy refused a tunnel to {host}:{port} with status {status}")))
    }
}

impl Connection {
    /// Sends one request; the answer's body is still to be read. `Err(Status)` for 4xx and 5xx, redirects are answers.
    pub(super) async fn send(
        &mut self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, HttpError> {
        let transfer = |error: String| HttpError::Transfer(error);
        let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = Request::builder()
            .method(method)
            .header(header::HOST, &self.host)
            .header(header::USER_AGENT, concat!("git/2.40 esteira/", env!("CARGO_PKG_VERSION")))
            .uri(if self.absolute { url.to_string() } else { path.to_owned() })
            .body(Full::new(body))
            .map_err(|error| transfer(error.to_string()))?;
        request.headers_mut().extend(headers);
        if self.absolute
            && let Some(value) = &self.proxy_authorization
        {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value.clone());
        }
        self.sender.ready().await.map_err(|error| transfer(error.to_string()))?;
        let response = timeout(ANSWER, self.sender.send_request(request))
            .await
            .map_err(|_| transfer(format!("no answer within {} s", ANSWER.as_secs())))?
            .map_err(|error| transfer(error.to_string()))?;
        if response.status().is_client_error() || response.status().is_server_error() {
            return Err(HttpError::Status(response.status()));
        }
        Ok(response)
    }
}

/// The system's roots, or the bundled ones where the system has none.
pub fn default_tls() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
