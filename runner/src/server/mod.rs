//! Gitea, seen from here: one client, what its errors mean, and how long to wait before asking again.

mod client;
mod error;
pub mod registrar;
mod retry;

pub use client::{CAPABILITIES, Client, ConnectOptions, Credentials, Declared, TransportChoice};
pub use error::{Method, ServerError};
/// What a fetch brings; it goes on to `source::gitea` unopened.
pub use proto::runner::v1::{FetchTaskResponse, Task};
pub use retry::Backoff;
