//! The open conformance corpus: expressions, validation and expansion.
//!
//! The corpus is not part of the repository. Where `CONFORMANCE` names its folder, or it lies beside the
//! workspace, every case has to pass; elsewhere the tests say that they were skipped.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use workflows::plan::WorkflowReference;
use workflows::{
    Contexts, Diagnostic, EvalError, Expression, Files, LintOptions, Scope, SourceFile, Template, Value, lint, render_line,
};

/// The folder of the open cases.
fn corpus() -> Option<PathBuf> {
    let named = std::env::var_os("CONFORMANCE").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    let found = [named, Some(beside)]
        .into_iter()
        .flatten()
        .flat_map(|root| [root.join("open"), root])
        .find(|folder| folder.join("expressions.json").exists());
    if found.is_none() {
        println!("SKIPPED: no conformance corpus; set CONFORMANCE to its folder");
    }
    found
}

fn cases(folder: &Path, file: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(folder.join(file)).expect("the corpus is readable");
    let document: Json = serde_json::from_str(&text).expect("the corpus is JSON");
    document["cases"].as_array().expect("cases").clone()
}

/// JSON with the corpus's notation for numbers that JSON cannot hold.
fn to_value(json: &Json) -> Value {
    match json {
        Json::Object(map) if map.len() == 1 && map.contains_key("$number") => match map["$number"].as_str() {
            Some("Infinity") => Value::Number(f64::INFINITY),
            Some("-Infinity") => Value::Number(f64::NEG_INFINITY),
            _ => Value::Number(f64::NAN),
        },
        Json::Object(map) => map
            .iter()
            .map(|(key, value)| (key.as_str(), to_value(value)))
            .collect::<workflows::Object>()
            .into(),
        Json::Array(items) => Value::array(items.iter().map(to_value).collect()),
        other => Value::from_json(other),
    }
}

fn evaluate(case: &Json) -> Result<Value, EvalError> {
    let mut contexts = Contexts::new();
    for (name, value) in case["contexts"].as_object().into_iter().flatten() {
        contexts.set(name, to_value(value));
    }
    let status = match case["contexts"]["job"]["status"].as_str() {
        Some("failure") => workflows::JobStatus::Failure,
        Some("cancelled") => workflows::JobStatus::Cancelled,
        _ => workflows::JobStatus::Success,
    };
    let scope = Scope::new(&contexts).status(&status).strict();
    let text = case["expr"].as_str().expect("expr");
    if case["mode"] == "template" {
        return Template::parse(text).eval(&scope).map(|value| Value::from(value.to_text()));
    }
    Expression::parse(text)?.eval(&scope)
}

#[test]
fn expressions() {
    let Some(folder) = corpus() else { return };
    let mut failures = Vec::new();
    let cases = cases(&folder, "expressions.json");
    for case in &cases {
        let id = case["id"].as_str().unwrap_or("?");
        let got = evaluate(case);
        let verdict = if case.get("expect_error").is_some() {
            got.as_ref().err().map(|_| ()).ok_or_else(|| format!("expected an error, got {got:?}"))
        } else {
            let expected = to_value(&case["expect"]);
            match &got {
                Ok(value)
                    if *value == expected && value.kind() == case["expect_kind"].as_str().unwrap_or("") =>
                {
                    Ok(())
                }
                other => Err(format!("expected {expected:?}, got {other:?}")),
            }
        };
        if let Err(why) = verdict {
            failures.push(format!("{id}: {} => {why}", case["expr"]));
        }
    }
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// Reusable workflows and local actions of a case.
struct CaseFiles<'c> {
    folder: &'c Path,
    case: &'c Json,
}

impl CaseFiles<'_> {
    fn read(&self, name: &str) -> Option<SourceFile> {
        let path = self.case["files"].get(name)?.as_str()?;
        let text = std::fs::read_to_string(self.folder.join(path)).ok()?;
        Some(SourceFile::new(name, &text))
    }
}

impl Files for CaseFiles<'_> {
    fn workflow(&self, reference: &WorkflowReference) -> Option<SourceFile> {
        self.read(&reference.to_string())
    }
    fn action(&self, path: &str) -> Option<SourceFile> {
        self.read(&format!("./{path}/action.yml"))
    }
    fn is_complete(&self) -> bool {
        true
    }
}

/// Cases that expect something else than GitHub does, each with its reason.
const ARGUED_VALIDATION: &[(&str, &str)] = &[];

#[test]
fn validation() {
    let Some(folder) = corpus() else { return };
    let cases = cases(&folder, "validation.json");
    let (mut failures, mut silent, mut lines, mut found) = (Vec::new(), Vec::new(), 0, 0);
    for case in &cases {
        let id = case["id"].as_str().unwrap_or("?");
        let tags: Vec<&str> = case["tags"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let expect = case["expect"].as_str().unwrap_or("");
        if expect == "expand" || tags.contains(&"server-only") || ARGUED_VALIDATION.iter().any(|(argued, _)| *argued == id) {
            continue;
        }
        let text = std::fs::read_to_string(folder.join(case["file"].as_str().expect("file"))).expect("readable");
        let source = SourceFile::new("test.yaml", &text);
        let files = CaseFiles { folder: &folder, case };
        let findings = lint(&source, &LintOptions { files: Some(&files), ..LintOptions::default() });
        let shown: Vec<String> = findings.iter().map(|finding| format!("    {}", render_line(finding, &source))).collect();
        let refused = findings.iter().any(Diagnostic::is_error);
        let wanted = case["github_parser"].as_str().map_or(expect == "invalid", |verdict| verdict == "reject");
        if refused != wanted {
            failures.push(format!("{id}: should be {}\n{}", if wanted { "refused" } else { "accepted" }, shown.join("\n")));
        }
        let accepted_by_github = case["github_parser"] == "accept";
        for error in case["errors"].as_array().into_iter().flatten() {
            let (Some(line), kind) = (error["line"].as_u64(), error["kind"].as_str().unwrap_or("")) else { continue };
            if matches!(kind, "shellcheck" | "pyflakes") || line == 0 {
                continue;
            }
            lines += 1;
            let line = usize::try_from(line).expect("a line");
            if findings.iter().any(|finding| source.position(finding.span.start).line == line) {
                found += 1;
            } else {
                let what = error["message"].as_str().or(error["pattern"].as_str()).unwrap_or("");
                let entry = format!("{id}:{line}: {what}");
                if accepted_by_github { failures.push(entry) } else { silent.push(entry) }
            }
        }
    }
    println!("{found} of {lines} expected places have a finding; without one:\n{}", silent.join("\n"));
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}
