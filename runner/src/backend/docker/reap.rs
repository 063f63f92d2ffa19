//! Removing what carries our labels: after a failed preparation, after a crash, and old agents' volumes.

use std::collections::HashMap;

use bollard::query_parameters::{
    ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};

use super::{AGENT, DockerBackend, OWNER, TASK, bound::Bound, engine};
use crate::backend::BackendError;

/// What was found and removed, or could not be: one sentence each, for the daemon's log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Removed.
    pub removed: Vec<String>,
    /// Still there, and why.
    pub left_over: Vec<String>,
}

impl Reaped {
    fn tell(&mut self, what: String, result: Result<(), bollard::errors::Error>) {
        match engine::gone_is_fine(result) {
            Ok(()) => self.removed.push(what),
            Err(error) => self.left_over.push(format!("{what}: {}", engine::message(&error))),
        }
    }
}

type Filters = HashMap<String, Vec<String>>;

fn by_label(labels: &[String]) -> Filters {
    HashMap::from([("label".to_owned(), labels.to_vec())])
}

fn task_of(labels: Option<&HashMap<String, String>>) -> Option<i64> {
    labels?.get(TASK)?.parse().ok()
}

impl DockerBackend {
    /// Removes containers, networks and volumes of `owner` whose task `is_live` does not know; those of other runners
    /// and of every `exec` stay as they are.
    pub async fn reap(
        &self,
        owner: &str,
        is_live: impl Fn(i64) -> bool + Send + Sync,
    ) -> Result<Reaped, BackendError> {
        let mut reaped = self.remove(&[format!("{OWNER}={owner}")], |task| !is_live(task)).await?;
        self.remove_bound(owner, |task| !is_live(task), &mut reaped).await;
        Ok(reaped)
    }

    /// Removes what one task has; failures are in the daemon's log, since the next start tries again.
    pub(super) async fn remove_task(&self, owner: &str, task: i64) {
        let labels = [format!("{OWNER}={owner}"), format!("{TASK}={task}")];
        let removed = match self.remove(&labels, |_| true).await {
            Ok(mut reaped) => {
                self.remove_bound(owner, |other| other == task, &mut reaped).await;
                Ok(reaped)
            }
            failed => failed,
        };
        match removed {
            Ok(reaped) if reaped.left_over.is_empty() => {}
            Ok(reaped) => {
                tracing::warn!(task, left_over = ?reaped.left_over, "a job's preparation was not undone");
            }
            Err(error) => tracing::warn!(task, %error, "a job's preparation was not undone"),
        }
    }

    async fn remove(
        &self,
        labels: &[String],
        dead: impl Fn(i64) -> bool + Send + Sync,
    ) -> Result<Reaped, BackendError> {
        let docker = &self.shared.engine.docker;
        let mut reaped = Reaped::default();
        let listed = self.shared.engine.containers(labels).await;
        let containers = listed.map_err(engine::failed("listing containers"))?;
        for container in containers {
            if !task_of(container.labels.as_ref()).is_some_and(&dead) {
                continue;
            }
            let name = container.names.and_then(|names| names.into_iter().next()).unwrap_or_default();
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let result = docker.remove_container(&container.id.unwrap_or_default(), Some(options)).await;
            reaped.tell(format!("container {}", name.trim_start_matches('/')), result);
        }
        let list = ListNetworksOptionsBuilder::default().filters(&by_label(labels)).build();
        for network in docker.list_networks(Some(list)).await.map_err(engine::failed("listing networks"))? {
            if task_of(network.labels.as_ref()).is_some_and(&dead) {
                let result = docker.remove_network(&network.id.unwrap_or_default()).await;
                reaped.tell(format!("network {}", network.name.unwrap_or_default()), result);
            }
        }
        let list = ListVolumesOptionsBuilder::default().filters(&by_label(labels)).build();
        let volumes = docker.list_volumes(Some(list)).await.map_err(engine::failed("listing volumes"))?;
        for volume in volumes.volumes.unwrap_or_default() {
            if task_of(Some(&volume.labels)).is_some_and(&dead) {
                let result = docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await;
                reaped.tell(format!("volume {}", volume.name), result);
            }
        }
        Ok(reaped)
    }

    /// Removes workspaces on this machine.
    async fn remove_bound(&self, owner: &str, dead: impl Fn(i64) -> bool, reaped: &mut Reaped) {
        for bound in Bound::all(&self.shared.config.workdir_parent, owner) {
            if !dead(bound.task()) {
                continue;
            }
            let what = format!("workspace {}", bound.parent());
            match bound.remove().await {
                Ok(()) => reaped.removed.push(what),
                Err(reason) => reaped.left_over.push(reason),
            }
        }
    }

    /// Removes agents of other versions, copies and volumes, that nothing uses any more. For idle times.
    pub async fn remove_old_agents(&self) -> Result<Reaped, BackendError> {
        let docker = &self.shared.engine.docker;
        let mut reaped = Reaped::default();
        let list = ListVolumesOptionsBuilder::default().filters(&by_label(&[AGENT.to_owned()])).build();
        let volumes = docker.list_volumes(Some(list)).await.map_err(engine::failed("listing volumes"))?;
        for volume in volumes.volumes.unwrap_or_default() {
            if volume.labels.get(AGENT) == Some(&self.shared.agent.hash) {
                continue;
            }
            match docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await {
                // In use by a job of another version.
                Err(error) if engine::status(&error) == Some(409) => {}
                result => reaped.tell(format!("volume {}", volume.name), result),
            }
        }
        Ok(reaped)
    }
}
