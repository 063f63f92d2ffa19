//! What the tests share: the program as a process, a client, a PostgreSQL server, a small load balancer, a bad wire.

mod api;
mod postgres;
mod proxy;
mod wire;

use std::time::{Duration, Instant};

pub(crate) use api::{Answer, Api, ApiBuilder, Client, program};
pub(crate) use postgres::Postgres;
pub(crate) use proxy::Proxy;
pub(crate) use wire::Wire;

/// Waiting for a condition ends here; nothing that works takes this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How often a repetition runs: `short` times, or `long` times with `ESTEIRA_LONG=1`.
pub(crate) fn repetitions(short: usize, long: usize) -> usize {
    if is_long() { long } else { short }
}

/// Whether the long form was asked for.
pub(crate) fn is_long() -> bool {
    std::env::var("ESTEIRA_LONG").is_ok_and(|value| value == "1")
}

/// Says that a test does not run, past the capture of the test harness and in the file that `ESTEIRA_SKIP_LOG` names;
/// under `CI=true` that is a failure.
pub(crate) fn skip(reason: &str) {
    use std::io::Write;
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var("CI").map_or(true, |ci| ci != "true"),
        "{name} cannot be skipped under CI=true: {reason}"
    );
    drop(writeln!(std::io::stderr(), "SKIPPED {name}: {reason}"));
    if let Some(log) = std::env::var_os("ESTEIRA_SKIP_LOG") {
        let mut log =
            std::fs::File::options().create(true).append(true).open(log).expect("the list of skipped tests");
        writeln!(log, "skipped: {name}: {reason}").expect("written");
    }
}

/// Says a measured number, past the capture of the test harness.
pub(crate) fn report(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Asks again and again until there is a value; panics with `what` at the deadline.
pub(crate) async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
