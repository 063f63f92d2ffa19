//! The workflow files of a run, and what the event means for each of them.

use std::path::{Path, PathBuf};

use workflows::{Code, LintOptions, Scope, SourceFile, Value, Workflow, lint, parse_payload, plan};

use super::{ExecArgs, Refused};
use crate::{
    report::console::Console,
    source::local::{EventSpec, find},
};

/// What stops a run before it begins, beyond what cannot even be read.
const FATAL: [Code; 3] = [Code::ConflictingKeys, Code::Identifier, Code::Needs];

/// Reads and parses the workflow files; mistakes are shown with their place.
pub(super) fn load(args: &ExecArgs, root: &Path) -> Result<Vec<Workflow>, Refused> {
    let path = args.workflows.clone().unwrap_or_else(|| {
        let folders = [".gitea/workflows", ".github/workflows"].map(PathBuf::from);
        let [gitea, github] = folders;
        if root.join(&gitea).is_dir() || !root.join(&github).is_dir() { gitea } else { github }
    });
    let found = find(root, &path, !args.no_recurse)
        .map_err(|error| Refused(format!("no workflows at {}: {error}", path.display())))?;
    if found.is_empty() {
        return Err(Refused(format!("there is no .yml or .yaml file in {}", path.display())));
    }
    let mut parsed = Vec::new();
    let mut wrong = Vec::new();
    for file in found {
        let source = SourceFile::new(&file.name, &file.text);
        let mut findings = match parse_payload(&source).into_result() {
            Ok(workflow) => {
                parsed.push(workflow);
                lint(&source, &LintOptions::default())
            }
            Err(diagnostics) => {
                wrong.extend(diagnostics.iter().map(|found| workflows::render_line(found, &source)));
                continue;
            }
        };
        // Servers let much pass that GitHub refuses; these mistakes none of them runs.
        findings.retain(|found| found.is_error() && FATAL.contains(&found.code));
        // A reserved id, or one that comes twice, still runs; one that is none does not.
        findings.retain(|found| found.code != Code::Identifier || !is_identifier(source.slice(found.span)));
        wrong.extend(findings.iter().map(|found| workflows::render_line(found, &source)));
    }
    if wrong.is_empty() { Ok(parsed) } else { Err(Refused(wrong.join("\n"))) }
}

fn is_identifier(text: &str) -> bool {
    let text = text.trim_matches(['"', '\'']);
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

pub(super) fn detect(args: &ExecArgs, parsed: &[Workflow]) -> String {
    let mut names: Vec<&str> = parsed
        .iter()
        .flat_map(|workflow| workflow.on.events.iter().map(|trigger| trigger.name.value.as_str()))
        .collect();
    if args.detect_event {
        return names.first().map_or_else(|| "push".to_owned(), |name| (*name).to_owned());
    }
    names.dedup();
    match names.as_slice() {
        [only] => (*only).to_owned(),
        _ => "push".to_owned(),
    }
}

pub(super) fn list(workflows: &[Workflow], console: &Console) {
    for workflow in workflows {
        let events: Vec<&str> =
            workflow.on.events.iter().map(|trigger| trigger.name.value.as_str()).collect();
        console.note(&format!(
            "{} ({}) on {}",
            workflow.display_name(),
            workflow.source.name(),
            events.join(", ")
        ));
        for job in &workflow.jobs {
            let needs: Vec<&str> = job.needs.iter().map(|need| need.value.as_str()).collect();
            let after = if needs.is_empty() { String::new() } else { format!(" after {}", needs.join(", ")) };
            let name = job.name.as_ref().map_or_else(String::new, |name| format!(": {}", name.raw()));
            console.note(&format!("  {}{name}{after}", job.id.value));
        }
    }
}

/// The `inputs` context of one workflow for this event. What is wrong with those of the command line is refused; an event
/// from a file has happened, so it is only told.
pub(super) fn inputs(
    workflow: &Workflow,
    spec: &EventSpec,
    payload: &serde_json::Value,
    console: &Console,
) -> Result<Value, Refused> {
    let Some(trigger) = workflow.on.get(&spec.name) else { return Ok(Value::Null) };
    let given: Vec<(String, Value)> = payload
        .get("inputs")
        .and_then(serde_json::Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), Value::from_json(value)))
        .collect();
    if trigger.inputs.is_empty() {
        return Ok(Value::object(given.into_iter().collect()));
    }
    let contexts = workflows::Contexts::new();
    let (inputs, errors) = plan::inputs_as_given(trigger, &given, &Scope::new(&contexts));
    let told = format!("{}: {}", workflow.source.name(), errors.join("; "));
    if !errors.is_empty() && spec.payload.is_none() {
        return Err(Refused(told));
    }
    if !errors.is_empty() {
        console.note(&told);
    }
    Ok(Value::object(inputs))
}
