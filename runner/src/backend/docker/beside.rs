//! Containers beside the job: its services, docker actions, `docker://` steps, and the job's own network.
//!
//! Used by the container backend and, where an engine answers, by the host backend too.

use std::{collections::BTreeMap, path::PathBuf};

use bollard::{
    container::LogOutput,
    models::{HostConfigLogConfig, Mount, MountType},
    query_parameters::{
        AttachContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
        StartContainerOptions, WaitContainerOptions,
    },
};
use futures_util::StreamExt;
use tokio::sync::OnceCell;

use super::{
    DockerBackend,
    create::{Plan, refused},
    engine,
    env::Files,
    labels,
    listening::Listener,
    name,
    options::Role,
    podman,
    services::{self, JobOwner, Service},
    setup::bind,
};
use crate::{
    backend::{
        BackendError, ExecOutcome, Exit, ImageBuild, ImageRun, JobSpec, Ladder, Notes, Output, ServiceFacts,
        ServiceSpec, Stream, TeardownReport, link::Link,
    },
    cancel::Cancel,
};

/// GitHub's places in the container of an action.
const WORKSPACE: &str = "/github/workspace";
const GITHUB: &str = "/github";

/// What the job shares with the containers beside it.
#[derive(Debug, Clone)]
pub(in crate::backend) enum Share {
    /// The volumes of the job's container.
    Container {
        /// Where the workspace is in it.
        workspace: String,
        /// Where the rest is in it.
        root: String,
        /// Its id.
        id: String,
    },
    /// Folders of this machine.
    Folders {
        /// The workspace.
        workspace: PathBuf,
        /// The rest.
        root: PathBuf,
    },
}

/// What stands beside one job.
#[derive(Debug)]
pub(in crate::backend) struct Beside {
    backend: DockerBackend,
    owner: JobOwner,
    share: Share,
    /// Empty on the host: the engine's own.
    network: String,
    owns_network: bool,
    services: Vec<Service>,
    /// Where services without a health check should listen.
    listeners: Vec<Listener>,
    /// The mounts of the job's container, asked for once.
    mounts: OnceCell<Vec<Mount>>,
    /// Proxies of the job, for builds.
    proxies: BTreeMap<String, String>,
}

impl Beside {
    pub(in crate::backend) fn new(
        backend: DockerBackend,
        spec: &JobSpec,
        share: Share,
        network: String,
    ) -> Self {
        let proxies = spec
            .env
            .iter()
            .filter(|(name, _)| name.to_ascii_lowercase().ends_with("_proxy"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Self {
            backend,
            owner: JobOwner::of(spec),
            share,
            network,
            owns_network: false,
            services: Vec::new(),
            listeners: Vec::new(),
            mounts: OnceCell::new(),
            proxies,
        }
    }

    /// The network was made for this job and goes with it.
    pub(super) fn owns_network(&mut self) {
        self.owns_network = true;
    }

    /// The job's container is there.
    pub(super) fn joins(&mut self, container: &str) {
        if let Share::Container { id, .. } = &mut self.share {
            container.clone_into(id);
        }
    }

    /// Starts the services and waits until they are ready.
    pub(in crate::backend) async fn start_services<N: Notes>(
        &mut self,
        services: &[ServiceSpec],
        notes: &N,
        cancel: &Cancel,
    ) -> Result<BTreeMap<String, ServiceFacts>, BackendError> {
        let shared = &self.backend.shared;
        let plans = services::plan(shared, &self.owner, &self.network, services)?;
        if plans.is_empty() {
            return Ok(BTreeMap::new());
        }
        let started = async {
            self.services = services::start(shared, plans, notes).await?;
            let ready = services::ready(shared, &self.services, &self.network, notes).await?;
            self.listeners = ready.1;
            Ok(ready.0)
        };
        tokio::select! {
            biased;
            _ = cancel.cancelled() => Err(BackendError::Cancelled),
            facts = started => facts,
        }
    }

    /// Waits a while for services without a health check, as the job sees them.
    pub(in crate::backend) async fn await_listeners<N: Notes>(&mut self, link: &Link, notes: &N) {
        let Some(limit) = self.backend.shared.config.service_ready_timeout else { return };
        let waits = self.listeners.drain(..).map(async |listener| listener.wait(link, limit, notes).await);
        futures_util::future::join_all(waits).await;
    }

    /// What an action's container gets of the job: the same places, and GitHub's names for them.
    async fn mounts(&self) -> Result<Vec<Mount>, BackendError> {
        let made = self.mounts.get_or_try_init(async || match &self.share {
            Share::Folders { workspace, root } => Ok(vec![
                bind(workspace, WORKSPACE, false),
                bind(root, GITHUB, false),
                bind(workspace, &workspace.to_string_lossy(), false),
                bind(root, &root.to_string_lossy(), false),
            ]),
            Share::Container { workspace, root, id } => {
                let inspected = self.backend.shared.engine.inspect(id).await;
                let inspected = inspected.map_err(engine::failed("looking at the job's container"))?;
                let points = inspected.mounts.unwrap_or_default();
                let mut mounts = Vec::new();
                for (place, other) in [(workspace, WORKSPACE), (root, GITHUB)] {
                    let point = points.iter().find(|point| point.destination.as_ref() == Some(place));
                    let Some(point) = point else { continue };
                    let volume = point.typ.as_deref() == Some("volume");
                    let source = if volume { point.name.clone() } else { point.source.clone() };
                    let typ = Some(if volume { MountType::VOLUME } else { MountType::BIND });
                    for target in [place.as_str(), other] {
                        let target = Some(target.to_owned());
                        mounts.push(Mount { source: source.clone(), typ, target, ..Mount::default() });
                    }
                }
                Ok::<_, BackendError>(mounts)
            }
        });
        made.await.cloned()
    }

    /// The job's paths as the action's container has them.
    fn translate(&self, value: &str) -> String {
        let (workspace, root) = match &self.share {
            Share::Container { workspace, root, .. } => (workspace.clone(), root.clone()),
            Share::Folders { workspace, root } => {
                (workspace.to_string_lossy().into_owned(), root.to_string_lossy().into_owned())
            }
        };
        for (ours, theirs) in [(workspace, WORKSPACE), (root, GITHUB)] {
            if let Some(rest) = value.strip_prefix(&ours)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                return format!("{theirs}{rest}");
            }
        }
        value.to_owned()
    }

    /// Runs a container to its end; see [`crate::backend::JobEnv::run_image`].
    pub(in crate::backend) async fn run<O: Output>(
        &self,
        job: Files<'_>,
        run: ImageRun,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<ExecOutcome, BackendError> {
        let shared = &self.backend.shared;
        let labels = labels(&self.owner.owner, self.owner.task);
        let name = name(&self.owner.job, "step");
        let mut plan = Plan::new(shared, &run.container, Role::Beside, &shared.config.options, name, labels)?;
        for value in plan.env.values_mut() {
            *value = self.translate(value);
        }
        plan.env.entry("HOME".to_owned()).or_insert_with(|| format!("{GITHUB}/home"));
        plan.add_mounts(self.mounts().await?);
        if shared.config.docker_host == "automount"
            && let Some(socket) = shared.engine.socket()
        {
            plan.add_mounts(vec![bind(socket, "/var/run/docker.sock", false)]);
        }
        match &self.share {
            Share::Container { id, .. } => {
                plan.join(&format!("container:{id}"), None);
                // These belong to the network, which is the job's.
                plan.body.hostname = None;
                plan.body.domainname = None;
                plan.body.exposed_ports = None;
                let host = plan.host();
                host.port_bindings = None;
                host.publish_all_ports = None;
                host.extra_hosts = None;
                host.dns = None;
                host.dns_options = None;
                host.dns_search = None;
            }
            Share::Folders { .. } if !shared.config.network.is_empty() => {
                plan.join(&shared.config.network, None);
            }
            Share::Folders { .. } => {}
        }
        plan.body.working_dir = Some(WORKSPACE.to_owned());
        if !run.entrypoint.is_empty() {
            plan.body.entrypoint = Some(run.entrypoint.clone());
        }
        plan.body.cmd = run.args.clone();
        plan.host().log_config = Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None });
        if !run.files.is_empty() {
            job.write(run.files.clone()).await?;
        }
        let rows = Rows::default();
        for row in &plan.notes {
            rows.note(row).await;
        }
        let created = plan.create(shared, &rows).await;
        for row in rows.taken() {
            output.write(Stream::Stdout, format!("{row}\n").as_bytes()).await;
        }
        let id = created
            .map_err(|error| error.into_backend(&format!("creating a container of {}", plan.image)))?;
        let ended = self.follow(&id, run.ladder, output, cancel).await;
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        if let Err(error) =
            engine::gone_is_fine(shared.engine.docker.remove_container(&id, Some(options)).await)
        {
            tracing::warn!(
                container = id,
                error = engine::message(&error),
                "a step's container was not removed"
            );
        }
        let exit = ended?;
        let mut files = Vec::new();
        for file in run.collect {
            files.push(job.read(file).await?);
        }
        Ok(ExecOutcome { exit, files, output_held: false, lost: Vec::new() })
    }

    /// Attaches, starts, hands on what is printed, and waits; a cancel climbs the ladder through the engine.
    async fn follow<O: Output>(
        &self,
        id: &str,
        ladder: Ladder,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<Exit, BackendError> {
        let docker = &self.backend.shared.engine.docker;
        let attach = AttachContainerOptionsBuilder::default().stream(true).stdout(true).stderr(true).build();
        let attached = docker.attach_container(id, Some(attach)).await;
        let mut printed = match attached {
            Ok(attached) => attached.output,
            Err(error) if podman::is_start_failure(&error) => {
                return Ok(Exit::NotStarted(engine::message(&error)));
            }
            Err(error) => return Err(engine::failed("attaching to the step's container")(error)),
        };
        if let Err(error) = docker.start_container(id, None::<StartContainerOptions>).await {
            let message = engine::message(&error);
            return match engine::status(&error) {
                Some(400 | 404) => Ok(Exit::NotStarted(message)),
                _ => Err(refused("starting the step's container", &error)),
            };
        }
        let process = async {
            while let Some(piece) = printed.next().await {
                match piece {
                    Ok(LogOutput::StdErr { message }) => output.write(Stream::Stderr, &message).await,
                    Ok(other) => output.write(Stream::Stdout, other.as_ref()).await,
                    Err(error) => {
                        return Err(engine::failed("reading the output of the step's container")(error));
                    }
                }
            }
            let mut waiting = std::pin::pin!(docker.wait_container(id, None::<WaitContainerOptions>));
            match waiting.next().await {
                Some(Ok(ended)) => Ok(Exit::Code(i32::try_from(ended.status_code).unwrap_or(-1))),
                Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => {
                    Ok(Exit::Code(i32::try_from(code).unwrap_or(-1)))
                }
                Some(Err(error)) => Err(engine::failed("waiting for the step's container")(error)),
                None => Err(BackendError::Lost(
                    "the engine did not say how the step's container ended".to_owned(),
                )),
            }
        };
        let killer = async {
            cancel.cancelled().await;
            for (signal, pause) in
                [("INT", ladder.interrupt), ("TERM", ladder.terminate), ("KILL", ladder.terminate)]
            {
                let options = KillContainerOptionsBuilder::default().signal(signal).build();
                // It may have ended: then the wait says so.
                let _ = docker.kill_container(id, Some(options)).await;
                tokio::time::sleep(pause).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            exit = process => exit,
            () = killer => Err(BackendError::Cancelled),
        }
    }

    /// Builds an image; see [`crate::backend::JobEnv::build_image`].
    pub(in crate::backend) async fn build<O: Output>(
        &self,
        build: ImageBuild,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<(), BackendError> {
        super::build::build(&self.backend.shared, build, &self.proxies, output, cancel).await
    }

    /// Removes the services.
    pub(super) async fn remove_services(&mut self, report: &mut TeardownReport) {
        let docker = &self.backend.shared.engine.docker;
        let removals = self.services.drain(..).map(async |service| {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let removed =
                engine::gone_is_fine(docker.remove_container(&service.container, Some(options)).await);
            removed.map_err(|error| format!("container {}: {}", service.container, engine::message(&error)))
        });
        let removed = futures_util::future::join_all(removals).await;
        report.left_over.extend(removed.into_iter().filter_map(Result::err));
    }

    /// Removes the network, when it is the job's own and everything on it is gone.
    pub(super) async fn remove_network(&mut self, report: &mut TeardownReport) {
        if !std::mem::take(&mut self.owns_network) {
            return;
        }
        let removed = self.backend.shared.engine.docker.remove_network(&self.network).await;
        if let Err(error) = engine::gone_is_fine(removed) {
            report.left_over.push(format!("network {}: {}", self.network, engine::message(&error)));
        }
    }

    /// Removes everything.
    pub(in crate::backend) async fn teardown(mut self, report: &mut TeardownReport) {
        self.remove_services(report).await;
        self.remove_network(report).await;
    }
}

/// Rows about an image, kept until the output is free.
#[derive(Debug, Default)]
struct Rows(std::sync::Mutex<Vec<String>>);

impl Notes for Rows {
    async fn note(&self, line: &str) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line.to_owned());
    }
}

impl Rows {
    fn taken(self) -> Vec<String> {
        self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
