//! Every key of the configuration file, once: what it takes, what it is when nobody sets it, what it does, and whether
//! this version obeys it. The documented example, the checks of a file and the reference in `docs/` come from here.

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A path; relative ones start at the daemon's working directory.
    Path,
    /// `true` or `false`.
    Bool,
    /// A whole number of at least this.
    Count(u64),
    /// `30s`, `1h30m`.
    Duration,
    /// A duration; a negative one means "off".
    DurationOrOff,
    /// `512MB`, `10GB`, bytes.
    Size,
    /// Names to text.
    Map,
    /// A list of text.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its default as YAML.
    pub default: &'static str,
    /// One or more sentences.
    pub doc: &'static str,
    /// Whether Gitea's own runner has it too.
    pub official: bool,
}

use Kind::{Bool, Choice, Count, Duration, DurationOrOff, List, Map, Path, Size, Text};

const fn official(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { path, kind, default, doc, official: true }
}

const fn own(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { path, kind, default, doc, official: false }
}

/// All keys, in the order of the documented example.
pub const KEYS: &[Key] = &[
    official(
        "log.level",
        Choice(&["trace", "debug", "info", "warn", "error", "fatal"]),
        "info",
        "How much the daemon tells about itself. Job output and secrets are never in it.",
    ),
    own("log.format", Choice(&["text", "json"]), "text", "Lines for people or one JSON object per line."),
    official(
        "log.job.dir",
        Path,
        "\"\"",
        "Folder for a local, masked copy of each job's log; empty means none.",
    ),
    official("log.job.retention", Duration, "168h", "How long local copies are kept; 0 keeps them."),
    official("log.job.max_size", Size, "1GB", "The most that one local copy may take; 0 means no limit."),
    official(
        "runner.file",
        Path,
        ".runner",
        "The registration: identity and token, as `register` writes it.",
    ),
    own(
        "runner.state_dir",
        Path,
        "\"\"",
        "Folder for journals, lock, agent and health socket, 0700. Empty: the registration's name with `.state` behind it.",
    ),
    official("runner.capacity", Count(1), "1", "How many jobs may run at once."),
    official("runner.envs", Map, "{}", "Environment of every job."),
    official(
        "runner.env_file",
        Path,
        ".env",
        "More of it, one NAME=value per line; wins over `envs`, and may be missing.",
    ),
    official("runner.timeout", Duration, "3h", "The longest that a job may take."),
    official(
        "runner.shutdown_timeout",
        Duration,
        "0s",
        "How long a stopping daemon lets its jobs go on before it cancels them; 0 cancels at once. Give the service \
         manager a longer limit.",
    ),
    official(
        "runner.insecure",
        Bool,
        "false",
        "Accept any certificate of the instance, also when actions are cloned from it.",
    ),
    own("runner.ca_file", Path, "\"\"", "PEM file with authorities to trust beside the system's."),
    own(
        "runner.transport",
        Choice(&["grpc-web", "grpc", "auto"]),
        "grpc-web",
        "How the instance is spoken to. grpc-web works everywhere; grpc needs TLS and h2 up to Gitea itself; auto tries.",
    ),
    official("runner.fetch_timeout", Duration, "5s", "The longest that one poll may take; at most 60s."),
    official("runner.fetch_interval", Duration, "2s", "The wait between two polls."),
    official(
        "runner.fetch_interval_max",
        Duration,
        "5s",
        "What that wait grows to while there is nothing to do.",
    ),
    official(
        "runner.workdir_cleanup_age",
        Duration,
        "24h",
        "0: never remove what earlier jobs have left. Any other age: whatever belongs to no running job is removed, however young.",
    ),
    official(
        "runner.idle_cleanup_interval",
        Duration,
        "10m",
        "How often an idle daemon looks for what earlier jobs have left; 0: only at start.",
    ),
    official(
        "runner.log_report_interval",
        Duration,
        "5s",
        "Upper bound of the wait before log rows are sent.",
    ),
    official("runner.log_report_max_latency", Duration, "3s", "Upper bound of the wait of a first row."),
    official(
        "runner.log_report_batch_size",
        Count(1),
        "100",
        "Rows that are sent without waiting any longer. Requests may carry more when rows come faster than that.",
    ),
    official(
        "runner.state_report_interval",
        Duration,
        "2s",
        "How often a silent job reports its state; a cancel is seen at the latest then. The official default is 5s.",
    ),
    official(
        "runner.report_close_timeout",
        Duration,
        "10s",
        "The longest that one try of a last report may take.",
    ),
    official(
        "runner.github_mirror",
        Text,
        "\"\"",
        "Address that actions are cloned from instead of https://github.com.",
    ),
    official(
        "runner.action_shallow_clone",
        Bool,
        "true",
        "Fetch an action's one commit without its history.",
    ),
    official("runner.set_act_env", Bool, "true", "Set ACT=true in every job."),
    official(
        "runner.patch_actions",
        Bool,
        "true",
        "Let the stock artifact and cache actions accept this server: a copy of them in the action store is patched, and a row says so.",
    ),
    own(
        "runner.node_dir",
        Path,
        "\"\"",
        "Folder with bin/node, mounted read-only for actions where the image has no node; empty: none is supplied.",
    ),
    official(
        "runner.labels",
        List,
        "[]",
        "Labels, each NAME:host or NAME:docker://IMAGE. When there are any, they replace those of the registration.",
    ),
    official(
        "runner.allocate_pty",
        Bool,
        "false",
        "Give the processes of steps a terminal, with nobody at it; containers of docker actions have none.",
    ),
    official(
        "runner.default_image",
        Text,
        "\"\"",
        "Image for jobs that match no label. Without one such a job fails; it never goes to the host.",
    ),
    official(
        "runner.tool_cache_mode",
        Choice(&["none", "shared"]),
        "none",
        "Whether jobs share one tool cache (RUNNER_TOOL_CACHE), in the volume act-toolcache or the state folder.",
    ),
    official(
        "runner.post_task_script",
        Path,
        "\"\"",
        "Program of the host that runs after each reported job, with GITEA_TASK_ID, GITEA_RUN_ID, GITEA_REPOSITORY, GITEA_WORKSPACE (as the job saw it; it may be gone) and GITEA_JOB_RESULT.",
    ),
    official("runner.post_task_script_timeout", Duration, "5m", "The longest that it may take."),
    official("runner.hooks.job_started", Path, "\"\"", "Script that runs before a job's first step."),
    official("runner.hooks.job_completed", Path, "\"\"", "Script that runs after a job's last step."),
    official("cache.enabled", Bool, "true", "Serve a cache to the jobs."),
    official("cache.dir", Path, "\"\"", "Folder of the cache; empty: ~/.cache/actcache."),
    official(
        "cache.host",
        Text,
        "\"\"",
        "Address that jobs reach the cache at; empty: worked out and tried from inside the job.",
    ),
    official("cache.port", Count(0), "0", "Port of the cache; 0: any free one."),
    official(
        "cache.external_server",
        Text,
        "\"\"",
        "URL of a cache server (`esteira cache-server`) that is used instead.",
    ),
    official("cache.external_secret", Text, "\"\"", "The secret shared with it."),
    official("cache.external_secret_file", Path, "\"\"", "File with that secret."),
    official(
        "cache.offline_mode",
        Bool,
        "false",
        "Use actions that are already here without asking for newer ones.",
    ),
    official("cache.v2", Bool, "true", "Offer the second version of the cache protocol."),
    official("cache.retention", Duration, "168h", "Entries unused for this long are dropped."),
    official(
        "cache.repo_size_limit",
        Size,
        "10GB",
        "The most that one repository's entries may take; 0: no limit.",
    ),
    official("cache.size_limit", Size, "0", "The most that all entries may take; 0: no limit."),
    official("cache.sweep_interval", Duration, "1h", "How often the cache is swept."),
    official(
        "container.network",
        Text,
        "\"\"",
        "Network of job containers: empty for one of its own per job with services and the bridge for others, host, bridge or a network's name.",
    ),
    official(
        "container.network_create_options.enable_ipv4",
        Bool,
        "",
        "IPv4 in the jobs' own networks; unset: the engine's default.",
    ),
    official(
        "container.network_create_options.enable_ipv6",
        Bool,
        "",
        "IPv6 in the jobs' own networks; unset: the engine's default.",
    ),
    official("container.network_mode", Text, "\"\"", "Older name of `network`; bridge means empty."),
    official(
        "container.privileged",
        Bool,
        "false",
        "Run job containers privileged, and grant every container option.",
    ),
    official(
        "container.options",
        Text,
        "\"\"",
        "Options of `docker create` for every job container, before the job's own.",
    ),
    official(
        "container.workdir_parent",
        Text,
        "workspace",
        "Parent of the jobs' working directories inside the container.",
    ),
    official(
        "container.valid_volumes",
        List,
        "[]",
        "Patterns of volumes and host folders that jobs may mount; nothing by default, ** for everything. Links are followed before the check, where the runner runs; a path that only the engine has must be listed without a wildcard.",
    ),
    official(
        "container.docker_host",
        Text,
        "\"\"",
        "The engine: empty finds it, and jobs get no socket; automount finds it and mounts its socket into jobs; - finds it; \
         an address uses that engine and mounts its socket into jobs. The official default mounts the socket.",
    ),
    official("container.force_pull", Bool, "false", "Pull images that are already here."),
    official("container.force_rebuild", Bool, "false", "Build images of actions that are already here."),
    official(
        "container.require_docker",
        Bool,
        "false",
        "Do not start without an engine, even if no label needs one.",
    ),
    official("container.docker_timeout", Duration, "0s", "How long the start waits for the engine."),
    official(
        "container.bind_workdir",
        Bool,
        "false",
        "Mount a folder of the host as the workspace instead of a volume: a folder of the task's own below `workdir_parent`, under the same path on the host and inside.",
    ),
    official(
        "container.service_ready_timeout",
        DurationOrOff,
        "5m",
        "How long services may take to get healthy; negative: do not wait. Those without a health check are waited for until their TCP port opens, 10s at most.",
    ),
    official(
        "host.workdir_parent",
        Path,
        "\"\"",
        "Parent of host jobs' folders; empty: in the state folder.",
    ),
    official(
        "health_check.enabled",
        Bool,
        "false",
        "Check free disk space and the script below before fetching jobs.",
    ),
    official(
        "health_check.min_free_disk_space_mb",
        Count(0),
        "1024",
        "Fetch no job when less is free where jobs work.",
    ),
    official(
        "health_check.script",
        Path,
        "\"\"",
        "Program of the host; fetch no job when it fails. Runs only between jobs.",
    ),
    official("health_check.interval", Duration, "30s", "How often the checks run."),
    official("health_check.timeout", Duration, "10s", "The longest that the script may take."),
    official("metrics.enabled", Bool, "false", "Serve /metrics, /healthz and /readyz."),
    official("metrics.addr", Text, "127.0.0.1:9101", "Where."),
    official(
        "metrics.readiness_grace",
        Duration,
        "30s",
        "How long the instance may be away before /readyz says no.",
    ),
];

/// The key at a dotted path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether keys begin with `path` and a dot.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The known name that `wrong` probably means.
pub fn nearest(wrong: &str) -> Option<&'static str> {
    let best = KEYS.iter().map(|key| (distance(wrong, key.path), key.path)).min()?;
    (best.0 <= 3).then_some(best.1)
}

/// Edits between two short names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
