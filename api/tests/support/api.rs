//! The program as a process, and a client for it.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::{Connection, Executor};
use tempfile::TempDir;

use super::{Postgres, until};

/// The program under test, or another one, with a clean environment.
pub(crate) fn program(other: Option<&OsStr>) -> Command {
    let mut command = Command::new(other.unwrap_or(OsStr::new(env!("CARGO_BIN_EXE_task-api"))));
    command.env_clear();
    // Where a build that counts covered lines writes its counters.
    if let Some(file) = std::env::var_os("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", file);
    }
    command
}

/// How a service is to be started.
#[derive(Debug)]
pub(crate) struct ApiBuilder {
    program: Option<OsString>,
    variables: Vec<(String, String)>,
    scratch: Option<Arc<TempDir>>,
}

impl ApiBuilder {
    /// On a SQLite file in a fresh folder.
    pub(crate) fn sqlite() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let file = scratch.path().join("tasks.db");
        let builder = Self { program: None, variables: Vec::new(), scratch: Some(Arc::new(scratch)) };
        builder.set("TASKS_DATABASE_URL", &format!("sqlite://{}", file.display()))
    }

    /// On a fresh database of a PostgreSQL server, if there is one.
    pub(crate) fn postgres() -> Option<Self> {
        Some(Self::on(&Postgres::shared()?.create_database()))
    }

    /// On the database of this URL.
    pub(crate) fn on(url: &str) -> Self {
        Self { program: None, variables: Vec::new(), scratch: None }.set("TASKS_DATABASE_URL", url)
    }

    /// Sets a variable of its environment.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another replica on the same database.
    pub(crate) fn again(&self) -> Self {
        Self {
            program: self.program.clone(),
            variables: self.variables.clone(),
            scratch: self.scratch.clone(),
        }
    }

    /// Another program than the one under test.
    pub(crate) fn program(mut self, program: &OsStr) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Changes the database behind the service's back.
    pub(crate) async fn execute(&self, statement: &'static str) {
        let url = self.variables.iter().find(|(name, _)| name == "TASKS_DATABASE_URL");
        let url = &url.expect("a database").1;
        let done = if self.is_sqlite() {
            let mut connection = sqlx::SqliteConnection::connect(url).await.expect("connected");
            connection.execute(statement).await.map(drop)
        } else {
            let mut connection = sqlx::PgConnection::connect(url).await.expect("connected");
            connection.execute(statement).await.map(drop)
        };
        done.expect("changed");
    }

    /// Whether it is on a SQLite file of its own.
    pub(crate) fn is_sqlite(&self) -> bool {
        self.scratch.is_some()
    }

    /// The folder of the SQLite file.
    pub(crate) fn folder(&self) -> PathBuf {
        self.scratch.as_ref().expect("a service on SQLite").path().to_owned()
    }

    /// Starts it without waiting.
    pub(crate) fn spawn(self) -> Api {
        let mut command = program(self.program.as_deref());
        command
            .env("TASKS_HOST", "127.0.0.1")
            .env("TASKS_PORT", "0")
            .env("TASKS_DRAIN_DELAY", "0")
            .env("LOG_FORMAT", "json")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let seen = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                seen.lock().expect("no reader panics").push(line);
            }
        });
        Api { child, lines, address: String::new(), client: Client::new(), _scratch: self.scratch }
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(self) -> Api {
        let mut api = self.spawn();
        api.address = api.await_listening().await;
        api
    }
}

/// A running service. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Api {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// `host:port`
    pub(crate) address: String,
    client: Client,
    _scratch: Option<Arc<TempDir>>,
}

impl Api {
    /// Waits for the line that names the address.
    pub(crate) async fn await_listening(&self) -> String {
        let line = self.await_line("listening on http://").await;
        let message: Value = serde_json::from_str(&line).expect("a JSON line");
        let message = message["message"].as_str().expect("a message").to_owned();
        message.rsplit_once("http://").expect("an address").1.to_owned()
    }

    /// Waits for a log line that contains `text`.
    pub(crate) async fn await_line(&self, text: &str) -> String {
        until(&format!("a line with {text:?} in {:#?}", self.log()), async || {
            self.log().into_iter().find(|line| line.contains(text))
        })
        .await
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lines.lock().expect("no writer panics").clone()
    }

    /// Asks, and expects an answer that the OpenAPI document knows.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.client.ask(&self.address, method, path, headers, body).await.expect("an answer")
    }

    /// GET
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    /// Any method with a JSON body.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask(method, path, &[("content-type", "application/json")], body.to_owned()).await
    }

    /// Adds a task and gives its id.
    pub(crate) async fn add(&self, title: &str) -> i64 {
        let answer = self.send("POST", "/tasks", &serde_json::json!({ "title": title }).to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_i64().expect("an id")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the program ends", async || child.try_wait().expect("it can be waited for")).await
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_none()
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(Path::new("/proc").join(self.child.id().to_string()).join("fd"))
            .expect("its files")
            .count()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        // An orderly end writes what a build for coverage has counted; a test that hangs it up has its reasons.
        self.signal(Signal::INT);
        let asked = Instant::now();
        while self.is_running() && asked.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON, not {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{name} in {self:?}")).to_str().expect("ascii")
    }

    pub(crate) fn error(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json");
        self.json()["error"].as_str().unwrap_or_else(|| panic!("an error in {self:?}")).to_owned()
    }
}

/// A client with connections that live on.
#[derive(Clone, Debug)]
pub(crate) struct Client(legacy::Client<HttpConnector, Full<Bytes>>);

impl Client {
    pub(crate) fn new() -> Self {
        Self(legacy::Client::builder(TokioExecutor::new()).build_http())
    }

    /// Asks once; an error is a connection that failed.
    pub(crate) async fn ask(
        &self,
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let response = self.0.request(request).await.map_err(|error| format!("{error:?}"))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
        assert_documented(method, path, parts.status.as_u16());
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

/// Holds an answer against the OpenAPI document: a path and method that it names must name the status too.
fn assert_documented(method: &str, path: &str, status: u16) {
    static DOCUMENT: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
    let document = DOCUMENT
        .get_or_init(|| serde_json::from_str(&task_api::openapi_document()).expect("a JSON document"));
    let path = path.split('?').next().unwrap_or(path);
    let path = match path.strip_prefix("/tasks/") {
        Some(id) if !id.contains('/') => "/tasks/{id}",
        _ => path,
    };
    let operation = &document["paths"][path][method.to_lowercase()];
    if operation.is_object() {
        let documented = &operation["responses"][status.to_string()];
        assert!(
            documented.is_object(),
            "{method} {path} answered {status}, which the document does not know"
        );
    }
}
