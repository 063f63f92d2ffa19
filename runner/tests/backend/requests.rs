//! What jobs cost the engine, counted in requests on their way to it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use esteira::{
    backend::{ContainerSpec, ImageRun, JobEnv, JobSpec, Ladder},
    cancel::Cancel,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

use super::{
    Kept,
    docker::{backend, finish, image, options, prepare, service, spec},
    print,
};

/// The engine behind a socket that counts.
struct Counted {
    address: String,
    requests: Arc<AtomicI64>,
    _proxy: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Counted {
    fn engine() -> Self {
        let requests = Arc::new(AtomicI64::new(0));
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let mut proxy = JoinSet::new();
        proxy.spawn(counting_proxy(listener, Arc::clone(&requests)));
        Self { address: format!("unix://{}", socket.display()), requests, _proxy: proxy, _folder: folder }
    }

    /// How many there were since the last call.
    fn taken(&self) -> i64 {
        self.requests.swap(0, Ordering::Relaxed)
    }
}

#[tokio::test]
async fn setting_up_and_tearing_down_costs_few_requests() {
    // Create and start; and for a user who is not root, one command of two requests that gives him his folders.
    for (options_text, setup) in [("", 2), ("--user 1234", 4)] {
        let engine = Counted::engine();
        let address = engine.address.clone();
        let Some((backend, _state)) = backend(|config| config.docker_host = address).await else { return };
        // The engine's own socket is wherever the proxy is: not to be mounted.
        let mut spec = spec(options(options_text));
        spec.env.clear();
        engine.taken();
        let env = prepare(&backend, spec).await.expect("a place");
        assert_eq!(engine.taken(), setup, "{options_text}");
        for _ in 0..3 {
            print(&env, "true").await;
        }
        assert_eq!(engine.taken(), 0, "steps cost the engine nothing");
        finish(&backend, env).await;
        assert_eq!(engine.taken(), 1);
    }
}

#[tokio::test]
async fn services_and_actions_in_containers_cost_few_requests() {
    let engine = Counted::engine();
    let address = engine.address.clone();
    let Some((backend, _state)) = backend(|config| config.docker_host = address).await else { return };
    let services = vec![service("one", "", "sleep 600"), service("two", "", "sleep 600")];
    let spec = JobSpec { services, ..spec(ContainerSpec::default()) };
    engine.taken();
    let env = prepare(&backend, spec).await.expect("a place");
    let setup = engine.taken();
    assert!(setup <= 14, "{setup} requests for a job with two services");
    let run = ImageRun {
        container: ContainerSpec { image: image(), ..ContainerSpec::default() },
        entrypoint: vec!["true".into()],
        args: None,
        files: Vec::new(),
        collect: Vec::new(),
        ladder: Ladder::default(),
    };
    for _ in 0..2 {
        env.run_image(run.clone(), &mut Kept::default(), &Cancel::new()).await.expect("it ran");
        let action = engine.taken();
        assert!(action <= 6, "{action} requests for an action in a container");
    }
    finish(&backend, env).await;
}

/// Counts requests on their way to the engine.
async fn counting_proxy(listener: UnixListener, requests: Arc<AtomicI64>) {
    let engine = std::env::var("DOCKER_HOST").unwrap_or_default();
    let engine = engine.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = UnixStream::connect(&engine).await else { return };
        let requests = Arc::clone(&requests);
        connections.spawn(async move {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let up = async {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    let heads =
                        buffer[..read].windows(11).filter(|window| *window == b" HTTP/1.1\r\n").count();
                    requests.fetch_add(i64::try_from(heads).expect("few"), Ordering::Relaxed);
                    if to_server.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
                to_server.shutdown().await.ok();
            };
            let down = async {
                tokio::io::copy(&mut from_server, &mut to_client).await.ok();
                to_client.shutdown().await.ok();
            };
            tokio::join!(up, down);
        });
    }
}
