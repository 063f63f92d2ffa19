//! Gitea, seen from here: one client, what its errors mean, and how long to wait before asking again.

mod client;
mod error;
mod retry;

pub use client::{CAPABILITIES, Client, ConnectOptions, Credentials, Declared, TransportChoice};
pub use error::{Method, ServerError};
pub use retry::Backoff;
