//! What the reporter needs of a server, and no more, so that tests can stand in with one that misbehaves.

use std::future::Future;

use proto::runner::v1::{UpdateLogRequest, UpdateLogResponse, UpdateTaskRequest, UpdateTaskResponse};

/// Why a call was not answered with yes, by what the reporter can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Try again.
    #[error("{0}")]
    Transient(String),
    /// The server does not know this runner any more.
    #[error("the server does not know this runner any more")]
    Unregistered,
    /// The server does not know the task, or it is another runner's.
    #[error("{0}")]
    TaskGone(String),
    /// The log has been closed; the state still counts.
    #[error("the log has been closed by the server")]
    LogArchived,
    /// The server will not take this request, however often it is sent.
    #[error("{0}")]
    Refused(String),
}

/// One server, as one task's reporter sees it. Each call has its own deadline and is not retried inside.
pub trait Server: Clone + Send + Sync + 'static {
    /// Appends rows.
    fn update_log(
        &self,
        request: UpdateLogRequest,
    ) -> impl Future<Output = Result<UpdateLogResponse, CallError>> + Send;

    /// Tells the state, which is also the heartbeat.
    fn update_task(
        &self,
        request: UpdateTaskRequest,
    ) -> impl Future<Output = Result<UpdateTaskResponse, CallError>> + Send;

    /// Hands over one step's summary, as `text/markdown`; only called when [`super::ReportLimits::summaries`] is set.
    fn put_summary(
        &self,
        target: &super::SummaryTarget,
        step: usize,
        markdown: &str,
    ) -> impl Future<Output = Result<(), CallError>> + Send;
}
