//! The other protocol that Gitea answers at the same paths: Connect's unary calls, which the official runner speaks.
//! Translated into gRPC-Web and back, so that both kinds of client meet the same rules.

use std::io::Read;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use percent_encoding::percent_decode_str;
use tonic::{Code, body::Body};

/// Whether this is a unary call of Connect in its binary form.
pub(crate) fn is_connect(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/proto")
}

/// The same call in gRPC-Web: one frame, not compressed. `None` when the body is no gzip although it says so.
pub(crate) fn to_grpc_web(request: Request<Full<Bytes>>, body: &Bytes) -> Option<Request<Full<Bytes>>> {
    let (mut parts, _) = request.into_parts();
    let compressed =
        parts.headers.remove(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let mut plain = Vec::new();
    if compressed {
        flate2::read::GzDecoder::new(body.as_ref()).read_to_end(&mut plain).ok()?;
    } else {
        plain.extend_from_slice(body);
    }
    let mut frame = BytesMut::with_capacity(plain.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(plain.len()).ok()?);
    frame.put_slice(&plain);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc-web+proto"));
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::ACCEPT_ENCODING);
    Some(Request::from_parts(parts, Full::new(frame.freeze())))
}

/// The answer in Connect: the message alone, or an error as JSON with the HTTP status of its code.
pub(crate) async fn from_grpc_web(answer: Response<Body>) -> Option<Response<Body>> {
    let (mut parts, body) = answer.into_parts();
    let bytes = body.collect().await.ok()?.to_bytes();
    let (mut message, mut trailers) = (Bytes::new(), String::new());
    let mut rest = bytes;
    while rest.len() >= 5 {
        let length = usize::try_from(u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]])).ok()?;
        let frame = rest.slice(5..5 + length);
        if rest[0] & 0x80 == 0 {
            message = frame;
        } else {
            trailers = String::from_utf8_lossy(&frame).into_owned();
        }
        rest = rest.slice(5 + length..);
    }
    let value = |name: &str| {
        let header = parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut lines = trailers.lines().filter_map(|line| line.split_once(':'));
        header.or_else(|| lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned()))
    };
    let code =
        value("grpc-status").and_then(|code| code.parse::<i32>().ok()).map_or(Code::Unknown, Code::from_i32);
    let text = value("grpc-message").unwrap_or_default();
    let text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
    let (status, kind, body) = if code == Code::Ok {
        (StatusCode::OK, "application/proto", message)
    } else {
        let (status, name) = name(code);
        let json = serde_json::json!({"code": name, "message": text}).to_string();
        (status, "application/json", Bytes::from(json))
    };
    for old in ["grpc-status", "grpc-message", "content-length", "content-type"] {
        parts.headers.remove(old);
    }
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    parts.status = status;
    Some(Response::from_parts(parts, Body::new(Full::new(body))))
}

fn name(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid_argument"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied"),
        Code::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        Code::AlreadyExists => (StatusCode::CONFLICT, "already_exists"),
        Code::Unimplemented => (StatusCode::NOT_FOUND, "unimplemented"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "unknown"),
    }
}
