//! What every answer shares, around warp's filters: a request id, refusals written in the client's language, the
//! counters, and one line in the log.

use std::convert::Infallible;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{HeaderName, HeaderValue, Request, Version, header};
use hyper::body::Incoming;
use tower_service::Service;
use warp::reply::Response;

use crate::App;
use crate::error::ApiError;
use crate::language::Language;

/// The route that answered, as a label; set by `routes`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route(pub(crate) &'static str);

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Makes request ids: a prefix that is this process, and a counter.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: String,
    next: AtomicU64,
}

impl RequestIds {
    /// A new prefix.
    pub(crate) fn new() -> Self {
        // The standard library's seed asks the kernel itself and so needs no /dev, which a bare container may lack.
        let prefix = RandomState::new().hash_one(std::process::id());
        Self { prefix: format!("{prefix:016x}"), next: AtomicU64::new(1) }
    }

    /// The id that the client (or its proxy) sent if it is fit for a log, else a new one.
    fn take(&self, sent: Option<&HeaderValue>) -> HeaderValue {
        let fit = |value: &&HeaderValue| {
            let mut bytes = value.as_bytes().iter();
            (1..=128).contains(&value.len())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-._:/+=@".contains(byte))
        };
        if let Some(sent) = sent.filter(fit) {
            return sent.clone();
        }
        let mut id = String::with_capacity(self.prefix.len() + 12);
        id.push_str(&self.prefix);
        // Writing to a string cannot fail.
        let _ = write!(id, "-{:x}", self.next.fetch_add(1, Ordering::Relaxed));
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }
}

/// Answers one request through the filters.
pub(crate) async fn answer<F>(
    app: Arc<App>,
    ids: Arc<RequestIds>,
    mut filters: F,
    request: Request<Incoming>,
) -> Result<Response, Infallible>
where
    F: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    let started = Instant::now();
    let in_flight = app.metrics.begin();
    let id = ids.take(request.headers().get(&REQUEST_ID));
    let language = Language::of(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();

    let Ok(mut response) = match refusal(&request) {
        Some(error) => Ok(error.into_response()),
        None => filters.call(with_plain_path(request)).await,
    };

    let route = response.extensions().get().map_or("unmatched", |route: &Route| route.0);
    if let Some(error) = response.extensions().get::<ApiError>() {
        response = error.render(language);
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A task may change at any moment, on any replica.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if app.is_draining() {
        // Proxies and browsers open their next connection to another replica.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status();
    let took = started.elapsed();
    app.metrics.observe(route, &method, status, took);
    let id_text = id.to_str().unwrap_or_default();
    let milliseconds = (took.as_secs_f64() * 1e6).round() / 1e3;
    if status.is_server_error() {
        tracing::warn!(%method, path, status = status.as_u16(), milliseconds, request_id = id_text, "request");
    } else {
        tracing::info!(%method, path, status = status.as_u16(), milliseconds, request_id = id_text, "request");
    }
    response.headers_mut().insert(REQUEST_ID.clone(), id);
    drop(in_flight);
    Ok(response)
}

/// What is refused before any route is looked at.
fn refusal<B>(request: &Request<B>) -> Option<ApiError> {
    if request.version() == Version::HTTP_11 && request.headers().get_all(header::HOST).iter().count() != 1 {
        return Some(ApiError::InvalidHost);
    }
    // warp takes `/tasks/` for `/tasks`; what guards paths in front of us may not.
    let path = request.uri().path();
    (path.len() > 1 && path.ends_with('/')).then_some(ApiError::RouteNotFound)
}

/// Resolves escapes of characters that need none (RFC 3986, 6.2.2.2): `/tasks/%31` is `/tasks/1`.
fn with_plain_path<B>(mut request: Request<B>) -> Request<B> {
    let uri = request.uri();
    if !uri.path().contains('%') {
        return request;
    }
    let mut plain = String::with_capacity(uri.path().len());
    let mut rest = uri.path();
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte.filter(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)) {
            plain.push(char::from(byte));
            rest = &after[2..];
        } else {
            plain.push('%');
            rest = after;
        }
    }
    plain.push_str(rest);
    if let Some(query) = uri.query() {
        plain.push('?');
        plain.push_str(query);
    }
    // A path that cannot be written in another way is looked for as it came.
    if let Ok(plain) = plain.parse() {
        *request.uri_mut() = plain;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needless_escapes_in_a_path_are_resolved() {
        for (sent, plain) in [
            ("/tasks/%31%32", "/tasks/12"),
            ("/%74asks?done=%74rue", "/tasks?done=%74rue"),
            ("/tasks/%2F%00%e9%", "/tasks/%2F%00%e9%"),
            ("/tasks/%+1%1", "/tasks/%+1%1"),
            ("/tasks/%%31", "/tasks/%1"),
            ("/é%41", "/éA"),
        ] {
            let request = Request::builder().uri(sent).body(()).expect("a request");
            assert_eq!(with_plain_path(request).uri(), plain, "{sent}");
        }
    }

    #[test]
    fn a_fit_request_id_is_taken_and_another_is_made() {
        let ids = RequestIds::new();
        assert_eq!(ids.take(Some(&HeaderValue::from_static("abc-1"))), "abc-1");
        let made = ids.take(None);
        let spaced = ids.take(Some(&HeaderValue::from_static("a b")));
        let long = HeaderValue::from_str(&"x".repeat(129)).expect("a header value");
        assert_ne!(made, spaced);
        for quoted in ["a\"b", "a\\b", "<b>", "a,b", ""] {
            assert_ne!(ids.take(Some(&HeaderValue::from_static(quoted))), quoted);
        }
        assert_ne!(ids.take(Some(&long)), long);
        assert!(made.to_str().expect("ascii").ends_with("-1"));
    }
}
