//! What a deployment would change, for `--dry-run`: the rendered file beside the services that run.
//!
//! Compared are image, mode, replicas, command, entry point, environment, service labels, secrets, configs, limits and
//! the update policy's order and failure action; values of environment variables are not shown, they may be secrets.

use std::collections::BTreeMap;

use bollard::models::ServiceSpec;
use serde_yaml::{Mapping, Value};

use crate::deploy::stack::{DEPLOYMENT_LABEL, REVISION_LABEL, Stack};

/// What becomes of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// It is new.
    Created,
    /// It would be removed (`--prune`), or stays although the file no longer names it.
    Unnamed { removed: bool },
    /// These of its properties change: name, before, after.
    Changed(Vec<(String, String, String)>),
    /// Nothing of it changes.
    Same,
}

type Properties = BTreeMap<String, String>;

/// The differences, by service.
pub(super) fn differences(
    stack: &Stack,
    present: &BTreeMap<String, ServiceSpec>,
    prune: bool,
) -> BTreeMap<String, Difference> {
    let mut result = BTreeMap::new();
    for (name, service) in stack.service_map() {
        let difference = match present.get(&name) {
            None => Difference::Created,
            Some(spec) => compare(&of_spec(spec), &of_file(service)),
        };
        result.insert(name, difference);
    }
    for name in present.keys() {
        result.entry(name.clone()).or_insert(Difference::Unnamed { removed: prune });
    }
    result
}

fn compare(before: &Properties, after: &Properties) -> Difference {
    let mut changes = Vec::new();
    for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))) {
        let (old, new) = (before.get(key), after.get(key));
        if old != new {
            let hide = |value: Option<&String>| match value {
                None => "(none)".to_owned(),
                Some(_) if key.starts_with("environment.") => "(set)".to_owned(),
                Some(value) => value.clone(),
            };
            let (shown_old, shown_new) = (hide(old), hide(new));
            let shown_old = if shown_old == shown_new { "(another value)".to_owned() } else { shown_old };
            changes.push((key.clone(), shown_old, shown_new));
        }
    }
    if changes.is_empty() { Difference::Same } else { Difference::Changed(changes) }
}

fn is_ours(label: &str) -> bool {
    label == DEPLOYMENT_LABEL || label == REVISION_LABEL || label.starts_with("com.docker.stack.")
}

/// Nano CPUs as CPUs with three digits, as the file's value is written.
fn thousandths(nano_cpus: i64) -> String {
    format!("{}.{:03}", nano_cpus / 1_000_000_000, nano_cpus / 1_000_000 % 1000)
}

/// `image@sha256:…`, `image:latest` and `image` are the same wish.
fn without_digest(image: &str) -> &str {
    let image = image.split_once("@sha256:").map_or(image, |(name, _)| name);
    image.strip_suffix(":latest").unwrap_or(image)
}

fn of_spec(spec: &ServiceSpec) -> Properties {
    let mut found = Properties::new();
    let mode = spec.mode.clone().unwrap_or_default();
    if let Some(replicated) = mode.replicated {
        found.insert("mode".into(), "replicated".into());
        found.insert("replicas".into(), replicated.replicas.unwrap_or(1).to_string());
    } else if mode.global.is_some() {
        found.insert("mode".into(), "global".into());
    } else if let Some(job) = mode.replicated_job {
        found.insert("mode".into(), "replicated-job".into());
        found.insert("replicas".into(), job.total_completions.unwrap_or(1).to_string());
    } else if mode.global_job.is_some() {
        found.insert("mode".into(), "global-job".into());
    }
    for (key, value) in spec.labels.iter().flatten().filter(|(key, _)| !is_ours(key)) {
        found.insert(format!("label.{key}"), value.clone());
    }
    if let Some(update) = &spec.update_config {
        if let Some(order) = update.order {
            found.insert("update.order".into(), order.to_string());
        }
        if let Some(action) = update.failure_action {
            found.insert("update.failure_action".into(), action.to_string());
        }
    }
    let template = spec.task_template.clone().unwrap_or_default();
    if let Some(limits) = template.resources.and_then(|resources| resources.limits) {
        if let Some(memory) = limits.memory_bytes.filter(|memory| *memory > 0) {
            found.insert("limits.memory".into(), memory.to_string());
        }
        if let Some(cpus) = limits.nano_cpus.filter(|cpus| *cpus > 0) {
            found.insert("limits.cpus".into(), thousandths(cpus));
        }
    }
    let Some(container) = template.container_spec else { return found };
    if let Some(image) = &container.image {
        found.insert("image".into(), without_digest(image).to_owned());
    }
    if let Some(command) = container.args.filter(|command| !command.is_empty()) {
        found.insert("command".into(), format!("{command:?}"));
    }
    if let Some(entry_point) = container.command.filter(|command| !command.is_empty()) {
        found.insert("entrypoint".into(), format!("{entry_point:?}"));
    }
    for pair in container.env.into_iter().flatten() {
        let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
        found.insert(format!("environment.{name}"), value.to_owned());
    }
    let secrets: Vec<String> =
        container.secrets.into_iter().flatten().filter_map(|secret| secret.secret_name).collect();
    let configs: Vec<String> =
        container.configs.into_iter().flatten().filter_map(|config| config.config_name).collect();
    count_in(&mut found, "secrets", secrets.len());
    count_in(&mut found, "configs", configs.len());
    found
}

fn count_in(found: &mut Properties, key: &str, count: usize) {
    if count > 0 {
        found.insert(key.into(), count.to_string());
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => serde_yaml::to_string(other).unwrap_or_default().trim_end().to_owned(),
    }
}

/// A mapping, or a list of `KEY=VALUE`.
fn pairs(value: Option<&Value>) -> Vec<(String, String)> {
    match value {
        Some(Value::Mapping(mapping)) => {
            mapping.iter().map(|(key, value)| (text(key), text(value))).collect()
        }
        Some(Value::Sequence(list)) => list
            .iter()
            .map(|item| {
                let item = text(item);
                item.split_once('=')
                    .map_or((item.clone(), String::new()), |(key, value)| (key.to_owned(), value.to_owned()))
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Sequence(list) => list.iter().map(text).collect(),
        other => vec![text(other)],
    }
}

fn of_file(service: &Mapping) -> Properties {
    let mut found = Properties::new();
    let nothing = Mapping::new();
    let section = |mapping: &Mapping, key: &str| {
        mapping.get(key).and_then(Value::as_mapping).cloned().unwrap_or_default()
    };
    let deploy = service.get("deploy").and_then(Value::as_mapping).unwrap_or(&nothing);
    let mode = deploy.get("mode").map_or_else(|| "replicated".to_owned(), text);
    if mode.starts_with("replicated") {
        found.insert("replicas".into(), deploy.get("replicas").map_or_else(|| "1".to_owned(), text));
    }
    found.insert("mode".into(), mode);
    for (key, value) in pairs(deploy.get("labels")).into_iter().filter(|(key, _)| !is_ours(key)) {
        found.insert(format!("label.{key}"), value);
    }
    let update = section(deploy, "update_config");
    if !update.is_empty() {
        for (key, default) in [("order", "stop-first"), ("failure_action", "pause")] {
            found.insert(format!("update.{key}"), update.get(key).map_or_else(|| default.to_owned(), text));
        }
    }
    let limits = section(&section(deploy, "resources"), "limits");
    if let Some(memory) = limits.get("memory") {
        found.insert("limits.memory".into(), text(memory));
    }
    if let Some(cpus) = limits.get("cpus").and_then(|cpus| text(cpus).parse::<f64>().ok()) {
        found.insert("limits.cpus".into(), format!("{cpus:.3}"));
    }
    if let Some(image) = service.get("image") {
        found.insert("image".into(), without_digest(&text(image)).to_owned());
    }
    for key in ["command", "entrypoint"] {
        if let Some(value) = service.get(key).filter(|value| !value.is_null()) {
            found.insert(key.into(), format!("{:?}", words(value)));
        }
    }
    for (name, value) in pairs(service.get("environment")) {
        found.insert(format!("environment.{name}"), value);
    }
    for key in ["secrets", "configs"] {
        count_in(&mut found, key, service.get(key).and_then(Value::as_sequence).map_or(0, Vec::len));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Difference, compare};

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_of_variables_are_not_shown() {
        let before = properties(&[("environment.KEY", "old-secret"), ("image", "a:1")]);
        let after = properties(&[("environment.KEY", "new-secret"), ("image", "a:2")]);
        let Difference::Changed(changes) = compare(&before, &after) else { panic!("something changed") };
        assert_eq!(changes.len(), 2);
        assert!(!format!("{changes:?}").contains("secret"), "{changes:?}");
    }

    #[test]
    fn the_same_is_the_same() {
        let same = properties(&[("image", "a:1")]);
        assert_eq!(compare(&same, &same), Difference::Same);
    }
}
