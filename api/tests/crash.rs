//! `kill -9` under write load: what was acknowledged is there after the next start.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::contract::on_both_databases;
use crate::support::{ApiBuilder, Client, repetitions, until};

on_both_databases!(no_acknowledged_task_is_lost_by_a_kill);

const WRITERS: usize = 8;

async fn no_acknowledged_task_is_lost_by_a_kill(builder: ApiBuilder) {
    let acknowledged: Arc<Mutex<HashMap<i64, String>>> = Arc::default();
    for round in 0..repetitions(2, 30) {
        let mut api = builder.again().set("LOG_LEVEL", "info,task_api::service=warn").start().await;
        let before = acknowledged.lock().expect("no panics").len();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (address, acknowledged) = (api.address.clone(), Arc::clone(&acknowledged));
            writers.spawn(async move {
                let client = Client::new();
                for number in 0.. {
                    let title = format!("round {round} writer {writer} task {number}");
                    let body = serde_json::json!({ "title": title }).to_string();
                    let headers = [("content-type", "application/json")];
                    let Ok(answer) = client.ask(&address, "POST", "/tasks", &headers, body).await else {
                        return;
                    };
                    assert_eq!(answer.status, 201, "{answer:?}");
                    let id = answer.json()["id"].as_i64().expect("an id");
                    acknowledged.lock().expect("no panics").insert(id, title);
                }
            });
        }
        // Another instant of the load each time.
        let enough = before + 50 + round * 13;
        until("the writers get on", async || {
            (acknowledged.lock().expect("no panics").len() >= enough).then_some(())
        })
        .await;
        api.signal(Signal::KILL);
        api.ended().await;
        while let Some(writer) = writers.join_next().await {
            writer.expect("every answer was an acknowledgement");
        }
        let api = builder.again().start().await;
        let stored = api.get("/tasks").await.json();
        let stored: HashMap<i64, &str> = stored
            .as_array()
            .expect("a list")
            .iter()
            .map(|task| (task["id"].as_i64().expect("an id"), task["title"].as_str().expect("a title")))
            .collect();
        for (id, title) in acknowledged.lock().expect("no panics").iter() {
            assert_eq!(stored.get(id), Some(&title.as_str()), "round {round}: an acknowledged task is lost");
        }
    }
}
