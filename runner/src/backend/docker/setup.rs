//! The way from a job's specification to a container whose agent answers.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::{
    body_try_stream,
    exec::StartExecOptions,
    models::{
        ContainerCreateBody, ExecConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
        MountVolumeOptions, NetworkCreateRequest, VolumeCreateRequest,
    },
    query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder,
    },
};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{
    AGENT, Beside, Share, Shared, Transport,
    batched::Batched,
    create::{CreateError, Plan, refused},
    engine,
    env::{DockerEnv, Way},
    labels, name,
    options::Role,
};
use crate::{
    agent::DEFAULT_PATH,
    backend::{
        BackendError, JobSpec, Layout, Notes,
        link::{Connection, Link},
        tracking_id,
    },
    cancel::Cancel,
};

/// Where the agent's executable lies inside.
pub(super) const AGENT_PATH: &str = "/__esteira/agent";
/// Where the agent's socket lies inside.
const SOCKET_FOLDER: &str = "/__esteira/job";
/// The socket's name in its folder.
const SOCKET: &str = "agent.sock";
/// The volume beside the workspace. In the containers of docker actions it is `/github`.
pub(super) const ROOT: &str = "/__w";
/// GitHub's place for tools, which images bring with content.
const TOOLS: &str = "/opt/hostedtoolcache";
/// How long an agent may take from the start of its container to its first answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long after the end of a container the engine may say that it runs.
const LATE: Duration = Duration::from_secs(2);
/// How long to wait between two calls at the agent's socket.
const CALL: Duration = Duration::from_millis(1);

/// Why this transport did not work.
enum Failure {
    /// Another one may, for every image of this engine (`true`) or for this one.
    Other(bool, String),
    /// None will.
    Final(BackendError),
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self::Final(error)
    }
}

/// The job's container with its agent.
pub(super) struct Place {
    pub(super) id: String,
    pub(super) way: Way,
    pub(super) socket_folder: Option<TempDir>,
    /// The start request, while its answer is still to come.
    pub(super) starting: JoinSet<Result<(), bollard::errors::Error>>,
}

/// Makes the place. What it has made when it fails is found by its labels.
pub(super) async fn prepare<N: Notes>(
    shared: &Arc<Shared>,
    spec: JobSpec,
    notes: &N,
    cancel: &Cancel,
) -> Result<DockerEnv, BackendError> {
    let config = &shared.config;
    let container = spec.container.clone().unwrap_or_default();
    let labels = labels(&spec.owner, spec.task);
    let (repository_owner, repository) = spec.repository.split_once('/').unwrap_or(("", &spec.repository));
    let workspace = [config.workdir_parent.trim_end_matches('/'), repository_owner, repository]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    let mut plan =
        Plan::new(shared, &container, Role::Job, &config.options, name(&spec.name, "job"), labels.clone())?;
    plan.add_mounts(own_mounts(shared, &spec, &workspace, &labels));
    add_socket_of_engine(shared, &mut plan, notes).await;
    let mut env = spec.env.clone();
    env.insert("JOB_CONTAINER_NAME".to_owned(), plan.name.clone());
    env.append(&mut plan.env);
    plan.env = env;
    plan.body.working_dir = Some(workspace.clone());
    for row in std::mem::take(&mut plan.notes) {
        notes.note(&row).await;
    }

    let own_network = config.network.is_empty() && !spec.services.is_empty();
    let network = match (own_network, config.network.as_str()) {
        (true, _) => Some(name(&spec.name, "net")),
        (false, "") => None,
        (false, configured) => Some(configured.to_owned()),
    };
    if let Some(network) = &network {
        plan.join(network, None);
    }
    let tools = match spec.env.get("RUNNER_TOOL_CACHE").filter(|path| path.starts_with('/')) {
        Some(path) => path.clone(),
        None if plan.is_read_only() => format!("{ROOT}/tool_cache"),
        None => TOOLS.to_owned(),
    };
    let under = |folder: &str| format!("{ROOT}/{folder}");
    let folders = vec![
        workspace.clone(),
        under("runner_temp"),
        under("actions"),
        under("home"),
        under("workflow"),
        under("file_commands"),
        tools.clone(),
    ];

    let mut beside = Beside::new(
        super::DockerBackend { shared: Arc::clone(shared) },
        &spec,
        Share::Container { workspace: workspace.clone(), root: ROOT.to_owned(), id: String::new() },
        network.clone().unwrap_or_default(),
    );
    if own_network && let Some(network) = &network {
        create_network(shared, network, &labels).await?;
        beside.owns_network();
    }
    notes.note(&format!("Starting the job container {} from {}", plan.name, plan.image)).await;
    let tracking = tracking_id(&spec.owner, spec.task);
    let (place, services) = tokio::try_join!(
        start_job(shared, &plan, &tracking, &folders, notes),
        beside.start_services(&spec.services, notes, cancel),
    )?;
    beside.joins(&place.id);
    if !spec.files.is_empty() {
        place.way.files().write(spec.files.clone()).await?;
    }
    let environ = place.way.environ();
    let home = environ.get("HOME").filter(|home| home.len() > 1).cloned().unwrap_or_else(|| under("home"));
    let layout = Layout {
        workspace,
        temp: under("runner_temp"),
        tool_cache: tools,
        actions: under("actions"),
        home,
        environ: with_path(environ),
        os: "Linux",
        arch: crate::backend::arch(&place.way.machine(&shared.engine.arch)),
        in_container: true,
        container_id: place.id.clone(),
        network: network.unwrap_or_else(|| "bridge".to_owned()),
        services,
    };
    Ok(DockerEnv::new(Arc::clone(shared), layout, place, beside))
}

fn with_path(mut environ: BTreeMap<String, String>) -> BTreeMap<String, String> {
    environ.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    environ
}

fn own_mounts(
    shared: &Shared,
    spec: &JobSpec,
    workspace: &str,
    labels: &HashMap<String, String>,
) -> Vec<Mount> {
    let fresh = |target: &str| Mount {
        target: Some(target.to_owned()),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions {
            labels: Some(labels.clone()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    let mut mounts = vec![fresh(ROOT)];
    mounts.push(match &spec.bind_workspace {
        Some(folder) => bind(folder, workspace, false),
        None => fresh(workspace),
    });
    if let Some(volume) = &shared.config.tool_cache {
        mounts.push(Mount { source: Some(volume.clone()), volume_options: None, ..fresh(TOOLS) });
    }
    mounts
}

pub(super) fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

/// The engine's socket enters only where the configuration says so; where it would by the official runner's default,
/// a row says why it does not.
async fn add_socket_of_engine<N: Notes>(shared: &Shared, plan: &mut Plan, notes: &N) {
    const INSIDE: &str = "/var/run/docker.sock";
    match shared.config.docker_host.as_str() {
        "-" => {}
        "" => {
            notes
                .note("The engine's socket is not in this job; `container.docker_host: automount` in the configuration puts it there.")
                .await;
        }
        _ => match shared.engine.socket() {
            Some(socket) => plan.add_mounts(vec![bind(socket, INSIDE, false)]),
            None => {
                plan.env.entry("DOCKER_HOST".to_owned()).or_insert_with(|| shared.engine.address.clone());
            }
        },
    }
}

async fn create_network(
    shared: &Shared,
    network: &str,
    labels: &HashMap<String, String>,
) -> Result<(), BackendError> {
    let request = NetworkCreateRequest {
        name: network.to_owned(),
        driver: Some("bridge".to_owned()),
        labels: Some(labels.clone()),
        enable_ipv4: shared.config.enable_ipv4,
        enable_ipv6: shared.config.enable_ipv6,
        ..NetworkCreateRequest::default()
    };
    let mut pauses = [1, 2].into_iter();
    loop {
        match shared.engine.docker.create_network(request.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) => {
                let exhausted = engine::message(&error).contains("address pool");
                match pauses.next() {
                    Some(pause) if exhausted => tokio::time::sleep(Duration::from_secs(pause)).await,
                    _ if exhausted => {
                        return Err(BackendError::Refused(format!(
                            "the engine has no free network addresses ({}): lower `runner.capacity` or give it more \
                             with `default-address-pools`",
                            engine::message(&error)
                        )));
                    }
                    _ => return Err(refused("making the job's network", &error)),
                }
            }
        }
    }
}

/// Makes and starts the job's container over the first transport that works.
async fn start_job<N: Notes>(
    shared: &Shared,
    plan: &Plan,
    tracking: &str,
    folders: &[String],
    notes: &N,
) -> Result<Place, BackendError> {
    let mut transport = shared.transport();
    loop {
        let tried = match transport {
            Transport::Socket => over_socket(shared, plan, tracking, folders, notes).await,
            Transport::Attach => over_attach(shared, plan, tracking, folders, notes).await,
            Transport::Auto | Transport::Exec => over_exec(shared, plan, folders, notes).await,
        };
        let next = if transport == Transport::Socket { Transport::Attach } else { Transport::Exec };
        match tried {
            Ok(place) => {
                if let Way::Agent(link) = &place.way
                    && !link.hello().unwritable.is_empty()
                {
                    own(shared, &place.id, link, &link.hello().unwritable).await?;
                }
                return Ok(place);
            }
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Other(_, reason)) if shared.config.transport != Transport::Auto => {
                return Err(BackendError::Lost(reason));
            }
            Err(Failure::Other(for_all, reason)) => {
                if next == Transport::Exec {
                    let row = format!(
                        "Each command of this job goes through the engine, which is slower: {reason}."
                    );
                    notes.note(&row).await;
                }
                tracing::info!(?next, reason, "the agent is reached another way");
                if for_all {
                    shared.remember(next);
                }
                remove(shared, &plan.name).await;
                transport = next;
            }
        }
    }
}

/// Removes a container that is tried again in another form.
async fn remove(shared: &Shared, name: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    if let Err(error) = engine::gone_is_fine(shared.engine.docker.remove_container(name, Some(options)).await)
    {
        tracing::warn!(container = name, error = engine::message(&error), "a container was not removed");
    }
}

async fn over_socket<N: Notes>(
    shared: &Shared,
    plan: &Plan,
    tracking: &str,
    folders: &[String],
    notes: &N,
) -> Result<Place, Failure> {
    let ours = |error| Failure::Final(BackendError::engine("making the folder of the agent's socket", error));
    let folder = socket_folder(&shared.config.state).map_err(ours)?;
    let mut plan = plan.clone();
    plan.mounts.push(bind(&shared.agent.path, AGENT_PATH, true));
    plan.mounts.push(bind(&folder.path().join("job"), SOCKET_FOLDER, false));
    let socket = format!("{SOCKET_FOLDER}/{SOCKET}");
    plan.body.entrypoint = Some([AGENT_PATH, "agent", "listen", &socket].map(str::to_owned).to_vec());
    plan.body.cmd = Some(Vec::new());
    let id = match plan.create(shared, notes).await {
        Ok(id) => id,
        Err(CreateError::Engine(error)) if names_our_files(shared, &error) => {
            let reason = format!("runner and engine share no folder ({})", engine::message(&error));
            return Err(Failure::Other(true, reason));
        }
        Err(error) => return Err(error.into_backend("creating the job container").into()),
    };
    let mut starting = start(shared, &id);
    let called = tokio::select! {
        called = call(folder.path().join("job")) => called,
        failed = failed_start(&mut starting) => {
            return Err(match failed {
                Some(error) => start_failure(&error),
                None => not_answering(shared, &id).await,
            });
        }
    };
    let socket = called.map_err(ours)?;
    let link = Link::open(Connection::Socket(socket), tracking, folders.to_vec())
        .await
        .map_err(|error| Failure::Other(false, error.to_string()))?;
    check(shared, &link)?;
    Ok(Place { id, way: Way::Agent(link), socket_folder: Some(folder), starting })
}

/// Sends the start request beside everything else: the agent often answers before the engine does.
fn start(shared: &Shared, id: &str) -> JoinSet<Result<(), bollard::errors::Error>> {
    let (docker, id) = (shared.engine.docker.clone(), id.to_owned());
    let mut starting = JoinSet::new();
    starting.spawn(async move { docker.start_container(&id, None::<StartContainerOptions>).await });
    starting
}

/// The start's error; or `None` when it went well and no agent answered for too long.
async fn failed_start(
    starting: &mut JoinSet<Result<(), bollard::errors::Error>>,
) -> Option<bollard::errors::Error> {
    match starting.join_next().await {
        Some(Ok(Err(error))) => Some(error),
        _ => {
            tokio::time::sleep(ANSWER).await;
            None
        }
    }
}

/// A folder that only this user enters, with one in it that everybody may write to: the agent may be any user.
fn socket_folder(state: &Path) -> std::io::Result<TempDir> {
    let parent = state.join("run");
    fs::create_dir_all(&parent)?;
    let parent = fs::canonicalize(parent)?;
    let folder = tempfile::Builder::new().prefix("job-").tempdir_in(parent)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
    let inner = folder.path().join("job");
    fs::create_dir(&inner)?;
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o777))?;
    Ok(folder)
}

/// Calls until the agent listens. The name goes through the folder's descriptor, since a socket's path is short.
async fn call(folder: PathBuf) -> std::io::Result<OwnedFd> {
    let folder = fs::File::open(folder)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    loop {
        match UnixStream::connect(&path) {
            Ok(stream) => return Ok(stream.into()),
            // Not there yet, or bound and not listening yet, or its rights are still to be opened.
            Err(_) => tokio::time::sleep(CALL).await,
        }
    }
}

fn names_our_files(shared: &Shared, error: &bollard::errors::Error) -> bool {
    let message = engine::message(error);
    let state = fs::canonicalize(&shared.config.state).unwrap_or_else(|_| shared.config.state.clone());
    engine::status(error) == Some(400) && message.contains(&*state.to_string_lossy())
}

fn start_failure(error: &bollard::errors::Error) -> Failure {
    let message = engine::message(error);
    let ours = message.contains(AGENT_PATH) || message.contains("exec format error");
    if ours {
        return Failure::Other(false, format!("the agent cannot run in this image ({message})"));
    }
    Failure::Final(refused("starting the job container", error))
}

/// The container runs (or has ended) and nobody answers.
async fn not_answering(shared: &Shared, id: &str) -> Failure {
    let words = last_words(shared, id).await;
    let state = describe_end(shared, id).await;
    Failure::Other(false, format!("the agent does not answer{state}{words}"))
}

/// What a container printed last, for a sentence; empty when nothing.
pub(super) async fn last_words(shared: &Shared, id: &str) -> String {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail("5").build();
    let mut logs = std::pin::pin!(shared.engine.docker.logs(id, Some(options)));
    let mut words = String::new();
    while let Some(Ok(piece)) = logs.next().await {
        words.push_str(&String::from_utf8_lossy(piece.as_ref()));
    }
    if words.trim().is_empty() { String::new() } else { format!(": {}", words.trim().replace('\n', "; ")) }
}

/// How a container ended, for a sentence; empty when it runs on. The engine may learn of the end a little later than
/// whoever had a connection into it.
pub(super) async fn describe_end(shared: &Shared, id: &str) -> String {
    let mut words = String::new();
    for _ in 0..LATE.as_millis() / 100 {
        words = end(shared, id).await;
        if !words.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    words
}

async fn end(shared: &Shared, id: &str) -> String {
    let inspected = shared.engine.docker.inspect_container(id, None).await;
    let state = match inspected {
        Ok(container) => container.state.unwrap_or_default(),
        Err(error) if engine::status(&error) == Some(404) => {
            return " (its container has been removed)".to_owned();
        }
        Err(error) => return format!(" (and the engine says: {})", engine::message(&error)),
    };
    if state.oom_killed == Some(true) {
        return " (its container was out of memory)".to_owned();
    }
    if state.running == Some(true) {
        return String::new();
    }
    let error =
        state.error.filter(|error| !error.is_empty()).map(|error| format!(": {error}")).unwrap_or_default();
    format!(" (its container has ended with {}{error})", state.exit_code.unwrap_or(-1))
}

fn check(shared: &Shared, link: &Link) -> Result<(), Failure> {
    if link.hello().executable == shared.agent.fingerprint {
        return Ok(());
    }
    Err(Failure::Final(BackendError::Lost(
        "the agent in the container is of another version than this runner: remove the volumes and files whose names \
         begin with agent and start the runner again"
            .to_owned(),
    )))
}

/// Gives the job's folders to its user: once, by root.
async fn own(shared: &Shared, id: &str, link: &Link, folders: &[String]) -> Result<(), BackendError> {
    let hello = link.hello();
    let mut command = vec![AGENT_PATH.to_owned(), "agent".to_owned(), "own".to_owned()];
    command.extend([hello.uid.to_string(), hello.gid.to_string()]);
    command.extend(folders.iter().cloned());
    let what = "giving the job's folders to the image's user";
    let docker = &shared.engine.docker;
    let config = ExecConfig {
        cmd: Some(command),
        user: Some("0:0".to_owned()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let exec = docker.create_exec(id, config).await.map_err(engine::failed(what))?.id;
    let started = docker.start_exec(&exec, None::<StartExecOptions>).await.map_err(engine::failed(what))?;
    let mut words = String::new();
    if let bollard::exec::StartExecResults::Attached { mut output, .. } = started {
        while let Some(Ok(piece)) = output.next().await {
            words.push_str(&String::from_utf8_lossy(piece.as_ref()));
        }
    }
    // The agent prints only when it has failed: no third request.
    if words.trim().is_empty() {
        return Ok(());
    }
    tracing::warn!(words, "folders of a job are not its user's");
    Err(BackendError::Refused(format!(
        "the image's user {} cannot write to the job's folders: {}",
        hello.uid,
        words.trim().trim_start_matches("esteira agent: ")
    )))
}

async fn over_attach<N: Notes>(
    shared: &Shared,
    plan: &Plan,
    tracking: &str,
    folders: &[String],
    notes: &N,
) -> Result<Place, Failure> {
    let volume = format!("esteira-agent-{}", &shared.agent.hash[..16]);
    let mut plan = plan.clone();
    plan.mounts.push(Mount {
        source: Some(volume.clone()),
        target: Some("/__esteira".to_owned()),
        typ: Some(MountType::VOLUME),
        read_only: Some(true),
        ..Mount::default()
    });
    plan.body.entrypoint = Some([AGENT_PATH, "agent", "stdio"].map(str::to_owned).to_vec());
    plan.body.cmd = Some(Vec::new());
    plan.body.open_stdin = Some(true);
    plan.body.attach_stdin = Some(true);
    plan.host().log_config = Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None });
    let mut filled = shared.filled.lock().await;
    if !*filled {
        make_volume(shared, &volume).await?;
    }
    let id =
        plan.create(shared, notes).await.map_err(|error| error.into_backend("creating the job container"))?;
    if !*filled {
        // The image is there now; the volume is filled by a container of it that never runs.
        fill(shared, &volume, &plan.image).await?;
        *filled = true;
    }
    drop(filled);
    let docker = &shared.engine.docker;
    let attach =
        AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).stderr(true).build();
    let attached = docker
        .attach_container(&id, Some(attach))
        .await
        .map_err(|error| Failure::Final(refused("attaching to the job container", &error)))?;
    let mut starting = start(shared, &id);
    match starting.join_next().await {
        Some(Ok(Err(error))) => return Err(start_failure(&error)),
        Some(Err(error)) => {
            return Err(Failure::Final(BackendError::engine("starting the job container", error)));
        }
        Some(Ok(Ok(()))) | None => {}
    }
    let link = match Link::open(Connection::Attached(attached), tracking, folders.to_vec()).await {
        Ok(link) => link,
        Err(error) => {
            let state = describe_end(shared, &id).await;
            return Err(Failure::Other(false, format!("{error}{state}")));
        }
    };
    check(shared, &link)?;
    Ok(Place { id, way: Way::Agent(link), socket_folder: None, starting })
}

/// Makes the agent's volume with its label; one that is there stays as it is.
async fn make_volume(shared: &Shared, volume: &str) -> Result<(), Failure> {
    let labels = HashMap::from([(AGENT.to_owned(), shared.agent.hash.clone())]);
    let request = VolumeCreateRequest {
        name: Some(volume.to_owned()),
        labels: Some(labels),
        ..VolumeCreateRequest::default()
    };
    let made = shared.engine.docker.create_volume(request).await;
    made.map(drop).map_err(|error| Failure::Final(refused("making the agent's volume", &error)))
}

/// Puts the agent into its volume: once per engine and process.
async fn fill(shared: &Shared, volume: &str, image: &str) -> Result<(), Failure> {
    let docker = &shared.engine.docker;
    let what = "putting the agent into its volume";
    let fail = |error: bollard::errors::Error| Failure::Final(refused(what, &error));
    let mount = Mount {
        source: Some(volume.to_owned()),
        target: Some("/__esteira".to_owned()),
        typ: Some(MountType::VOLUME),
        ..Mount::default()
    };
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![AGENT_PATH.to_owned()]),
        host_config: Some(HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let name = name("agent", "fill");
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let id = docker.create_container(Some(options), body).await.map_err(fail)?.id;
    let result = upload(shared, &id).await;
    remove(shared, &id).await;
    result
}

/// Sends the executable as an archive of one file.
async fn upload(shared: &Shared, id: &str) -> Result<(), Failure> {
    let ours = |error| Failure::Final(BackendError::engine("reading the agent", error));
    let mut header = tar::Header::new_gnu();
    let length = fs::metadata(&shared.agent.path).map_err(ours)?.len();
    header.set_path("agent").map_err(ours)?;
    header.set_size(length);
    header.set_mode(0o755);
    header.set_cksum();
    let file = tokio::fs::File::open(&shared.agent.path).await.map_err(ours)?;
    let head = bytes::Bytes::copy_from_slice(header.as_bytes());
    let padding = usize::try_from((512 - length % 512) % 512).unwrap_or(0) + 1024;
    let tail = bytes::Bytes::from(vec![0_u8; padding]);
    let pieces = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10);
    let archive =
        futures_util::stream::iter([Ok(head)]).chain(pieces).chain(futures_util::stream::iter([Ok(tail)]));
    let options = UploadToContainerOptionsBuilder::default().path("/__esteira").build();
    shared
        .engine
        .docker
        .upload_to_container(id, Some(options), body_try_stream(archive))
        .await
        .map_err(|error| Failure::Final(refused("putting the agent into its volume", &error)))
}

async fn over_exec<N: Notes>(
    shared: &Shared,
    plan: &Plan,
    folders: &[String],
    notes: &N,
) -> Result<Place, Failure> {
    let mut plan = plan.clone();
    plan.body.entrypoint = Some(Batched::entrypoint());
    plan.body.cmd = Some(Vec::new());
    plan.host().init = Some(true);
    let id =
        plan.create(shared, notes).await.map_err(|error| error.into_backend("creating the job container"))?;
    let mut starting = start(shared, &id);
    if let Some(Ok(Err(error))) = starting.join_next().await {
        return Err(Failure::Final(refused("starting the job container", &error)));
    }
    let batched = Batched::begin(shared.engine.docker.clone(), &id, folders).await?;
    Ok(Place { id, way: Way::Exec(batched), socket_folder: None, starting })
}
