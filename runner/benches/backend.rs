//! What a place costs: `cargo bench -p runner --bench backend -- [image] [steps]`.
//!
//! Prints the time of setup, steps and teardown in a container and on the host, the engine's requests counted on the
//! way, and what `docker run --rm IMAGE true` takes in the same minute.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::{
    path::PathBuf,
    process::{Command, Stdio},
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

#[path = "../tests/backend/counted.rs"]
mod counted;

use counted::Counted;

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
    engine: &Counted,
) -> Row {
    let mut row = Row { setup: vec![], steps: vec![], teardown: vec![], whole: vec![], requests: (0, 0, 0) };
    let cancel = Cancel::new();
    for round in 0..=rounds {
        engine.taken();
        let begin = Instant::now();
        let task = i64::try_from(round).expect("few");
        let env = backend.prepare(job(container.clone(), task), &Silent, &cancel).await.expect("a place");
        let setup = begin.elapsed();
        row.requests.0 = engine.taken();
        let mut each = Vec::new();
        for number in 0..steps {
            let began = Instant::now();
            let outcome = env.exec(step(&env, number), &mut Silent, &cancel).await.expect("an end");
            assert_eq!(outcome.exit, Exit::Code(0));
            each.push(began.elapsed());
        }
        row.requests.1 = engine.taken();
        let began = Instant::now();
        let report = env.teardown(Duration::from_mins(1)).await;
        assert!(report.left_over.is_empty(), "{report:?}");
        row.requests.2 = engine.taken();
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
    let engine = Counted::engine();

    let host = HostBackend::new(HostConfig {
        executable: executable.clone(),
        scratch: state.path().join("host"),
        tool_cache: None,
        environ: std::env::vars().collect(),
        engine: None,
        terminal: false,
    });
    show("host", measure(&host, None, steps, rounds, &engine).await);

    for transport in [Transport::Socket, Transport::Attach, Transport::Exec] {
        let config = DockerConfig {
            docker_host: engine.address.clone(),
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
        show(&name, measure(&backend, Some(container), steps, rounds, &engine).await);
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
