//! The task API: a small HTTP service that the reference pipeline tests, builds and rolls out.
//!
//! The map, from the outside in:
//!
//! - [`settings`]: flags, environment and secret files become one resolved [`Settings`];
//! - `server`: accepts connections, keeps the clocks on them, drains on SIGTERM;
//! - `service`: what every answer shares: request id, language, metrics, the line in the log;
//! - `routes` and `handlers`: warp's filters and what they lead to;
//! - `store`: SQLite or PostgreSQL behind bounded queues;
//! - `page`, `openapi`, `metrics`, [`health`]: the page for people, the contract for programs, the numbers for
//!   operators, and the container's health check.

mod error;
mod handlers;
pub mod health;
mod language;
mod metrics;
mod model;
mod openapi;
mod page;
mod patience;
mod request;
mod routes;
mod server;
mod service;
pub mod settings;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::Metrics;
use settings::Settings;
use store::Store;

pub use openapi::document as openapi_document;

/// What the handlers share.
#[derive(Debug)]
struct App {
    store: Store,
    metrics: Metrics,
    token: Option<settings::Secret>,
    draining: AtomicBool,
}

impl App {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// What keeps the service from starting or from going on. Each is a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}; is another program using the port?")]
    Listen {
        /// The address as configured.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database did not answer in time, or refused us.
    #[error("the database did not become usable within {seconds} s: {source}")]
    Database {
        /// How long we tried, in seconds (`TASKS_DATABASE_WAIT`).
        seconds: u64,
        /// The last refusal.
        source: store::StartError,
    },
    /// Signals cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// Serves until a signal ends it. Waits for the database before it opens the port, so that an open port
/// means a usable service.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let signals = server::Signals::new().map_err(RunError::Signals)?;
    let store = Store::open(&settings.database, settings.pool_size, settings.database_wait)
        .await
        .map_err(|source| RunError::Database { seconds: settings.database_wait.as_secs(), source })?;
    let app = Arc::new(App {
        store,
        metrics: Metrics::new(),
        token: settings.token.clone(),
        draining: AtomicBool::new(false),
    });
    let served = server::serve(&settings, Arc::clone(&app), signals).await;
    app.store.close().await;
    served
}
