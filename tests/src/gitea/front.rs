//! The HTTP in front of the generated server: faults as a network and its proxies have them, the prefix of the API,
//! job summaries, and everything that is no API.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use proto::{
    ping::v1::ping_service_server::PingServiceServer, runner::v1::runner_service_server::RunnerServiceServer,
};
use tonic::{body::Body, codec::CompressionEncoding};
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service as _};

use super::{Shared, connect, service::Service};

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The call has its effect; the connection breaks before the answer.
    LostAnswer,
    /// The call has its effect; an answer never comes.
    Silence,
    /// The connection breaks before the call has any effect.
    LostCall,
    /// The call waits this long before it has its effect.
    Delay(Duration),
    /// A proxy's `502 Bad Gateway`, as a web page.
    BadGateway,
    /// A proxy's `401 Unauthorized`, as a web page.
    ProxyUnauthorized,
    /// No answer, ever.
    Hang,
}

/// The connection ends without an answer.
#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is broken on purpose")
    }
}

impl std::error::Error for Broken {}

/// Takes one connection's requests.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    shared: Arc<Shared>,
    ping: GrpcWebService<PingServiceServer<Service>>,
    runner: GrpcWebService<RunnerServiceServer<Service>>,
}

const LIMIT: usize = 64 << 20;

impl Front {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let service = Service(Arc::clone(&shared));
        let gzip = CompressionEncoding::Gzip;
        let runner = RunnerServiceServer::new(service.clone())
            .accept_compressed(gzip)
            .send_compressed(gzip)
            .max_decoding_message_size(LIMIT);
        let ping = PingServiceServer::new(service).accept_compressed(gzip).send_compressed(gzip);
        let layer = GrpcWebLayer::new();
        Self { shared, ping: layer.layer(ping), runner: layer.layer(runner) }
    }

    pub(crate) async fn serve(mut self, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let path = request.uri().path().to_owned();
        let Some(rest) = path.strip_prefix(&format!("{}/api/actions/", self.shared.sub_path)) else {
            return self.elsewhere(&path, request).await;
        };
        let method = rest.rsplit('/').next().unwrap_or_default();
        let fault = self.shared.take_fault(method);
        match fault {
            Some(Fault::LostCall) => return Err(Broken),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::BadGateway) => return Ok(page(StatusCode::BAD_GATEWAY, "502 Bad Gateway")),
            Some(Fault::ProxyUnauthorized) => {
                return Ok(page(StatusCode::UNAUTHORIZED, "401 Authorization Required"));
            }
            Some(Fault::LostAnswer | Fault::Silence) | None => {}
        }
        let (mut parts, body) = request.into_parts();
        let target = format!("/{rest}");
        parts.uri = target.parse().map_err(|_| Broken)?;
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
        let mut request = Request::from_parts(parts, Full::new(body.clone()));
        let connect = connect::is_connect(request.headers());
        if connect {
            request = connect::to_grpc_web(request, &body).ok_or(Broken)?;
        }
        let answered = if target.starts_with("/ping.v1.PingService/") {
            self.ping.call(request).await
        } else if target.starts_with("/runner.v1.RunnerService/") {
            self.runner.call(request).await
        } else {
            Ok(plain(StatusCode::NOT_FOUND, "Not Found.\n"))
        };
        let mut answer = answered.unwrap_or_else(|never: Infallible| match never {});
        if connect {
            answer = connect::from_grpc_web(answer).await.ok_or(Broken)?;
        }
        if fault == Some(Fault::LostAnswer) {
            // The answer is made, the effect is there; only the caller does not learn of it.
            return Err(Broken);
        }
        if fault == Some(Fault::Silence) {
            std::future::pending::<()>().await;
        }
        Ok(answer)
    }

    /// What is outside of the runner's API: job summaries, and a page like any other web server's.
    async fn elsewhere(&self, path: &str, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let pipelines = format!("{}/api/actions_pipeline/_apis/pipelines/workflows/", self.shared.sub_path);
        let Some(rest) = path.strip_prefix(&pipelines) else {
            return Ok(page(StatusCode::NOT_FOUND, "404 Page Not Found"));
        };
        let parts: Vec<String> = rest.split('/').map(str::to_owned).collect();
        let [run, _, job, _, step, what] = parts.as_slice() else {
            return Ok(plain(StatusCode::NOT_FOUND, "404 page not found\n"));
        };
        if what != "summary" || request.method() != Method::PUT {
            return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, ""));
        }
        let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
        let text = request.into_body().collect().await.map_err(|_| Broken)?.to_bytes();
        let (Ok(run), Ok(job), Ok(step)) = (run.parse::<i64>(), job.parse::<i64>(), step.parse::<i64>())
        else {
            return Ok(plain(StatusCode::BAD_REQUEST, "{\"message\":\"invalid id\"}"));
        };
        let stored = self.shared.change(|state| {
            let advertised = state.dialect.capabilities.as_deref().is_some_and(|c| c.contains("job-summary"));
            let job = state.jobs.iter().find(|row| row.id == job && row.run == run)?;
            let task = job.task.and_then(|id| state.task(id))?;
            let good = advertised && !task.status.is_final() && task.runtime_token == token;
            let id = task.id;
            good.then(|| state.summaries.insert((id, step), String::from_utf8_lossy(&text).into_owned()))?;
            Some(())
        });
        Ok(match stored {
            Some(()) => plain(StatusCode::OK, "{\"message\":\"success\"}"),
            None => plain(StatusCode::UNAUTHORIZED, "{\"message\":\"refused\"}"),
        })
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::new(Full::new(Bytes::from_static(text.as_bytes()))));
    *answer.status_mut() = status;
    answer
}

fn page(status: StatusCode, title: &str) -> Response<Body> {
    let text =
        format!("<html>\n<head><title>{title}</title></head>\n<body><h1>{title}</h1></body>\n</html>\n");
    let mut answer = Response::new(Body::new(Full::new(Bytes::from(text))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html"));
    answer
}
