//! The way from a job's specification to a prepared place: what is asked for, what is granted, network, services.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bollard::models::{Mount, MountType, MountVolumeOptions, NetworkCreateRequest};

use super::{
    Beside, Share, Shared,
    bound::Bound,
    create::{Plan, refused},
    engine,
    env::{DockerEnv, Way},
    labels, name,
    options::Role,
    transport::start_job,
};
use crate::{
    agent::DEFAULT_PATH,
    backend::{BackendError, JobSpec, Layout, Notes, tracking_id},
    cancel::Cancel,
};

/// The volume beside the workspace. In the containers of docker actions it is `/github`.
pub(super) const ROOT: &str = "/__w";
/// The runner's own node, where it was given one.
const NODE: &str = "/__node";
/// GitHub's place for tools, which images bring with content.
const TOOLS: &str = "/opt/hostedtoolcache";

/// Makes the place. What it has made when it fails is found by its labels.
pub(super) async fn prepare<N: Notes>(
    shared: &Arc<Shared>,
    mut spec: JobSpec,
    notes: &N,
    cancel: &Cancel,
) -> Result<DockerEnv, BackendError> {
    let config = &shared.config;
    let container = spec.container.clone().unwrap_or_default();
    let labels = labels(&spec.owner, spec.task);
    let (repository_owner, repository) = spec.repository.split_once('/').unwrap_or(("", &spec.repository));
    let bound = config.bind_workdir.then(|| Bound::new(&config.workdir_parent, &spec.owner, spec.task));
    let parent = bound.as_ref().map_or(config.workdir_parent.as_str(), Bound::parent);
    let workspace = [parent.trim_end_matches('/'), repository_owner, repository]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    if let Some(bound) = &bound {
        bound.make(&workspace)?;
        spec.bind_workspace = Some(workspace.clone().into());
    }
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
    if let Way::Agent(link) = &place.way {
        beside.await_listeners(link, notes).await;
    }
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
        node: spec.node.as_ref().map(|_| format!("{NODE}/bin/node")).unwrap_or_default(),
        environ: with_path(environ),
        os: "Linux",
        arch: crate::backend::arch(&place.way.machine(&shared.engine.arch)),
        in_container: true,
        container_id: place.id.clone(),
        network: network.unwrap_or_else(|| "bridge".to_owned()),
        services,
    };
    Ok(DockerEnv::new(Arc::clone(shared), layout, place, beside, bound))
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
    mounts.extend(spec.node.as_ref().map(|folder| bind(folder, NODE, true)));
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
