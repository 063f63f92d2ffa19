//! The database goes away and comes back: 503 meanwhile, nothing leaks, and it goes on by itself.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::{ApiBuilder, Client, Postgres, is_long, report, until};

/// What the load has seen.
#[derive(Debug, Default)]
struct Seen {
    over: AtomicBool,
    refused: AtomicUsize,
    acknowledged: Mutex<Vec<i64>>,
}

#[tokio::test]
async fn a_lost_database_is_503_and_comes_back_by_itself() {
    let Some(server) = Postgres::own() else { return };
    let url = server.create_database();
    let mut api = ApiBuilder::on(&url).set("LOG_LEVEL", "info,task_api::service=warn").start().await;
    let seen = Arc::new(Seen::default());
    let mut load = JoinSet::new();
    for client in 0..16 {
        load.spawn(ask_all_the_time(client, api.address.clone(), Arc::clone(&seen)));
    }
    let acknowledged = || seen.acknowledged.lock().expect("no panics").len();
    until("the load runs", async || (acknowledged() > 100).then_some(())).await;
    let (memory, descriptors) = (api.memory(), api.descriptors());

    server.stop();
    until("requests are refused", async || (seen.refused.load(Ordering::Relaxed) > 20).then_some(())).await;
    assert_eq!(api.get("/ready").await.status, 503);
    assert_eq!(api.get("/health").await.status, 200, "the process itself is well");
    let refused = api.get("/tasks").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    tokio::time::sleep(Duration::from_secs(if is_long() { 30 } else { 3 })).await;
    assert!(api.is_running());

    server.start();
    let returned = Instant::now();
    let before = acknowledged();
    until("tasks are stored again", async || (acknowledged() > before + 20).then_some(())).await;
    let recovered = returned.elapsed();
    until("it is ready again", async || (api.get("/ready").await.status == 200).then_some(())).await;
    seen.over.store(true, Ordering::Relaxed);
    while let Some(client) = load.join_next().await {
        client.expect("only 201, 200 and 503 were seen");
    }
    report(&format!(
        "outage: stored again {recovered:?} after the database's return; memory {memory} KiB before, {} KiB after",
        api.memory()
    ));
    assert!(
        api.descriptors() <= descriptors + 4,
        "{descriptors} descriptors before, {} after",
        api.descriptors()
    );
    let stored = api.get("/tasks").await.json();
    let stored: Vec<i64> =
        stored.as_array().expect("a list").iter().filter_map(|task| task["id"].as_i64()).collect();
    for id in seen.acknowledged.lock().expect("no panics").iter() {
        assert!(stored.contains(id), "the acknowledged task {id} is lost");
    }
}

async fn ask_all_the_time(number: usize, address: String, seen: Arc<Seen>) {
    let client = Client::new();
    let headers = [("content-type", "application/json")];
    while !seen.over.load(Ordering::Relaxed) {
        let answer = if number.is_multiple_of(2) {
            client.ask(&address, "POST", "/tasks", &headers, r#"{"title":"through an outage"}"#).await
        } else {
            client.ask(&address, "GET", "/tasks?limit=10", &[], "").await
        };
        let answer = answer.expect("the connection holds");
        match answer.status {
            201 => seen
                .acknowledged
                .lock()
                .expect("no panics")
                .push(answer.json()["id"].as_i64().expect("an id")),
            200 => {}
            503 => {
                seen.refused.fetch_add(1, Ordering::Relaxed);
            }
            status => panic!("answered {status}"),
        }
        // A client that takes turns with others; on two cores a busy loop would test the scheduler.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_start_waits_for_the_database() {
    let Some(server) = Postgres::own() else { return };
    let url = server.create_database();
    server.stop();
    let api = ApiBuilder::on(&url).spawn();
    api.await_line("the database is not usable yet").await;
    server.start();
    let address = api.await_listening().await;
    let ready = Client::new().ask(&address, "GET", "/ready", &[], "").await.expect("an answer");
    assert_eq!(ready.status, 200);
    assert!(!api.log().join("\n").contains("not-a-secret"), "the password stays out of the log");
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_title_is_refused_with_a_sentence() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.create_database_with(&["--encoding=LATIN1", "--template=template0"]);
    let mut api = ApiBuilder::on(&url).set("TASKS_DATABASE_WAIT", "0").spawn();
    assert_eq!(api.ended().await.code(), Some(1));
    api.await_line("the database's encoding is LATIN1; it must be UTF8").await;
}

#[tokio::test]
async fn a_start_gives_up_with_a_sentence() {
    let url = format!("postgres://someone:not-a-secret@127.0.0.1:{}/nowhere", crate::support::free_port());
    let mut api = ApiBuilder::on(&url).set("TASKS_DATABASE_WAIT", "1").spawn();
    assert_eq!(api.ended().await.code(), Some(1));
    let line = api.await_line("the database did not become usable within 1 s").await;
    assert!(!line.contains("not-a-secret"), "{line}");
}
