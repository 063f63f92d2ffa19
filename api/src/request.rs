//! What is read from a request before a handler acts: the body within its limits, the key, the token, the id.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::model;
use crate::settings::Secret;

/// Largest body in bytes.
const BODY_LIMIT: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// Collects a JSON body of at most 64 KiB, with or without a length announced, within ten seconds.
///
/// An empty body needs no content type: the handlers say what is missing in it.
pub(crate) async fn read_json<S, B>(headers: &HeaderMap, body: S) -> Result<BytesMut, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>> + Send,
    B: Buf,
{
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > BODY_LIMIT as u64) {
        return Err(ApiError::TooLarge);
    }
    let typed = headers.contains_key(header::CONTENT_TYPE);
    if (typed && !is_json(headers)) || headers.contains_key(header::CONTENT_ENCODING) {
        return Err(ApiError::UnsupportedMediaType);
    }
    let collected = tokio::time::timeout(BODY_PATIENCE, collect(body)).await;
    let body = collected.map_err(|_| ApiError::BodyTimeout)??;
    if body.is_empty() || typed { Ok(body) } else { Err(ApiError::UnsupportedMediaType) }
}

async fn collect<S, B>(body: S) -> Result<BytesMut, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>> + Send,
    B: Buf,
{
    let mut body = std::pin::pin!(body);
    let mut collected = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| ApiError::BodyBroken)?;
        if collected.len() + chunk.remaining() > BODY_LIMIT {
            return Err(ApiError::TooLarge);
        }
        let mut chunk = chunk;
        while chunk.has_remaining() {
            let part = chunk.chunk();
            collected.extend_from_slice(part);
            let length = part.len();
            chunk.advance(length);
        }
    }
    Ok(collected)
}

/// `application/json` or a `+json` type, in UTF-8 if a charset is named.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut pieces = value.split(';').map(|piece| piece.trim().to_ascii_lowercase());
    let kind = pieces.next().unwrap_or_default();
    let json = kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    json && pieces.all(|piece| {
        piece
            .strip_prefix("charset=")
            .is_none_or(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8"))
    })
}

/// The id of a path. What is no number names no task.
pub(crate) fn parse_id(segment: &str) -> Result<i64, ApiError> {
    model::parse_number(segment).ok_or(ApiError::TaskNotFound)
}

/// `Idempotency-Key`, if the client sent one: 1 to 255 visible ASCII characters.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().map_err(|_| ApiError::InvalidKey)?;
    let fits = (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if fits && values.next().is_none() { Ok(Some(key.to_owned())) } else { Err(ApiError::InvalidKey) }
}

/// Lets a changing request pass when no token is configured or the request carries it.
///
/// Digests are compared, so the time taken says nothing about how much of a guess was right.
pub(crate) fn authorize(token: Option<&Secret>, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(token) = token else { return Ok(()) };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, given) = given.and_then(|value| value.split_once(' ')).ok_or(ApiError::Unauthorized)?;
    let matches = Sha256::digest(given.trim()) == Sha256::digest(token.expose());
    if scheme.eq_ignore_ascii_case("bearer") && matches { Ok(()) } else { Err(ApiError::Unauthorized) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header value"));
        headers
    }

    #[test]
    fn json_types_are_known_by_their_name() {
        for (value, json) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json;charset=utf8;", true),
            (r#"application/json; profile=x; charset="utf-8""#, true),
            ("application/merge-patch+json", true),
            ("application/json; charset=latin1", false),
            ("text/json", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            assert_eq!(is_json(&headers("content-type", value)), json, "{value}");
        }
    }

    #[test]
    fn a_key_is_visible_ascii_and_comes_once() {
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(idempotency_key(&headers("idempotency-key", "a-b")), Ok(Some("a-b".to_owned())));
        assert_eq!(idempotency_key(&headers("idempotency-key", "a b")), Err(ApiError::InvalidKey));
        assert_eq!(idempotency_key(&headers("idempotency-key", "")), Err(ApiError::InvalidKey));
        assert_eq!(idempotency_key(&headers("idempotency-key", &"k".repeat(256))), Err(ApiError::InvalidKey));
        let mut twice = headers("idempotency-key", "a");
        twice.append("idempotency-key", "b".parse().expect("a header value"));
        assert_eq!(idempotency_key(&twice), Err(ApiError::InvalidKey));
    }
}
