//! `permissions`: scopes and levels that exist, and called workflows that ask for more than their caller
//! grants, which GitHub refuses before anything runs.

use super::{Checker, Files};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Job, Mode, Permissions, Workflow, parse_workflow_with};
use crate::plan::{MAX_CALL_DEPTH, WorkflowReference};
use crate::suggest;

const SCOPES: [&str; 20] = [
    "actions",
    "artifact-metadata",
    "attestations",
    "checks",
    "code-quality",
    "contents",
    "copilot-requests",
    "deployments",
    "discussions",
    "drives",
    "id-token",
    "issues",
    "models",
    "packages",
    "pages",
    "pull-requests",
    "repository-projects",
    "security-events",
    "statuses",
    "vulnerability-alerts",
];

/// Units of Gitea that its token permissions name and GitHub's do not.
const GITEA_SCOPES: [&str; 4] = ["code", "releases", "wiki", "projects"];

/// Levels that a scope can have, the strongest last.
fn levels(scope: &str) -> &'static [&'static str] {
    match scope {
        "models" | "vulnerability-alerts" => &["none", "read"],
        "copilot-requests" | "id-token" => &["none", "write"],
        _ => &["none", "read", "write"],
    }
}

pub(super) fn check(checker: &mut Checker<'_>, permissions: &Permissions) {
    if let Some(all) = &permissions.all
        && !matches!(all.value.as_str(), "read-all" | "write-all")
    {
        let message = format!("'{}' is no permission for everything", all.value);
        checker.push(
            Diagnostic::error(Code::Permissions, all.span, message)
                .with_help("write read-all, write-all, {} or a mapping of scopes"),
        );
    }
    for (scope, level) in &permissions.scopes {
        if GITEA_SCOPES.contains(&scope.value.as_str()) {
            let message = format!("the permission scope '{}' exists on Gitea, not on GitHub", scope.value);
            checker.warn(Code::Permissions, scope.span, message);
            continue;
        }
        if !SCOPES.contains(&scope.value.as_str()) {
            let help = suggest::nearest(scope, SCOPES).map_or_else(
                || format!("known scopes: {}", SCOPES.join(", ")),
                |near| format!("did you mean '{near}'?"),
            );
            let message = format!("unknown permission scope '{}'", scope.value);
            checker.push(Diagnostic::error(Code::Permissions, scope.span, message).with_help(help));
            continue;
        }
        if !levels(scope).contains(&level.value.as_str()) {
            let message = format!("'{}' is no level of the permission '{}'", level.value, scope.value);
            let help = format!("possible: {}", levels(scope).join(", "));
            checker.push(Diagnostic::error(Code::Permissions, level.span, message).with_help(help));
        }
    }
}

/// How much a scope allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    None,
    Read,
    Write,
}

impl Level {
    /// What `permissions` gives to a scope; what a mapping leaves out is nothing.
    fn of(permissions: &Permissions, scope: &str) -> Self {
        let written = if let Some(all) = &permissions.all {
            all.value.strip_suffix("-all").unwrap_or_default()
        } else {
            let own = permissions.scopes.iter().find(|(name, _)| name.value == scope);
            own.map_or("none", |(_, level)| level.value.as_str())
        };
        match written {
            // For everything at once means as much as the scope can have.
            "write" if !levels(scope).contains(&"write") => Self::Read,
            "write" => Self::Write,
            "read" => Self::Read,
            _ => Self::None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Whether what a job calls stays within what the job is given. Without explicit permissions the settings
/// of the repository decide, which nobody knows here.
pub(super) fn check_call(checker: &mut Checker<'_>, workflow: &Workflow, job: &Job, callee: &Workflow) {
    let Some(granted) = job.permissions.as_ref().or(workflow.permissions.as_ref()) else { return };
    let Some(uses) = job.call.as_ref().map(|call| &call.uses) else { return };
    let Some(excess) = excess(checker.files, granted, callee, &uses.value, 0) else { return };
    checker.push(
        Diagnostic::error(Code::Permissions, job.id.span, excess)
            .with_help("grant it under 'permissions' of this job, or ask for less there"),
    );
}

/// The first thing within a called workflow that asks for more than is granted, as a sentence.
fn excess(
    files: Option<&dyn Files>,
    granted: &Permissions,
    callee: &Workflow,
    uses: &str,
    depth: usize,
) -> Option<String> {
    if let Some(asked) = &callee.permissions
        && let Some((wanted, allowed)) = beyond(granted, asked)
    {
        return Some(format!("{uses} asks for '{wanted}', but is only allowed '{allowed}'"));
    }
    callee.jobs.iter().find_map(|job| {
        if let Some(asked) = &job.permissions
            && let Some((wanted, allowed)) = beyond(granted, asked)
        {
            let id = &job.id.value;
            return Some(format!(
                "job '{id}' of {uses} asks for '{wanted}', but is only allowed '{allowed}'"
            ));
        }
        let call = job.call.as_ref().filter(|_| depth < MAX_CALL_DEPTH)?;
        let reference = WorkflowReference::parse(&call.uses).ok()?;
        // A local path within another repository cannot be read from here.
        if uses.contains('@') && matches!(reference, WorkflowReference::Local { .. }) {
            return None;
        }
        let next = parse_workflow_with(&files?.workflow(&reference)?, Mode::Lenient).value?;
        let granted = job.permissions.as_ref().or(callee.permissions.as_ref()).unwrap_or(granted);
        excess(files, granted, &next, &call.uses, depth + 1)
    })
}

/// The scopes asked for beyond what is granted, and what is granted of them; of many the first ones.
fn beyond(granted: &Permissions, asked: &Permissions) -> Option<(String, String)> {
    const SHOWN: usize = 4;
    let scopes: Vec<&str> =
        SCOPES.into_iter().filter(|scope| Level::of(asked, scope) > Level::of(granted, scope)).collect();
    let list = |permissions: &Permissions| {
        let one = |scope: &&str| format!("{scope}: {}", Level::of(permissions, scope).as_str());
        let shown: Vec<String> = scopes.iter().take(SHOWN).map(one).collect();
        let more = if scopes.len() > SHOWN { ", …" } else { "" };
        format!("{}{more}", shown.join(", "))
    };
    (!scopes.is_empty()).then(|| (list(asked), list(granted)))
}
