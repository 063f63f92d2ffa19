//! Service containers: started together, waited for by their own health checks, shown when they fail.

use std::{collections::BTreeMap, time::Duration};

use bollard::{
    models::{ContainerInspectResponse, HealthStatusEnum},
    query_parameters::{EventsOptionsBuilder, LogsOptionsBuilder, StartContainerOptions},
};
use futures_util::{StreamExt, future::try_join_all};
use tokio::time::{Instant, timeout_at};

use super::{
    Shared,
    create::{Plan, refused},
    engine, labels,
    listening::Listener,
    name,
    options::Role,
    podman,
};
use crate::backend::{BackendError, JobSpec, Notes, ServiceFacts, ServiceSpec};

/// How many of a failed service's last rows are shown.
const ROWS: &str = "100";

/// How often a service is looked at although no event came.
const LOOK: Duration = Duration::from_secs(10);

/// A service that has been started.
#[derive(Debug)]
pub(super) struct Service {
    id: String,
    /// The container.
    pub(super) container: String,
}

/// Reads everything that can be wrong about the services.
pub(super) fn plan(
    shared: &Shared,
    owner: &JobOwner,
    network: &str,
    services: &[ServiceSpec],
) -> Result<Vec<(String, Plan)>, BackendError> {
    let mut plans = Vec::new();
    for service in services.iter().filter(|service| !service.container.image.trim().is_empty()) {
        let name = name(&owner.job, &service.id);
        let labels = labels(&owner.owner, owner.task);
        let mut plan = Plan::new(shared, &service.container, Role::Beside, "", name, labels)
            .map_err(|error| BackendError::Refused(format!("service {}: {error}", service.id)))?;
        if !service.entrypoint.is_empty() {
            plan.body.entrypoint = Some(service.entrypoint.clone());
        }
        if !service.command.is_empty() {
            plan.body.cmd = Some(service.command.clone());
        }
        if !network.is_empty() {
            plan.join(network, Some(&service.id));
        }
        plans.push((service.id.clone(), plan));
    }
    Ok(plans)
}

/// Whose containers these are.
#[derive(Debug, Clone)]
pub(super) struct JobOwner {
    pub(super) job: String,
    pub(super) owner: String,
    pub(super) task: i64,
}

impl JobOwner {
    pub(super) fn of(spec: &JobSpec) -> Self {
        Self { job: spec.name.clone(), owner: spec.owner.clone(), task: spec.task }
    }
}

/// Makes and starts them, all at once.
pub(super) async fn start<N: Notes>(
    shared: &Shared,
    plans: Vec<(String, Plan)>,
    notes: &N,
) -> Result<Vec<Service>, BackendError> {
    try_join_all(plans.into_iter().map(async |(id, plan)| {
        for row in &plan.notes {
            notes.note(&format!("service {id}: {row}")).await;
        }
        notes.note(&format!("Starting the service {id} from {}", plan.image)).await;
        let what = format!("creating the service {id}");
        let container = plan.create(shared, notes).await.map_err(|error| error.into_backend(&what))?;
        let started = shared.engine.docker.start_container(&container, None::<StartContainerOptions>).await;
        started.map_err(|error| refused(&format!("starting the service {id}"), &error))?;
        Ok(Service { id, container })
    }))
    .await
}

/// Waits until those with a health check are healthy; answers with what the job may know about each, and where those
/// without one should listen.
pub(super) async fn ready<N: Notes>(
    shared: &Shared,
    services: &[Service],
    network: &str,
    notes: &N,
) -> Result<(BTreeMap<String, ServiceFacts>, Vec<Listener>), BackendError> {
    let ready = try_join_all(services.iter().map(async |service| {
        let inspected = look(shared, service).await?;
        let facts = facts(&inspected, service, network);
        let mut listener = None;
        match standing(&inspected) {
            Standing::Ready if has_health_check(&inspected) => {}
            Standing::Ready => listener = Listener::of(&service.id, &inspected),
            Standing::Ended(code) => {
                notes
                    .note(&format!(
                        "Warning: the service {} has ended with {code}. What it printed:",
                        service.id
                    ))
                    .await;
                show(shared, service, notes).await;
            }
            Standing::Unhealthy(probe) => return Err(failed(shared, service, &probe, notes).await),
            Standing::Starting => wait(shared, service, &inspected, notes).await?,
        }
        Ok(((service.id.clone(), facts), listener))
    }))
    .await?;
    let (facts, listeners): (BTreeMap<_, _>, Vec<_>) = ready.into_iter().unzip();
    Ok((facts, listeners.into_iter().flatten().collect()))
}

enum Standing {
    /// Healthy, or without a health check.
    Ready,
    Starting,
    /// What the last probe printed.
    Unhealthy(String),
    /// Its exit code; it has no health check.
    Ended(i64),
}

fn standing(inspected: &ContainerInspectResponse) -> Standing {
    let Some(state) = &inspected.state else { return Standing::Ready };
    let ended = state.running == Some(false);
    let code = state.exit_code.unwrap_or(-1);
    let Some(health) = &state.health else {
        return if ended { Standing::Ended(code) } else { Standing::Ready };
    };
    let probe = || {
        let last = health.log.as_ref().and_then(|log| log.last()).and_then(|probe| probe.output.clone());
        last.unwrap_or_default().trim().to_owned()
    };
    match health.status {
        Some(HealthStatusEnum::STARTING) if ended => Standing::Unhealthy(format!("it has ended with {code}")),
        Some(HealthStatusEnum::STARTING) => Standing::Starting,
        Some(HealthStatusEnum::UNHEALTHY) => Standing::Unhealthy(probe()),
        _ => Standing::Ready,
    }
}

fn has_health_check(inspected: &ContainerInspectResponse) -> bool {
    let health = inspected.state.as_ref().and_then(|state| state.health.as_ref());
    // Podman shows an empty one where there is none.
    !matches!(
        health.and_then(|health| health.status),
        None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE)
    )
}

async fn look(shared: &Shared, service: &Service) -> Result<ContainerInspectResponse, BackendError> {
    let inspected = shared.engine.inspect(&service.container).await;
    inspected.map_err(engine::failed(format!("looking at the service {}", service.id)))
}

async fn wait<N: Notes>(
    shared: &Shared,
    service: &Service,
    inspected: &ContainerInspectResponse,
    notes: &N,
) -> Result<(), BackendError> {
    let Some(limit) = shared.config.service_ready_timeout else { return Ok(()) };
    let deadline = Instant::now() + limit;
    notes.note(&format!("Waiting for the service {} to be healthy", service.id)).await;
    let check = inspected.config.as_ref().and_then(|config| config.healthcheck.as_ref());
    if let (true, Some(check)) = (shared.engine.is_podman, check) {
        return match podman::probe(&shared.engine, &service.container, check, deadline).await {
            Ok(()) => {
                notes.note(&format!("The service {} is healthy", service.id)).await;
                Ok(())
            }
            Err(reason) => Err(failed(shared, service, &reason, notes).await),
        };
    }
    let filters = std::collections::HashMap::from([
        ("container".to_owned(), vec![service.container.clone()]),
        ("event".to_owned(), vec!["health_status".to_owned(), "die".to_owned()]),
    ]);
    let options = EventsOptionsBuilder::default().filters(&filters).build();
    let mut events = std::pin::pin!(shared.engine.docker.events(Some(options)));
    loop {
        let next = deadline.min(Instant::now() + LOOK);
        // An event says that something has changed, and what; a stream that ends leaves the looks.
        match timeout_at(next, events.next()).await {
            Ok(Some(Ok(event))) if event.action.as_deref() == Some("health_status: healthy") => {
                notes.note(&format!("The service {} is healthy", service.id)).await;
                return Ok(());
            }
            Ok(Some(Ok(_))) | Err(_) => {}
            Ok(Some(Err(_)) | None) => {
                tokio::time::sleep_until(deadline.min(Instant::now() + LOOK / 5)).await;
            }
        }
        match standing(&look(shared, service).await?) {
            Standing::Ready => {
                notes.note(&format!("The service {} is healthy", service.id)).await;
                return Ok(());
            }
            Standing::Starting if Instant::now() < deadline => {}
            Standing::Starting => {
                let reason = format!("it was not healthy within {} s", limit.as_secs());
                return Err(failed(shared, service, &reason, notes).await);
            }
            Standing::Unhealthy(probe) => return Err(failed(shared, service, &probe, notes).await),
            Standing::Ended(code) => {
                return Err(failed(shared, service, &format!("it has ended with {code}"), notes).await);
            }
        }
    }
}

async fn failed<N: Notes>(shared: &Shared, service: &Service, probe: &str, notes: &N) -> BackendError {
    notes.note(&format!("The service {} has failed. What it printed:", service.id)).await;
    show(shared, service, notes).await;
    let reason = if probe.is_empty() { "its health check fails" } else { probe };
    BackendError::Refused(format!("the service {} is not healthy: {reason}", service.id))
}

async fn show<N: Notes>(shared: &Shared, service: &Service, notes: &N) {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(ROWS).build();
    let mut logs = std::pin::pin!(shared.engine.docker.logs(&service.container, Some(options)));
    let mut text = String::new();
    while let Some(piece) = logs.next().await {
        match piece {
            Ok(piece) => text.push_str(&String::from_utf8_lossy(piece.as_ref())),
            Err(error) => text.extend(["(its log cannot be read: ", &engine::message(&error), ")\n"]),
        }
    }
    for line in text.lines() {
        notes.note(line).await;
    }
}

fn facts(inspected: &ContainerInspectResponse, service: &Service, network: &str) -> ServiceFacts {
    let ports = inspected.network_settings.as_ref().and_then(|settings| settings.ports.as_ref());
    let ports = ports.into_iter().flatten().filter_map(|(port, bindings)| {
        let host = bindings.as_ref()?.first()?.host_port.clone()?;
        Some((port.strip_suffix("/tcp").unwrap_or(port).to_owned(), host))
    });
    ServiceFacts { id: service.container.clone(), network: network.to_owned(), ports: ports.collect() }
}
