//! A load balancer in miniature: asks `/ready` of its backends, and sends each request once, in turn, to one that is
//! ready. It never tries a request twice, so a backend that drops one is seen.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Answer, Client};

/// How often backends are asked.
const CHECK: Duration = Duration::from_millis(50);

/// The balancer; its checks end with it.
#[derive(Debug)]
pub(crate) struct Proxy {
    ready: Arc<Mutex<Vec<String>>>,
    backends: Arc<Mutex<Vec<String>>>,
    turn: AtomicUsize,
    client: Client,
    _checks: JoinSet<()>,
}

impl Proxy {
    pub(crate) fn new() -> Self {
        let (ready, backends) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let client = Client::new();
        let mut checks = JoinSet::new();
        checks.spawn(check(Arc::clone(&ready), Arc::clone(&backends), client.clone()));
        Self { ready, backends, turn: AtomicUsize::new(0), client, _checks: checks }
    }

    /// Adds a backend; it gets requests once it is ready.
    pub(crate) fn add(&self, address: &str) {
        self.backends.lock().expect("no panics").push(address.to_owned());
    }

    /// Those that get requests now.
    pub(crate) fn ready(&self) -> Vec<String> {
        self.ready.lock().expect("no panics").clone()
    }

    /// One request, one attempt.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Bytes) -> Result<Answer, String> {
        let ready = self.ready();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let backend = ready.get(turn % ready.len().max(1)).ok_or("no backend is ready")?;
        self.client.ask(backend, method, path, &[("content-type", "application/json")], body).await
    }
}

async fn check(ready: Arc<Mutex<Vec<String>>>, backends: Arc<Mutex<Vec<String>>>, client: Client) {
    let mut rounds = tokio::time::interval(CHECK);
    loop {
        rounds.tick().await;
        let known = backends.lock().expect("no panics").clone();
        let mut answering = Vec::new();
        for backend in known {
            if client.ask(&backend, "GET", "/ready", &[], "").await.is_ok_and(|answer| answer.status == 200) {
                answering.push(backend);
            }
        }
        *ready.lock().expect("no panics") = answering;
    }
}
