//! `on`: the events that start a workflow, their filters, inputs and outputs.

use super::Template;
use super::events;
use super::reader::{Reader, unknown_key};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::expr::Value;
use crate::source::{Span, Spanned};
use crate::suggest;
use crate::yaml::{Node, NodeKind};

/// `on`
#[derive(Debug, Clone, Default)]
pub struct Triggers {
    /// Where it was written.
    pub span: Span,
    /// The events in order.
    pub events: Vec<Trigger>,
}

impl Triggers {
    /// The trigger of that event.
    pub fn get(&self, event: &str) -> Option<&Trigger> {
        self.events.iter().find(|trigger| trigger.name.value == event)
    }
}

/// One event with what it is limited to.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// Name of the event.
    pub name: Spanned<String>,
    /// `types`
    pub types: Option<Filter>,
    /// `branches`
    pub branches: Option<Filter>,
    /// `branches-ignore`
    pub branches_ignore: Option<Filter>,
    /// `tags`
    pub tags: Option<Filter>,
    /// `tags-ignore`
    pub tags_ignore: Option<Filter>,
    /// `paths`
    pub paths: Option<Filter>,
    /// `paths-ignore`
    pub paths_ignore: Option<Filter>,
    /// `workflows` of `workflow_run`
    pub workflows: Option<Filter>,
    /// `names` of `image_version`
    pub names: Option<Filter>,
    /// `versions` of `image_version`
    pub versions: Option<Filter>,
    /// The items of `schedule`
    pub schedules: Vec<Schedule>,
    /// `inputs` of `workflow_dispatch` and `workflow_call`
    pub inputs: Vec<Input>,
    /// `outputs` of `workflow_call`
    pub outputs: Vec<CallOutput>,
    /// `secrets` of `workflow_call`
    pub secrets: Vec<CallSecret>,
    /// Whether `secrets` is written at all.
    pub declares_secrets: bool,
}

/// The patterns of a filter.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Its key.
    pub key_span: Span,
    /// Where the patterns were written.
    pub span: Span,
    /// The patterns in order.
    pub items: Vec<Spanned<String>>,
}

/// One item of `schedule`.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// `cron`
    pub cron: Spanned<String>,
    /// `timezone`
    pub timezone: Option<Spanned<String>>,
}

/// Type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// Text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// One of `options` (`workflow_dispatch`).
    Choice,
    /// Name of an environment (`workflow_dispatch`).
    Environment,
}

impl InputKind {
    /// The word for it in a workflow file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Choice => "choice",
            Self::Environment => "environment",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        [Self::String, Self::Boolean, Self::Number, Self::Choice, Self::Environment]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// One input.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its id.
    pub name: Spanned<String>,
    /// `type`; text if not given.
    pub kind: InputKind,
    /// `description`
    pub description: Option<String>,
    /// `required`
    pub required: bool,
    /// `default`, which for `workflow_call` may be an expression.
    pub default: Option<Template>,
    /// `options`
    pub options: Vec<Spanned<String>>,
}

impl Input {
    /// The value of an input that is neither given nor has a default: the empty value of its type, and of a choice the
    /// first option, which is what the forms of Gitea and GitHub show then.
    pub fn empty_value(&self) -> Value {
        match self.kind {
            InputKind::Boolean => Value::Bool(false),
            InputKind::Number => Value::Number(0.0),
            InputKind::Choice => self.options.first().map_or("", |option| option.value.as_str()).into(),
            _ => Value::from(""),
        }
    }
}

/// One output of `workflow_call`.
#[derive(Debug, Clone)]
pub struct CallOutput {
    /// Its id.
    pub name: Spanned<String>,
    /// `value`
    pub value: Option<Template>,
}

/// One secret of `workflow_call`.
#[derive(Debug, Clone)]
pub struct CallSecret {
    /// Its id.
    pub name: Spanned<String>,
    /// `required`
    pub required: bool,
}

impl Trigger {
    fn new(name: Spanned<String>) -> Self {
        Self {
            name,
            types: None,
            branches: None,
            branches_ignore: None,
            tags: None,
            tags_ignore: None,
            paths: None,
            paths_ignore: None,
            workflows: None,
            names: None,
            versions: None,
            schedules: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            secrets: Vec::new(),
            declares_secrets: false,
        }
    }

    /// The input of that id, ignoring case.
    pub fn input(&self, name: &str) -> Option<&Input> {
        self.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(name))
    }
}

pub(super) fn read_triggers(reader: &mut Reader<'_>, node: &Node<'_>) -> Triggers {
    let mut triggers = Triggers { span: node.span, events: Vec::new() };
    match &node.kind {
        NodeKind::Scalar(_) => triggers.events.extend(read_event_name(reader, node)),
        NodeKind::Sequence(items) => {
            for item in &**items {
                triggers.events.extend(read_event_name(reader, item));
            }
            if items.is_empty() {
                reader.warn(
                    Code::EmptyValue,
                    node.span,
                    "'on' names no event, so nothing starts the workflow",
                );
            }
        }
        NodeKind::Mapping(entries) => {
            for entry in &**entries {
                let name = Spanned::new(entry.key.as_text().unwrap_or("").to_owned(), entry.key.span);
                check_event(reader, &name);
                triggers.events.push(read_trigger(reader, name, &entry.value));
            }
            if entries.is_empty() {
                reader.warn(
                    Code::EmptyValue,
                    node.span,
                    "'on' names no event, so nothing starts the workflow",
                );
            }
        }
    }
    triggers
}

/// An event without configuration.
fn read_event_name(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Trigger> {
    let name = reader.nonempty_text(node, "an event of 'on'")?;
    if !name.trim().is_empty() {
        check_event(reader, &name);
    }
    if matches!(name.value.as_str(), "schedule" | "image_version" | "workflow_run") {
        let key = match name.value.as_str() {
            "schedule" => "a sequence of 'cron'",
            "image_version" => "'names' or 'versions'",
            _ => "'workflows'",
        };
        reader.warn(Code::Event, name.span, format!("the event '{}' does nothing without {key}", name.value));
    }
    Some(Trigger::new(name))
}

fn check_event(reader: &mut Reader<'_>, name: &Spanned<String>) {
    if events::rule(name).is_some() || name.trim().is_empty() {
        return;
    }
    if events::GITEA_EVENTS.contains(&name.value.as_str()) {
        let message = format!("the event '{}' exists on Gitea, not on GitHub", name.value);
        return reader.warn(Code::Event, name.span, message);
    }
    let mut finding = Diagnostic::error(Code::Event, name.span, format!("unknown event '{}'", name.value));
    if let Some(near) = suggest::nearest(name, events::EVENTS.iter().map(|rule| rule.name)) {
        finding = finding.with_help(format!("did you mean '{near}'?"));
    }
    reader.report(finding);
}

fn read_trigger(reader: &mut Reader<'_>, name: Spanned<String>, node: &Node<'_>) -> Trigger {
    let mut trigger = Trigger::new(name);
    let event = trigger.name.value.clone();
    if event == "schedule" {
        read_schedules(reader, node, &mut trigger);
        return trigger;
    }
    if node.is_null() {
        if event == "workflow_run" {
            reader.warn(
                Code::Event,
                trigger.name.span,
                "the event 'workflow_run' does nothing without 'workflows'",
            );
        }
        return trigger;
    }
    let what = format!("the event '{event}'");
    let Some(rule) = events::rule(&event) else {
        reader.any_mapping(node, &what);
        return trigger;
    };
    let mut known: Vec<&str> = rule.keys.to_vec();
    if !rule.types.is_empty() {
        known.push("types");
    }
    if node.as_mapping().is_some() && known.is_empty() {
        reader.error(Code::Event, node.span, format!("{what} has no settings"));
        return trigger;
    }
    for entry in reader.any_mapping(node, &what) {
        let (key, value) = (entry.key.as_text().unwrap_or(""), &entry.value);
        if !known.contains(&key) {
            let mut finding = foreign_key(&event, &entry.key, &known);
            if event == "workflow_dispatch" {
                // The one event in which GitHub overlooks them.
                finding.severity = Severity::Warning;
            }
            reader.report(finding);
            continue;
        }
        let slot = match key {
            "types" => &mut trigger.types,
            "branches" => &mut trigger.branches,
            "branches-ignore" => &mut trigger.branches_ignore,
            "tags" => &mut trigger.tags,
            "tags-ignore" => &mut trigger.tags_ignore,
            "paths" => &mut trigger.paths,
            "paths-ignore" => &mut trigger.paths_ignore,
            "workflows" => &mut trigger.workflows,
            "names" => &mut trigger.names,
            "versions" => &mut trigger.versions,
            "inputs" => {
                trigger.inputs = read_inputs(reader, value, &event);
                continue;
            }
            "outputs" => {
                trigger.outputs = read_outputs(reader, value);
                continue;
            }
            "secrets" => {
                trigger.declares_secrets = true;
                trigger.secrets = read_call_secrets(reader, value);
                continue;
            }
            _ => continue,
        };
        // Its types are of its sender's making, so GitHub wants them listed.
        let sequence_only = event == "repository_dispatch" && !reader.lenient();
        *slot = read_filter(reader, &entry.key, value, sequence_only);
    }
    trigger
}

/// A key that other events have gets a sentence of its own.
fn foreign_key(event: &str, key: &Node<'_>, known: &[&str]) -> Diagnostic {
    let name = key.as_text().unwrap_or("");
    let owners: Vec<&str> =
        events::EVENTS.iter().filter(|rule| rule.keys.contains(&name)).map(|rule| rule.name).collect();
    if owners.is_empty() {
        return unknown_key(key, &format!("the event '{event}'"), known);
    }
    Diagnostic::error(Code::Event, key.span, format!("the event '{event}' has no filter '{name}'"))
        .with_help(format!("only these have it: {}", owners.join(", ")))
}

fn read_filter(
    reader: &mut Reader<'_>,
    key: &Node<'_>,
    node: &Node<'_>,
    sequence_only: bool,
) -> Option<Filter> {
    let what = format!("'{}'", key.as_text().unwrap_or(""));
    if node.is_null() {
        reader.unexpected(node, &what, "a string or a sequence of strings");
        return None;
    }
    if sequence_only && node.as_sequence().is_none() {
        reader.unexpected(node, &what, "a sequence");
        return None;
    }
    let items = reader.texts(node, &what);
    if node.as_sequence().is_some_and(<[_]>::is_empty) {
        reader.warn(Code::EmptyValue, node.span, format!("{what} is empty, so nothing matches"));
    }
    Some(Filter { key_span: key.span, span: node.span, items })
}

fn read_schedules(reader: &mut Reader<'_>, node: &Node<'_>, trigger: &mut Trigger) {
    let items = reader.sequence(node, "'schedule'");
    if items.is_empty() && node.as_sequence().is_some() {
        reader.warn(Code::EmptyValue, node.span, "'schedule' is empty, so it starts nothing");
    }
    for item in items {
        let (mut cron, mut timezone) = (None, None);
        for entry in reader.mapping(item, "an item of 'schedule'", &["cron", "timezone"]) {
            match entry.key.as_text().unwrap_or("") {
                "cron" => cron = reader.nonempty_text(&entry.value, "'cron'"),
                "timezone" => timezone = reader.nonempty_text(&entry.value, "'timezone'"),
                _ => {}
            }
        }
        match cron {
            Some(cron) => trigger.schedules.push(Schedule { cron, timezone }),
            None if item.as_mapping().is_some() && item.get("cron").is_none() => {
                reader.missing(item, "an item of 'schedule'", "cron");
            }
            None => {}
        }
    }
}

fn read_inputs(reader: &mut Reader<'_>, node: &Node<'_>, event: &str) -> Vec<Input> {
    let mut inputs = Vec::new();
    let call = event == "workflow_call";
    if node.is_null() {
        if call {
            reader.unexpected(node, "'inputs'", "a mapping");
        }
        return inputs;
    }
    for entry in reader.any_mapping(node, "'inputs'") {
        let name = Spanned::new(entry.key.as_text().unwrap_or("").to_owned(), entry.key.span);
        let mut input = Input {
            name,
            kind: InputKind::String,
            description: None,
            required: false,
            default: None,
            options: Vec::new(),
        };
        let what = format!("input '{}'", input.name.value);
        if entry.value.is_null() {
            if call {
                reader.error(
                    Code::MissingKey,
                    entry.key.span,
                    format!("{what} lacks the required key 'type'"),
                );
            }
            inputs.push(input);
            continue;
        }
        let known: &[&str] = if call {
            &["description", "type", "required", "default"]
        } else {
            &["description", "type", "required", "default", "options", "deprecationMessage"]
        };
        for property in reader.mapping(&entry.value, &what, known) {
            let value = &property.value;
            match property.key.as_text().unwrap_or("") {
                "description" => {
                    input.description = reader.text(value, "'description'").map(|text| text.value);
                }
                "type" => read_input_type(reader, value, call, &mut input),
                "required" => input.required = reader.boolean(value, "'required'").unwrap_or(false),
                "default" => input.default = read_default(reader, value, call),
                "options" => input.options = read_options(reader, value),
                _ => {}
            }
        }
        if call && entry.value.as_mapping().is_some() && entry.value.get("type").is_none() {
            reader.missing(&entry.value, &what, "type");
        }
        inputs.push(input);
    }
    inputs
}

/// A workflow that is called computes its defaults; people who dispatch one see them as they are written.
fn read_default(reader: &mut Reader<'_>, node: &Node<'_>, call: bool) -> Option<Template> {
    let default = reader.template(node, "'default'")?;
    if !call && !reader.lenient() && default.has_expression() && default.syntax_error().is_none() {
        reader.refuse_expression(&default, "the default of a dispatched workflow's input");
    }
    Some(default)
}

fn read_options(reader: &mut Reader<'_>, node: &Node<'_>) -> Vec<Spanned<String>> {
    let items = reader.sequence(node, "'options'");
    if items.is_empty() && node.as_sequence().is_some() {
        reader.error(Code::EmptyValue, node.span, "'options' must not be empty");
    }
    items.iter().filter_map(|item| reader.text(item, "an option")).collect()
}

fn read_input_type(reader: &mut Reader<'_>, node: &Node<'_>, call: bool, input: &mut Input) {
    let Some(text) = reader.nonempty_text(node, "'type'") else { return };
    let kind = InputKind::by_name(&text)
        .filter(|kind| !call || matches!(kind, InputKind::String | InputKind::Boolean | InputKind::Number));
    if let Some(kind) = kind {
        input.kind = kind;
        return;
    }
    let known: &[&str] = if call {
        &["string", "boolean", "number"]
    } else {
        &["string", "boolean", "number", "choice", "environment"]
    };
    let help = suggest::nearest(&text, known.iter().copied()).map_or_else(
        || format!("known types: {}", known.join(", ")),
        |near| format!("did you mean '{near}'?"),
    );
    let message = format!("'{}' is no type of an input", text.value);
    reader.report(Diagnostic::error(Code::WrongValue, text.span, message).with_help(help));
}

fn read_outputs(reader: &mut Reader<'_>, node: &Node<'_>) -> Vec<CallOutput> {
    let mut outputs = Vec::new();
    if node.is_null() {
        reader.unexpected(node, "'outputs'", "a mapping");
        return outputs;
    }
    for entry in reader.any_mapping(node, "'outputs'") {
        let name = Spanned::new(entry.key.as_text().unwrap_or("").to_owned(), entry.key.span);
        let what = format!("output '{}'", name.value);
        let mut value = None;
        for property in reader.mapping(&entry.value, &what, &["description", "value"]) {
            match property.key.as_text().unwrap_or("") {
                "value" => value = reader.template_if_any(&property.value, "'value'"),
                "description" => {
                    reader.text(&property.value, "'description'");
                }
                _ => {}
            }
        }
        if entry.value.as_mapping().is_some() && entry.value.get("value").is_none() {
            reader.missing(&entry.value, &what, "value");
        }
        outputs.push(CallOutput { name, value });
    }
    outputs
}

fn read_call_secrets(reader: &mut Reader<'_>, node: &Node<'_>) -> Vec<CallSecret> {
    let mut secrets = Vec::new();
    if node.is_null() {
        reader.unexpected(node, "'secrets'", "a mapping");
        return secrets;
    }
    for entry in reader.any_mapping(node, "'secrets'") {
        let name = Spanned::new(entry.key.as_text().unwrap_or("").to_owned(), entry.key.span);
        let mut required = false;
        if !entry.value.is_null() {
            let what = format!("secret '{}'", name.value);
            for property in reader.mapping(&entry.value, &what, &["description", "required"]) {
                match property.key.as_text().unwrap_or("") {
                    "required" => required = reader.boolean(&property.value, "'required'").unwrap_or(false),
                    "description" => {
                        reader.text(&property.value, "'description'");
                    }
                    _ => {}
                }
            }
        }
        secrets.push(CallSecret { name, required });
    }
    secrets
}
