//! Steps: ids, shells, references, scripts, and every expression in them.

use super::Checker;
use super::contexts::{Known, any_outputs, declared_outputs};
use super::expressions::Use;
use super::place::Place;
use super::types::Type;
use super::{actions, jobs, scripts};
use crate::diagnostic::{Code, Diagnostic};
use crate::expr::{Template, text};
use crate::model::{Action, Mode, Runs, Step, StepKind, parse_action_with};
use crate::shell::{BUILT_IN, Shell};

pub(super) fn check(
    checker: &mut Checker<'_>,
    steps: &[Step],
    known: &mut Known,
    place: Place,
    windows: Option<bool>,
) {
    let if_place = if place == Place::CompositeStep { Place::CompositeIf } else { Place::StepIf };
    let mut ids: Vec<String> = Vec::new();
    for step in steps {
        if let Some(id) = &step.id {
            jobs::check_id(checker, id, "step");
            let folded = text::fold(id);
            if ids.contains(&folded) {
                let message = format!(
                    "the identifier '{}' may not be used more than once within the same scope",
                    id.value
                );
                checker.error(Code::Identifier, id.span, message);
            }
            ids.push(folded);
        }
        checker.condition(step.condition.as_ref(), if_place, known);
        checker.optional(step.name.as_ref(), place, Use::Text, known);
        checker.map(step.env.as_ref(), place, known);
        jobs::check_env_names(checker, step.env.as_ref());
        checker.optional(step.timeout_minutes.as_ref(), place, Use::Number, known);
        checker.optional(step.continue_on_error.as_ref(), place, Use::Bool, known);
        jobs::check_minutes(checker, step.timeout_minutes.as_ref());
        let outputs = check_kind(checker, step, place, windows, known);
        known.add_step(step, outputs);
    }
}

/// What the step does; returns the type of its outputs.
fn check_kind(
    checker: &mut Checker<'_>,
    step: &Step,
    place: Place,
    windows: Option<bool>,
    known: &Known,
) -> Type {
    let composite = place == Place::CompositeStep;
    match &step.kind {
        StepKind::Run { script, shell, working_directory } => {
            checker.template(script, place, Use::Script, known);
            if script.as_literal().is_some_and(|text| text.to_shared_text().trim().is_empty()) {
                checker.warn(Code::EmptyValue, script.span(), "the script is empty");
            }
            scripts::check(checker, script);
            // A composite action's steps may compute their shell.
            let shell_place = if composite { place } else { Place::Nowhere };
            checker.optional(shell.as_ref(), shell_place, Use::Text, known);
            check_shell(checker, shell.as_ref(), windows);
            checker.optional(working_directory.as_ref(), place, Use::Text, known);
            if composite && shell.is_none() {
                let message = "a composite action's step with 'run' lacks the required key 'shell'";
                let span = script.span();
                checker.push(
                    Diagnostic::error(Code::MissingKey, span, message)
                        .with_help("write 'shell: bash'; Gitea's runner assumes it"),
                );
            }
            any_outputs()
        }
        StepKind::Uses { uses, with } => {
            checker.template(uses, Place::Nowhere, Use::Text, known);
            checker.map(with.as_ref(), place, known);
            let name = uses.raw();
            if let (Some(with), true) = (with, name.starts_with("actions/github-script@"))
                && let Some(crate::TemplateNode::Scalar(script)) = with.get("script")
            {
                checker.template(script, place, Use::Script, known);
            }
            if uses.has_expression() {
                return any_outputs();
            }
            actions::check_reference(checker, uses);
            if let Some(path) = name.strip_prefix("./") {
                return check_local(checker, path, step);
            }
            actions::check_known(checker, step, uses)
        }
        StepKind::Wait(_) | StepKind::WaitAll | StepKind::Cancel(_) | StepKind::Empty => any_outputs(),
    }
}

/// A shell that is no expression must be built in or have a place for the script.
pub(super) fn check_shell(checker: &mut Checker<'_>, shell: Option<&Template>, windows: Option<bool>) {
    let Some(template) = shell.filter(|template| !template.has_expression()) else { return };
    let value = template.as_literal_text().filter(|value| !value.is_empty());
    let Some(value) = value else { return };
    if !BUILT_IN.contains(&value.as_str())
        && let Err(message) = Shell::parse(&value)
    {
        checker.push(
            Diagnostic::warning(Code::Shell, template.span(), message)
                .with_help(format!("to run it with arguments write '{value} {{0}}'")),
        );
    }
    let message = match (value.as_str(), windows) {
        ("cmd" | "powershell", Some(false)) => format!("the shell '{value}' exists on Windows only"),
        ("sh", Some(true)) => "the shell 'sh' does not exist on Windows".to_owned(),
        _ => return,
    };
    checker.push(
        Diagnostic::warning(Code::Shell, template.span(), message)
            .with_help("bash, pwsh and python exist on every machine"),
    );
}

/// A local action whose `action.yml` can be read is checked like a known one.
fn check_local(checker: &mut Checker<'_>, path: &str, step: &Step) -> Type {
    let Some(files) = checker.files else { return any_outputs() };
    let Some(source) = files.action(path) else { return any_outputs() };
    let parsed = parse_action_with(&source, Mode::Strict);
    if let (Some(uses), Some(error)) =
        (step.uses(), parsed.diagnostics.iter().find(|finding| finding.is_error()))
    {
        let line = source.position(error.span.start).line;
        let message = format!("{}:{line} is wrong: {}", source.name(), error.message);
        checker.warn(Code::Uses, uses.span(), message);
    }
    let Some(action) = parsed.value else { return any_outputs() };
    if let StepKind::Uses { with, uses } = &step.kind {
        let inputs: Vec<(&str, bool)> = action
            .inputs
            .iter()
            .map(|input| (input.name.value.as_str(), input.required && input.default.is_none()))
            .collect();
        actions::check_inputs(checker, uses, with.as_ref(), &inputs);
    }
    outputs_of(&action)
}

fn outputs_of(action: &Action) -> Type {
    // Only composite actions must declare what they give; others may set more than they say.
    let names: Vec<&str> = action.outputs.iter().map(|output| output.name.value.as_str()).collect();
    match action.runs {
        Runs::Composite { .. } | Runs::Node { .. } | Runs::Docker { .. } | Runs::Go { .. }
            if names.is_empty() =>
        {
            declared_outputs(None)
        }
        _ => Type::strings(&names),
    }
}
