//! A job and the nouns that only jobs have.

use super::container::{Container, Service, read_container, read_services};
use super::reader::Reader;
use super::step::{Step, StepPlace, read_condition, read_steps};
use super::{Condition, Template, TemplateMap, TemplateNode};
use crate::diagnostic::{Code, Diagnostic};
use crate::source::{Span, Spanned};
use crate::yaml::{Node, NodeKind, Resolved};
use crate::{EvalError, Scope, Value};

/// One job.
#[derive(Debug, Clone)]
pub struct Job {
    /// The key under `jobs`.
    pub id: Spanned<String>,
    /// Where its mapping was written.
    pub span: Span,
    /// `name`
    pub name: Option<Template>,
    /// `needs`
    pub needs: Vec<Spanned<String>>,
    /// `if`
    pub condition: Option<Condition>,
    /// `runs-on`
    pub runs_on: Option<RunsOn>,
    /// `permissions`
    pub permissions: Option<Permissions>,
    /// `environment`
    pub environment: Option<Environment>,
    /// `concurrency`
    pub concurrency: Option<Concurrency>,
    /// `outputs`
    pub outputs: Option<TemplateMap>,
    /// `env`
    pub env: Option<TemplateMap>,
    /// `defaults.run`
    pub defaults: Option<RunDefaults>,
    /// `timeout-minutes`
    pub timeout_minutes: Option<Template>,
    /// `continue-on-error`
    pub continue_on_error: Option<Template>,
    /// `strategy`
    pub strategy: Option<Strategy>,
    /// `container`
    pub container: Option<Container>,
    /// `services`
    pub services: Vec<Service>,
    /// One expression in place of `services`.
    pub services_expression: Option<Template>,
    /// `snapshot`
    pub snapshot: Option<Snapshot>,
    /// `steps`; empty for a reusable job
    pub steps: Vec<Step>,
    /// `uses`, `with` and `secrets` of a job that calls a reusable workflow.
    pub call: Option<WorkflowCall>,
}

/// `runs-on`
#[derive(Debug, Clone)]
pub enum RunsOn {
    /// One label, a list, or an expression that gives either.
    Labels(TemplateNode),
    /// `group` and `labels`
    Group {
        /// `group`
        group: Option<Template>,
        /// `labels`
        labels: Option<TemplateNode>,
    },
}

impl RunDefaults {
    /// `shell` and `working-directory`, as far as they are set.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<(Option<String>, Option<String>), EvalError> {
        let Some(whole) = &self.whole else {
            let text = |template: &Option<Template>| {
                template.as_ref().map(|template| template.eval_string(scope)).transpose()
            };
            return Ok((text(&self.shell)?, text(&self.working_directory)?));
        };
        let value = whole.eval(scope)?;
        if !matches!(value, Value::Object(_) | Value::Null) {
            let message = format!("expected a mapping, found {}: {}", value.kind(), whole.raw());
            return Err(EvalError::failed(message));
        }
        let text = |key: &str| match value.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(text) if text.is_primitive() => Ok(Some(text.to_text())),
            Some(other) => {
                Err(EvalError::failed(format!("'{key}' must be a string, found {}", other.kind())))
            }
        };
        Ok((text("shell")?, text("working-directory")?))
    }
}

impl RunsOn {
    /// The labels; empty ones are dropped.
    pub fn eval_labels(&self, scope: &Scope<'_>) -> Result<Vec<String>, EvalError> {
        let node = match self {
            Self::Labels(node) => node,
            Self::Group { labels: Some(labels), .. } => labels,
            Self::Group { labels: None, .. } => return Ok(Vec::new()),
        };
        let value = node.eval(scope)?;
        // An expression may also give the mapping of group and labels.
        let value = value.get("labels").cloned().unwrap_or(value);
        let labels = match &value {
            Value::Array(items) => items.iter().map(Value::to_text).collect(),
            Value::Object(_) => Vec::new(),
            single => vec![single.to_text()],
        };
        Ok(labels.into_iter().filter(|label: &String| !label.is_empty()).collect())
    }
}

/// `permissions`
#[derive(Debug, Clone)]
pub struct Permissions {
    /// Where it was written.
    pub span: Span,
    /// `read-all` or `write-all`
    pub all: Option<Spanned<String>>,
    /// Scopes and their levels.
    pub scopes: Vec<(Spanned<String>, Spanned<String>)>,
}

/// `environment`
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where it was written.
    pub span: Span,
    /// `name`
    pub name: Option<Template>,
    /// `url`
    pub url: Option<Template>,
}

/// `concurrency`
#[derive(Debug, Clone)]
pub struct Concurrency {
    /// Where it was written.
    pub span: Span,
    /// `group`
    pub group: Option<Template>,
    /// `cancel-in-progress`
    pub cancel_in_progress: Option<Template>,
}

/// `defaults.run`
#[derive(Debug, Clone, Default)]
pub struct RunDefaults {
    /// Where it was written.
    pub span: Span,
    /// One expression in place of the mapping; only a job may have it.
    pub whole: Option<Template>,
    /// `shell`
    pub shell: Option<Template>,
    /// `working-directory`
    pub working_directory: Option<Template>,
}

/// `strategy`
#[derive(Debug, Clone)]
pub struct Strategy {
    /// Where it was written.
    pub span: Span,
    /// One expression in place of the mapping.
    pub whole: Option<Template>,
    /// `matrix`: a mapping of axes with `include` and `exclude`, or an expression that gives it.
    pub matrix: Option<TemplateNode>,
    /// `fail-fast`
    pub fail_fast: Option<Template>,
    /// `max-parallel`
    pub max_parallel: Option<Template>,
}

/// `snapshot`: the machine is kept as an image for later jobs.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// `image-name`
    pub image_name: Option<Template>,
    /// `version`
    pub version: Option<Template>,
    /// `if`
    pub condition: Option<Condition>,
}

/// A job that calls a reusable workflow.
#[derive(Debug, Clone)]
pub struct WorkflowCall {
    /// `uses`
    pub uses: Spanned<String>,
    /// `with`
    pub with: Option<TemplateMap>,
    /// `secrets`
    pub secrets: Option<WorkflowSecrets>,
}

/// `secrets` of a job that calls a reusable workflow.
#[derive(Debug, Clone)]
pub enum WorkflowSecrets {
    /// `inherit`
    Inherit(Span),
    /// Names and values.
    Map(TemplateMap),
}

const KEYS: [&str; 21] = [
    "name",
    "needs",
    "if",
    "runs-on",
    "permissions",
    "environment",
    "concurrency",
    "outputs",
    "env",
    "defaults",
    "steps",
    "timeout-minutes",
    "strategy",
    "continue-on-error",
    "container",
    "services",
    "uses",
    "with",
    "secrets",
    "snapshot",
    "cancel-timeout-minutes",
];
/// Keys that a job with `uses` may have.
const CALL_KEYS: [&str; 9] =
    ["name", "needs", "if", "permissions", "concurrency", "strategy", "uses", "with", "secrets"];

pub(super) fn read_job(reader: &mut Reader<'_>, key: &Node<'_>, node: &Node<'_>) -> Option<Job> {
    let id = Spanned::new(key.as_text().unwrap_or("").to_owned(), key.span);
    let NodeKind::Mapping(entries) = &node.kind else {
        let what = format!("job '{}'", id.value);
        if reader.lenient() {
            reader.refuse(
                Code::WrongType,
                node.span,
                format!("{what} must be a mapping, found {}", node.describe()),
            );
        } else {
            reader.unexpected(node, &what, "a mapping");
        }
        return None;
    };
    let mut job = Job {
        id,
        span: node.span,
        name: None,
        needs: Vec::new(),
        condition: None,
        runs_on: None,
        permissions: None,
        environment: None,
        concurrency: None,
        outputs: None,
        env: None,
        defaults: None,
        timeout_minutes: None,
        continue_on_error: None,
        strategy: None,
        container: None,
        services: Vec::new(),
        services_expression: None,
        snapshot: None,
        steps: Vec::new(),
        call: None,
    };
    let has = |key: &str| entries.iter().any(|entry| entry.key.as_text() == Some(key));
    let (is_call, has_steps) = (has("uses"), has("steps"));
    let (mut with, mut secrets) = (None, None);
    for entry in reader.mapping(node, "a job", &KEYS) {
        let value = &entry.value;
        let key = entry.key.as_text().unwrap_or("");
        match key {
            "name" => job.name = reader.template(value, "'name'"),
            "needs" => {
                if value.as_sequence().is_some_and(<[_]>::is_empty) {
                    reader.warn(Code::EmptyValue, value.span, "'needs' is empty");
                }
                job.needs = reader.texts(value, "'needs'");
            }
            "if" => job.condition = read_condition(reader, value),
            "runs-on" => job.runs_on = read_runs_on(reader, value),
            "permissions" => job.permissions = read_permissions(reader, value),
            "environment" => job.environment = read_environment(reader, value),
            "concurrency" => job.concurrency = read_concurrency(reader, value),
            "outputs" => job.outputs = reader.fixed_template_map(value, "'outputs'"),
            "env" => job.env = reader.template_map(value, "'env'"),
            "defaults" => job.defaults = read_defaults(reader, value, true),
            "timeout-minutes" => job.timeout_minutes = reader.number_template(value, "'timeout-minutes'"),
            "continue-on-error" => {
                job.continue_on_error = reader.boolean_template(value, "'continue-on-error'");
            }
            "strategy" => job.strategy = read_strategy(reader, value),
            "container" => job.container = read_container(reader, value, "'container'", false),
            "services" => read_services(reader, value, &mut job),
            "snapshot" => job.snapshot = read_snapshot(reader, value),
            "cancel-timeout-minutes" => {
                reader.number_template(value, "'cancel-timeout-minutes'");
            }
            "steps" => job.steps = read_steps(reader, value, StepPlace::Job),
            "uses" => {
                job.call = reader.nonempty_text(value, "'uses'").map(|uses| WorkflowCall {
                    uses,
                    with: None,
                    secrets: None,
                });
            }
            "with" => with = reader.fixed_template_map(value, "'with'"),
            "secrets" => secrets = read_secrets(reader, value),
            _ => {}
        }
        let exclusive = is_call && KEYS.contains(&key) && !CALL_KEYS.contains(&key);
        if exclusive {
            let message =
                format!("unexpected key '{key}' in a job that calls a reusable workflow with 'uses'");
            let help = format!("such a job has only: {}", CALL_KEYS.join(", "));
            reader.report(Diagnostic::error(Code::ConflictingKeys, entry.key.span, message).with_help(help));
        } else if !is_call && matches!(key, "with" | "secrets") {
            let message = format!("'{key}' belongs to a job that calls a reusable workflow with 'uses'");
            reader.error(Code::ConflictingKeys, entry.key.span, message);
        }
    }
    if let Some(call) = &mut job.call {
        (call.with, call.secrets) = (with, secrets);
    } else if !is_call {
        let what = format!("job '{}'", job.id.value);
        if !has("runs-on") {
            reader.missing(node, &what, "runs-on");
        }
        // GitHub accepts such a job; it just does nothing.
        if !has_steps {
            let message = format!("{what} has no 'steps', so it does nothing");
            reader.warn(Code::MissingKey, job.id.span, message);
        }
    }
    Some(job)
}

fn read_runs_on(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<RunsOn> {
    match &node.kind {
        NodeKind::Scalar(_) => {
            let label = reader.filled_template(node, "'runs-on'")?;
            if label.raw().trim().is_empty() && !label.raw().is_empty() {
                reader.warn(Code::EmptyValue, node.span, "'runs-on' is blank, so no runner takes the job");
            }
            Some(RunsOn::Labels(TemplateNode::Scalar(label)))
        }
        NodeKind::Sequence(items) => {
            if items.is_empty() {
                let message = "'runs-on' names no label, so no runner takes the job";
                reader.warn(Code::EmptyValue, node.span, message);
            }
            Some(RunsOn::Labels(read_template_list(reader, node, "'runs-on'")))
        }
        NodeKind::Mapping(_) => {
            let (mut group, mut labels) = (None, None);
            for entry in reader.mapping(node, "'runs-on'", &["group", "labels"]) {
                match entry.key.as_text().unwrap_or("") {
                    "group" => group = reader.filled_template(&entry.value, "'group'"),
                    "labels" => {
                        if entry.value.as_sequence().is_some_and(<[_]>::is_empty) {
                            reader.warn(Code::EmptyValue, entry.value.span, "'labels' is empty");
                        }
                        labels = Some(read_template_list(reader, &entry.value, "'labels'"));
                    }
                    _ => {}
                }
            }
            if group.is_none() && labels.is_none() {
                let message = "'runs-on' has neither 'group' nor 'labels', so no runner takes the job";
                reader.warn(Code::EmptyValue, node.span, message);
            }
            Some(RunsOn::Group { group, labels })
        }
    }
}

/// A list of scalars, or one scalar.
pub(super) fn read_template_list(reader: &mut Reader<'_>, node: &Node<'_>, what: &str) -> TemplateNode {
    match &node.kind {
        NodeKind::Scalar(_) => {
            let template = reader.filled_template(node, what);
            template.map_or_else(|| TemplateNode::Sequence(Vec::new(), node.span), TemplateNode::Scalar)
        }
        NodeKind::Sequence(items) => TemplateNode::Sequence(
            items
                .iter()
                .filter_map(|item| reader.filled_template(item, what))
                .map(TemplateNode::Scalar)
                .collect(),
            node.span,
        ),
        NodeKind::Mapping(_) => {
            reader.unexpected(node, what, "a sequence");
            TemplateNode::Sequence(Vec::new(), node.span)
        }
    }
}

fn read_snapshot(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Snapshot> {
    let mut snapshot = Snapshot { image_name: None, version: None, condition: None };
    if node.as_scalar().is_some() {
        snapshot.image_name = Some(reader.filled_template(node, "'snapshot'")?);
        return Some(snapshot);
    }
    for entry in reader.mapping(node, "'snapshot'", &["image-name", "version", "if"]) {
        match entry.key.as_text().unwrap_or("") {
            "image-name" => snapshot.image_name = reader.filled_template(&entry.value, "'image-name'"),
            "version" => snapshot.version = reader.filled_template(&entry.value, "'version'"),
            "if" => snapshot.condition = read_condition(reader, &entry.value),
            _ => {}
        }
    }
    if node.as_mapping().is_some() && node.get("image-name").is_none() {
        reader.missing(node, "'snapshot'", "image-name");
    }
    Some(snapshot)
}

pub(super) fn read_permissions(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Permissions> {
    let mut permissions = Permissions { span: node.span, all: None, scopes: Vec::new() };
    match &node.kind {
        NodeKind::Scalar(_) => permissions.all = Some(reader.nonempty_text(node, "'permissions'")?),
        NodeKind::Mapping(entries) => {
            for entry in &**entries {
                let name = entry.key.as_text().unwrap_or("").to_owned();
                if let Some(level) = reader.nonempty_text(&entry.value, &format!("permission '{name}'")) {
                    permissions.scopes.push((Spanned::new(name, entry.key.span), level));
                }
            }
        }
        NodeKind::Sequence(_) => {
            reader.unexpected(node, "'permissions'", "a mapping, read-all or write-all");
            return None;
        }
    }
    Some(permissions)
}

fn read_environment(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Environment> {
    let mut environment = Environment { span: node.span, name: None, url: None };
    match &node.kind {
        NodeKind::Scalar(_) => environment.name = Some(reader.template_if_any(node, "'environment'")?),
        NodeKind::Mapping(_) => {
            for entry in reader.mapping(node, "'environment'", &["name", "url", "deployment"]) {
                match entry.key.as_text().unwrap_or("") {
                    "name" => environment.name = reader.template_if_any(&entry.value, "'name'"),
                    "url" => environment.url = reader.template_if_any(&entry.value, "'url'"),
                    "deployment" => {
                        reader.boolean_template(&entry.value, "'deployment'");
                    }
                    _ => {}
                }
            }
            if node.get("name").is_none() {
                reader.missing(node, "'environment'", "name");
            }
        }
        NodeKind::Sequence(_) => {
            reader.unexpected(node, "'environment'", "a name or a mapping");
            return None;
        }
    }
    Some(environment)
}

pub(super) fn read_concurrency(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Concurrency> {
    let mut concurrency = Concurrency { span: node.span, group: None, cancel_in_progress: None };
    match &node.kind {
        NodeKind::Scalar(_) => concurrency.group = Some(reader.filled_template(node, "'concurrency'")?),
        NodeKind::Mapping(_) => {
            for entry in reader.mapping(node, "'concurrency'", &["group", "cancel-in-progress", "queue"]) {
                match entry.key.as_text().unwrap_or("") {
                    "group" => concurrency.group = reader.filled_template(&entry.value, "'group'"),
                    "cancel-in-progress" => {
                        concurrency.cancel_in_progress =
                            reader.boolean_template(&entry.value, "'cancel-in-progress'");
                    }
                    "queue" => check_queue(reader, &entry.value),
                    _ => {}
                }
            }
            if node.get("group").is_none() {
                reader.missing(node, "'concurrency'", "group");
            }
        }
        NodeKind::Sequence(_) => {
            reader.unexpected(node, "'concurrency'", "a group or a mapping");
            return None;
        }
    }
    Some(concurrency)
}

/// Whether runs of a group wait one at a time, or as many as come.
fn check_queue(reader: &mut Reader<'_>, node: &Node<'_>) {
    let Some(text) = reader.nonempty_text(node, "'queue'") else { return };
    if !matches!(text.value.as_str(), "single" | "max") {
        let message = format!("'queue' must be single or max, found '{}'", text.value);
        reader.error(Code::WrongValue, text.span, message);
    }
}

/// `defaults` of a workflow, in which GitHub takes no expressions, or of a job.
pub(super) fn read_defaults(reader: &mut Reader<'_>, node: &Node<'_>, of_job: bool) -> Option<RunDefaults> {
    let mut defaults = None;
    for entry in reader.mapping(node, "'defaults'", &["run"]) {
        if entry.key.as_text() != Some("run") {
            continue;
        }
        let (value, what) = (&entry.value, "'defaults.run'");
        let mut run = RunDefaults { span: value.span, ..RunDefaults::default() };
        if of_job && value.as_text().is_some_and(|text| text.contains("${{")) {
            run.whole = reader.expression_in_place_of(value, what, "a mapping");
            defaults = Some(run);
            continue;
        }
        let known = ["shell", "working-directory"];
        let entries = if of_job {
            reader.computed_mapping(value, what, &known)
        } else {
            reader.mapping(value, what, &known)
        };
        for entry in entries {
            match entry.key.as_text().unwrap_or("") {
                "shell" => run.shell = reader.filled_template(&entry.value, "'shell'"),
                "working-directory" => {
                    run.working_directory = reader.filled_template(&entry.value, "'working-directory'");
                }
                _ => {}
            }
        }
        defaults = Some(run);
    }
    if defaults.is_none() && node.as_mapping().is_some_and(<[_]>::is_empty) {
        reader.warn(Code::EmptyValue, node.span, "'defaults' is empty");
    }
    defaults
}

fn read_strategy(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Strategy> {
    let mut strategy =
        Strategy { span: node.span, whole: None, matrix: None, fail_fast: None, max_parallel: None };
    if node.as_scalar().is_some() {
        strategy.whole = Some(reader.expression_in_place_of(node, "'strategy'", "a mapping")?);
        return Some(strategy);
    }
    for entry in reader.computed_mapping(node, "'strategy'", &["matrix", "fail-fast", "max-parallel"]) {
        let value = &entry.value;
        match entry.key.as_text().unwrap_or("") {
            "matrix" => strategy.matrix = read_matrix(reader, value),
            "fail-fast" => strategy.fail_fast = reader.boolean_template(value, "'fail-fast'"),
            "max-parallel" => strategy.max_parallel = reader.number_template(value, "'max-parallel'"),
            _ => {}
        }
    }
    Some(strategy)
}

/// Axes are sequences or expressions; `include` and `exclude` sequences of mappings.
fn read_matrix(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<TemplateNode> {
    let NodeKind::Mapping(entries) = &node.kind else {
        return reader.expression_in_place_of(node, "'matrix'", "a mapping").map(TemplateNode::Scalar);
    };
    for entry in &**entries {
        let name = entry.key.as_text().unwrap_or("");
        let value = &entry.value;
        let what = format!("'{name}'");
        match &value.kind {
            NodeKind::Sequence(items) => {
                if items.is_empty() && name != "exclude" && name != "include" {
                    reader.report(Diagnostic::error(
                        Code::Matrix,
                        value.span,
                        format!("the axis {what} has no values, so the matrix has no combinations"),
                    ));
                }
                for item in items.iter().filter(|_| matches!(name, "include" | "exclude")) {
                    if item.as_mapping().is_none() && !item.as_text().is_some_and(|text| text.contains("${{"))
                    {
                        reader.unexpected(item, &format!("an item of {what}"), "a mapping");
                    }
                }
            }
            _ if reader.lenient() || name.contains("${{") => {}
            // The tree is read as a whole below, which reports what is wrong inside the braces.
            NodeKind::Scalar(scalar) if scalar.text.trim_start().starts_with("${{") => {}
            _ => reader.unexpected(value, &what, "a sequence"),
        }
    }
    Some(reader.template_node(node))
}

fn read_secrets(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<WorkflowSecrets> {
    if node.as_text() == Some("inherit") {
        return Some(WorkflowSecrets::Inherit(node.span));
    }
    if let Some(scalar) = node.as_scalar()
        && scalar.resolved == Resolved::Text
        && !scalar.text.contains("${{")
    {
        reader.unexpected(node, "'secrets'", "a mapping or 'inherit'");
        return None;
    }
    reader.fixed_template_map(node, "'secrets'").map(WorkflowSecrets::Map)
}
