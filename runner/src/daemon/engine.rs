//! The container engine of a daemon, which may come later than the daemon, and go and come again.
//!
//! It is connected to when it is first needed. Until then, and whenever it does not answer, no job is fetched that
//! might need it.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{sync::OnceCell, time::Instant};

use super::{gate::Probe, sweep::IsLive};
use crate::{
    backend::{
        Backend, BackendError, JobSpec, Notes,
        docker::{DockerBackend, DockerConfig, DockerEnv, Transport, Watch},
    },
    cancel::Cancel,
    metrics::Metrics,
    settings::{Container, Environment, Settings},
};

/// How long a sign of life may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The volume that jobs share as tool cache, under the name that Gitea's own runner gives it.
const TOOL_CACHE: &str = "act-toolcache";

/// What surprises operators of Gitea's own runner.
const NO_SOCKET: &str = "jobs do not get the engine's socket, unlike with Gitea's own runner: \
                         `container.docker_host: automount` gives it to them, which makes every workflow root on this host";

/// The engine, connected to or not. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Engine {
    config: Arc<DockerConfig>,
    watch: Watch,
    backend: Arc<OnceCell<DockerBackend>>,
}

impl Engine {
    /// As the configuration says. Nothing is connected to yet.
    pub fn new(settings: &Settings, environment: &Environment, state: &Path, executable: &Path) -> Self {
        let container = &settings.container;
        let config = DockerConfig {
            docker_host: container.docker_host.clone(),
            environ: environment.all.clone(),
            state: state.to_owned(),
            executable: executable.to_owned(),
            network: container.network.clone(),
            enable_ipv4: container.network_create_options.enable_ipv4,
            enable_ipv6: container.network_create_options.enable_ipv6,
            privileged: container.privileged,
            options: container.options.clone(),
            workdir_parent: container.workdir_parent.clone(),
            bind_workdir: container.bind_workdir,
            valid_volumes: container.valid_volumes.clone(),
            force_pull: container.force_pull,
            service_ready_timeout: container.service_ready_timeout,
            tool_cache: (settings.runner.tool_cache_mode == "shared").then(|| TOOL_CACHE.to_owned()),
            transport: Transport::Auto,
            terminal: settings.runner.allocate_pty,
        };
        Self { config: Arc::new(config), watch: Watch::default(), backend: Arc::default() }
    }

    /// The same, and every request to the engine is counted in `metrics`.
    #[must_use]
    pub fn counted(mut self, metrics: Metrics) -> Self {
        self.watch = Watch::new(move |operation, took, well| metrics.engine_asked(operation, took, well));
        self
    }

    /// The engine; connects to it if that has not happened.
    pub async fn get(&self) -> Result<&DockerBackend, BackendError> {
        let connect = || DockerBackend::connect_watched((*self.config).clone(), self.watch.clone());
        self.backend.get_or_try_init(connect).await
    }

    /// Waits for the engine as long as `container.docker_timeout` says. Without one the daemon starts and waits on,
    /// unless `container.require_docker` forbids it.
    pub async fn await_start(&self, container: &Container) -> Result<(), String> {
        let until = Instant::now() + container.docker_timeout;
        loop {
            let reason = match self.get().await {
                Ok(backend) => {
                    tracing::info!(engine = backend.describe(), "the container engine answers");
                    if container.docker_host.is_empty() {
                        tracing::info!("{NO_SOCKET}");
                    }
                    return Ok(());
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() < until {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            if container.require_docker {
                return Err(format!("container.require_docker is true, but {reason}"));
            }
            tracing::warn!(reason, "the container engine does not answer yet");
            return Ok(());
        }
    }

    /// Removes what jobs of `owner` have left in the engine, and agents of other versions.
    pub async fn sweep(&self, owner: &str, is_live: IsLive) {
        let Ok(backend) = self.get().await else { return };
        let of_jobs = backend.reap(owner, move |task| is_live(task)).await;
        let of_agents = backend.remove_old_agents().await;
        for swept in [of_jobs, of_agents] {
            match swept {
                Ok(swept) => {
                    for what in swept.removed {
                        tracing::warn!(what, "removed what was left in the engine");
                    }
                    for what in swept.left_over {
                        tracing::error!(what, "what was left in the engine cannot be removed");
                    }
                }
                Err(error) => tracing::warn!(%error, "what was left in the engine could not be looked for"),
            }
        }
    }

    /// One sentence about the engine; connects to it if that has not happened.
    pub async fn look(&self) -> Result<String, String> {
        let backend = self.get().await.map_err(|error| error.to_string())?;
        backend.ping(PATIENCE).await.map_err(|error| error.to_string())?;
        Ok(format!("{} ({})", backend.describe(), backend.arch()))
    }

    /// Asks for a sign of life.
    pub fn probe(&self) -> Probe {
        let this = self.clone();
        Box::new(move || {
            let this = this.clone();
            Box::pin(async move {
                let backend = this.get().await.map_err(|error| error.to_string())?;
                backend.ping(PATIENCE).await.map_err(|error| error.to_string())
            })
        })
    }
}

impl Backend for Engine {
    type Env = DockerEnv;

    async fn prepare<N: Notes>(
        &self,
        spec: JobSpec,
        notes: &N,
        cancel: &Cancel,
    ) -> Result<DockerEnv, BackendError> {
        self.get().await?.prepare(spec, notes, cancel).await
    }
}
