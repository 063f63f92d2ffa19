//! The event of a local run, and the `github` context that a server would send for it.

use std::path::{Path, PathBuf};

use serde_json::json;
use workflows::{Object, Value, plan::Event};

use super::Repository;

/// What the user said about the event.
#[derive(Debug, Clone, Default)]
pub struct EventSpec {
    /// Its name.
    pub name: String,
    /// A file with the payload.
    pub payload: Option<PathBuf>,
    /// Inputs of a dispatch.
    pub inputs: Vec<(String, String)>,
    /// `github.actor`.
    pub actor: String,
    /// The address of the server, without trailing slash.
    pub server: String,
}

/// A payload that cannot be used. One sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EventError(String);

impl EventSpec {
    /// The payload: that of the file, completed with what a server would always send.
    pub fn payload(&self, repository: &Repository) -> Result<serde_json::Value, EventError> {
        let mut payload = match &self.payload {
            Some(path) => read(path)?,
            None => json!({}),
        };
        let Some(object) = payload.as_object_mut() else {
            return Err(EventError("the event payload is no JSON object".to_owned()));
        };
        let (owner, name) = repository.name.split_once('/').unwrap_or(("", &repository.name));
        let mut fill = |key: &str, value: serde_json::Value| {
            object.entry(key).or_insert(value);
        };
        fill(
            "repository",
            json!({
                "name": name,
                "full_name": repository.name,
                "owner": { "login": owner, "name": owner },
                "html_url": format!("{}/{}", self.server, repository.name),
            }),
        );
        fill("sender", json!({ "login": self.actor }));
        match self.name.as_str() {
            "push" => {
                fill("ref", json!(repository.git_ref));
                fill("after", json!(repository.sha));
                fill("head_commit", json!({ "id": repository.sha }));
            }
            "workflow_dispatch" => fill("ref", json!(repository.git_ref)),
            "pull_request" | "pull_request_target" => {
                fill("number", json!(1));
                fill(
                    "pull_request",
                    json!({
                        "number": 1,
                        "head": { "ref": repository.ref_name(), "sha": repository.sha },
                        "base": { "ref": "main", "sha": repository.sha },
                    }),
                );
            }
            _ => {}
        }
        if !self.inputs.is_empty() {
            let inputs = object.entry("inputs").or_insert_with(|| json!({}));
            if let Some(inputs) = inputs.as_object_mut() {
                for (name, value) in &self.inputs {
                    inputs.insert(name.clone(), json!(value));
                }
            }
        }
        Ok(payload)
    }

    /// What the planner has to know of it.
    pub fn event(&self, repository: &Repository, payload: &serde_json::Value) -> Event {
        Event::named(&self.name).with_ref(&repository.git_ref).with_payload(payload)
    }

    /// The `github` context of the run.
    pub fn github(&self, repository: &Repository, payload: &serde_json::Value) -> Object {
        let text =
            |pointer: &str| payload.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
        let git_ref = match self.name.as_str() {
            "pull_request" => payload
                .pointer("/number")
                .and_then(serde_json::Value::as_u64)
                .map_or_else(|| repository.git_ref.clone(), |number| format!("refs/pull/{number}/merge")),
            _ => text("/ref")
                .filter(|text| text.starts_with("refs/"))
                .unwrap_or_else(|| repository.git_ref.clone()),
        };
        let ref_name = ["refs/heads/", "refs/tags/", "refs/pull/"]
            .iter()
            .find_map(|prefix| git_ref.strip_prefix(prefix))
            .unwrap_or(&git_ref);
        let ref_type = if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" };
        let (owner, _) = repository.name.split_once('/').unwrap_or(("", ""));
        let mut github = Object::new();
        let mut set = |key: &str, value: &str| {
            github.insert(key, value);
        };
        set("event_name", &self.name);
        set("actor", &self.actor);
        set("triggering_actor", &self.actor);
        set("repository", &repository.name);
        set("repository_owner", owner);
        set("repositoryUrl", &format!("{}/{}", self.server, repository.name));
        set("ref", &git_ref);
        set("ref_name", ref_name);
        set("ref_type", ref_type);
        set("sha", &text("/after").filter(|sha| !sha.is_empty()).unwrap_or_else(|| repository.sha.clone()));
        set("base_ref", &text("/pull_request/base/ref").unwrap_or_default());
        set("head_ref", &text("/pull_request/head/ref").unwrap_or_default());
        set("run_id", "1");
        set("run_number", "1");
        set("run_attempt", "1");
        set("secret_source", "Actions");
        github.insert("ref_protected", false);
        github.insert("event", Value::from_json(payload));
        crate::assignment::complete_github(&mut github, &self.server);
        github
    }
}

fn read(path: &Path) -> Result<serde_json::Value, EventError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        EventError(format!("the event payload {} cannot be read: {error}", path.display()))
    })?;
    serde_json::from_str(&text)
        .map_err(|error| EventError(format!("the event payload {} is no JSON: {error}", path.display())))
}
