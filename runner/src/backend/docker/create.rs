//! From what a workflow asks for to the engine's create request, and the request itself.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use bollard::{
    models::{ContainerCreateBody, EndpointSettings, Mount, NetworkingConfig},
    query_parameters::CreateContainerOptionsBuilder,
};

use super::{
    Shared, engine, image,
    options::{Options, Role},
    ports,
};
use crate::backend::{BackendError, ContainerSpec, Credentials, Notes};

/// A container that can be made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) body: ContainerCreateBody,
    /// What the workflow wants mounted; it replaces the runner's own at the same place.
    pub(super) mounts: Vec<Mount>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) aliases: Vec<String>,
    platform: Option<String>,
    pull: Option<super::options::Pull>,
    credentials: Option<Credentials>,
    /// Rows about what was ignored.
    pub(super) notes: Vec<String>,
}

impl Plan {
    /// Reads everything that can be wrong before the engine is asked. `defaults` are the configuration's options.
    pub(super) fn new(
        shared: &Shared,
        spec: &ContainerSpec,
        role: Role,
        defaults: &str,
        name: String,
        labels: HashMap<String, String>,
    ) -> Result<Self, BackendError> {
        let config = &shared.config;
        let mut options = Options::parse(defaults, role, config.privileged).map_err(|reason| {
            BackendError::Refused(format!("`container.options` of the configuration: {reason}"))
        })?;
        options.add(&spec.options, role, config.privileged).map_err(BackendError::Refused)?;
        let mut notes = std::mem::take(&mut options.notes);
        let mut mounts: Vec<Mount> = Vec::new();
        // Relative paths begin where the runner was started.
        let base = std::env::current_dir().unwrap_or_else(|_| Path::new("/").to_owned());
        let plain =
            spec.volumes.iter().chain(&options.volumes).map(|text| shared.allowed.volume(text, &base));
        let long = options.mounts.iter().map(|text| shared.allowed.long(text, &base));
        for mount in plain.chain(long) {
            match mount.map_err(BackendError::Refused)? {
                Ok(mount) => mounts.push(mount),
                Err(row) => notes.push(row),
            }
        }
        let image = spec.image.trim().trim_start_matches("docker://").to_owned();
        let mut env = spec.env.clone();
        for entry in &options.env {
            if let Some((name, value)) = entry.split_once('=') {
                env.insert(name.to_owned(), value.to_owned());
            }
        }
        let mut body = options.body;
        let all_ports: Vec<String> = spec.ports.iter().chain(&options.ports).cloned().collect();
        let (exposed, bindings) = ports::parse(&all_ports).map_err(BackendError::Refused)?;
        let host = body.host_config.get_or_insert_default();
        if !bindings.is_empty() {
            host.port_bindings = Some(bindings);
            body.exposed_ports.get_or_insert_default().extend(exposed);
        }
        body.labels.get_or_insert_default().extend(labels);
        body.image = Some(image.clone());
        Ok(Self {
            name,
            image,
            body,
            mounts,
            env,
            aliases: options.aliases,
            platform: options.platform,
            pull: options.pull,
            credentials: spec.credentials.clone(),
            notes,
        })
    }

    /// The host part of the request.
    pub(super) fn host(&mut self) -> &mut bollard::models::HostConfig {
        self.body.host_config.get_or_insert_default()
    }

    /// Whether the root file system is read-only.
    pub(super) fn is_read_only(&self) -> bool {
        self.body.host_config.as_ref().and_then(|host| host.readonly_rootfs).unwrap_or(false)
    }

    /// Mounts of the runner's own, where the workflow has none.
    pub(super) fn add_mounts(&mut self, ours: Vec<Mount>) {
        for mount in ours {
            if !self.mounts.iter().any(|theirs| theirs.target == mount.target) {
                self.mounts.push(mount);
            }
        }
    }

    /// Joins a network under the plan's aliases and `alias`.
    pub(super) fn join(&mut self, network: &str, alias: Option<&str>) {
        self.host().network_mode = Some(network.to_owned());
        let aliases: Vec<String> = alias.map(str::to_owned).into_iter().chain(self.aliases.clone()).collect();
        let named =
            !matches!(network, "bridge" | "host" | "none" | "default") && !network.starts_with("container:");
        if named && !aliases.is_empty() {
            let endpoint = EndpointSettings { aliases: Some(aliases), ..EndpointSettings::default() };
            let endpoints = HashMap::from([(network.to_owned(), endpoint)]);
            self.body.networking_config = Some(NetworkingConfig { endpoints_config: Some(endpoints) });
        }
    }

    /// Makes the container; pulls its image when it is missing or when that is asked for. Answers with its id.
    pub(super) async fn create<N: Notes>(&self, shared: &Shared, notes: &N) -> Result<String, CreateError> {
        let wanted = image::Wanted {
            image: &self.image,
            credentials: self.credentials.as_ref(),
            platform: self.platform.as_deref(),
            pull: self.pull,
        };
        if wanted.always(shared.config.force_pull)
            && let Err(error) = image::pull(shared, &wanted, notes).await
        {
            // A copy that is there is better than none; when there is none, the request below fails.
            notes.note(&format!("Warning: {error}; using the local copy if there is one.")).await;
        }
        match self.request(shared).await {
            Err(error) if image::is_missing(&error) => {
                image::pull(shared, &wanted, notes).await.map_err(CreateError::Backend)?;
                self.request(shared).await.map_err(CreateError::Engine)
            }
            other => other.map_err(CreateError::Engine),
        }
    }

    async fn request(&self, shared: &Shared) -> Result<String, bollard::errors::Error> {
        let mut body = self.body.clone();
        body.env = Some(self.env.iter().map(|(name, value)| format!("{name}={value}")).collect());
        body.host_config.get_or_insert_default().mounts = Some(self.mounts.clone());
        let options = CreateContainerOptionsBuilder::default()
            .name(&self.name)
            .platform(self.platform.as_deref().unwrap_or_default())
            .build();
        Ok(shared.engine.docker.create_container(Some(options), body).await?.id)
    }
}

/// Why there is no container.
#[derive(Debug)]
pub(super) enum CreateError {
    /// The engine refuses the request.
    Engine(bollard::errors::Error),
    /// The image cannot be had.
    Backend(BackendError),
}

impl CreateError {
    /// For the user, with what was tried.
    pub(super) fn into_backend(self, what: &str) -> BackendError {
        match self {
            Self::Engine(error) => refused(what, &error),
            Self::Backend(error) => error,
        }
    }
}

/// An answer of the engine as an error for the user: what it says about the request is theirs, the rest is ours.
pub(super) fn refused(what: &str, error: &bollard::errors::Error) -> BackendError {
    let message = engine::message(error);
    match engine::status(error) {
        Some(400 | 404 | 409 | 500) => BackendError::Refused(format!("{what}: the engine says: {message}")),
        _ => BackendError::engine(what, std::io::Error::other(message)),
    }
}
