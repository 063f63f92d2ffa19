//! The container backend on a real engine. Without one these tests say so and pass, unless `CI=true`.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use esteira::{
    backend::{
        Backend, BackendError, ContainerSpec, ExecSpec, Exit, FileIn, ImageBuild, ImageRun, JobEnv, JobSpec,
        Ladder, ServiceSpec,
        docker::{DockerBackend, DockerConfig, DockerEnv, Transport},
    },
    cancel::{Cancel, CancelCause},
};

use super::{CancelAtFirst, ESTEIRA, Kept, Rows, ask, content, contract, job, print, run, script};

/// An image with a shell that the machine has; named by `ESTEIRA_TEST_IMAGE`.
pub(crate) fn image() -> String {
    std::env::var("ESTEIRA_TEST_IMAGE").unwrap_or_else(|_| "node:24-bookworm-slim".to_owned())
}

fn config(state: &tempfile::TempDir) -> DockerConfig {
    DockerConfig {
        docker_host: "-".to_owned(),
        environ: std::env::vars().collect(),
        state: state.path().to_owned(),
        executable: ESTEIRA.into(),
        network: String::new(),
        enable_ipv4: None,
        enable_ipv6: None,
        privileged: false,
        options: String::new(),
        workdir_parent: "/workspace".to_owned(),
        bind_workdir: false,
        valid_volumes: Vec::new(),
        force_pull: false,
        service_ready_timeout: Some(Duration::from_mins(1)),
        tool_cache: None,
        transport: Transport::Auto,
        terminal: false,
    }
}

/// A backend of this test's own; `None` without an engine.
pub(crate) async fn backend(
    change: impl FnOnce(&mut DockerConfig),
) -> Option<(DockerBackend, tempfile::TempDir)> {
    let state = tempfile::tempdir().expect("a folder");
    let mut config = config(&state);
    change(&mut config);
    match DockerBackend::connect(config).await {
        Ok(backend) => match backend.has_image(&image()).await {
            Ok(true) => Some((backend, state)),
            other => skip(&format!("the image {} is not there ({other:?})", image())),
        },
        Err(error) => skip(&error.to_string()),
    }
}

#[expect(clippy::print_stderr, reason = "a skip is said loudly")]
fn skip<T>(reason: &str) -> Option<T> {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "with CI=true these tests need an engine: {reason}"
    );
    eprintln!("SKIPPED: no test of containers: {reason}");
    None
}

/// A number that no other test of this process has.
fn task() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    i64::from(std::process::id()) * 1000 + NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) const OWNER: &str = "esteira-tests";

pub(super) fn spec(container: ContainerSpec) -> JobSpec {
    let container = ContainerSpec { image: image(), ..container };
    JobSpec { container: Some(container), ..job(OWNER, task()) }
}

pub(super) fn options(options: &str) -> ContainerSpec {
    ContainerSpec { options: options.to_owned(), ..ContainerSpec::default() }
}

pub(super) async fn prepare(backend: &DockerBackend, spec: JobSpec) -> Result<DockerEnv, BackendError> {
    backend.prepare(spec, &Rows::default(), &Cancel::new()).await
}

pub(super) async fn finish(backend: &DockerBackend, env: DockerEnv) {
    let report = env.teardown(Duration::from_mins(1)).await;
    assert_eq!(report.left_over, Vec::<String>::new());
    let _ = backend;
}

/// Nothing of this task is left in the engine.
async fn nothing_left(backend: &DockerBackend, task: i64) {
    let reaped = backend.reap(OWNER, |other| other != task).await.expect("the engine answers");
    assert_eq!(reaped.removed, Vec::<String>::new());
}

#[tokio::test]
async fn keeps_the_contract_over_a_socket() {
    let Some((backend, _state)) = backend(|config| config.transport = Transport::Socket).await else {
        return;
    };
    let spec = spec(ContainerSpec::default());
    let task = spec.task;
    let env = prepare(&backend, spec).await.expect("a place");
    contract::keeps(&env).await;
    finish(&backend, env).await;
    nothing_left(&backend, task).await;
}

#[tokio::test]
async fn keeps_the_contract_over_attach() {
    let Some((backend, state)) = backend(|config| config.transport = Transport::Attach).await else {
        return;
    };
    let first = spec(ContainerSpec::default());
    let task = first.task;
    let env = prepare(&backend, first).await.expect("a place");
    contract::keeps(&env).await;
    finish(&backend, env).await;
    // Somebody removes the agent's volume: the next job has it again.
    let engine = bollard::Docker::connect_with_defaults().expect("a client");
    let filters = std::collections::HashMap::from([("label".to_owned(), vec!["esteira.agent".to_owned()])]);
    let list = bollard::query_parameters::ListVolumesOptionsBuilder::default().filters(&filters).build();
    let hash = std::fs::read_dir(state.path())
        .expect("the state")
        .find_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("agent-").map(str::to_owned))
        .expect("the agent's copy");
    let ours = async || {
        let volumes = engine.list_volumes(Some(list.clone())).await.expect("the engine answers").volumes;
        volumes
            .unwrap_or_default()
            .into_iter()
            .find(|volume| volume.labels.get("esteira.agent") == Some(&hash))
    };
    let volume = ours().await.expect("the agent's volume").name;
    let none = None::<bollard::query_parameters::RemoveVolumeOptions>;
    if engine.remove_volume(&volume, none.clone()).await.is_ok() {
        let env = prepare(&backend, spec(ContainerSpec::default())).await.expect("a place");
        assert_eq!(print(&env, "echo again").await, "again\n");
        finish(&backend, env).await;
        // In use by another test: it stays with the machine, as its exemption says.
        engine.remove_volume(&volume, none).await.ok();
    }
    nothing_left(&backend, task).await;
}

#[tokio::test]
async fn processes_in_a_container_can_have_a_terminal() {
    for transport in [Transport::Socket, Transport::Attach] {
        let with_terminal = |config: &mut DockerConfig| {
            (config.transport, config.terminal) = (transport, true);
        };
        let Some((backend, _state)) = self::backend(with_terminal).await else { return };
        let env = prepare(&backend, spec(ContainerSpec::default())).await.expect("a place");
        contract::keeps_with_terminal(&env).await;
        finish(&backend, env).await;
    }
}

#[tokio::test]
async fn works_without_an_agent() {
    let Some((backend, _state)) = backend(|config| config.transport = Transport::Exec).await else { return };
    let spec = spec(ContainerSpec::default());
    let task = spec.task;
    let env = prepare(&backend, spec).await.expect("a place");
    contract::keeps_without_agent(&env).await;
    finish(&backend, env).await;
    nothing_left(&backend, task).await;
}

#[tokio::test]
async fn a_user_who_is_not_root_owns_the_jobs_folders() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    for transport in [Transport::Socket, Transport::Attach, Transport::Exec] {
        let Some((backend, _state)) = self::backend(|config| config.transport = transport).await else {
            return;
        };
        let env = prepare(&backend, spec(options("--user 1234:1234"))).await.expect("a place");
        let layout = env.layout();
        let text = format!(
            "id -u; touch file {}/x {}/y {}/z && echo all",
            layout.temp, layout.actions, layout.tool_cache
        );
        assert_eq!(print(&env, &text).await, "1234\nall\n", "{transport:?}");
        finish(&backend, env).await;
    }
    drop(backend);
}

#[tokio::test]
async fn a_workspace_may_be_a_folder_of_this_machine_under_the_same_path() {
    let parent = tempfile::tempdir().expect("a folder");
    let root = parent.path().to_str().expect("UTF-8").to_owned();
    for user in ["", "--user 1234:1234"] {
        let change = |config: &mut DockerConfig| {
            config.bind_workdir = true;
            config.workdir_parent = root.clone();
        };
        let Some((backend, _state)) = backend(change).await else { return };
        let spec = spec(options(user));
        let task = spec.task;
        let env = prepare(&backend, spec).await.expect("a place");
        let workspace = env.layout().workspace.clone();
        assert!(workspace.starts_with(&root) && workspace.ends_with("/alice/project"), "{workspace}");
        print(&env, "echo from the job > here").await;
        let here = std::fs::read_to_string(format!("{workspace}/here")).expect("the same file");
        assert_eq!(here, "from the job\n");
        finish(&backend, env).await;
        assert_eq!(std::fs::read_dir(&root).expect("still there").count(), 0);
        // As a crash leaves it.
        std::fs::create_dir_all(format!("{root}/{task}-{}/alice/project", "esteiratests")).expect("folders");
        let reaped = backend.reap(OWNER, |other| other != task).await.expect("the engine answers");
        assert_eq!(reaped.removed, [format!("workspace {root}/{task}-esteiratests")]);
    }
}

#[tokio::test]
async fn a_node_of_the_runners_is_there_and_cannot_be_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("bin")).expect("a folder");
    std::fs::write(folder.path().join("bin/node"), "#!/bin/sh\necho supplied\n").expect("a program");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path().join("bin/node"), mode).expect("may run");
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let spec = JobSpec { node: Some(folder.path().to_owned()), ..spec(ContainerSpec::default()) };
    let env = prepare(&backend, spec).await.expect("a place");
    let node = env.layout().node.clone();
    assert_eq!(
        print(&env, &format!("{node}; echo x 2>/dev/null > {node} || echo kept")).await,
        "supplied\nkept\n"
    );
    finish(&backend, env).await;
}

#[tokio::test]
async fn a_read_only_root_and_limits_are_no_obstacle() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let options =
        options("--read-only --memory 256m --cpus 1 --cap-drop ALL --hostname box --init -e FROM_OPTIONS=1");
    let env = prepare(&backend, spec(options)).await.expect("a place");
    let layout = env.layout();
    let text = format!(
        "touch /x 2>/dev/null || echo closed; touch file {}/x && hostname; echo $FROM_OPTIONS",
        layout.tool_cache
    );
    assert_eq!(print(&env, &text).await, "closed\nbox\n1\n");
    finish(&backend, env).await;
}

#[tokio::test]
async fn what_the_configuration_does_not_grant_is_refused_or_left_out() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    for text in ["--privileged", "--pid=host", "--no-such-flag"] {
        let spec = spec(options(text));
        let task = spec.task;
        let error = prepare(&backend, spec).await.expect_err(text);
        assert!(
            matches!(&error, BackendError::Refused(reason) if reason.contains(text.trim_end_matches("=host"))),
            "{error}"
        );
        nothing_left(&backend, task).await;
    }
    let volumes = vec!["/etc:/stolen".to_owned(), "/tmp/../etc:/stolen2".to_owned()];
    let rows = Rows::default();
    let container = ContainerSpec {
        volumes,
        options: "--name x -v /etc:/stolen3".to_owned(),
        ..ContainerSpec::default()
    };
    let env = backend.prepare(spec(container), &rows, &Cancel::new()).await.expect("a place");
    assert_eq!(
        print(&env, "ls -d /stolen* 2>/dev/null; ls /var/run/docker.sock 2>/dev/null; true").await,
        ""
    );
    let text = rows.text();
    assert_eq!(text.matches("valid_volumes").count(), 3, "{text}");
    assert!(text.contains("--name is ignored"), "{text}");
    finish(&backend, env).await;
}

#[tokio::test]
async fn an_image_that_is_not_there_is_an_error_with_its_name() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let mut spec = spec(ContainerSpec::default());
    spec.container =
        Some(ContainerSpec { image: "localhost:1/no/such:image".into(), ..ContainerSpec::default() });
    let task = spec.task;
    let error = prepare(&backend, spec).await.expect_err("not there");
    assert!(
        matches!(&error, BackendError::Image(reason) if reason.contains("localhost:1/no/such:image")),
        "{error}"
    );
    nothing_left(&backend, task).await;
}

#[tokio::test]
async fn a_container_that_dies_is_named_as_the_reason() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let env = prepare(&backend, spec(ContainerSpec::default())).await.expect("a place");
    let engine = bollard::Docker::connect_with_defaults().expect("a client");
    let id = env.layout().container_id.clone();
    let killer = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        engine.kill_container(&id, None).await
    };
    let mut kept = Kept::default();
    let cancel = Cancel::new();
    let step = env.exec(script(&env, "echo on; sleep 60"), &mut kept, &cancel);
    let (ended, killed) = tokio::join!(step, killer);
    killed.ok();
    let error = ended.expect_err("lost");
    assert!(
        matches!(&error, BackendError::Lost(reason) if reason.contains("its container has ended with 137")),
        "{error}"
    );
    assert_eq!(kept.out(), "on\n");
    finish(&backend, env).await;
}

#[tokio::test]
async fn a_cancel_while_preparing_leaves_nothing() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    for milliseconds in [0, 5, 20, 60, 150] {
        let spec = spec(ContainerSpec::default());
        let task = spec.task;
        let cancel = Cancel::new();
        let trigger = async {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            cancel.cancel(CancelCause::Server);
        };
        let rows = Rows::default();
        match tokio::join!(backend.prepare(spec, &rows, &cancel), trigger).0 {
            Ok(env) => finish(&backend, env).await,
            Err(error) => assert!(matches!(error, BackendError::Cancelled), "{error}"),
        }
        nothing_left(&backend, task).await;
    }
}

pub(super) fn service(id: &str, options: &str, command: &str) -> ServiceSpec {
    let container = ContainerSpec {
        image: image(),
        options: options.to_owned(),
        // Without a health check a port would be waited for.
        ports: if options.is_empty() { Vec::new() } else { vec!["80".into()] },
        ..ContainerSpec::default()
    };
    let command = ["sh", "-c", command].map(str::to_owned).to_vec();
    ServiceSpec { id: id.to_owned(), container, command, entrypoint: Vec::new() }
}

#[tokio::test]
async fn services_are_waited_for_and_reached_by_name() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let healthy = "--health-cmd 'test -f /ready' --health-interval 200ms";
    let services = vec![
        service("slow", healthy, "sleep 0.5; touch /ready; sleep 600"),
        service("plain", "", "sleep 600"),
    ];
    let spec = JobSpec { services, ..spec(ContainerSpec::default()) };
    let task = spec.task;
    let rows = Rows::default();
    let env = backend.prepare(spec, &rows, &Cancel::new()).await.expect("a place");
    assert!(rows.text().contains("The service slow is healthy"), "{}", rows.text());
    let facts = &env.layout().services;
    assert_eq!(facts.keys().collect::<Vec<_>>(), ["plain", "slow"]);
    assert!(facts["slow"].ports["80"].parse::<u16>().is_ok(), "{facts:?}");
    assert_eq!(facts["slow"].network, env.layout().network);
    print(&env, "getent hosts slow && getent hosts plain").await;
    finish(&backend, env).await;
    nothing_left(&backend, task).await;
}

#[tokio::test]
async fn a_service_without_a_health_check_is_waited_for_at_its_port() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let late = "sleep 1; exec python3 -m http.server 8000";
    let mut web = service("web", "", late);
    web.container.ports = vec!["8000".into()];
    let spec = JobSpec { services: vec![web], ..spec(ContainerSpec::default()) };
    let rows = Rows::default();
    let env = backend.prepare(spec, &rows, &Cancel::new()).await.expect("a place");
    let ask = "exec 3<>/dev/tcp/web/8000 && echo there";
    assert_eq!(print(&env, &format!("bash -c '{ask}'")).await, "there\n", "{}", rows.text());
    finish(&backend, env).await;
}

#[tokio::test]
async fn a_service_that_fails_shows_what_it_printed() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let options = "--health-cmd 'echo probe says no; false' --health-interval 100ms --health-retries 1";
    let services = vec![service("broken", options, "echo last words; sleep 600")];
    let spec = JobSpec { services, ..spec(ContainerSpec::default()) };
    let task = spec.task;
    let rows = Rows::default();
    let error = backend.prepare(spec, &rows, &Cancel::new()).await.expect_err("unhealthy");
    assert_eq!(error.to_string(), "the service broken is not healthy: probe says no");
    assert!(rows.text().contains("last words"), "{}", rows.text());
    nothing_left(&backend, task).await;
}

#[tokio::test]
async fn an_action_in_a_container_shares_the_jobs_places_and_network() {
    for transport in [Transport::Socket, Transport::Exec] {
        let Some((backend, _state)) = backend(|config| config.transport = transport).await else { return };
        let env = prepare(&backend, spec(ContainerSpec::default())).await.expect("a place");
        let layout = env.layout().clone();
        print(&env, "echo from the job > shared").await;
        let output = format!("{}/output", layout.temp);
        let text = "pwd; cat shared; echo $OUT; echo answer > $OUT; cat /github/runner_temp/given; readlink /proc/self/ns/net > name; exit 4";
        let container = ContainerSpec {
            image: image(),
            env: BTreeMap::from([("OUT".to_owned(), output.clone())]),
            ..ContainerSpec::default()
        };
        let run = ImageRun {
            container,
            entrypoint: vec!["sh".into(), "-c".into()],
            args: Some(vec![text.into()]),
            files: vec![FileIn {
                path: format!("{}/given", layout.temp),
                mode: 0o644,
                bytes: "given\n".into(),
            }],
            collect: vec![ask(&output, 100)],
            ladder: Ladder::default(),
        };
        let mut kept = Kept::default();
        let outcome = env.run_image(run.clone(), &mut kept, &Cancel::new()).await.expect("it ran");
        assert_eq!(outcome.exit, Exit::Code(4), "{transport:?} {} {}", kept.out(), kept.err());
        assert_eq!(kept.out(), "/github/workspace\nfrom the job\n/github/runner_temp/output\ngiven\n");
        assert_eq!(outcome.files, [content("answer\n")]);
        // One network: the job's own.
        let same = "[ \"$(cat name)\" = \"$(readlink /proc/self/ns/net)\" ] && echo same";
        assert_eq!(print(&env, same).await, "same\n");

        let missing = ImageRun { entrypoint: vec!["/no/such".into()], args: None, ..run };
        let outcome = env.run_image(missing, &mut kept, &Cancel::new()).await.expect("an end");
        assert!(
            matches!(&outcome.exit, Exit::NotStarted(reason) if reason.contains("/no/such")),
            "{outcome:?}"
        );
        finish(&backend, env).await;
    }
}

#[tokio::test]
async fn a_cancelled_action_in_a_container_ends() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let env = prepare(&backend, spec(ContainerSpec::default())).await.expect("a place");
    let ladder = Ladder { interrupt: Duration::from_secs(20), terminate: Duration::from_secs(20) };
    let run = ImageRun {
        container: ContainerSpec { image: image(), ..ContainerSpec::default() },
        entrypoint: vec!["sh".into(), "-c".into()],
        args: Some(vec!["trap 'echo bye; exit 7' INT; echo ready; while :; do sleep 0.1; done".into()]),
        files: Vec::new(),
        collect: Vec::new(),
        ladder,
    };
    let cancel = Cancel::new();
    let mut output = CancelAtFirst { kept: Kept::default(), cancel: cancel.clone() };
    let outcome = env.run_image(run, &mut output, &cancel).await.expect("an end");
    assert_eq!((outcome.exit, output.kept.out()), (Exit::Code(7), "ready\nbye\n"));
    finish(&backend, env).await;
}

#[tokio::test]
async fn an_image_is_built_once_for_its_content() {
    let Some((backend, state)) = backend(|_| {}).await else { return };
    let env = prepare(&backend, spec(ContainerSpec::default())).await.expect("a place");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("Dockerfile"),
        format!("FROM {}\nCOPY word /word\nENTRYPOINT [\"cat\", \"/word\"]\n", image()),
    )
    .expect("a file");
    std::fs::write(folder.path().join("word"), "built\n").expect("a file");
    let context = state.path().join("context.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&context).expect("a file"));
    builder.append_dir_all("", folder.path()).expect("packed");
    builder.into_inner().expect("finished");
    let tag = format!("esteira-test-{}:1", uuid_of(&state));
    let build = ImageBuild { context, dockerfile: "Dockerfile".into(), tag: tag.clone(), force: false };
    let mut first = Kept::default();
    env.build_image(build.clone(), &mut first, &Cancel::new()).await.expect("built");
    assert!(first.out().contains("Successfully tagged"), "{}", first.out());
    let mut second = Kept::default();
    env.build_image(build.clone(), &mut second, &Cancel::new()).await.expect("there");
    assert_eq!(second.out(), "");
    let run = ImageRun {
        container: ContainerSpec { image: tag.clone(), ..ContainerSpec::default() },
        entrypoint: Vec::new(),
        args: None,
        files: Vec::new(),
        collect: Vec::new(),
        ladder: Ladder::default(),
    };
    let mut kept = Kept::default();
    let outcome = env.run_image(run, &mut kept, &Cancel::new()).await.expect("it ran");
    assert_eq!((outcome.exit, kept.out()), (Exit::Code(0), "built\n"));
    let broken = ImageBuild { dockerfile: "None".into(), tag: format!("{tag}x"), ..build };
    let error = env.build_image(broken, &mut kept, &Cancel::new()).await.expect_err("no Dockerfile");
    assert!(matches!(error, BackendError::Image(_)), "{error}");
    finish(&backend, env).await;
    let engine = bollard::Docker::connect_with_defaults().expect("a client");
    engine
        .remove_image(&tag, None::<bollard::query_parameters::RemoveImageOptions>, None)
        .await
        .expect("removed");
}

fn uuid_of(state: &tempfile::TempDir) -> String {
    state
        .path()
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .to_ascii_lowercase()
        .replace(|char: char| !char.is_ascii_alphanumeric(), "")
}

#[tokio::test]
async fn what_a_crash_leaves_is_found_by_its_owner_alone() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let services = vec![service("beside", "", "sleep 600")];
    let lost = JobSpec { services, owner: "esteira-tests-lost".to_owned(), ..spec(ContainerSpec::default()) };
    let other = spec(ContainerSpec::default());
    let env = prepare(&backend, lost).await.expect("a place");
    let kept = prepare(&backend, other).await.expect("a place");
    std::mem::forget(env);
    let reaped = backend.reap("esteira-tests-lost", |_| true).await.expect("the engine answers");
    assert_eq!(reaped.removed, Vec::<String>::new());
    let reaped = backend.reap("esteira-tests-lost", |_| false).await.expect("the engine answers");
    assert_eq!(reaped.left_over, Vec::<String>::new());
    let count = |kind: &str| reaped.removed.iter().filter(|what| what.starts_with(kind)).count();
    assert_eq!((count("container"), count("network")), (2, 1), "{:?}", reaped.removed);
    assert_eq!(print(&kept, "echo alive").await, "alive\n");
    finish(&backend, kept).await;
}

#[tokio::test]
async fn an_agent_without_its_runner_ends_the_container() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let spec = JobSpec { owner: "esteira-tests-alone".to_owned(), ..spec(ContainerSpec::default()) };
    let env = prepare(&backend, spec).await.expect("a place");
    let id = env.layout().container_id.clone();
    print(&env, "sleep 600 >/dev/null 2>&1 &").await;
    drop(env);
    let engine = bollard::Docker::connect_with_defaults().expect("a client");
    let mut waiting =
        std::pin::pin!(engine.wait_container(&id, None::<bollard::query_parameters::WaitContainerOptions>));
    let ended =
        tokio::time::timeout(Duration::from_mins(1), futures_util::StreamExt::next(&mut waiting)).await;
    assert!(ended.is_ok(), "the container ends by itself");
    backend.reap("esteira-tests-alone", |_| false).await.expect("the engine answers");
}

#[tokio::test]
async fn an_image_without_anything_in_it_is_enough() {
    let Some((backend, state)) = backend(|_| {}).await else { return };
    // Podman gives what it imports no other tag.
    let tag = format!("esteira-test-{}:latest", uuid_of(&state));
    let engine = bollard::Docker::connect_with_defaults().expect("a client");
    let import = bollard::query_parameters::CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo(tag.trim_end_matches(":latest"))
        .tag("latest")
        .build();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o755);
    builder.append_data(&mut header, "etc", std::io::empty()).expect("a folder");
    let archive = bollard::body_full(builder.into_inner().expect("finished").into());
    let mut imported = std::pin::pin!(engine.create_image(Some(import), Some(archive), None));
    while let Some(piece) = futures_util::StreamExt::next(&mut imported).await {
        piece.expect("imported");
    }
    let container = Some(ContainerSpec { image: tag.clone(), ..ContainerSpec::default() });
    let env = prepare(&backend, JobSpec { container, ..job(OWNER, task()) }).await.expect("a place");
    let (outcome, _) = run(&env, script(&env, "true")).await;
    assert!(
        matches!(&outcome.exit, Exit::NotStarted(reason) if reason.starts_with("sh: not found in PATH")),
        "{outcome:?}"
    );
    // The one program that is there is the agent itself.
    let argv = vec!["/__esteira/agent".to_owned(), "agent".to_owned()];
    let (outcome, kept) = run(&env, ExecSpec { argv, ..script(&env, "") }).await;
    assert_eq!(outcome.exit, Exit::Code(1), "{}", kept.err());
    finish(&backend, env).await;
    let removed =
        engine.remove_image(&tag, None::<bollard::query_parameters::RemoveImageOptions>, None).await;
    removed.expect("removed");
}

#[tokio::test]
async fn a_program_that_is_missing_in_the_image_is_named() {
    let Some((backend, _state)) = backend(|_| {}).await else { return };
    let env = prepare(&backend, spec(ContainerSpec::default())).await.expect("a place");
    let argv = vec!["pwsh".to_owned()];
    let (outcome, _) = run(&env, ExecSpec { argv, ..script(&env, "") }).await;
    assert!(
        matches!(&outcome.exit, Exit::NotStarted(reason) if reason.starts_with("pwsh: not found in PATH"))
    );
    finish(&backend, env).await;
}
