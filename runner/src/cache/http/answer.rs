//! Answers, and what is said instead of them.

use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use warp::{Reply, reply::Response};

use crate::cache::store::StoreError;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// One sentence for whoever reads the client's log.
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: &str) -> Self {
        Self { status, text: text.to_owned() }
    }

    /// The request is wrong.
    pub(super) const fn bad(text: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text }
    }

    /// As version 1 and the signed addresses say it.
    pub(super) fn plain(&self) -> Response {
        refusal(self.status, &self.text)
    }

    /// As version 2 says it.
    pub(super) fn twirp(&self) -> Response {
        let code = match self.status {
            StatusCode::UNAUTHORIZED => "unauthenticated",
            StatusCode::FORBIDDEN => "permission_denied",
            StatusCode::BAD_REQUEST => "malformed_request",
            StatusCode::UNPROCESSABLE_ENTITY => "invalid_argument",
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::INSUFFICIENT_STORAGE => "resource_exhausted",
            _ => "internal",
        };
        // What is wrong with the arguments is a bad request all the same.
        let status = if code == "invalid_argument" { StatusCode::BAD_REQUEST } else { self.status };
        answer(status, &serde_json::json!({"code": code, "msg": self.text}))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::NotReserved(_)
            | StoreError::Complete(_)
            | StoreError::Malformed(_)
            | StoreError::BrokenOff(_) => StatusCode::BAD_REQUEST,
            StoreError::Foreign(_) => StatusCode::FORBIDDEN,
            StoreError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            StoreError::Size { .. } | StoreError::Io { .. } | StoreError::Index(_) | StoreError::Inside => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self { status, text: error.to_string() }
    }
}

/// A refusal as version 1 says it.
pub(super) fn refusal(status: StatusCode, text: &str) -> Response {
    answer(status, &serde_json::json!({"error": text}))
}

/// JSON.
pub(super) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = warp::reply::with_status(warp::reply::json(body), status).into_response();
    identified(&mut response);
    response
}

/// Done, and nothing to say.
pub(super) fn empty() -> Response {
    answer(StatusCode::OK, &serde_json::json!({}))
}

/// Some clients of version 2 fail on an answer that has no number.
pub(super) fn identified(response: &mut Response) {
    let id = uuid::Uuid::new_v4().to_string();
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-ms-request-id", id);
    }
}

/// Nothing but a status.
pub(super) fn bare(status: StatusCode) -> Response {
    let mut response = status.into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    identified(&mut response);
    response
}
