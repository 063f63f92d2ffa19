//! What a run works with: places, images, the stores that the next run can use.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Environ, ExecArgs, Refused, given::placement};
use crate::{
    action::{ActionStore, GitNetwork, StoreOptions},
    backend::{
        Notes,
        docker::{DockerBackend, DockerConfig, Transport},
        host::{HostBackend, HostConfig},
    },
    cache::{Caches, Limits, Listening, ServerOptions},
    job::Backends,
    label::Placement,
    metrics::Metrics,
    report::console::Console,
};

/// The image of labels when none is named: that of Gitea's own runner.
const DEFAULT_IMAGE: &str = "docker.gitea.com/runner-images:ubuntu-latest";

/// Both kinds of places. A folder of their own holds what they leave behind.
pub(super) async fn backends(
    args: &ExecArgs,
    scratch: &Path,
    environ: &Environ,
) -> Result<Backends<HostBackend, DockerBackend>, Refused> {
    let executable =
        std::env::current_exe().map_err(|error| Refused(format!("cannot find this program: {error}")))?;
    let docker = DockerBackend::connect(DockerConfig {
        docker_host: args.container_daemon_socket.clone().unwrap_or_default(),
        environ: environ.clone(),
        state: scratch.join("engine"),
        executable: executable.clone(),
        network: args.network.clone().unwrap_or_default(),
        enable_ipv4: None,
        enable_ipv6: None,
        privileged: args.privileged,
        options: args
            .container_opts
            .iter()
            .cloned()
            .chain(args.official.container_options())
            .collect::<Vec<_>>()
            .join(" "),
        workdir_parent: "/workspace".to_owned(),
        // It is the user's own machine.
        bind_workdir: false,
        valid_volumes: vec!["**".to_owned()],
        force_pull: args.pull,
        service_ready_timeout: Some(Duration::from_secs(300)),
        tool_cache: None,
        transport: Transport::Auto,
        terminal: false,
    })
    .await
    .map_err(|error| format!("There is no container engine here: {error}"));
    let host = HostBackend::new(HostConfig {
        executable,
        scratch: scratch.join("jobs"),
        tool_cache: None,
        environ: environ.clone(),
        engine: docker.as_ref().ok().cloned(),
        terminal: false,
    });
    Ok(Backends { host, docker })
}

/// Where labels without a place of their own lead. What was asked for is obeyed; otherwise containers when an engine
/// answers and has the image or can get it, and the host when not.
pub(super) async fn default_placement(
    args: &ExecArgs,
    backends: &Backends<HostBackend, DockerBackend>,
    console: &Console,
) -> Placement {
    if let Some(image) = &args.image {
        return placement(image);
    }
    let why = match &backends.docker {
        Ok(docker) => match docker.obtain_image(DEFAULT_IMAGE, &Told(console)).await {
            Ok(()) => {
                console.note(&format!("jobs run in containers of {DEFAULT_IMAGE} ({})", docker.describe()));
                return Placement::Docker(DEFAULT_IMAGE.to_owned());
            }
            Err(error) => format!("the image {DEFAULT_IMAGE} cannot be had: {error}"),
        },
        Err(error) => error.clone(),
    };
    console.note(&format!("jobs run on this machine: {why}"));
    Placement::Host
}

/// Pull progress on the console.
struct Told<'a>(&'a Console);

impl Notes for Told<'_> {
    async fn note(&self, line: &str) {
        self.0.note(line);
    }
}

/// Where this program keeps what the next run can use.
pub(super) fn cache_folder(environ: &Environ) -> PathBuf {
    let path = |name: &str| environ.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("esteira")
}

pub(super) fn open_store(args: &ExecArgs, environ: &Environ) -> Result<ActionStore, Refused> {
    let folder = cache_folder(environ).join("actions");
    let options = StoreOptions { offline: args.offline, ..StoreOptions::default() };
    ActionStore::open(folder.clone(), options, GitNetwork::default())
        .map_err(|error| Refused(format!("cannot use the action store {}: {error}", folder.display())))
}

/// The cache of the run's jobs, in the folder that a daemon of this user has too.
pub(super) fn caches(
    args: &ExecArgs,
    backends: &Backends<HostBackend, DockerBackend>,
    environ: &Environ,
) -> Caches {
    if args.no_cache_server {
        return Caches::default();
    }
    let home = environ.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let options = ServerOptions {
        folder: home.map_or_else(|| cache_folder(environ).join("cache"), |home| home.join(".cache/actcache")),
        port: 0,
        listening: if backends.docker.is_ok() { Listening::Everywhere } else { Listening::Loopback },
        limits: Limits::default(),
        secret: None,
        wire: proto::transport::Options::default(),
        metrics: Metrics::default(),
    };
    Caches::own(options, "", true)
}
