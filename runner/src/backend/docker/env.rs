//! One job's place in containers.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bollard::query_parameters::RemoveContainerOptionsBuilder;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{Beside, Shared, batched::Batched, bound::Bound, engine, transport};
use crate::{
    backend::{
        BackendError, Collected, ExecOutcome, ExecSpec, FileIn, FileOut, ImageBuild, ImageRun, JobEnv,
        Ladder, Layout, Output, TeardownReport,
        link::{Link, LinkError},
    },
    cancel::Cancel,
};

/// How long background processes have at the end of a job after each signal.
const SWEEP: Ladder = Ladder { interrupt: Duration::from_millis(300), terminate: Duration::from_millis(700) };

/// How commands reach the container.
#[derive(Debug)]
pub(super) enum Way {
    /// Over its agent.
    Agent(Link),
    /// One by one through the engine.
    Exec(Batched),
}

impl Way {
    pub(super) fn environ(&self) -> BTreeMap<String, String> {
        match self {
            Self::Agent(link) => link.environ(),
            Self::Exec(batched) => batched.environ(),
        }
    }

    /// As `uname -m` says it, or as the engine does.
    pub(super) fn machine(&self, engine: &str) -> String {
        match self {
            Self::Agent(link) => link.hello().machine.clone(),
            Self::Exec(_) => engine.to_owned(),
        }
    }

    pub(super) const fn files(&self) -> Files<'_> {
        match self {
            Self::Agent(link) => Files::Agent(link),
            Self::Exec(batched) => Files::Exec(batched),
        }
    }
}

/// The job's own files, for whoever stands beside it.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend) enum Files<'a> {
    Agent(&'a Link),
    #[expect(private_interfaces, reason = "made and taken apart in this module's folder alone")]
    Exec(&'a Batched),
}

impl Files<'_> {
    pub(super) async fn write(self, files: Vec<FileIn>) -> Result<(), BackendError> {
        match self {
            Self::Agent(link) => Ok(link.write(files).await?),
            Self::Exec(batched) => batched.write(&files).await,
        }
    }

    pub(super) async fn read(self, file: FileOut) -> Result<Collected, BackendError> {
        match self {
            Self::Agent(link) => Ok(link.read(file).await?),
            Self::Exec(batched) => batched.read(&file).await,
        }
    }
}

/// One prepared place.
#[derive(Debug)]
pub struct DockerEnv {
    shared: Arc<Shared>,
    layout: Layout,
    way: Way,
    beside: Beside,
    /// The workspace, where it is a folder of this machine.
    bound: Option<Bound>,
    socket_folder: Option<TempDir>,
    starting: JoinSet<Result<(), bollard::errors::Error>>,
}

impl DockerEnv {
    pub(super) fn new(
        shared: Arc<Shared>,
        layout: Layout,
        place: transport::Place,
        beside: Beside,
        bound: Option<Bound>,
    ) -> Self {
        let transport::Place { way, socket_folder, starting, .. } = place;
        Self { shared, layout, way, beside, bound, socket_folder, starting }
    }

    /// Adds what the engine knows about the end of the container.
    async fn explain(&self, error: LinkError) -> BackendError {
        match error {
            LinkError::Lost(reason) => {
                let state = transport::describe_end(&self.shared, &self.layout.container_id).await;
                BackendError::Lost(format!("the job's environment is lost{state}: {reason}"))
            }
            other => other.into(),
        }
    }
}

impl JobEnv for DockerEnv {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    async fn exec<O: Output>(
        &self,
        spec: ExecSpec,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<ExecOutcome, BackendError> {
        match &self.way {
            Way::Agent(link) => {
                match Box::pin(link.exec(spec, self.shared.config.terminal, output, cancel)).await {
                    Ok(outcome) => Ok(outcome),
                    Err(error) => Err(self.explain(error).await),
                }
            }
            Way::Exec(batched) => Box::pin(batched.exec(spec, output, cancel)).await,
        }
    }

    async fn unpack(&self, archive: &Path, into: &str) -> Result<(), BackendError> {
        match &self.way {
            Way::Agent(link) => match link.unpack(archive, into).await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.explain(error).await),
            },
            Way::Exec(batched) => batched.unpack(archive, into).await,
        }
    }

    async fn pack(&self, folder: &str, into: &Path) -> Result<(), BackendError> {
        match &self.way {
            Way::Agent(link) => match link.pack(folder, into).await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.explain(error).await),
            },
            Way::Exec(batched) => batched.pack(folder, into).await,
        }
    }

    async fn read(&self, file: FileOut) -> Result<Collected, BackendError> {
        self.way.files().read(file).await
    }

    async fn hash_files(&self, patterns: Vec<String>, follow_links: bool) -> Result<String, BackendError> {
        match &self.way {
            Way::Agent(link) => match link.hash_files(&self.layout.workspace, patterns, follow_links).await {
                Ok(hex) => Ok(hex),
                Err(error) => Err(self.explain(error).await),
            },
            Way::Exec(batched) => batched.hash_files(&self.layout.workspace, patterns, follow_links).await,
        }
    }

    async fn reaches(&self, address: std::net::IpAddr, port: u16) -> Option<bool> {
        match &self.way {
            Way::Agent(link) => link.reaches(address, port).await,
            Way::Exec(_) => None,
        }
    }

    async fn run_image<O: Output>(
        &self,
        run: ImageRun,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<ExecOutcome, BackendError> {
        Box::pin(self.beside.run(self.way.files(), run, output, cancel)).await
    }

    async fn build_image<O: Output>(
        &self,
        build: ImageBuild,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<(), BackendError> {
        Box::pin(self.beside.build(build, output, cancel)).await
    }

    async fn teardown(mut self, limit: Duration) -> TeardownReport {
        let mut report = TeardownReport::default();
        let ending = async {
            if let Way::Agent(link) = &self.way
                && let Ok((ended, _)) = link.sweep(SWEEP).await
            {
                report.ended = ended;
            }
            // The start request must have been answered before the container can go.
            while self.starting.join_next().await.is_some() {}
            let docker = self.shared.engine.docker.clone();
            let id = self.layout.container_id.clone();
            let job = async {
                let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
                engine::gone_is_fine(docker.remove_container(&id, Some(options)).await)
            };
            let (job, ()) = tokio::join!(job, self.beside.remove_services(&mut report));
            if let Err(error) = job {
                report.left_over.push(format!("container {id}: {}", engine::message(&error)));
            }
            self.beside.remove_network(&mut report).await;
        };
        if tokio::time::timeout(limit, Box::pin(ending)).await.is_err() {
            let seconds = limit.as_secs();
            report.left_over.push(format!("containers of the job were not removed within {seconds} s"));
        }
        drop(self.socket_folder.take());
        if let Some(bound) = self.bound.take() {
            report.left_over.extend(bound.remove().await.err());
        }
        report
    }
}
