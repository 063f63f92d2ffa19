//! The events that start workflows, their activity types and filters, as GitHub and Gitea document them.

/// An event that `on` may name.
#[derive(Debug)]
pub(crate) struct EventRule {
    pub(crate) name: &'static str,
    /// Activity types; empty when the event has none.
    pub(crate) types: &'static [&'static str],
    /// Other keys it may have.
    pub(crate) keys: &'static [&'static str],
}

const CHANGED: &[&str] = &["created", "edited", "deleted"];
const PULL_REQUEST: &[&str] = &[
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "locked",
    "unlocked",
    "enqueued",
    "dequeued",
    "milestoned",
    "demilestoned",
    "ready_for_review",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
    "stacked",
];
const PATHS_AND_BRANCHES: &[&str] = &["branches", "branches-ignore", "paths", "paths-ignore"];

pub(crate) const EVENTS: &[EventRule] = &[
    EventRule { name: "branch_protection_rule", types: CHANGED, keys: &[] },
    EventRule {
        name: "check_run",
        types: &["created", "rerequested", "completed", "requested_action"],
        keys: &[],
    },
    EventRule { name: "check_suite", types: &["completed"], keys: &[] },
    EventRule { name: "create", types: &[], keys: &[] },
    EventRule { name: "delete", types: &[], keys: &[] },
    EventRule { name: "deployment", types: &[], keys: &[] },
    EventRule { name: "deployment_status", types: &[], keys: &[] },
    EventRule {
        name: "discussion",
        types: &[
            "created",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "category_changed",
            "answered",
            "unanswered",
        ],
        keys: &[],
    },
    EventRule { name: "discussion_comment", types: CHANGED, keys: &[] },
    EventRule { name: "fork", types: &[], keys: &[] },
    EventRule { name: "gollum", types: &[], keys: &[] },
    EventRule {
        name: "image_version",
        types: &["created", "ready", "deleted"],
        keys: &["names", "versions"],
    },
    EventRule { name: "issue_comment", types: CHANGED, keys: &[] },
    EventRule {
        name: "issues",
        types: &[
            "assigned",
            "unassigned",
            "labeled",
            "unlabeled",
            "opened",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "closed",
            "reopened",
            "locked",
            "unlocked",
            "milestoned",
            "demilestoned",
            "typed",
            "untyped",
            "field_added",
            "field_removed",
        ],
        keys: &[],
    },
    EventRule { name: "label", types: CHANGED, keys: &[] },
    EventRule { name: "merge_group", types: &["checks_requested"], keys: &["branches", "branches-ignore"] },
    EventRule { name: "milestone", types: &["created", "closed", "opened", "edited", "deleted"], keys: &[] },
    EventRule { name: "page_build", types: &[], keys: &[] },
    EventRule { name: "project", types: &["created", "closed", "reopened", "edited", "deleted"], keys: &[] },
    EventRule {
        name: "project_card",
        types: &["created", "moved", "converted", "edited", "deleted"],
        keys: &[],
    },
    EventRule { name: "project_column", types: &["created", "updated", "moved", "deleted"], keys: &[] },
    EventRule { name: "public", types: &[], keys: &[] },
    EventRule { name: "pull_request", types: PULL_REQUEST, keys: PATHS_AND_BRANCHES },
    EventRule { name: "pull_request_comment", types: CHANGED, keys: &[] },
    EventRule { name: "pull_request_review", types: &["submitted", "edited", "dismissed"], keys: &[] },
    EventRule { name: "pull_request_review_comment", types: CHANGED, keys: &[] },
    EventRule { name: "pull_request_target", types: PULL_REQUEST, keys: PATHS_AND_BRANCHES },
    EventRule {
        name: "push",
        types: &[],
        keys: &["branches", "branches-ignore", "tags", "tags-ignore", "paths", "paths-ignore"],
    },
    EventRule { name: "registry_package", types: &["published", "updated"], keys: &[] },
    EventRule {
        name: "release",
        types: &["published", "unpublished", "created", "edited", "deleted", "prereleased", "released"],
        keys: &[],
    },
    // Its types are whatever the sender invents.
    EventRule { name: "repository_dispatch", types: &["*"], keys: &[] },
    EventRule { name: "schedule", types: &[], keys: &[] },
    EventRule { name: "status", types: &[], keys: &[] },
    EventRule { name: "watch", types: &["started"], keys: &[] },
    EventRule { name: "workflow_call", types: &[], keys: &["inputs", "outputs", "secrets"] },
    EventRule { name: "workflow_dispatch", types: &[], keys: &["inputs"] },
    EventRule {
        name: "workflow_run",
        types: &["completed", "requested", "in_progress"],
        keys: &["workflows", "branches", "branches-ignore"],
    },
];

/// The rule of an event.
pub(crate) fn rule(name: &str) -> Option<&'static EventRule> {
    EVENTS.iter().find(|rule| rule.name == name)
}

/// Events of Gitea that GitHub does not have, without filters of their own.
pub(crate) const GITEA_EVENTS: &[&str] = &["workflow_job", "repository", "package", "wiki"];
