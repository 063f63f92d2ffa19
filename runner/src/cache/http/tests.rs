//! The protocol over real HTTP.

use std::{net::SocketAddr, time::Duration};

use prost::Message;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    cache::{CacheServer, Limits, Listening, ServerOptions, server::Registered},
    metrics::Metrics,
    secret::Secret,
};

/// A server, and a job of `o/r` whose token is `t`.
struct Lab {
    folder: tempfile::TempDir,
    server: CacheServer,
    metrics: Metrics,
    _job: Registered,
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl Lab {
    async fn new() -> Self {
        Self::with(tempfile::tempdir().expect("a folder"), Limits { free_space: 0, ..Limits::default() })
            .await
    }

    async fn with(folder: tempfile::TempDir, limits: Limits) -> Self {
        let metrics = Metrics::default();
        let options = ServerOptions {
            folder: folder.path().to_owned(),
            port: 0,
            listening: Listening::Loopback,
            limits,
            secret: Some(Secret::new("shared".to_owned())),
            wire: proto::transport::Options::default(),
            metrics: metrics.clone(),
        };
        let server = CacheServer::start(options).await.expect("it starts");
        let job = server.register(&Secret::new("t".to_owned()), "o/r", "");
        Self { folder, server, metrics, _job: job }
    }

    /// Calls a path, or a whole address of this server.
    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let authority = format!("127.0.0.1:{}", self.server.port());
        let path = path.strip_prefix(&format!("http://{authority}")).unwrap_or(path);
        let address: SocketAddr = authority.parse().expect("an address");
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        stream.write_all(body).await.expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it answers");
        let split = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers end");
        let headers = String::from_utf8_lossy(&answer[..split]).into_owned();
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, headers, body: answer[split + 4..].to_vec() }
    }

    async fn as_job(
        &self,
        token: &str,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [&[("authorization", authorization.as_str())], more].concat();
        self.call(method, &format!("/_apis/artifactcache/{path}"), &headers, body).await
    }

    async fn v1(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.as_job("t", method, path, &[], body.to_string().as_bytes()).await
    }

    async fn twirp(&self, token: &str, call: &str, body: &Value) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let path = format!("/twirp/github.actions.results.api.v1.CacheService/{call}");
        self.call("POST", &path, &headers, body.to_string().as_bytes()).await
    }

    /// Saves `text` by version 1.
    async fn save(&self, key: &str, text: &str) {
        let wanted = json!({"key": key, "version": "v", "cacheSize": text.len()});
        let id = self.v1("POST", "caches", &wanted).await.json()["cacheId"].clone();
        let range = format!("bytes 0-{}/*", text.len() - 1);
        let sent = self
            .as_job("t", "PATCH", &format!("caches/{id}"), &[("content-range", &range)], text.as_bytes())
            .await;
        assert_eq!((sent.status, sent.text().as_str()), (200, "{}"));
        let committed = self.v1("POST", &format!("caches/{id}"), &json!({"size": text.len()})).await;
        assert_eq!((committed.status, committed.text().as_str()), (200, "{}"));
    }

    /// The address of the archive that version 1 finds.
    async fn location(&self, keys: &str) -> String {
        let found = self.v1("GET", &format!("cache?keys={keys}&version=v"), &Value::Null).await;
        assert_eq!(found.status, 200, "{}", found.text());
        found.json()["archiveLocation"].as_str().expect("an address").to_owned()
    }
}

#[tokio::test]
async fn version_1_saves_and_restores() {
    let lab = Lab::new().await;
    let miss = lab.v1("GET", "cache?keys=linux-1,linux-&version=v", &Value::Null).await;
    assert_eq!((miss.status, miss.body.len()), (204, 0));
    lab.save("linux-1", "hello cache").await;
    let hit = lab.v1("GET", "cache?keys=other%2Cname,linux-&version=v", &Value::Null).await;
    assert_eq!(hit.status, 200);
    assert_eq!((&hit.json()["result"], &hit.json()["cacheKey"]), (&json!("hit"), &json!("linux-1")));
    let location = hit.json()["archiveLocation"].as_str().expect("an address").to_owned();
    let archive = lab.call("GET", &location, &[], b"").await;
    assert_eq!((archive.status, archive.text().as_str()), (200, "hello cache"));
    assert_eq!(archive.header("content-length"), Some("11"));
    let head = lab.call("HEAD", &location, &[], b"").await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("11")));
    assert_eq!(lab.v1("GET", "cache?keys=linux-1&version=w", &Value::Null).await.status, 204);
    assert_eq!(lab.v1("POST", "clean", &Value::Null).await.text(), "{}");
    let counted = lab.metrics.encode().expect("text");
    assert!(counted.contains("gitea_runner_cache_lookup_total{result=\"hit\"} 1"), "{counted}");
    assert!(counted.contains("gitea_runner_cache_transfer_bytes_total{direction=\"out\"} 11"));
}

#[tokio::test]
async fn version_1_says_no_with_the_right_code() {
    let lab = Lab::new().await;
    let chunk = |id: String, range: &'static str| {
        let lab = &lab;
        async move {
            let path = format!("caches/{id}");
            lab.as_job("t", "PATCH", &path, &[("content-range", range)], b"1234").await.status
        }
    };
    let wanted = json!({"key": "k", "version": "v", "cacheSize": 9});
    let id = lab.v1("POST", "caches", &wanted).await.json()["cacheId"].to_string();
    assert_eq!(chunk("12".to_owned(), "bytes 0-3/*").await, 400, "not reserved");
    assert_eq!(chunk("x".to_owned(), "bytes 0-3/*").await, 400, "no number");
    assert_eq!(chunk(id.clone(), "bytes 3-0/*").await, 400, "no range");
    assert_eq!(chunk(id.clone(), "bytes 0-1/*").await, 400, "another length");
    assert_eq!(chunk(id.clone(), "bytes 0-3/*").await, 200);
    let other = lab.server.register(&Secret::new("u".to_owned()), "o/other", "");
    let foreign = lab.as_job("u", "POST", &format!("caches/{id}"), &[], b"{}").await;
    assert_eq!(foreign.status, 403, "another repository's");
    drop(other);
    let short = lab.v1("POST", &format!("caches/{id}"), &json!({})).await;
    assert_eq!(short.status, 500, "4 of 9 bytes");
    assert!(short.json()["error"].as_str().is_some_and(|error| error.contains("9 were announced")));
    assert_eq!(chunk(id, "bytes 0-3/*").await, 400, "dropped");
    lab.save("k", "whole").await;
    assert_eq!(lab.v1("POST", "caches", &json!({"key": ""})).await.status, 400);
    assert_eq!(lab.v1("GET", "nothing", &Value::Null).await.status, 404);
}

#[tokio::test]
async fn nobody_is_answered_without_the_token_of_a_running_job() {
    let lab = Lab::new().await;
    for (method, path) in [
        ("GET", "cache?keys=k&version=v"),
        ("POST", "caches"),
        ("PATCH", "caches/1"),
        ("POST", "caches/1"),
        ("POST", "clean"),
    ] {
        for token in ["", "x", "shared"] {
            let answer = lab.as_job(token, method, path, &[], b"{}").await;
            assert_eq!(answer.status, 401, "{method} {path} {token}");
            assert!(answer.json()["error"].is_string());
        }
    }
    let answer = lab.twirp("x", "CreateCacheEntry", &json!({"key": "k", "version": "v"})).await;
    assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("unauthenticated")));
    let job = lab.server.register(&Secret::new("short".to_owned()), "o/r", "");
    assert_eq!(lab.as_job("short", "POST", "clean", &[], b"").await.status, 200);
    drop(job);
    assert_eq!(lab.as_job("short", "POST", "clean", &[], b"").await.status, 401, "the job is over");
}

#[tokio::test]
async fn an_address_that_was_changed_or_is_old_opens_nothing() {
    let lab = Lab::new().await;
    lab.save("k", "secret").await;
    let location = lab.location("k").await;
    assert_eq!(lab.call("GET", &location, &[], b"").await.status, 200);
    let (base, query) = location.split_once('?').expect("a query");
    let (head, id) = base.rsplit_once('/').expect("an id");
    let sig = query.split_once("sig=").expect("a signature").1;
    for changed in [
        base.to_owned(),
        format!("{base}?exp=99999999999&sig={sig}"),
        format!("{base}?exp=1&sig={sig}"),
        format!("{base}?{}", query.replace("sig=", "sig=0")),
        format!("{head}/{}?{query}", id.parse::<u64>().expect("a number") ^ 1),
    ] {
        assert_eq!(lab.call("GET", &changed, &[], b"").await.status, 401, "{changed}");
    }
    let upload = location.replace("/artifacts/", "/blobs/");
    assert_eq!(lab.call("PUT", &upload, &[], b"other").await.status, 401, "reading is not writing");
}

#[tokio::test]
async fn parts_of_an_archive_are_had_by_range() {
    let lab = Lab::new().await;
    lab.save("k", "0123456789").await;
    let location = lab.location("k").await;
    let part = |name: &'static str, range: &'static str| {
        let (lab, location) = (&lab, location.clone());
        async move { lab.call("GET", &location, &[(name, range)], b"").await }
    };
    let middle = part("range", "bytes=2-4").await;
    assert_eq!((middle.status, middle.text().as_str()), (206, "234"));
    assert_eq!(middle.header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(part("x-ms-range", "bytes=8-").await.text(), "89");
    assert_eq!(part("range", "bytes=-3").await.text(), "789");
    let beyond = part("range", "bytes=10-").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */10")));
}

#[tokio::test]
async fn version_2_saves_whole_bodies_and_blocks_and_restores_them() {
    let lab = Lab::new().await;
    for (key, blocks) in [("whole", false), ("blocks", true)] {
        let name = json!({"key": key, "version": "v"});
        let created = lab.twirp("t", "CreateCacheEntry", &name).await;
        assert_eq!((created.status, &created.json()["ok"]), (200, &json!(true)));
        let url = created.json()["signed_upload_url"].as_str().expect("an address").to_owned();
        if blocks {
            for (id, text) in [("YQ%3D%3D", "one"), ("Yg%3D%3D", "two")] {
                let put =
                    lab.call("PUT", &format!("{url}&comp=block&blockid={id}"), &[], text.as_bytes()).await;
                assert_eq!(put.status, 201, "{}", put.text());
            }
            let list = "<BlockList><Latest>Yg==</Latest><Latest>YQ==</Latest></BlockList>";
            let put = lab.call("PUT", &format!("{url}&comp=blocklist"), &[], list.as_bytes()).await;
            assert_eq!(put.status, 201, "{}", put.text());
        } else {
            let put = lab.call("PUT", &url, &[("x-ms-blob-type", "BlockBlob")], b"onetwo").await;
            assert_eq!((put.status, put.body.len()), (201, 0));
            assert!(put.header("x-ms-request-id").is_some_and(|id| !id.is_empty()));
        }
        let wrong = json!({"key": "other", "version": "v", "size_bytes": 6});
        assert_eq!(lab.twirp("t", "FinalizeCacheEntryUpload", &wrong).await.json()["ok"], json!(false));
        let right = json!({"key": key, "version": "v", "size_bytes": "6"});
        let finalized = lab.twirp("t", "FinalizeCacheEntryUpload", &right).await.json();
        assert_eq!(finalized["ok"], json!(true));
        assert!(finalized["entry_id"].as_str().is_some_and(|id| id.parse::<u64>().is_ok()), "{finalized}");
        assert_eq!(lab.twirp("t", "CreateCacheEntry", &name).await.json()["ok"], json!(false), "it is there");
        assert_eq!(lab.call("PUT", &url, &[], b"again").await.status, 400, "it is whole");
        let asked = json!({"key": "none", "restore_keys": ["no", &key[..3]], "version": "v"});
        let found = lab.twirp("t", "GetCacheEntryDownloadURL", &asked).await.json();
        assert_eq!((&found["ok"], &found["matched_key"]), (&json!(true), &json!(key)));
        let location = found["signed_download_url"].as_str().expect("an address");
        let text = lab.call("GET", location, &[], b"").await.text();
        assert_eq!(text, if blocks { "twoone" } else { "onetwo" });
    }
    let size = json!({"key": "size", "version": "v", "sizeBytes": 7});
    lab.twirp("t", "CreateCacheEntry", &size).await;
    assert_eq!(lab.twirp("t", "FinalizeCacheEntryUpload", &size).await.json()["ok"], json!(false), "0 of 7");
    let miss = lab.twirp("t", "GetCacheEntryDownloadURL", &size).await;
    assert_eq!((miss.status, miss.json()), (200, json!({"ok": false})));
    let empty = lab.twirp("t", "CreateCacheEntry", &json!({"key": "", "version": "v"})).await;
    assert_eq!((empty.status, &empty.json()["code"]), (400, &json!("invalid_argument")));
    let broken = lab.twirp("t", "CreateCacheEntry", &json!("text")).await;
    assert_eq!((broken.status, &broken.json()["code"]), (400, &json!("malformed_request")));
}

#[tokio::test]
async fn version_2_speaks_protobuf_with_those_who_do() {
    #[derive(Clone, PartialEq, Message)]
    struct Name {
        #[prost(string, tag = "2")]
        key: String,
        #[prost(string, tag = "3")]
        version: String,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Created {
        #[prost(bool, tag = "1")]
        ok: bool,
        #[prost(string, tag = "2")]
        url: String,
    }
    let lab = Lab::new().await;
    let name = Name { key: "k".into(), version: "v".into() }.encode_to_vec();
    let headers = [("authorization", "Bearer t"), ("content-type", "application/protobuf")];
    let path = "/twirp/github.actions.results.api.v1.CacheService/CreateCacheEntry";
    let answer = lab.call("POST", path, &headers, &name).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/protobuf")));
    let created = Created::decode(answer.body.as_slice()).expect("a message");
    assert!(created.ok);
    assert_eq!(lab.call("PUT", &created.url, &[], b"x").await.status, 201);
}

#[tokio::test]
async fn other_runners_register_their_jobs_with_the_shared_secret() {
    let lab = Lab::new().await;
    let register = |secret: &'static str, call: &'static str| {
        let lab = &lab;
        async move {
            let authorization = format!("Bearer {secret}");
            let body = json!({"token": "far", "repo": "o/far", "results": "http://gitea", "insecure_tls": false,
                              "public_url": "https://cache.example/x/"});
            let path = format!("/_internal/{call}");
            lab.call("POST", &path, &[("authorization", &authorization)], body.to_string().as_bytes()).await
        }
    };
    assert_eq!(register("wrong", "register").await.status, 401);
    assert_eq!(register("t", "register").await.status, 401, "a job is no runner");
    let answer = register("shared", "register").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"results_url": "https://cache.example/x"})));
    let created = lab.twirp("far", "CreateCacheEntry", &json!({"key": "k", "version": "v"})).await.json();
    let url = created["signed_upload_url"].as_str().expect("an address");
    assert!(url.starts_with("https://cache.example/x/_apis/artifactcache/blobs/"), "{url}");
    assert_eq!(register("shared", "revoke").await.json(), json!({}));
    assert_eq!(lab.as_job("far", "POST", "clean", &[], b"").await.status, 401);
}

#[tokio::test]
async fn artifact_calls_go_to_the_instance() {
    let lab = Lab::new().await;
    let (listener, path) = (
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port"),
        "/twirp/github.actions.results.api.v1.ArtifactService/ListArtifacts",
    );
    let address = listener.local_addr().expect("its address");
    let _job = lab.server.register(&Secret::new("a".to_owned()), "o/r", &format!("http://{address}/sub"));
    let instance = async {
        let (mut stream, _) = listener.accept().await.expect("a call");
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        while !seen.ends_with("{\"x\":1}") {
            let read = stream.read(&mut buffer).await.expect("a request");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        let answer =
            "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n{\"y\":2}";
        stream.write_all(answer.as_bytes()).await.expect("it reads");
        seen
    };
    let headers = [("authorization", "Bearer a"), ("content-type", "application/json")];
    let (answer, seen) = tokio::join!(lab.call("POST", path, &headers, b"{\"x\":1}"), instance);
    assert_eq!((answer.status, answer.text().as_str()), (403, "{\"y\":2}"));
    let seen = seen.to_ascii_lowercase();
    assert!(seen.starts_with(&format!("post /sub{path} ").to_ascii_lowercase()), "{seen}");
    assert!(seen.contains("authorization: bearer a") && seen.contains(&format!("host: {address}")), "{seen}");
    let nowhere = lab.as_job("t", "POST", "../..", &[], b"").await;
    assert_eq!(nowhere.status, 404);
    let headers = [("authorization", "Bearer t")];
    assert_eq!(lab.call("POST", path, &headers, b"{}").await.status, 404, "there is no instance");
}

#[tokio::test]
async fn what_was_saved_survives_a_restart_and_so_do_its_addresses() {
    let lab = Lab::new().await;
    lab.save("k", "kept").await;
    let location = lab.location("k").await;
    let path = location.split_once("/_apis").expect("a path").1.to_owned();
    let Lab { folder, server, .. } = lab;
    drop(server);
    let lab = Lab::with(folder, Limits { free_space: 0, ..Limits::default() }).await;
    assert_eq!(lab.call("GET", &format!("/_apis{path}"), &[], b"").await.text(), "kept");
    assert!(lab.folder.path().join(".secret").exists());
}

#[tokio::test]
async fn a_client_that_breaks_off_leaves_nothing_that_could_be_found() {
    let lab = Lab::new().await;
    let created = lab.twirp("t", "CreateCacheEntry", &json!({"key": "k", "version": "v"})).await.json();
    let url = created["signed_upload_url"].as_str().expect("an address").to_owned();
    let path = &url[url.find("/_apis").expect("a path")..];
    let mut stream = TcpStream::connect(("127.0.0.1", lab.server.port())).await.expect("it listens");
    let half = format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf");
    stream.write_all(half.as_bytes()).await.expect("it reads");
    stream.shutdown().await.expect("closed");
    let mut rest = Vec::new();
    // Whether it still answers is its business.
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    let four = json!({"key": "k", "version": "v", "size_bytes": 4});
    assert_eq!(lab.twirp("t", "FinalizeCacheEntryUpload", &four).await.json()["ok"], json!(false));
    let asked = json!({"key": "k", "version": "v"});
    assert_eq!(lab.twirp("t", "GetCacheEntryDownloadURL", &asked).await.json()["ok"], json!(false));
}
