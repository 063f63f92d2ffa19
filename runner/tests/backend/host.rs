//! The host backend.

use std::{collections::BTreeMap, path::Path, time::Duration};

use esteira::{
    backend::{
        Backend, BackendError, ContainerSpec, ExecSpec, Exit, ImageRun, JobEnv, JobSpec, Ladder, Output,
        ServiceSpec, Stream,
        host::{HostBackend, HostConfig, HostEnv},
    },
    cancel::{Cancel, CancelCause},
};

use super::{ESTEIRA, Kept, Rows, contract, docker, job, print, run, script};

fn config(scratch: &Path) -> HostConfig {
    HostConfig {
        executable: ESTEIRA.into(),
        scratch: scratch.to_owned(),
        tool_cache: None,
        environ: std::env::vars().chain([("DAEMON_SECRET".to_owned(), "hunter2".to_owned())]).collect(),
        engine: None,
        terminal: false,
    }
}

async fn place(scratch: &Path) -> HostEnv {
    let backend = HostBackend::new(config(scratch));
    backend.prepare(job("tests", 1), &Rows::default(), &Cancel::new()).await.expect("a place")
}

#[tokio::test]
async fn keeps_the_contract() {
    let scratch = tempfile::tempdir().expect("a folder");
    let env = place(scratch.path()).await;
    contract::keeps(&env).await;
    let report = env.teardown(Duration::from_secs(30)).await;
    assert_eq!(report.left_over, Vec::<String>::new());
    assert_eq!(std::fs::read_dir(scratch.path()).expect("the folder").count(), 0);
}

#[tokio::test]
async fn processes_can_have_a_terminal() {
    let scratch = tempfile::tempdir().expect("a folder");
    let backend = HostBackend::new(HostConfig { terminal: true, ..config(scratch.path()) });
    let env = backend.prepare(job("tests", 1), &Rows::default(), &Cancel::new()).await.expect("a place");
    contract::keeps_with_terminal(&env).await;
    env.teardown(Duration::from_secs(30)).await;
}

/// Keeps what a process printed, and takes longer for a piece than a pipe may be held open.
struct Slow(Kept);

impl Output for Slow {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        tokio::time::sleep(Duration::from_secs(6)).await;
        self.0.write(stream, bytes).await;
    }
}

#[tokio::test]
async fn a_slow_far_side_loses_nothing_of_a_process_that_has_ended() {
    let scratch = tempfile::tempdir().expect("a folder");
    let env = place(scratch.path()).await;
    let mut output = Slow(Kept::default());
    let spec = script(&env, "echo out; echo err >&2");
    let outcome = env.exec(spec, &mut output, &Cancel::new()).await.expect("an end");
    assert_eq!((output.0.out(), output.0.err()), ("out\n", "err\n"));
    assert!(!outcome.output_held);
    env.teardown(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn the_daemons_environment_stays_outside() {
    let scratch = tempfile::tempdir().expect("a folder");
    let env = place(scratch.path()).await;
    assert!(!env.layout().environ.contains_key("DAEMON_SECRET"));
    assert_eq!(
        print(&env, "cat /proc/$PPID/environ | tr '\\0' '\\n' | grep -c hunter2 || true").await,
        "0\n"
    );
    env.teardown(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn a_background_process_lives_until_the_end_of_the_job_and_is_named() {
    let scratch = tempfile::tempdir().expect("a folder");
    let env = place(scratch.path()).await;
    print(&env, "setsid sleep 61 >/dev/null 2>&1 & echo $! > pid").await;
    assert_eq!(print(&env, "kill -0 $(cat pid) && echo alive").await, "alive\n");
    let pid = print(&env, "cat pid").await;
    let report = env.teardown(Duration::from_secs(30)).await;
    assert_eq!(report.ended, [format!("sleep ({})", pid.trim())]);
    assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
}

#[tokio::test]
async fn a_cancelled_preparation_leaves_nothing() {
    let scratch = tempfile::tempdir().expect("a folder");
    let cancel = Cancel::new();
    cancel.cancel(CancelCause::Server);
    let result =
        HostBackend::new(config(scratch.path())).prepare(job("tests", 1), &Rows::default(), &cancel).await;
    assert!(matches!(result, Err(BackendError::Cancelled)));
    assert_eq!(std::fs::read_dir(scratch.path()).expect("the folder").count(), 0);
}

#[tokio::test]
async fn a_process_gets_exactly_its_environment() {
    let scratch = tempfile::tempdir().expect("a folder");
    let env = place(scratch.path()).await;
    let environ = BTreeMap::from([("ONLY".to_owned(), "this\nand = that".to_owned())]);
    let argv = vec!["/usr/bin/env".to_owned(), "-0".to_owned()];
    let (outcome, kept) = run(&env, ExecSpec { argv, env: environ, ..script(&env, "") }).await;
    assert_eq!((outcome.exit, kept.out()), (Exit::Code(0), "ONLY=this\nand = that\0"));
    env.teardown(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn containers_stand_beside_a_job_on_the_host() {
    let Some((engine, _state)) = docker::backend(|_| {}).await else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let config = HostConfig { engine: Some(engine.clone()), ..config(scratch.path()) };
    let container =
        ContainerSpec { image: docker::image(), ports: vec!["80".into()], ..ContainerSpec::default() };
    let service = ServiceSpec {
        id: "beside".to_owned(),
        container: container.clone(),
        command: vec!["sleep".into(), "600".into()],
        entrypoint: Vec::new(),
    };
    let spec =
        JobSpec { services: vec![service], ..job("esteira-tests-host", i64::from(std::process::id())) };
    let env =
        HostBackend::new(config).prepare(spec, &Rows::default(), &Cancel::new()).await.expect("a place");
    assert!(env.layout().services["beside"].ports["80"].parse::<u16>().is_ok());
    print(&env, "echo from the host > shared").await;
    let output = format!("{}/output", env.layout().temp);
    let run = ImageRun {
        container: ContainerSpec {
            ports: Vec::new(),
            env: BTreeMap::from([("OUT".to_owned(), output.clone())]),
            ..container
        },
        entrypoint: vec!["sh".into(), "-c".into()],
        args: Some(vec!["pwd; cat shared; echo answer > $OUT".into()]),
        files: Vec::new(),
        collect: vec![super::ask(&output, 100)],
        ladder: Ladder::default(),
    };
    let mut kept = Kept::default();
    let outcome = env.run_image(run, &mut kept, &Cancel::new()).await.expect("it ran");
    assert_eq!(
        (outcome.exit, kept.out()),
        (Exit::Code(0), "/github/workspace\nfrom the host\n"),
        "{}",
        kept.err()
    );
    assert_eq!(outcome.files, [super::content("answer\n")]);
    let report = env.teardown(Duration::from_secs(60)).await;
    assert_eq!(report.left_over, Vec::<String>::new());
    let reaped = engine.reap("esteira-tests-host", |_| false).await.expect("the engine answers");
    assert_eq!(reaped.removed, Vec::<String>::new());
}
