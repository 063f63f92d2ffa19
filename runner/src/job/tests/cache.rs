//! What the steps hear of the cache.

use super::{Story, Tale};
use crate::cache::Offer;

const STEPS: &str =
    "    - run: \"show ACTIONS_CACHE_URL\\nshow ACTIONS_RESULTS_URL\\nshow ACTIONS_CACHE_SERVICE_V2\"\n";

/// A server at `hosts`, of which those in `open` answer.
async fn offered(hosts: &[&str], open: &[&str], v2: bool) -> Story {
    let mut tale = Tale::steps(STEPS);
    tale.container = true;
    tale.fake.in_container = true;
    tale.fake.open = open.iter().map(|host| (*host).to_owned()).collect();
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    tale.parts.cache = Offer::Here { hosts, port: 8088, v2, guess: true };
    let table = "Iface Destination Gateway\neth0 00000000 010011AC 0003\n";
    tale.with_file("/proc/net/route", table).tell().await
}

#[tokio::test]
async fn the_first_address_that_answers_is_told() {
    let story = offered(&["10.0.0.1", "10.0.0.2"], &["10.0.0.2"], true).await;
    assert!(story.says("ACTIONS_CACHE_URL=http://10.0.0.2:8088/"), "{:?}", story.lines);
    assert!(story.says("ACTIONS_RESULTS_URL=http://10.0.0.2:8088"));
    assert!(story.says("ACTIONS_CACHE_SERVICE_V2=true"));
    assert!(!story.mentions("##[warning]"));
}

#[tokio::test]
async fn without_version_2_the_results_service_stays_the_servers() {
    let story = offered(&["10.0.0.1"], &["10.0.0.1"], false).await;
    assert!(story.says("ACTIONS_CACHE_URL=http://10.0.0.1:8088/"), "{:?}", story.lines);
    assert!(story.says("ACTIONS_RESULTS_URL=(unset)") && story.says("ACTIONS_CACHE_SERVICE_V2=(unset)"));
}

#[tokio::test]
#[cfg(target_endian = "little")]
async fn the_way_out_of_the_container_is_tried_too() {
    let story = offered(&["10.0.0.1"], &["172.17.0.1"], true).await;
    assert!(story.says("ACTIONS_CACHE_URL=http://172.17.0.1:8088/"), "{:?}", story.lines);
    let done = story.fake.done.lock().unwrap();
    let calls: Vec<&String> = done.iter().filter(|line| line.starts_with("call")).collect();
    assert_eq!(calls, ["call 10.0.0.1:8088", "call 172.17.0.1:8088"]);
}

#[tokio::test]
async fn a_job_that_reaches_none_is_told_so_once_and_goes_on() {
    let story = offered(&["10.0.0.1"], &[], true).await;
    let warnings: Vec<_> = story.lines.iter().filter(|line| line.contains("##[warning]")).collect();
    assert!(matches!(warnings.as_slice(), [one] if one.contains("cache.host")), "{warnings:?}");
    assert!(story.says("ACTIONS_CACHE_URL=(unset)") && story.says("ACTIONS_CACHE_SERVICE_V2=(unset)"));
}

#[tokio::test]
async fn a_name_is_taken_as_it_is_and_a_server_elsewhere_too() {
    let story = offered(&["cache.example"], &[], true).await;
    assert!(story.says("ACTIONS_CACHE_URL=http://cache.example:8088/"), "{:?}", story.lines);
    let mut tale = Tale::steps(STEPS);
    tale.parts.cache = Offer::There {
        url: "https://cache.example/x".into(),
        results: Some("https://cache.example/x".into()),
    };
    let story = tale.tell().await;
    assert!(story.says("ACTIONS_CACHE_URL=https://cache.example/x/"), "{:?}", story.lines);
    assert!(story.says("ACTIONS_RESULTS_URL=https://cache.example/x"));
}

#[tokio::test]
async fn a_cache_that_there_is_not_is_a_warning_with_its_reason() {
    let mut tale = Tale::steps(STEPS);
    tale.parts.cache = Offer::Unavailable("the port is taken".into());
    let story = tale.tell().await;
    assert!(story.mentions("There is no cache for this job: the port is taken"), "{:?}", story.lines);
}
