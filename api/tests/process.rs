//! The program as its operator sees it: settings, secrets, health check, and how it ends.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{ApiBuilder, Client, free_port, program, skip, until};

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    (
        status.code(),
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    )
}

#[tokio::test]
async fn the_program_checks_its_own_health() {
    let mut api = ApiBuilder::sqlite().start().await;
    let port = api.address.rsplit(':').next().expect("a port").to_owned();
    for form in ["--healthcheck", "healthcheck"] {
        let (code, _, errors) = run(program(None).arg(form).env("TASKS_PORT", &port));
        assert_eq!((code, errors.as_str()), (Some(0), ""));
    }
    api.signal(Signal::TERM);
    api.ended().await;
    let (code, _, errors) = run(program(None).arg("--healthcheck").env("TASKS_PORT", &port));
    assert_eq!(code, Some(1));
    assert!(errors.contains(&format!("unhealthy: cannot ask 0.0.0.0:{port}")), "{errors}");
}

#[test]
fn settings_that_make_no_sense_are_refused_with_a_sentence() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").expect("written");
    for (variables, sentence) in [
        (vec![("DATABASE_URL", "mysql://h/d")], "DATABASE_URL: the database URL must start with postgres://"),
        (vec![("TASKS_DATABASE_URL", "sqlite:")], "must name a file"),
        (vec![("API_TOKEN", "a"), ("API_TOKEN_FILE", "/b")], "both API_TOKEN and API_TOKEN_FILE are set"),
        (vec![("API_TOKEN_FILE", "/does/not/exist")], "API_TOKEN_FILE: cannot read /does/not/exist"),
        (vec![("DATABASE_URL_FILE", empty.to_str().expect("UTF-8"))], "is empty"),
        (vec![("TASKS_PORT", "99999")], "99999"),
        (vec![("TASKS_DRAIN_DELAY", "10")], "must be smaller than TASKS_SHUTDOWN_TIMEOUT"),
        (vec![("LOG_FORMAT", "xml")], "text"),
        (vec![("LOG_LEVEL", "WARNING")], "expected error, warn, info"),
        (vec![("DATABASE_URL", "postgres://[bad/d")], "DATABASE_URL: the database URL cannot be understood"),
    ] {
        let (code, _, errors) = run(program(None).envs(variables.iter().copied()).current_dir(folder.path()));
        assert_eq!(code, Some(2), "{variables:?}: {errors}");
        assert!(errors.contains(sentence), "{variables:?}: {errors}");
    }
}

#[test]
fn the_openapi_document_can_be_printed() {
    let (code, document, _) = run(program(None).arg("openapi"));
    assert_eq!(code, Some(0));
    let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(document["info"]["title"], "task-api");
    let (code, help, _) = run(program(None).arg("--help"));
    assert_eq!(code, Some(0));
    assert!(help.contains("TASKS_DATABASE_WAIT"));
}

#[test]
fn every_variable_is_documented() {
    let (_, help, _) = run(program(None).arg("--help"));
    let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    let variables: Vec<&str> =
        variables.chain(["TASKS_DATABASE_URL", "DATABASE_URL", "API_TOKEN", "_FILE"]).collect();
    assert!(variables.len() > 10, "{variables:?}");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["README.md", "../.env.example"] {
        let text = std::fs::read_to_string(root.join(file)).expect("the file is there");
        for variable in &variables {
            assert!(text.contains(variable), "{variable} is missing in {file}");
        }
    }
}

#[tokio::test]
async fn secrets_come_from_files_and_the_longer_name_wins() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let url = file("url", &format!("sqlite://{}\n", folder.path().join("chosen.db").display()));
    let token = file("token", "from-a-file\n");
    let api = ApiBuilder::sqlite()
        .set("TASKS_DATABASE_URL", "")
        .set("TASKS_DATABASE_URL_FILE", &url)
        .set("DATABASE_URL", "mysql://never-read")
        .set("API_TOKEN_FILE", &token)
        .start()
        .await;
    assert!(folder.path().join("chosen.db").exists());
    let headers = [("content-type", "application/json"), ("authorization", "Bearer from-a-file")];
    assert_eq!(api.ask("POST", "/tasks", &headers, r#"{"title":"x"}"#).await.status, 201);
    assert_eq!(api.send("POST", "/tasks", r#"{"title":"x"}"#).await.status, 401);
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    let mut builder = ApiBuilder::sqlite();
    for variable in
        ["TASKS_POOL_SIZE", "LOG_LEVEL", "LOG_FORMAT", "TASKS_MAX_CONNECTIONS", "API_TOKEN", "DATABASE_URL"]
    {
        builder = builder.set(variable, "");
    }
    let api = builder.set("LOG_FORMAT", "json").start().await;
    assert_eq!(api.send("POST", "/tasks", r#"{"title":"x"}"#).await.status, 201);
    api.await_line(r#""message":"request""#).await;
}

#[tokio::test]
async fn without_a_url_the_tasks_are_in_the_data_folder() {
    let builder = ApiBuilder::sqlite();
    let data = builder.folder().join("deep").join("data");
    let builder = builder.set("TASKS_DATABASE_URL", "").set("TASKS_DATA_DIR", data.to_str().expect("UTF-8"));
    let mut api = builder.again().start().await;
    let id = api.add("kept").await;
    api.signal(Signal::TERM);
    assert_eq!(api.ended().await.code(), Some(0));
    assert!(data.join("tasks.db").exists());
    assert!(!data.join("tasks.db-wal").exists(), "an orderly end leaves one file");
    let api = builder.start().await;
    assert_eq!(api.get(&format!("/tasks/{id}")).await.json()["title"], "kept");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let builder = ApiBuilder::sqlite();
    let file = builder.folder().join("file");
    std::fs::write(&file, "").expect("written");
    let builder = builder
        .set("TASKS_DATABASE_URL", "")
        .set("TASKS_DATA_DIR", &file.join("below").display().to_string())
        .set("TASKS_DATABASE_WAIT", "0");
    let mut api = builder.spawn();
    assert_eq!(api.ended().await.code(), Some(1));
    api.await_line("cannot make the folder").await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port().to_string();
    let mut api = ApiBuilder::sqlite().set("TASKS_PORT", &port).spawn();
    assert_eq!(api.ended().await.code(), Some(1));
    api.await_line(&format!("cannot listen on 127.0.0.1:{port}")).await;
}

#[tokio::test]
async fn sigterm_drains_running_requests_end_and_the_exit_is_clean() {
    let mut api = ApiBuilder::sqlite().set("TASKS_DRAIN_DELAY", "1").start().await;
    let mut running = TcpStream::connect(&api.address).await.expect("connected");
    let head =
        b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n";
    running.write_all(head).await.expect("sent");
    assert_eq!(api.get("/ready").await.status, 200);
    api.signal(Signal::TERM);
    let ready = until("/ready says 503", async || {
        let answer = api.get("/ready").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!((ready.error().as_str(), ready.header("connection")), ("Serviço em encerramento", "close"));
    assert_eq!(api.send("POST", "/tasks", r#"{"title":"y"}"#).await.status, 201, "draining is not refusing");
    until("the port closes", async || TcpStream::connect(&api.address).await.err().map(drop)).await;
    running.write_all(br#"{"title":"x"}"#).await.expect("sent");
    let mut answer = String::new();
    running.read_to_string(&mut answer).await.expect("read");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(api.ended().await.code(), Some(0));
}

#[tokio::test]
async fn what_does_not_end_is_left_behind_at_the_bound_or_at_a_second_signal() {
    for second in [false, true] {
        let bound = if second { "60" } else { "1" };
        let mut api = ApiBuilder::sqlite().set("TASKS_SHUTDOWN_TIMEOUT", bound).start().await;
        let mut stuck = TcpStream::connect(&api.address).await.expect("connected");
        let head = b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{";
        stuck.write_all(head).await.expect("sent");
        assert_eq!(api.get("/health").await.status, 200);
        api.signal(Signal::INT);
        if second {
            until("the port closes", async || TcpStream::connect(&api.address).await.err().map(drop)).await;
            api.signal(Signal::TERM);
            api.await_line("second signal").await;
        } else {
            api.await_line("shutdown bound reached").await;
        }
        assert_eq!(api.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn the_program_runs_where_there_is_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        skip("an empty root folder needs root");
        return;
    }
    let root = tempfile::tempdir().expect("a scratch folder");
    let copy = root.path().join("task-api");
    std::fs::copy(env!("CARGO_BIN_EXE_task-api"), &copy).expect("copied");
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let port = free_port().to_string();
    let mut command = Command::new("chroot");
    command.arg(root.path()).arg("/task-api").env_clear().env("PATH", "/usr/sbin:/usr/bin");
    command.env("TASKS_HOST", "127.0.0.1").env("TASKS_PORT", &port).env("TASKS_DRAIN_DELAY", "0");
    let mut child = command.spawn().expect("started");
    let address = format!("127.0.0.1:{port}");
    let client = Client::new();
    let headers = [("content-type", "application/json")];
    let added = until("it serves", async || {
        client.ask(&address, "POST", "/tasks", &headers, r#"{"title":"alone"}"#).await.ok()
    })
    .await;
    assert_eq!(added.status, 201);
    child.kill().expect("still running");
    child.wait().expect("ended");
}
