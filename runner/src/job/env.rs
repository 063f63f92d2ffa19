//! The environment of one process, whole: backends add nothing to it.
//!
//! From low to high, as on GitHub: what the place brings, the configured variables of the runner (which are the first
//! level of the `env` context), workflow, job and `GITHUB_ENV` variables, those of the enclosing composite steps, the
//! step's own; then inputs and state of an action; then what the runner says itself, which always wins.

use std::collections::BTreeMap;

use workflows::Value;

use super::state::EnvMap;
use crate::backend::Layout;

/// The keys of the `github` context that become `GITHUB_*` variables.
const GITHUB: [&str; 39] = [
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "actor",
    "actor_id",
    "api_url",
    "base_ref",
    "env",
    "event_name",
    "event_path",
    "graphql_url",
    "head_ref",
    "job",
    "output",
    "path",
    "ref",
    "ref_name",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "retention_days",
    "run_attempt",
    "run_id",
    "run_number",
    "server_url",
    "sha",
    "state",
    "step_summary",
    "triggering_actor",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "workspace",
    "artifacts",
    "artifacts_list",
];

/// What goes into a process's environment.
pub(crate) struct Parts<'a> {
    pub(crate) layout: &'a Layout,
    /// The `env` context of the step.
    pub(crate) env: &'a EnvMap,
    /// `INPUT_*` and `STATE_*` of an action.
    pub(crate) action: &'a [(String, String)],
    /// The `github` context of the step.
    pub(crate) github: &'a Value,
    /// The `runner` context.
    pub(crate) runner: &'a Value,
    /// What the runner sets for services and markers.
    pub(crate) services: &'a [(String, String)],
    /// `GITHUB_PATH`, newest first.
    pub(crate) prepended: &'a [String],
}

/// The whole environment of a process in the job's place.
pub(crate) fn process(parts: &Parts<'_>) -> BTreeMap<String, String> {
    let mut env = parts.layout.environ.clone();
    env.entry("HOME".to_owned()).or_insert_with(|| parts.layout.home.clone());
    let base_path = env.get("PATH").cloned();
    overlay(&mut env, parts);
    if !parts.prepended.is_empty() {
        // In a container a step's own PATH gives way as soon as something was prepended; on the host it is the base.
        let base = if parts.layout.in_container { base_path } else { env.get("PATH").cloned() };
        let mut path = parts.prepended.join(":");
        if let Some(base) = base.filter(|base| !base.is_empty()) {
            path.push(':');
            path.push_str(&base);
        }
        env.insert("PATH".to_owned(), path);
    }
    env
}

/// The environment that an image of its own gets on top of what it brings: no `PATH` or `HOME` of the job's place.
pub(crate) fn image(parts: &Parts<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    overlay(&mut env, parts);
    env
}

fn overlay(env: &mut BTreeMap<String, String>, parts: &Parts<'_>) {
    let mut set = |name: &str, value: &str| {
        env.insert(name.to_owned(), value.to_owned());
    };
    set("CI", "true");
    for (name, value) in parts.env.iter() {
        set(name, value);
    }
    for (name, value) in parts.action {
        set(name, value);
    }
    for key in GITHUB {
        if let Some(value) = parts.github.get(key).filter(|value| !matches!(value, Value::Null)) {
            set(&format!("GITHUB_{}", key.to_ascii_uppercase()), &value.to_text());
        }
    }
    for (key, value) in parts.runner.as_object().into_iter().flat_map(workflows::Object::iter) {
        set(&format!("RUNNER_{}", key.to_ascii_uppercase()), &value.to_text());
    }
    set("GITHUB_ACTIONS", "true");
    for (name, value) in parts.services {
        set(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use workflows::{Object, Value};

    use super::{Parts, process};
    use crate::{backend::Layout, job::state::EnvMap};

    fn layout(in_container: bool) -> Layout {
        Layout {
            workspace: "/w".into(),
            temp: "/t".into(),
            tool_cache: "/c".into(),
            actions: "/a".into(),
            home: "/h".into(),
            node: String::new(),
            environ: [("PATH", "/usr/bin"), ("V", "place"), ("LOW", "place")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            os: "Linux",
            arch: "X64",
            in_container,
            container_id: String::new(),
            network: String::new(),
            services: BTreeMap::new(),
        }
    }

    fn environment(
        in_container: bool,
        prepended: &[String],
        step: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let mut env = EnvMap::default();
        env.extend([("V", "job"), ("GITHUB_SHA", "x"), ("CI", "no")]);
        env.extend(step.iter().copied());
        let github: Object = [("sha", "real")].into_iter().collect();
        process(&Parts {
            layout: &layout(in_container),
            env: &env,
            action: &[("INPUT_A".into(), "1".into())],
            github: &Value::object(github),
            runner: &Value::object([("os", "Linux")].into_iter().collect()),
            services: &[("GITEA_ACTIONS".into(), "true".into())],
            prepended,
        })
    }

    #[test]
    fn the_runners_own_words_win_and_the_place_is_below_all() {
        let env = environment(true, &[], &[]);
        let value = |name: &str| env.get(name).map(String::as_str);
        assert_eq!(value("V"), Some("job"));
        assert_eq!(value("LOW"), Some("place"));
        assert_eq!(value("GITHUB_SHA"), Some("real"));
        assert_eq!(value("CI"), Some("no"));
        assert_eq!(value("RUNNER_OS"), Some("Linux"));
        assert_eq!(value("INPUT_A"), Some("1"));
        assert_eq!(value("HOME"), Some("/h"));
        assert_eq!(value("PATH"), Some("/usr/bin"));
    }

    #[test]
    fn what_was_prepended_stands_before_the_path() {
        let prepended = ["/new".to_owned(), "/old".to_owned()];
        let path =
            |container, step: &[(&str, &str)]| environment(container, &prepended, step)["PATH"].clone();
        assert_eq!(path(true, &[]), "/new:/old:/usr/bin");
        assert_eq!(path(true, &[("PATH", "/own")]), "/new:/old:/usr/bin");
        assert_eq!(path(false, &[("PATH", "/own")]), "/new:/old:/own");
        assert_eq!(environment(true, &[], &[("PATH", "/own")])["PATH"], "/own");
    }
}
