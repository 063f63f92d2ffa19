//! A cache server elsewhere: its side that runners speak to, from here.

use std::time::Duration;

use http::{Request, StatusCode, header};
use proto::transport::{Options as Wire, Transport};
use serde_json::json;

use crate::secret::Secret;

/// How long one call may take: a job waits for it.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest answer.
const ANSWER: usize = 64 << 10;

/// A cache server elsewhere.
#[derive(Debug, Clone)]
pub struct External {
    /// Its address, as jobs know it too.
    pub url: String,
    /// Shared with it; empty: it takes jobs without registration, as older servers do.
    pub secret: Secret<String>,
    /// How it is reached.
    pub wire: Wire,
    /// Whether certificates of instances are taken as they are.
    pub insecure: bool,
    /// Whether jobs hear of version 2.
    pub v2: bool,
}

impl External {
    /// Without slash at the end.
    pub(super) fn base(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// Registers a job. The address of the results service, if that server has one; the error is a sentence.
    pub(super) async fn register(
        &self,
        token: &Secret<String>,
        repository: &str,
        instance: &str,
    ) -> Result<Option<String>, String> {
        let body = json!({
            "token": token.expose(),
            "repo": repository,
            "results": instance,
            "insecure_tls": self.insecure,
            "public_url": self.base(),
        });
        let answer = self.call("register", &body).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        let results = answer.get("results_url").and_then(serde_json::Value::as_str).unwrap_or_default();
        Ok((!results.is_empty()).then(|| results.trim_end_matches('/').to_owned()))
    }

    /// Takes the registration back.
    pub(super) async fn revoke(&self, token: &Secret<String>) -> Result<(), String> {
        self.call("revoke", &json!({"token": token.expose()})).await.map(drop)
    }

    async fn call(&self, what: &str, body: &serde_json::Value) -> Result<bytes::Bytes, String> {
        let mut authorization = http::HeaderValue::from_str(&format!("Bearer {}", self.secret.expose()))
            .map_err(|_| "cache.external_secret holds characters that cannot be sent".to_owned())?;
        authorization.set_sensitive(true);
        let request = Request::post(format!("{}/_internal/{what}", self.base()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, authorization)
            .body(body.to_string().into())
            .map_err(|error| error.to_string())?;
        let transport = Transport::new(&self.url, &self.wire).map_err(|error| error.to_string())?;
        let answer = match tokio::time::timeout(LIMIT, transport.fetch(request, ANSWER)).await {
            Ok(answer) => answer.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no answer within {} s", LIMIT.as_secs())),
        };
        match answer.status() {
            status if status.is_success() => Ok(answer.into_body()),
            StatusCode::UNAUTHORIZED => Err("it has another secret than cache.external_secret".to_owned()),
            StatusCode::NOT_FOUND => {
                Err("it takes no registrations: it was started without a secret".to_owned())
            }
            status => Err(format!("it answers {status}")),
        }
    }
}
