//! The contract of `esteira::backend`, run against every backend there is.

mod contract;
mod counted;
pub(crate) mod docker;
mod host;
mod requests;

use std::{collections::BTreeMap, sync::Mutex};

use esteira::{
    backend::{
        Collected, ExecOutcome, ExecSpec, Exit, FileOut, JobEnv, JobSpec, Ladder, Notes, Output, Stream,
    },
    cancel::{Cancel, CancelCause},
};

/// This program.
pub(crate) const ESTEIRA: &str = env!("CARGO_BIN_EXE_esteira");

/// Keeps what a process printed.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
}

impl Kept {
    pub(crate) fn out(&self) -> &str {
        std::str::from_utf8(&self.out).expect("UTF-8")
    }

    pub(crate) fn err(&self) -> &str {
        std::str::from_utf8(&self.err).expect("UTF-8")
    }
}

impl Output for Kept {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Stdout => self.out.extend_from_slice(bytes),
            Stream::Stderr => self.err.extend_from_slice(bytes),
        }
    }
}

/// Keeps what a process printed, and cancels at its first piece.
#[derive(Debug)]
pub(crate) struct CancelAtFirst {
    pub(crate) kept: Kept,
    pub(crate) cancel: Cancel,
}

impl Output for CancelAtFirst {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        self.kept.write(stream, bytes).await;
        self.cancel.cancel(CancelCause::StepTimeout);
    }
}

/// Keeps the rows of preparation.
#[derive(Debug, Default)]
pub(crate) struct Rows(pub(crate) Mutex<Vec<String>>);

impl Notes for Rows {
    async fn note(&self, line: &str) {
        self.0.lock().expect("rows").push(line.to_owned());
    }
}

impl Rows {
    pub(crate) fn text(&self) -> String {
        self.0.lock().expect("rows").join("\n")
    }
}

/// A job of this test.
pub(crate) fn job(owner: &str, task: i64) -> JobSpec {
    JobSpec {
        name: format!("{task}-test"),
        task,
        owner: owner.to_owned(),
        repository: "alice/project".to_owned(),
        container: None,
        services: Vec::new(),
        env: BTreeMap::from([("FROM_JOB".to_owned(), "yes".to_owned())]),
        files: Vec::new(),
        bind_workspace: None,
        node: None,
    }
}

/// A shell script as a process of this place.
pub(crate) fn script<E: JobEnv>(env: &E, text: &str) -> ExecSpec {
    ExecSpec {
        argv: vec!["sh".into(), "-c".into(), text.into()],
        env: env.layout().environ.clone(),
        cwd: env.layout().workspace.clone(),
        files: Vec::new(),
        collect: Vec::new(),
        ladder: Ladder::default(),
    }
}

/// Runs a process that nobody cancels.
pub(crate) async fn run<E: JobEnv>(env: &E, spec: ExecSpec) -> (ExecOutcome, Kept) {
    let mut kept = Kept::default();
    let outcome = env.exec(spec, &mut kept, &Cancel::new()).await.expect("the place is alive");
    (outcome, kept)
}

/// Runs a script that succeeds; what it printed.
pub(crate) async fn print<E: JobEnv>(env: &E, text: &str) -> String {
    let (outcome, kept) = run(env, script(env, text)).await;
    assert_eq!(outcome.exit, Exit::Code(0), "{text}: {}", kept.err());
    kept.out().to_owned()
}

/// Asks for a file.
pub(crate) fn ask(path: impl Into<String>, limit: u64) -> FileOut {
    FileOut { path: path.into(), limit, within: None }
}

/// Content as it is collected.
pub(crate) fn content(text: &str) -> Collected {
    Collected::Content(text.to_owned().into())
}
