//! The contract, over real HTTP, the same tests on both databases.

use serde_json::{Value, json};

use crate::support::{Api, ApiBuilder};

/// Makes each function a test on SQLite and one on PostgreSQL.
macro_rules! on_both_databases {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $test() { super::$test(crate::support::ApiBuilder::sqlite()).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $test() {
                if let Some(builder) = crate::support::ApiBuilder::postgres() { super::$test(builder).await; }
            })+
        }
    };
}
pub(crate) use on_both_databases;

on_both_databases!(
    tasks_are_added_read_changed_and_deleted,
    refusals_have_their_code_and_the_texts_of_the_original,
    an_unknown_id_is_404_whatever_the_body_says,
    a_key_makes_one_task,
    a_task_written_on_one_replica_is_read_at_once_on_the_other,
    any_text_comes_back_as_it_went_in,
    a_token_guards_what_changes,
    a_key_makes_one_task_on_any_replica,
    paths_are_exact_and_known_in_every_spelling,
    a_title_is_counted_in_characters,
    probes_answer,
);

async fn tasks_are_added_read_changed_and_deleted(builder: ApiBuilder) {
    let api = builder.start().await;
    assert_eq!(api.get("/tasks").await.text(), "[]");
    let added = api.send("POST", "/tasks", r#"{"title":"  Comprar pão  ","done":true}"#).await;
    assert_eq!(added.status, 201);
    assert_eq!(added.header("content-type"), "application/json");
    let id = added.json()["id"].as_i64().expect("an id");
    assert_eq!(added.header("location"), format!("/tasks/{id}"));
    assert_eq!(added.text(), format!(r#"{{"id":{id},"title":"Comprar pão","done":false}}"#));
    let task = format!("/tasks/{id}");

    let changed = api.send("PUT", &task, r#"{"done":true}"#).await;
    assert_eq!(
        (changed.status, changed.json()),
        (200, json!({"id": id, "title": "Comprar pão", "done": true}))
    );
    let changed = api.send("PUT", &task, r#"{"title":"Comprar café","unknown":[]}"#).await;
    assert_eq!(changed.json(), json!({"id": id, "title": "Comprar café", "done": true}));
    assert_eq!(api.send("PUT", &task, "{}").await.json(), changed.json());
    assert_eq!(api.get(&task).await.json(), changed.json());
    assert_eq!(
        api.get("/tasks").await.text(),
        format!(r#"[{{"id":{id},"title":"Comprar café","done":true}}]"#)
    );

    let removed = api.ask("DELETE", &task, &[], "").await;
    assert_eq!((removed.status, removed.text()), (200, r#"{"result":true}"#));
    assert_eq!(api.ask("DELETE", &task, &[], "").await.status, 404);
    assert_eq!(api.get("/tasks").await.text(), "[]");
    assert!(api.add("another").await > id, "an id is never given twice");
}

async fn refusals_have_their_code_and_the_texts_of_the_original(builder: ApiBuilder) {
    let api = builder.start().await;
    let id = api.add("x").await;
    let one = format!("/tasks/{id}");
    let long = format!(r#"{{"title":"{}"}}"#, "a".repeat(501));
    for (method, path, body, status, portuguese, english) in [
        ("POST", "/tasks", "{}", 400, "O título é obrigatório", "The title is required"),
        ("POST", "/tasks", r#"{"title":" "}"#, 400, "O título é obrigatório", "The title is required"),
        ("POST", "/tasks", "", 400, "O título é obrigatório", "The title is required"),
        ("POST", "/tasks", r#"{"title":5}"#, 400, "Dados inválidos", "Invalid data"),
        ("POST", "/tasks", "[1]", 400, "Dados inválidos", "Invalid data"),
        ("POST", "/tasks", "{\"title\":", 400, "Dados inválidos", "Invalid data"),
        ("PUT", one.as_str(), r#"{"done":"yes"}"#, 400, "Dados inválidos", "Invalid data"),
        ("PUT", one.as_str(), r#"{"title":7}"#, 400, "Dados inválidos", "Invalid data"),
        ("PUT", one.as_str(), "7", 400, "Dados inválidos", "Invalid data"),
        ("PUT", one.as_str(), "", 400, "Dados inválidos", "Invalid data"),
        ("PUT", "/tasks/999999", "{}", 404, "Tarefa não encontrada", "Task not found"),
        ("GET", "/tasks/999999", "", 404, "Tarefa não encontrada", "Task not found"),
        ("GET", "/tasks/abc", "", 404, "Tarefa não encontrada", "Task not found"),
        ("GET", "/tasks/99999999999999999999", "", 404, "Tarefa não encontrada", "Task not found"),
        ("DELETE", "/tasks/999999", "", 404, "Tarefa não encontrada", "Task not found"),
        ("GET", "/nowhere", "", 404, "Recurso não encontrado", "Resource not found"),
        ("GET", "/tasks/1/2", "", 404, "Recurso não encontrado", "Resource not found"),
        ("PATCH", "/tasks", "{}", 405, "Método não permitido", "Method not allowed"),
        ("POST", one.as_str(), "{}", 405, "Método não permitido", "Method not allowed"),
        ("DELETE", "/health", "", 405, "Método não permitido", "Method not allowed"),
    ] {
        let headers = [("content-type", "application/json")];
        let answer = api.ask(method, path, &headers, body.to_owned()).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, portuguese), "{method} {path} {body}");
        let headers = [("content-type", "application/json"), ("accept-language", "en-GB,en;q=0.9,pt;q=0.1")];
        let answer = api.ask(method, path, &headers, body.to_owned()).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, english), "{method} {path} {body}");
    }
    assert_eq!(api.send("POST", "/tasks", "{}").await.text(), r#"{"error":"O título é obrigatório"}"#);
    let refused = api.send("POST", "/tasks", &long).await;
    assert_eq!(refused.status, 400);
    assert!(refused.error().contains("500 caracteres"));
    assert_eq!(api.send("PATCH", "/tasks", "").await.header("allow"), "GET, HEAD, OPTIONS, POST");
    let form =
        api.ask("POST", "/tasks", &[("content-type", "application/x-www-form-urlencoded")], "title=x").await;
    assert_eq!(form.status, 415);
    assert_eq!(api.ask("PUT", &one, &[], "{}").await.status, 415);
    let packed = [("content-type", "application/json"), ("content-encoding", "gzip")];
    assert_eq!(api.ask("POST", "/tasks", &packed, "{}").await.status, 415);
}

async fn an_unknown_id_is_404_whatever_the_body_says(builder: ApiBuilder) {
    let api = builder.start().await;
    assert_eq!(api.send("PUT", "/tasks/4711", r#"{"done":"maybe"}"#).await.status, 404);
}

async fn a_key_makes_one_task(builder: ApiBuilder) {
    let api = builder.start().await;
    let add = async |key: &str, title: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        api.ask("POST", "/tasks", &headers, json!({ "title": title }).to_string()).await
    };
    let answers = futures_util::future::join_all((0..20).map(|_| add("order-1", "once"))).await;
    let first = answers[0].json();
    for answer in &answers {
        assert_eq!((answer.status, answer.json()), (201, first.clone()));
    }
    api.send("PUT", &format!("/tasks/{}", first["id"]), r#"{"done":true,"title":"changed"}"#).await;
    assert_eq!(add("order-1", " once ").await.json(), first, "a repeated request gets the first answer");
    let reused = add("order-1", "something else").await;
    assert_eq!(
        (reused.status, reused.error().as_str()),
        (409, "Esta Idempotency-Key já foi usada com outro título")
    );
    assert_ne!(add("order-2", "once").await.json()["id"], first["id"]);
    assert_eq!(add("", "x").await.status, 400);
    assert_eq!(api.get("/tasks").await.json().as_array().expect("a list").len(), 2);
}

async fn a_key_makes_one_task_on_any_replica(builder: ApiBuilder) {
    let (one, other) = (builder.again().start().await, builder.start().await);
    let add = async |api: &Api, key: String, title: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        api.ask("POST", "/tasks", &headers, json!({ "title": title }).to_string()).await
    };
    for round in 0..20 {
        let key = || format!("round {round}").replace(' ', "-");
        let (first, second) =
            futures_util::future::join(add(&one, key(), "same"), add(&other, key(), "same")).await;
        assert_eq!((first.status, second.status), (201, 201), "{first:?} {second:?}");
        assert_eq!(first.json(), second.json());
        let key = || format!("conflict-{round}");
        let (first, second) =
            futures_util::future::join(add(&one, key(), "one"), add(&other, key(), "other")).await;
        let mut seen = [first.status, second.status];
        seen.sort_unstable();
        assert_eq!(seen, [201, 409], "{first:?} {second:?}");
    }
    assert_eq!(one.get("/tasks?limit=1").await.header("x-total-count"), "40");
}

async fn paths_are_exact_and_known_in_every_spelling(builder: ApiBuilder) {
    let api = builder.start().await;
    let id = api.add("x").await;
    let escaped: String = id.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    for (method, path, status) in [
        ("GET", "/%74asks".to_owned(), 200),
        ("GET", format!("/tasks/{escaped}"), 200),
        ("GET", format!("/tasks/0{id}"), 200),
        ("GET", format!("/tasks/{id}/"), 404),
        ("GET", "/tasks/".to_owned(), 404),
        ("GET", "/metrics/".to_owned(), 404),
        ("GET", "//tasks".to_owned(), 404),
        ("GET", "/tasks//1".to_owned(), 404),
        ("GET", "/tasks/%00".to_owned(), 404),
        ("GET", "/tasks/%2e%2e/tasks".to_owned(), 404),
        ("GET", "/tasks/1%2F".to_owned(), 404),
        ("GET", "/tasks/+1".to_owned(), 404),
        ("GET", "/tasks/0".to_owned(), 404),
        ("GET", "/tasks/9223372036854775807".to_owned(), 404),
        ("GET", "/tasks/9223372036854775808".to_owned(), 404),
        ("DELETE", format!("/tasks/{}", "9".repeat(5000)), 404),
        ("TRACE", "/tasks".to_owned(), 405),
        ("BREW", "/tasks".to_owned(), 405),
    ] {
        assert_eq!(api.ask(method, &path, &[], "").await.status, status, "{method} {path}");
    }
    let allowed = api.ask("OPTIONS", &format!("/tasks/{id}"), &[], "").await;
    assert_eq!((allowed.status, allowed.body.len()), (200, 0));
    assert_eq!(allowed.header("allow"), "GET, HEAD, OPTIONS, PUT, DELETE");
    assert_eq!(api.get("/tasks").await.header("cache-control"), "no-store");
}

async fn a_title_is_counted_in_characters(builder: ApiBuilder) {
    let api = builder.start().await;
    for character in ["a", "é", "漢", "🚚"] {
        for (length, status) in [(500, 201), (501, 400)] {
            let title = character.repeat(length);
            let added =
                api.send("POST", "/tasks", &json!({ "title": format!(" {title}\t") }).to_string()).await;
            assert_eq!(added.status, status, "{length} × {character}");
            if status == 201 {
                let task = api.get(added.header("location")).await;
                assert_eq!(task.json()["title"], title);
            }
        }
    }
}

async fn a_task_written_on_one_replica_is_read_at_once_on_the_other(builder: ApiBuilder) {
    let (one, other) = (builder.again().start().await, builder.start().await);
    for number in 0..50 {
        let id = one.add(&format!("task {number}")).await;
        assert_eq!(other.get(&format!("/tasks/{id}")).await.status, 200);
        let listed = other.get("/tasks").await.json();
        assert_eq!(listed.as_array().expect("a list").last().expect("a task")["id"], id);
    }
}

async fn any_text_comes_back_as_it_went_in(builder: ApiBuilder) {
    let api = builder.start().await;
    let titles = [
        r#"quotes " and \ and / and '; DROP TABLE tasks; --"#,
        "<script>alert(1)</script> & co",
        "emoji 🚚, accents çãé, العربية, 漢字",
        "line\u{2028}separator and zero\u{200b}width",
        "{}[]:,",
        "%s $1 ?1 {{title}}",
    ];
    for title in titles {
        let id = api.add(title).await;
        assert_eq!(api.get(&format!("/tasks/{id}")).await.json()["title"], title);
    }
    let listed = api.get("/tasks").await.json();
    let listed: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|task| task["title"].as_str()).collect();
    assert_eq!(listed, titles);
}

async fn a_token_guards_what_changes(builder: ApiBuilder) {
    let api = builder.set("API_TOKEN", "s3cret").start().await;
    let json = ("content-type", "application/json");
    for authorization in [None, Some("Bearer wrong"), Some("s3cret"), Some("Basic s3cret"), Some("Bearer ")] {
        let headers: Vec<_> =
            std::iter::once(json).chain(authorization.map(|value| ("authorization", value))).collect();
        for (method, path) in [("POST", "/tasks"), ("PUT", "/tasks/1"), ("DELETE", "/tasks/1")] {
            let answer = api.ask(method, path, &headers, r#"{"title":"x"}"#).await;
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, "Bearer"),
                "{authorization:?}"
            );
        }
    }
    assert_eq!(api.get("/tasks").await.text(), "[]", "reading is open, and nothing was changed");
    for scheme in ["Bearer", "bearer"] {
        let authorization = format!("{scheme} s3cret");
        let headers = [json, ("authorization", authorization.as_str())];
        assert_eq!(api.ask("POST", "/tasks", &headers, r#"{"title":"x"}"#).await.status, 201);
    }
    assert_eq!(api.get("/nowhere").await.status, 404, "an unknown path stays unknown");
    assert!(!api.log().join("\n").contains("s3cret"));
}

async fn probes_answer(builder: ApiBuilder) {
    let api = builder.start().await;
    let health = api.get("/health").await;
    assert_eq!((health.status, health.text()), (200, r#"{"status":"healthy"}"#));
    let ready = api.get("/ready").await;
    assert_eq!((ready.status, ready.text()), (200, r#"{"status":"ready"}"#));
    api.add("counted").await;
    api.get("/nowhere").await;
    let metrics = api.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    for line in [
        r#"http_requests_total{route="/tasks",method="POST",status="201"} 1"#,
        r#"http_requests_total{route="unmatched",method="GET",status="404"} 1"#,
        r#"http_request_duration_seconds_count{route="/tasks",method="POST"} 1"#,
        "http_requests_in_flight 1",
        "database_queued_writes 0",
        r#"task_api_build_info{version=""#,
        "# EOF",
    ] {
        assert!(metrics.text().contains(line), "{line} in {}", metrics.text());
    }
    let document = api.get("/openapi.json").await;
    assert_eq!(document.header("content-type"), "application/json");
    let paths: Vec<String> = document.json()["paths"].as_object().expect("paths").keys().cloned().collect();
    for path in ["/", "/health", "/metrics", "/openapi.json", "/ready", "/tasks", "/tasks/{id}"] {
        assert!(paths.contains(&path.to_owned()), "{path} in {paths:?}");
        let head = api.ask("HEAD", &path.replace("{id}", "1"), &[], "").await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
}

#[tokio::test]
async fn the_page_speaks_both_languages_and_loads_nothing_from_elsewhere() {
    let api = ApiBuilder::sqlite().start().await;
    for (accepted, tag, heading) in
        [("pt-BR", "pt-BR", "<h1>Tarefas</h1>"), ("en-US,en", "en", "<h1>Tasks</h1>")]
    {
        let page = api.ask("GET", "/", &[("accept-language", accepted)], "").await;
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("content-language"), tag);
        assert!(page.text().contains(heading));
        assert!(page.header("content-security-policy").starts_with("default-src 'none'; connect-src 'self'"));
        assert!(!page.text().contains("http://") && !page.text().contains("https://"));
    }
}

#[tokio::test]
async fn a_request_id_is_taken_or_made_and_logged() {
    let api = ApiBuilder::sqlite().start().await;
    let answer = api.ask("GET", "/tasks", &[("x-request-id", "from-the-proxy-1")], "").await;
    assert_eq!(answer.header("x-request-id"), "from-the-proxy-1");
    let line = api.await_line("from-the-proxy-1").await;
    let line: Value = serde_json::from_str(&line).expect("a JSON line");
    assert_eq!(
        (&line["method"], &line["path"], &line["status"]),
        (&json!("GET"), &json!("/tasks"), &json!(200))
    );
    let made = api.get("/tasks").await.header("x-request-id").to_owned();
    let next = api.ask("GET", "/tasks", &[("x-request-id", "not fit for a log")], "").await;
    assert!(
        !made.is_empty() && next.header("x-request-id") != made && !next.header("x-request-id").contains(' ')
    );
}

#[tokio::test]
async fn old_keys_are_forgotten_at_start() {
    let builder = ApiBuilder::sqlite();
    let file = builder.folder().join("tasks.db");
    let api = builder.again().start().await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let first = api.ask("POST", "/tasks", &headers, r#"{"title":"x"}"#).await.json();
    drop(api);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.expect("the file");
    sqlx::query("UPDATE idempotency_keys SET created_at = 0").execute(&mut connection).await.expect("aged");
    let api: Api = builder.start().await;
    crate::support::until("the old key is gone", async || {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency_keys")
            .fetch_one(&mut connection)
            .await
            .ok()?;
        (count == 0).then_some(())
    })
    .await;
    assert_ne!(api.ask("POST", "/tasks", &headers, r#"{"title":"x"}"#).await.json(), first);
}
