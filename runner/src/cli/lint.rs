//! `esteira lint`: every mistake of workflow files and actions, with its place. Arguments, files and formats; what is
//! wrong is the language's business.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, IsTerminal, Read, Write},
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
};

use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};
use workflows::{
    Code, Colour, Diagnostic, FileKind, Files, LintOptions, Severity, SourceFile, lint,
    plan::WorkflowReference, render,
};

use super::Exit;

/// Check workflow files and actions.
///
/// Without files: those of .gitea/workflows and .github/workflows. A `-` is the standard input. Exit codes: 0 no error
/// (with --strict: no finding), 1 there are, 2 a file cannot be read. `# esteira: ignore CODE` in a file, and `ignore:`
/// in the file .esteira-lint.yml, silence findings.
#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// Files or folders.
    files: Vec<PathBuf>,
    /// How to tell it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Fail on warnings too.
    #[arg(long)]
    strict: bool,
    /// Leave out findings of this code.
    #[arg(long, value_name = "CODE")]
    ignore: Vec<Code>,
    /// A label of one's own runners; patterns as in filters.
    #[arg(long)]
    label: Vec<String>,
    /// Do not run shellcheck on scripts.
    #[arg(long)]
    no_shellcheck: bool,
}

/// Forms of the findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Frames of the source, for people.
    Text,
    /// One array of objects.
    Json,
    /// SARIF 2.1, for code hosts.
    Sarif,
    /// Workflow commands that become annotations on GitHub.
    Github,
    /// The same, as Gitea shows them.
    Gitea,
}

/// What stands in `.esteira-lint.yml`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Codes to leave out.
    #[serde(default)]
    ignore: Vec<String>,
    /// Labels of one's own runners.
    #[serde(default)]
    labels: Vec<String>,
}

/// One file and what was found in it.
struct Checked {
    source: SourceFile,
    findings: Vec<Diagnostic>,
}

/// Checks what was asked for and tells what was found.
pub(super) fn run(args: LintArgs) -> ExitCode {
    match check(&args) {
        Ok(checked) => {
            let fails = |finding: &Diagnostic| args.strict || finding.is_error();
            let failed = checked.iter().any(|file| file.findings.iter().any(fails));
            if tell(args.format, &checked).is_err() {
                return Exit::Usage.into();
            }
            if failed { Exit::Failure.into() } else { Exit::Success.into() }
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            Exit::Usage.into()
        }
    }
}

fn check(args: &LintArgs) -> Result<Vec<Checked>, String> {
    let settings = settings(Path::new(".esteira-lint.yml"))?;
    let mut silenced = args.ignore.clone();
    for name in &settings.ignore {
        silenced.push(name.parse().map_err(|error: String| format!(".esteira-lint.yml: {error}"))?);
    }
    let labels: Vec<String> = args.label.iter().chain(&settings.labels).cloned().collect();
    let mut paths = Vec::new();
    if args.files.is_empty() {
        for folder in [".gitea/workflows", ".github/workflows"].map(Path::new) {
            if folder.is_dir() {
                collect(folder, &mut paths)?;
            }
        }
        if paths.is_empty() {
            return Err(
                "there are no workflows in .gitea/workflows or .github/workflows; name the files".to_owned()
            );
        }
    }
    for path in &args.files {
        if path.is_dir() { collect(path, &mut paths)? } else { paths.push(path.clone()) }
    }
    let any_label = ["**".to_owned()];
    let shellcheck = !args.no_shellcheck && !silenced.contains(&Code::ShellCheck) && has_shellcheck();
    in_parallel(&paths, |path| {
        let (name, text) = read(path)?;
        let source = SourceFile::new(&name, &text);
        let files = Beside { root: root_of(path) };
        let options = LintOptions {
            kind: FileKind::of_path(&name),
            files: Some(&files),
            labels: if is_for_gitea(path) { &any_label } else { &labels },
            silenced: &silenced,
        };
        let mut findings = lint(&source, &options);
        if shellcheck {
            findings.extend(super::shellcheck::findings(&source));
        }
        Ok(Checked { source, findings })
    })
}

/// Runs `work` for every path on as many threads as there are processors; the order stays.
fn in_parallel(
    paths: &[PathBuf],
    work: impl Fn(&Path) -> Result<Checked, String> + Sync,
) -> Result<Vec<Checked>, String> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(paths.len().max(1));
    let mut done: Vec<(usize, Result<Checked, String>)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(path) = paths.get(index) else { return done };
                        done.push((index, work(path)));
                    }
                })
            })
            .collect();
        let crashed = || vec![(usize::MAX, Err("a check has crashed".to_owned()))];
        handles.into_iter().flat_map(|handle| handle.join().unwrap_or_else(|_| crashed())).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn settings(path: &Path) -> Result<Settings, String> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(Settings::default()),
        Ok(text) => serde_yaml::from_str(&text).map_err(|error| format!("{}: {error}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Settings::default()),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    let wrong = |error: io::Error| format!("{} cannot be read: {error}", folder.display());
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(wrong)? {
        entries.push(entry.map_err(wrong)?.path());
    }
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
            paths.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<(String, String), String> {
    let (name, bytes) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map_err(|error| format!("the input cannot be read: {error}"))?;
        ("<stdin>".to_owned(), bytes)
    } else {
        let bytes = fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        (path.display().to_string(), bytes)
    };
    // What is no UTF-8 is shown as such by the parser's finding about the replaced character.
    Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
}

fn has_shellcheck() -> bool {
    std::process::Command::new("shellcheck")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Runners of a Gitea instance have whatever labels they were registered with.
fn is_for_gitea(path: &Path) -> bool {
    path.ancestors().any(|folder| folder.ends_with(".gitea") || folder.ends_with(".forgejo"))
}

/// The repository that a file is in: the folder above `.github` or `.gitea`.
fn root_of(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let above = path
        .ancestors()
        .find(|folder| [".github", ".gitea", ".forgejo"].iter().any(|name| folder.ends_with(name)))?;
    above.parent().map(Path::to_owned)
}

/// Files beside the checked one, on this disk.
struct Beside {
    root: Option<PathBuf>,
}

impl Beside {
    fn source(&self, path: &str) -> Option<SourceFile> {
        let text = fs::read_to_string(self.root.as_ref()?.join(path)).ok()?;
        Some(SourceFile::new(path, &text))
    }
}

impl Files for Beside {
    fn workflow(&self, reference: &WorkflowReference) -> Option<SourceFile> {
        match reference {
            WorkflowReference::Local { path } => self.source(path),
            WorkflowReference::Remote(_) => None,
        }
    }

    fn action(&self, path: &str) -> Option<SourceFile> {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        ["action.yml", "action.yaml"].iter().find_map(|name| self.source(&format!("{path}/{name}")))
    }

    fn is_complete(&self) -> bool {
        self.root.is_some()
    }
}

fn tell(format: Format, checked: &[Checked]) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let all = checked.iter().flat_map(|file| file.findings.iter().map(move |finding| (file, finding)));
    match format {
        Format::Text => {
            let colour = if io::stdout().is_terminal() { Colour::Always } else { Colour::Never };
            let (mut errors, mut warnings) = (0, 0);
            for (file, finding) in all {
                if finding.is_error() {
                    errors += 1;
                } else {
                    warnings += 1;
                }
                writeln!(out, "{}", render(finding, &file.source, colour).trim_end())?;
            }
            if errors + warnings > 0 {
                writeln!(out, "{errors} errors, {warnings} warnings in {} files", checked.len())?;
            }
        }
        Format::Json => {
            let findings: Vec<Json> = all.map(|(file, finding)| to_json(file, finding)).collect();
            writeln!(out, "{}", Json::Array(findings))?;
        }
        Format::Sarif => writeln!(out, "{}", sarif(checked))?,
        Format::Github | Format::Gitea => {
            for (file, finding) in all {
                let place = file.source.position(finding.span.start);
                let escape = workflows::commands::escape_property;
                writeln!(
                    out,
                    "::{} file={},line={},col={},title={}::{}",
                    finding.severity.as_str(),
                    escape(file.source.name()),
                    place.line,
                    place.column,
                    escape(finding.code.as_str()),
                    workflows::commands::escape_data(&finding.message)
                )?;
            }
        }
    }
    out.flush()
}

fn to_json(file: &Checked, finding: &Diagnostic) -> Json {
    let (start, end) = (file.source.position(finding.span.start), file.source.position(finding.span.end));
    json!({
        "file": file.source.name(),
        "line": start.line,
        "column": start.column,
        "endLine": end.line,
        "endColumn": end.column,
        "severity": finding.severity.as_str(),
        "code": finding.code.as_str(),
        "message": finding.message,
        "help": finding.help,
    })
}

/// A path as a reference of a URI.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' | b'+' | b'@' => {
                uri.push(char::from(byte));
            }
            _ => uri.extend(format!("%{byte:02X}").chars()),
        }
    }
    uri
}

fn sarif(checked: &[Checked]) -> Json {
    let mut rules: BTreeMap<&str, Json> = BTreeMap::new();
    let mut results = Vec::new();
    for file in checked {
        for finding in &file.findings {
            let code = finding.code.as_str();
            rules.entry(code).or_insert_with(
                || json!({ "id": code, "shortDescription": { "text": finding.code.about() } }),
            );
            let (start, end) =
                (file.source.position(finding.span.start), file.source.position(finding.span.end));
            let text = match &finding.help {
                Some(help) => format!("{}; {help}", finding.message),
                None => finding.message.clone(),
            };
            results.push(json!({
                "ruleId": code,
                "level": if finding.severity == Severity::Error { "error" } else { "warning" },
                "message": { "text": text },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": uri(file.source.name()) },
                    "region": { "startLine": start.line, "startColumn": start.column,
                                "endLine": end.line, "endColumn": end.column },
                } }],
            }));
        }
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "esteira", "version": crate::VERSION, "rules": rules.into_values().collect::<Vec<_>>() } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{is_for_gitea, uri};

    #[test]
    fn paths_become_references() {
        assert_eq!(uri(".github/workflows/a b#é.yml"), ".github/workflows/a%20b%23%C3%A9.yml");
    }

    #[test]
    fn labels_of_gitea_are_its_own() {
        assert!(is_for_gitea(Path::new(".gitea/workflows/a.yml")));
        assert!(!is_for_gitea(Path::new(".github/workflows/a.yml")));
    }
}
