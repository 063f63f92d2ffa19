//! Clients that mean harm, or hold it wrong: the right code, or a closed connection, and a service that goes on.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Api, ApiBuilder, DEADLINE, report, skip};

/// Sends bytes and reads until the service closes the connection or `enough` says so.
async fn talk(api: &Api, bytes: &[u8], enough: impl Fn(&str) -> bool) -> String {
    let mut stream = TcpStream::connect(&api.address).await.expect("connected");
    // The service may close before it has taken everything.
    drop(stream.write_all(bytes).await);
    read(&mut stream, enough).await
}

async fn read(stream: &mut TcpStream, enough: impl Fn(&str) -> bool) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if enough(&text) {
            return text;
        }
        match tokio::time::timeout(DEADLINE, stream.read(&mut buffer)).await.expect("an answer or an end") {
            Ok(0) | Err(_) => return text,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
        }
    }
}

fn has_answer(text: &str) -> bool {
    text.contains("\r\n\r\n")
}

fn post(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}\r\n")
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

async fn assert_well(api: &Api) {
    let id = api.add("still here").await;
    assert_eq!(api.get(&format!("/tasks/{id}")).await.status, 200);
}

#[tokio::test]
async fn oversized_bodies_are_413_announced_or_not() {
    let api = ApiBuilder::sqlite().start().await;
    let announced = talk(&api, &post("Content-Length: 65537\r\n", b""), has_answer).await;
    assert!(announced.starts_with("HTTP/1.1 413 "), "{announced}");
    let absurd = talk(&api, &post("Content-Length: 9999999999999\r\n", b"{"), has_answer).await;
    assert!(absurd.starts_with("HTTP/1.1 413 "), "{absurd}");
    let mut chunked = post("Transfer-Encoding: chunked\r\n", b"");
    for _ in 0..17 {
        chunked.extend_from_slice(b"1000\r\n");
        chunked.extend_from_slice(&[b' '; 4096]);
        chunked.extend_from_slice(b"\r\n");
    }
    let unannounced = talk(&api, &chunked, has_answer).await;
    assert!(unannounced.starts_with("HTTP/1.1 413 "), "{unannounced}");
    assert!(unannounced.to_ascii_lowercase().contains("connection: close"), "{unannounced}");
    let title = "é".repeat(500);
    let fitting = format!("{{\"title\":\"{title}\",\"padding\":\"{}\"}}", "x".repeat(60_000));
    assert_eq!(api.send("POST", "/tasks", &fitting).await.status, 201, "below the limit all is well");
    assert_well(&api).await;
}

#[tokio::test]
async fn a_body_of_exactly_64_kib_is_taken_in_either_form() {
    let api = ApiBuilder::sqlite().start().await;
    for (length, status) in [(64 * 1024, "201"), (64 * 1024 + 1, "413")] {
        let mut body = br#"{"title":"x","padding":""#.to_vec();
        body.resize(length - 2, b'y');
        body.extend_from_slice(br#""}"#);
        let plain = post(&format!("Content-Length: {length}\r\n"), &body);
        let mut chunked = post("Transfer-Encoding: chunked\r\n", b"");
        for chunk in body.chunks(1000) {
            chunked.extend_from_slice(format!("{:x};extension=1\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
        for bytes in [plain, chunked] {
            let answer = talk(&api, &bytes, has_answer).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{length}: {answer}");
        }
    }
}

#[tokio::test]
async fn odd_heads_have_the_answer_that_http_prescribes() {
    let api = ApiBuilder::sqlite().start().await;
    for (head, status) in [
        ("GET /health HTTP/1.1\r\n", "400"),
        ("GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n", "400"),
        ("GET /health HTTP/1.0\r\n", "200"),
        ("GET http://elsewhere/health HTTP/1.1\r\nHost: x\r\n", "200"),
        ("CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n", "405"),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n", "404"),
        ("GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n", "200"),
        ("GET /health HTTP/1.1\r\nHost: x\r\nAccept-Language: \u{fd}\r\nX-Request-Id: \u{fd}\r\n", "200"),
        ("POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\nExpect: 100-continue\r\n", "413"),
        ("POST /tasks HTTP/1.0\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n", "400"),
    ] {
        let answer = talk(&api, format!("{head}\r\n").as_bytes(), has_answer).await;
        let version = if head.contains("/health HTTP/1.0") { "1.0" } else { "1.1" };
        assert!(answer.starts_with(&format!("HTTP/{version} {status} ")), "{head}: {answer}");
    }
    // Two lengths for one body are how requests are smuggled past a proxy.
    let both =
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nGET /health HTTP/1.1\r\n\r\n");
    let answer = talk(&api, &both, |_| false).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_well(&api).await;
}

#[tokio::test]
async fn broken_bodies_are_400() {
    let api = ApiBuilder::sqlite().start().await;
    let deep = format!("{{\"title\":{}", "[".repeat(60_000));
    let objects = "{\"title\":".repeat(7_000);
    for body in [
        deep.as_bytes(),
        objects.as_bytes(),
        b"{\"title\":\"\xff\xfe\"}",
        b"\x00\x01\x02",
        b"{\"title\":\"\\ud800\"}",
    ] {
        let answer = api
            .ask(
                "POST",
                "/tasks",
                &[("content-type", "application/json")],
                bytes::Bytes::copy_from_slice(body),
            )
            .await;
        assert_eq!((answer.status, answer.error().as_str()), (400, "Dados inválidos"));
    }
    for control in [r#"{"title":"a\u0000b"}"#, r#"{"title":"a\nb"}"#, r#"{"title":"\u001b[2J"}"#] {
        assert_eq!(api.send("POST", "/tasks", control).await.status, 400);
    }
    let broken_chunk = talk(&api, &post("Transfer-Encoding: chunked\r\n", b"zz\r\n"), has_answer).await;
    assert!(broken_chunk.starts_with("HTTP/1.1 400 "), "{broken_chunk}");
    assert_well(&api).await;
}

#[tokio::test]
async fn a_truncated_body_changes_nothing() {
    let api = ApiBuilder::sqlite().start().await;
    let mut stream = TcpStream::connect(&api.address).await.expect("connected");
    stream.write_all(&post("Content-Length: 100\r\n", b"{\"title\":\"x\"}")).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    let answer = read(&mut stream, has_answer).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(api.get("/tasks").await.text(), "[]");
    assert_well(&api).await;
}

#[tokio::test]
async fn nonsense_and_huge_heads_are_refused() {
    let api = ApiBuilder::sqlite().start().await;
    for (bytes, status) in [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), "400"),
        (b"GET / HTTP/9.9\r\n\r\n".to_vec(), "400"),
        (b"GET /tasks HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n".to_vec(), "400"),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(70_000)).into_bytes(), "41431"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(70_000)).into_bytes(), "431"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(500)).into_bytes(), "431"),
    ] {
        let answer = talk(&api, &bytes, has_answer).await;
        let code = answer.split(' ').nth(1).unwrap_or_default();
        assert!(answer.is_empty() || status.contains(code), "{status}: {answer}");
    }
    let contradicting =
        talk(&api, &post("Content-Length: 3\r\nContent-Length: 4\r\n", b"{}"), has_answer).await;
    assert!(contradicting.starts_with("HTTP/1.1 400 "), "{contradicting}");
    assert_well(&api).await;
}

#[tokio::test]
async fn a_slow_head_is_cut_off_while_idle_connections_live_on() {
    let api = ApiBuilder::sqlite().start().await;
    let mut idle = TcpStream::connect(&api.address).await.expect("connected");
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    idle.write_all(request).await.expect("sent");
    assert!(read(&mut idle, |text| text.ends_with('}')).await.starts_with("HTTP/1.1 200 "));

    let silent = async {
        let mut stream = TcpStream::connect(&api.address).await.expect("connected");
        read(&mut stream, |_| false).await
    };
    let dripping = async {
        let mut stream = TcpStream::connect(&api.address).await.expect("connected");
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(1000));
        for byte in head.as_bytes() {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            let mut buffer = [0; 64];
            if let Ok(Ok(0) | Err(_)) =
                tokio::time::timeout(Duration::from_millis(100), stream.read(&mut buffer)).await
            {
                return;
            }
        }
        panic!("a head that takes 100 s was accepted");
    };
    // A second head on a connection that has served one is no better off.
    let later = async {
        let mut stream = TcpStream::connect(&api.address).await.expect("connected");
        stream.write_all(request).await.expect("sent");
        read(&mut stream, |text| text.ends_with('}')).await;
        stream.write_all(b"GET /health HT").await.expect("sent");
        read(&mut stream, |_| false).await
    };
    let (silent, (), later) = futures_util::join!(silent, dripping, later);
    assert_eq!((silent.as_str(), later.as_str()), ("", ""), "closed without an answer");

    // Ten seconds and more have passed; the connection that was merely idle still serves.
    idle.write_all(request).await.expect("sent");
    assert!(read(&mut idle, |text| text.ends_with('}')).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let api = ApiBuilder::sqlite().start().await;
    let answer = talk(&api, &post("Content-Length: 20\r\n", b"{\"title\""), has_answer).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_well(&api).await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let api = ApiBuilder::sqlite().set("TASKS_MAX_CONNECTIONS", "2").start().await;
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(&api.address).await.expect("connected");
        stream.write_all(request).await.expect("sent");
        read(&mut stream, |text| text.ends_with('}')).await;
        held.push(stream);
    }
    let mut third = TcpStream::connect(&api.address).await.expect("queued by the system");
    third.write_all(request).await.expect("sent");
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(300), third.read(&mut byte)).await;
    assert!(early.is_err(), "served beyond the bound");
    drop(held.pop());
    assert!(read(&mut third, |text| text.ends_with('}')).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little() {
    let mut wanted: u64 = 10_000;
    let limits = getrlimit(Resource::Nofile);
    let maximum = limits.maximum.unwrap_or(u64::MAX);
    if maximum < wanted + 1000 {
        wanted = maximum.saturating_sub(1000);
        skip(&format!("only {wanted} idle connections: the limit on open files is {maximum}"));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(maximum.min(wanted + 2000)), ..limits })
        .expect("raised");
    let api = ApiBuilder::sqlite().set("LOG_LEVEL", "info,task_api::service=warn").start().await;
    let before = api.memory();
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..wanted {
        let mut stream = TcpStream::connect(&api.address).await.expect("connected");
        stream.write_all(request).await.expect("sent");
        held.push(stream);
    }
    for stream in &mut held {
        assert!(read(stream, |text| text.ends_with('}')).await.starts_with("HTTP/1.1 200 "));
    }
    let memory = api.memory();
    report(&format!("idle connections: {wanted}; memory {before} KiB before, {memory} KiB with them"));
    // A build without optimization keeps more of every waiting request.
    let bound = if cfg!(debug_assertions) { 200 } else { 150 };
    assert!(memory < bound * 1024, "{memory} KiB");
    assert_well(&api).await;
    drop(held);
}
