//! The values of the configuration, with every default in place.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::units::{duration, duration_or_off, size};
use crate::{secret::Secret, server::TransportChoice};

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(default)]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// The whole configuration.
    Settings {
        /// The daemon's own log.
        log: Log = Log::default(),
        /// Identity, polling, reporting.
        runner: Runner = Runner::default(),
        /// The cache for jobs.
        cache: Cache = Cache::default(),
        /// Jobs in containers.
        container: Container = Container::default(),
        /// Jobs on the host.
        host: Host = Host::default(),
        /// When not to fetch.
        health_check: HealthCheck = HealthCheck::default(),
        /// What others may read about us.
        metrics: Metrics = Metrics::default(),
    }
}

/// How the daemon's log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

section! {
    /// `log`
    Log {
        /// trace, debug, info, warn, error or fatal.
        level: String = "info".to_owned(),
        /// Text or JSON.
        format: LogFormat = LogFormat::Text,
        /// Local copies of job logs.
        job: JobLogFiles = JobLogFiles::default(),
    }
}

section! {
    /// `log.job`
    JobLogFiles {
        /// Empty: none.
        dir: PathBuf = PathBuf::new(),
        /// Zero: for ever.
        #[serde(deserialize_with = "duration")]
        retention: Duration = Duration::from_hours(168),
        /// Bytes; zero: no limit.
        #[serde(deserialize_with = "size")]
        max_size: u64 = 1 << 30,
    }
}

section! {
    /// `runner`
    Runner {
        /// The registration.
        file: PathBuf = PathBuf::from(".runner"),
        /// Never empty after loading.
        state_dir: PathBuf = PathBuf::new(),
        /// Jobs at once, at least 1.
        capacity: usize = 1,
        /// Environment of jobs; `env_file` is merged into it when loading.
        envs: BTreeMap<String, String> = BTreeMap::new(),
        /// Where more of it is.
        env_file: PathBuf = PathBuf::from(".env"),
        /// Of one job.
        #[serde(deserialize_with = "duration")]
        timeout: Duration = Duration::from_hours(3),
        /// Zero: cancel at once.
        #[serde(deserialize_with = "duration")]
        shutdown_timeout: Duration = Duration::ZERO,
        /// Trust anybody.
        insecure: bool = false,
        /// Empty: only the system's authorities.
        ca_file: PathBuf = PathBuf::new(),
        /// The wire protocol.
        #[serde(deserialize_with = "transport")]
        transport: TransportChoice = TransportChoice::GrpcWeb,
        /// Of one poll.
        #[serde(deserialize_with = "duration")]
        fetch_timeout: Duration = Duration::from_secs(5),
        /// Between polls.
        #[serde(deserialize_with = "duration")]
        fetch_interval: Duration = Duration::from_secs(2),
        /// Its upper bound.
        #[serde(deserialize_with = "duration")]
        fetch_interval_max: Duration = Duration::from_secs(5),
        /// Zero: never.
        #[serde(deserialize_with = "duration")]
        workdir_cleanup_age: Duration = Duration::from_hours(24),
        /// Zero: never.
        #[serde(deserialize_with = "duration")]
        idle_cleanup_interval: Duration = Duration::from_mins(10),
        /// Upper bound for rows.
        #[serde(deserialize_with = "duration")]
        log_report_interval: Duration = Duration::from_secs(5),
        /// Upper bound for a first row.
        #[serde(deserialize_with = "duration")]
        log_report_max_latency: Duration = Duration::from_secs(3),
        /// Rows that go out at once.
        log_report_batch_size: usize = 100,
        /// Heartbeat.
        #[serde(deserialize_with = "duration")]
        state_report_interval: Duration = Duration::from_secs(2),
        /// Of one try.
        #[serde(deserialize_with = "duration")]
        report_close_timeout: Duration = Duration::from_secs(10),
        /// Empty: none.
        github_mirror: String = String::new(),
        /// One commit only.
        action_shallow_clone: bool = true,
        /// `ACT=true`.
        set_act_env: bool = true,
        /// Patch the toolkit's host check.
        patch_actions: bool = true,
        /// Empty: none.
        node_dir: PathBuf = PathBuf::new(),
        /// Full labels; empty: those of the registration.
        labels: Vec<String> = Vec::new(),
        /// A terminal for steps.
        allocate_pty: bool = false,
        /// Empty: none.
        default_image: String = String::new(),
        /// `none` or `shared`.
        tool_cache_mode: String = "none".to_owned(),
        /// Empty: none.
        post_task_script: PathBuf = PathBuf::new(),
        /// Its limit.
        #[serde(deserialize_with = "duration")]
        post_task_script_timeout: Duration = Duration::from_mins(5),
        /// Scripts around jobs.
        hooks: Hooks = Hooks::default(),
    }
}

section! {
    /// `runner.hooks`
    Hooks {
        /// Empty: none.
        job_started: PathBuf = PathBuf::new(),
        /// Empty: none.
        job_completed: PathBuf = PathBuf::new(),
    }
}

section! {
    /// `cache`
    Cache {
        /// Serve one.
        enabled: bool = true,
        /// Never empty after loading.
        dir: PathBuf = PathBuf::new(),
        /// Empty: worked out.
        host: String = String::new(),
        /// 0: any.
        port: u16 = 0,
        /// Empty: our own.
        external_server: String = String::new(),
        /// Shared with it; `external_secret_file` is read into it when loading.
        external_secret: Secret<String> = Secret::default(),
        /// Or the file that holds it.
        external_secret_file: PathBuf = PathBuf::new(),
        /// No questions for newer actions.
        offline_mode: bool = false,
        /// Second protocol.
        v2: bool = true,
        /// Since the last use.
        #[serde(deserialize_with = "duration")]
        retention: Duration = Duration::from_hours(168),
        /// Bytes; zero: no limit.
        #[serde(deserialize_with = "size")]
        repo_size_limit: u64 = 10 << 30,
        /// Bytes; zero: no limit.
        #[serde(deserialize_with = "size")]
        size_limit: u64 = 0,
        /// Between sweeps.
        #[serde(deserialize_with = "duration")]
        sweep_interval: Duration = Duration::from_hours(1),
    }
}

section! {
    /// `container`
    Container {
        /// Empty: one per job.
        network: String = String::new(),
        /// Of those networks.
        network_create_options: NetworkCreateOptions = NetworkCreateOptions::default(),
        /// Older name of `network`; empty after loading.
        network_mode: String = String::new(),
        /// Everything is granted.
        privileged: bool = false,
        /// Before the job's own.
        options: String = String::new(),
        /// Inside.
        workdir_parent: String = "workspace".to_owned(),
        /// Patterns; empty: nothing.
        valid_volumes: Vec<String> = Vec::new(),
        /// Empty, `-`, `automount` or an address.
        docker_host: String = String::new(),
        /// Pull what is there.
        force_pull: bool = false,
        /// Build what is there.
        force_rebuild: bool = false,
        /// No start without an engine.
        require_docker: bool = false,
        /// How long to wait for it.
        #[serde(deserialize_with = "duration")]
        docker_timeout: Duration = Duration::ZERO,
        /// A folder instead of a volume.
        bind_workdir: bool = false,
        /// `None`: do not wait.
        #[serde(deserialize_with = "duration_or_off")]
        service_ready_timeout: Option<Duration> = Some(Duration::from_mins(5)),
    }
}

section! {
    /// `container.network_create_options`; `None` is the engine's default.
    NetworkCreateOptions {
        /// IPv4.
        enable_ipv4: Option<bool> = None,
        /// IPv6.
        enable_ipv6: Option<bool> = None,
    }
}

section! {
    /// `host`
    Host {
        /// Never empty after loading.
        workdir_parent: PathBuf = PathBuf::new(),
    }
}

section! {
    /// `health_check`
    HealthCheck {
        /// Check at all.
        enabled: bool = false,
        /// MiB.
        min_free_disk_space_mb: u64 = 1024,
        /// Empty: none.
        script: PathBuf = PathBuf::new(),
        /// Between checks.
        #[serde(deserialize_with = "duration")]
        interval: Duration = Duration::from_secs(30),
        /// Of the script.
        #[serde(deserialize_with = "duration")]
        timeout: Duration = Duration::from_secs(10),
    }
}

section! {
    /// `metrics`
    Metrics {
        /// Serve them.
        enabled: bool = false,
        /// Host and port.
        addr: String = "127.0.0.1:9101".to_owned(),
        /// Until "not ready".
        #[serde(deserialize_with = "duration")]
        readiness_grace: Duration = Duration::from_secs(30),
    }
}

fn transport<'de, D: serde::Deserializer<'de>>(source: D) -> Result<TransportChoice, D::Error> {
    match String::deserialize(source)?.as_str() {
        "grpc-web" => Ok(TransportChoice::GrpcWeb),
        "grpc" => Ok(TransportChoice::Grpc),
        "auto" => Ok(TransportChoice::Auto),
        other => Err(serde::de::Error::custom(format!("'{other}' is none of grpc-web, grpc, auto"))),
    }
}
