//! `runs-on`: labels that no hosted machine has, and labels that no machine has together.

use super::Checker;
use crate::diagnostic::{Code, Diagnostic};
use crate::expr::{Expression, Template, TemplateNode};
use crate::model::{Job, RunsOn};
use crate::suggest;

/// Systems, as far as labels exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    Ubuntu(&'static str),
    Windows(&'static str),
    MacOs(&'static str),
    /// A label that several kinds of machines have.
    Open,
}

const HOSTED: &[(&str, Machine)] = &[
    ("ubuntu-latest", Machine::Ubuntu("24.04")),
    ("ubuntu-24.04", Machine::Ubuntu("24.04")),
    ("ubuntu-22.04", Machine::Ubuntu("22.04")),
    ("ubuntu-26.04", Machine::Ubuntu("26.04")),
    ("ubuntu-24.04-arm", Machine::Ubuntu("24.04")),
    ("ubuntu-22.04-arm", Machine::Ubuntu("22.04")),
    ("ubuntu-slim", Machine::Ubuntu("slim")),
    ("windows-latest", Machine::Windows("2025")),
    ("windows-2025", Machine::Windows("2025")),
    ("windows-2025-vs2026", Machine::Windows("2025")),
    ("windows-2022", Machine::Windows("2022")),
    ("windows-11-arm", Machine::Windows("11")),
    ("macos-latest", Machine::MacOs("15")),
    ("macos-latest-large", Machine::MacOs("15")),
    ("macos-latest-xlarge", Machine::MacOs("15")),
    ("macos-26", Machine::MacOs("26")),
    ("macos-26-intel", Machine::MacOs("26")),
    ("macos-26-large", Machine::MacOs("26")),
    ("macos-26-xlarge", Machine::MacOs("26")),
    ("macos-15", Machine::MacOs("15")),
    ("macos-15-intel", Machine::MacOs("15")),
    ("macos-15-large", Machine::MacOs("15")),
    ("macos-15-xlarge", Machine::MacOs("15")),
    ("macos-14", Machine::MacOs("14")),
    ("macos-14-large", Machine::MacOs("14")),
    ("macos-14-xlarge", Machine::MacOs("14")),
    ("macos-13", Machine::MacOs("13")),
    ("macos-13-large", Machine::MacOs("13")),
    ("macos-13-xlarge", Machine::MacOs("13")),
    ("self-hosted", Machine::Open),
    ("linux", Machine::Ubuntu("")),
    ("windows", Machine::Windows("")),
    ("macos", Machine::MacOs("")),
    ("x64", Machine::Open),
    ("x86", Machine::Open),
    ("arm", Machine::Open),
    ("arm64", Machine::Open),
];

pub(super) fn check(checker: &mut Checker<'_>, job: &Job) {
    match labels(job) {
        Some(TemplateNode::Scalar(label)) => check_scalar(checker, job, label),
        Some(TemplateNode::Sequence(items, _)) => {
            check_list(checker, items);
            check_axes(checker, job, items);
        }
        Some(TemplateNode::Mapping(_)) | None => {}
    }
}

fn labels(job: &Job) -> Option<&TemplateNode> {
    match &job.runs_on {
        Some(RunsOn::Labels(node) | RunsOn::Group { labels: Some(node), .. }) => Some(node),
        _ => None,
    }
}

/// Whether a job runs on Windows, as far as its labels tell.
pub(super) fn is_windows(job: &Job) -> Option<bool> {
    let of_label = |node: &TemplateNode| match node {
        TemplateNode::Scalar(label) => match machine(label.raw()) {
            Some(Machine::Open) | None => None,
            Some(machine) => Some(matches!(machine, Machine::Windows(_))),
        },
        _ => None,
    };
    match labels(job)? {
        TemplateNode::Sequence(items, _) => items.iter().find_map(of_label),
        single => of_label(single),
    }
}

fn check_scalar(checker: &mut Checker<'_>, job: &Job, label: &Template) {
    if !label.has_expression() {
        check_label(checker, label, false);
        return;
    }
    // `${{ matrix.axis }}` stands for every value of the axis.
    let [(expression, _)] = label.expressions().collect::<Vec<_>>()[..] else { return };
    if !label.is_expression() {
        return;
    }
    for value in axis_values(job, expression) {
        match value {
            TemplateNode::Scalar(value) if !value.has_expression() => check_label(checker, value, false),
            TemplateNode::Sequence(items, _) => check_list(checker, items),
            _ => {}
        }
    }
}

/// The values that an expression of the form `matrix.axis` goes through.
fn axis_values<'j>(job: &'j Job, expression: &Expression) -> Vec<&'j TemplateNode> {
    let Some(axis) = expression.source().trim().strip_prefix("matrix.") else { return Vec::new() };
    let Some(TemplateNode::Mapping(map)) =
        job.strategy.as_ref().and_then(|strategy| strategy.matrix.as_ref())
    else {
        return Vec::new();
    };
    let mut values = Vec::new();
    if let Some(TemplateNode::Sequence(items, _)) = map.get(axis) {
        values.extend(items);
    }
    if let Some(TemplateNode::Sequence(items, _)) = map.get("include") {
        for item in items {
            if let TemplateNode::Mapping(extra) = item {
                values.extend(extra.get(axis));
            }
        }
    }
    values
}

fn check_list(checker: &mut Checker<'_>, items: &[TemplateNode]) {
    let labels: Vec<&Template> = items
        .iter()
        .filter_map(|item| match item {
            TemplateNode::Scalar(label) if !label.has_expression() => Some(label),
            _ => None,
        })
        .collect();
    let own = labels.iter().any(|label| label.raw().eq_ignore_ascii_case("self-hosted"));
    let mut first: Option<(&Template, Machine)> = None;
    for label in labels {
        check_label(checker, label, own);
        let Some(machine) = machine(label.raw()) else { continue };
        match first {
            None if machine != Machine::Open => first = Some((label, machine)),
            Some((other, known)) if excludes(known, machine) => {
                let message =
                    format!("no machine has the label '{}' together with '{}'", label.raw(), other.raw());
                checker.push(
                    Diagnostic::warning(Code::RunnerLabel, label.span(), message)
                        .with_help("to run on several machines use a matrix"),
                );
            }
            _ => {}
        }
    }
}

/// `${{ matrix.axis }}` in a list of labels: no value of the axis may exclude what is written beside it.
fn check_axes(checker: &mut Checker<'_>, job: &Job, items: &[TemplateNode]) {
    let scalars = || {
        items.iter().filter_map(|item| match item {
            TemplateNode::Scalar(label) => Some(label),
            _ => None,
        })
    };
    let known = |label: &Template| machine(label.raw()).filter(|machine| *machine != Machine::Open);
    let Some((written, first)) = scalars().find_map(|label| Some((label, known(label)?))) else { return };
    for label in scalars().filter(|label| label.is_expression()) {
        let [(expression, _)] = label.expressions().collect::<Vec<_>>()[..] else { continue };
        for value in axis_values(job, expression) {
            let TemplateNode::Scalar(value) = value else { continue };
            if known(value).is_some_and(|machine| excludes(first, machine)) {
                let message =
                    format!("no machine has the label '{}' together with '{}'", value.raw(), written.raw());
                checker.warn(Code::RunnerLabel, value.span(), message);
            }
        }
    }
}

fn machine(label: &str) -> Option<Machine> {
    HOSTED.iter().find(|(known, _)| known.eq_ignore_ascii_case(label)).map(|(_, machine)| *machine)
}

fn excludes(left: Machine, right: Machine) -> bool {
    match (left, right) {
        (Machine::Open, _) | (_, Machine::Open) => false,
        (Machine::Ubuntu(left), Machine::Ubuntu(right))
        | (Machine::Windows(left), Machine::Windows(right))
        | (Machine::MacOs(left), Machine::MacOs(right)) => {
            !left.is_empty() && !right.is_empty() && left != right
        }
        _ => true,
    }
}

/// A label beside `self-hosted` may be anything; alone it has to be known or declared.
fn check_label(checker: &mut Checker<'_>, label: &Template, own: bool) {
    let name = label.raw();
    if own || name.is_empty() || machine(name).is_some() {
        return;
    }
    if checker.labels.iter().any(|known| crate::plan::Glob::new(known).matches(name)) {
        return;
    }
    let help = suggest::nearest(name, HOSTED.iter().map(|(known, _)| *known)).map_or_else(
        || "if a runner of yours has this label, list it under 'labels' of the lint configuration".to_owned(),
        |near| format!("did you mean '{near}'?"),
    );
    let message = format!("the label '{name}' is none of GitHub's machines");
    checker.push(Diagnostic::warning(Code::RunnerLabel, label.span(), message).with_help(help));
}
