//! Where Podman's compatible socket answers otherwise than an engine does.
//!
//! - A container that has ended and is not cleaned up yet has the state `stopped`, which the engine's own interface does
//!   not know. An answer with it is asked for again and read leniently.
//! - To attach to a container prepares its process, so that what cannot start is said then.
//! - Health checks are run by timers of systemd; where there is none, by nobody. So they are run from here.

use std::{io, path::Path, time::Duration};

use bollard::{
    container::LogOutput,
    errors::Error,
    exec::{StartExecOptions, StartExecResults},
    models::{ContainerInspectResponse, ContainerSummary, ExecConfig, HealthConfig},
    query_parameters::ListContainersOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::{net::UnixStream, time::Instant};

use super::engine::{self, Engine};

/// The longest answer that is read again.
const LIMIT: usize = 16 << 20;

/// How much of what a probe prints is kept.
const WORDS: usize = 4096;

impl Engine {
    /// One container, by id or name.
    pub(super) async fn inspect(&self, container: &str) -> Result<ContainerInspectResponse, Error> {
        match self.docker.inspect_container(container, None).await {
            Err(error) if is_unreadable(&error) => {
                self.again(&format!("/containers/{container}/json"), error).await
            }
            other => other,
        }
    }

    /// All containers with these labels, the ended ones too.
    pub(super) async fn containers(&self, labels: &[String]) -> Result<Vec<ContainerSummary>, Error> {
        let filters = std::collections::HashMap::from([("label".to_owned(), labels.to_vec())]);
        let list = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        match self.docker.list_containers(Some(list)).await {
            Err(error) if is_unreadable(&error) => {
                let filters = serde_json::json!({ "label": labels }).to_string();
                let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
                self.again(&format!("/containers/json?all=true&filters={filters}"), error).await
            }
            other => other,
        }
    }

    /// Asks once more, and reads what the engine's own interface would not say. Only over a local socket: a remote
    /// Podman keeps its error.
    async fn again<T: serde::de::DeserializeOwned>(&self, path: &str, error: Error) -> Result<T, Error> {
        let Some(socket) = self.socket() else { return Err(error) };
        let mut answer = get(socket, path).await?;
        rename_stopped(&mut answer);
        Ok(serde_json::from_value(answer)?)
    }
}

/// To attach to a container that is not started yet prepares it: what an engine says at the start comes then.
pub(super) fn is_start_failure(error: &Error) -> bool {
    engine::message(error).contains("unable to start container process")
}

fn is_unreadable(error: &Error) -> bool {
    matches!(error, Error::JsonDataError { .. } | Error::JsonSerdeError { .. })
}

async fn get(socket: &Path, path: &str) -> io::Result<Value> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = http::Request::get(path).header("host", "engine").body(Empty::<Bytes>::new());
    let request = request.map_err(io::Error::other)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(io::Error::other)?;
        serde_json::from_slice(&body.to_bytes()).map_err(io::Error::other)
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => {
            ended.map_err(io::Error::other)?;
            answer.await
        }
    }
}

/// `stopped` is `exited` in the words of the engine's interface.
fn rename_stopped(answer: &mut Value) {
    match answer {
        Value::Array(items) => items.iter_mut().for_each(rename_stopped),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), &*value) {
                    ("State" | "Status", Value::String(state)) if state == "stopped" => {
                        *value = Value::from("exited");
                    }
                    ("State", Value::Object(_)) => rename_stopped(value),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// Runs a health check by hand until it says yes, or until it has failed as often as it may: then its last words.
pub(super) async fn probe(
    engine: &Engine,
    container: &str,
    check: &HealthConfig,
    deadline: Instant,
) -> Result<(), String> {
    let words: Vec<&str> = check.test.iter().flatten().map(String::as_str).collect();
    let command: Vec<String> = match words.as_slice() {
        ["CMD-SHELL", text] => ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        ["CMD", command @ ..] => command.iter().map(|&word| word.to_owned()).collect(),
        _ => return Ok(()),
    };
    let time = |nanoseconds: Option<i64>| {
        let nanoseconds = nanoseconds.and_then(|time| u64::try_from(time).ok()).filter(|time| *time > 0);
        nanoseconds.map(Duration::from_nanos)
    };
    let interval = time(check.interval).unwrap_or(Duration::from_secs(30));
    let counts_from = Instant::now() + time(check.start_period).unwrap_or(interval / 2);
    let retries = check.retries.filter(|retries| *retries > 0).unwrap_or(3);
    let mut failures = 0;
    loop {
        let (code, words) = run(engine, container, command.clone())
            .await
            .map_err(|error| format!("its health check cannot be run: {}", engine::message(&error)))?;
        if code == 0 {
            return Ok(());
        }
        if Instant::now() >= counts_from {
            failures += 1;
        }
        if failures >= retries {
            return Err(words);
        }
        if Instant::now() >= deadline {
            return Err(format!("it was not healthy in time; its health check said: {words}"));
        }
        tokio::time::sleep_until(deadline.min(Instant::now() + interval)).await;
    }
}

async fn run(engine: &Engine, container: &str, command: Vec<String>) -> Result<(i64, String), Error> {
    let config = ExecConfig {
        cmd: Some(command),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let exec = engine.docker.create_exec(container, config).await?.id;
    let mut words = String::new();
    if let StartExecResults::Attached { mut output, .. } =
        engine.docker.start_exec(&exec, None::<StartExecOptions>).await?
    {
        while let Some(piece) = output.next().await {
            if let LogOutput::StdOut { message } | LogOutput::StdErr { message } = piece?
                && words.len() < WORDS
            {
                words.push_str(&String::from_utf8_lossy(&message));
            }
        }
    }
    let code = engine.docker.inspect_exec(&exec).await?.exit_code.unwrap_or(-1);
    Ok((code, words.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary};

    use super::rename_stopped;

    #[test]
    fn a_container_that_podman_calls_stopped_is_read_as_ended() {
        let mut list = serde_json::json!([{"Id": "a", "State": "stopped", "Labels": {"State": "stopped"}}]);
        rename_stopped(&mut list);
        let list: Vec<ContainerSummary> = serde_json::from_value(list).expect("a list");
        assert_eq!(list[0].labels.as_ref().expect("labels")["State"], "stopped");
        let mut one = serde_json::json!({"Id": "a", "State": {"Status": "stopped", "ExitCode": 3}});
        rename_stopped(&mut one);
        let one: ContainerInspectResponse = serde_json::from_value(one).expect("a container");
        assert_eq!(one.state.expect("a state").status, Some(ContainerStateStatusEnum::EXITED));
    }
}
