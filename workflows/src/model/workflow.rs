//! A workflow file.

use super::job::{
    Concurrency, Job, Permissions, RunDefaults, read_concurrency, read_defaults, read_job, read_permissions,
};
use super::reader::{Mode, Parsed, Reader};
use super::trigger::{Triggers, read_triggers};
use super::{Template, TemplateMap};
use crate::diagnostic::Code;
use crate::source::{SourceFile, Span, Spanned};
use crate::yaml::{self, Node};

/// A workflow file, in the order in which it was written.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// `name`
    pub name: Option<Spanned<String>>,
    /// `run-name`
    pub run_name: Option<Template>,
    /// `on`
    pub on: Triggers,
    /// `permissions`
    pub permissions: Option<Permissions>,
    /// `env`
    pub env: Option<TemplateMap>,
    /// `defaults.run`
    pub defaults: Option<RunDefaults>,
    /// `concurrency`
    pub concurrency: Option<Concurrency>,
    /// `jobs`, in order
    pub jobs: Vec<Job>,
    /// The file it was read from.
    pub source: SourceFile,
}

impl Workflow {
    /// The job of that id, ignoring case.
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id.eq_ignore_ascii_case(id))
    }

    /// The name that is shown: `name`, else that of the file.
    pub fn display_name(&self) -> &str {
        match &self.name {
            Some(name) if !name.is_empty() => name,
            _ => self.source.name(),
        }
    }
}

const KEYS: [&str; 9] =
    ["name", "run-name", "description", "on", "permissions", "env", "defaults", "concurrency", "jobs"];

/// Reads a workflow file strictly: its structure is checked. [`crate::lint()`] also checks what the file
/// says as a whole.
///
/// ```
/// use workflows::{SourceFile, parse_workflow};
/// let source = SourceFile::new("ci.yml", "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: make\n");
/// let parsed = parse_workflow(&source);
/// assert!(!parsed.has_errors());
/// assert_eq!(parsed.value.unwrap().jobs[0].steps.len(), 1);
/// ```
pub fn parse_workflow(source: &SourceFile) -> Parsed<Workflow> {
    parse_workflow_with(source, Mode::Strict)
}

/// Reads a workflow that a server has accepted: lenient, so that only what cannot be run is an error.
pub fn parse_payload(source: &SourceFile) -> Parsed<Workflow> {
    parse_workflow_with(source, Mode::Lenient)
}

/// Reads a workflow file.
pub fn parse_workflow_with(source: &SourceFile, mode: Mode) -> Parsed<Workflow> {
    let (tree, diagnostics) = yaml::parse(source, yaml::Limits::default());
    let mut reader = Reader::new(source, mode, diagnostics);
    let workflow = match &tree {
        Some(root) if root.as_mapping().is_some() => Some(read_workflow(&mut reader, root)),
        Some(root) => {
            reader.refuse(
                Code::WrongType,
                Span::new(root.span.start, root.span.start + 1),
                format!("a workflow file must be a mapping, found {}", root.describe()),
            );
            None
        }
        None => {
            if reader.diagnostics.is_empty() {
                reader.refuse(Code::EmptyValue, Span::default(), "the file is empty");
            }
            None
        }
    };
    reader.finish(workflow)
}

fn read_workflow(reader: &mut Reader<'_>, root: &Node<'_>) -> Workflow {
    let mut workflow = Workflow {
        name: None,
        run_name: None,
        on: Triggers::default(),
        permissions: None,
        env: None,
        defaults: None,
        concurrency: None,
        jobs: Vec::new(),
        source: reader.source.clone(),
    };
    let (mut has_on, mut has_jobs) = (false, false);
    for entry in reader.mapping(root, "a workflow", &KEYS) {
        let value = &entry.value;
        match entry.key.as_text().unwrap_or("") {
            "name" => workflow.name = reader.text(value, "'name'"),
            "description" => {
                reader.text(value, "'description'");
            }
            "run-name" => workflow.run_name = reader.template_if_any(value, "'run-name'"),
            "on" => {
                has_on = true;
                workflow.on = read_triggers(reader, value);
            }
            "permissions" => workflow.permissions = read_permissions(reader, value),
            "env" => workflow.env = reader.template_map(value, "'env'"),
            "defaults" => workflow.defaults = read_defaults(reader, value, false),
            "concurrency" if value.is_null() => reader.say_empty(value, "'concurrency'"),
            "concurrency" => workflow.concurrency = read_concurrency(reader, value),
            "jobs" => {
                has_jobs = true;
                let jobs = reader.any_mapping(value, "'jobs'");
                workflow.jobs.reserve_exact(jobs.len());
                for job in jobs {
                    if let Some(job) = read_job(reader, &job.key, &job.value) {
                        workflow.jobs.push(job);
                    }
                }
                if workflow.jobs.is_empty() && value.as_mapping().is_some_and(<[_]>::is_empty) {
                    reader.refuse(Code::EmptyValue, value.span, "'jobs' must not be empty");
                }
            }
            _ => {}
        }
    }
    if !has_on {
        reader.missing(root, "the workflow", "on");
    }
    if !has_jobs {
        reader.refuse(
            Code::MissingKey,
            super::reader::first_key(root),
            "the workflow lacks the required key 'jobs'",
        );
    }
    workflow
}
