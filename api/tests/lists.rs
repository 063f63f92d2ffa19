//! Lists: filters, pages, and the whole of a long one.

use futures_util::StreamExt;
use serde_json::Value;

use crate::contract::on_both_databases;
use crate::support::ApiBuilder;

on_both_databases!(lists_are_filtered_and_paged, a_long_list_is_complete_and_in_order);

fn ids(list: &Value) -> Vec<i64> {
    list.as_array().expect("a list").iter().filter_map(|task| task["id"].as_i64()).collect()
}

async fn lists_are_filtered_and_paged(builder: ApiBuilder) {
    let api = builder.start().await;
    let mut all = Vec::new();
    for number in 0..10 {
        let id = api.add(&format!("task {number}")).await;
        if number % 3 == 0 {
            api.send("PUT", &format!("/tasks/{id}"), r#"{"done":true}"#).await;
        }
        all.push(id);
    }
    let done: Vec<i64> = all.iter().copied().step_by(3).collect();
    for (query, expected, total) in [
        (String::new(), all.clone(), "10"),
        ("?limit=3".to_owned(), all[..3].to_vec(), "10"),
        (format!("?limit=3&after={}", all[2]), all[3..6].to_vec(), "10"),
        (format!("?after={}", all[7]), all[8..].to_vec(), "10"),
        (format!("?after={}", all[9]), vec![], "10"),
        ("?done=true".to_owned(), done.clone(), "4"),
        ("?done=true&limit=2".to_owned(), done[..2].to_vec(), "4"),
        (
            "?done=false&limit=1000".to_owned(),
            all.iter().copied().filter(|id| !done.contains(id)).collect(),
            "6",
        ),
        ("?unknown=x".to_owned(), all.clone(), "10"),
    ] {
        let answer = api.get(&format!("/tasks{query}")).await;
        assert_eq!(ids(&answer.json()), expected, "{query}");
        assert_eq!(answer.header("x-total-count"), total, "{query}");
        let head = api.ask("HEAD", &format!("/tasks{query}"), &[], "").await;
        assert_eq!((head.header("x-total-count"), head.body.len()), (total, 0));
    }
    for query in
        ["limit=0", "limit=1001", "limit=x", "after=-1", "done=1", "done=", "limit=1&limit=1", "after=%FF"]
    {
        let refused = api.get(&format!("/tasks?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.error().contains(query.split('=').next().unwrap_or_default()));
    }
}

async fn a_long_list_is_complete_and_in_order(builder: ApiBuilder) {
    let api = builder.set("LOG_LEVEL", "info,task_api::service=warn").start().await;
    let count = 1203;
    let mut added: Vec<i64> = futures_util::stream::iter(0..count)
        .map(async |number| api.add(&format!("task \"{number}\"")).await)
        .buffer_unordered(64)
        .collect()
        .await;
    added.sort_unstable();
    let list = api.get("/tasks").await;
    assert_eq!(ids(&list.json()), added);
    assert_eq!(list.header("x-total-count"), count.to_string());
    assert!(!list.headers.contains_key("content-length"), "a long list is streamed");
    // Exactly one page, and one task more than that.
    for rows in [500, 501] {
        let after = added[added.len() - 1 - rows];
        assert_eq!(ids(&api.get(&format!("/tasks?after={after}")).await.json()), added[added.len() - rows..]);
    }
    assert_eq!(api.get("/tasks?limit=1000").await.json().as_array().expect("a list").len(), 1000);
}
