//! The single-job workflow that Gitea sends for a planned job, written from the source so that what the
//! author wrote stays as it was.

use super::planned::PlannedJob;
use crate::expr::Value;
use crate::yaml::{self, Entry, Node, NodeKind, ScalarStyle};

const WORKFLOW_KEYS: [&str; 6] = ["name", "on", "env", "defaults", "permissions", "run-name"];
const JOB_KEYS: [&str; 15] = [
    "env",
    "if",
    "steps",
    "timeout-minutes",
    "continue-on-error",
    "services",
    "strategy",
    "container",
    "defaults",
    "outputs",
    "uses",
    "with",
    "secrets",
    "concurrency",
    "permissions",
];
const STEP_KEYS: [&str; 10] =
    ["id", "if", "name", "uses", "run", "working-directory", "shell", "env", "with", "continue-on-error"];

pub(super) fn write(planned: &PlannedJob) -> String {
    let (tree, _) = yaml::parse(&planned.workflow.source, yaml::Limits::default());
    let mut out = String::new();
    let Some(root) = tree else { return out };
    for key in
        WORKFLOW_KEYS.into_iter().filter(|key| !matches!(*key, "defaults" | "permissions" | "run-name"))
    {
        write_key(&root, key, 0, &mut out);
    }
    let job = planned.job();
    let node = root.get("jobs").and_then(|jobs| jobs.get(&job.id.value));
    out.push_str("jobs:\n");
    line(1, &format!("{}:", quote(&job.id.value)), &mut out);
    // Names of callers belong to the run, not to the job.
    let name = planned.name.rsplit(" / ").next().unwrap_or(&planned.name);
    line(2, &format!("name: {}", quote(name)), &mut out);
    match planned.runs_on.as_slice() {
        [label] => line(2, &format!("runs-on: {}", quote(label)), &mut out),
        labels => write_value(
            2,
            "runs-on",
            &Value::array(labels.iter().map(|l| Value::from(l.as_str())).collect()),
            &mut out,
        ),
    }
    if let Some(node) = node {
        for key in JOB_KEYS {
            match key {
                "steps" => write_steps(node, &mut out),
                "strategy" => write_strategy(node, planned, &mut out),
                _ => write_key(node, key, 2, &mut out),
            }
        }
    }
    for key in ["defaults", "permissions", "run-name"] {
        write_key(&root, key, 0, &mut out);
    }
    out
}

fn line(depth: usize, text: &str, out: &mut String) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(text);
    out.push('\n');
}

fn write_key(node: &Node<'_>, key: &str, depth: usize, out: &mut String) {
    if let Some(value) = node.get(key) {
        write_entry(depth, key, value, out);
    }
}

fn write_steps(job: &Node<'_>, out: &mut String) {
    let Some(steps) = job.get("steps").and_then(Node::as_sequence) else { return };
    let steps: Vec<Node<'_>> = steps
        .iter()
        .filter_map(|step| {
            let entries: Vec<Entry<'_>> = STEP_KEYS
                .into_iter()
                .chain(["timeout-minutes"])
                .filter_map(|key| {
                    step.as_mapping()?.iter().find(|entry| entry.key.as_text() == Some(key)).cloned()
                })
                .collect();
            let kind = NodeKind::Mapping(std::sync::Arc::new(entries));
            (!step.is_null()).then_some(Node { span: step.span, kind })
        })
        .collect();
    let span = job.span;
    write_entry(2, "steps", &Node { span, kind: NodeKind::Sequence(std::sync::Arc::new(steps)) }, out);
}

/// Every axis becomes a list of the one value of this leg.
fn write_strategy(job: &Node<'_>, planned: &PlannedJob, out: &mut String) {
    let Some(strategy) = job.get("strategy") else { return };
    line(2, "strategy:", out);
    for key in ["fail-fast", "max-parallel"] {
        write_key(strategy, key, 3, out);
    }
    if !planned.matrix.is_empty() {
        line(3, "matrix:", out);
        for (key, value) in planned.matrix.iter() {
            write_value(4, key, &Value::array(vec![value.clone()]), out);
        }
    }
}

fn write_value(depth: usize, key: &str, value: &Value, out: &mut String) {
    line(depth, &format!("{}: {}", quote(key), value.to_json()), out);
}

/// `key: value` in block style.
fn write_entry(depth: usize, key: &str, value: &Node<'_>, out: &mut String) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(&quote(key));
    out.push(':');
    write_node(depth, value, out);
}

/// A value after its `key:` or `-`, with the line break that ends it.
fn write_node(depth: usize, node: &Node<'_>, out: &mut String) {
    match &node.kind {
        NodeKind::Scalar(scalar) => {
            let plain = scalar.style == ScalarStyle::Plain && is_plain(&scalar.text);
            if !scalar.text.is_empty() || scalar.style != ScalarStyle::Plain {
                out.push(' ');
                out.push_str(&if plain { scalar.text.to_string() } else { quote_always(&scalar.text) });
            }
            out.push('\n');
        }
        NodeKind::Sequence(items) if items.is_empty() => out.push_str(" []\n"),
        NodeKind::Mapping(entries) if entries.is_empty() => out.push_str(" {}\n"),
        NodeKind::Sequence(items) => {
            out.push('\n');
            for item in &**items {
                out.push_str(&"  ".repeat(depth + 1));
                out.push('-');
                match &item.kind {
                    NodeKind::Mapping(entries) if !entries.is_empty() => {
                        // The first key stands on the dash's line, the others below it.
                        let mut inner = String::new();
                        for entry in &**entries {
                            write_entry(
                                depth + 2,
                                entry.key.as_text().unwrap_or(""),
                                &entry.value,
                                &mut inner,
                            );
                        }
                        out.push(' ');
                        out.push_str(inner.trim_start());
                    }
                    _ => write_node(depth + 1, item, out),
                }
            }
        }
        NodeKind::Mapping(entries) => {
            out.push('\n');
            for entry in &**entries {
                write_entry(depth + 1, entry.key.as_text().unwrap_or(""), &entry.value, out);
            }
        }
    }
}

/// Whether text that was plain can be plain again on one line.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(['\n', '#'])
        && !text.contains(": ")
        && !text.ends_with(':')
        && text.trim() == text
        && !text.starts_with([
            '*', '&', '!', '%', '@', '`', '?', '|', '>', '\'', '"', '{', '}', '[', ']', ',', '-',
        ])
}

/// Text that has to stay text: plain where that is safe.
fn quote(text: &str) -> String {
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || " _-./(),".contains(c))
        && text.trim() == text;
    let special = ["null", "true", "false", "on", "off", "yes", "no", "y", "n"]
        .iter()
        .any(|w| text.eq_ignore_ascii_case(w));
    if word && !special { text.to_owned() } else { quote_always(text) }
}

/// JSON's quoting is YAML's, too.
fn quote_always(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
