//! Calls of reusable workflows: the form of the reference, and, where the file can be read, whether what
//! is given fits what is declared.

use std::sync::Arc;

use super::contexts::{Known, any_outputs, declared_outputs};
use super::expressions::Use;
use super::place::Place;
use super::types::Type;
use super::{Checker, Files, permissions};
use crate::diagnostic::{Code, Diagnostic};
use crate::expr::{TemplateMap, TemplateNode, Value};
use crate::model::{
    InputKind, Job, Mode, Trigger, Workflow, WorkflowCall, WorkflowSecrets, parse_workflow_with,
};
use crate::plan::WorkflowReference;
use crate::suggest;

pub(super) fn check(
    checker: &mut Checker<'_>,
    workflow: &Workflow,
    job: &Job,
    call: &WorkflowCall,
    known: &Known,
) {
    // Inputs keep their types, so any value may stand here.
    if let Some(with) = &call.with {
        checker.optional(with.whole(), Place::CallWith, Use::Mapping, known);
        for (key, node) in with.entries() {
            checker.template(key, Place::CallWith, Use::Text, known);
            checker.node(node, Place::CallWith, Use::Text, known);
        }
    }
    if let Some(WorkflowSecrets::Map(map)) = &call.secrets {
        checker.map(Some(map), Place::CallSecrets, known);
    }
    let reference = match WorkflowReference::parse(&call.uses) {
        Ok(reference) => reference,
        Err(message) => return checker.warn(Code::Uses, call.uses.span, message),
    };
    let Some(files) = checker.files else { return };
    let Some(source) = files.workflow(&reference) else {
        if files.is_complete() && matches!(reference, WorkflowReference::Local { .. }) {
            checker.warn(Code::WorkflowCall, call.uses.span, format!("there is no file {reference}"));
        }
        return;
    };
    let Some(callee) = parse_workflow_with(&source, Mode::Lenient).value else { return };
    let Some(trigger) = callee.on.get("workflow_call") else {
        let message = format!("{reference} cannot be called: its 'on' has no 'workflow_call'");
        return checker.error(Code::WorkflowCall, call.uses.span, message);
    };
    check_inputs(checker, call, trigger);
    check_secrets(checker, call, trigger);
    permissions::check_call(checker, workflow, job, &callee);
}

fn check_inputs(checker: &mut Checker<'_>, call: &WorkflowCall, trigger: &Trigger) {
    let dynamic = call.with.as_ref().is_some_and(|with| with.whole().is_some());
    for (key, node) in call.with.iter().flat_map(TemplateMap::entries) {
        let Some(input) = trigger.input(key.raw()) else {
            let names = trigger.inputs.iter().map(|input| input.name.value.as_str());
            let mut finding = Diagnostic::error(
                Code::WorkflowCall,
                key.span(),
                format!("input '{}' is not defined in the called workflow", key.raw()),
            );
            finding.help = suggest::nearest(key.raw(), names).map(|near| format!("did you mean '{near}'?"));
            checker.push(finding);
            continue;
        };
        let TemplateNode::Scalar(value) = node else { continue };
        if let Some(expected) = value.as_literal().and_then(|value| mismatch(input.kind, value)) {
            let message = format!(
                "input '{}' of the called workflow is {expected}, found '{}'",
                key.raw(),
                value.raw()
            );
            checker.error(Code::WorkflowCall, value.span(), message);
        }
    }
    for input in trigger.inputs.iter().filter(|input| input.required && input.default.is_none()) {
        if !dynamic && !given(call.with.as_ref(), &input.name) {
            let message = format!("the called workflow needs the input '{}'", input.name.value);
            checker.error(Code::WorkflowCall, call.uses.span, message);
        }
    }
}

/// What a literal should have been.
fn mismatch(kind: InputKind, value: &Value) -> Option<&'static str> {
    match (kind, value) {
        (InputKind::Boolean, Value::Bool(_)) | (InputKind::Number, Value::Number(_)) => None,
        (InputKind::Boolean, Value::String(text)) if matches!(&**text, "true" | "false") => None,
        (InputKind::Number, Value::String(_)) if value.to_number().is_finite() && value.is_truthy() => None,
        (InputKind::Boolean, _) => Some("a boolean"),
        (InputKind::Number, _) => Some("a number"),
        _ => None,
    }
}

fn given(map: Option<&TemplateMap>, name: &str) -> bool {
    map.is_some_and(|map| {
        map.get(name).is_some() || map.entries().iter().any(|(key, _)| key.has_expression())
    })
}

fn check_secrets(checker: &mut Checker<'_>, call: &WorkflowCall, trigger: &Trigger) {
    let map = match &call.secrets {
        Some(WorkflowSecrets::Inherit(_)) => return,
        Some(WorkflowSecrets::Map(map)) => Some(map),
        None => None,
    };
    for (key, _) in map.iter().flat_map(|map| map.entries()) {
        if trigger.secrets.iter().any(|secret| secret.name.eq_ignore_ascii_case(key.raw()))
            || key.has_expression()
        {
            continue;
        }
        let names = trigger.secrets.iter().map(|secret| secret.name.value.as_str());
        let message = format!("secret '{}' is not defined in the called workflow", key.raw());
        let mut finding = Diagnostic::error(Code::WorkflowCall, key.span(), message);
        finding.help = suggest::nearest(key.raw(), names).map(|near| format!("did you mean '{near}'?"));
        checker.push(finding);
    }
    for secret in trigger.secrets.iter().filter(|secret| secret.required) {
        if !given(map, &secret.name) && map.is_none_or(|map| map.whole().is_none()) {
            let message = format!("the called workflow needs the secret '{}'", secret.name.value);
            checker.error(Code::WorkflowCall, call.uses.span, message);
        }
    }
}

/// The outputs of a job: declared ones, or those of the workflow it calls.
pub(super) fn outputs_of_job(files: Option<&dyn Files>, job: &Job) -> Type {
    let Some(call) = &job.call else { return declared_outputs(job.outputs.as_ref()) };
    let outputs = || {
        let reference = WorkflowReference::parse(&call.uses).ok()?;
        let source = files?.workflow(&reference)?;
        let callee = parse_workflow_with(&source, Mode::Lenient).value?;
        let outputs = &callee.on.get("workflow_call")?.outputs;
        Some(Type::closed(
            outputs.iter().map(|output| (Arc::from(output.name.value.as_str()), Type::String)).collect(),
        ))
    };
    outputs().unwrap_or_else(any_outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Template;

    #[test]
    fn literals_must_fit_the_type_of_the_input() {
        let literal = |text: &str| Template::parse(text);
        let kind = |kind, text: &str| literal(text).as_literal().and_then(|value| mismatch(kind, value));
        assert_eq!(kind(InputKind::Boolean, "true"), None);
        assert_eq!(kind(InputKind::Boolean, "yes"), Some("a boolean"));
        assert_eq!(kind(InputKind::Number, "12"), None);
        assert_eq!(kind(InputKind::Number, "many"), Some("a number"));
        assert_eq!(kind(InputKind::String, "x"), None);
    }
}
