//! A database that is slow, not gone: requests take longer, and none fails. And what was refused does not happen later.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use sqlx::Connection;

use crate::support::{ApiBuilder, Client, Postgres, Wire};

/// A service behind a wire to a fresh PostgreSQL database.
async fn behind_a_wire() -> Option<(Wire, ApiBuilder)> {
    let server = Postgres::shared()?;
    let url = server.create_database();
    let wire = Wire::to(server.port()).await;
    let builder = ApiBuilder::on(&url.replace(&server.port().to_string(), &wire.port.to_string()));
    Some((wire, builder))
}

#[tokio::test]
async fn the_first_requests_find_connections_made() {
    let Some((wire, builder)) = behind_a_wire().await else { return };
    let api = builder.start().await;
    wire.connect_after(Duration::from_secs(60));
    let asked = join_all((0..40).map(|_| api.add("first")));
    assert_eq!(asked.await.len(), 40);
}

#[tokio::test]
async fn a_connection_that_is_made_slowly_delays_a_request_and_fails_none() {
    let Some((wire, builder)) = behind_a_wire().await else { return };
    let api = builder.start().await;
    let id = api.add("x").await;
    // What no request can know: every connection has died while it rested, and a new one takes its time.
    wire.connect_after(Duration::from_millis(1500));
    wire.cut();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let removed = api.ask("DELETE", &format!("/tasks/{id}"), &[], "").await;
    assert_eq!((removed.status, removed.text()), (200, r#"{"result":true}"#));
    assert_eq!(api.get("/tasks").await.text(), "[]");
}

#[tokio::test]
async fn many_slow_changes_at_once_are_all_made() {
    let Some((wire, builder)) = behind_a_wire().await else { return };
    let api = builder.start().await;
    let ids: Vec<i64> =
        futures_util::stream::iter(0..60).map(|_| api.add("x")).buffer_unordered(20).collect().await;
    wire.answer_after(Duration::from_millis(100));
    let removals =
        join_all(ids.iter().map(async |id| api.ask("DELETE", &format!("/tasks/{id}"), &[], "").await.status));
    assert!(removals.await.iter().all(|status| *status == 200));
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_done() {
    let builder = ApiBuilder::sqlite();
    let api = builder.again().start().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(builder.folder().join("tasks.db"));
    let mut other = sqlx::SqliteConnection::connect_with(&options).await.expect("the file");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("the only writer");
    let add = async |title: &str| {
        let headers = [("content-type", "application/json")];
        let body = serde_json::json!({ "title": title }).to_string();
        Client::new().ask(&api.address, "POST", "/tasks", &headers, body).await
    };
    let first = add("first");
    let then = async {
        // The first is at the database by now, and this one waits behind it until its client gives up.
        let gone = tokio::time::timeout(Duration::from_millis(700), add("given up")).await;
        assert!(gone.is_err(), "{gone:?}");
        sqlx::query("COMMIT").execute(&mut other).await.expect("out of the way");
    };
    let (first, ()) = futures_util::join!(first, then);
    assert_eq!(first.expect("an answer").status, 201);
    api.add("last").await;
    let stored = api.get("/tasks").await.json();
    let titles: Vec<&str> =
        stored.as_array().expect("a list").iter().filter_map(|task| task["title"].as_str()).collect();
    assert_eq!(titles, ["first", "last"]);
}

#[tokio::test]
async fn a_database_that_prescribes_another_isolation_is_used_all_the_same() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.create_database();
    let name = url.rsplit('/').next().expect("a name");
    let mut connection = sqlx::PgConnection::connect(&url).await.expect("connected");
    let prescribe = format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'");
    sqlx::query(sqlx::AssertSqlSafe(prescribe)).execute(&mut connection).await.expect("prescribed");
    let builder = ApiBuilder::on(&url);
    let (one, other) = (builder.again().start().await, builder.start().await);
    let task = format!("/tasks/{}", one.add("x").await);
    for round in 0..20 {
        let key = format!("key-{round}");
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let asked = [&one, &other].map(async |api| {
            let changed = api.send("PUT", &task, r#"{"done":true}"#);
            let added = api.ask("POST", "/tasks", &headers, r#"{"title":"once"}"#);
            let (changed, added) = futures_util::join!(changed, added);
            (changed.status, added.status)
        });
        assert_eq!(join_all(asked).await, [(200, 201), (200, 201)]);
    }
}
