//! What a place costs: `cargo bench -p runner --bench backend -- [image] [steps]`.
//!
//! Prints the time of setup, steps and teardown in a container and on the host, the engine's requests counted on the
//! way, and what `docker run --rm IMAGE true` takes in the same minute.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use esteira::{
    backend::{
        Backend, ContainerSpec, ExecSpec, Exit, FileIn, FileOut, JobEnv, JobSpec, Ladder, Notes, Output,
        Stream,
        docker::{DockerBackend, DockerConfig, Transport},
        host::{HostBackend, HostConfig},
    },
    cancel::Cancel,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

struct Silent;

impl Output for Silent {
    async fn write(&mut self, _: Stream, _: &[u8]) {}
}

impl Notes for Silent {
    async fn note(&self, _: &str) {}
}

fn job(container: Option<ContainerSpec>, task: i64) -> JobSpec {
    JobSpec {
        name: format!("{task}-bench"),
        task,
        owner: format!("bench-{}", std::process::id()),
        repository: "bench/project".to_owned(),
        container,
        services: Vec::new(),
        env: std::collections::BTreeMap::new(),
        files: Vec::new(),
        bind_workspace: None,
        node: None,
    }
}

/// A step as a workflow has it: a script, four command files, a shell.
fn step<E: JobEnv>(env: &E, number: usize) -> ExecSpec {
    let temp = &env.layout().temp;
    let path = |name: &str| format!("{temp}/_runner_file_commands/{name}_{number}");
    let commands = ["set_env", "add_path", "output", "state"];
    let mut files: Vec<FileIn> = commands
        .iter()
        .map(|name| FileIn { path: path(name), mode: 0o666, bytes: bytes::Bytes::new() })
        .collect();
    let script = format!("{temp}/{number}.sh");
    files.push(FileIn { path: script.clone(), mode: 0o755, bytes: "true\n".into() });
    ExecSpec {
        argv: vec!["sh".into(), "-e".into(), script],
        env: env.layout().environ.clone(),
        cwd: env.layout().workspace.clone(),
        files,
        collect: commands
            .iter()
            .map(|name| FileOut { path: path(name), limit: 1 << 20, within: None })
            .collect(),
        ladder: Ladder::default(),
    }
}

/// Counts the requests on their way to the engine.
async fn counting_proxy(path: PathBuf, engine: String, count: Arc<AtomicUsize>) {
    let listener = UnixListener::bind(path).expect("a socket");
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let server = UnixStream::connect(&engine).await.expect("the engine");
        let count = Arc::clone(&count);
        connections.spawn(async move {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let up = async {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    let heads =
                        buffer[..read].windows(11).filter(|window| *window == b" HTTP/1.1\r\n").count();
                    count.fetch_add(heads, Ordering::Relaxed);
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

struct Row {
    setup: Vec<Duration>,
    steps: Vec<Duration>,
    teardown: Vec<Duration>,
    whole: Vec<Duration>,
    requests: (usize, usize, usize),
}

async fn measure<B: Backend>(
    backend: &B,
    container: Option<ContainerSpec>,
    steps: usize,
    rounds: usize,
    count: &AtomicUsize,
) -> Row {
    let mut row = Row { setup: vec![], steps: vec![], teardown: vec![], whole: vec![], requests: (0, 0, 0) };
    let cancel = Cancel::new();
    for round in 0..=rounds {
        count.store(0, Ordering::Relaxed);
        let begin = Instant::now();
        let task = i64::try_from(round).expect("few");
        let env = backend.prepare(job(container.clone(), task), &Silent, &cancel).await.expect("a place");
        let setup = begin.elapsed();
        row.requests.0 = count.swap(0, Ordering::Relaxed);
        let mut each = Vec::new();
        for number in 0..steps {
            let began = Instant::now();
            let outcome = env.exec(step(&env, number), &mut Silent, &cancel).await.expect("an end");
            assert_eq!(outcome.exit, Exit::Code(0));
            each.push(began.elapsed());
        }
        row.requests.1 = count.swap(0, Ordering::Relaxed);
        let began = Instant::now();
        let report = env.teardown(Duration::from_mins(1)).await;
        assert!(report.left_over.is_empty(), "{report:?}");
        row.requests.2 = count.swap(0, Ordering::Relaxed);
        // The first round warms everything up.
        if round > 0 {
            row.setup.push(setup);
            row.steps.extend(each);
            row.teardown.push(began.elapsed());
            row.whole.push(begin.elapsed());
        }
    }
    row
}

fn show(name: &str, row: Row) {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "{name:<22} setup {:7.1}  step {:6.2}  teardown {:7.1}  7-step job {:7.1} ms   requests {}+{}+{}",
        milliseconds(median(row.setup)),
        milliseconds(median(row.steps)),
        milliseconds(median(row.teardown)),
        milliseconds(median(row.whole)),
        row.requests.0,
        row.requests.1,
        row.requests.2,
    );
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let image = arguments.first().cloned().unwrap_or_else(|| "node:24-bookworm-slim".to_owned());
    let steps = arguments.get(1).and_then(|word| word.parse().ok()).unwrap_or(7);
    let rounds = 8;
    let state = tempfile::tempdir().expect("a folder");
    let executable = PathBuf::from(env!("CARGO_BIN_EXE_esteira"));
    let count = Arc::new(AtomicUsize::new(0));

    let host = HostBackend::new(HostConfig {
        executable: executable.clone(),
        scratch: state.path().join("host"),
        tool_cache: None,
        environ: std::env::vars().collect(),
        engine: None,
        terminal: false,
    });
    show("host", measure(&host, None, steps, rounds, &count).await);

    let engine = std::env::var("DOCKER_HOST")
        .ok()
        .and_then(|host| host.strip_prefix("unix://").map(str::to_owned))
        .unwrap_or_else(|| "/var/run/docker.sock".to_owned());
    let socket = state.path().join("engine.sock");
    let mut proxies = JoinSet::new();
    proxies.spawn(counting_proxy(socket.clone(), engine, Arc::clone(&count)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    for transport in [Transport::Socket, Transport::Attach, Transport::Exec] {
        let config = DockerConfig {
            docker_host: format!("unix://{}", socket.display()),
            environ: std::env::vars().collect(),
            state: state.path().to_owned(),
            executable: executable.clone(),
            network: String::new(),
            enable_ipv4: None,
            enable_ipv6: None,
            privileged: false,
            options: String::new(),
            workdir_parent: "/workspace".to_owned(),
            bind_workdir: false,
            valid_volumes: Vec::new(),
            force_pull: false,
            service_ready_timeout: None,
            tool_cache: None,
            transport,
            terminal: false,
        };
        let backend = match DockerBackend::connect(config).await {
            Ok(backend) => backend,
            Err(error) => return println!("no container engine: {error}"),
        };
        let container = ContainerSpec { image: image.clone(), ..ContainerSpec::default() };
        let name = format!("container, {transport:?}");
        show(&name, measure(&backend, Some(container), steps, rounds, &count).await);
    }
    let mut times = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let mut docker = Command::new("docker");
        let run = docker.args(["run", "--rm", &image, "true"]).stdout(Stdio::null()).stderr(Stdio::null());
        if run.status().is_ok_and(|status| status.success()) {
            times.push(began.elapsed());
        }
    }
    if !times.is_empty() {
        println!("docker run --rm {image} true: {:.1} ms", median(times).as_secs_f64() * 1000.0);
    }
}
