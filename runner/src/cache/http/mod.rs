//! What jobs and their clients speak to. One request goes one way: which it is (`route`), whether its sender may
//! (`allowed`), then the part of the protocol that answers it.

mod answer;
mod blob;
mod control;
mod forward;
mod route;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Method, StatusCode, header};
use tokio::sync::Notify;
use warp::{Filter, reply::Response};

pub(super) use self::forward::Forwarder;
use self::{
    answer::{Refusal, empty, refusal},
    route::{Route, route},
};
use super::{
    now,
    sign::{Grant, Signer, same},
    store::Store,
    tokens::{JobFacts, Tokens},
};
use crate::{metrics::Metrics, secret::Secret};

/// The longest text that a request may have instead of an archive.
const TEXT: usize = 1 << 20;

/// How long such a text may stand still.
const PATIENCE: Duration = Duration::from_mins(1);

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) signer: Signer,
    pub(super) tokens: Tokens,
    /// Lets other runners register their jobs; `None`: nobody may.
    pub(super) secret: Option<Secret<String>>,
    pub(super) forwarder: Forwarder,
    /// Something was committed: time to look whether everything still fits.
    pub(super) grown: Notify,
    pub(super) metrics: Metrics,
}

type Body = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

/// A request, taken apart.
struct Request {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Body,
}

/// Everything that is served.
pub(super) fn routes(
    shared: Arc<Shared>,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method: Method, path: warp::path::FullPath, query, headers, body| {
            let body = StreamExt::map(body, |frame: Result<_, warp::Error>| {
                frame.map(|mut frame: _| take(&mut frame))
            });
            let request =
                Request { method, path: path.as_str().to_owned(), query, headers, body: Box::pin(body) };
            let shared = shared.clone();
            async move { shared.answer(request).await }
        })
}

fn take(frame: &mut impl Buf) -> Bytes {
    frame.copy_to_bytes(frame.remaining())
}

impl Shared {
    async fn answer(&self, request: Request) -> Response {
        let Some(route) = route(&request.method, &request.path) else {
            return refusal(StatusCode::NOT_FOUND, "there is nothing here");
        };
        match self.dispatch(route.clone(), request).await {
            Ok(answer) => answer,
            Err(refused) => {
                if refused.status.is_server_error() {
                    tracing::warn!(?route, reason = refused.text, "a request to the cache has failed");
                } else {
                    tracing::debug!(?route, reason = refused.text, "a request to the cache is refused");
                }
                if matches!(route, Route::Cache(_)) { refused.twirp() } else { refused.plain() }
            }
        }
    }

    async fn dispatch(&self, route: Route, request: Request) -> Result<Response, Refusal> {
        match route {
            Route::Register => control::register(self, request).await,
            Route::Revoke => control::revoke(self, request).await,
            Route::Download(id) => {
                self.check_signature(Grant::Download, id, &request)?;
                blob::download(self, id, request).await
            }
            Route::Upload(id) => {
                self.check_signature(Grant::Upload, id, &request)?;
                blob::upload(self, id, request).await
            }
            Route::Artifacts => {
                let job = self.job(&request)?;
                self.forwarder.forward(&job, request).await
            }
            Route::Find => v1::find(self, self.job(&request)?, request).await,
            Route::Reserve => v1::reserve(self, self.job(&request)?, request).await,
            Route::Chunk(id) => v1::chunk(self, self.job(&request)?, id, request).await,
            Route::Commit(id) => v1::commit(self, self.job(&request)?, id).await,
            Route::Clean => self.job(&request).map(|_| empty()),
            Route::NoNumber(id) => Err(Refusal::bad(format!("'{id}' is no number of a cache"))),
            Route::Cache(call) => v2::call(self, self.job(&request)?, call, request).await,
        }
    }

    /// Whose request it is.
    fn job(&self, request: &Request) -> Result<JobFacts, Refusal> {
        let job = bearer(&request.headers).and_then(|token| self.tokens.find(token));
        job.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "this token is of no running job"))
    }

    fn check_signature(&self, grant: Grant, id: u64, request: &Request) -> Result<(), Refusal> {
        let (until, signature) = (parameter(&request.query, "exp"), parameter(&request.query, "sig"));
        let (until, signature) = (until.unwrap_or_default(), signature.unwrap_or_default());
        if self.signer.permits(grant, id, &until, &signature, now()) {
            Ok(())
        } else {
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "this address is not signed, or no longer valid"))
        }
    }

    /// Whether the request comes from a runner that shares our secret.
    fn is_runner(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(secret) = &self.secret else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "there is nothing here"));
        };
        match bearer(headers) {
            Some(shown) if same(shown.as_bytes(), secret.expose().as_bytes()) => Ok(()),
            _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "the shared secret is another one")),
        }
    }

    /// A signed address that the job of this request can call.
    fn signed(&self, job: &JobFacts, headers: &HeaderMap, grant: Grant, id: u64) -> String {
        let (folder, valid) = match grant {
            Grant::Download => ("artifacts", 10 * 60),
            Grant::Upload => ("blobs", 60 * 60),
        };
        let query = self.signer.query(grant, id, now().saturating_add(valid));
        format!("{}{}/{folder}/{id}?{query}", base(job, headers), route::BASE)
    }
}

/// This server as the job calls it: as its runner has said, else as the request says.
fn base(job: &JobFacts, headers: &HeaderMap) -> String {
    if !job.public_url.is_empty() {
        return job.public_url.trim_end_matches('/').to_owned();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then_some(token.trim())
}

/// A parameter of a query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// A body that is no archive.
async fn text(mut body: Body, limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    loop {
        let frame = match tokio::time::timeout(PATIENCE, body.next()).await {
            Err(_) => return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request does not go on")),
            Ok(None) => return Ok(text),
            Ok(Some(frame)) => frame,
        };
        let frame = frame.map_err(|error| Refusal::bad(format!("the request broke off: {error}")))?;
        if text.len() + frame.len() > limit {
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long"));
        }
        text.extend_from_slice(&frame);
    }
}

/// A body in JSON.
async fn json<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let text = text(body, TEXT).await?;
    serde_json::from_slice(&text)
        .map_err(|error| Refusal::bad(format!("the request is not understood: {error}")))
}
