//! Whether an event starts a workflow: names, activity types, branches, tags and paths.

use super::glob::passes;
use crate::model::{Filter, Trigger, Workflow};

/// What happened in the repository.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// Name of the event (`push`, `pull_request`, …).
    pub name: String,
    /// `action` of the payload: the activity type.
    pub activity: Option<String>,
    /// Branch that was pushed, or the target of a pull request.
    pub branch: Option<String>,
    /// Tag that was pushed.
    pub tag: Option<String>,
    /// Files that changed; `None` when nobody knows, which passes every path filter.
    pub changed_files: Option<Vec<String>>,
    /// Name of the workflow whose run caused this (`workflow_run`).
    pub workflow: Option<String>,
    /// The `cron` line that is due (`schedule`).
    pub cron: Option<String>,
}

impl Event {
    /// A push to a ref (`refs/heads/…`, `refs/tags/…`).
    pub fn push(git_ref: &str) -> Self {
        Self { name: "push".to_owned(), ..Self::default() }.with_ref(git_ref)
    }

    /// An event of that name without more facts.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Sets branch or tag from a full ref.
    #[must_use]
    pub fn with_ref(mut self, git_ref: &str) -> Self {
        if let Some(tag) = git_ref.strip_prefix("refs/tags/") {
            self.tag = Some(tag.to_owned());
        } else if let Some(branch) = git_ref.strip_prefix("refs/heads/") {
            self.branch = Some(branch.to_owned());
        }
        self
    }

    /// From the payload that came with the event; missing facts stay unknown.
    #[must_use]
    pub fn with_payload(mut self, payload: &serde_json::Value) -> Self {
        let text = |pointer: &str| payload.pointer(pointer).and_then(serde_json::Value::as_str);
        if let Some(activity) = text("/action") {
            self.activity = Some(activity.to_owned());
        }
        if let Some(git_ref) = text("/ref") {
            self = self.with_ref(git_ref);
        }
        if let Some(base) = text("/pull_request/base/ref") {
            self.branch = Some(base.trim_start_matches("refs/heads/").to_owned());
        }
        if let Some(workflow) = text("/workflow_run/name") {
            self.workflow = Some(workflow.to_owned());
        }
        if let Some(cron) = text("/schedule") {
            self.cron = Some(cron.to_owned());
        }
        self
    }
}

/// Why an event does not start a workflow, or that it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It runs.
    Runs,
    /// `on` does not name the event.
    OtherEvent,
    /// A filter keeps it out; the key of that filter.
    Filtered(&'static str),
}

/// Activity types of pull requests that count when `types` is not written.
const PULL_REQUEST_DEFAULT: [&str; 3] = ["opened", "synchronize", "reopened"];

/// Whether `event` starts `workflow`.
///
/// ```
/// use workflows::plan::{Event, Match, matches};
/// use workflows::{SourceFile, parse_payload};
/// let source = SourceFile::new("a.yml", "on: {push: {branches: [main, 'rel/**']}}\njobs: {a: {runs-on: x, steps: [run: x]}}");
/// let workflow = parse_payload(&source).into_result().unwrap();
/// assert_eq!(matches(&workflow, &Event::push("refs/heads/rel/a/b")), Match::Runs);
/// assert_eq!(matches(&workflow, &Event::push("refs/tags/v1")), Match::Filtered("branches"));
/// assert_eq!(matches(&workflow, &Event::named("release")), Match::OtherEvent);
/// ```
pub fn matches(workflow: &Workflow, event: &Event) -> Match {
    let Some(trigger) = workflow.on.get(&event.name) else {
        return Match::OtherEvent;
    };
    matches_trigger(trigger, event)
}

fn matches_trigger(trigger: &Trigger, event: &Event) -> Match {
    if !activity_passes(trigger, event) {
        return Match::Filtered("types");
    }
    if let Some(cron) = &event.cron
        && event.name == "schedule"
        && !trigger.schedules.iter().any(|schedule| schedule.cron.value == *cron)
    {
        return Match::Filtered("schedule");
    }
    if let (Some(workflows), Some(name)) = (&trigger.workflows, &event.workflow)
        && !passes(name, items(workflows))
    {
        return Match::Filtered("workflows");
    }
    if let Some(key) = ref_filter(trigger, event) {
        return Match::Filtered(key);
    }
    // Tags have no diff, so paths say nothing about them.
    if event.tag.is_none()
        && let Some(files) = &event.changed_files
    {
        if let Some(paths) = &trigger.paths
            && !files.iter().any(|file| passes(file, items(paths)))
        {
            return Match::Filtered("paths");
        }
        if let Some(ignored) = &trigger.paths_ignore
            && !files.is_empty()
            && files.iter().all(|file| passes(file, items(ignored)))
        {
            return Match::Filtered("paths-ignore");
        }
    }
    Match::Runs
}

fn items(filter: &Filter) -> impl Iterator<Item = &str> {
    filter.items.iter().map(|item| item.value.as_str())
}

fn activity_passes(trigger: &Trigger, event: &Event) -> bool {
    let Some(activity) = &event.activity else { return true };
    // Gitea's webhooks have words of their own for some activities.
    let activity = match activity.as_str() {
        "synchronized" => "synchronize",
        "label_updated" => "labeled",
        "label_cleared" => "unlabeled",
        other => other,
    };
    match &trigger.types {
        Some(types) => items(types).any(|kind| kind == activity || passes(activity, [kind])),
        None if matches!(event.name.as_str(), "pull_request" | "pull_request_target") => {
            PULL_REQUEST_DEFAULT.contains(&activity)
        }
        None => true,
    }
}

/// The filter of branches or tags that keeps the event out.
fn ref_filter(trigger: &Trigger, event: &Event) -> Option<&'static str> {
    let branch_filtered = trigger.branches.is_some() || trigger.branches_ignore.is_some();
    let tag_filtered = trigger.tags.is_some() || trigger.tags_ignore.is_some();
    if let Some(tag) = &event.tag {
        if let Some(tags) = &trigger.tags {
            return (!passes(tag, items(tags))).then_some("tags");
        }
        if let Some(ignored) = &trigger.tags_ignore {
            return passes(tag, items(ignored)).then_some("tags-ignore");
        }
        // Filters for branches alone mean that tags do not count.
        return branch_filtered.then_some("branches");
    }
    let branch = event.branch.as_ref()?;
    if let Some(branches) = &trigger.branches {
        return (!passes(branch, items(branches))).then_some("branches");
    }
    if let Some(ignored) = &trigger.branches_ignore {
        return passes(branch, items(ignored)).then_some("branches-ignore");
    }
    tag_filtered.then_some("tags")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_payload;
    use crate::source::SourceFile;

    fn check(on: &str, event: &Event) -> Match {
        let text = format!("on: {on}\njobs: {{a: {{runs-on: x, steps: [run: x]}}}}");
        let source = SourceFile::new("a.yml", &text);
        matches(&parse_payload(&source).into_result().expect("valid"), event)
    }

    #[test]
    fn branches_and_tags_filter_each_other_out() {
        let (main, tag) = (Event::push("refs/heads/main"), Event::push("refs/tags/v1"));
        assert_eq!(check("push", &tag), Match::Runs);
        assert_eq!(check("{push: {tags: ['v*']}}", &main), Match::Filtered("tags"));
        assert_eq!(check("{push: {tags: ['v*']}}", &tag), Match::Runs);
        assert_eq!(check("{push: {tags-ignore: ['v*']}}", &tag), Match::Filtered("tags-ignore"));
        assert_eq!(check("{push: {branches-ignore: [main]}}", &main), Match::Filtered("branches-ignore"));
        assert_eq!(check("{push: {branches: [main], tags: [x]}}", &main), Match::Runs);
        assert_eq!(check("{push: {branches: [dev]}}", &main), Match::Filtered("branches"));
    }

    #[test]
    fn paths_count_where_they_are_known() {
        let mut event = Event::push("refs/heads/main");
        assert_eq!(check("{push: {paths: ['src/**']}}", &event), Match::Runs);
        event.changed_files = Some(vec!["docs/a.md".to_owned()]);
        assert_eq!(check("{push: {paths: ['src/**']}}", &event), Match::Filtered("paths"));
        assert_eq!(check("{push: {paths-ignore: ['docs/**']}}", &event), Match::Filtered("paths-ignore"));
        event.changed_files = Some(vec!["docs/a.md".to_owned(), "src/a.rs".to_owned()]);
        assert_eq!(check("{push: {paths-ignore: ['docs/**']}}", &event), Match::Runs);
        event.tag = Some("v1".to_owned());
        assert_eq!(check("{push: {paths: ['x']}}", &event), Match::Runs);
    }

    #[test]
    fn activity_types_have_defaults_and_gitea_words() {
        let event = |action: &str| {
            Event::named("pull_request").with_payload(
                &serde_json::json!({"action": action, "pull_request": {"base": {"ref": "main"}}}),
            )
        };
        assert_eq!(check("pull_request", &event("synchronized")), Match::Runs);
        assert_eq!(check("pull_request", &event("closed")), Match::Filtered("types"));
        assert_eq!(check("{pull_request: {types: [closed]}}", &event("closed")), Match::Runs);
        assert_eq!(check("{pull_request: {branches: [dev]}}", &event("opened")), Match::Filtered("branches"));
        assert_eq!(
            check("issues", &Event { activity: Some("opened".into()), ..Event::named("issues") }),
            Match::Runs
        );
    }

    #[test]
    fn runs_and_schedules_match_their_cause() {
        let run =
            Event::named("workflow_run").with_payload(&serde_json::json!({"workflow_run": {"name": "CI"}}));
        assert_eq!(check("{workflow_run: {workflows: [CI]}}", &run), Match::Runs);
        assert_eq!(check("{workflow_run: {workflows: [Other]}}", &run), Match::Filtered("workflows"));
        let due = Event::named("schedule").with_payload(&serde_json::json!({"schedule": "0 1 * * *"}));
        assert_eq!(check("{schedule: [{cron: '0 1 * * *'}]}", &due), Match::Runs);
        assert_eq!(check("{schedule: [{cron: '0 2 * * *'}]}", &due), Match::Filtered("schedule"));
    }
}
