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

/// How far this version goes with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does what it says.
    Obeyed,
    /// Set to something else than its default it does nothing yet, and the start says so.
    NotYet,
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
    /// How far this version goes with it.
    pub standing: Standing,
}

use Kind::{Bool, Choice, Count, Duration, DurationOrOff, List, Map, Path, Size, Text};
use Standing::{NotYet, Obeyed};

const fn official(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    standing: Standing,
    doc: &'static str,
) -> Key {
    Key { path, kind, default, doc, official: true, standing }
}

const fn own(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    standing: Standing,
    doc: &'static str,
) -> Key {
    Key { path, kind, default, doc, official: false, standing }
}

/// All keys, in the order of the documented example.
pub const KEYS: &[Key] = &[
    official(
        "log.level",
        Choice(&["trace", "debug", "info", "warn", "error", "fatal"]),
        "info",
        Obeyed,
        "How much the daemon tells about itself. Job output and secrets are never in it.",
    ),
    own(
        "log.format",
        Choice(&["text", "json"]),
        "text",
        Obeyed,
        "Lines for people or one JSON object per line.",
    ),
    official(
        "log.job.dir",
        Path,
        "\"\"",
        Obeyed,
        "Folder for a local, masked copy of each job's log; empty means none.",
    ),
    official("log.job.retention", Duration, "168h", Obeyed, "How long local copies are kept; 0 keeps them."),
    official(
        "log.job.max_size",
        Size,
        "1GB",
        Obeyed,
        "The most that one local copy may take; 0 means no limit.",
    ),
    official(
        "runner.file",
        Path,
        ".runner",
        Obeyed,
        "The registration: identity and token, as `register` writes it.",
    ),
    own(
        "runner.state_dir",
        Path,
        "\"\"",
        Obeyed,
        "Folder for journals, lock, agent and health socket, 0700. Empty: the registration's name with `.state` behind it.",
    ),
    official("runner.capacity", Count(1), "1", Obeyed, "How many jobs may run at once."),
    official("runner.envs", Map, "{}", Obeyed, "Environment of every job."),
    official(
        "runner.env_file",
        Path,
        ".env",
        Obeyed,
        "More of it, one NAME=value per line; wins over `envs`, and may be missing.",
    ),
    official("runner.timeout", Duration, "3h", Obeyed, "The longest that a job may take."),
    official(
        "runner.shutdown_timeout",
        Duration,
        "0s",
        Obeyed,
        "How long a stopping daemon lets its jobs go on before it cancels them; 0 cancels at once. Give the service \
         manager a longer limit.",
    ),
    official(
        "runner.insecure",
        Bool,
        "false",
        Obeyed,
        "Accept any certificate of the instance, also when actions are cloned from it.",
    ),
    own("runner.ca_file", Path, "\"\"", Obeyed, "PEM file with authorities to trust beside the system's."),
    own(
        "runner.transport",
        Choice(&["grpc-web", "grpc", "auto"]),
        "grpc-web",
        Obeyed,
        "How the instance is spoken to. grpc-web works everywhere; grpc needs TLS and h2 up to Gitea itself; auto tries.",
    ),
    official(
        "runner.fetch_timeout",
        Duration,
        "5s",
        Obeyed,
        "The longest that one poll may take; at most 60s.",
    ),
    official("runner.fetch_interval", Duration, "2s", Obeyed, "The wait between two polls."),
    official(
        "runner.fetch_interval_max",
        Duration,
        "5s",
        Obeyed,
        "What that wait grows to while there is nothing to do.",
    ),
    official(
        "runner.workdir_cleanup_age",
        Duration,
        "24h",
        Obeyed,
        "0: never remove what earlier jobs have left. Any other age: whatever belongs to no running job is removed, however young.",
    ),
    official(
        "runner.idle_cleanup_interval",
        Duration,
        "10m",
        Obeyed,
        "How often an idle daemon looks for what earlier jobs have left; 0: only at start.",
    ),
    official(
        "runner.log_report_interval",
        Duration,
        "5s",
        Obeyed,
        "Upper bound of the wait before log rows are sent.",
    ),
    official(
        "runner.log_report_max_latency",
        Duration,
        "3s",
        Obeyed,
        "Upper bound of the wait of a first row.",
    ),
    official(
        "runner.log_report_batch_size",
        Count(1),
        "100",
        Obeyed,
        "Rows that are sent without waiting any longer. Requests may carry more when rows come faster than that.",
    ),
    official(
        "runner.state_report_interval",
        Duration,
        "2s",
        Obeyed,
        "How often a silent job reports its state; a cancel is seen at the latest then. The official default is 5s.",
    ),
    official(
        "runner.report_close_timeout",
        Duration,
        "10s",
        Obeyed,
        "The longest that one try of a last report may take.",
    ),
    official(
        "runner.github_mirror",
        Text,
        "\"\"",
        Obeyed,
        "Address that actions are cloned from instead of https://github.com.",
    ),
    official(
        "runner.action_shallow_clone",
        Bool,
        "true",
        NotYet,
        "Clone only the one commit of an action, which is what always happens here.",
    ),
    official("runner.set_act_env", Bool, "true", Obeyed, "Set ACT=true in every job."),
    official(
        "runner.patch_actions",
        Bool,
        "true",
        Obeyed,
        "Let the stock artifact and cache actions accept this server: a copy of them in the action store is patched, and a row says so.",
    ),
    own(
        "runner.node_dir",
        Path,
        "\"\"",
        Obeyed,
        "Folder with bin/node, mounted read-only for actions where the image has no node; empty: none is supplied.",
    ),
    official(
        "runner.labels",
        List,
        "[]",
        Obeyed,
        "Labels, each NAME:host or NAME:docker://IMAGE. When there are any, they replace those of the registration.",
    ),
    official("runner.allocate_pty", Bool, "false", NotYet, "Give steps a terminal."),
    official(
        "runner.default_image",
        Text,
        "\"\"",
        Obeyed,
        "Image for jobs that match no label. Without one such a job fails; it never goes to the host.",
    ),
    official(
        "runner.tool_cache_mode",
        Choice(&["none", "shared"]),
        "none",
        Obeyed,
        "Whether jobs share one tool cache (RUNNER_TOOL_CACHE), in the volume act-toolcache or the state folder.",
    ),
    official(
        "runner.post_task_script",
        Path,
        "\"\"",
        Obeyed,
        "Program of the host that runs after each reported job.",
    ),
    official("runner.post_task_script_timeout", Duration, "5m", Obeyed, "The longest that it may take."),
    official("runner.hooks.job_started", Path, "\"\"", Obeyed, "Script that runs before a job's first step."),
    official("runner.hooks.job_completed", Path, "\"\"", Obeyed, "Script that runs after a job's last step."),
    official("cache.enabled", Bool, "true", Obeyed, "Serve a cache to the jobs."),
    official("cache.dir", Path, "\"\"", Obeyed, "Folder of the cache; empty: ~/.cache/actcache."),
    official(
        "cache.host",
        Text,
        "\"\"",
        Obeyed,
        "Address that jobs reach the cache at; empty: worked out and tried from inside the job.",
    ),
    official("cache.port", Count(0), "0", Obeyed, "Port of the cache; 0: any free one."),
    official(
        "cache.external_server",
        Text,
        "\"\"",
        Obeyed,
        "URL of a cache server (`esteira cache-server`) that is used instead.",
    ),
    official("cache.external_secret", Text, "\"\"", Obeyed, "The secret shared with it."),
    official("cache.external_secret_file", Path, "\"\"", Obeyed, "File with that secret."),
    official(
        "cache.offline_mode",
        Bool,
        "false",
        Obeyed,
        "Use actions that are already here without asking for newer ones.",
    ),
    official("cache.v2", Bool, "true", Obeyed, "Offer the second version of the cache protocol."),
    official("cache.retention", Duration, "168h", Obeyed, "Entries unused for this long are dropped."),
    official(
        "cache.repo_size_limit",
        Size,
        "10GB",
        Obeyed,
        "The most that one repository's entries may take; 0: no limit.",
    ),
    official("cache.size_limit", Size, "0", Obeyed, "The most that all entries may take; 0: no limit."),
    official("cache.sweep_interval", Duration, "1h", Obeyed, "How often the cache is swept."),
    official(
        "container.network",
        Text,
        "\"\"",
        Obeyed,
        "Network of job containers: empty for one of its own per job with services and the bridge for others, host, bridge or a network's name.",
    ),
    official(
        "container.network_create_options.enable_ipv4",
        Bool,
        "",
        Obeyed,
        "IPv4 in the jobs' own networks; unset: the engine's default.",
    ),
    official(
        "container.network_create_options.enable_ipv6",
        Bool,
        "",
        Obeyed,
        "IPv6 in the jobs' own networks; unset: the engine's default.",
    ),
    official("container.network_mode", Text, "\"\"", Obeyed, "Older name of `network`; bridge means empty."),
    official(
        "container.privileged",
        Bool,
        "false",
        Obeyed,
        "Run job containers privileged, and grant every container option.",
    ),
    official(
        "container.options",
        Text,
        "\"\"",
        Obeyed,
        "Options of `docker create` for every job container, before the job's own.",
    ),
    official(
        "container.workdir_parent",
        Text,
        "workspace",
        Obeyed,
        "Parent of the jobs' working directories inside the container.",
    ),
    official(
        "container.valid_volumes",
        List,
        "[]",
        Obeyed,
        "Patterns of volumes and host folders that jobs may mount; nothing by default, ** for everything.",
    ),
    official(
        "container.docker_host",
        Text,
        "\"\"",
        Obeyed,
        "The engine: empty finds it, and jobs get no socket; automount finds it and mounts its socket into jobs; - finds it; \
         an address uses that engine and mounts its socket into jobs. The official default mounts the socket.",
    ),
    official("container.force_pull", Bool, "false", Obeyed, "Pull images that are already here."),
    official(
        "container.force_rebuild",
        Bool,
        "false",
        Obeyed,
        "Build images of actions that are already here.",
    ),
    official(
        "container.require_docker",
        Bool,
        "false",
        Obeyed,
        "Do not start without an engine, even if no label needs one.",
    ),
    official("container.docker_timeout", Duration, "0s", Obeyed, "How long the start waits for the engine."),
    official(
        "container.bind_workdir",
        Bool,
        "false",
        Obeyed,
        "Mount a folder of the host as the workspace instead of a volume: a folder of the task's own below `workdir_parent`, under the same path on the host and inside.",
    ),
    official(
        "container.service_ready_timeout",
        DurationOrOff,
        "5m",
        Obeyed,
        "How long services may take to get healthy; negative: do not wait. Those without a health check are waited for until their TCP port opens, 10s at most.",
    ),
    official(
        "host.workdir_parent",
        Path,
        "\"\"",
        Obeyed,
        "Parent of host jobs' folders; empty: in the state folder.",
    ),
    official(
        "health_check.enabled",
        Bool,
        "false",
        Obeyed,
        "Check free disk space and the script below before fetching jobs.",
    ),
    official(
        "health_check.min_free_disk_space_mb",
        Count(0),
        "1024",
        Obeyed,
        "Fetch no job when less is free where jobs work.",
    ),
    official(
        "health_check.script",
        Path,
        "\"\"",
        Obeyed,
        "Program of the host; fetch no job when it fails. Runs only between jobs.",
    ),
    official("health_check.interval", Duration, "30s", Obeyed, "How often the checks run."),
    official("health_check.timeout", Duration, "10s", Obeyed, "The longest that the script may take."),
    official("metrics.enabled", Bool, "false", Obeyed, "Serve /metrics, /healthz and /readyz."),
    official("metrics.addr", Text, "127.0.0.1:9101", Obeyed, "Where."),
    official(
        "metrics.readiness_grace",
        Duration,
        "30s",
        Obeyed,
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
