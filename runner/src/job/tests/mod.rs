//! Whole jobs in a place of memory: order, results, cancellation, scopes.

mod actions;
mod cache;
mod cancel;
mod fake;
mod steps;

use std::{collections::BTreeMap, sync::Arc};

use workflows::{Object, SourceFile, Value, parse_payload};

use self::fake::Fake;
use super::{Backends, run};
use crate::{
    action::{ActionStore, GitNetwork, StoreOptions},
    assignment::{Assignment, Parts, RunnerFacts},
    cancel::Cancel,
    label::{Label, Placement},
    report::{Conclusion, JobEvent, JobReport, Sink},
    secret::Secret,
};

/// What came out of a job.
struct Story {
    report: JobReport,
    /// Rows, and `> 0` and `< 0 success` around the rows of a step.
    lines: Vec<String>,
    summaries: BTreeMap<usize, String>,
    fake: Fake,
}

impl Story {
    /// The lines without what the runner says about itself.
    fn output(&self) -> Vec<&str> {
        let mut folded = false;
        let mut kept = Vec::new();
        for line in &self.lines {
            folded |= line.starts_with("##[group]");
            let usual = ["esteira", "Complete job name", "Cleaning up", "Job ", "Prepare all"];
            if !folded && !usual.iter().any(|start| line.starts_with(start)) {
                kept.push(line.as_str());
            }
            folded &= line != "##[endgroup]";
        }
        kept
    }

    /// Whether a line is there.
    fn says(&self, line: &str) -> bool {
        self.lines.iter().any(|found| found == line)
    }

    /// Whether a line holds these words.
    fn mentions(&self, words: &str) -> bool {
        self.lines.iter().any(|found| found.contains(words))
    }
}

/// A job to be told.
struct Tale {
    workflow: String,
    parts: Parts,
    fake: Fake,
    cancel: Cancel,
    container: bool,
}

impl Tale {
    /// A job with these keys (indented by four).
    fn job(keys: &str) -> Self {
        Self {
            workflow: format!("on: push\nenv: {{LEVEL: workflow}}\njobs:\n  job:\n    runs-on: here\n{keys}"),
            parts: Parts::default(),
            fake: Fake::default(),
            cancel: Cancel::new(),
            container: false,
        }
    }

    /// A job with these steps.
    fn steps(steps: &str) -> Self {
        Self::job(&format!("    steps:\n{steps}"))
    }

    /// A file that is in the place.
    fn with_file(self, path: &str, text: &str) -> Self {
        self.fake.files.lock().unwrap().insert(path.to_owned(), text.to_owned());
        self
    }

    fn with_secret(mut self, name: &str, value: &str) -> Self {
        self.parts.secrets.push((name.to_owned(), Secret::new(value.to_owned())));
        self
    }

    async fn tell(mut self) -> Story {
        let source = SourceFile::new("test.yml", &self.workflow);
        let workflow = parse_payload(&source).into_result().unwrap_or_else(|found| panic!("{found:?}"));
        let mut github = Object::new();
        github.insert("repository", "o/r");
        github.insert("sha", "abc");
        github.insert("event", Value::from_json(&serde_json::json!({"n": 1})));
        self.parts.github = github;
        let placement = if self.container { Placement::Docker("image".into()) } else { Placement::Host };
        let runner = RunnerFacts {
            name: "esteira-test".into(),
            labels: vec![Label::new("here", placement)],
            ..RunnerFacts::default()
        };
        let work = Assignment::new(self.parts, Arc::new(workflow), 0, Arc::new(runner));
        let folder = tempfile::tempdir().unwrap();
        let store =
            ActionStore::open(folder.path().to_owned(), StoreOptions::default(), GitNetwork::default())
                .unwrap();
        let backends = Backends { host: self.fake.clone(), docker: Ok(self.fake.clone()) };
        let (sink, mut events) = Sink::new(self.cancel.clone());
        let mut lines = Vec::new();
        let mut summaries = BTreeMap::new();
        let job = async {
            let report = run(&work, &backends, &store, &sink).await;
            drop(sink);
            report
        };
        let listen = async {
            while let Some(event) = events.recv().await {
                match event {
                    JobEvent::Rows(rows) => lines.extend(rows.into_iter().map(|row| row.text.into_string())),
                    JobEvent::StepStarted { index, .. } => lines.push(format!("> {index}")),
                    JobEvent::StepFinished { index, conclusion, .. } => {
                        lines.push(format!("< {index} {}", conclusion.as_str()));
                    }
                    JobEvent::Summary { index, markdown } => {
                        summaries.insert(index, markdown.into_string());
                    }
                    JobEvent::Started { .. } | JobEvent::Finished(_) => {}
                }
            }
        };
        let (report, ()) = tokio::join!(job, listen);
        Story { report, lines, summaries, fake: self.fake }
    }
}

#[tokio::test]
async fn a_label_that_nobody_has_is_a_sentence() {
    let mut tale = Tale::steps("    - run: print x\n");
    tale.workflow = tale.workflow.replace("runs-on: here", "runs-on: [elsewhere]");
    let story = tale.tell().await;
    assert_eq!(story.report.conclusion, Conclusion::Failure);
    assert!(story.mentions("runs-on: elsewhere"), "{:?}", story.lines);
    assert!(story.fake.done.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_jobs_if_decides_before_anything_is_prepared() {
    let mut tale = Tale::job("    if: needs.a.result == 'success'\n    steps: [{run: print x}]\n");
    tale.parts
        .needs
        .push(("a".into(), crate::assignment::Need { result: "failure".into(), ..Default::default() }));
    let story = tale.tell().await;
    assert_eq!(story.report.conclusion, Conclusion::Skipped);
    assert!(story.fake.done.lock().unwrap().is_empty());
}
