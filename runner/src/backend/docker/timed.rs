//! How long the engine takes to answer, request by request.
//!
//! Measured in the one place that all requests pass, the transport. A request's time ends with the head of its answer:
//! a pull, a build or a wait goes on after that and would measure the image or the job, not the engine.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use bollard::{BollardRequest, ClientVersion, Docker, errors::Error};
use http::Method;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use hyperlocal::UnixConnector;

type Answer = Result<http::Response<Incoming>, hyper_util::client::legacy::Error>;
type Told = dyn Fn(&'static str, Duration, bool) + Send + Sync;

/// Who is told of each request: the operation, how long its answer took, and whether the engine could do it. Engines
/// behind TLS are not watched.
#[derive(Clone, Default)]
pub struct Watch(Option<Arc<Told>>);

impl Watch {
    /// Tells `told`.
    pub fn new(told: impl Fn(&'static str, Duration, bool) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Waits for the answer and tells how it went.
    async fn answer(
        self,
        operation: &'static str,
        answer: impl Future<Output = Answer>,
    ) -> Result<http::Response<Incoming>, Error> {
        let begun = Instant::now();
        let answer = answer.await;
        if let Some(told) = &self.0 {
            // A refusal (no such container, a name in use) is an answer; what the engine could not do is an error.
            let well = answer.as_ref().is_ok_and(|answer| !answer.status().is_server_error());
            told(operation, begun.elapsed(), well);
        }
        answer.map_err(Error::from)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
}

/// A client over a socket; a connection for each request, as the engine's own client does it.
pub(super) fn timed_unix(
    path: &str,
    timeout: u64,
    version: &ClientVersion,
    watch: Watch,
) -> Result<Docker, Error> {
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(UnixConnector);
    // The connector finds the path in the host, written in hexadecimal digits.
    let address = format!("unix://{}", crate::agent::hash::hex(path.as_bytes()));
    let transport = move |request: BollardRequest| {
        let operation = operation(request.method(), request.uri().path());
        watch.clone().answer(operation, client.request(request))
    };
    Docker::connect_with_custom_transport(transport, Some(address), timeout, version)
}

/// A client over TCP without TLS.
pub(super) fn timed_tcp(
    address: &str,
    timeout: u64,
    version: &ClientVersion,
    watch: Watch,
) -> Result<Docker, Error> {
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(HttpConnector::new());
    let address = address.replacen("tcp://", "http://", 1);
    let transport = move |request: BollardRequest| {
        let operation = operation(request.method(), request.uri().path());
        watch.clone().answer(operation, client.request(request))
    };
    Docker::connect_with_custom_transport(transport, Some(address), timeout, version)
}

/// What a request does, without the names in it: `container_create`, `image_pull`.
fn operation(method: &Method, path: &str) -> &'static str {
    let is_version =
        |part: &&str| part.starts_with('v') && part[1..].starts_with(|c: char| c.is_ascii_digit());
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    parts.next_if(is_version);
    let (kind, last) = (parts.next().unwrap_or_default(), parts.last().unwrap_or_default());
    match (kind, method.as_str(), last) {
        ("containers", "POST", "create") => "container_create",
        ("containers", "POST", "start") => "container_start",
        ("containers", "POST", "attach") => "container_attach",
        ("containers", "POST", "wait") => "container_wait",
        ("containers", "POST", "exec") => "exec_create",
        ("containers", "POST", "kill" | "stop") => "container_stop",
        ("containers", "DELETE", _) => "container_remove",
        ("containers", "GET", "logs") => "container_logs",
        ("containers", _, "archive") => "container_copy",
        ("containers", "GET", "json") => "container_inspect",
        ("exec", "POST", _) => "exec_start",
        ("exec", "GET", _) => "exec_inspect",
        ("images", "POST", "create") => "image_pull",
        ("images", "GET", _) => "image_inspect",
        ("build", ..) => "image_build",
        ("networks", "POST", "create") => "network_create",
        ("networks", "DELETE", _) => "network_remove",
        ("volumes", "POST", "create") => "volume_create",
        ("volumes", "DELETE", _) => "volume_remove",
        ("_ping" | "version" | "info", ..) => "ping",
        ("events", ..) => "events",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::operation;

    #[test]
    fn an_operation_is_named_without_what_it_is_done_to() {
        for (method, path, name) in [
            (Method::POST, "/v1.41/containers/create", "container_create"),
            (Method::POST, "/v1.41/containers/create-me/start", "container_start"),
            (Method::DELETE, "/v1.41/containers/abc", "container_remove"),
            (Method::GET, "/v1.41/images/registry.example/a/b:1/json", "image_inspect"),
            (Method::POST, "/v1.41/images/create", "image_pull"),
            (Method::GET, "/_ping", "ping"),
            (Method::GET, "/v1.41/volumes/v1", "other"),
            (Method::DELETE, "/v1.41/volumes/v1", "volume_remove"),
        ] {
            assert_eq!(operation(&method, path), name, "{method} {path}");
        }
    }
}
