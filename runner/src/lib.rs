//! esteira: a Gitea Actions runner.
//!
//! A task enters at `FetchTask` and leaves at the last `UpdateTask`; the road between is one straight line:
//! `source` hands out an `Assignment` with a [`report::Sink`]; `job::run_job` prepares a place ([`backend`]), runs the
//! steps and tells its story as [`report::JobEvent`]s; a reporter writes them down and ships them.

pub mod action;
pub mod agent;
pub mod assignment;
pub mod backend;
pub mod cache;
pub mod cancel;
pub mod cli;
pub mod daemon;
pub mod deploy;
pub mod job;
pub mod label;
pub mod log;
pub mod metrics;
pub mod report;
pub mod secret;
pub mod server;
pub mod settings;
pub mod source;
mod step;

/// This program's version, as it is shown and declared.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
