//! Reads what a stack's services and tasks are, and turns the engine's answers into the plain facts that are judged.

use std::collections::{BTreeMap, HashMap, HashSet};

use bollard::{
    Docker,
    models::{Service, ServiceSpec, ServiceUpdateStatusStateEnum, Task, TaskState},
    query_parameters::{ListServicesOptionsBuilder, ListTasksOptionsBuilder},
};

use crate::deploy::stack::DEPLOYMENT_LABEL;

/// Label by which `docker stack` knows its services.
const NAMESPACE_LABEL: &str = "com.docker.stack.namespace";

/// What a service is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Keep tasks running.
    Running,
    /// Run tasks to their end (`replicated-job`, `global-job`).
    Job,
}

/// What Swarm's updater says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Update {
    /// Nothing: the service is new, or has not been updated.
    None,
    /// Under way.
    Updating,
    /// Through, monitoring included.
    Completed,
    /// Stopped after a failure (`failure_action: pause`).
    Paused,
    /// On the way back.
    RollingBack,
    /// Back.
    RolledBack,
    /// The way back failed too.
    RollbackPaused,
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not yet running: pending, preparing, starting, becoming healthy.
    Starting,
    /// Running, and healthy where the image has a health check.
    Running,
    /// Ended by itself with 0.
    Complete,
    /// Stopped because Swarm wanted it to.
    Shutdown,
    /// Failed, rejected, or its node is lost.
    Failed,
}

/// One task.
#[derive(Debug, Clone)]
pub(super) struct TaskFacts {
    pub(super) id: String,
    /// Replica number, or the node's id.
    pub(super) slot: String,
    /// Made from the service's present specification.
    pub(super) current: bool,
    /// Swarm wants it to be running.
    pub(super) wanted: bool,
    pub(super) phase: Phase,
    /// Swarm's error text, empty when there is none.
    pub(super) error: String,
    /// Exit code of its container, when it has ended.
    pub(super) exit_code: Option<i64>,
    /// When its state last changed, seconds since the epoch as text the engine gave; for ordering.
    pub(super) changed: String,
}

/// One service.
#[derive(Debug, Clone)]
pub(super) struct ServiceFacts {
    pub(super) name: String,
    /// Id of the deployment that its specification carries.
    pub(super) deployment: Option<String>,
    pub(super) mode: Mode,
    /// Tasks that should run, or complete.
    pub(super) wanted: u64,
    /// Tasks of a job that have completed.
    pub(super) completed: u64,
    /// Failed tasks are started again.
    pub(super) restarts: bool,
    pub(super) update: Update,
    pub(super) update_message: String,
    pub(super) tasks: Vec<TaskFacts>,
}

fn of_stack(stack: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{NAMESPACE_LABEL}={stack}")])])
}

async fn services(engine: &Docker, stack: &str) -> Result<Vec<Service>, bollard::errors::Error> {
    engine
        .list_services(Some(ListServicesOptionsBuilder::new().filters(&of_stack(stack)).status(true).build()))
        .await
}

/// The specifications of a stack's services, by the name that the file gives them.
pub(super) async fn specifications(
    engine: &Docker,
    stack: &str,
) -> Result<BTreeMap<String, ServiceSpec>, crate::deploy::DeployError> {
    let services = services(engine, stack).await.map_err(|error| {
        crate::deploy::DeployError::Unreachable(format!("listing the services of stack {stack}: {error}"))
    })?;
    Ok(services
        .into_iter()
        .filter_map(|service| service.spec)
        .filter_map(|spec| Some((short_name(stack, spec.name.as_deref()?), spec)))
        .collect())
}

/// Ids of the tasks that are there.
pub(super) async fn task_ids(
    engine: &Docker,
    stack: &str,
) -> Result<HashSet<String>, crate::deploy::DeployError> {
    let stack = look(engine, stack).await.map_err(|error| {
        crate::deploy::DeployError::Unreachable(format!("listing the tasks of stack {stack}: {error}"))
    })?;
    Ok(stack.into_values().flat_map(|service| service.tasks).map(|task| task.id).collect())
}

/// The services of a stack with their tasks, by the name that the file gives them: two requests.
pub(super) async fn look(
    engine: &Docker,
    stack: &str,
) -> Result<BTreeMap<String, ServiceFacts>, bollard::errors::Error> {
    let services = services(engine, stack).await?;
    let tasks =
        engine.list_tasks(Some(ListTasksOptionsBuilder::new().filters(&of_stack(stack)).build())).await?;
    let mut by_service: HashMap<String, Vec<Task>> = HashMap::new();
    for task in tasks {
        if let Some(service) = task.service_id.clone() {
            by_service.entry(service).or_default().push(task);
        }
    }
    Ok(services
        .into_iter()
        .filter_map(|service| {
            let tasks = service.id.as_ref().and_then(|id| by_service.remove(id)).unwrap_or_default();
            let facts = service_facts(service, tasks)?;
            Some((short_name(stack, &facts.name), facts))
        })
        .collect())
}

fn short_name(stack: &str, name: &str) -> String {
    name.strip_prefix(stack).and_then(|rest| rest.strip_prefix('_')).unwrap_or(name).to_owned()
}

fn service_facts(service: Service, tasks: Vec<Task>) -> Option<ServiceFacts> {
    let spec = service.spec?;
    let mode = spec.mode.clone().unwrap_or_default();
    let is_job = mode.replicated_job.is_some() || mode.global_job.is_some();
    let status = service.service_status.unwrap_or_default();
    let wanted = match (&mode.replicated, &mode.replicated_job) {
        (Some(replicated), _) => replicated.replicas.and_then(|count| u64::try_from(count).ok()).unwrap_or(1),
        (_, Some(job)) => job.total_completions.and_then(|count| u64::try_from(count).ok()).unwrap_or(1),
        _ => status.desired_tasks.unwrap_or(0),
    };
    let iteration = service.job_status.and_then(|job| job.job_iteration).and_then(|version| version.index);
    let template = spec.task_template.clone().unwrap_or_default();
    let restarts = template
        .restart_policy
        .as_ref()
        .and_then(|policy| policy.condition)
        .is_none_or(|condition| condition.to_string() != "none");
    let tasks: Vec<TaskFacts> = tasks
        .into_iter()
        .map(|task| {
            let same_iteration =
                !is_job || task.job_iteration.as_ref().and_then(|version| version.index) == iteration;
            let current = same_iteration
                && task.spec.as_ref().is_some_and(|spec| {
                    spec.container_spec == template.container_spec
                        && spec.force_update.unwrap_or(0) == template.force_update.unwrap_or(0)
                });
            task_facts(task, current)
        })
        .collect();
    let completed = tasks.iter().filter(|task| task.current && task.phase == Phase::Complete).count() as u64;
    let update = service.update_status.unwrap_or_default();
    Some(ServiceFacts {
        name: spec.name.unwrap_or_default(),
        deployment: spec.labels.and_then(|mut labels| labels.remove(DEPLOYMENT_LABEL)),
        mode: if is_job { Mode::Job } else { Mode::Running },
        wanted,
        completed,
        restarts,
        update: match update.state {
            None | Some(ServiceUpdateStatusStateEnum::EMPTY) => Update::None,
            Some(ServiceUpdateStatusStateEnum::UPDATING) => Update::Updating,
            Some(ServiceUpdateStatusStateEnum::PAUSED) => Update::Paused,
            Some(ServiceUpdateStatusStateEnum::COMPLETED) => Update::Completed,
            Some(ServiceUpdateStatusStateEnum::ROLLBACK_STARTED) => Update::RollingBack,
            Some(ServiceUpdateStatusStateEnum::ROLLBACK_PAUSED) => Update::RollbackPaused,
            Some(ServiceUpdateStatusStateEnum::ROLLBACK_COMPLETED) => Update::RolledBack,
        },
        update_message: update.message.unwrap_or_default(),
        tasks,
    })
}

fn task_facts(task: Task, current: bool) -> TaskFacts {
    let status = task.status.unwrap_or_default();
    let phase = match status.state {
        Some(TaskState::RUNNING) => Phase::Running,
        Some(TaskState::COMPLETE) => Phase::Complete,
        Some(TaskState::SHUTDOWN | TaskState::REMOVE) => Phase::Shutdown,
        Some(TaskState::FAILED | TaskState::REJECTED | TaskState::ORPHANED) => Phase::Failed,
        _ => Phase::Starting,
    };
    let exit_code = status.container_status.and_then(|container| container.exit_code);
    TaskFacts {
        id: task.id.unwrap_or_default(),
        slot: task.slot.map(|slot| slot.to_string()).or(task.node_id).unwrap_or_default(),
        current,
        wanted: matches!(task.desired_state, Some(TaskState::RUNNING | TaskState::COMPLETE)),
        phase,
        error: status.err.unwrap_or_default(),
        exit_code: exit_code.filter(|_| matches!(phase, Phase::Failed | Phase::Complete)),
        changed: status.timestamp.unwrap_or_default(),
    }
}

/// The task as a failure, if it is one. A service's task that ends with 0 has failed too: a program that ends so on SIGTERM
/// leaves no other trace of a health check that has failed.
pub(super) fn failure(mode: Mode, task: &TaskFacts) -> Option<TaskFacts> {
    match task.phase {
        Phase::Failed if !task.error.is_empty() => Some(task.clone()),
        Phase::Complete if mode == Mode::Running && task.error.is_empty() => Some(TaskFacts {
            error:
                "the task ended with exit code 0: its health check failed (unhealthy), or it ended by itself"
                    .to_owned(),
            ..task.clone()
        }),
        _ => None,
    }
}
