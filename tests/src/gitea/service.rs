//! The generated server's methods: who calls, the record, then [`State`]'s rules; refusals in the server's dialect.

use std::{sync::Arc, time::Instant};

use prost::Message;
use proto::{
    ping::v1::{PingRequest, PingResponse, ping_service_server::PingService},
    runner::v1::{
        DeclareRequest, DeclareResponse, FetchTaskRequest, FetchTaskResponse, RegisterRequest,
        RegisterResponse, Runner, UpdateLogRequest, UpdateLogResponse, UpdateTaskRequest, UpdateTaskResponse,
        runner_service_server::RunnerService,
    },
};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};

use super::{
    Shared,
    rows::{self, Errors, Record, RunnerRow},
    state::{Refusal, State},
};

/// Answers `ping.v1` and `runner.v1`.
#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<Shared>);

/// A refusal as this dialect puts it.
pub(crate) fn status(errors: Errors, Refusal(code, text): Refusal) -> Status {
    match errors {
        Errors::Forgejo => Status::new(code, text),
        Errors::Gitea => Status::unknown(format!("rpc error: code = {} desc = {text}", name(code))),
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => "Unauthenticated",
        Code::NotFound => "NotFound",
        Code::InvalidArgument => "InvalidArgument",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        _ => "Internal",
    }
}

fn record(method: &'static str, message: &impl Message) -> Record {
    Record {
        method,
        at: Instant::now(),
        task: 0,
        index: 0,
        rows: 0,
        no_more: false,
        result: None,
        bytes: message.encode_to_vec(),
    }
}

impl Service {
    /// Writes the call down, finds out who calls, and lets `handle` change the state.
    fn call<T>(
        &self,
        metadata: &MetadataMap,
        record: Record,
        handle: impl FnOnce(&mut State, RunnerRow) -> Result<T, Refusal>,
    ) -> Result<T, Status> {
        let header = |key| metadata.get(key).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (uuid, token) = (header("x-runner-uuid"), header("x-runner-token"));
        self.0.change(|state| {
            state.records.push(record);
            let runner = state.authenticate(uuid, token);
            runner
                .and_then(|runner| handle(state, runner))
                .map_err(|refusal| status(state.dialect.errors, refusal))
        })
    }
}

fn shown(row: RunnerRow, with_token: bool) -> Runner {
    Runner {
        id: row.id,
        uuid: row.uuid,
        token: if with_token { row.token } else { String::new() },
        name: row.name,
        labels: row.labels,
        version: row.version,
        ephemeral: with_token && row.ephemeral,
        ..Runner::default()
    }
}

#[tonic::async_trait]
impl PingService for Service {
    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        let data = request.into_inner().data;
        Ok(Response::new(PingResponse { data: format!("Hello, {data}!") }))
    }
}

#[tonic::async_trait]
impl RunnerService for Service {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let request = request.into_inner();
        self.0.change(|state| {
            // The registration token is what this call is for; it is no leak and stays out of the record.
            let kept = RegisterRequest { token: String::new(), ..request.clone() };
            state.records.push(record("Register", &kept));
            let row = state.register(&request.name, &request.token, request.labels, request.ephemeral);
            row.map(|row| Response::new(RegisterResponse { runner: Some(shown(row, true)) }))
                .map_err(|refusal| status(state.dialect.errors, refusal))
        })
    }

    async fn declare(&self, request: Request<DeclareRequest>) -> Result<Response<DeclareResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.call(&metadata, record("Declare", &request), |state, runner| {
            let capabilities = state.dialect.capabilities.clone();
            let row = state.runners.iter_mut().find(|row| row.id == runner.id);
            let row = row.ok_or_else(Refusal::unregistered)?;
            row.version = request.version;
            row.labels = request.labels;
            row.capabilities = request.capabilities;
            row.declared += 1;
            let mut answer = Response::new(DeclareResponse { runner: Some(shown(row.clone(), false)) });
            if let Some(value) = capabilities.and_then(|list| list.parse().ok()) {
                answer.metadata_mut().insert("x-gitea-actions-capabilities", value);
            }
            Ok(answer)
        })
    }

    async fn fetch_task(
        &self,
        request: Request<FetchTaskRequest>,
    ) -> Result<Response<FetchTaskResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.call(&metadata, record("FetchTask", &request), |state, runner| {
            let (task, tasks_version) = state.fetch(&runner, request.tasks_version)?;
            Ok(Response::new(FetchTaskResponse { task, tasks_version }))
        })
    }

    async fn update_task(
        &self,
        request: Request<UpdateTaskRequest>,
    ) -> Result<Response<UpdateTaskResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let mut record = record("UpdateTask", &request);
        if let Some(state) = &request.state {
            record.task = state.id;
            record.result = rows::Status::of(state.result());
        }
        self.call(&metadata, record, |state, runner| {
            let (task, sent_outputs) = state.update_task(&runner, &request)?;
            Ok(Response::new(UpdateTaskResponse { state: Some(task), sent_outputs }))
        })
    }

    async fn update_log(
        &self,
        request: Request<UpdateLogRequest>,
    ) -> Result<Response<UpdateLogResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let mut record = record("UpdateLog", &request);
        record.task = request.task_id;
        record.index = request.index;
        record.rows = request.rows.len();
        record.no_more = request.no_more;
        self.call(&metadata, record, |state, runner| {
            let ack_index = state.update_log(&runner, &request)?;
            Ok(Response::new(UpdateLogResponse { ack_index }))
        })
    }
}
