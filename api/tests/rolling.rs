//! What a rolling update does to clients: nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::contract::on_both_databases;
use crate::support::{Api, ApiBuilder, Proxy, repetitions, report, until};

on_both_databases!(
    replicas_that_start_together_share_an_empty_database,
    a_schema_of_another_release_is_served
);

async fn replicas_that_start_together_share_an_empty_database(builder: ApiBuilder) {
    let is_sqlite = builder.is_sqlite();
    for round in 0..repetitions(3, 50) {
        let builder = match (round, is_sqlite) {
            (0, _) => builder.again(),
            (_, true) => ApiBuilder::sqlite(),
            (_, false) => ApiBuilder::postgres().expect("the server is still there"),
        };
        let (mut one, mut other) = (builder.again().spawn(), builder.spawn());
        let (first, second) =
            futures_util::future::join(one.await_listening(), other.await_listening()).await;
        (one.address, other.address) = (first, second);
        let id = one.add("seen by both").await;
        assert_eq!(other.get(&format!("/tasks/{id}")).await.status, 200);
        for replica in [&mut one, &mut other] {
            assert!(replica.is_running());
            let errors = replica.log().into_iter().filter(|line| line.contains(r#""level":"ERROR""#)).count();
            assert_eq!(errors, 0, "{:#?}", replica.log());
        }
    }
}

/// Brought up to date from the release before, and left alone where a later release has been.
async fn a_schema_of_another_release_is_served(builder: ApiBuilder) {
    let statements = async |statements: &[&'static str]| {
        for statement in statements {
            builder.execute(statement).await;
        }
    };
    let api = builder.again().start().await;
    let id = api.add("kept").await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let first = api.ask("POST", "/tasks", &headers, r#"{"title":"once"}"#).await.json();
    statements(&["DROP INDEX idempotency_keys_by_age", "DELETE FROM schema_version WHERE version > 1"]).await;
    let updated = builder.again().start().await;
    statements(&["DROP INDEX idempotency_keys_by_age", "INSERT INTO schema_version VALUES (99)"]).await;
    let ahead = builder.again().start().await;
    for replica in [&updated, &ahead, &api] {
        assert_eq!(replica.get(&format!("/tasks/{id}")).await.json()["title"], "kept");
        assert_eq!(replica.ask("POST", "/tasks", &headers, r#"{"title":"once"}"#).await.json(), first);
        replica.add("more").await;
    }
}

#[derive(Debug, Default)]
struct Tally {
    over: AtomicBool,
    answered: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_of_both_replicas_fails_no_request() {
    let Some(builder) = ApiBuilder::postgres() else { return };
    let builder = builder.set("TASKS_DRAIN_DELAY", "1").set("LOG_LEVEL", "info,task_api::service=warn");
    let proxy = Arc::new(Proxy::new());
    // The program of the release before, where there is one; else both releases are this one.
    let before = std::env::var_os("TASK_API_BEFORE");
    let old = || before.iter().fold(builder.again(), |builder, program| builder.program(program));
    let mut old = vec![old().start().await, old().start().await];
    for api in &old {
        proxy.add(&api.address);
    }
    until("both old replicas are ready", async || (proxy.ready().len() == 2).then_some(())).await;

    let tally = Arc::new(Tally::default());
    let mut load = JoinSet::new();
    for client in 0..9 {
        load.spawn(ask_all_the_time(client, Arc::clone(&proxy), Arc::clone(&tally)));
    }
    until("the load runs", async || (tally.answered.load(Ordering::Relaxed) > 200).then_some(())).await;
    // Swarm's start-first, one replica after the other: the new one is ready before the old one is told to end.
    for _ in 0..repetitions(1, 10) {
        let mut new: Vec<Api> = Vec::new();
        for mut api in old.drain(..) {
            let replica = builder.again().start().await;
            proxy.add(&replica.address);
            until("the new replica is ready", async || {
                proxy.ready().contains(&replica.address).then_some(())
            })
            .await;
            new.push(replica);
            api.signal(Signal::TERM);
            assert_eq!(api.ended().await.code(), Some(0));
            assert!(api.log().iter().any(|line| line.contains("all requests ended")), "{:#?}", api.log());
        }
        old = new;
    }
    let before = tally.answered.load(Ordering::Relaxed);
    until("the new replicas serve", async || {
        (tally.answered.load(Ordering::Relaxed) > before + 200).then_some(())
    })
    .await;
    tally.over.store(true, Ordering::Relaxed);
    while let Some(client) = load.join_next().await {
        client.expect("no request failed");
    }
    report(&format!("rolling update: {} requests, 0 failed", tally.answered.load(Ordering::Relaxed)));
}

async fn ask_all_the_time(number: usize, proxy: Arc<Proxy>, tally: Arc<Tally>) {
    let ask = async |method: &str, path: &str, body: &'static str, expected: u16| {
        let answer =
            proxy.ask(method, path, body.into()).await.unwrap_or_else(|error| panic!("{method}: {error}"));
        assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
        tally.answered.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
        answer
    };
    while !tally.over.load(Ordering::Relaxed) {
        if number.is_multiple_of(3) {
            // A task's whole life, on whichever replica each request meets.
            let added = ask("POST", "/tasks", r#"{"title":"during the update"}"#, 201).await;
            let path = added.header("location").to_owned();
            ask("PUT", &path, r#"{"done":true}"#, 200).await;
            assert_eq!(ask("GET", &path, "", 200).await.json()["done"], true);
            ask("DELETE", &path, "", 200).await;
        } else {
            ask("GET", "/tasks?limit=20", "", 200).await;
        }
    }
}
