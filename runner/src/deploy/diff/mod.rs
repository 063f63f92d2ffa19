//! What a deployment would change, for `--dry-run`: the rendered file beside the services that run.
//!
//! Both sides are brought to the same properties (`file`, `spec`) with Swarm's defaults filled in, and those are compared
//! one by one. What is not among them (capabilities, sysctls, limits of resources and the like) is in the section's
//! fingerprint, which a deployment leaves as a label on the service. Values of environment variables are not shown, they
//! may be secrets. Not seen by either: an image that has moved below the same tag.

mod file;
mod spec;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

pub(super) use file::{Section, sections};

use crate::deploy::stack::{DEPLOYMENT_LABEL, REVISION_LABEL, SECTION_LABEL};

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
    /// Nothing was found, and it has no fingerprint that would make that sure.
    NoneFound,
}

impl Difference {
    /// Its name for programs.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Unnamed { removed: true } => "removed",
            Self::Unnamed { removed: false } => "kept",
            Self::Changed(_) => "changed",
            Self::Same => "unchanged",
            Self::NoneFound => "none_found",
        }
    }

    /// Whether the deployment would do something to the service.
    pub(super) const fn is_change(&self) -> bool {
        matches!(self, Self::Created | Self::Unnamed { removed: true } | Self::Changed(_))
    }
}

type Properties = BTreeMap<String, String>;

/// The differences, by service; `networks` are the names of networks by their ids.
pub(super) fn differences(
    sections: &BTreeMap<String, Section>,
    present: &BTreeMap<String, Value>,
    networks: &HashMap<String, String>,
    prune: bool,
) -> BTreeMap<String, Difference> {
    let mut result = BTreeMap::new();
    for (name, section) in sections {
        let difference = match present.get(name) {
            None => Difference::Created,
            Some(spec) => {
                let changes = compare(&spec::properties(name, spec, networks), &section.properties);
                conclude(changes, spec["Labels"][SECTION_LABEL].as_str(), &section.fingerprint)
            }
        };
        result.insert(name.clone(), difference);
    }
    for name in present.keys() {
        result.entry(name.clone()).or_insert(Difference::Unnamed { removed: prune });
    }
    result
}

fn conclude(changes: Vec<(String, String, String)>, former: Option<&str>, fingerprint: &str) -> Difference {
    match former {
        _ if !changes.is_empty() => Difference::Changed(changes),
        Some(former) if former == fingerprint => Difference::Same,
        Some(_) => {
            let (before, after) = ("(as deployed)", "(another value)");
            Difference::Changed(vec![("other keys of its section".into(), before.into(), after.into())])
        }
        None => Difference::NoneFound,
    }
}

fn compare(before: &Properties, after: &Properties) -> Vec<(String, String, String)> {
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
    changes
}

/// Collects properties; what is not set leaves no trace.
#[derive(Debug, Default)]
struct Found(Properties);

impl Found {
    fn put(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }

    /// Nothing, null, `false` and an empty text are not set.
    fn put_value(&mut self, key: &str, value: &Value) {
        let value = text(value);
        if !value.is_empty() && value != "false" {
            self.put(key, value);
        }
    }

    /// A list whose order means nothing.
    fn put_set(&mut self, key: &str, mut items: Vec<String>) {
        if !items.is_empty() {
            items.sort();
            self.put(key, items.join(", "));
        }
    }
}

fn is_ours(label: &str) -> bool {
    [DEPLOYMENT_LABEL, REVISION_LABEL, SECTION_LABEL].contains(&label)
        || label.starts_with("com.docker.stack.")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `image@sha256:…`, `image:latest` and `image` are the same wish.
fn without_digest(image: &str) -> &str {
    let image = image.split_once("@sha256:").map_or(image, |(name, _)| name);
    image.strip_suffix(":latest").unwrap_or(image)
}

/// Nanoseconds as people write them.
fn duration(nanoseconds: u64) -> String {
    match nanoseconds {
        whole if whole.is_multiple_of(1_000_000_000) => format!("{}s", whole / 1_000_000_000),
        whole if whole.is_multiple_of(1_000_000) => format!("{}ms", whole / 1_000_000),
        other => format!("{other}ns"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use serde_json::{Value, json};

    use super::{Difference, Section, compare, conclude, differences, sections};
    use crate::deploy::stack::Stack;

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_of_variables_are_not_shown() {
        let before = properties(&[("environment.KEY", "old-secret"), ("image", "a:1")]);
        let after = properties(&[("environment.KEY", "new-secret"), ("image", "a:2")]);
        let changes = compare(&before, &after);
        assert_eq!(changes.len(), 2);
        assert!(!format!("{changes:?}").contains("secret"), "{changes:?}");
    }

    #[test]
    fn only_a_fingerprint_makes_sure_that_nothing_changes() {
        assert_eq!(conclude(Vec::new(), Some("f"), "f"), Difference::Same);
        assert_eq!(conclude(Vec::new(), None, "f"), Difference::NoneFound);
        assert!(matches!(conclude(Vec::new(), Some("e"), "f"), Difference::Changed(_)));
    }

    /// A file that uses every property, as `docker stack config` renders it.
    const FILE: &str = include_str!("fixtures/rendered.yml");

    fn web(file: &str) -> BTreeMap<String, Section> {
        let mut sections = sections(&Stack::of(file), "shop").expect("a section");
        sections.retain(|name, _| name == "web");
        sections
    }

    /// What `file` would change of the service that Swarm made of [`FILE`].
    fn changed(file: &str) -> Vec<String> {
        let mut spec: Value = serde_json::from_str(include_str!("fixtures/spec.json")).expect("JSON");
        spec["Labels"]["esteira.section"] = json!(web(FILE)["web"].fingerprint);
        let networks = [("n1", "shop_back"), ("n2", "shop_front"), ("n3", "shop_other")];
        let networks: HashMap<_, _> =
            networks.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned())).collect();
        let present = BTreeMap::from([("web".to_owned(), spec)]);
        match differences(&web(file), &present, &networks, false).remove("web") {
            Some(Difference::Same) => Vec::new(),
            Some(Difference::Changed(changes)) => changes.into_iter().map(|(key, ..)| key).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_swarm_made_of_the_file_is_unchanged() {
        assert_eq!(changed(FILE), [""; 0]);
    }

    #[test]
    fn every_change_is_seen_by_its_name() {
        let rows = [
            ("pass_abc", "pass_abd", "secrets"),
            ("target: /etc/conf", "target: /etc/other", "configs"),
            ("mode: 256", "mode: 292", "secrets"),
            ("interval: 1m30s", "interval: 1m31s", "healthcheck.interval"),
            ("- \"true\"", "- \"false\"", "healthcheck.test"),
            ("front: null", "other: null", "networks"),
            ("published: 18080", "published: 18081", "ports"),
            ("mode: host", "mode: ingress", "ports"),
            ("read_only: true\n      - type: tmpfs", "read_only: false\n      - type: tmpfs", "mounts"),
            ("source: data", "source: more", "mounts"),
            ("node.role == manager", "node.role == worker", "placement.constraints"),
            ("spread: node.labels.z", "spread: node.labels.y", "placement.preferences"),
            ("max_replicas_per_node: 3", "max_replicas_per_node: 4", "placement.max_replicas_per_node"),
            ("condition: on-failure", "condition: any", "restart.condition"),
            ("window: 10s", "window: 11s", "restart.window"),
            ("memory: \"10485760\"", "memory: \"10485761\"", "reservations.memory"),
            ("cpus: \"0.5\"", "cpus: \"0.25\"", "limits.cpus"),
            ("pids: 100", "pids: 101", "limits.pids"),
            ("stop_grace_period: 1m30s", "stop_grace_period: 1m31s", "stop_grace_period"),
            ("stop_signal: SIGQUIT", "stop_signal: SIGTERM", "stop_signal"),
            ("user: 1000:1000", "user: 1000:1001", "user"),
            ("hostname: box", "hostname: bix", "hostname"),
            ("working_dir: /tmp", "working_dir: /", "working_dir"),
            ("max-size: 10m", "max-size: 11m", "logging.options.max-size"),
            ("driver: json-file", "driver: local", "logging.driver"),
            ("monitor: 5s", "monitor: 6s", "update.monitor"),
            ("delay: 3s", "delay: 4s", "update.delay"),
            ("max_failure_ratio: 0.2", "max_failure_ratio: 0.3", "update.max_failure_ratio"),
            ("order: stop-first", "order: start-first", "rollback.order"),
            ("a: b", "a: c", "container_label.a"),
            ("tty: true", "tty: false", "tty"),
            ("read_only: true\n    restart", "read_only: false\n    restart", "read_only"),
            ("init: true", "init: false", "init"),
            ("net.core.somaxconn: \"1024\"", "net.core.somaxconn: \"1025\"", "other keys of its section"),
            ("- NET_ADMIN", "- SYS_ADMIN", "other keys of its section"),
        ];
        for (from, to, key) in rows {
            assert!(FILE.contains(from), "{from}");
            assert_eq!(changed(&FILE.replacen(from, to, 1)), [key], "{from} -> {to}");
        }
    }

    #[test]
    fn where_a_checkout_lies_is_no_change() {
        assert_eq!(changed(&FILE.replace("/checkout/s", "/elsewhere/s")), [""; 0]);
    }
}
