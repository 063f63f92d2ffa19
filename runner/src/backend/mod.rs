//! Where steps run: a container or the host, behind one small contract.
//!
//! # The contract
//!
//! - `prepare` makes one place for one job. If it fails it has undone itself.
//! - Everything that is created carries the runner's uuid and the task's id as labels (containers, networks, volumes)
//!   or the tracking id in its environment (processes), so that a later start can name what a crash has left.
//! - [`JobEnv::exec`] answers `Ok` for *any* end of the process, exit code or signal; after a cancel it answers only
//!   when the process tree is gone or has been declared lost. Output is handed over in order while it comes, and also
//!   while the process is dying. It costs no request to the engine.
//! - [`JobEnv::teardown`] survives missing pieces, has its own clock, and reports what it could not remove.
//! - A backend knows no workflows: it gets argv, environment and paths. It never sees an expression or a step.

pub mod docker;
pub mod host;
mod link;

use std::{collections::BTreeMap, future::Future, time::Duration};

use crate::cancel::Cancel;

/// Which of a process's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes what a process prints, in order, in pieces of any size (a piece may end inside a line, a character or a secret).
pub trait Output: Send {
    /// Takes one piece; waits while the far side is slow.
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> impl Future<Output = ()> + Send;
}

/// Takes rows about the preparation and the end of a place (pull progress, service logs). Implemented by the job's log.
pub trait Notes: Send + Sync {
    /// One line, not yet masked: the implementor masks it.
    fn note(&self, line: &str) -> impl Future<Output = ()> + Send;
}

/// One place for one job.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// A name for people, unique among running jobs of this runner: `<task id>-<job id>`.
    pub name: String,
    /// The server's task id (for `exec`: a number of its own), for labels.
    pub task: i64,
    /// Labels or ownership: the uuid of this runner, or the session's id of an `exec`.
    pub owner: String,
    /// `owner/name` of the repository: makes the workspace path.
    pub repository: String,
    /// The job container; `None` on the host backend.
    pub container: Option<ContainerSpec>,
    /// Service containers, in the file's order.
    pub services: Vec<ServiceSpec>,
    /// Environment of the place itself, below what each process gets: proxies, `RUNNER_*` facts, locale.
    pub env: BTreeMap<String, String>,
    /// Files that have to be in the place before the first process, below [`Layout::temp`] or [`Layout::home`].
    pub files: Vec<FileIn>,
    /// A host folder that is shown as the workspace instead of an empty one (`bind_workdir`, `exec --bind`).
    pub bind_workspace: Option<std::path::PathBuf>,
    /// A host folder with `bin/node`, shown read-only for actions where the place has no node of its own.
    pub node: Option<std::path::PathBuf>,
}

/// A job container or the container of a docker action, with every option that was granted.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    /// Image reference without `docker://`.
    pub image: String,
    /// User and password of the image's registry, both not empty.
    pub credentials: Option<Credentials>,
    /// `env` of the container.
    pub env: BTreeMap<String, String>,
    /// `ports`, as written.
    pub ports: Vec<String>,
    /// `volumes`, as written; the backend checks them against `valid_volumes`.
    pub volumes: Vec<String>,
    /// `options`, as written; the backend parses them against its allow-list.
    pub options: String,
}

/// A service container.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// The key under `services`, which is also its network alias.
    pub id: String,
    /// What to start.
    pub container: ContainerSpec,
    /// Gitea's `cmd`: replaces the image's command.
    pub command: Vec<String>,
    /// `entrypoint`: replaces the image's entry point.
    pub entrypoint: Vec<String>,
}

/// User and password of a registry.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password.
    pub password: crate::secret::Secret<String>,
}

/// Where things are *inside* the place. Path translation happens nowhere else.
#[derive(Debug, Clone)]
pub struct Layout {
    /// `github.workspace`.
    pub workspace: String,
    /// `runner.temp`: scripts, command files, the event file.
    pub temp: String,
    /// `runner.tool_cache`.
    pub tool_cache: String,
    /// Where actions are unpacked, one folder each.
    pub actions: String,
    /// `HOME` of processes that the image or host gives none.
    pub home: String,
    /// The node that the runner supplies; empty when it was given none.
    pub node: String,
    /// Environment that the place itself brings (the image's `ENV`, the host's allow-list), `PATH` included.
    pub environ: BTreeMap<String, String>,
    /// `Linux`.
    pub os: &'static str,
    /// `X64`, `ARM64`, `ARM`, `X86`, …
    pub arch: &'static str,
    /// Whether steps run in a container (`sh -e` or `bash` defaults, `job.container`).
    pub in_container: bool,
    /// `job.container.id` and `job.container.network`, empty on the host.
    pub container_id: String,
    /// The job's network, empty on the host.
    pub network: String,
    /// `job.services.<id>`: container id, network and mapped ports (container port to host port).
    pub services: BTreeMap<String, ServiceFacts>,
}

/// What `job.services.<id>` shows.
#[derive(Debug, Clone, Default)]
pub struct ServiceFacts {
    /// The container's id.
    pub id: String,
    /// The network it is on.
    pub network: String,
    /// Container port (`5432`, or `53/udp` for other protocols) to host port.
    pub ports: BTreeMap<String, String>,
}

/// A file that is written inside before a process starts.
#[derive(Debug, Clone)]
pub struct FileIn {
    /// Absolute path inside; missing folders are made.
    pub path: String,
    /// Unix mode, e.g. `0o644`.
    pub mode: u32,
    /// Its content.
    pub bytes: bytes::Bytes,
}

/// A file that is read back inside after a process has ended.
#[derive(Debug, Clone)]
pub struct FileOut {
    /// Absolute path inside.
    pub path: String,
    /// At most this many bytes; a longer file answers [`Collected::TooLarge`].
    pub limit: u64,
    /// A folder: a link is followed when it stays below it. Without one no link is, and without an agent none ever.
    pub within: Option<String>,
}

/// What became of a [`FileOut`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collected {
    /// Its content.
    Content(bytes::Bytes),
    /// There is no such file.
    Missing,
    /// It is longer than the limit; its length in bytes.
    TooLarge(u64),
    /// It is no regular file (a link, a pipe, a folder), or could not be read: the reason.
    Refused(String),
}

/// How long a process tree has after each signal: INT at once, then TERM, then KILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    /// From INT to TERM.
    pub interrupt: Duration,
    /// From TERM to KILL.
    pub terminate: Duration,
}

impl Default for Ladder {
    /// GitHub's: 7.5 s and 2.5 s.
    fn default() -> Self {
        Self { interrupt: Duration::from_millis(7500), terminate: Duration::from_millis(2500) }
    }
}

/// One process, with the files around it.
#[derive(Debug, Clone)]
pub struct ExecSpec {
    /// Program and arguments; the program is looked up in the `PATH` of `env` when it has no slash.
    pub argv: Vec<String>,
    /// The whole environment, nothing is added.
    pub env: BTreeMap<String, String>,
    /// Absolute working directory inside.
    pub cwd: String,
    /// Written before the process starts, in order.
    pub files: Vec<FileIn>,
    /// Read after it has ended, in order.
    pub collect: Vec<FileOut>,
    /// Used when it is cancelled.
    pub ladder: Ladder,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// It never ran: the program was not found or may not be run, or the folder is missing. One sentence.
    NotStarted(String),
}

/// What is known after a process has ended.
#[derive(Debug, Clone)]
pub struct ExecOutcome {
    /// How it ended.
    pub exit: Exit,
    /// One for each [`ExecSpec::collect`], in its order.
    pub files: Vec<Collected>,
    /// Whether a background process still held its output when the step was let go.
    pub output_held: bool,
    /// Processes that survived KILL after a cancel, `name (pid)` each; nearly always empty.
    pub lost: Vec<String>,
}

/// A container of its own beside the job: a docker action or a `docker://` step. Shares workspace, temp, actions and
/// network with the job.
#[derive(Debug, Clone)]
pub struct ImageRun {
    /// What to run; `env` is the whole environment of the process above the image's own.
    pub container: ContainerSpec,
    /// Replaces the image's entry point when not empty.
    pub entrypoint: Vec<String>,
    /// Replaces the image's command when `Some`.
    pub args: Option<Vec<String>>,
    /// Written before it starts (command files).
    pub files: Vec<FileIn>,
    /// Read after it has ended.
    pub collect: Vec<FileOut>,
    /// Used when it is cancelled.
    pub ladder: Ladder,
}

/// An image to be built from a folder inside the place or from an unpacked action.
#[derive(Debug, Clone)]
pub struct ImageBuild {
    /// The build context, as a tar stream's bytes on disk.
    pub context: std::path::PathBuf,
    /// Path of the Dockerfile inside the context.
    pub dockerfile: String,
    /// The tag: derived from the content, so that the same content is never built twice.
    pub tag: String,
    /// Build although the tag is there (`force_rebuild`).
    pub force: bool,
}

/// What stopped a backend from doing its work. A red step is not an error.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The workflow asks for something that this place cannot or may not do. The user reads it as it is.
    #[error("{0}")]
    Refused(String),
    /// An image could not be had: pull, build or credentials.
    #[error("{0}")]
    Image(String),
    /// The place broke under the job: the container died, the agent is gone. With the reason if the engine knows it.
    #[error("{0}")]
    Lost(String),
    /// The engine or the operating system said no.
    #[error("{what}: {source}")]
    Engine {
        /// What was tried, on what.
        what: String,
        /// What came back.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Cancelled while preparing; everything is undone.
    #[error("cancelled")]
    Cancelled,
}

impl BackendError {
    /// An error of the engine or the operating system.
    pub(crate) fn engine(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Engine { what: what.into(), source: source.into() }
    }
}

impl From<link::LinkError> for BackendError {
    fn from(error: link::LinkError) -> Self {
        match error {
            link::LinkError::Lost(reason) => Self::Lost(format!("the job's environment is lost: {reason}")),
            link::LinkError::Failed(reason) => Self::Refused(reason),
            link::LinkError::Local(what, source) => Self::engine(what, source),
        }
    }
}

/// What every tracking id of this program begins with.
const TRACKING_PREFIX: &str = "esteira_";

/// The value of `RUNNER_TRACKING_ID` that every process of a job must get: on the host, leftovers are found by it.
pub fn tracking_id(owner: &str, task: i64) -> String {
    format!("{TRACKING_PREFIX}{owner}_{task}")
}

/// `runner.arch` for what `uname -m` says.
fn arch(machine: &str) -> &'static str {
    match machine {
        "x86_64" | "amd64" => "X64",
        "aarch64" | "arm64" => "ARM64",
        "i386" | "i486" | "i586" | "i686" => "X86",
        "riscv64" => "RISCV64",
        "ppc64le" => "PPC64LE",
        "s390x" => "S390X",
        "loongarch64" => "LOONG64",
        other if other.starts_with("arm") => "ARM",
        _ => "X64",
    }
}

/// What `teardown` could not remove, one sentence each.
#[derive(Debug, Default)]
pub struct TeardownReport {
    /// Empty when all went well.
    pub left_over: Vec<String>,
    /// Processes that the job had left running and that were ended: name and pid.
    pub ended: Vec<String>,
}

/// Makes places. Cheap to clone.
pub trait Backend: Clone + Send + Sync + 'static {
    /// What it makes.
    type Env: JobEnv;

    /// Makes one place for one job: image pulled, network and services up, agent answering.
    fn prepare<N: Notes>(
        &self,
        spec: JobSpec,
        notes: &N,
        cancel: &Cancel,
    ) -> impl Future<Output = Result<Self::Env, BackendError>> + Send;
}

/// One prepared place.
pub trait JobEnv: Send + Sync + Sized {
    /// Where things are inside.
    fn layout(&self) -> &Layout;

    /// Runs one process to its end. Cancelling `cancel` starts the ladder on its tree.
    fn exec<O: Output>(
        &self,
        spec: ExecSpec,
        output: &mut O,
        cancel: &Cancel,
    ) -> impl Future<Output = Result<ExecOutcome, BackendError>> + Send;

    /// Unpacks a tar archive (from the runner's disk) into a folder inside; makes the folder, refuses entries that leave it.
    fn unpack(
        &self,
        archive: &std::path::Path,
        into: &str,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Packs a folder inside as a tar archive into a file of the runner's (local docker actions, summaries).
    fn pack(
        &self,
        folder: &str,
        into: &std::path::Path,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Reads one small file inside.
    fn read(&self, file: FileOut) -> impl Future<Output = Result<Collected, BackendError>> + Send;

    /// GitHub's `hashFiles`: SHA-256 over the SHA-256 of each match, hex; empty when nothing matches.
    fn hash_files(
        &self,
        patterns: Vec<String>,
        follow_links: bool,
    ) -> impl Future<Output = Result<String, BackendError>> + Send;

    /// Whether a TCP port answers from inside, now; `None` when nobody inside can be asked.
    fn reaches(&self, address: std::net::IpAddr, port: u16) -> impl Future<Output = Option<bool>> + Send;

    /// Runs a container beside the job. The host backend needs an engine for it and says so when it has none.
    fn run_image<O: Output>(
        &self,
        run: ImageRun,
        output: &mut O,
        cancel: &Cancel,
    ) -> impl Future<Output = Result<ExecOutcome, BackendError>> + Send;

    /// Builds an image unless its tag is there; progress goes to `output`.
    fn build_image<O: Output>(
        &self,
        build: ImageBuild,
        output: &mut O,
        cancel: &Cancel,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Ends what still runs, removes everything. Takes at most `limit`.
    fn teardown(self, limit: Duration) -> impl Future<Output = TeardownReport> + Send;
}
