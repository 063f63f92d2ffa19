//! Reads what a stack's services and tasks are, and turns the engine's answers into the plain facts that are judged.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::deploy::{
    DeployError,
    engine::{Engine, NoAnswer},
    stack::DEPLOYMENT_LABEL,
};

/// Label by which `docker stack` knows its services.
const NAMESPACE_LABEL: &str = "com.docker.stack.namespace";

/// What of a task's specification makes Swarm replace the task whenever it changes. The placement does so only where the
/// task's node no longer fits.
const REPLACING: [&str; 6] =
    ["ContainerSpec", "Resources", "RestartPolicy", "Networks", "LogDriver", "ForceUpdate"];

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
    /// Made from the service's present specification, or one that Swarm may let stand for it.
    pub(super) current: bool,
    /// Placement or ports have changed: Swarm may still replace this task, although it is current.
    pub(super) kept: bool,
    /// Swarm wants it to be running.
    pub(super) wanted: bool,
    pub(super) phase: Phase,
    /// Swarm's error text, empty when there is none.
    pub(super) error: String,
    /// Exit code of its container, when it has ended.
    pub(super) exit_code: Option<i64>,
    /// When its state last changed; for ordering.
    pub(super) changed: Option<Timestamp>,
}

/// One service.
#[derive(Debug, Clone)]
pub(super) struct ServiceFacts {
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

/// What was there before the hand-over.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Ids of the tasks: not this release's fault.
    pub(super) tasks: HashSet<String>,
    /// Published ports and the like by service; a task does not tell its own.
    pub(super) endpoints: BTreeMap<String, Value>,
}

/// The services of a stack, by the name that the file gives them.
async fn services(engine: &Engine, stack: &str) -> Result<BTreeMap<String, Value>, NoAnswer> {
    let services = engine.list("/services", Some(&of_stack(stack))).await?;
    let named = services.into_iter().filter_map(|service| {
        let name = service["Spec"]["Name"].as_str()?;
        Some((short_name(stack, name), service))
    });
    Ok(named.collect())
}

fn of_stack(stack: &str) -> String {
    format!("{NAMESPACE_LABEL}={stack}")
}

fn short_name(stack: &str, name: &str) -> String {
    name.strip_prefix(stack).and_then(|rest| rest.strip_prefix('_')).unwrap_or(name).to_owned()
}

/// The specifications of a stack's services, by the name that the file gives them.
pub(super) async fn specifications(
    engine: &Engine,
    stack: &str,
) -> Result<BTreeMap<String, Value>, DeployError> {
    let services = services(engine, stack).await.map_err(|error| {
        DeployError::Unreachable(format!("listing the services of stack {stack}: {error}"))
    })?;
    Ok(services.into_iter().map(|(name, mut service)| (name, service["Spec"].take())).collect())
}

/// The names of all networks by their ids.
pub(super) async fn network_names(engine: &Engine) -> Result<HashMap<String, String>, DeployError> {
    let networks = engine.list("/networks", None).await;
    let networks =
        networks.map_err(|error| DeployError::Unreachable(format!("listing the networks: {error}")))?;
    let text = |network: &Value, key: &str| network[key].as_str().map(str::to_owned);
    Ok(networks.iter().filter_map(|network| Some((text(network, "Id")?, text(network, "Name")?))).collect())
}

/// What is there now, before the hand-over.
pub(super) async fn before(engine: &Engine, stack: &str) -> Result<Before, DeployError> {
    let endpoints = specifications(engine, stack).await?;
    let endpoints = endpoints.into_iter().map(|(name, mut spec)| (name, spec["EndpointSpec"].take()));
    let tasks = engine.list("/tasks", Some(&of_stack(stack))).await;
    let tasks = tasks
        .map_err(|error| DeployError::Unreachable(format!("listing the tasks of stack {stack}: {error}")))?;
    let ids = tasks.iter().filter_map(|task| task["ID"].as_str().map(str::to_owned));
    Ok(Before { tasks: ids.collect(), endpoints: endpoints.collect() })
}

/// The services of a stack with their tasks, by the name that the file gives them: two requests.
pub(super) async fn look(
    engine: &Engine,
    stack: &str,
    before: &Before,
) -> Result<BTreeMap<String, ServiceFacts>, NoAnswer> {
    let services = services(engine, stack).await?;
    let mut by_service: HashMap<String, Vec<Value>> = HashMap::new();
    for task in engine.list("/tasks", Some(&of_stack(stack))).await? {
        if let Some(service) = task["ServiceID"].as_str() {
            by_service.entry(service.to_owned()).or_default().push(task);
        }
    }
    let with_tasks = services.into_iter().map(|(name, service)| {
        let tasks = service["ID"].as_str().and_then(|id| by_service.remove(id)).unwrap_or_default();
        let facts = service_facts(&name, &service, &tasks, before);
        (name, facts)
    });
    Ok(with_tasks.collect())
}

fn service_facts(name: &str, service: &Value, tasks: &[Value], before: &Before) -> ServiceFacts {
    let spec = &service["Spec"];
    let template = &spec["TaskTemplate"];
    let mode = if ["ReplicatedJob", "GlobalJob"].iter().any(|mode| !spec["Mode"][*mode].is_null()) {
        Mode::Job
    } else {
        Mode::Running
    };
    let iteration = &service["JobStatus"]["JobIteration"]["Index"];
    let published_anew =
        before.endpoints.get(name).is_some_and(|former| !same(former, &spec["EndpointSpec"]));
    let tasks: Vec<TaskFacts> = tasks
        .iter()
        .map(|task| {
            let mut facts = task_facts(task, template);
            facts.current &= mode == Mode::Running || task["JobIteration"]["Index"] == *iteration;
            facts.kept |= published_anew && before.tasks.contains(&facts.id);
            facts
        })
        .collect();
    ServiceFacts {
        deployment: spec["Labels"][DEPLOYMENT_LABEL].as_str().map(str::to_owned),
        mode,
        wanted: wanted(service),
        completed: tasks.iter().filter(|task| task.current && task.phase == Phase::Complete).count() as u64,
        restarts: template["RestartPolicy"]["Condition"] != "none",
        update: update(&service["UpdateStatus"]["State"]),
        update_message: service["UpdateStatus"]["Message"].as_str().unwrap_or_default().to_owned(),
        tasks,
    }
}

/// How many tasks should run, or complete.
fn wanted(service: &Value) -> u64 {
    let mode = &service["Spec"]["Mode"];
    if let Some(replicated) = mode["Replicated"].as_object() {
        replicated.get("Replicas").and_then(Value::as_u64).unwrap_or(1)
    } else if let Some(job) = mode["ReplicatedJob"].as_object() {
        job.get("TotalCompletions").and_then(Value::as_u64).unwrap_or(1)
    } else {
        service["ServiceStatus"]["DesiredTasks"].as_u64().unwrap_or(0)
    }
}

fn update(state: &Value) -> Update {
    match state.as_str().unwrap_or_default() {
        "updating" => Update::Updating,
        "paused" => Update::Paused,
        "completed" => Update::Completed,
        "rollback_started" => Update::RollingBack,
        "rollback_paused" => Update::RollbackPaused,
        "rollback_completed" => Update::RolledBack,
        _ => Update::None,
    }
}

/// Whether two parts of a specification say the same; nothing, null and empty are one.
fn same(one: &Value, other: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    match (one, other) {
        (Value::Object(left), Value::Object(right)) => {
            left.iter().all(|(key, value)| same(value, &other[key]))
                && right.iter().all(|(key, value)| left.contains_key(key) || is_empty(value))
        }
        (one, other) => one == other || is_empty(one) && is_empty(other),
    }
}

fn task_facts(task: &Value, template: &Value) -> TaskFacts {
    let (spec, status) = (&task["Spec"], &task["Status"]);
    let phase = match status["State"].as_str().unwrap_or_default() {
        "running" => Phase::Running,
        "complete" => Phase::Complete,
        "shutdown" | "remove" => Phase::Shutdown,
        "failed" | "rejected" | "orphaned" => Phase::Failed,
        _ => Phase::Starting,
    };
    let exit_code = status["ContainerStatus"]["ExitCode"].as_i64();
    let slot = task["Slot"].as_u64().map(|slot| slot.to_string());
    let current = REPLACING.iter().all(|part| same(&spec[*part], &template[*part]));
    TaskFacts {
        id: task["ID"].as_str().unwrap_or_default().to_owned(),
        slot: slot.or_else(|| task["NodeID"].as_str().map(str::to_owned)).unwrap_or_default(),
        current,
        kept: current && !same(&spec["Placement"], &template["Placement"]),
        wanted: matches!(task["DesiredState"].as_str(), Some("running" | "complete")),
        phase,
        error: status["Err"].as_str().unwrap_or_default().to_owned(),
        exit_code: exit_code.filter(|_| matches!(phase, Phase::Failed | Phase::Complete)),
        changed: status["Timestamp"].as_str().and_then(|text| text.parse().ok()),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Before, ServiceFacts, service_facts, task_facts};

    fn template() -> Value {
        json!({
            "ContainerSpec": {"Image": "a:1", "Healthcheck": {"Test": ["CMD", "true"]}},
            "Resources": {"Limits": {"MemoryBytes": 1000}},
            "Placement": {"Constraints": ["node.role == manager"]},
            "Networks": [{"Target": "n1"}],
            "ForceUpdate": 0,
            "Runtime": "container",
        })
    }

    /// A running task of `spec` beside a service of `template()` with these ports.
    fn beside(spec: &Value, former_ports: &Value) -> ServiceFacts {
        let service = json!({"Spec": {"Mode": {"Replicated": {"Replicas": 1}}, "TaskTemplate": template(),
            "EndpointSpec": {"Ports": [{"PublishedPort": 80}]}}});
        let task =
            json!({"ID": "t", "Spec": spec, "DesiredState": "running", "Status": {"State": "running"}});
        let before = Before {
            tasks: std::iter::once("t".to_owned()).collect(),
            endpoints: std::iter::once(("web".to_owned(), json!({ "Ports": former_ports }))).collect(),
        };
        service_facts("web", &service, &[task], &before)
    }

    #[test]
    fn a_task_is_former_when_any_part_of_its_specification_has_changed() {
        let ports = json!([{"PublishedPort": 80}]);
        let mut spec = template();
        spec.as_object_mut().expect("an object").remove("Runtime");
        assert!(beside(&spec, &ports).tasks[0].current, "the engine does not repeat the runtime in a task");
        for (pointer, other) in [
            ("/ContainerSpec/Image", json!("a:2")),
            ("/ContainerSpec/Healthcheck/Test/1", json!("false")),
            ("/Resources/Limits/MemoryBytes", json!(2000)),
            ("/Networks/0/Target", json!("n2")),
            ("/ForceUpdate", json!(1)),
        ] {
            let mut former = spec.clone();
            *former.pointer_mut(pointer).expect("the part") = other;
            assert!(!beside(&former, &ports).tasks[0].current, "{pointer}");
        }
        let mut former = spec.clone();
        former["LogDriver"] = json!({"Name": "json-file"});
        assert!(!beside(&former, &ports).tasks[0].current, "a log driver that has gone");
    }

    #[test]
    fn what_swarm_may_keep_is_current_but_not_settled() {
        let ports = json!([{"PublishedPort": 80}]);
        let settled = |facts: &ServiceFacts| (facts.tasks[0].current, facts.tasks[0].kept);
        assert_eq!(settled(&beside(&template(), &ports)), (true, false));
        let mut moved = template();
        moved["Placement"]["Constraints"] = json!([]);
        assert_eq!(settled(&beside(&moved, &ports)), (true, true));
        assert_eq!(settled(&beside(&template(), &json!([{"PublishedPort": 81}]))), (true, true));
    }

    #[test]
    fn states_are_ordered_by_time_not_by_text() {
        let at = |text: &str| task_facts(&json!({"Status": {"Timestamp": text}}), &json!({})).changed;
        assert!(at("2026-11-25T10:00:05Z").is_some());
        assert!(at("2026-11-25T10:00:05Z") < at("2026-11-25T10:00:05.1Z"));
    }
}
