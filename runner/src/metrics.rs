//! What the daemon counts, under the names that dashboards of Gitea's runner already use.
//!
//! Counting is always on and costs a few atomics; whether anybody may read it is the configuration's business
//! (`daemon::endpoint` serves it).

use std::{fmt, sync::Arc, sync::atomic::AtomicU64, time::Duration, time::Instant};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{report::Conclusion, server::Method};

/// Upper bounds of call durations in seconds.
const CALL_BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Upper bounds in seconds of what a job waits for before its first step: from a warm image to a slow pull.
const QUEUE_BUCKETS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStore {
    store: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByMethod {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOperation {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDirection {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Who {
    version: String,
    name: String,
}

type Float = Gauge<f64, AtomicU64>;
type ByOperationSeconds = Family<ByOperation, Histogram, fn() -> Histogram>;

/// All counters of one process. Clones count into the same ones.
#[derive(Clone)]
pub struct Metrics {
    all: Arc<All>,
}

struct All {
    start: Instant,
    info: Family<Who, Gauge>,
    capacity: Gauge,
    fetches: Family<ByResult, Counter>,
    fetch_seconds: Histogram,
    backoff: Float,
    jobs: Family<ByStatus, Counter>,
    queue_seconds: Histogram,
    job_seconds: Histogram,
    running: Gauge,
    utilization: Float,
    logs: Family<ByResult, Counter>,
    log_seconds: Histogram,
    states: Family<ByResult, Counter>,
    state_seconds: Histogram,
    buffered_rows: Gauge,
    rows: Counter,
    row_bytes: Counter,
    steps: Family<ByResult, Counter>,
    healthy: Gauge,
    stores: Family<ByStore, Gauge>,
    client_errors: Family<ByMethod, Counter>,
    engine_seconds: ByOperationSeconds,
    engine_errors: Family<ByOperation, Counter>,
    cache_lookups: Family<ByResult, Counter>,
    cache_bytes: Family<ByDirection, Counter>,
}

fn calls() -> Histogram {
    Histogram::new(CALL_BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            all: Arc::new(All {
                start: Instant::now(),
                info: Family::default(),
                capacity: Gauge::default(),
                fetches: Family::default(),
                fetch_seconds: calls(),
                backoff: Float::default(),
                jobs: Family::default(),
                queue_seconds: Histogram::new(QUEUE_BUCKETS),
                job_seconds: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
                running: Gauge::default(),
                utilization: Float::default(),
                logs: Family::default(),
                log_seconds: calls(),
                states: Family::default(),
                state_seconds: calls(),
                buffered_rows: Gauge::default(),
                rows: Counter::default(),
                row_bytes: Counter::default(),
                steps: Family::default(),
                healthy: Gauge::default(),
                stores: Family::default(),
                client_errors: Family::default(),
                engine_seconds: ByOperationSeconds::new_with_constructor(calls),
                engine_errors: Family::default(),
                cache_lookups: Family::default(),
                cache_bytes: Family::default(),
            }),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

const fn result_of(ok: bool) -> ByResult {
    ByResult { result: if ok { "success" } else { "error" } }
}

impl Metrics {
    /// Who is counting, and how many jobs fit.
    pub fn introduce(&self, name: &str, capacity: usize) {
        let who = Who { version: crate::VERSION.to_owned(), name: name.to_owned() };
        self.all.info.get_or_create(&who).set(1);
        self.all.capacity.set(i64::try_from(capacity).unwrap_or(i64::MAX));
    }

    /// A call of the protocol has ended.
    pub fn called(&self, method: Method, took: Duration, ok: bool) {
        if !ok {
            self.all.client_errors.get_or_create(&ByMethod { method: method.as_str() }).inc();
        }
        match method {
            Method::FetchTask => self.all.fetch_seconds.observe(took.as_secs_f64()),
            Method::UpdateLog => {
                self.all.logs.get_or_create(&result_of(ok)).inc();
                self.all.log_seconds.observe(took.as_secs_f64());
            }
            Method::UpdateTask => {
                self.all.states.get_or_create(&result_of(ok)).inc();
                self.all.state_seconds.observe(took.as_secs_f64());
            }
            Method::Ping | Method::Register | Method::Declare => {}
        }
    }

    /// A poll has ended: `task`, `empty` or `error`.
    pub fn polled(&self, result: &'static str) {
        self.all.fetches.get_or_create(&ByResult { result }).inc();
    }

    /// How long the poller waits now.
    pub fn waits(&self, wait: Duration) {
        self.all.backoff.set(wait.as_secs_f64());
    }

    /// How many of `capacity` jobs run now.
    pub fn running(&self, jobs: usize, capacity: usize) {
        self.all.running.set(i64::try_from(jobs).unwrap_or(i64::MAX));
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        let capacity = u32::try_from(capacity.max(1)).unwrap_or(u32::MAX);
        self.all.utilization.set(f64::from(jobs) / f64::from(capacity));
    }

    /// A job has ended.
    pub fn job_ended(&self, conclusion: Conclusion, took: Duration) {
        self.all.jobs.get_or_create(&ByStatus { status: conclusion.as_str() }).inc();
        self.all.job_seconds.observe(took.as_secs_f64());
    }

    /// A job whose first step began `waited` after its assignment is over. What it waited for at the server before that
    /// is not in what the server sends.
    pub fn job_queued(&self, waited: Duration) {
        self.all.queue_seconds.observe(waited.as_secs_f64());
    }

    /// The engine has answered a request, or could not.
    pub fn engine_asked(&self, operation: &'static str, took: Duration, well: bool) {
        let operation = ByOperation { operation };
        self.all.engine_seconds.get_or_create(&operation).observe(took.as_secs_f64());
        if !well {
            self.all.engine_errors.get_or_create(&operation).inc();
        }
    }

    /// A job has looked for something in the cache.
    pub fn cache_asked(&self, hit: bool) {
        let result = if hit { "hit" } else { "miss" };
        self.all.cache_lookups.get_or_create(&ByResult { result }).inc();
    }

    /// So many bytes of archives have come (`in`) or gone (`out`).
    pub fn cache_moved(&self, direction: &'static str, bytes: u64) {
        self.all.cache_bytes.get_or_create(&ByDirection { direction }).inc_by(bytes);
    }

    /// The server has taken rows, `bytes` of text in all.
    pub fn rows_taken(&self, rows: u64, bytes: u64) {
        self.all.rows.inc_by(rows);
        self.all.row_bytes.inc_by(bytes);
    }

    /// A step of a job that is over has ended like this.
    pub fn step_ended(&self, conclusion: Conclusion) {
        self.all.steps.get_or_create(&ByResult { result: conclusion.as_str() }).inc();
    }

    /// Whether the daemon can take jobs.
    pub fn healthy(&self, healthy: bool) {
        self.all.healthy.set(i64::from(healthy));
    }

    /// How many bytes a store in the state folder takes.
    pub fn store(&self, store: &'static str, bytes: u64) {
        self.all.stores.get_or_create(&ByStore { store }).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// `rows` more (or fewer) rows wait for their acknowledgement.
    pub fn buffered_rows(&self, rows: i64) {
        self.all.buffered_rows.inc_by(rows);
    }

    /// Everything in the text format of OpenMetrics.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("gitea_runner");
        let all = &*self.all;
        registry.register("info", "Version and name of the runner", all.info.clone());
        registry.register("capacity", "Jobs that may run at once", all.capacity.clone());
        registry.register("poll_fetch", "Polls by result", all.fetches.clone());
        let seconds = |registry: &mut Registry, name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        seconds(&mut registry, "poll_fetch_duration", "Duration of FetchTask calls", &all.fetch_seconds);
        registry.register_with_unit(
            "poll_backoff",
            "Wait before the next poll",
            Unit::Seconds,
            all.backoff.clone(),
        );
        registry.register("job", "Jobs by result", all.jobs.clone());
        let help = "From a job's assignment to its first step";
        seconds(&mut registry, "job_queue_duration", help, &all.queue_seconds);
        seconds(&mut registry, "job_duration", "Duration of jobs", &all.job_seconds);
        registry.register("job_running", "Jobs that run now", all.running.clone());
        let help = "Running jobs divided by the capacity";
        registry.register("job_capacity_utilization_ratio", help, all.utilization.clone());
        registry.register("report_log", "UpdateLog calls by result", all.logs.clone());
        seconds(&mut registry, "report_log_duration", "Duration of UpdateLog calls", &all.log_seconds);
        registry.register("report_state", "UpdateTask calls by result", all.states.clone());
        seconds(&mut registry, "report_state_duration", "Duration of UpdateTask calls", &all.state_seconds);
        let help = "Rows that the server has not acknowledged";
        registry.register("report_log_buffer_rows", help, all.buffered_rows.clone());
        registry.register("log_rows", "Log rows that the server has taken", all.rows.clone());
        registry.register_with_unit("log", "Text of those rows", Unit::Bytes, all.row_bytes.clone());
        registry.register("step", "Steps of ended jobs by result", all.steps.clone());
        registry.register("healthy", "Whether jobs can be taken", all.healthy.clone());
        let help = "What the stores in the state folder take";
        registry.register_with_unit("store", help, Unit::Bytes, all.stores.clone());
        registry.register("client_errors", "Failed calls by method", all.client_errors.clone());
        let help = "Time until the engine's answer begins, by operation";
        let name = "engine_request_duration";
        registry.register_with_unit(name, help, Unit::Seconds, all.engine_seconds.clone());
        let help = "Requests that the engine did not or could not answer, by operation";
        registry.register("engine_request_errors", help, all.engine_errors.clone());
        let help = "What jobs have looked for in the cache, by result";
        registry.register("cache_lookup", help, all.cache_lookups.clone());
        let help = "Archives of the cache, by direction";
        registry.register_with_unit("cache_transfer", help, Unit::Bytes, all.cache_bytes.clone());
        registry.register_collector(Box::new(Uptime(all.start)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Seconds since the start, worked out when asked.
#[derive(Debug)]
struct Uptime(Instant);

impl Collector for Uptime {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let uptime = ConstGauge::new(self.0.elapsed().as_secs_f64());
        let unit = Some(&Unit::Seconds);
        let metric =
            encoder.encode_descriptor("uptime", "Time since the start", unit, uptime.metric_type())?;
        uptime.encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Metrics;
    use crate::{report::Conclusion, server::Method};

    #[test]
    fn dashboards_of_the_official_runner_find_their_names() {
        let metrics = Metrics::default();
        metrics.introduce("builder", 2);
        metrics.called(Method::UpdateLog, Duration::from_millis(20), true);
        metrics.called(Method::UpdateTask, Duration::from_millis(20), false);
        metrics.polled("empty");
        metrics.waits(Duration::from_secs(2));
        metrics.running(1, 2);
        metrics.job_ended(Conclusion::Success, Duration::from_secs(3));
        metrics.job_queued(Duration::from_millis(400));
        metrics.engine_asked("container_create", Duration::from_millis(30), true);
        metrics.engine_asked("image_pull", Duration::from_millis(30), false);
        metrics.cache_asked(true);
        metrics.cache_moved("in", 9);
        metrics.rows_taken(3, 40);
        metrics.step_ended(Conclusion::Failure);
        metrics.healthy(true);
        metrics.store("journal", 12);
        let text = metrics.encode().expect("text");
        for line in [
            "gitea_runner_info{version=",
            "gitea_runner_capacity 2",
            "gitea_runner_uptime_seconds ",
            "gitea_runner_poll_fetch_total{result=\"empty\"} 1",
            "gitea_runner_poll_fetch_duration_seconds_bucket",
            "gitea_runner_poll_backoff_seconds 2",
            "gitea_runner_job_total{status=\"success\"} 1",
            "gitea_runner_job_queue_duration_seconds_bucket{le=\"0.5\"} 1",
            "gitea_runner_job_duration_seconds_sum",
            "gitea_runner_job_running 1",
            "gitea_runner_job_capacity_utilization_ratio 0.5",
            "gitea_runner_report_log_total{result=\"success\"} 1",
            "gitea_runner_report_state_total{result=\"error\"} 1",
            "gitea_runner_report_log_duration_seconds_bucket",
            "gitea_runner_report_state_duration_seconds_bucket",
            "gitea_runner_report_log_buffer_rows 0",
            "gitea_runner_log_rows_total 3",
            "gitea_runner_log_bytes_total 40",
            "gitea_runner_step_total{result=\"failure\"} 1",
            "gitea_runner_healthy 1",
            "gitea_runner_store_bytes{store=\"journal\"} 12",
            "gitea_runner_engine_request_duration_seconds_bucket{le=\"0.05\",operation=\"container_create\"} 1",
            "gitea_runner_engine_request_errors_total{operation=\"image_pull\"} 1",
            "gitea_runner_cache_lookup_total{result=\"hit\"} 1",
            "gitea_runner_cache_transfer_bytes_total{direction=\"in\"} 9",
            "gitea_runner_client_errors_total{method=\"UpdateTask\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_name_is_in_the_documentation() {
        let text = Metrics::default().encode().expect("text");
        let documentation = include_str!("../docs/metrics.md");
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        for (name, kind) in names {
            let shown = if kind == "counter" { format!("`{name}_total`") } else { format!("`{name}`") };
            assert!(documentation.contains(&shown), "docs/metrics.md does not have {shown}");
        }
    }
}
