//! What one job saves, the next one restores; and a cache server of its own.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use rustix::process::Signal;
use tests::{
    gitea::{FakeGitea, Push, Status},
    runner::{Home, Process, within},
};

use crate::{host_with, push_steps};

/// Saves `hello` under `story-1` by the first version of the protocol.
const SAVE: &str = r#"    - run: |
        set -e
        base="${ACTIONS_CACHE_URL}_apis/artifactcache"
        call() { curl -sSf -H "Authorization: Bearer $ACTIONS_RUNTIME_TOKEN" -H 'Content-Type: application/json' "$@"; }
        id=$(call -d '{"key":"story-1","version":"v","cacheSize":5}' "$base/caches" | tr -dc 0-9)
        call -X PATCH -H 'Content-Range: bytes 0-4/*' --data-binary hello "$base/caches/$id"
        call -d '{"size":5}' "$base/caches/$id"
        echo "saved at port=$(echo "$base" | sed 's/.*:\([0-9]*\).*/\1/')"
"#;

/// Restores it by the second one.
const RESTORE: &str = r#"    - run: |
        set -e
        test "$ACTIONS_CACHE_SERVICE_V2" = true
        found=$(curl -sSf -H "Authorization: Bearer $ACTIONS_RUNTIME_TOKEN" -H 'Content-Type: application/json' \
          -d '{"key":"none","restore_keys":["story-"],"version":"v"}' \
          "$ACTIONS_RESULTS_URL/twirp/github.actions.results.api.v1.CacheService/GetCacheEntryDownloadURL")
        url=$(echo "$found" | sed 's/.*"signed_download_url":"\([^"]*\)".*/\1/')
        echo "restored $(curl -sSf "$url")"
"#;

/// One request; its status and the whole answer.
fn http(port: u16, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer)
}

/// The number behind the last `mark` in a text.
fn number(text: &str, mark: &str) -> Option<u64> {
    let digits: String = text.rsplit_once(mark)?.1.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn port(text: &str, mark: &str) -> Option<u16> {
    number(text, mark)?.try_into().ok()
}

#[test]
fn a_second_job_restores_what_the_first_has_saved() {
    let config = "cache:\n  dir: cache\n";
    let (gitea, home, _daemon) = host_with(FakeGitea::start(), Home::new(), config);
    let saved = gitea.finished(60, &push_steps(&gitea, SAVE));
    assert_eq!(saved.status, Status::Success, "{:#?}", saved.lines());
    let restored = gitea.finished(60, &push_steps(&gitea, RESTORE));
    assert_eq!(restored.status, Status::Success, "{:#?}", restored.lines());
    assert!(restored.lines().contains(&"restored hello"), "{:#?}", restored.lines());
    // The job is over, and its token opens nothing any more.
    let port = port(&saved.lines().join("\n"), "port=").expect("the job told the port");
    let header = format!("authorization: Bearer {}\r\n", saved.runtime_token);
    let (status, _) = http(port, "GET", "/_apis/artifactcache/cache?keys=story-1&version=v", &header, "");
    assert_eq!(status, 401);
    assert!(home.path().join("cache/index.redb").exists());
}

#[test]
fn a_job_without_a_cache_knows_why_and_runs() {
    let home = Home::new();
    home.write("file", "in the way");
    let (gitea, _home, _daemon) = host_with(FakeGitea::start(), home, "cache:\n  dir: file\n");
    let task = gitea.finished(60, &push_steps(&gitea, "    - run: echo \"url=[$ACTIONS_CACHE_URL]\"\n"));
    assert_eq!(task.status, Status::Success);
    assert!(task.lines().contains(&"url=[]"), "{:#?}", task.lines());
    assert!(task.says("There is no cache for this job"), "{:#?}", task.lines());
}

/// A cache server in `home`, and its port.
fn cache_server(home: &Home, name: &str) -> (Process, u16) {
    let process = home.start(name, &["cache-server", "--config", "cache.yaml", "--dir", "cache"]);
    let look = || port(&process.stderr(), "http://0.0.0.0:");
    let port = within(30, "the cache server tells its port", look, || process.text());
    (process, port)
}

const RUNNER: &str = "authorization: Bearer hunter2\r\n";
const JOB: &str = "authorization: Bearer of-a-job\r\n";

/// A job of `o/r` whose token is `of-a-job`.
fn register(port: u16) {
    let body = r#"{"token":"of-a-job","repo":"o/r","results":"","insecure_tls":false,"public_url":""}"#;
    let (status, answer) = http(port, "POST", "/_internal/register", RUNNER, body);
    assert_eq!(status, 200, "{answer}");
}

fn reserve(port: u16, key: &str) -> u64 {
    let body = format!(r#"{{"key":"{key}","version":"v"}}"#);
    let (_, answer) = http(port, "POST", "/_apis/artifactcache/caches", JOB, &body);
    number(&answer, "\"cacheId\":").expect("an id")
}

#[test]
fn a_cache_server_that_is_killed_in_the_middle_of_an_upload_has_everything_that_was_whole() {
    let home = Home::new();
    home.write("cache.yaml", "cache:\n  external_secret: hunter2\n");
    let (mut server, port) = cache_server(&home, "first");
    register(port);
    let base = "/_apis/artifactcache";
    let range = |range: &str| format!("{JOB}content-range: bytes {range}/*\r\n");
    let whole = reserve(port, "whole");
    assert_eq!(http(port, "PATCH", &format!("{base}/caches/{whole}"), &range("0-4"), "hello").0, 200);
    assert_eq!(http(port, "POST", &format!("{base}/caches/{whole}"), JOB, "{}").0, 200);
    let (status, found) = http(port, "GET", &format!("{base}/cache?keys=whole&version=v"), JOB, "");
    assert_eq!(status, 200, "{found}");
    let location = found.split("\"archiveLocation\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let location =
        location.and_then(|url| url.find("/_apis").map(|at| url[at..].to_owned())).expect("an address");
    let half = reserve(port, "half");
    assert_eq!(http(port, "PATCH", &format!("{base}/caches/{half}"), &range("0-3"), "half").0, 200);
    let mut open = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let request = format!(
        "PATCH {base}/caches/{half} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n{}\r\nmore",
        range("4-1003")
    );
    open.write_all(request.as_bytes()).expect("it reads");
    server.kill();
    drop(open);

    let (mut server, port) = cache_server(&home, "second");
    register(port);
    assert_eq!(http(port, "GET", &format!("{base}/cache?keys=half&version=v"), JOB, "").0, 204);
    let (status, text) = http(port, "GET", &location, "", "");
    assert!(status == 200 && text.ends_with("hello"), "an address outlives the server: {text}");
    let left: Vec<_> =
        home.files().into_iter().filter(|(path, _)| path.starts_with("cache/uploads")).collect();
    assert!(left.iter().all(|(_, bytes)| bytes.is_empty()), "nothing is left of the upload: {left:?}");
    server.signal(Signal::TERM);
    assert!(server.wait(10).success(), "{}", server.stderr());
}

#[test]
fn a_cache_server_without_a_secret_does_not_start() {
    let ended = Home::new().run(&["cache-server", "--dir", "cache", "--port", "0"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("cache.external_secret"), "{}", ended.stderr);
}

#[test]
fn a_job_uses_a_cache_server_elsewhere_and_loses_it_at_its_end() {
    let home = Home::new();
    home.write("cache.yaml", "cache:\n  external_secret: hunter2\n");
    let (_server, port) = cache_server(&home, "server");
    let config = format!("cache:\n  external_server: http://127.0.0.1:{port}/\n  external_secret: hunter2\n");
    let (gitea, _home, _daemon) = host_with(FakeGitea::start(), Home::new(), &config);
    let steps = format!("{SAVE}{RESTORE}");
    let task = gitea.finished(60, &push_steps(&gitea, &steps));
    assert_eq!(task.status, Status::Success, "{:#?}", task.lines());
    assert!(task.lines().contains(&"restored hello"), "{:#?}", task.lines());
    let header = format!("authorization: Bearer {}\r\n", task.runtime_token);
    let revoked = || (http(port, "POST", "/_apis/artifactcache/clean", &header, "").0 == 401).then_some(());
    within(10, "the token is revoked", revoked, String::new);

    let wrong = format!("cache:\n  external_server: http://127.0.0.1:{port}/\n  external_secret: other\n");
    let (gitea, _home, _daemon) = host_with(FakeGitea::start(), Home::new(), &wrong);
    let push = Push::new(&crate::workflow("", "    - run: 'true'\n"));
    let task = gitea.finished(60, &gitea.push(&push));
    assert_eq!(task.status, Status::Success);
    assert!(task.says("another secret"), "{:#?}", task.lines());
}
