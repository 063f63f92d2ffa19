//! The properties of a service that runs, from the engine's answer.

use std::collections::HashMap;

use serde_json::Value;

use super::{Found, Properties, duration, is_ours, items, text, without_digest};

/// The properties of the service with this specification.
pub(super) fn properties(service: &str, spec: &Value, networks: &HashMap<String, String>) -> Properties {
    let mut found = Found::default();
    let template = &spec["TaskTemplate"];
    mode(&mut found, &spec["Mode"]);
    labels(&mut found, "label", &spec["Labels"]);
    update(&mut found, "update", &spec["UpdateConfig"]);
    update(&mut found, "rollback", &spec["RollbackConfig"]);
    endpoint(&mut found, &spec["EndpointSpec"]);
    resources(&mut found, "limits", &template["Resources"]["Limits"]);
    resources(&mut found, "reservations", &template["Resources"]["Reservations"]);
    restart(&mut found, &template["RestartPolicy"]);
    placement(&mut found, &template["Placement"]);
    attachments(&mut found, service, &template["Networks"], networks);
    if let Some(driver) = template["LogDriver"]["Name"].as_str() {
        found.put("logging.driver", driver);
    }
    for (key, value) in template["LogDriver"]["Options"].as_object().into_iter().flatten() {
        found.put(format!("logging.options.{key}"), text(value));
    }
    container(&mut found, &template["ContainerSpec"]);
    found.0
}

/// Nanoseconds; nothing and 0 are the default.
fn time(value: &Value, default: &str) -> String {
    value.as_u64().filter(|time| *time > 0).map_or_else(|| default.to_owned(), duration)
}

fn number(value: &Value, default: u64) -> String {
    value.as_u64().unwrap_or(default).to_string()
}

fn mode(found: &mut Found, mode: &Value) {
    let names = [
        ("Replicated", "replicated", Some("Replicas")),
        ("Global", "global", None),
        ("ReplicatedJob", "replicated-job", Some("TotalCompletions")),
        ("GlobalJob", "global-job", None),
    ];
    for (key, name, count) in names.into_iter().filter(|(key, ..)| mode[*key].is_object()) {
        found.put("mode", name);
        if let Some(count) = count {
            found.put("replicas", number(&mode[key][count], 1));
        }
    }
}

fn labels(found: &mut Found, prefix: &str, labels: &Value) {
    for (key, value) in labels.as_object().into_iter().flatten().filter(|(key, _)| !is_ours(key)) {
        found.put(format!("{prefix}.{key}"), text(value));
    }
}

fn update(found: &mut Found, prefix: &str, config: &Value) {
    let word = |value: &Value, default: &str| value.as_str().unwrap_or(default).to_owned();
    found.put(format!("{prefix}.parallelism"), number(&config["Parallelism"], 1));
    found.put(format!("{prefix}.delay"), time(&config["Delay"], "0s"));
    found.put(format!("{prefix}.monitor"), time(&config["Monitor"], "5s"));
    found.put(format!("{prefix}.failure_action"), word(&config["FailureAction"], "pause"));
    found.put(format!("{prefix}.order"), word(&config["Order"], "stop-first"));
    let ratio = config["MaxFailureRatio"].as_f64().unwrap_or(0.0);
    found.put(format!("{prefix}.max_failure_ratio"), ratio.to_string());
}

fn endpoint(found: &mut Found, endpoint: &Value) {
    found.put("endpoint_mode", endpoint["Mode"].as_str().unwrap_or("vip"));
    let ports = items(&endpoint["Ports"]).map(|port| {
        let published = port["PublishedPort"].as_u64().map_or_else(String::new, |port| port.to_string());
        let (protocol, mode) = (text(&port["Protocol"]), text(&port["PublishMode"]));
        format!("{published}->{}/{protocol} ({mode})", port["TargetPort"])
    });
    found.put_set("ports", ports.collect());
}

fn resources(found: &mut Found, prefix: &str, resources: &Value) {
    let positive = |key: &str| resources[key].as_u64().filter(|amount| *amount > 0);
    if let Some(cpus) = positive("NanoCPUs") {
        let cpus = format!("{}.{:03}", cpus / 1_000_000_000, cpus / 1_000_000 % 1000);
        found.put(format!("{prefix}.cpus"), cpus);
    }
    for (key, name) in [("MemoryBytes", "memory"), ("Pids", "pids")] {
        if let Some(amount) = positive(key) {
            found.put(format!("{prefix}.{name}"), amount.to_string());
        }
    }
}

fn restart(found: &mut Found, policy: &Value) {
    found.put("restart.condition", policy["Condition"].as_str().unwrap_or("any"));
    found.put("restart.delay", policy["Delay"].as_u64().map_or_else(|| "5s".to_owned(), duration));
    found.put("restart.max_attempts", number(&policy["MaxAttempts"], 0));
    found.put("restart.window", time(&policy["Window"], "0s"));
}

fn placement(found: &mut Found, placement: &Value) {
    found.put_set("placement.constraints", items(&placement["Constraints"]).map(text).collect());
    let spreads: Vec<String> = items(&placement["Preferences"])
        .map(|preference| text(&preference["Spread"]["SpreadDescriptor"]))
        .collect();
    found.put_value("placement.preferences", &spreads.join(", ").into());
    if let Some(most) = placement["MaxReplicas"].as_u64().filter(|most| *most > 0) {
        found.put("placement.max_replicas_per_node", most.to_string());
    }
}

fn attachments(found: &mut Found, service: &str, attachments: &Value, names: &HashMap<String, String>) {
    let networks = items(attachments).map(|attachment| {
        let target = text(&attachment["Target"]);
        let name = names.get(&target).unwrap_or(&target);
        let aliases = items(&attachment["Aliases"]).map(text).filter(|alias| alias != service);
        super::file::attachment(name, aliases.collect())
    });
    found.put_set("networks", networks.collect());
}

fn container(found: &mut Found, container: &Value) {
    found.put("image", without_digest(&text(&container["Image"])));
    for (key, name) in [("Args", "command"), ("Command", "entrypoint")] {
        let words: Vec<String> = items(&container[key]).map(text).collect();
        if !words.is_empty() {
            found.put(name, format!("{words:?}"));
        }
    }
    for pair in items(&container["Env"]).map(text) {
        let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
        found.put(format!("environment.{name}"), value);
    }
    labels(found, "container_label", &container["Labels"]);
    for (key, name) in [
        ("User", "user"),
        ("Hostname", "hostname"),
        ("Dir", "working_dir"),
        ("StopSignal", "stop_signal"),
        ("TTY", "tty"),
        ("OpenStdin", "stdin_open"),
        ("ReadOnly", "read_only"),
    ] {
        found.put_value(name, &container[key]);
    }
    if let Some(init) = container["Init"].as_bool() {
        found.put("init", init.to_string());
    }
    let grace = container["StopGracePeriod"].as_u64();
    found.put("stop_grace_period", grace.map_or_else(|| "10s".to_owned(), duration));
    health(found, &container["Healthcheck"]);
    let mounts = items(&container["Mounts"]).map(|mount| {
        let read_only = mount["ReadOnly"].as_bool().unwrap_or(false);
        super::file::mount(&text(&mount["Type"]), &text(&mount["Source"]), &text(&mount["Target"]), read_only)
    });
    found.put_set("mounts", mounts.collect());
    for (kind, name) in [("Secrets", "SecretName"), ("Configs", "ConfigName")] {
        let references = items(&container[kind]).filter(|reference| reference["File"].is_object());
        let references = references.map(|reference| {
            let file = &reference["File"];
            let mode = file["Mode"].as_u64().unwrap_or(0o444);
            let owner = format!("{}:{}", text(&file["UID"]), text(&file["GID"]));
            super::file::reference(&text(&reference[name]), &text(&file["Name"]), &owner, mode)
        });
        found.put_set(&kind.to_lowercase(), references.collect());
    }
}

fn health(found: &mut Found, check: &Value) {
    let test: Vec<String> = items(&check["Test"]).map(text).collect();
    if !test.is_empty() {
        found.put("healthcheck.test", format!("{test:?}"));
    }
    for (key, name) in [
        ("Interval", "interval"),
        ("Timeout", "timeout"),
        ("StartPeriod", "start_period"),
        ("StartInterval", "start_interval"),
    ] {
        found.put_value(&format!("healthcheck.{name}"), &time(&check[key], "").into());
    }
    if let Some(retries) = check["Retries"].as_u64().filter(|retries| *retries > 0) {
        found.put("healthcheck.retries", retries.to_string());
    }
}
