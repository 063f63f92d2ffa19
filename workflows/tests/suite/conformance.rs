//! The open conformance corpus: expressions, validation and expansion.
//!
//! The corpus is not part of the repository. Where `CONFORMANCE` names its folder, or it lies beside the
//! workspace, every case has to pass; elsewhere the tests say that they were skipped.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use workflows::plan::{JobResult, PlannedJob, Run, RunOptions, Step, WorkflowReference};
use workflows::{
    Contexts, Diagnostic, EvalError, Expression, Files, LintOptions, Object, Scope, SourceFile, Template,
    Value, lint, parse_payload, render_line, yaml,
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
    // No case has files, so every digest is that of nothing.
    let expression = Expression::parse(text)?;
    workflows::with_answers(|answers| expression.eval(&scope.answers(answers)), |_| Ok(String::new()))
}

#[test]
fn expressions() {
    let Some(folder) = corpus() else { return };
    let mut failures = Vec::new();
    let cases = cases(&folder, "expressions.json");
    for case in &cases {
        let id = case["id"].as_str().unwrap_or("?");
        let got = evaluate(case);
        let verdict = if ARGUED_EXPRESSIONS.iter().any(|(argued, _)| *argued == id) {
            // What GitHub does instead: its own result where the corpus has it, else a refusal.
            match (&got, case["conflict"].get("value")) {
                (Ok(value), Some(github)) if *value == to_value(github) => Ok(()),
                (Err(_), None) => Ok(()),
                _ => Err(format!("expected what GitHub gives, got {got:?}")),
            }
        } else if case.get("expect_error").is_some() {
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

/// Expressions whose peer expects something else than GitHub gives, each with the source in github.com/actions.
const ARGUED_EXPRESSIONS: &[(&str, &str)] = &[
    (
        "gitea-runner/TestInterpolate/37",
        "runner: TemplateReader.ParseScalar parses what stands between the braces alone, and refuses `1) && (2`; the peer \
         logs the error and goes on with empty text",
    ),
    (
        "gitea-runner/TestInterpolate/39",
        "runner: TemplateReader.ParseScalar adds ExpressionNotClosed; languageservices/errors-expression-not-closed of this corpus",
    ),
    (
        "act/TestFunctionContains/17",
        "runner: Index.cs turns the name into a number, which is NaN, and gives null, so nothing is contained",
    ),
    (
        "act/TestOperators/7",
        "runner: a group leaves no node in ExpressionParser.cs, so Index.cs maps [0] over the filtered array of strings",
    ),
    (
        "act/TestOperators/26",
        "runner: both properties are missing; EvaluationResult.AbstractEqual holds for null and null",
    ),
    (
        "act/TestOperators/27",
        "runner: EvaluationResult.AbstractEqual compares objects by reference, which is no error",
    ),
];

/// Files whose verdict in the corpus is not GitHub's today, or not one of a file, each with its reason.
const ARGUED_VALIDATION: &[(&str, &str)] = &[
    (
        "languageservices/errors-anchor-tag",
        "GitHub reads anchors and aliases since September 2025 (documentation: reusing workflow configurations)",
    ),
    (
        "actionlint/ok/anchors",
        "what the TypeScript parser refuses is `env: ${{ }}`, which WorkflowTemplateConverter.cs of the runner \
         accepts (ConvertToStepEnvironment), and so does the peer",
    ),
    (
        "actionlint/ok/events_with_no_config",
        "the TypeScript schema has the constant of another event in `repository-dispatch-string`; the runner's has the right one",
    ),
    (
        "actionlint/ok/issue-402-expression-in-services",
        "WorkflowTemplateConverter.cs of the runner lets an expression stand for services; the TypeScript one asserts a mapping",
    ),
    (
        "actionlint/ok/workflow_dispatch_upper_case_inputs",
        "ConvertToOnWorkflowDispatchInputTypes of the runner reads an input without settings as a string; \
         languageservices/on-workflow_dispatch-inputs holds it valid, too",
    ),
    (
        "languageservices/errors-max-job-limit-with-reusable-workflow",
        "a limit of 8 jobs is the configuration of that test's service",
    ),
    (
        "languageservices/errors-max-result-size",
        "the limit in bytes is the configuration of that test's service; the file is ordinary",
    ),
    ("languageservices/errors-reusable-workflow-max-result-size", "as above"),
    (
        "languageservices/errors-reusable-workflow-job-nested-depth-exceeded",
        "a nesting limit of 2 is the configuration of that test's service",
    ),
];

/// Places that cannot be known from the files of the case.
const ARGUED_LINES: &[(&str, usize, &str)] = &[(
    "actionlint/examples/local_action_outputs",
    15,
    "the local action is not among the case's files, so nothing is known of its outputs",
)];

#[test]
fn validation() {
    let Some(folder) = corpus() else { return };
    let cases = cases(&folder, "validation.json");
    let (mut failures, mut silent, mut lines, mut found) = (Vec::new(), Vec::new(), 0, 0);
    for case in &cases {
        let id = case["id"].as_str().unwrap_or("?");
        let tags: Vec<&str> =
            case["tags"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let expect = case["expect"].as_str().unwrap_or("");
        // Without explicit permissions of the caller the settings of its repository decide.
        let by_settings = tags.contains(&"server-only") && id.ends_with("caller-default");
        if expect == "expand" || by_settings || ARGUED_VALIDATION.iter().any(|(argued, _)| *argued == id) {
            continue;
        }
        let text =
            std::fs::read_to_string(folder.join(case["file"].as_str().expect("file"))).expect("readable");
        let source = SourceFile::new("test.yaml", &text);
        let files = CaseFiles { folder: &folder, case };
        let findings = lint(&source, &LintOptions { files: Some(&files), ..LintOptions::default() });
        let shown: Vec<String> =
            findings.iter().map(|finding| format!("    {}", render_line(finding, &source))).collect();
        let refused = findings.iter().any(Diagnostic::is_error);
        let wanted =
            case["github_parser"].as_str().map_or(expect == "invalid", |verdict| verdict == "reject");
        if refused != wanted {
            failures.push(format!(
                "{id}: should be {}\n{}",
                if wanted { "refused" } else { "accepted" },
                shown.join("\n")
            ));
        }
        let accepted_by_github = case["github_parser"] == "accept";
        for error in case["errors"].as_array().into_iter().flatten() {
            let (Some(line), kind) = (error["line"].as_u64(), error["kind"].as_str().unwrap_or("")) else {
                continue;
            };
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
                let argued = ARGUED_LINES.iter().any(|(argued, at, _)| *argued == id && *at == line);
                if accepted_by_github && !argued { failures.push(entry) } else { silent.push(entry) }
            }
        }
    }
    println!("{found} of {lines} expected places have a finding; without one:\n{}", silent.join("\n"));
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

/// One document of an expanded workflow as data, expressions left as text.
fn documents(text: &str) -> Vec<Json> {
    text.split("\n---\n")
        .map(|document| {
            let source = SourceFile::new("out.yaml", document);
            let (tree, findings) = yaml::parse(&source, yaml::Limits::default());
            assert!(findings.is_empty(), "{findings:?}");
            tree.expect("a document").to_value().to_json()
        })
        .collect()
}

#[test]
fn expansion() {
    let Some(folder) = corpus() else { return };
    for case in cases(&folder, "validation.json").iter().filter(|case| case["expect"] == "expand") {
        let read = |key: &str| {
            std::fs::read_to_string(folder.join(case[key].as_str().expect("path"))).expect("readable")
        };
        let source = SourceFile::new("in.yaml", &read("file"));
        let workflow = parse_payload(&source).value.expect("a workflow");
        let mut run =
            Run::new(workflow, RunOptions { calls_as_jobs: true, ..RunOptions::default() }).expect("a plan");
        let mut planned = Vec::new();
        while !run.is_finished() {
            for step in run.advance() {
                if let Step::Start(job) = step {
                    run.finish(job.key, JobResult::Success, Object::new());
                    planned.push(job);
                }
            }
        }
        // Gitea hands jobs out in the order of the file, legs by the text of their values.
        let order = |job: &PlannedJob| {
            let at = source.text().find(&format!("\n  {}:", job.job().id.value));
            (at, job.name.clone())
        };
        planned.sort_by_key(|job| order(job));
        let expected: Vec<(&str, &str, &str)> = case["expect_jobs"]
            .as_array()
            .expect("jobs")
            .iter()
            .map(|job| {
                let text = |key: &str| job[key].as_str().unwrap_or("");
                (text("id"), text("name"), text("runs_on"))
            })
            .collect();
        let got: Vec<(&str, &str, &str)> = planned
            .iter()
            .map(|job| (job.job().id.value.as_str(), job.name.as_str(), job.runs_on[0].as_str()))
            .collect();
        assert_eq!(got, expected, "{}", case["id"]);
        let payloads: Vec<Json> = planned.iter().flat_map(|job| documents(&job.payload())).collect();
        assert_eq!(payloads, documents(&read("out_file")), "{}", case["id"]);
    }
}
