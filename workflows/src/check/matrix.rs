//! `strategy`: axes without values, `exclude`s that exclude nothing, numbers that cannot be.

use super::Checker;
use crate::diagnostic::{Code, Diagnostic};
use crate::expr::{TemplateMap, TemplateNode, Value};
use crate::model::{Job, Strategy};
use crate::plan::{MAX_COMBINATIONS, expand_matrix};
use crate::suggest;

pub(super) fn check(checker: &mut Checker<'_>, job: &Job) {
    let Some(strategy) = &job.strategy else { return };
    check_max_parallel(checker, strategy);
    let Some(TemplateNode::Mapping(map)) = &strategy.matrix else { return };
    if map.whole().is_some() {
        return;
    }
    let axes: Vec<(&str, &TemplateNode)> = map
        .entries()
        .iter()
        .filter(|(key, _)| !matches!(key.raw(), "include" | "exclude"))
        .map(|(key, node)| (key.raw(), node))
        .collect();
    for (axis, node) in &axes {
        check_duplicates(checker, axis, node);
    }
    let exclude = map.get("exclude");
    if let Some(TemplateNode::Sequence(items, span)) = exclude {
        if items.is_empty() {
            checker.warn(Code::EmptyValue, *span, "'exclude' is empty");
        }
        for item in items {
            if let TemplateNode::Mapping(item) = item {
                check_exclude(checker, map, &axes, item);
            }
        }
    }
    if let Some(TemplateNode::Sequence(items, span)) = map.get("include")
        && items.is_empty()
    {
        checker.warn(Code::EmptyValue, *span, "'include' is empty");
    }
    check_combinations(checker, strategy);
}

fn check_max_parallel(checker: &mut Checker<'_>, strategy: &Strategy) {
    let Some(template) = &strategy.max_parallel else { return };
    if let Some(Value::Number(number)) = template.as_literal() {
        if *number < 1.0 {
            checker.warn(Code::WrongValue, template.span(), "'max-parallel' must be at least 1");
        } else if number.fract() != 0.0 {
            checker.warn(Code::WrongValue, template.span(), "'max-parallel' must be a whole number");
        }
    }
}

/// Whether a tree contains no expressions, so that its value is known.
fn is_static(node: &TemplateNode) -> bool {
    let mut known = true;
    node.visit_templates(&mut |template| known &= !template.has_expression());
    known
}

fn value_of(node: &TemplateNode) -> Option<Value> {
    let contexts = crate::context::Contexts::new();
    is_static(node).then(|| node.eval(&crate::expr::Scope::new(&contexts)).ok()).flatten()
}

/// A value that stands twice in an axis only repeats its combinations.
fn check_duplicates(checker: &mut Checker<'_>, axis: &str, node: &TemplateNode) {
    let TemplateNode::Sequence(items, _) = node else { return };
    if items.len() > MAX_COMBINATIONS {
        return;
    }
    let values: Vec<Option<Value>> = items.iter().map(value_of).collect();
    for (at, value) in values.iter().enumerate() {
        if let Some(value) = value
            && values[..at].iter().flatten().any(|earlier| earlier == value)
        {
            let message = format!("the axis '{axis}' has this value already");
            checker.warn(Code::Matrix, items[at].span(), message);
        }
    }
}

fn check_exclude(
    checker: &mut Checker<'_>,
    map: &TemplateMap,
    axes: &[(&str, &TemplateNode)],
    item: &TemplateMap,
) {
    let dynamic = map.entries().iter().any(|(key, _)| key.has_expression());
    for (key, wanted) in item.entries() {
        let name = key.raw();
        let Some((_, axis)) = axes.iter().find(|(axis, _)| axis.eq_ignore_ascii_case(name)) else {
            if !dynamic && !key.has_expression() {
                let names: Vec<&str> = axes.iter().map(|(axis, _)| *axis).collect();
                let help = suggest::nearest(name, names.iter().copied()).map_or_else(
                    || format!("axes of this matrix: {}", names.join(", ")),
                    |near| format!("did you mean '{near}'?"),
                );
                let message = format!("'{name}' in 'exclude' is no axis of the matrix");
                checker.push(Diagnostic::warning(Code::Matrix, key.span(), message).with_help(help));
            }
            continue;
        };
        let TemplateNode::Sequence(values, _) = axis else { continue };
        let any = values.iter().any(|value| may_match(value, wanted));
        if !any && !values.is_empty() {
            let message = format!("no value of the axis '{name}' matches this, so it excludes nothing");
            checker.warn(Code::Matrix, wanted.span(), message);
        }
    }
}

/// Whether a value of an axis can match what is excluded; expressions can be anything.
fn may_match(own: &TemplateNode, wanted: &TemplateNode) -> bool {
    match (own, wanted) {
        (TemplateNode::Scalar(own), _) if own.is_expression() => true,
        (_, TemplateNode::Scalar(wanted)) if wanted.is_expression() => true,
        (TemplateNode::Scalar(own), TemplateNode::Scalar(wanted)) => {
            own.has_expression()
                || wanted.has_expression()
                || own.as_literal_text() == wanted.as_literal_text()
        }
        (TemplateNode::Sequence(own, _), TemplateNode::Sequence(wanted, _)) => {
            let spliced = |items: &[TemplateNode]| {
                items
                    .iter()
                    .any(|item| matches!(item, TemplateNode::Scalar(scalar) if scalar.is_expression()))
            };
            spliced(own)
                || spliced(wanted)
                || own.len() == wanted.len()
                    && own.iter().zip(wanted).all(|(own, wanted)| may_match(own, wanted))
        }
        (TemplateNode::Mapping(own), TemplateNode::Mapping(wanted)) => {
            own.whole().is_some()
                || wanted.whole().is_some()
                || own.entries().iter().any(|(key, _)| key.has_expression())
                || wanted.entries().iter().all(|(key, wanted)| {
                    key.has_expression() || own.get(key.raw()).is_some_and(|own| may_match(own, wanted))
                })
        }
        _ => false,
    }
}

fn check_combinations(checker: &mut Checker<'_>, strategy: &Strategy) {
    let Some(node) = &strategy.matrix else { return };
    let Some(value) = value_of(node) else { return };
    let Err(why) = expand_matrix(&value) else { return };
    if why.contains("no axis") || why.contains("of mappings") || why.contains("has no values") {
        return; // said at its own place already
    }
    if why.contains(&MAX_COMBINATIONS.to_string()) {
        checker.error(Code::Matrix, first_line(node), why);
    } else if value.as_object().is_some_and(|object| !object.is_empty()) {
        checker.warn(Code::Matrix, first_line(node), why);
    }
}

fn first_line(node: &TemplateNode) -> crate::source::Span {
    match node {
        TemplateNode::Mapping(map) => map.entries().first().map_or(map.span(), |(key, _)| key.span()),
        other => other.span(),
    }
}
