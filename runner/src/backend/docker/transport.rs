//! The job's container and the way to its agent: the first transport that works, remembered for the engine.

use std::{
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    exec::StartExecOptions,
    models::ExecConfig,
    query_parameters::{LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions},
};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{
    Shared, Transport,
    attach::over_attach,
    batched::Batched,
    create::{CreateError, Plan, refused},
    engine,
    env::Way,
    setup::bind,
};
use crate::backend::{
    BackendError, Notes,
    link::{Connection, Link},
};

/// Where the agent's executable lies inside.
pub(super) const AGENT_PATH: &str = "/__esteira/agent";
/// Where the agent's socket lies inside.
const SOCKET_FOLDER: &str = "/__esteira/job";
/// The socket's name in its folder.
const SOCKET: &str = "agent.sock";
/// How long an agent may take from the start of its container to its first answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long after the end of a container the engine may say that it runs.
const LATE: Duration = Duration::from_secs(2);
/// How long to wait between two calls at the agent's socket.
const CALL: Duration = Duration::from_millis(1);

/// Why this transport did not work.
pub(super) enum Failure {
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

/// Makes and starts the job's container over the first transport that works.
pub(super) async fn start_job<N: Notes>(
    shared: &Shared,
    plan: &Plan,
    tracking: &str,
    folders: &[String],
    notes: &N,
) -> Result<Place, BackendError> {
    let mut transport = shared.transport();
    loop {
        let tried = match transport {
            Transport::Socket => Box::pin(over_socket(shared, plan, tracking, folders, notes)).await,
            Transport::Attach => Box::pin(over_attach(shared, plan, tracking, folders, notes)).await,
            Transport::Auto | Transport::Exec => Box::pin(over_exec(shared, plan, folders, notes)).await,
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
pub(super) async fn remove(shared: &Shared, name: &str) {
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
pub(super) fn start(shared: &Shared, id: &str) -> JoinSet<Result<(), bollard::errors::Error>> {
    let (docker, id) = (shared.engine.docker.clone(), id.to_owned());
    let mut starting = JoinSet::new();
    starting.spawn(async move { docker.start_container(&id, None::<StartContainerOptions>).await });
    starting
}

/// The start's error; or `None` when it went well and no agent answered for too long.
async fn failed_start(
    starting: &mut JoinSet<Result<(), bollard::errors::Error>>,
) -> Option<bollard::errors::Error> {
    if let Some(Ok(Err(error))) = starting.join_next().await {
        Some(error)
    } else {
        tokio::time::sleep(ANSWER).await;
        None
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

pub(super) fn start_failure(error: &bollard::errors::Error) -> Failure {
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
async fn last_words(shared: &Shared, id: &str) -> String {
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
    let inspected = shared.engine.inspect(id).await;
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

pub(super) fn check(shared: &Shared, link: &Link) -> Result<(), Failure> {
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
