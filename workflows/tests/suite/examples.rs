//! The example workflows: every one is without any finding, says what it shows, and can be planned.

use std::path::Path;

use workflows::plan::{JobResult, Run, RunOptions, Step, WorkflowReference};
use workflows::{Colour, FileKind, Files, LintOptions, Object, SourceFile, lint, parse_payload, render};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn sources() -> Vec<SourceFile> {
    let mut paths: Vec<_> = std::fs::read_dir(folder())
        .expect("the examples")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            SourceFile::new(&name, &std::fs::read_to_string(path).expect("readable"))
        })
        .collect()
}

/// The folder of examples stands for `.gitea/workflows`.
struct Beside;

impl Files for Beside {
    fn workflow(&self, reference: &WorkflowReference) -> Option<SourceFile> {
        let WorkflowReference::Local { path } = reference else { return None };
        let name = path.rsplit('/').next()?;
        Some(SourceFile::new(name, &std::fs::read_to_string(folder().join(name)).ok()?))
    }
    fn action(&self, path: &str) -> Option<SourceFile> {
        let text = std::fs::read_to_string(folder().join(path).join("action.yml")).ok()?;
        Some(SourceFile::new("action.yml", &text))
    }
    fn is_complete(&self) -> bool {
        true
    }
}

#[test]
fn examples_have_no_findings() {
    let sources = sources();
    assert!(sources.len() >= 12, "a dozen examples, found {}", sources.len());
    let mut sources: Vec<(SourceFile, FileKind)> =
        sources.into_iter().map(|source| (source, FileKind::Workflow)).collect();
    let action = Beside.action("greet").expect("the composite action");
    sources.push((action, FileKind::Action));
    for (source, kind) in sources {
        assert!(source.text().starts_with("# "), "{} says first what it shows", source.name());
        let options = LintOptions { kind, files: Some(&Beside), ..LintOptions::default() };
        let findings: Vec<String> =
            lint(&source, &options).iter().map(|finding| render(finding, &source, Colour::Never)).collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}

#[test]
fn examples_can_be_planned_to_their_end() {
    for source in sources() {
        let workflow = parse_payload(&source).into_result().expect("a workflow that can be run");
        let name = source.name().to_owned();
        let inputs =
            serde_json::json!({"environment": "staging", "version": "1", "dry-run": true, "replicas": 2});
        let options = RunOptions {
            inputs: inputs.into(),
            secrets: serde_json::json!({"DEPLOY_KEY": "k"}).into(),
            ..RunOptions::default()
        };
        let mut run = Run::new(workflow, options).expect("a plan");
        let mut started = 0;
        while !run.is_finished() {
            for step in run.advance() {
                match step {
                    Step::Start(job) => {
                        started += 1;
                        let outputs: Object =
                            [("shards", "[1, 2]"), ("version", "1"), ("image", "i")].into_iter().collect();
                        run.finish(job.key, JobResult::Success, outputs);
                    }
                    Step::Fetch(request) => {
                        let found = Beside.workflow(&request.reference).expect("a file beside");
                        run.answer(
                            &request,
                            parse_payload(&found).into_result().map_err(|_| "broken".to_owned()),
                        );
                    }
                    Step::Failed { name: job, message, .. } => panic!("{name}: {job}: {message}"),
                    Step::Skipped { .. } | Step::Cancel(_) => {}
                }
            }
        }
        assert!(started > 0 || name == "deploy.yml", "{name} starts nothing");
    }
}
