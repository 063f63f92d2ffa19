//! Other runners register their jobs here.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use warp::reply::Response;

use super::{
    Request, Shared,
    answer::{Refusal, answer, empty},
    base, json as read,
};
use crate::cache::tokens::JobFacts;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Registration {
    token: String,
    repo: String,
    results: String,
    insecure_tls: bool,
    public_url: String,
}

/// `POST /_internal/register`
pub(super) async fn register(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    shared.is_runner(&request.headers)?;
    let Request { headers, body, .. } = request;
    let wanted: Registration = read(body).await?;
    if wanted.token.is_empty() || wanted.repo.is_empty() {
        return Err(Refusal::bad("token and repo must not be empty".to_owned()));
    }
    let facts = JobFacts {
        repository: wanted.repo,
        instance: wanted.results,
        insecure: wanted.insecure_tls,
        public_url: wanted.public_url,
    };
    // What is announced is served whole: without an instance the artifact half would be missing.
    let results = if facts.instance.is_empty() { String::new() } else { base(&facts, &headers) };
    shared.tokens.register(&wanted.token, facts);
    Ok(answer(StatusCode::OK, &json!({"results_url": results})))
}

/// `POST /_internal/revoke`
pub(super) async fn revoke(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    shared.is_runner(&request.headers)?;
    let wanted: Registration = read(request.body).await?;
    shared.tokens.revoke(&wanted.token);
    Ok(empty())
}
