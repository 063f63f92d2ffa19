//! The agent over the engine's attach, for engines that share no folder with the runner: its executable comes in a
//! volume that is filled once per engine and version.

use std::{collections::HashMap, fs};

use bollard::{
    body_try_stream,
    container::AttachContainerResults,
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, VolumeCreateRequest},
    query_parameters::{
        AttachContainerOptionsBuilder, ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder,
        StartContainerOptions, UploadToContainerOptionsBuilder,
    },
};
use futures_util::StreamExt;
use tokio::task::JoinSet;

use super::{
    AGENT, Shared,
    create::{Plan, refused},
    engine,
    env::Way,
    name,
    transport::{AGENT_PATH, Failure, Place, check, describe_end, remove, start_failure},
};
use crate::backend::{
    BackendError, Notes,
    link::{Connection, Link},
};

pub(super) async fn over_attach<N: Notes>(
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
    let create = async || {
        plan.create(shared, notes).await.map_err(|error| error.into_backend("creating the job container"))
    };
    let mut filled = shared.filled.lock().await;
    let id = if *filled {
        drop(filled);
        create().await?
    } else {
        make_volume(shared, &volume).await?;
        let id = create().await?;
        // The image is there now; the volume is filled by a container of it that never runs.
        fill(shared, &volume, &plan.image).await?;
        *filled = true;
        id
    };
    let attached = match begin(shared, &id).await {
        Err(error) if engine::message(&error).contains(AGENT_PATH) => {
            // Somebody has removed the volume since it was filled, and the engine has made an empty one.
            make_volume(shared, &volume).await?;
            fill(shared, &volume, &plan.image).await?;
            begin(shared, &id).await
        }
        other => other,
    };
    let attached = attached.map_err(|error| start_failure(&error))?;
    let link = match Link::open(Connection::Attached(attached), tracking, folders.to_vec()).await {
        Ok(link) => link,
        Err(error) => {
            let state = describe_end(shared, &id).await;
            return Err(Failure::Other(false, format!("{error}{state}")));
        }
    };
    check(shared, &link)?;
    Ok(Place { id, way: Way::Agent(link), socket_folder: None, starting: JoinSet::new() })
}

/// Attaches, so that the agent's first word is heard, and starts.
async fn begin(shared: &Shared, id: &str) -> Result<AttachContainerResults, bollard::errors::Error> {
    let docker = &shared.engine.docker;
    let attach =
        AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).stderr(true).build();
    let attached = docker.attach_container(id, Some(attach)).await?;
    docker.start_container(id, None::<StartContainerOptions>).await?;
    Ok(attached)
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

/// Puts the agent into its volume, unless another process has done that.
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
    let options = ContainerArchiveInfoOptionsBuilder::default().path(AGENT_PATH).build();
    let result = match docker.get_container_archive_info(&id, Some(options)).await {
        Ok(_) => Ok(()),
        Err(_) => upload(shared, &id).await,
    };
    remove(shared, &id).await;
    result
}

/// Sends the executable under a name of its own, and then the link by which it is started: whoever else fills the same
/// volume at this moment never starts a file that is still being written.
async fn upload(shared: &Shared, id: &str) -> Result<(), Failure> {
    let ours = |error| Failure::Final(BackendError::engine("reading the agent", error));
    let mut header = tar::Header::new_gnu();
    let length = fs::metadata(&shared.agent.path).map_err(ours)?.len();
    let own_name = format!("agent-{}", uuid::Uuid::new_v4().simple());
    header.set_path(&own_name).map_err(ours)?;
    header.set_size(length);
    header.set_mode(0o755);
    header.set_cksum();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_path("agent").map_err(ours)?;
    link.set_link_name(&own_name).map_err(ours)?;
    link.set_size(0);
    link.set_mode(0o777);
    link.set_cksum();
    let file = tokio::fs::File::open(&shared.agent.path).await.map_err(ours)?;
    let head = bytes::Bytes::copy_from_slice(header.as_bytes());
    let mut tail = vec![0_u8; usize::try_from((512 - length % 512) % 512).unwrap_or(0)];
    tail.extend_from_slice(link.as_bytes());
    tail.resize(tail.len() + 1024, 0);
    let pieces = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10);
    let archive = futures_util::stream::iter([Ok(head)])
        .chain(pieces)
        .chain(futures_util::stream::iter([Ok(tail.into())]));
    let options = UploadToContainerOptionsBuilder::default().path("/__esteira").build();
    shared
        .engine
        .docker
        .upload_to_container(id, Some(options), body_try_stream(archive))
        .await
        .map_err(|error| Failure::Final(refused("putting the agent into its volume", &error)))
}
