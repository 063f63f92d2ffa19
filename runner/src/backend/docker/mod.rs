//! Steps in containers: one container for each job, with the agent as its first process.
//!
//! Everything is made with two labels, the owner (this runner's uuid, or an `exec`'s session) and the task, and with
//! names that end in random letters, so that nothing is ever looked for by name. Setting a job up costs the engine two
//! requests (create, start), services add a network and their own, and no step costs any.
//!
//! How the agent is reached is decided once per engine: over a shared socket; where runner and engine share no folder,
//! over the engine's attach; where no program of ours can run, the job's commands go through the engine one by one.

mod attach;
mod auth;
mod batched;
mod beside;
mod bound;
mod build;
mod create;
mod engine;
mod env;
mod image;
mod listening;
mod options;
mod podman;
mod ports;
mod reap;
mod services;
mod setup;
mod timed;
mod transport;
mod units;
mod volumes;
mod words;

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};

pub(super) use beside::{Beside, Share};
pub use engine::Engine;
pub use env::DockerEnv;
pub(super) use env::Files;
pub use reap::Reaped;
pub use timed::Watch;

use super::{Backend, BackendError, JobSpec, Notes};
use crate::cancel::Cancel;

/// Label with the owner.
const OWNER: &str = "esteira.owner";
/// Label with the task's id.
const TASK: &str = "esteira.task";
/// Label of the volumes that hold an agent: its hash.
const AGENT: &str = "esteira.agent";

/// What the configuration says about containers.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// `container.docker_host`: empty, `-`, `automount` or an address.
    pub docker_host: String,
    /// The daemon's environment: where engines and credentials are found. Jobs see nothing of it.
    pub environ: BTreeMap<String, String>,
    /// The state folder: keeps the agent's copy and the jobs' sockets.
    pub state: PathBuf,
    /// This program.
    pub executable: PathBuf,
    /// `container.network`: empty for one of the job's own (made when there are services), else the one to use.
    pub network: String,
    /// `container.network_create_options.enable_ipv4`.
    pub enable_ipv4: Option<bool>,
    /// `container.network_create_options.enable_ipv6`.
    pub enable_ipv6: Option<bool>,
    /// `container.privileged`: all containers are, and every option is granted.
    pub privileged: bool,
    /// `container.options`, before the job's own.
    pub options: String,
    /// `container.workdir_parent`, absolute.
    pub workdir_parent: String,
    /// `container.bind_workdir`: the workspace is a folder of this machine, under the same path.
    pub bind_workdir: bool,
    /// `container.valid_volumes`.
    pub valid_volumes: Vec<String>,
    /// `container.force_pull`.
    pub force_pull: bool,
    /// `container.service_ready_timeout`; `None`: services are not waited for.
    pub service_ready_timeout: Option<Duration>,
    /// A volume that all jobs share as tool cache; `None`: what the image has.
    pub tool_cache: Option<String>,
    /// How the agent is reached.
    pub transport: Transport,
    /// `runner.allocate_pty`: processes that the agent starts have a terminal.
    pub terminal: bool,
}

/// How the agent in a container is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// The first of the others that works with this engine.
    #[default]
    Auto,
    /// A unix socket in a folder that runner and engine share.
    Socket,
    /// The engine's attach; the agent comes in a volume.
    Attach,
    /// No agent: each command is an exec of the engine.
    Exec,
}

/// What all jobs of an engine share.
#[derive(Debug)]
struct Shared {
    config: DockerConfig,
    engine: Engine,
    allowed: volumes::Allowed,
    agent: AgentCopy,
    /// What has been found out about [`Transport::Auto`].
    transport: AtomicU8,
    /// Whether the agent's volume has been seen to be full.
    filled: tokio::sync::Mutex<bool>,
}

/// The executable as jobs get it.
#[derive(Debug)]
struct AgentCopy {
    path: PathBuf,
    /// SHA-256 of all of it.
    hash: String,
    fingerprint: String,
}

/// Makes places in containers.
#[derive(Debug, Clone)]
pub struct DockerBackend {
    shared: Arc<Shared>,
}

impl DockerBackend {
    /// Finds the engine, asks for its version (one request), and puts the agent's copy into the state folder.
    pub async fn connect(config: DockerConfig) -> Result<Self, BackendError> {
        Self::connect_watched(config, Watch::default()).await
    }

    /// The same, and every request is told to `watch`.
    pub async fn connect_watched(config: DockerConfig, watch: Watch) -> Result<Self, BackendError> {
        let engine = engine::connect(&config.docker_host, &config.environ, watch).await?;
        let allowed = volumes::Allowed::new(&config.valid_volumes).map_err(BackendError::Refused)?;
        let (state, executable) = (config.state.clone(), config.executable.clone());
        let copied = tokio::task::spawn_blocking(move || copy_agent(&state, &executable)).await;
        let agent = copied
            .map_err(|error| BackendError::engine("copying the agent", error))?
            .map_err(|error| BackendError::engine("copying the agent into the state folder", error))?;
        let transport = match config.transport {
            Transport::Auto if !engine.runs_our_programs() => Transport::Exec,
            Transport::Auto if engine.socket().is_none() => Transport::Attach,
            Transport::Auto => Transport::Socket,
            chosen => chosen,
        };
        let transport = AtomicU8::new(transport as u8);
        let filled = tokio::sync::Mutex::new(false);
        Ok(Self { shared: Arc::new(Shared { config, engine, allowed, agent, transport, filled }) })
    }

    /// The engine's name and version, and where it was found.
    pub fn describe(&self) -> String {
        format!("{} at {}", self.shared.engine.product, self.shared.engine.address)
    }

    /// The engine's architecture as Docker names it: `amd64`, `arm64`, …
    pub fn arch(&self) -> &str {
        &self.shared.engine.arch
    }

    /// Whether the engine answers now, within `limit`. One request.
    pub async fn ping(&self, limit: Duration) -> Result<(), BackendError> {
        let what = || format!("the container engine at {}", self.shared.engine.address);
        match tokio::time::timeout(limit, self.shared.engine.docker.ping()).await {
            Ok(answer) => answer.map(drop).map_err(engine::failed(what())),
            Err(_) => Err(BackendError::engine(
                what(),
                io::Error::other(format!("no answer within {} s", limit.as_secs())),
            )),
        }
    }

    /// Makes sure that an image is there: pulls it when it is not.
    pub async fn obtain_image<N: Notes>(&self, image: &str, notes: &N) -> Result<(), BackendError> {
        if self.has_image(image).await? {
            return Ok(());
        }
        let wanted = image::Wanted { image, credentials: None, platform: None, pull: None };
        image::pull(&self.shared, &wanted, notes).await
    }

    /// Whether an image is there. One request.
    pub async fn has_image(&self, image: &str) -> Result<bool, BackendError> {
        match self.shared.engine.docker.inspect_image(image).await {
            Ok(_) => Ok(true),
            Err(error) if engine::status(&error) == Some(404) => Ok(false),
            Err(error) => Err(engine::failed(format!("looking for the image {image}"))(error)),
        }
    }
}

impl Backend for DockerBackend {
    type Env = DockerEnv;

    async fn prepare<N: Notes>(
        &self,
        spec: JobSpec,
        notes: &N,
        cancel: &Cancel,
    ) -> Result<DockerEnv, BackendError> {
        let (owner, task) = (spec.owner.clone(), spec.task);
        let prepared = tokio::select! {
            biased;
            _ = cancel.cancelled() => Err(BackendError::Cancelled),
            env = Box::pin(setup::prepare(&self.shared, spec, notes, cancel)) => env,
        };
        if prepared.is_err() {
            // A request may have been under way: the second look finds what it has made.
            for pause in [0, 300] {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                self.remove_task(&owner, task).await;
            }
        }
        prepared
    }
}

impl Shared {
    fn transport(&self) -> Transport {
        match self.transport.load(Ordering::Relaxed) {
            transport if transport == Transport::Socket as u8 => Transport::Socket,
            transport if transport == Transport::Attach as u8 => Transport::Attach,
            _ => Transport::Exec,
        }
    }

    /// This engine cannot be reached like that, whatever the image.
    fn remember(&self, transport: Transport) {
        self.transport.store(transport as u8, Ordering::Relaxed);
    }
}

fn labels(owner: &str, task: i64) -> HashMap<String, String> {
    HashMap::from([(OWNER.to_owned(), owner.to_owned()), (TASK.to_owned(), task.to_string())])
}

/// A name for an object of a job, at most 63 characters, never used twice.
fn name(job: &str, part: &str) -> String {
    let plain: String = job
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || matches!(char, '.' | '_') { char } else { '-' })
        .take(24)
        .collect();
    let part: String =
        part.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).take(12).collect();
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("esteira-{plain}-{part}-{}", &random[..12])
}

/// Puts the executable into the state folder under its hash, whole or not at all.
fn copy_agent(state: &Path, executable: &Path) -> io::Result<AgentCopy> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(state)?;
    let mut digest = Sha256::new();
    let mut reader = fs::File::open(executable)?;
    io::copy(&mut reader, &mut crate::agent::hash::Feed(&mut digest))?;
    let hash = crate::agent::hash::hex(&digest.finalize());
    let path = fs::canonicalize(state)?.join(format!("agent-{hash}"));
    let length = fs::metadata(executable)?.len();
    if fs::metadata(&path).map_or(0, |there| there.len()) != length {
        let part = tempfile::NamedTempFile::new_in(state)?;
        fs::copy(executable, part.path())?;
        fs::set_permissions(part.path(), fs::Permissions::from_mode(0o755))?;
        part.persist(&path).map_err(|error| error.error)?;
    }
    Ok(AgentCopy { fingerprint: crate::agent::fingerprint(&path)?, path, hash })
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_name_is_short_plain_and_never_the_same() {
        let job = "7-build (ubuntu, [1, 2]) ä and a very long matrix of many words";
        let (one, two) = (name(job, "job"), name(job, "job"));
        assert_ne!(one, two);
        assert!(one.len() <= 63 && one.starts_with("esteira-7-build"), "{one}");
        assert!(one.chars().all(|char| char.is_ascii_alphanumeric() || "-_.".contains(char)), "{one}");
    }
}
