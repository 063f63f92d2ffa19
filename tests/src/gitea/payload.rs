//! From a workflow file to what a runner gets: single-job payloads, the `github` context, tokens.

use std::collections::BTreeMap;

use prost_types::{ListValue, Struct, Value as ProtoValue, value::Kind};
use serde_json::{Value as Json, json};
use serde_yaml::{Mapping, Value as Yaml};

/// A push of one workflow, with what the repository's settings add.
#[derive(Debug, Clone)]
pub struct Push {
    pub(crate) workflow: String,
    pub(crate) file: String,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) vars: BTreeMap<String, String>,
    pub(crate) event: Json,
}

impl Push {
    /// A push that starts `workflow` (YAML text).
    pub fn new(workflow: &str) -> Self {
        Self {
            workflow: workflow.to_owned(),
            file: "story.yml".to_owned(),
            secrets: BTreeMap::new(),
            vars: BTreeMap::new(),
            event: json!({
                "ref": "refs/heads/main",
                "before": "0000000000000000000000000000000000000000",
                "after": SHA,
                "commits": [],
                "repository": {"id": 17, "full_name": "lab/story", "private": false},
                "pusher": {"id": 1, "login": "lab"},
            }),
        }
    }

    /// Adds a secret of the repository.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds a variable of the repository.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// The commit of every push here.
pub(crate) const SHA: &str = "4f6f0a4b1d2c3e5f60718293a4b5c6d7e8f90123";

/// One job as the server's planner makes it.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) needs: Vec<String>,
    pub(crate) runs_on: Vec<String>,
    pub(crate) has_if: bool,
    pub(crate) steps: usize,
    pub(crate) payload: String,
}

/// Makes one job of every matrix cell of every job, as Gitea's parser does.
///
/// # Panics
/// When the story's workflow is not one: it is part of the test.
pub(crate) fn plan(workflow: &str) -> Vec<Planned> {
    let root: Yaml = serde_yaml::from_str(workflow).expect("the story's workflow is YAML");
    let root = root.as_mapping().expect("a workflow is a mapping");
    let jobs = root.get("jobs").and_then(Yaml::as_mapping).expect("a workflow has jobs");
    let mut planned = Vec::new();
    for (key, job) in jobs {
        let key = key.as_str().expect("a job id is text");
        let job = job.as_mapping().expect("a job is a mapping");
        for cell in cells(job) {
            planned.push(plan_job(root, key, job, &cell));
        }
    }
    planned
}

fn plan_job(root: &Mapping, key: &str, job: &Mapping, cell: &[(String, Yaml)]) -> Planned {
    let given = job.get("name").and_then(Yaml::as_str).unwrap_or(key);
    let name = if cell.is_empty() {
        given.to_owned()
    } else {
        format!("{given} ({})", cell.iter().map(|(_, v)| scalar(v)).collect::<Vec<_>>().join(", "))
    };
    let mut single = Mapping::new();
    single.insert("name".into(), name.clone().into());
    for field in JOB_FIELDS {
        let value = match (*field, cell.is_empty()) {
            ("strategy", false) => Some(one_cell(job, cell)),
            _ => job.get(*field).cloned(),
        };
        if let Some(value) = value {
            single.insert((*field).into(), value);
        }
    }
    let mut jobs = Mapping::new();
    jobs.insert(key.into(), Yaml::Mapping(single));
    let mut payload = Mapping::new();
    for field in ["name", "on", "env", "jobs", "defaults", "permissions", "run-name"] {
        if field == "jobs" {
            payload.insert("jobs".into(), Yaml::Mapping(std::mem::take(&mut jobs)));
        } else if let Some(value) = root.get(field) {
            payload.insert(field.into(), value.clone());
        }
    }
    Planned {
        key: key.to_owned(),
        name,
        needs: list(job.get("needs")),
        runs_on: list(job.get("runs-on")),
        has_if: job.contains_key("if"),
        steps: job.get("steps").and_then(Yaml::as_sequence).map_or(0, Vec::len),
        payload: serde_yaml::to_string(&payload).expect("what was read can be written"),
    }
}

/// The order of the keys in a payload; `needs` is not among them.
const JOB_FIELDS: &[&str] = &[
    "runs-on",
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

fn one_cell(job: &Mapping, cell: &[(String, Yaml)]) -> Yaml {
    let mut strategy = job.get("strategy").and_then(Yaml::as_mapping).cloned().unwrap_or_default();
    let matrix: Mapping =
        cell.iter().map(|(key, value)| (key.as_str().into(), Yaml::Sequence(vec![value.clone()]))).collect();
    strategy.insert("matrix".into(), Yaml::Mapping(matrix));
    Yaml::Mapping(strategy)
}

/// The product of the matrix axes (no `include`, no `exclude`: the stories need none); one empty cell without a matrix.
fn cells(job: &Mapping) -> Vec<Vec<(String, Yaml)>> {
    let matrix = job.get("strategy").and_then(|s| s.get("matrix")).and_then(Yaml::as_mapping);
    let mut cells = vec![Vec::new()];
    for (axis, values) in matrix.into_iter().flatten() {
        let axis = axis.as_str().expect("an axis has a name");
        let values = values.as_sequence().expect("an axis is a list");
        cells = cells
            .iter()
            .flat_map(|cell| {
                values.iter().map(move |value| {
                    let mut longer = cell.clone();
                    longer.push((axis.to_owned(), value.clone()));
                    longer
                })
            })
            .collect();
    }
    cells
}

fn scalar(value: &Yaml) -> String {
    value
        .as_str()
        .map_or_else(|| serde_yaml::to_string(value).unwrap_or_default().trim().to_owned(), str::to_owned)
}

fn list(value: Option<&Yaml>) -> Vec<String> {
    match value {
        None | Some(Yaml::Null) => Vec::new(),
        Some(Yaml::Sequence(items)) => items.iter().map(scalar).collect(),
        Some(one) => vec![scalar(one)],
    }
}

/// What goes into a task's context, as Gitea fills it for a push.
pub(crate) fn context(facts: &Facts<'_>) -> Struct {
    let address = facts.address;
    let mut context = json!({
        "event": facts.event,
        "event_name": "push",
        "actor": "lab",
        "repository": "lab/story",
        "repository_owner": "lab",
        "ref": "refs/heads/main",
        "ref_name": "main",
        "ref_type": "branch",
        "sha": SHA,
        "base_ref": "",
        "head_ref": "",
        "run_id": facts.run.to_string(),
        "run_number": facts.run.to_string(),
        "run_attempt": "1",
        "job": facts.job,
        "workflow": facts.file,
        "api_url": format!("{address}/api/v1"),
        "server_url": format!("{address}/"),
        "repositoryUrl": format!("{address}/lab/story"),
        "secret_source": "Actions",
        "ref_protected": false,
        "triggering_actor": "",
        "gitea_default_actions_url": "https://github.com",
        "token": facts.token,
        "gitea_runtime_token": facts.runtime_token,
    });
    let object = context.as_object_mut().expect("it is an object");
    for empty in [
        "action",
        "action_path",
        "action_ref",
        "action_repository",
        "action_status",
        "env",
        "event_path",
        "graphql_url",
        "path",
        "retention_days",
        "workspace",
    ] {
        object.insert(empty.to_owned(), Json::String(String::new()));
    }
    match to_proto(&context).kind {
        Some(Kind::StructValue(fields)) => fields,
        _ => unreachable!("an object becomes a struct"),
    }
}

/// What a context is made from.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) address: &'a str,
    pub(crate) event: &'a Json,
    pub(crate) run: i64,
    pub(crate) job: &'a str,
    pub(crate) file: &'a str,
    pub(crate) token: &'a str,
    pub(crate) runtime_token: &'a str,
}

fn to_proto(value: &Json) -> ProtoValue {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(b) => Kind::BoolValue(*b),
        Json::Number(n) => Kind::NumberValue(n.as_f64().expect("a JSON number is a double here")),
        Json::String(s) => Kind::StringValue(s.clone()),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(to_proto).collect() }),
        Json::Object(fields) => Kind::StructValue(Struct {
            fields: fields.iter().map(|(k, v)| (k.clone(), to_proto(v))).collect(),
        }),
    };
    ProtoValue { kind: Some(kind) }
}

/// 40 hexadecimal digits that nobody has seen before.
pub(crate) fn hex_token() -> String {
    let two = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    two[..40].to_owned()
}

/// A runtime token of three parts whose claims can be read; nobody here checks the signature.
pub(crate) fn runtime_token(task: i64, run: i64, job: i64) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
    let claims = json!({
        "nbf": 1_700_000_000, "exp": 4_000_000_000_u64,
        "scp": format!("Actions.Results:{run}:{job}"),
        "ac": "[{\"Scope\":\"\",\"Permission\":2}]",
        "TaskID": task, "RunID": run, "JobID": job,
    });
    let signature = uuid::Uuid::new_v4();
    [
        BASE64.encode(json!({"alg": "HS256", "typ": "JWT"}).to_string()),
        BASE64.encode(claims.to_string()),
        BASE64.encode([signature.as_bytes().as_slice(), signature.as_bytes().as_slice()].concat()),
    ]
    .join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_one_job_a_name_no_needs_and_one_matrix_cell() {
        let jobs = plan(
            "on: push\njobs:\n  build:\n    runs-on: [a, b]\n    steps: [{run: x}]\n  test:\n    needs: build\n    runs-on: a\n    strategy:\n      fail-fast: false\n      matrix: {os: [x, y], v: [1, 2]}\n    steps: []\n",
        );
        let names: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["build", "test (x, 1)", "test (x, 2)", "test (y, 1)", "test (y, 2)"]);
        assert_eq!(jobs[0].runs_on, ["a", "b"]);
        assert_eq!(jobs[1].needs, ["build"]);
        let last: Yaml = serde_yaml::from_str(&jobs[4].payload).expect("a payload is YAML");
        assert_eq!(last["jobs"].as_mapping().map(Mapping::len), Some(1));
        assert_eq!(last["jobs"]["test"]["needs"], Yaml::Null);
        assert_eq!(last["jobs"]["test"]["strategy"]["matrix"]["os"], Yaml::Sequence(vec!["y".into()]));
        assert_eq!(last["jobs"]["test"]["strategy"]["fail-fast"], Yaml::Bool(false));
    }
}
