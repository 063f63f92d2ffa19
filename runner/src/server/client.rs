//! The client: the generated one with our credentials, deadlines, compression and metrics around it.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use proto::{
    ping::v1::{PingRequest, ping_service_client::PingServiceClient},
    runner::v1::{
        DeclareRequest, FetchTaskRequest, FetchTaskResponse, RegisterRequest, Result as Outcome, Runner,
        TaskState, UpdateLogRequest, UpdateLogResponse, UpdateTaskRequest, UpdateTaskResponse,
        runner_service_client::RunnerServiceClient,
    },
    transport::{DECODE_LIMIT, Options, OptionsError, Protocol, Transport},
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, codec::CompressionEncoding, metadata::MetadataValue};

use super::{Method, ServerError};
use crate::{metrics::Metrics, report::Conclusion, secret::Secret};

/// What this runner can do, as the server wants it told.
pub const CAPABILITIES: [&str; 1] = ["cancelling"];

/// How long any call may take unless its caller says less.
const CALL_LIMIT: Duration = Duration::from_mins(1);

/// A request of fewer bytes is not worth compressing.
const COMPRESS_FROM: usize = 1024;

/// Which wire protocol the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportChoice {
    /// gRPC-Web, which every Gitea answers.
    #[default]
    GrpcWeb,
    /// Native gRPC, over TLS only.
    Grpc,
    /// Native gRPC where a Ping comes through, gRPC-Web otherwise.
    Auto,
}

/// How to reach the server.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// The wire protocol.
    pub transport: TransportChoice,
    /// Everything below it; its `protocol` is not read.
    pub wire: Options,
}

/// Who we are, to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The runner's uuid.
    pub uuid: String,
    /// The runner's own token.
    pub token: Secret<String>,
}

/// The answer to a declaration.
#[derive(Debug, Clone)]
pub struct Declared {
    /// What the server holds about us now, without token.
    pub runner: Runner,
    /// What the server can do, as it says it (`X-Gitea-Actions-Capabilities`); empty when it says nothing.
    pub capabilities: String,
}

/// A client of one instance. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    credentials: Option<Arc<Identity>>,
    limit: Duration,
    metrics: Metrics,
}

struct Identity {
    uuid: MetadataValue<tonic::metadata::Ascii>,
    token: MetadataValue<tonic::metadata::Ascii>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the instance at `address`. Only [`TransportChoice::Auto`] speaks to it already.
    pub async fn connect(
        address: &str,
        options: &ConnectOptions,
        metrics: Metrics,
    ) -> Result<Self, OptionsError> {
        let with = |protocol| {
            let transport = Transport::new(address, &Options { protocol, ..options.wire.clone() })?;
            Ok(Self { transport, credentials: None, limit: CALL_LIMIT, metrics: metrics.clone() })
        };
        match options.transport {
            TransportChoice::GrpcWeb => with(Protocol::GrpcWeb),
            TransportChoice::Grpc => with(Protocol::Grpc),
            TransportChoice::Auto => {
                let Ok(native) = with(Protocol::Grpc) else { return with(Protocol::GrpcWeb) };
                match native.with_limit(Duration::from_secs(5)).ping("esteira").await {
                    Ok(_) => Ok(native),
                    Err(error) => {
                        tracing::info!(%error, "no native gRPC at the server, so gRPC-Web is spoken");
                        with(Protocol::GrpcWeb)
                    }
                }
            }
        }
    }

    /// The same client as the runner `credentials`. Fails when they cannot be sent as headers.
    pub fn with_credentials(mut self, credentials: &Credentials) -> Result<Self, ServerError> {
        let unfit = |_| {
            ServerError::Refused("the runner's uuid or token holds characters that cannot be sent".to_owned())
        };
        let uuid = credentials.uuid.parse().map_err(unfit)?;
        let mut token: MetadataValue<_> = credentials.token.expose().parse().map_err(unfit)?;
        token.set_sensitive(true);
        self.credentials = Some(Arc::new(Identity { uuid, token }));
        Ok(self)
    }

    /// The same client whose calls take at most `limit` (never more than 60 s).
    #[must_use]
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self { limit: limit.min(CALL_LIMIT), ..self.clone() }
    }

    /// Asks whether a Gitea with Actions is there, and gives its answer and its clock (HTTP `Date`).
    pub async fn ping(&self, data: &str) -> Result<(String, Option<String>), ServerError> {
        let mut client = PingServiceClient::with_origin(self.transport.clone(), self.transport.origin());
        let request = Request::new(PingRequest { data: data.to_owned() });
        let response = self.call(Method::Ping, client.ping(request)).await?;
        let date = response.metadata().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
        Ok((response.into_inner().data, date))
    }

    /// Turns a registration token into a runner. The answer carries the runner's own token.
    pub async fn register(&self, request: RegisterRequest) -> Result<Runner, ServerError> {
        let mut client = self.service(0);
        let response = self.call(Method::Register, client.register(Request::new(request))).await?;
        let runner = response.into_inner().runner;
        runner.ok_or_else(|| ServerError::Incompatible("the server registered no runner".to_owned()))
    }

    /// Tells version and labels (names only).
    pub async fn declare(&self, labels: Vec<String>) -> Result<Declared, ServerError> {
        let request = DeclareRequest {
            version: crate::VERSION.to_owned(),
            labels,
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        };
        let response = self.call(Method::Declare, self.service(0).declare(self.signed(request))).await?;
        let capabilities = response.metadata().get("x-gitea-actions-capabilities");
        let capabilities = capabilities.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        Ok(Declared { runner: response.into_inner().runner.unwrap_or_default(), capabilities })
    }

    /// Asks for work. `tasks_version` is the last one seen; with 0 the server always looks.
    pub async fn fetch_task(&self, tasks_version: i64) -> Result<FetchTaskResponse, ServerError> {
        let request = self.signed(FetchTaskRequest { tasks_version });
        Ok(self.call(Method::FetchTask, self.service(0).fetch_task(request)).await?.into_inner())
    }

    /// Reports a state, once.
    pub async fn update_task(&self, request: UpdateTaskRequest) -> Result<UpdateTaskResponse, ServerError> {
        let size = prost::Message::encoded_len(&request);
        // The result goes out once, and with it every step's.
        let (ends, waited): (Vec<Conclusion>, _) = match &request.state {
            Some(state) if state.result() != Outcome::Unspecified => {
                (state.steps.iter().filter_map(|step| conclusion(step.result())).collect(), queued(state))
            }
            _ => (Vec::new(), None),
        };
        let request = self.signed(request);
        let answer =
            self.call(Method::UpdateTask, self.service(size).update_task(request)).await?.into_inner();
        for end in ends {
            self.metrics.step_ended(end);
        }
        if let Some(waited) = waited {
            self.metrics.job_queued(waited);
        }
        Ok(answer)
    }

    /// Appends rows, once.
    pub async fn update_log(&self, request: UpdateLogRequest) -> Result<UpdateLogResponse, ServerError> {
        let size = prost::Message::encoded_len(&request);
        let rows = u64::try_from(request.rows.len()).unwrap_or(u64::MAX);
        let bytes = request.rows.iter().map(|row| u64::try_from(row.content.len()).unwrap_or(0)).sum();
        let request = self.signed(request);
        let answer = self.call(Method::UpdateLog, self.service(size).update_log(request)).await?.into_inner();
        self.metrics.rows_taken(rows, bytes);
        Ok(answer)
    }

    /// Whether the server knows this runner. Changes nothing there but when it was last seen: a log without rows is
    /// offered for a task that does not exist, which is refused after the credentials have been looked at.
    pub async fn recognise(&self) -> Result<(), ServerError> {
        match self.update_log(UpdateLogRequest::default()).await {
            Ok(_) | Err(ServerError::TaskGone(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends one plain HTTP request the same way, and gives the answer's status.
    pub async fn http(&self, request: http::Request<bytes::Bytes>) -> Result<http::StatusCode, ServerError> {
        match tokio::time::timeout(self.limit, self.transport.http(request)).await {
            Ok(answer) => answer.map_err(|error| ServerError::Transient(error.to_string())),
            Err(_) => Err(ServerError::Transient(format!("no answer within {:.0?}", self.limit))),
        }
    }

    /// The metrics that this client counts into.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The generated client, for a request of `size` bytes.
    fn service(&self, size: usize) -> RunnerServiceClient<Transport> {
        let client = RunnerServiceClient::with_origin(self.transport.clone(), self.transport.origin())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(DECODE_LIMIT);
        if size < COMPRESS_FROM { client } else { client.send_compressed(CompressionEncoding::Gzip) }
    }

    fn signed<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(identity) = &self.credentials {
            request.metadata_mut().insert("x-runner-uuid", identity.uuid.clone());
            request.metadata_mut().insert("x-runner-token", identity.token.clone());
        }
        request
    }

    async fn call<M>(
        &self,
        method: Method,
        call: impl Future<Output = Result<Response<M>, Status>>,
    ) -> Result<Response<M>, ServerError> {
        let start = Instant::now();
        let answer = match tokio::time::timeout(self.limit, call).await {
            Ok(answer) => answer.map_err(|status| ServerError::classify(method, &status)),
            Err(_) => Err(ServerError::Transient(format!(
                "{}: no answer within {:.0?}",
                method.as_str(),
                self.limit
            ))),
        };
        self.metrics.called(method, start.elapsed(), answer.is_ok());
        answer
    }
}

/// From the start of a job to the start of its first step; `None` when no step began.
fn queued(state: &TaskState) -> Option<Duration> {
    let nanos = |at: &prost_types::Timestamp| i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    let first = state.steps.iter().filter_map(|step| step.started_at.as_ref()).map(nanos).min()?;
    let waited = first - nanos(state.started_at.as_ref()?);
    u64::try_from(waited).ok().map(Duration::from_nanos)
}

const fn conclusion(outcome: Outcome) -> Option<Conclusion> {
    match outcome {
        Outcome::Unspecified => None,
        Outcome::Success => Some(Conclusion::Success),
        Outcome::Failure => Some(Conclusion::Failure),
        Outcome::Cancelled => Some(Conclusion::Cancelled),
        Outcome::Skipped => Some(Conclusion::Skipped),
    }
}
