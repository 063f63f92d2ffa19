//! Checking a file in one call: reading, checking, and leaving out what comments silence.
//!
//! `# esteira: ignore code, code` silences codes on its own line, or on the next when it stands alone;
//! `# esteira: ignore-file code` silences them in the whole file; without codes everything is silenced.

use crate::check::{Checker, Files};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Mode, parse_action_with, parse_workflow_with};
use crate::source::SourceFile;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileKind {
    /// A workflow.
    #[default]
    Workflow,
    /// An `action.yml`.
    Action,
}

impl FileKind {
    /// By the name of the file: `action.yml` and `action.yaml` are actions.
    pub fn of_path(path: &str) -> Self {
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
        if matches!(name, "action.yml" | "action.yaml") { Self::Action } else { Self::Workflow }
    }
}

/// How to check.
#[derive(Clone, Copy, Default)]
pub struct LintOptions<'a> {
    /// Workflow or action.
    pub kind: FileKind,
    /// Other files of the repository, for calls of reusable workflows and local actions.
    pub files: Option<&'a dyn Files>,
    /// Labels of one's own runners; patterns as in filters.
    pub labels: &'a [String],
    /// Codes to leave out.
    pub silenced: &'a [Code],
}

impl std::fmt::Debug for LintOptions<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LintOptions")
            .field("kind", &self.kind)
            .field("labels", &self.labels)
            .field("silenced", &self.silenced)
            .finish_non_exhaustive()
    }
}

/// Every finding of a file, in order of places.
///
/// ```
/// use workflows::{Code, LintOptions, SourceFile, lint};
/// let source = SourceFile::new("ci.yml", "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - rn: make\n");
/// let findings = lint(&source, &LintOptions::default());
/// assert_eq!(findings[0].code, Code::UnknownKey);
/// assert_eq!(findings[0].help.as_deref(), Some("did you mean 'run'?"));
/// ```
pub fn lint(source: &SourceFile, options: &LintOptions<'_>) -> Vec<Diagnostic> {
    let checker = Checker::new(source, options.files, options.labels);
    let mut findings = match options.kind {
        FileKind::Workflow => {
            let parsed = parse_workflow_with(source, Mode::Strict);
            let mut findings = parsed.diagnostics;
            if let Some(workflow) = &parsed.value {
                findings.extend(checker.workflow(workflow));
            }
            findings
        }
        FileKind::Action => {
            let parsed = parse_action_with(source, Mode::Strict);
            let mut findings = parsed.diagnostics;
            if let Some(action) = &parsed.value {
                findings.extend(checker.action(action));
            }
            findings
        }
    };
    findings.retain(|finding| !options.silenced.contains(&finding.code));
    let comments = Comments::read(source.text());
    if !comments.is_empty() {
        findings.retain(|finding| !comments.silence(finding.code, source.position(finding.span.start).line));
    }
    findings.sort_by_key(|finding| (finding.span.start, finding.span.end));
    findings.dedup();
    findings
}

/// What comments silence.
#[derive(Default)]
struct Comments {
    /// Line and code; no code is every code.
    lines: Vec<(usize, Option<Code>)>,
    file: Vec<Option<Code>>,
}

impl Comments {
    fn read(text: &str) -> Self {
        const MARK: &str = "# esteira: ignore";
        let mut comments = Self::default();
        if !text.contains(MARK) {
            return comments;
        }
        for (number, line) in text.lines().enumerate() {
            let Some((before, after)) = line.split_once(MARK) else { continue };
            let (whole_file, codes) = match after.strip_prefix("-file") {
                Some(rest) => (true, rest),
                None => (false, after),
            };
            let names: Vec<&str> = codes.split([',', ' ', '\t']).filter(|name| !name.is_empty()).collect();
            // A word that is no code silences nothing, so that a typing mistake does not hide everything.
            let codes: Vec<Option<Code>> = if names.is_empty() {
                vec![None]
            } else {
                names.iter().filter_map(|name| name.parse().ok()).map(Some).collect()
            };
            if whole_file {
                comments.file.extend(codes);
            } else {
                let alone = before.trim().is_empty();
                comments.lines.extend(codes.into_iter().map(|code| (number + 1 + usize::from(alone), code)));
            }
        }
        comments
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.file.is_empty()
    }

    fn silence(&self, code: Code, line: usize) -> bool {
        let covers = |own: &Option<Code>| own.is_none_or(|own| own == code);
        self.file.iter().any(covers)
            || self.lines.iter().any(|(own, silenced)| *own == line && covers(silenced))
    }
}
