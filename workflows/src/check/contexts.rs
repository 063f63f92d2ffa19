//! What is known about the contexts of a job before it runs.

use std::sync::{Arc, LazyLock};

use super::infer::{ContextTypes, Infer};
use super::place::Place;
use super::types::{ObjectType, Type};
use crate::context::Context;
use crate::expr::{Template, TemplateMap, TemplateNode, Value};
use crate::model::{Input, InputKind, Job, Step, Workflow};

static GITHUB: LazyLock<Type> = LazyLock::new(|| {
    let mut properties: Vec<(Arc<str>, Type)> = [
        "action",
        "action_path",
        "action_ref",
        "action_repository",
        "action_status",
        "actor",
        "actor_id",
        "api_url",
        "artifacts",
        "artifacts_list",
        "base_ref",
        "env",
        "event_name",
        "event_path",
        "graphql_url",
        "head_ref",
        "job",
        "job_name",
        "output",
        "path",
        "ref",
        "ref_name",
        "ref_type",
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "repositoryUrl",
        "run_attempt",
        "run_id",
        "run_number",
        "runner_perflog",
        "runner_tracking_id",
        "secret_source",
        "server_url",
        "sha",
        "state",
        "step_summary",
        "token",
        "triggering_actor",
        "workflow",
        "workflow_ref",
        "workflow_sha",
        "workspace",
        "job_workflow_sha",
    ]
    .into_iter()
    .map(|name| (Arc::from(name), Type::String))
    .collect();
    properties.push((Arc::from("ref_protected"), Type::Bool));
    properties.push((Arc::from("retention_days"), Type::Number));
    properties.push((Arc::from("event"), Type::map_of(Type::Any)));
    Type::closed(properties)
});

static RUNNER: LazyLock<Type> = LazyLock::new(|| {
    Type::strings(&["name", "os", "arch", "temp", "tool_cache", "debug", "environment", "workspace"])
});

static JOB: LazyLock<Type> = LazyLock::new(|| {
    let service = Type::closed(vec![
        (Arc::from("id"), Type::String),
        (Arc::from("network"), Type::String),
        // Looked up by number, as in GitHub's own examples: `ports[5432]`.
        (Arc::from("ports"), Type::Any),
    ]);
    Type::closed(vec![
        (Arc::from("container"), Type::strings(&["id", "network"])),
        (Arc::from("services"), Type::map_of(service)),
        (Arc::from("status"), Type::String),
        (Arc::from("check_run_id"), Type::Number),
        (Arc::from("workflow_ref"), Type::String),
        (Arc::from("workflow_sha"), Type::String),
        (Arc::from("workflow_repository"), Type::String),
        (Arc::from("workflow_file_path"), Type::String),
    ])
});

static STRATEGY: LazyLock<Type> = LazyLock::new(|| {
    Type::closed(vec![
        (Arc::from("fail-fast"), Type::Bool),
        (Arc::from("job-index"), Type::Number),
        (Arc::from("job-total"), Type::Number),
        (Arc::from("max-parallel"), Type::Number),
    ])
});

/// What every step has.
static STEP: LazyLock<[Arc<str>; 3]> = LazyLock::new(|| ["outputs", "conclusion", "outcome"].map(Arc::from));

/// What every needed job has.
static NEED: LazyLock<[Arc<str>; 2]> = LazyLock::new(|| ["result", "outputs"].map(Arc::from));

static STRING_MAP: LazyLock<Type> = LazyLock::new(|| Type::map_of(Type::String));

/// Types at one place of a workflow; what is not set is unknown.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) github: Type,
    pub(crate) inputs: Type,
    pub(crate) secrets: Type,
    pub(crate) matrix: Type,
    pub(crate) needs: Type,
    pub(crate) steps: Type,
    pub(crate) jobs: Type,
}

impl Known {
    /// For a workflow, outside of jobs.
    pub(crate) fn of_workflow(workflow: &Workflow) -> Self {
        let triggers = ["workflow_call", "workflow_dispatch"].map(|event| workflow.on.get(event));
        let inputs = match triggers {
            [None, None] => Type::closed(Vec::new()),
            _ => Type::closed(triggers.iter().flatten().flat_map(|trigger| &trigger.inputs).fold(
                Vec::new(),
                |mut all, input| {
                    if !all.iter().any(|(name, _): &(Arc<str>, Type)| name.eq_ignore_ascii_case(&input.name))
                    {
                        all.push((Arc::from(input.name.value.as_str()), type_of_input(input)));
                    }
                    all
                },
            )),
        };
        // A called workflow that declares its secrets has these; inherited ones cannot be known.
        let secrets = match triggers[0] {
            Some(call) if workflow.on.events.len() == 1 && call.declares_secrets => {
                let mut names: Vec<(Arc<str>, Type)> = call
                    .secrets
                    .iter()
                    .map(|secret| (Arc::from(secret.name.value.as_str()), Type::String))
                    .collect();
                for always in ["GITHUB_TOKEN", "GITEA_TOKEN", "ACTIONS_STEP_DEBUG", "ACTIONS_RUNNER_DEBUG"] {
                    names.push((Arc::from(always), Type::String));
                }
                Type::closed(names)
            }
            _ => STRING_MAP.clone(),
        };
        Self {
            github: github_type(workflow),
            inputs,
            secrets,
            matrix: Type::closed(Vec::new()),
            needs: Type::closed(Vec::new()),
            steps: Type::closed(Vec::new()),
            jobs: Type::Any,
        }
    }

    /// Adds what is the job's own; `outputs_of` knows the outputs of other jobs.
    pub(crate) fn enter_job(&mut self, workflow: &Workflow, job: &Job, outputs_of: &dyn Fn(&Job) -> Type) {
        let needs = job.needs.iter().filter_map(|need| {
            let needed = workflow.job(need)?;
            let types = [Type::String, outputs_of(needed)];
            let result = Type::closed(NEED.iter().cloned().zip(types).collect());
            Some((Arc::from(needed.id.value.as_str()), result))
        });
        self.needs = Type::closed(needs.collect());
        self.matrix = self.matrix_type(job);
        self.steps = Type::closed(Vec::new());
    }

    fn type_of_expression(&self, template: &Template) -> Type {
        let [(expression, _)] = template.expressions().collect::<Vec<_>>()[..] else { return Type::String };
        let root = expression.root().filter(|_| template.is_expression());
        root.map_or(Type::String, |root| Infer::new(Place::JobStrategy, self).infer(root))
    }

    /// Makes an input known to those after it.
    pub(crate) fn add_input(&mut self, input: &Input) {
        if let Type::Object(inputs) = &mut self.inputs {
            let name = Arc::from(input.name.value.as_str());
            Arc::make_mut(inputs).properties.push((name, type_of_input(input)));
        }
    }

    /// Makes a step known to those after it.
    pub(crate) fn add_step(&mut self, step: &Step, outputs: Type) {
        let Some(id) = &step.id else { return };
        let names = STEP.iter().cloned();
        let entry = Type::closed(names.zip([outputs, Type::String, Type::String]).collect());
        if let Type::Object(steps) = &mut self.steps {
            Arc::make_mut(steps).properties.push((Arc::from(id.value.as_str()), entry));
        }
    }
}

impl ContextTypes for Known {
    fn context(&self, context: Context) -> Type {
        match context {
            Context::Github => self.github.clone(),
            Context::Env | Context::Vars => STRING_MAP.clone(),
            Context::Job => JOB.clone(),
            Context::Jobs => self.jobs.clone(),
            Context::Steps => self.steps.clone(),
            Context::Runner => RUNNER.clone(),
            Context::Secrets => self.secrets.clone(),
            Context::Strategy => STRATEGY.clone(),
            Context::Matrix => self.matrix.clone(),
            Context::Needs => self.needs.clone(),
            Context::Inputs => self.inputs.clone(),
        }
    }
}

/// With `workflow_dispatch` alone the event's inputs are known; they are all text there.
fn github_type(workflow: &Workflow) -> Type {
    let [trigger] = workflow.on.events.as_slice() else { return GITHUB.clone() };
    if trigger.name.value != "workflow_dispatch" {
        return GITHUB.clone();
    }
    let names: Vec<&str> = trigger.inputs.iter().map(|input| input.name.value.as_str()).collect();
    let event = ObjectType {
        properties: vec![(Arc::from("inputs"), Type::strings(&names))],
        others: Some(Type::Any),
    };
    let mut github = GITHUB.clone();
    if let Type::Object(object) = &mut github {
        let properties = &mut Arc::make_mut(object).properties;
        properties.retain(|(name, _)| &**name != "event");
        properties.push((Arc::from("event"), Type::Object(Arc::new(event))));
    }
    github
}

/// The `github` context of an action, of whose event nothing is known.
pub(crate) fn any_github() -> Type {
    GITHUB.clone()
}

fn type_of_input(input: &Input) -> Type {
    match input.kind {
        InputKind::Boolean => Type::Bool,
        InputKind::Number => Type::Number,
        InputKind::String | InputKind::Choice | InputKind::Environment => Type::String,
    }
}

/// The outputs a job declares itself.
pub(crate) fn declared_outputs(outputs: Option<&TemplateMap>) -> Type {
    match outputs {
        None => Type::closed(Vec::new()),
        Some(map) if map.whole().is_some() || map.entries().iter().any(|(key, _)| key.has_expression()) => {
            STRING_MAP.clone()
        }
        Some(map) => {
            Type::closed(map.entries().iter().map(|(key, _)| (Arc::from(key.raw()), Type::String)).collect())
        }
    }
}

/// Outputs of which nothing is known but that they are text.
pub(crate) fn any_outputs() -> Type {
    STRING_MAP.clone()
}

impl Known {
    /// Axes and what `include` adds; unknown as soon as an expression has a say in the keys.
    fn matrix_type(&self, job: &Job) -> Type {
        let Some(strategy) = &job.strategy else { return Type::closed(Vec::new()) };
        let map = match &strategy.matrix {
            Some(TemplateNode::Mapping(map)) => map,
            None if strategy.whole.is_none() => return Type::closed(Vec::new()),
            _ => return Type::Any,
        };
        let mut object = ObjectType::default();
        for (key, node) in map.entries() {
            if key.has_expression() {
                return Type::Any;
            }
            match key.raw() {
                "exclude" => {}
                "include" => match node {
                    TemplateNode::Sequence(items, _) => {
                        for item in items {
                            let TemplateNode::Mapping(extra) = item else { return Type::Any };
                            for (key, value) in extra.entries() {
                                if key.has_expression() {
                                    return Type::Any;
                                }
                                add_property(&mut object, key.raw(), self.node_type(value));
                            }
                        }
                    }
                    _ => return Type::Any,
                },
                name => {
                    let kind = match node {
                        TemplateNode::Sequence(items, _) => {
                            Type::union(items.iter().map(|item| self.item_type(item)))
                        }
                        _ => Type::Any,
                    };
                    add_property(&mut object, name, kind);
                }
            }
        }
        Type::Object(Arc::new(object))
    }

    /// The type of an item of an axis; an expression may be spliced in.
    fn item_type(&self, node: &TemplateNode) -> Type {
        match (self.node_type(node), node) {
            (Type::Array(items), TemplateNode::Scalar(_)) => (*items).clone(),
            (kind, _) => kind,
        }
    }

    fn node_type(&self, node: &TemplateNode) -> Type {
        match node {
            TemplateNode::Scalar(template) => match template.as_literal() {
                // An empty value may be anything in another combination.
                Some(Value::Null) => Type::Any,
                Some(value) => Type::of_value(value),
                None => self.type_of_expression(template),
            },
            TemplateNode::Sequence(items, _) => {
                Type::array(Type::union(items.iter().map(|item| self.node_type(item))))
            }
            TemplateNode::Mapping(map) => {
                if map.whole().is_some() || map.entries().iter().any(|(key, _)| key.has_expression()) {
                    return Type::Any;
                }
                Type::closed(
                    map.entries()
                        .iter()
                        .map(|(key, value)| (Arc::from(key.raw()), self.node_type(value)))
                        .collect(),
                )
            }
        }
    }
}

fn add_property(object: &mut ObjectType, name: &str, kind: Type) {
    match object.properties.iter_mut().find(|(own, _)| own.eq_ignore_ascii_case(name)) {
        Some((_, own)) => *own = own.clone().merge(kind),
        None => object.properties.push((Arc::from(name), kind)),
    }
}
