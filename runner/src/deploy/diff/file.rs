//! The properties of a service as the rendered file wants it, and the fingerprint of its section.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;
use serde_yaml::Mapping;
use sha2::{Digest, Sha256};

use super::{Found, Properties, duration, is_ours, items, text, without_digest};
use crate::deploy::{DeployError, stack::Stack};

/// What a file says of one service.
#[derive(Debug)]
pub(in crate::deploy) struct Section {
    /// What is compared one by one.
    pub(super) properties: Properties,
    /// Of everything that the section says.
    pub(in crate::deploy) fingerprint: String,
}

/// The file's sections by service, for a stack of this name.
pub(in crate::deploy) fn sections(
    stack: &Stack,
    name: &str,
) -> Result<BTreeMap<String, Section>, DeployError> {
    let names = Names { stack, prefix: name };
    let section = |(service, body): (String, &Mapping)| {
        let body = serde_json::to_value(body).map_err(|error| {
            DeployError::Usage(format!("service {service}: its section is not understood: {error}"))
        })?;
        let properties = properties(&names, &service, &body);
        let fingerprint = fingerprint(&properties, body);
        Ok((service, Section { properties, fingerprint }))
    };
    stack.service_map().into_iter().map(section).collect()
}

/// How the things of the top level are called in Swarm.
struct Names<'a> {
    stack: &'a Stack,
    prefix: &'a str,
}

impl Names<'_> {
    fn resolve(&self, kind: &str, name: &str) -> String {
        let definition = self.stack.definition(kind, name);
        let given = definition.and_then(|definition| {
            let external = definition.get("external");
            let own = definition.get("name").or_else(|| external?.get("name"));
            match own.and_then(serde_yaml::Value::as_str) {
                Some(own) => Some(own.to_owned()),
                None if external.is_some_and(|external| external.as_bool() != Some(false)) => {
                    Some(name.to_owned())
                }
                None => None,
            }
        });
        given.unwrap_or_else(|| format!("{}_{name}", self.prefix))
    }
}

pub(super) fn attachment(network: &str, mut aliases: Vec<String>) -> String {
    if aliases.is_empty() {
        return network.to_owned();
    }
    aliases.sort();
    format!("{network} (as {})", aliases.join(" and "))
}

pub(super) fn mount(kind: &str, source: &str, target: &str, read_only: bool) -> String {
    format!("{kind} {source}->{target}{}", if read_only { " (read-only)" } else { "" })
}

pub(super) fn reference(name: &str, target: &str, owner: &str, mode: u64) -> String {
    format!("{name}->{target} ({owner} {mode:o})")
}

/// A mapping, or a list of `KEY=VALUE`.
fn pairs(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), text(value))).collect(),
        other => items(other)
            .map(|item| {
                let item = text(item);
                let (key, value) = item.split_once('=').unwrap_or((&item, ""));
                (key.to_owned(), value.to_owned())
            })
            .collect(),
    }
}

/// A duration as Go writes it (`1m30s`), in the form of ours; other text as it is.
fn time(value: &Value, default: &str) -> String {
    let written = text(value);
    if written.is_empty() { default.to_owned() } else { nanoseconds(&written).map_or(written, duration) }
}

fn nanoseconds(written: &str) -> Option<u64> {
    let mut rest = written;
    let mut sum = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1000,
            "ns" => 1,
            _ => return None,
        };
        sum = count.checked_mul(unit)?.checked_add(sum)?;
        rest = &rest[unit_end..];
    }
    Some(sum)
}

fn or(value: &Value, default: &str) -> String {
    let written = text(value);
    if written.is_empty() { default.to_owned() } else { written }
}

fn properties(names: &Names<'_>, service: &str, body: &Value) -> Properties {
    let mut found = Found::default();
    deploy(&mut found, body);
    container(&mut found, body);
    health(&mut found, &body["healthcheck"]);
    let ports = items(&body["ports"]).map(|port| {
        let (protocol, mode) = (or(&port["protocol"], "tcp"), or(&port["mode"], "ingress"));
        format!("{}->{}/{protocol} ({mode})", text(&port["published"]), text(&port["target"]))
    });
    found.put_set("ports", ports.collect());
    let mounts = items(&body["volumes"]).map(|volume| {
        let (kind, source) = (text(&volume["type"]), text(&volume["source"]));
        let source =
            if kind == "volume" && !source.is_empty() { names.resolve("volumes", &source) } else { source };
        mount(&kind, &source, &text(&volume["target"]), volume["read_only"].as_bool().unwrap_or(false))
    });
    found.put_set("mounts", mounts.collect());
    let networks = match body["networks"].as_object() {
        Some(networks) if !networks.is_empty() => networks
            .iter()
            .map(|(network, options)| {
                let aliases = items(&options["aliases"]).map(text).filter(|alias| alias != service);
                attachment(&names.resolve("networks", network), aliases.collect())
            })
            .collect(),
        _ => vec![names.resolve("networks", "default")],
    };
    found.put_set("networks", networks);
    for kind in ["secrets", "configs"] {
        let references = items(&body[kind]).map(|entry| {
            let source = text(&entry["source"]);
            let owner = format!("{}:{}", or(&entry["uid"], "0"), or(&entry["gid"], "0"));
            let mode = entry["mode"].as_u64().unwrap_or(0o444);
            reference(&names.resolve(kind, &source), &or(&entry["target"], &source), &owner, mode)
        });
        found.put_set(kind, references.collect());
    }
    found.0
}

fn deploy(found: &mut Found, body: &Value) {
    let deploy = &body["deploy"];
    let mode = or(&deploy["mode"], "replicated");
    if mode.starts_with("replicated") {
        found.put("replicas", or(&deploy["replicas"], "1"));
    }
    found.put("mode", mode);
    for (key, value) in pairs(&deploy["labels"]).into_iter().filter(|(key, _)| !is_ours(key)) {
        found.put(format!("label.{key}"), value);
    }
    for (prefix, key) in [("update", "update_config"), ("rollback", "rollback_config")] {
        let config = &deploy[key];
        found.put(format!("{prefix}.parallelism"), or(&config["parallelism"], "1"));
        found.put(format!("{prefix}.delay"), time(&config["delay"], "0s"));
        found.put(format!("{prefix}.monitor"), time(&config["monitor"], "5s"));
        found.put(format!("{prefix}.failure_action"), or(&config["failure_action"], "pause"));
        found.put(format!("{prefix}.order"), or(&config["order"], "stop-first"));
        let ratio = config["max_failure_ratio"].as_f64().unwrap_or(0.0);
        found.put(format!("{prefix}.max_failure_ratio"), ratio.to_string());
    }
    found.put("endpoint_mode", or(&deploy["endpoint_mode"], "vip"));
    for prefix in ["limits", "reservations"] {
        let resources = &deploy["resources"][prefix];
        if let Ok(cpus) = text(&resources["cpus"]).parse::<f64>() {
            found.put(format!("{prefix}.cpus"), format!("{cpus:.3}"));
        }
        for key in ["memory", "pids"] {
            let amount = text(&resources[key]);
            if !amount.is_empty() && amount != "0" {
                found.put(format!("{prefix}.{key}"), amount);
            }
        }
    }
    restart(found, &deploy["restart_policy"], &text(&body["restart"]));
    let placement = &deploy["placement"];
    found.put_set("placement.constraints", items(&placement["constraints"]).map(text).collect());
    let spreads: Vec<String> =
        items(&placement["preferences"]).map(|preference| text(&preference["spread"])).collect();
    found.put_value("placement.preferences", &spreads.join(", ").into());
    found.put_value("placement.max_replicas_per_node", &placement["max_replicas_per_node"]);
}

/// `deploy.restart_policy`, or else the older `restart`.
fn restart(found: &mut Found, policy: &Value, restart: &str) {
    let (condition, attempts) = match restart.split_once(':').unwrap_or((restart, "0")) {
        _ if policy.is_object() => ("any", "0"),
        ("no", _) => ("none", "0"),
        ("on-failure", attempts) => ("on-failure", attempts),
        _ => ("any", "0"),
    };
    found.put("restart.condition", or(&policy["condition"], condition));
    found.put("restart.delay", time(&policy["delay"], "5s"));
    found.put("restart.max_attempts", or(&policy["max_attempts"], attempts));
    found.put("restart.window", time(&policy["window"], "0s"));
}

fn container(found: &mut Found, body: &Value) {
    found.put("image", without_digest(&text(&body["image"])));
    for key in ["command", "entrypoint"] {
        let words: Vec<String> = match &body[key] {
            Value::Null => continue,
            Value::Array(words) => words.iter().map(text).collect(),
            other => vec![text(other)],
        };
        if !words.is_empty() {
            found.put(key, format!("{words:?}"));
        }
    }
    for (name, value) in pairs(&body["environment"]) {
        found.put(format!("environment.{name}"), value);
    }
    for (name, value) in pairs(&body["labels"]) {
        found.put(format!("container_label.{name}"), value);
    }
    for key in ["user", "hostname", "working_dir", "stop_signal", "tty", "stdin_open", "read_only"] {
        found.put_value(key, &body[key]);
    }
    if let Some(init) = body["init"].as_bool() {
        found.put("init", init.to_string());
    }
    found.put("stop_grace_period", time(&body["stop_grace_period"], "10s"));
    let logging = &body["logging"];
    found.put_value("logging.driver", &logging["driver"]);
    for (key, value) in pairs(&logging["options"]) {
        found.put(format!("logging.options.{key}"), value);
    }
}

fn health(found: &mut Found, check: &Value) {
    let test: Vec<String> = match &check["test"] {
        _ if check["disable"] == true => vec!["NONE".to_owned()],
        Value::String(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        other => items(other).map(text).collect(),
    };
    if !test.is_empty() {
        found.put("healthcheck.test", format!("{test:?}"));
    }
    for key in ["interval", "timeout", "start_period", "start_interval"] {
        found.put_value(&format!("healthcheck.{key}"), &time(&check[key], "").into());
    }
    found.put_value("healthcheck.retries", &check["retries"]);
}

/// Of the properties and all the rest of the section; not of the keys that reach Swarm in another form.
fn fingerprint(properties: &Properties, mut body: Value) -> String {
    if let Some(fields) = body.as_object_mut() {
        for key in ["build", "env_file"] {
            fields.remove(key);
        }
    }
    body.sort_all_objects();
    let mut hash = Sha256::new();
    hash.update(format!("{properties:?}\n{body}"));
    hash.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(nanoseconds("1h1m30s"), Some(3_690_000_000_000));
        assert_eq!(nanoseconds("500ms"), Some(500_000_000));
        assert_eq!(nanoseconds("1.5s"), None);
        assert_eq!(nanoseconds("soon"), None);
    }
}
