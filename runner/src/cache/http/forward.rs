//! Calls of the artifact service, passed on to the job's instance: who announces a results service serves all of it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use http::{HeaderMap, StatusCode, header};
use proto::transport::{Options, Transport};
use warp::{Reply, reply::Response};

use super::{Request, TEXT, answer::Refusal, text};
use crate::cache::tokens::JobFacts;

/// The longest answer that is passed back: lists of artifacts are the longest.
const ANSWER: usize = 16 << 20;

/// Instances that are remembered; more of them are connected to anew.
const REMEMBERED: usize = 64;

/// Passes calls on.
pub(in crate::cache) struct Forwarder {
    wire: Options,
    known: Mutex<HashMap<(String, bool), Transport>>,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}

impl Forwarder {
    /// `wire` says how any instance is reached.
    pub(in crate::cache) fn new(wire: Options) -> Self {
        Self { wire, known: Mutex::default() }
    }

    /// Asks the instance of `job`, and gives its answer as it is. The signed addresses in it lead there directly.
    pub(super) async fn forward(&self, job: &JobFacts, request: Request) -> Result<Response, Refusal> {
        if job.instance.is_empty() {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "there is no instance that keeps artifacts"));
        }
        let gone = |error: &dyn std::fmt::Display| Refusal {
            status: StatusCode::BAD_GATEWAY,
            text: format!("the instance does not answer: {error}"),
        };
        let transport = self.transport(job).map_err(|error| gone(&error))?;
        let address = format!("{}{}", job.instance.trim_end_matches('/'), request.path);
        let mut asked = http::Request::builder().method(request.method).uri(address);
        for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT] {
            if let Some(value) = request.headers.get(&name) {
                asked = asked.header(name, value);
            }
        }
        let body = text(request.body, TEXT).await?;
        let asked = asked.body(body.into()).map_err(|error| gone(&error))?;
        let (parts, body) = transport.fetch(asked, ANSWER).await.map_err(|error| gone(&error))?.into_parts();
        let mut response = body.to_vec().into_response();
        *response.status_mut() = parts.status;
        let mut headers = HeaderMap::new();
        for name in [header::CONTENT_TYPE, header::RETRY_AFTER] {
            headers.extend(parts.headers.get(&name).map(|value| (name, value.clone())));
        }
        response.headers_mut().remove(header::CONTENT_TYPE);
        response.headers_mut().extend(headers);
        Ok(response)
    }

    fn transport(&self, job: &JobFacts) -> Result<Transport, proto::transport::OptionsError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (job.instance.clone(), job.insecure);
        if let Some(transport) = known.get(&key) {
            return Ok(transport.clone());
        }
        let wire = Options { insecure: self.wire.insecure || job.insecure, ..self.wire.clone() };
        let transport = Transport::new(&job.instance, &wire)?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, transport.clone());
        Ok(transport)
    }
}
