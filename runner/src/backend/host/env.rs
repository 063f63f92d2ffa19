//! One job's place on the host.

use std::{
    collections::BTreeMap,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::{Child, Command};

use super::{HostConfig, Scratch, inherited};
use crate::{
    agent::DEFAULT_PATH,
    backend::{
        BackendError, Collected, ExecOutcome, ExecSpec, FileOut, ImageBuild, ImageRun, JobEnv, JobSpec,
        Ladder, Layout, Notes, Output, TeardownReport,
        docker::{Beside, DockerBackend, Files, Share},
        link::{Connection, Link},
        tracking_id,
    },
    cancel::Cancel,
};

/// How long background processes have at the end of a job after each signal.
const SWEEP: Ladder = Ladder { interrupt: Duration::from_millis(500), terminate: Duration::from_secs(1) };

/// One prepared place.
#[derive(Debug)]
pub struct HostEnv {
    layout: Layout,
    link: Link,
    agent: Child,
    beside: Option<Beside>,
    no_engine: &'static str,
    scratch: Scratch,
    terminal: bool,
}

impl HostEnv {
    pub(super) async fn make<N: Notes>(
        config: &HostConfig,
        spec: JobSpec,
        notes: &N,
        cancel: &Cancel,
    ) -> Result<Self, BackendError> {
        let scratch = Scratch::make(&config.scratch, &spec.owner, spec.task).map_err(|error| {
            BackendError::engine(format!("making a folder in {}", config.scratch.display()), error)
        })?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let repository =
            spec.repository.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("repository");
        let workspace =
            spec.bind_workspace.clone().unwrap_or_else(|| scratch.path.join("work").join(repository));
        let temp = scratch.path.join("temp");
        let actions = scratch.path.join("actions");
        let own_home = scratch.path.join("home");
        let tool_cache = config.tool_cache.clone().unwrap_or_else(|| scratch.path.join("tools"));

        let mut environ = inherited(&config.environ);
        environ.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
        environ.extend(spec.env.clone());
        let home =
            environ.get("HOME").filter(|home| !home.is_empty()).cloned().unwrap_or_else(|| text(&own_home));

        let (agent, socket) = start(&config.executable, &environ, &scratch.path)?;
        let tracking = tracking_id(&spec.owner, spec.task);
        let folders: Vec<String> = [&workspace, &temp, &actions, &own_home, &tool_cache]
            .into_iter()
            .map(|path| text(path))
            .collect();
        let link = Link::open(Connection::Socket(socket), &tracking, folders).await?;
        if let Some(folder) = link.hello().unwritable.first() {
            return Err(BackendError::Lost(format!("{folder} cannot be written to by this runner's user")));
        }
        if !spec.files.is_empty() {
            link.write(spec.files.clone()).await?;
        }
        let mut layout = Layout {
            workspace: text(&workspace),
            temp: text(&temp),
            tool_cache: text(&tool_cache),
            actions: text(&actions),
            home,
            node: spec.node.as_ref().map(|folder| text(&folder.join("bin/node"))).unwrap_or_default(),
            environ: link.environ(),
            os: "Linux",
            arch: crate::backend::arch(&link.hello().machine),
            in_container: false,
            container_id: String::new(),
            network: String::new(),
            services: BTreeMap::new(),
        };
        let mut beside = config.engine.clone().map(|engine| beside(&engine, &spec, &layout, &scratch.path));
        if !spec.services.is_empty() {
            let Some(beside) = &mut beside else {
                return Err(BackendError::Refused(format!(
                    "the job has services, and {NO_ENGINE}: run it on a label with a container engine"
                )));
            };
            layout.services = beside.start_services(&spec.services, notes, cancel).await?;
            beside.await_listeners(&link, notes).await;
        }
        Ok(Self { layout, link, agent, beside, no_engine: NO_ENGINE, scratch, terminal: config.terminal })
    }
}

const NO_ENGINE: &str = "no container engine answers on this machine";

fn beside(engine: &DockerBackend, spec: &JobSpec, layout: &Layout, scratch: &Path) -> Beside {
    let share = Share::Folders { workspace: PathBuf::from(&layout.workspace), root: scratch.to_owned() };
    Beside::new(engine.clone(), spec, share, String::new())
}

/// Starts the agent with one end of a socket as its input; answers with the other.
fn start(
    executable: &Path,
    environ: &BTreeMap<String, String>,
    scratch: &Path,
) -> Result<(Child, OwnedFd), BackendError> {
    let fail = |error| BackendError::engine(format!("starting {} as agent", executable.display()), error);
    let (ours, theirs) = UnixStream::pair().map_err(fail)?;
    let agent = Command::new(executable)
        .args(["agent", "socket"])
        .env_clear()
        .envs(environ)
        .current_dir(scratch)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        // A ^C at a terminal is for the runner; the job is told by the runner.
        .process_group(0)
        .spawn()
        .map_err(fail)?;
    Ok((agent, ours.into()))
}

impl JobEnv for HostEnv {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    async fn exec<O: Output>(
        &self,
        spec: ExecSpec,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<ExecOutcome, BackendError> {
        Ok(Box::pin(self.link.exec(spec, self.terminal, output, cancel)).await?)
    }

    async fn unpack(&self, archive: &Path, into: &str) -> Result<(), BackendError> {
        Ok(self.link.unpack(archive, into).await?)
    }

    async fn pack(&self, folder: &str, into: &Path) -> Result<(), BackendError> {
        Ok(self.link.pack(folder, into).await?)
    }

    async fn read(&self, file: FileOut) -> Result<Collected, BackendError> {
        Ok(self.link.read(file).await?)
    }

    async fn hash_files(&self, patterns: Vec<String>, follow_links: bool) -> Result<String, BackendError> {
        Ok(self.link.hash_files(&self.layout.workspace, patterns, follow_links).await?)
    }

    async fn reaches(&self, address: std::net::IpAddr, port: u16) -> Option<bool> {
        self.link.reaches(address, port).await
    }

    async fn run_image<O: Output>(
        &self,
        run: ImageRun,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<ExecOutcome, BackendError> {
        match &self.beside {
            Some(beside) => Box::pin(beside.run(Files::Agent(&self.link), run, output, cancel)).await,
            None => Err(BackendError::Refused(format!("the step runs a container, and {}", self.no_engine))),
        }
    }

    async fn build_image<O: Output>(
        &self,
        build: ImageBuild,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<(), BackendError> {
        match &self.beside {
            Some(beside) => Box::pin(beside.build(build, output, cancel)).await,
            None => Err(BackendError::Refused(format!("the action builds an image, and {}", self.no_engine))),
        }
    }

    async fn teardown(mut self, limit: Duration) -> TeardownReport {
        let mut report = TeardownReport::default();
        let ending = async {
            match self.link.sweep(SWEEP).await {
                Ok((ended, lost)) => {
                    report.ended = ended;
                    report
                        .left_over
                        .extend(lost.into_iter().map(|name| format!("process {name} survived KILL")));
                }
                Err(error) => report.left_over.push(format!("processes of the job: {error}")),
            }
            if let Some(beside) = self.beside.take() {
                beside.teardown(&mut report).await;
            }
            // An agent that is gone already has left: the wait says so.
            let _ = self.link.shutdown().await;
            if let Err(error) = self.agent.wait().await {
                report.left_over.push(format!("the agent: {error}"));
            }
        };
        if tokio::time::timeout(limit, ending).await.is_err() {
            report.left_over.push(format!("the job's processes did not end within {} s", limit.as_secs()));
        }
        let scratch = self.scratch;
        // Dropping removes it; many files take their time.
        if tokio::task::spawn_blocking(move || drop(scratch)).await.is_err() {
            report.left_over.push("the job's scratch folder".to_owned());
        }
        report
    }
}
