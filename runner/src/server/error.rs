//! What an answer of the server means to the one who asked.
//!
//! Gitea raises its errors in a form that its own handlers do not understand, so they arrive with the code `unknown`
//! and the meant code inside the text; Forgejo and later servers send the code itself. Both are read here, and nowhere
//! else.

use std::error::Error;

use http::StatusCode;
use proto::transport::TransportError;
use tonic::{Code, Status};

/// The calls of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Is anybody there?
    Ping,
    /// Token to runner.
    Register,
    /// Version and labels.
    Declare,
    /// Work.
    FetchTask,
    /// States.
    UpdateTask,
    /// Rows.
    UpdateLog,
}

impl Method {
    /// Its name on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "Ping",
            Self::Register => "Register",
            Self::Declare => "Declare",
            Self::FetchTask => "FetchTask",
            Self::UpdateTask => "UpdateTask",
            Self::UpdateLog => "UpdateLog",
        }
    }
}

/// Why a call failed: one variant for each thing that a caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The network, a proxy or a busy server: ask again later.
    #[error("{0}")]
    Transient(String),
    /// The server does not know this runner (any more).
    #[error(
        "the server does not know this runner (any more): it was removed there, or its token has changed"
    )]
    Unregistered,
    /// The task is gone or belongs to another runner: stop its job.
    #[error("the server does not have this task for us: {0}")]
    TaskGone(String),
    /// The task's log is closed; its state can still be told.
    #[error("the server has closed this task's log")]
    LogArchived,
    /// Something answers, but it does not speak the protocol: wrong address, Actions off, too old. May also be a proxy
    /// whose server is away, so that a running daemon asks again.
    #[error("{0}")]
    Incompatible(String),
    /// The server's certificate is not trusted.
    #[error("{0}")]
    Certificate(String),
    /// The server understood and said no.
    #[error("the server refused: {0}")]
    Refused(String),
}

impl ServerError {
    /// Whether the same call may go well later.
    pub const fn is_worth_retrying(&self) -> bool {
        matches!(self, Self::Transient(_) | Self::Incompatible(_) | Self::Certificate(_))
    }

    /// What `status` means as the answer to `method`.
    pub(super) fn classify(method: Method, status: &Status) -> Self {
        if let Some(error) = transport_error(status) {
            return Self::of_transport(error);
        }
        let (code, message) = unwrapped(status);
        if code == Code::Unauthenticated && message.contains("unregistered runner")
            || message.contains("runner has been removed")
        {
            return Self::Unregistered;
        }
        if message.contains("log file has been archived") {
            return Self::LogArchived;
        }
        let of_task = matches!(method, Method::UpdateTask | Method::UpdateLog);
        if of_task
            && (message.contains("invalid runner for task")
                || message.contains("resource does not exist")
                || code == Code::NotFound)
        {
            return Self::TaskGone(message.to_owned());
        }
        match code {
            Code::Unimplemented => Self::Incompatible(format!(
                "the server does not know the call {}: Gitea 1.21 or newer is needed",
                method.as_str()
            )),
            _ if method == Method::Register => Self::Refused(message.to_owned()),
            Code::InvalidArgument | Code::OutOfRange => Self::Refused(message.to_owned()),
            _ => Self::Transient(format!("{} failed: {message}", method.as_str())),
        }
    }

    fn of_transport(error: &TransportError) -> Self {
        match error {
            TransportError::Redirect { .. } => Self::Incompatible(error.to_string()),
            TransportError::Status { status, .. } if *status == StatusCode::NOT_FOUND => Self::Incompatible(
                "HTTP 404 for Gitea's Actions API: the address is not that of a Gitea, lacks a sub-path, or \
                 Actions are off there ([actions] ENABLED in app.ini)"
                    .to_owned(),
            ),
            TransportError::Foreign { .. } => Self::Incompatible(error.to_string()),
            TransportError::Connect { certificate: true, .. } => Self::Certificate(format!(
                "{error}: name the authority in runner.ca_file (or SSL_CERT_FILE); runner.insecure switches the check off"
            )),
            TransportError::Connect { .. } | TransportError::Broken(_) | TransportError::Status { .. } => {
                Self::Transient(error.to_string())
            }
        }
    }
}

fn transport_error(status: &Status) -> Option<&TransportError> {
    let mut next = status.source();
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref() {
            return Some(error);
        }
        next = cause.source();
    }
    None
}

/// The meant code and text: those inside `rpc error: code = X desc = …` when the outer code says nothing.
fn unwrapped(status: &Status) -> (Code, &str) {
    let message = status.message();
    if status.code() == Code::Unknown
        && let Some(rest) = message.strip_prefix("rpc error: code = ")
        && let Some((name, text)) = rest.split_once(" desc = ")
    {
        return (code_of(name), text);
    }
    (status.code(), message)
}

/// The names that Go's gRPC library prints.
fn code_of(name: &str) -> Code {
    match name {
        "Canceled" => Code::Cancelled,
        "InvalidArgument" => Code::InvalidArgument,
        "DeadlineExceeded" => Code::DeadlineExceeded,
        "NotFound" => Code::NotFound,
        "AlreadyExists" => Code::AlreadyExists,
        "PermissionDenied" => Code::PermissionDenied,
        "ResourceExhausted" => Code::ResourceExhausted,
        "FailedPrecondition" => Code::FailedPrecondition,
        "Aborted" => Code::Aborted,
        "OutOfRange" => Code::OutOfRange,
        "Unimplemented" => Code::Unimplemented,
        "Internal" => Code::Internal,
        "Unavailable" => Code::Unavailable,
        "DataLoss" => Code::DataLoss,
        "Unauthenticated" => Code::Unauthenticated,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{Method, ServerError};
    use tonic::{Code, Status};

    fn seen(method: Method, code: Code, message: &str) -> ServerError {
        ServerError::classify(method, &Status::new(code, message))
    }

    #[test]
    fn both_dialects_of_unregistered_are_understood() {
        for (code, message) in [
            (Code::Unknown, "rpc error: code = Unauthenticated desc = unregistered runner"),
            (Code::Unauthenticated, "unregistered runner"),
            (Code::Unknown, "rpc error: code = Internal desc = pick task: runner has been removed"),
        ] {
            assert_eq!(seen(Method::FetchTask, code, message), ServerError::Unregistered, "{message}");
        }
    }

    #[test]
    fn a_bare_401_is_a_proxy_and_may_pass() {
        assert!(matches!(
            seen(Method::FetchTask, Code::Unauthenticated, "login first"),
            ServerError::Transient(_)
        ));
    }

    #[test]
    fn a_task_that_is_not_ours_is_given_up_but_a_busy_database_is_not() {
        let gone = "rpc error: code = Internal desc = update task: invalid runner for task";
        assert!(matches!(seen(Method::UpdateTask, Code::Unknown, gone), ServerError::TaskGone(_)));
        let missing = "rpc error: code = Internal desc = get task: task with id 9: resource does not exist";
        assert!(matches!(seen(Method::UpdateLog, Code::Unknown, missing), ServerError::TaskGone(_)));
        let busy = "rpc error: code = Internal desc = update task: database is locked";
        assert!(matches!(seen(Method::UpdateTask, Code::Unknown, busy), ServerError::Transient(_)));
    }

    #[test]
    fn an_archived_log_is_told_apart() {
        let archived = "rpc error: code = AlreadyExists desc = log file has been archived";
        assert_eq!(seen(Method::UpdateLog, Code::Unknown, archived), ServerError::LogArchived);
    }

    #[test]
    fn a_refused_registration_keeps_the_servers_words() {
        let refused = "rpc error: code = NotFound desc = runner registration token not found";
        assert_eq!(
            seen(Method::Register, Code::Unknown, refused),
            ServerError::Refused("runner registration token not found".to_owned())
        );
    }
}
