//! The transport against servers and proxies on loopback: TLS, h2, proxies with passwords, and things that are no Gitea.

use std::{
    error::Error,
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use proto::{
    ping::v1::{
        PingRequest, PingResponse,
        ping_service_client::PingServiceClient,
        ping_service_server::{PingService, PingServiceServer},
    },
    transport::{Options, Protocol, Proxies, Transport, TransportError},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{
        AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional,
    },
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tonic_web::GrpcWebLayer;
use tower_layer::Layer;
use tower_service::Service;

struct Hello;

#[tonic::async_trait]
impl PingService for Hello {
    async fn ping(
        &self,
        request: tonic::Request<PingRequest>,
    ) -> Result<tonic::Response<PingResponse>, tonic::Status> {
        Ok(tonic::Response::new(PingResponse { data: format!("Hello, {}!", request.into_inner().data) }))
    }
}

/// Something that listens until it is dropped.
struct Listening {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Listening {
    fn heads(&self) -> String {
        self.heads.lock().expect("nobody panics with it").join("\n")
    }
}

/// Gives each connection to `serve`.
async fn listen<F>(serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static) -> Listening
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, seen.clone()));
        }
    });
    Listening { address, heads, _tasks: tasks }
}

/// Below `/api/actions`, like Gitea: gRPC-Web over HTTP/1.1 and h2, gRPC over h2.
async fn serve_hello(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(|mut request: Request<Incoming>| async move {
        let path = request.uri().path().strip_prefix("/api/actions").unwrap_or("/nothing").to_owned();
        *request.uri_mut() = path.parse::<Uri>().expect("a path");
        let grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
        if grpc {
            PingServiceServer::new(Hello).call(request.map(tonic::body::Body::new)).await
        } else {
            GrpcWebLayer::new().layer(PingServiceServer::new(Hello)).call(request).await
        }
    });
    // A client that goes away is no failure of the server.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn gitea() -> Listening {
    listen(|stream, _| serve_hello(stream)).await
}

/// A Gitea with TLS for `gitea.test` and 127.0.0.1, and the file with its authority.
async fn gitea_with_tls() -> (Listening, tempfile::NamedTempFile) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).expect("an authority");
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().expect("a key");
    let params =
        CertificateParams::new(vec!["gitea.test".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("they fit");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = listen(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_hello(stream).await;
            }
        }
    })
    .await;
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(authority.pem().as_bytes()).expect("text");
    (server, file)
}

/// A proxy that sends everything to `to`, whatever was asked for, and remembers what was.
async fn proxy(to: SocketAddr) -> Listening {
    listen(move |stream, heads| async move {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while stream.read_line(&mut head).await.is_ok_and(|read| read > 2) {}
        heads.lock().expect("nobody panics with it").push(head.clone());
        let mut server = TcpStream::connect(to).await.expect("it listens");
        if head.starts_with("CONNECT") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("it reads");
        } else {
            server.write_all(head.as_bytes()).await.expect("it reads");
        }
        // Ends when one of them has had enough.
        let _ = copy_bidirectional(&mut stream, &mut server).await;
    })
    .await
}

/// Answers everything with these bytes.
async fn canned(answer: &'static str) -> Listening {
    listen(move |mut stream, _| async move {
        let mut request = vec![0; 4096];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    })
    .await
}

fn options() -> Options {
    Options { user_agent: "test".to_owned(), ..Options::default() }
}

async fn ping(address: &str, options: &Options) -> Result<String, tonic::Status> {
    let transport = Transport::new(address, options).expect("right options");
    let origin = transport.origin();
    let answer =
        PingServiceClient::with_origin(transport, origin).ping(PingRequest { data: "you".into() }).await;
    answer.map(|answer| answer.into_inner().data)
}

fn transport_error(status: &tonic::Status) -> &TransportError {
    status.source().and_then(|source| source.downcast_ref()).expect("the transport's own error")
}

#[tokio::test]
async fn a_configured_authority_is_trusted_others_are_not_unless_all_are() {
    let (gitea, authority) = gitea_with_tls().await;
    let address = format!("https://{}", gitea.address);
    let refused = ping(&address, &options()).await.expect_err("nobody knows this authority");
    let error = transport_error(&refused);
    assert!(matches!(error, TransportError::Connect { certificate: true, .. }), "{error}");
    let trusting = Options { ca_file: Some(authority.path().to_owned()), ..options() };
    for protocol in [Protocol::GrpcWeb, Protocol::Grpc] {
        let answer = ping(&address, &Options { protocol, ..trusting.clone() }).await;
        assert_eq!(answer.expect("it is trusted"), "Hello, you!", "{protocol:?}");
    }
    let careless = Options { insecure: true, ..options() };
    assert_eq!(ping(&address, &careless).await.expect("everybody is trusted"), "Hello, you!");
}

#[tokio::test]
async fn tls_goes_through_a_proxy_with_a_password_which_also_finds_the_name() {
    let (gitea, authority) = gitea_with_tls().await;
    let proxy = proxy(gitea.address).await;
    let proxies = Proxies { https: format!("http://user:word@{}", proxy.address), ..Proxies::default() };
    let options = Options { ca_file: Some(authority.path().to_owned()), proxies, ..options() };
    assert_eq!(ping("https://gitea.test", &options).await.expect("it comes through"), "Hello, you!");
    let heads = proxy.heads().to_ascii_lowercase();
    assert!(heads.starts_with("connect gitea.test:443"), "{heads}");
    assert!(heads.contains("proxy-authorization: basic dxnlcjp3b3jk"), "{heads}");
}

#[tokio::test]
async fn plain_calls_are_forwarded_by_a_proxy_and_go_past_it_where_no_proxy_says_so() {
    let gitea = gitea().await;
    let proxy = proxy(gitea.address).await;
    let proxies = Proxies { http: format!("http://user:word@{}", proxy.address), ..Proxies::default() };
    let through = Options { proxies: proxies.clone(), ..options() };
    assert_eq!(ping("http://gitea.test/", &through).await.expect("it comes through"), "Hello, you!");
    let heads = proxy.heads().to_ascii_lowercase();
    assert!(heads.starts_with("post http://gitea.test/api/actions/ping.v1.pingservice/ping"), "{heads}");
    assert!(heads.contains("proxy-authorization: basic dxnlcjp3b3jk"), "{heads}");
    assert!(heads.contains("content-length:"), "a length, for proxies that want one: {heads}");
    let past =
        Options { proxies: Proxies { none: "10.0.0.0/8, 127.0.0.0/8".into(), ..proxies }, ..options() };
    assert_eq!(ping(&format!("http://{}", gitea.address), &past).await.expect("straight"), "Hello, you!");
    assert_eq!(proxy.heads().to_ascii_lowercase(), heads, "the proxy has heard nothing more");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_without_its_password() {
    let proxies = Proxies { all: "http://user:hunter2@127.0.0.1:1".into(), ..Proxies::default() };
    let failed =
        ping("https://gitea.test", &Options { proxies, ..options() }).await.expect_err("nobody is there");
    let text = transport_error(&failed).to_string();
    assert!(text.contains("through the proxy 127.0.0.1:1") && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn what_is_no_gitea_is_told_apart() {
    let redirect =
        canned("HTTP/1.1 301 Moved\r\nlocation: https://real.test/\r\ncontent-length: 0\r\n\r\n").await;
    let status = ping(&format!("http://{}", redirect.address), &options()).await.expect_err("not followed");
    assert!(transport_error(&status).to_string().contains("https://real.test/"), "{status}");

    let missing =
        canned("HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\nNot found.")
            .await;
    let status = ping(&format!("http://{}", missing.address), &options()).await.expect_err("no such service");
    assert_eq!(transport_error(&status).to_string(), "HTTP 404 Not Found (Not found.)");

    let page = canned("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>").await;
    let status = ping(&format!("http://{}", page.address), &options()).await.expect_err("no gRPC");
    assert!(transport_error(&status).to_string().contains("'text/html'"), "{status}");

    let gone = canned("").await;
    let status = ping(&format!("http://{}", gone.address), &options()).await.expect_err("it hangs up");
    assert!(matches!(transport_error(&status), TransportError::Broken(_)), "{status}");
}

#[tokio::test]
async fn plain_requests_take_the_same_road() {
    let made = canned("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
    let address = format!("http://{}", made.address);
    let transport = Transport::new(&address, &options()).expect("right options");
    let request = Request::put(&address).body(Bytes::from_static(b"text")).expect("a request");
    let status = transport.http(request).await.expect("an answer");
    assert_eq!(status, Response::builder().status(201).body(()).expect("a response").status());
}
