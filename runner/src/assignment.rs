//! One job to run, validated: protobuf and YAML stop here.
//!
//! The daemon makes assignments from the server's tasks, `exec` makes the same ones from its plan; from here on nobody
//! can tell them apart.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prost_types::{Struct, value::Kind};
use proto::runner::v1::{Result as NeedOutcome, Task};
use workflows::{
    Contexts, InputKind, Job, JobStatus, Object, Scope, SourceFile, TemplateNode, Value, Workflow,
    parse_payload, plan::PlannedJob,
};

use crate::{
    action::{ActionSource, Origin, WorkingTree},
    cache::Offer,
    label::Label,
    log::Masker,
    secret::Secret,
};

/// What a runner is, to its jobs.
#[derive(Debug, Clone, Default)]
pub struct RunnerFacts {
    /// Marks everything that a job leaves anywhere.
    pub uuid: String,
    /// `runner.name`.
    pub name: String,
    /// The address of the job's server, without trailing slash.
    pub address: String,
    /// This program's version.
    pub version: String,
    /// What it may run, and where.
    pub labels: Vec<Label>,
    /// What the server said that it can do.
    pub capabilities: String,
    /// How jobs are run.
    pub config: JobConfig,
}

/// What the operator has decided about jobs.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// `runner.envs` and `runner.env_file`: the lowest level of every job's environment.
    pub envs: BTreeMap<String, String>,
    /// `runner.timeout`.
    pub timeout: Duration,
    /// `runner.default_image`, for a job that matches no label.
    pub default_image: Option<String>,
    /// `container.force_rebuild`.
    pub force_rebuild: bool,
    /// `runner.node_dir`: a folder with `bin/node`, for images without node.
    pub node_dir: Option<PathBuf>,
    /// `runner.github_mirror`.
    pub github_mirror: Option<String>,
    /// `runner.set_act_env`.
    pub set_act_env: bool,
    /// Proxies and the like, for every place.
    pub place_env: BTreeMap<String, String>,
    /// `runner.hooks.job_started` and `job_completed`.
    pub hooks: [Option<PathBuf>; 2],
    /// `runner.patch_actions`.
    pub patch_actions: bool,
    /// A host folder that takes the workspace's place.
    pub bind_workspace: Option<PathBuf>,
}

impl Default for JobConfig {
    /// The official runner's defaults: three hours, nothing else.
    fn default() -> Self {
        Self {
            envs: BTreeMap::new(),
            timeout: Duration::from_secs(3 * 3600),
            default_image: None,
            force_rebuild: false,
            node_dir: None,
            github_mirror: None,
            set_act_env: true,
            place_env: BTreeMap::new(),
            hooks: [None, None],
            patch_actions: true,
            bind_workspace: None,
        }
    }
}

/// What a needed job has become.
#[derive(Debug, Clone, Default)]
pub struct Need {
    /// `success`, `failure`, `cancelled` or `skipped`.
    pub result: String,
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
}

/// One job, ready to be run.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The server's number of the task.
    pub task: i64,
    /// What people call it.
    pub display_name: String,
    /// The `github` context, without what only a running step knows.
    pub github: Object,
    /// The `secrets` context.
    pub secrets: Vec<(String, Secret<String>)>,
    /// The `vars` context.
    pub vars: Vec<(String, String)>,
    /// Direct needs by job id.
    pub needs: Vec<(String, Need)>,
    /// The `inputs` context.
    pub inputs: Value,
    /// The `matrix` context.
    pub matrix: Value,
    /// The `strategy` context.
    pub strategy: Value,
    /// Variables for the server's services: addresses and tokens.
    pub services: Vec<(String, Secret<String>)>,
    /// The cache that it may use.
    pub cache: Offer,
    /// From where its actions come.
    pub source: ActionSource,
    /// The local repository that `actions/checkout` means, when the workflow is one of this machine.
    pub working_tree: Option<Arc<WorkingTree>>,
    /// Who runs it.
    pub runner: Arc<RunnerFacts>,
    /// Where its workspace was, once it has a place; of the jobs of a called workflow, the first one's.
    pub workspace: Arc<OnceLock<String>>,
    workflow: Arc<Workflow>,
    index: usize,
}

/// A task that nobody can run. One sentence, which may quote the payload: to be masked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// What an assignment is made from, besides its job.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// See [`Assignment::task`].
    pub task: i64,
    /// See [`Assignment::github`].
    pub github: Object,
    /// See [`Assignment::secrets`].
    pub secrets: Vec<(String, Secret<String>)>,
    /// See [`Assignment::vars`].
    pub vars: Vec<(String, String)>,
    /// See [`Assignment::needs`].
    pub needs: Vec<(String, Need)>,
    /// See [`Assignment::inputs`].
    pub inputs: Value,
    /// See [`Assignment::matrix`].
    pub matrix: Value,
    /// See [`Assignment::strategy`].
    pub strategy: Value,
    /// See [`Assignment::services`].
    pub services: Vec<(String, Secret<String>)>,
    /// See [`Assignment::cache`].
    pub cache: Offer,
    /// See [`Assignment::source`].
    pub source: ActionSource,
    /// See [`Assignment::working_tree`].
    pub working_tree: Option<Arc<WorkingTree>>,
}

/// Keys of the server's context that only a running step knows, or that are no business of workflows.
const DROPPED: [&str; 13] = [
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "action_status",
    "env",
    "event_path",
    "path",
    "workspace",
    "gitea_runtime_token",
    "gitea_default_actions_url",
    "actions_id_token_request_url",
    "actions_id_token_request_token",
];

impl Assignment {
    /// Reads a task of the server.
    pub fn from_task(task: Task, runner: &Arc<RunnerFacts>) -> Result<Self, Broken> {
        let payload = task.workflow_payload.unwrap_or_default();
        let text =
            std::str::from_utf8(&payload).map_err(|_| Broken("The workflow is no UTF-8.".to_owned()))?;
        let context = struct_to_object(task.context.unwrap_or_default());
        let word = |key: &str| context.get(key).map(Value::to_text).unwrap_or_default();
        let source = SourceFile::new(&word("workflow"), text);
        let workflow = parse_payload(&source).into_result().map_err(|diagnostics| {
            let rows: Vec<String> = diagnostics
                .iter()
                .filter(|diagnostic| diagnostic.is_error())
                .map(|diagnostic| workflows::render_line(diagnostic, &source))
                .collect();
            Broken(format!("The workflow cannot be run:\n{}", rows.join("\n")))
        })?;
        let [job] = workflow.jobs.as_slice() else {
            return Err(Broken(format!("The task has {} jobs instead of one.", workflow.jobs.len())));
        };
        let token = Secret::new(word("token"));
        let secrets =
            sorted(task.secrets).into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        let mut needs: Vec<(String, Need)> = task
            .needs
            .into_iter()
            .map(|(id, need)| {
                let result = outcome(need.result()).to_owned();
                (id, Need { result, outputs: need.outputs.into_iter().collect() })
            })
            .collect();
        needs.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (matrix, strategy) = strategy(job);
        let default_url = match word("gitea_default_actions_url").trim_end_matches('/') {
            "" | "https://github.com" => {
                runner.config.github_mirror.clone().unwrap_or_else(|| "https://github.com".to_owned())
            }
            url => url.to_owned(),
        };
        let parts = Parts {
            task: task.id,
            services: services(&context, &token, runner),
            cache: Offer::None,
            source: ActionSource {
                default_url: default_url.trim_end_matches('/').to_owned(),
                instance_url: runner.address.clone(),
                token: Some(token),
                workflows_with_actions: false,
                patch: runner.config.patch_actions,
                local: Vec::new(),
            },
            inputs: inputs(&workflow, &context),
            github: github(&context, &workflow, job, runner),
            secrets,
            vars: sorted(task.vars),
            needs,
            matrix,
            strategy,
            working_tree: None,
        };
        Ok(Self::new(parts, Arc::new(workflow), 0, runner.clone()))
    }

    /// The job number `index` of `workflow`. Panics when there is none.
    pub fn new(parts: Parts, workflow: Arc<Workflow>, index: usize, runner: Arc<RunnerFacts>) -> Self {
        let job = workflow.jobs.get(index).expect("the caller has picked the job out of this workflow");
        let mut work = Self {
            task: parts.task,
            display_name: job.id.value.clone(),
            github: parts.github,
            secrets: parts.secrets,
            vars: parts.vars,
            needs: parts.needs,
            inputs: parts.inputs,
            matrix: parts.matrix,
            strategy: parts.strategy,
            services: parts.services,
            cache: parts.cache,
            source: parts.source,
            working_tree: parts.working_tree,
            runner,
            workspace: Arc::default(),
            workflow,
            index,
        };
        if let Some(name) = &work.job().name {
            let contexts = crate::job::contexts_before_place(&work);
            if let Ok(name) = name.eval_string(&Scope::new(&contexts))
                && !name.trim().is_empty()
            {
                work.display_name = name;
            }
        }
        work
    }

    /// A job that the planner has handed out; `parts` has what the planner does not know.
    pub fn from_planned(planned: &PlannedJob, mut parts: Parts, runner: Arc<RunnerFacts>) -> Self {
        let entries = |value: &Value| -> Vec<(String, Value)> {
            let object = value.as_object().into_iter().flat_map(Object::iter);
            object.map(|(key, value)| (key.to_owned(), value.clone())).collect()
        };
        parts.github = planned.github.as_object().cloned().unwrap_or_default();
        parts.github.insert("job", planned.job().id.value.as_str());
        let secrets = entries(&planned.secrets).into_iter();
        parts.secrets = secrets.map(|(name, value)| (name, Secret::new(value.to_text()))).collect();
        parts.needs = entries(&planned.needs)
            .into_iter()
            .map(|(id, need)| {
                let outputs = entries(need.get("outputs").unwrap_or(&Value::Null)).into_iter();
                let result = need.get("result").map(Value::to_text).unwrap_or_default();
                (id, Need { result, outputs: outputs.map(|(name, value)| (name, value.to_text())).collect() })
            })
            .collect();
        parts.inputs = planned.inputs.clone();
        parts.matrix =
            if planned.matrix.is_empty() { Value::Null } else { Value::object(planned.matrix.clone()) };
        parts.strategy = planned.strategy.clone();
        let mut work = Self::new(parts, Arc::new(planned.workflow.clone()), 0, runner);
        work.display_name.clone_from(&planned.name);
        work
    }

    /// The job.
    pub fn job(&self) -> &Job {
        &self.workflow.jobs[self.index]
    }

    /// The workflow that holds it.
    pub fn workflow(&self) -> &Workflow {
        &self.workflow
    }

    /// `owner/name` of the repository.
    pub fn repository(&self) -> String {
        self.github.get("repository").map(Value::to_text).unwrap_or_default()
    }

    /// The token by which the services know the job.
    pub fn runtime_token(&self) -> Option<&Secret<String>> {
        self.services.iter().find(|(name, _)| name == "ACTIONS_RUNTIME_TOKEN").map(|(_, token)| token)
    }

    /// Where the workflow file itself came from.
    pub(crate) fn origin(&self) -> Origin {
        let word = |key: &str| self.github.get(key).map(Value::to_text).unwrap_or_default();
        Origin { base: None, repository: word("repository"), git_ref: word("sha") }
    }

    /// Everything that must never be seen, in a masker.
    pub fn masker(&self) -> Masker {
        let masker = Masker::new();
        // Of what services need only the tokens are secret: a run's number must not be starred out everywhere.
        let tokens = self.services.iter().filter(|(name, _)| name.ends_with("_TOKEN"));
        for (name, value) in self.secrets.iter().chain(tokens) {
            if !value.expose().is_empty() {
                masker.seed(name, value.expose());
            }
        }
        if let Some(token) = self.source.token.as_ref().filter(|token| !token.expose().is_empty()) {
            masker.seed("token", token.expose());
        }
        masker
    }

    /// The `needs` context.
    pub(crate) fn needs_value(&self) -> Value {
        let needs = self.needs.iter().map(|(id, need)| {
            let outputs: Object =
                need.outputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut object = Object::new();
            object.insert("result", need.result.as_str());
            object.insert("outputs", Value::object(outputs));
            (id.as_str(), Value::object(object))
        });
        Value::object(needs.collect())
    }
}

const fn outcome(result: NeedOutcome) -> &'static str {
    match result {
        NeedOutcome::Success => "success",
        NeedOutcome::Failure => "failure",
        NeedOutcome::Cancelled => "cancelled",
        NeedOutcome::Skipped => "skipped",
        NeedOutcome::Unspecified => "",
    }
}

fn sorted(map: std::collections::HashMap<String, String>) -> Vec<(String, String)> {
    let sorted: BTreeMap<String, String> = map.into_iter().collect();
    sorted.into_iter().collect()
}

/// The server's context, in alphabetical order of its keys.
fn struct_to_object(fields: Struct) -> Object {
    fields.fields.into_iter().map(|(key, value)| (key, to_value(value))).collect()
}

fn to_value(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(value)) => Value::Number(value),
        Some(Kind::StringValue(value)) => Value::from(value),
        Some(Kind::ListValue(list)) => Value::array(list.values.into_iter().map(to_value).collect()),
        Some(Kind::StructValue(fields)) => Value::object(struct_to_object(fields)),
    }
}

/// The `github` context as workflows expect it.
fn github(context: &Object, workflow: &Workflow, job: &Job, runner: &RunnerFacts) -> Object {
    let mut github = context.clone();
    for key in DROPPED {
        github.remove(key);
    }
    github.insert("workflow", workflow.display_name());
    github.insert("job", job.id.value.as_str());
    complete_github(&mut github, &runner.address);
    github
}

/// Fills in what every server's context should have.
pub(crate) fn complete_github(github: &mut Object, address: &str) {
    github.insert("server_url", address);
    github.insert("api_url", format!("{address}/api/v1"));
    github.insert("graphql_url", "");
    let event = github.get("event").cloned().unwrap_or_default();
    let at = |path: &[&str]| path.iter().try_fold(&event, |value, key| value.get(key)).map(Value::to_text);
    let word = |key: &str| github.get(key).map(Value::to_text).filter(|text| !text.is_empty());
    let fill = [
        ("actor_id", at(&["sender", "id"])),
        ("repository_id", at(&["repository", "id"])),
        ("repository_owner_id", at(&["repository", "owner", "id"])),
        ("triggering_actor", word("actor")),
        ("workflow_sha", word("sha")),
        ("run_attempt", Some("1".to_owned())),
        ("retention_days", Some("0".to_owned())),
        ("base_ref", Some(String::new())),
        ("head_ref", Some(String::new())),
    ];
    let missing: Vec<(&str, String)> = fill
        .into_iter()
        .filter(|(key, _)| word(key).is_none())
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    for (key, value) in missing {
        github.insert(key, value);
    }
}

/// `inputs` of a dispatched or called workflow, typed by their declarations.
fn inputs(workflow: &Workflow, context: &Object) -> Value {
    let given = context.get("event").and_then(|event| event.get("inputs")).and_then(Value::as_object);
    let event = context.get("event_name").map(Value::to_text).unwrap_or_default();
    typed_inputs(workflow, &event, given)
}

/// Values as declared: booleans and numbers come as text; what was not given has its default.
pub(crate) fn typed_inputs(workflow: &Workflow, event: &str, given: Option<&Object>) -> Value {
    let declared = workflow.on.events.iter().find(|trigger| trigger.name.value == event);
    let mut inputs = Object::new();
    for input in declared.iter().flat_map(|trigger| &trigger.inputs) {
        let contexts = Contexts::new();
        let value = match given.and_then(|given| given.get(&input.name)) {
            Some(value) => value.clone(),
            None => match &input.default {
                Some(default) => default.eval(&Scope::new(&contexts)).unwrap_or_default(),
                None => input.empty_value(),
            },
        };
        inputs.insert(input.name.value.as_str(), typed(value, input.kind));
    }
    for (name, value) in given.iter().flat_map(|given| given.iter()) {
        if !inputs.contains_key(name) {
            inputs.insert(name, value.clone());
        }
    }
    Value::object(inputs)
}

fn typed(value: Value, kind: InputKind) -> Value {
    match (kind, &value) {
        (InputKind::Boolean, Value::Bool(_)) | (InputKind::Number, Value::Number(_)) => value,
        (InputKind::Boolean, other) => Value::Bool(other.to_text().eq_ignore_ascii_case("true")),
        (InputKind::Number, other) => Value::Number(other.to_number()),
        (_, other) => Value::from(other.to_text()),
    }
}

/// `matrix` and `strategy`: the server sends each key of the one combination as a list of one.
fn strategy(job: &Job) -> (Value, Value) {
    let contexts = Contexts::new();
    let scope = Scope::new(&contexts).status(&JobStatus::Success);
    let mut strategy = Object::new();
    let mut matrix = Object::new();
    let text = |template: Option<&workflows::Template>| {
        template.and_then(|template| template.eval_string(&scope).ok())
    };
    if let Some(declared) = &job.strategy {
        if let Some(TemplateNode::Mapping(map)) = &declared.matrix
            && let Ok(object) = map.eval_object(&scope)
        {
            for (key, value) in object.iter() {
                matrix.insert(key, value.at(0).unwrap_or(value).clone());
            }
        }
        strategy.insert("fail-fast", text(declared.fail_fast.as_ref()).is_none_or(|text| text != "false"));
        let parallel = text(declared.max_parallel.as_ref()).and_then(|text| text.trim().parse::<f64>().ok());
        strategy.insert("max-parallel", parallel.unwrap_or(1.0));
    } else {
        strategy.insert("fail-fast", true);
        strategy.insert("max-parallel", 1.0);
    }
    strategy.insert("job-index", 0.0);
    strategy.insert("job-total", 1.0);
    let matrix = if matrix.is_empty() { Value::Null } else { Value::object(matrix) };
    (matrix, Value::object(strategy))
}

/// Addresses and tokens of the server's services, as the toolkits look for them.
fn services(context: &Object, token: &Secret<String>, runner: &RunnerFacts) -> Vec<(String, Secret<String>)> {
    let word = |key: &str| context.get(key).map(Value::to_text).filter(|text| !text.is_empty());
    let address = &runner.address;
    let runtime = word("gitea_runtime_token").unwrap_or_else(|| token.expose().clone());
    let mut services = vec![
        ("ACTIONS_RUNTIME_URL", format!("{address}/api/actions_pipeline/")),
        ("ACTIONS_RUNTIME_TOKEN", runtime),
        ("ACTIONS_RESULTS_URL", address.clone()),
    ];
    services.extend(word("actions_id_token_request_url").map(|url| ("ACTIONS_ID_TOKEN_REQUEST_URL", url)));
    services.extend(
        word("actions_id_token_request_token").map(|token| ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", token)),
    );
    services.extend(word("run_id").map(|id| ("GITEA_RUN_ID", id)));
    services.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value))).collect()
}
