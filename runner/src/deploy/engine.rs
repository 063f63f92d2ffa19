//! The engine's API, as much of it as a deployment reads: answers as they come, not as a typed model knows them.
//!
//! Whether a task has to be replaced Swarm decides by every field of its specification. A model that drops a field, or
//! reads it under another name (an engine writes `Healthcheck`, its own schema says `HealthCheck`), would take the
//! former release for the new one.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use hyperlocal::{UnixConnector, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::sync::watch;

/// One request, short enough that several fit into the patience with a manager that does not answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The longest answer: a stack's tasks are some kilobytes each.
const ANSWER_LIMIT: usize = 64 << 20;

/// Why there is no answer. One sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(String);

/// A client of the engine behind a socket.
#[derive(Debug)]
pub(super) struct Engine {
    client: Client<UnixConnector, Empty<Bytes>>,
    socket: PathBuf,
    /// What the way to the engine has last complained about.
    complaint: watch::Receiver<String>,
}

impl Engine {
    pub(super) fn new(socket: PathBuf, complaint: watch::Receiver<String>) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build(UnixConnector), socket, complaint }
    }

    /// The list at `path` (`/services`, `/tasks`, `/networks`), of those with this label if one is given.
    pub(super) async fn list(&self, path: &str, label: Option<&str>) -> Result<Vec<Value>, NoAnswer> {
        let query = label.map_or_else(String::new, |label| {
            let filters = json!({ "label": [label] }).to_string();
            format!("?status=true&filters={}", utf8_percent_encode(&filters, NON_ALPHANUMERIC))
        });
        let whole = format!("{path}{query}");
        let answer = tokio::time::timeout(REQUEST_LIMIT, self.get(&whole)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(format!("no answer to GET {path} within {} s", REQUEST_LIMIT.as_secs())));
        match answer {
            Ok(Value::Array(items)) => Ok(items),
            Ok(_) => Err(NoAnswer(format!("the answer to GET {path} is no list"))),
            Err(reason) => Err(NoAnswer(self.with_complaint(reason))),
        }
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let response = self
            .client
            .get(Uri::new(&self.socket, path).into())
            .await
            .map_err(|error| format!("the connection broke: {error}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|error| format!("the answer broke off: {error}"))?
            .to_bytes();
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|error| format!("the answer is not understood: {error}"))?;
        if status.is_success() {
            Ok(answer)
        } else {
            let words = answer.get("message").and_then(Value::as_str).unwrap_or("no reason given");
            Err(format!("the engine answered {status}: {words}"))
        }
    }

    fn with_complaint(&self, reason: String) -> String {
        let complaint = self.complaint.borrow();
        if complaint.is_empty() { reason } else { format!("{reason}; {}", *complaint) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
        sync::watch,
    };

    use super::Engine;

    /// What `list` makes of one answer.
    async fn answered(answer: &'static str, complaint: &str) -> Result<usize, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (_say, complaint) = watch::channel(complaint.to_owned());
        let engine = Engine::new(socket, complaint);
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("answered");
        };
        let (listed, ()) = tokio::join!(engine.list("/tasks", Some("a=b")), serve);
        listed.map(|items| items.len()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_refusal_and_a_broken_way_are_told_in_their_own_words() {
        let list = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n[{},{}]";
        assert_eq!(answered(list, "").await, Ok(2));
        let refused =
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 27\r\n\r\n{\"message\":\"not a manager\"}";
        let reason = answered(refused, "").await.expect_err("refused");
        assert!(reason.contains("503") && reason.contains("not a manager"), "{reason}");
        let reason = answered("", "Connection to manager closed by remote host.").await.expect_err("broken");
        assert!(reason.contains("closed by remote host"), "{reason}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_hangs_leaves_time_for_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("s");
        let _never_answers = UnixListener::bind(&socket).expect("a socket");
        let (_say, complaint) = watch::channel(String::new());
        let reason = Engine::new(socket, complaint).list("/tasks", None).await.expect_err("no answer");
        assert_eq!(reason.to_string(), "no answer to GET /tasks within 10 s");
    }
}
