//! Jobs: ids, keys that depend on each other, permissions, credentials, and every expression in them.

use super::Checker;
use super::contexts::Known;
use super::expressions::Use;
use super::place::Place;
use super::{calls, labels, matrix, permissions, steps};
use crate::diagnostic::{Code, Diagnostic};
use crate::expr::{Template, TemplateMap, Value};
use crate::model::{Container, Credentials, Job, RunsOn, Service, Snapshot, Workflow};
use crate::source::Spanned;

pub(super) fn check(checker: &mut Checker<'_>, workflow: &Workflow, job: &Job, known: &mut Known) {
    check_id(checker, &job.id, "job");
    let files = checker.files;
    known.enter_job(workflow, job, &|needed| calls::outputs_of_job(files, needed));
    if let Some(permissions) = &job.permissions {
        permissions::check(checker, permissions);
    }
    matrix::check(checker, job);
    labels::check(checker, job);
    check_keys(checker, job, known);
    check_env_names(checker, job.env.as_ref());
    let windows = labels::is_windows(job);
    steps::check(checker, &job.steps, known, Place::StepKey, windows);
    // Outputs see all steps.
    checker.map(job.outputs.as_ref(), Place::JobOutputs, known);
    if let Some(environment) = &job.environment {
        checker.optional(environment.name.as_ref(), Place::JobKey, Use::Text, known);
        checker.optional(environment.url.as_ref(), Place::EnvironmentUrl, Use::Text, known);
    }
    if let Some(call) = &job.call {
        calls::check(checker, workflow, job, call, known);
    }
}

/// Ids of jobs and steps: letters, digits, `_` and `-`, not beginning with a digit, `-` or `__`.
pub(super) fn check_id(checker: &mut Checker<'_>, id: &Spanned<String>, what: &str) {
    let text = id.value.as_str();
    let message = if text.is_empty() {
        format!("the id of a {what} must not be empty")
    } else if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    {
        format!(
            "the identifier '{text}' is invalid: letters, digits, _ and - are allowed, beginning with a letter or _"
        )
    } else if text.starts_with("__") {
        format!("the identifier '{text}' is invalid: ids that begin with __ are reserved")
    } else if text.len() >= 100 {
        format!("the identifier of this {what} is longer than 99 characters")
    } else {
        return;
    };
    checker.error(Code::Identifier, id.span, message);
}

fn check_keys(checker: &mut Checker<'_>, job: &Job, known: &Known) {
    checker.optional(job.name.as_ref(), Place::JobKey, Use::Text, known);
    checker.condition(job.condition.as_ref(), Place::JobIf, known);
    checker.map(job.env.as_ref(), Place::JobEnv, known);
    checker.optional(job.timeout_minutes.as_ref(), Place::JobKey, Use::Number, known);
    checker.optional(job.continue_on_error.as_ref(), Place::JobKey, Use::Bool, known);
    check_minutes(checker, job.timeout_minutes.as_ref());
    if let Some(concurrency) = &job.concurrency {
        checker.optional(concurrency.group.as_ref(), Place::JobKey, Use::Text, known);
        checker.optional(concurrency.cancel_in_progress.as_ref(), Place::JobKey, Use::Bool, known);
    }
    if let Some(defaults) = &job.defaults {
        checker.optional(defaults.whole.as_ref(), Place::JobDefaults, Use::Mapping, known);
        checker.optional(defaults.shell.as_ref(), Place::JobDefaults, Use::Text, known);
        checker.optional(defaults.working_directory.as_ref(), Place::JobDefaults, Use::Text, known);
        steps::check_shell(checker, defaults.shell.as_ref(), labels::is_windows(job));
    }
    if let Some(strategy) = &job.strategy {
        checker.optional(strategy.whole.as_ref(), Place::JobStrategy, Use::Mapping, known);
        if let Some(node) = &strategy.matrix {
            let usage = if matches!(node, crate::TemplateNode::Scalar(_)) { Use::Mapping } else { Use::Any };
            checker.node(node, Place::JobStrategy, usage, known);
        }
        checker.optional(strategy.fail_fast.as_ref(), Place::JobStrategy, Use::Bool, known);
        checker.optional(strategy.max_parallel.as_ref(), Place::JobStrategy, Use::Number, known);
    }
    match &job.runs_on {
        Some(RunsOn::Labels(node)) => checker.node(node, Place::JobKey, Use::Labels, known),
        Some(RunsOn::Group { group, labels }) => {
            checker.optional(group.as_ref(), Place::JobKey, Use::Text, known);
            check_group(checker, group.as_ref());
            if let Some(labels) = labels {
                checker.node(labels, Place::JobKey, Use::Labels, known);
            }
        }
        None => {}
    }
    if let Some(snapshot) = &job.snapshot {
        for template in [&snapshot.image_name, &snapshot.version] {
            checker.optional(template.as_ref(), Place::JobKey, Use::Text, known);
        }
        check_snapshot_version(checker, snapshot);
        checker.condition(snapshot.condition.as_ref(), Place::SnapshotIf, known);
    }
    if let Some(container) = &job.container {
        check_container(checker, container, "container", known);
    }
    checker.optional(job.services_expression.as_ref(), Place::JobKey, Use::Mapping, known);
    for Service { id, container } in &job.services {
        check_container(checker, container, &id.value, known);
    }
}

/// A time-out that ends everything at once.
pub(super) fn check_minutes(checker: &mut Checker<'_>, minutes: Option<&Template>) {
    if let Some(template) = minutes
        && let Some(Value::Number(minutes)) = template.as_literal()
        && *minutes <= 0.0
    {
        checker.warn(Code::WrongValue, template.span(), "'timeout-minutes' must be greater than 0");
    }
}

/// A group may be named with the level that it belongs to.
fn check_group(checker: &mut Checker<'_>, group: Option<&Template>) {
    let Some(group) = group.filter(|group| !group.has_expression()) else { return };
    let allowed = match group.raw().split_once('/') {
        None => true,
        Some((level, name)) => {
            matches!(level, "org" | "organization" | "ent" | "enterprise")
                && !name.is_empty()
                && !name.contains('/')
        }
    };
    if !allowed {
        let message = format!("'{}' is no name of a runner group", group.raw());
        checker.push(
            Diagnostic::error(Code::WrongValue, group.span(), message)
                .with_help("write the name alone, or organization/NAME or enterprise/NAME"),
        );
    }
}

/// The version of an image is a major number and `.*`; the minor one is counted up.
fn check_snapshot_version(checker: &mut Checker<'_>, snapshot: &Snapshot) {
    let Some(version) = snapshot.version.as_ref().filter(|version| !version.has_expression()) else { return };
    let major = version.raw().strip_suffix(".*");
    if major.is_none_or(|major| major.parse::<u32>().is_err()) && !version.raw().is_empty() {
        let message = format!("'{}' is no version of an image", version.raw());
        checker.push(
            Diagnostic::error(Code::WrongValue, version.span(), message)
                .with_help("write the major version and .*, such as 1.*"),
        );
    }
}

fn check_container(checker: &mut Checker<'_>, container: &Container, name: &str, known: &Known) {
    checker.optional(container.whole.as_ref(), Place::JobKey, Use::Any, known);
    checker.optional(container.image.as_ref(), Place::JobKey, Use::Text, known);
    if let Some(image) = &container.image
        && image.span() == container.span
        && image.as_literal_text().is_some_and(|text| text.trim().is_empty())
    {
        checker.warn(
            Code::EmptyValue,
            image.span(),
            format!("the image of '{name}' is empty, so there is no container"),
        );
    }
    checker.map(container.env.as_ref(), Place::ContainerEnv, known);
    check_env_names(checker, container.env.as_ref());
    for node in [&container.ports, &container.volumes, &container.entrypoint, &container.command]
        .into_iter()
        .flatten()
    {
        checker.node(node, Place::JobKey, Use::Text, known);
    }
    checker.optional(container.options.as_ref(), Place::JobKey, Use::Text, known);
    if let Some(credentials) = &container.credentials {
        check_credentials(checker, credentials, name, known);
    }
}

fn check_credentials(checker: &mut Checker<'_>, credentials: &Credentials, name: &str, known: &Known) {
    checker.optional(credentials.whole.as_ref(), Place::Credentials, Use::Mapping, known);
    checker.optional(credentials.username.as_ref(), Place::Credentials, Use::Text, known);
    checker.optional(credentials.password.as_ref(), Place::Credentials, Use::Text, known);
    if credentials.whole.is_some() {
        return;
    }
    if credentials.username.is_none() || credentials.password.is_none() {
        let message = format!("the credentials of '{name}' need both 'username' and 'password'");
        checker.warn(Code::MissingKey, credentials.span, message);
    }
    if let Some(password) = &credentials.password
        && !password.has_expression()
        && !password.raw().is_empty()
    {
        checker.push(
            Diagnostic::warning(
                Code::Credentials,
                password.span(),
                format!("the password of '{name}' stands in the file"),
            )
            .with_help("keep it in a secret: ${{ secrets.NAME }}"),
        );
    }
}

/// Names that no process can have in its environment.
pub(super) fn check_env_names(checker: &mut Checker<'_>, env: Option<&TemplateMap>) {
    for (key, _) in env.iter().flat_map(|env| env.entries()) {
        let name = key.raw();
        if !key.has_expression() && (name.is_empty() || name.contains(['=', '&', ' ', '\t', '\n', '\0'])) {
            let message = format!("'{name}' cannot be the name of an environment variable");
            checker.warn(Code::EnvironmentVariable, key.span(), message);
        }
    }
}
