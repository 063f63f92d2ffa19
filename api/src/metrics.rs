//! What Prometheus reads at `/metrics`.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::store::Store;

/// The format that [`Metrics::render`] writes.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the latency histogram in seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The commit the program was built from, if the build was told.
const COMMIT: Option<&str> = option_env!("TASKS_BUILD_COMMIT");

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: MethodLabel,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    method: MethodLabel,
}

/// A method as a label: invented ones share one, so that clients cannot make series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MethodLabel(&'static str);

impl EncodeLabelValue for MethodLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }
}

impl From<&Method> for MethodLabel {
    fn from(method: &Method) -> Self {
        let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
        Self(known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other"))
    }
}

/// All numbers of this process.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Held while a scrape is written; requests never take it.
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    latency: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Connections being served.
    pub(crate) connections: Gauge,
    in_flight: Gauge,
    pool_connections: Gauge,
    pool_idle: Gauge,
    queued_reads: Gauge,
    queued_writes: Gauge,
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let latency = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register("http_request_duration_seconds", "Time to the head of the answer", latency.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connections = gauge("http_connections", "Connections being served");
        let in_flight = gauge("http_requests_in_flight", "Requests being answered");
        let pool_connections = gauge("database_pool_connections", "Database connections open");
        let pool_idle = gauge("database_pool_idle", "Database connections that wait in the pool");
        let queued_reads = gauge("database_queued_reads", "Reads that wait for the database");
        let queued_writes = gauge("database_queued_writes", "Writes that wait for the database");
        let build = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("commit", COMMIT.unwrap_or("unknown").to_owned()),
        ];
        registry.register("task_api_build", "What was built", Info::new(build));
        Self {
            registry: Mutex::new(registry),
            requests,
            latency,
            connections,
            in_flight,
            pool_connections,
            pool_idle,
            queued_reads,
            queued_writes,
        }
    }

    /// Counts a request as being answered until the guard is dropped, also when the client gives up.
    pub(crate) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts one answer.
    pub(crate) fn observe(&self, route: &'static str, method: &Method, status: StatusCode, took: Duration) {
        let method = MethodLabel::from(method);
        self.requests.get_or_create(&RequestLabels { route, method, status: status.as_u16() }).inc();
        self.latency.get_or_create(&RouteLabels { route, method }).observe(took.as_secs_f64());
    }

    /// Writes all numbers in the OpenMetrics text format.
    pub(crate) fn render(&self, store: &Store) -> Result<String, fmt::Error> {
        let status = store.status();
        self.pool_connections.set(status.connections);
        self.pool_idle.set(status.idle);
        self.queued_reads.set(status.queued_reads);
        self.queued_writes.set(status.queued_writes);
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

/// One request being answered.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
