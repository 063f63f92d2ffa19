//! The road to the server: what tonic's generated clients sit on.
//!
//! Gitea answers gRPC-Web over HTTP/1.1 and h2 everywhere, native gRPC only over TLS with h2 end to end. [`Transport`]
//! speaks both below the same generated client, with proxies, own certificate authorities, name resolution that needs
//! no library of the host's, and errors that tell a Gitea from something that merely answers HTTP. It knows no
//! retries, no credentials and no deadlines: those are the caller's.

mod connect;
mod dns;
mod tls;

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{client::legacy, client::proxy::matcher::Matcher, rt::TokioExecutor, rt::TokioTimer};
use tonic::body::Body;
use tonic_web::{GrpcWebCall, GrpcWebClientService};
use tower_service::Service;

pub use dns::Resolver;
pub use tls::config as trust;

/// The largest message that is taken from a server, in bytes, after decompression.
pub const DECODE_LIMIT: usize = 64 * 1024 * 1024;

/// Where Gitea mounts its services below the instance's address.
const MOUNT: &str = "/api/actions";

/// How much of a foreign answer is read to say what it was.
const EXCERPT_LIMIT: usize = 16 * 1024;

/// Which wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// gRPC-Web: HTTP/1.1 or h2, through any proxy.
    #[default]
    GrpcWeb,
    /// gRPC: TLS and h2 from end to end.
    Grpc,
}

/// Proxy addresses as the usual variables hold them; empty means none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// `HTTP_PROXY`, for `http://` servers.
    pub http: String,
    /// `HTTPS_PROXY`, for `https://` servers.
    pub https: String,
    /// `ALL_PROXY`, where neither of the others is set.
    pub all: String,
    /// `NO_PROXY`: hosts, domains, addresses and networks in CIDR form, separated by commas.
    pub none: String,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's address may hold a password.
        f.debug_struct("Proxies").field("none", &self.none).finish_non_exhaustive()
    }
}

/// How to reach an instance.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The wire protocol.
    pub protocol: Protocol,
    /// Take any certificate.
    pub insecure: bool,
    /// PEM file with authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Proxies.
    pub proxies: Proxies,
    /// `User-Agent`.
    pub user_agent: String,
    /// How long a connection may take to open; `None` is 10 s.
    pub connect_timeout: Option<Duration>,
}

/// The options cannot work.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The address is no URL of a server.
    #[error("'{0}' is not the address of a Gitea instance: it has to look like https://gitea.example.com/")]
    Address(String),
    /// Native gRPC without TLS.
    #[error(
        "runner.transport: grpc needs an https:// address, because Gitea offers h2 only with TLS; use grpc-web for '{0}'"
    )]
    GrpcWithoutTls(String),
    /// The file with authorities cannot be used.
    #[error("the CA file {path} cannot be used: {reason}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A user agent that cannot be sent.
    #[error("'{0}' cannot be sent as User-Agent")]
    UserAgent(String),
    /// TLS itself could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What went wrong between this runner and something that answers gRPC. Found as the source of a `tonic::Status`.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Not followed: it would turn the call into another method, and it may lead anywhere.
    #[error("the server redirects to {to}: use the final address")]
    Redirect {
        /// The `Location`.
        to: String,
    },
    /// An HTTP status that no gRPC server answers with: a proxy's page, or Actions are off.
    #[error("HTTP {status}{}", excerpt_suffix(.excerpt))]
    Status {
        /// The status.
        status: StatusCode,
        /// The first line of the body, when it is text.
        excerpt: String,
    },
    /// Status 200 with something that is no gRPC.
    #[error("HTTP 200 with content type '{content_type}', which is no answer of Gitea's Actions API")]
    Foreign {
        /// What it says to be.
        content_type: String,
    },
    /// No connection: name, network, proxy or TLS.
    #[error("no connection to {host}: {reason}")]
    Connect {
        /// Host and port.
        host: String,
        /// The whole chain of causes.
        reason: String,
        /// Whether it failed at the certificate.
        certificate: bool,
    },
    /// The connection broke while the call was under way.
    #[error("the connection broke: {0}")]
    Broken(String),
}

fn excerpt_suffix(excerpt: &str) -> String {
    if excerpt.is_empty() { String::new() } else { format!(" ({excerpt})") }
}

type HttpClient = legacy::Client<connect::Connector, Full<Bytes>>;

/// A connection pool to one instance, to be given to generated clients together with [`Transport::origin`].
#[derive(Clone)]
pub struct Transport {
    http: Http,
    protocol: Protocol,
    origin: Uri,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Transport {
    /// Prepares a pool for the instance at `address` (with or without sub-path and trailing slashes). Opens nothing yet.
    pub fn new(address: &str, options: &Options) -> Result<Self, OptionsError> {
        let origin = origin(address)?;
        let encrypted = origin.scheme_str() == Some("https");
        if options.protocol == Protocol::Grpc && !encrypted {
            return Err(OptionsError::GrpcWithoutTls(address.to_owned()));
        }
        let user_agent = HeaderValue::from_str(&options.user_agent)
            .map_err(|_| OptionsError::UserAgent(options.user_agent.clone()))?;
        let proxies = std::sync::Arc::new(
            Matcher::builder()
                .http(options.proxies.http.clone())
                .https(options.proxies.https.clone())
                .all(options.proxies.all.clone())
                .no(options.proxies.none.clone())
                .build(),
        );
        let connector = connect::connector(options, encrypted, proxies.clone())?;
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(10)
            .http2_only(options.protocol == Protocol::Grpc)
            .build(connector);
        let http = Http { client, proxies, user_agent };
        Ok(Self { http, protocol: options.protocol, origin })
    }

    /// Sends one plain HTTP request through the same connections, proxies and trust. The answer's body is not read.
    pub async fn http(&self, request: Request<Bytes>) -> Result<StatusCode, TransportError> {
        Ok(self.http.clone().exchange(request.map(Full::new)).await?.status())
    }

    /// Sends one plain HTTP request the same way, and reads the answer: at most `limit` bytes of it.
    pub async fn fetch(
        &self,
        request: Request<Bytes>,
        limit: usize,
    ) -> Result<Response<Bytes>, TransportError> {
        let (parts, body) = self.http.clone().exchange(request.map(Full::new)).await?.into_parts();
        let body = Limited::new(body, limit).collect().await;
        let body = body.map_err(|error| TransportError::Broken(error.to_string()))?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    /// What generated clients take as origin: the instance with the folder of the services.
    pub fn origin(&self) -> Uri {
        self.origin.clone()
    }
}

/// `https://host/sub/` → `https://host/sub/api/actions`.
fn origin(address: &str) -> Result<Uri, OptionsError> {
    let refused = || OptionsError::Address(address.to_owned());
    let trimmed = address.trim().trim_end_matches('/');
    let uri: Uri = format!("{trimmed}{MOUNT}").parse().map_err(|_| refused())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let plain = uri.query().is_none() && uri.authority().is_some_and(|host| !host.as_str().contains('@'));
    if known && plain { Ok(uri) } else { Err(refused()) }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(())) // the pool is always ready; it opens connections as needed
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.protocol {
            Protocol::GrpcWeb => {
                let answer = GrpcWebClientService::new(self.http.clone()).call(request);
                Box::pin(async move { Ok(answer.await?.map(Body::new)) })
            }
            Protocol::Grpc => {
                let answer = self.http.call(request);
                Box::pin(async move { Ok(answer.await?.map(Body::new)) })
            }
        }
    }
}

/// Plain HTTP below either protocol: sends whole bodies with a length, and refuses answers that no gRPC server gives.
#[derive(Clone)]
struct Http {
    client: HttpClient,
    proxies: std::sync::Arc<Matcher>,
    user_agent: HeaderValue,
}

impl<B> Service<Request<B>> for Http
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: fmt::Display,
{
    type Response = Response<hyper::body::Incoming>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(this.send(request))
    }
}

impl Http {
    async fn send<B>(self, request: Request<B>) -> Result<Response<hyper::body::Incoming>, TransportError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let (parts, body) = request.into_parts();
        let body =
            body.collect().await.map_err(|error| TransportError::Broken(error.to_string()))?.to_bytes();
        accept(self.exchange(Request::from_parts(parts, Full::new(body))).await?).await
    }

    async fn exchange(
        self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<hyper::body::Incoming>, TransportError> {
        request.headers_mut().insert(header::USER_AGENT, self.user_agent.clone());
        if request.uri().scheme_str() == Some("http")
            && let Some(authorization) =
                self.proxies.intercept(request.uri()).and_then(|proxy| proxy.basic_auth().cloned())
        {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization);
        }
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        self.client.request(request).await.map_err(|error| connect::explain(host, &error))
    }
}

/// Lets gRPC answers pass.
async fn accept(
    response: Response<hyper::body::Incoming>,
) -> Result<Response<hyper::body::Incoming>, TransportError> {
    let status = response.status();
    let content_type = text_header(&response, &header::CONTENT_TYPE);
    if status == StatusCode::OK {
        if content_type.starts_with("application/grpc") {
            return Ok(response);
        }
        return Err(TransportError::Foreign { content_type });
    }
    if status.is_redirection() {
        return Err(TransportError::Redirect { to: text_header(&response, &header::LOCATION) });
    }
    let excerpt = if content_type.starts_with("text/plain") || content_type.contains("json") {
        let body = Limited::new(response.into_body(), EXCERPT_LIMIT).collect().await;
        body.map(|body| first_line(&body.to_bytes())).unwrap_or_default()
    } else {
        String::new() // a proxy's page is no sentence
    };
    Err(TransportError::Status { status, excerpt })
}

fn text_header<B>(response: &Response<B>, name: &header::HeaderName) -> String {
    response
        .headers()
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default()
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().chars().take(200).collect()
}

// The layer's own body type has to be one that the pool's client can send.
const _: fn() = || {
    fn takes<S: Service<Request<GrpcWebCall<Body>>>>() {}
    takes::<Http>();
};

#[cfg(test)]
mod tests {
    use super::{Options, OptionsError, Protocol, Transport, origin};

    #[test]
    fn the_services_are_below_the_instance_whatever_its_slashes() {
        for (address, wanted) in [
            ("http://localhost:3000", "http://localhost:3000/api/actions"),
            ("http://localhost:3000/", "http://localhost:3000/api/actions"),
            ("https://example.com/git//", "https://example.com/git/api/actions"),
        ] {
            assert_eq!(origin(address).expect(address).to_string(), wanted);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for address in
            ["", "gitea.example.com", "ftp://example.com", "https://user:word@example.com/", "http://a?b="]
        {
            assert!(matches!(origin(address), Err(OptionsError::Address(_))), "{address}");
        }
    }

    #[test]
    fn grpc_without_tls_is_refused_with_the_way_out() {
        let options = Options { protocol: Protocol::Grpc, ..Options::default() };
        let error = Transport::new("http://localhost:3000", &options).expect_err("no h2 without TLS");
        assert!(error.to_string().contains("grpc-web"), "{error}");
    }
}
