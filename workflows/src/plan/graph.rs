//! Needs between jobs: whether they make sense, and what status functions see through them.

use crate::diagnostic::{Code, Diagnostic};
use crate::expr::{Object, StatusFunctions, Value, text};
use crate::model::Workflow;
use crate::suggest;

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobResult {
    /// All went well, or failed with `continue-on-error`.
    Success,
    /// A step failed.
    Failure,
    /// Somebody, or `fail-fast`, cancelled it.
    Cancelled,
    /// Its `if` did not hold.
    Skipped,
}

impl JobResult {
    /// The word in `needs.<id>.result`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// From the word.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Success, Self::Failure, Self::Cancelled, Self::Skipped]
            .into_iter()
            .find(|result| result.as_str().eq_ignore_ascii_case(name))
    }
}

/// What a job left for those that need it.
#[derive(Debug, Clone, PartialEq)]
pub struct NeedResult {
    /// Id of the job.
    pub id: String,
    /// How it ended.
    pub result: JobResult,
    /// Its outputs.
    pub outputs: Object,
}

impl NeedResult {
    /// The `needs` context of a job that needs these.
    pub fn context<'n>(needs: impl IntoIterator<Item = &'n Self>) -> Value {
        let mut context = Object::new();
        for need in needs {
            let mut entry = Object::new();
            entry.insert("result", need.result.as_str());
            entry.insert("outputs", Value::object(need.outputs.clone()));
            context.insert(need.id.as_str(), entry);
        }
        Value::object(context)
    }
}

/// The status functions in a job's `if`: they look at everything the job needs, directly or not, so a
/// skipped ancestor makes `success()` false however its children ended.
#[derive(Debug, Clone, Default)]
pub struct Ancestors {
    /// Results of all ancestors.
    pub results: Vec<(String, JobResult)>,
    /// Whether the run was cancelled.
    pub cancelled: bool,
}

impl Ancestors {
    fn selected<'a>(&'a self, jobs: &'a [String]) -> impl Iterator<Item = JobResult> + 'a {
        self.results
            .iter()
            .filter(move |(id, _)| {
                jobs.is_empty() || jobs.iter().any(|job| text::equals_ignore_case(job, id))
            })
            .map(|(_, result)| *result)
    }
}

impl StatusFunctions for Ancestors {
    fn success(&self, jobs: &[String]) -> bool {
        !self.cancelled && self.selected(jobs).all(|result| result == JobResult::Success)
    }
    fn failure(&self, jobs: &[String]) -> bool {
        !self.cancelled && self.selected(jobs).any(|result| result == JobResult::Failure)
    }
    fn cancelled(&self) -> bool {
        self.cancelled
    }
}

/// Needs that do not exist or go round in a circle.
pub(crate) fn check_needs(workflow: &Workflow) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let ids: Vec<&str> = workflow.jobs.iter().map(|job| job.id.value.as_str()).collect();
    let index = |id: &str| ids.iter().position(|known| text::equals_ignore_case(known, id));
    let mut edges: Vec<Vec<usize>> = Vec::with_capacity(ids.len());
    for job in &workflow.jobs {
        let mut targets: Vec<usize> = Vec::new();
        for need in &job.needs {
            match index(need) {
                Some(target) if targets.contains(&target) => findings.push(Diagnostic::warning(
                    Code::Needs,
                    need.span,
                    format!("job '{}' needs '{}' twice", job.id.value, need.value),
                )),
                Some(target) => targets.push(target),
                None => {
                    let message =
                        format!("job '{}' needs '{}', which does not exist", job.id.value, need.value);
                    let mut finding = Diagnostic::error(Code::Needs, need.span, message);
                    if let Some(near) =
                        suggest::nearest(need, ids.iter().copied().filter(|id| *id != job.id.value))
                    {
                        finding = finding.with_help(format!("did you mean '{near}'?"));
                    }
                    findings.push(finding);
                }
            }
        }
        edges.push(targets);
    }
    if let Some(circle) = find_circle(&edges) {
        let names: Vec<&str> = circle.iter().chain(circle.first()).map(|at| ids[*at]).collect();
        let job = &workflow.jobs[circle[0]];
        let message = format!("the needs go round in a circle: {}", names.join(" needs "));
        findings.push(
            Diagnostic::error(Code::Needs, job.id.span, message)
                .with_help("one of these jobs has to start first"),
        );
    } else if !workflow.jobs.is_empty() && edges.iter().all(|targets| !targets.is_empty()) {
        let message = "no job can start, because every job needs another";
        findings.push(Diagnostic::error(Code::Needs, workflow.jobs[0].id.span, message));
    }
    findings
}

/// The first circle met when walking from the first job on, beginning with its earliest job.
fn find_circle(edges: &[Vec<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    for start in 0..edges.len() {
        // Depth first without recursion: a workflow may have thousands of jobs in a row.
        let mut path: Vec<(usize, usize)> = Vec::new();
        if marks[start] == Mark::New {
            marks[start] = Mark::Open;
            path.push((start, 0));
        }
        while let Some((node, next)) = path.pop() {
            let Some(&target) = edges[node].get(next) else {
                marks[node] = Mark::Done;
                continue;
            };
            path.push((node, next + 1));
            match marks[target] {
                Mark::Open => {
                    let from = path.iter().position(|(on_path, _)| *on_path == target)?;
                    let mut circle: Vec<usize> = path[from..].iter().map(|(on_path, _)| *on_path).collect();
                    let earliest =
                        circle.iter().enumerate().min_by_key(|(_, job)| **job).map_or(0, |(at, _)| at);
                    circle.rotate_left(earliest);
                    return Some(circle);
                }
                Mark::New => {
                    marks[target] = Mark::Open;
                    path.push((target, 0));
                }
                Mark::Done => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::model::parse_payload;
    use crate::source::SourceFile;

    fn check(jobs: &[(&str, &str)]) -> Vec<String> {
        let mut text = "on: push\njobs:\n".to_owned();
        for (id, needs) in jobs {
            writeln!(text, "  {id}: {{runs-on: x, needs: {needs}, steps: [run: x]}}")
                .expect("a string takes everything");
        }
        let workflow = parse_payload(&SourceFile::new("a.yml", &text)).value.expect("parsed");
        check_needs(&workflow).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn unknown_and_circular_needs_are_found() {
        assert_eq!(check(&[("build", "[]"), ("test", "BUILD")]), [""; 0]);
        assert_eq!(
            check(&[("build", "[]"), ("test", "biuld")]),
            ["job 'test' needs 'biuld', which does not exist"]
        );
        assert_eq!(
            check(&[("a", "[]"), ("c", "b"), ("b", "[a, d]"), ("d", "c")]),
            ["the needs go round in a circle: c needs b needs d needs c"]
        );
        assert_eq!(check(&[("a", "a")]), ["the needs go round in a circle: a needs a"]);
        assert_eq!(check(&[("a", "[]"), ("b", "[a, A]")]), ["job 'b' needs 'A' twice"]);
    }

    #[test]
    fn status_functions_see_ancestors() {
        let results = vec![("a".to_owned(), JobResult::Skipped), ("b".to_owned(), JobResult::Success)];
        let ancestors = Ancestors { results, cancelled: false };
        assert!(!ancestors.success(&[]));
        assert!(ancestors.success(&["B".to_owned()]));
        assert!(!ancestors.failure(&[]));
        assert!(!ancestors.cancelled());
        assert_eq!(JobResult::by_name("FAILURE"), Some(JobResult::Failure));
    }
}
