//! `esteira daemon`: puts the daemon together.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tokio::runtime::Builder;

use super::{ConfigFile, Exit, caches, fail, logging, register, settings};
use crate::{
    action::{ActionStore, GitNetwork, StoreOptions},
    assignment::{JobConfig, RunnerFacts},
    backend::host::{HostBackend, HostConfig},
    cache::Listening,
    daemon::{About, Daemon, Engine, Gate, Outcome, Signals, StateFolder, Sweeper},
    job::{Backends, spare_proxy},
    label::{Label, Placement},
    metrics::Metrics,
    server::{Backoff, Client, Declared, ServerError, registrar::advise},
    settings::{
        Environment, FileLock, Registration, RegistrationError, Resolved, Settings, TOKEN_VARIABLES,
        lock_file,
    },
};

/// Run jobs until told to stop.
///
/// INT or TERM stops fetching and lets jobs go on for runner.shutdown_timeout; a second one cancels them; a third one
/// leaves at once. Without a registration file the daemon registers itself from GITEA_INSTANCE_URL and
/// GITEA_RUNNER_REGISTRATION_TOKEN (or _TOKEN_FILE). Exit codes: 0 stopped, 1 failed, 2 wrong flags or configuration, 3 the
/// server does not know this runner.
#[derive(Debug, Args)]
pub(super) struct DaemonArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Run one job, then end; or GITEA_RUNNER_ONCE.
    #[arg(long)]
    once: bool,
    /// Labels, separated by commas, that replace those of configuration and registration; or GITEA_RUNNER_LABELS.
    #[arg(long)]
    labels: Option<String>,
}

/// What the flags say, beside the configuration.
#[derive(Debug)]
struct Wanted {
    once: bool,
    labels: Option<String>,
}

/// Runs the subcommand.
pub(super) fn run(args: DaemonArgs, outer: ConfigFile, environment: &Environment) -> ExitCode {
    let DaemonArgs { file, once, labels } = args;
    let config = file.or(outer, environment);
    let args = &Wanted { once, labels };
    let resolved = match settings(config.as_deref(), environment) {
        Ok(resolved) => resolved,
        Err(exit) => return exit,
    };
    logging::start(&resolved.settings.log);
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .thread_stack_size(super::STACK)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(Exit::Failure, format_args!("the program cannot start: {error}")),
    };
    let outcome = runtime.block_on(whole(args, resolved, environment));
    // Whatever still blocks a thread now must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err((exit, sentence)) => fail(exit, format_args!("{sentence}")),
    }
}

async fn whole(args: &Wanted, resolved: Resolved, environment: &Environment) -> Result<Exit, (Exit, String)> {
    let usage = |error: &dyn std::fmt::Display| (Exit::Usage, error.to_string());
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    let settings = resolved.settings;
    let mut signals =
        Signals::listen().map_err(|error| (Exit::Failure, format!("signals cannot be heard: {error}")))?;
    let path = settings.runner.file.clone();
    let lock = lock_file(&path).map_err(|error| usage(&error))?;
    tokio::select! {
        enrolled = enrol_from_environment(&settings, environment) => enrolled?,
        () = signals.stop() => return Ok(Exit::Success),
    }
    if environment.has_token() {
        return Err(restart_without_token(lock));
    }
    let mut registration = Registration::load(&path).map_err(|error| usage(&error))?;
    let labels = labels(args, &settings, environment, &mut registration)
        .map_err(|sentence| (Exit::Usage, sentence))?;
    let state = StateFolder::open(&settings.runner.state_dir).map_err(|error| usage(&error))?;
    let options = settings.connect_options(environment);
    let client = Client::connect(&registration.address, &options, Metrics::default())
        .await
        .map_err(|error| usage(&error))?;
    let client = client.with_credentials(&registration.credentials()).map_err(|error| usage(&error))?;
    let names: Vec<String> = labels.iter().map(|label| label.name().to_owned()).collect();
    let declared = tokio::select! {
        declared = declare(&client, &registration, names) => declared?,
        () = signals.stop() => return Ok(Exit::Success),
    };
    tracing::info!(
        name = registration.name,
        instance = registration.instance(),
        version = crate::VERSION,
        capacity = settings.runner.capacity,
        labels = labels.iter().map(Label::name).collect::<Vec<_>>().join(","),
        "registered"
    );
    let daemon = build(settings, environment, &registration, labels, &declared, client, state, args).await?;
    let ephemeral = registration.ephemeral;
    let outcome = daemon.run(signals).await.map_err(|error| (Exit::Failure, error.to_string()))?;
    if ephemeral && outcome == Outcome::OneJob {
        // The server has forgotten this runner; its identity is of no use to anybody.
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "the used registration could not be removed");
        }
    }
    drop(lock);
    Ok(match outcome {
        Outcome::Stopped | Outcome::OneJob => Exit::Success,
        Outcome::Unregistered => Exit::Unregistered,
        Outcome::Abandoned => Exit::Failure,
    })
}

/// Registers when there is no registration yet and the environment says how.
async fn enrol_from_environment(
    settings: &Settings,
    environment: &Environment,
) -> Result<(), (Exit, String)> {
    let path = &settings.runner.file;
    if !matches!(Registration::load(path), Err(RegistrationError::Missing(_))) {
        return Ok(());
    }
    match register::wish_of_environment(settings, environment) {
        Err(sentence) => Err((Exit::Usage, sentence)),
        Ok(None) => Ok(()),
        Ok(Some(wish)) => {
            let registration = register::enrol(&wish, settings, environment, true).await?;
            tracing::info!(name = registration.name, path = %path.display(), "registered from the environment");
            Ok(())
        }
    }
}

/// A process's first environment can be read by its user's other processes for as long as it lives. The only way to
/// take something out is to start the program again without it; its process id stays.
fn restart_without_token(lock: FileLock) -> (Exit, String) {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return (Exit::Failure, format!("the registration token cannot be dropped: {error}")),
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    for variable in TOKEN_VARIABLES {
        command.env_remove(variable);
    }
    drop(lock);
    let error = command.exec();
    (Exit::Failure, format!("the program cannot start again without the registration token: {error}"))
}

/// Flag, then configuration, then registration; what is new is kept.
fn labels(
    args: &Wanted,
    settings: &Settings,
    environment: &Environment,
    registration: &mut Registration,
) -> Result<Vec<Label>, String> {
    let given = args.labels.as_ref().or(environment.labels.as_ref()).filter(|text| !text.trim().is_empty());
    let texts = match given {
        Some(text) => {
            text.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect()
        }
        None if !settings.runner.labels.is_empty() => settings.runner.labels.clone(),
        None => registration.labels.clone(),
    };
    let (labels, sentences) = Registration::parse_labels(&texts);
    for sentence in sentences {
        tracing::warn!("{sentence}");
    }
    if labels.is_empty() {
        return Err("this runner has no label that could be used: give some with runner.labels or --labels, each NAME:host \
                    or NAME:docker://IMAGE"
            .to_owned());
    }
    if texts != registration.labels {
        registration.labels = texts;
        if let Err(error) = registration.save(&settings.runner.file) {
            tracing::warn!(%error, "the changed labels are not kept; the next start works them out again");
        }
    }
    Ok(labels)
}

/// Tells the server who we are; waits for one that is only starting.
async fn declare(
    client: &Client,
    registration: &Registration,
    labels: Vec<String>,
) -> Result<Declared, (Exit, String)> {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
    let mut strange = 0;
    loop {
        let error = match client.with_limit(Duration::from_secs(15)).declare(labels.clone()).await {
            Ok(declared) => return Ok(declared),
            Err(error) => error,
        };
        let advice = advise(&error, &registration.address);
        match error {
            ServerError::Unregistered => {
                return Err((
                    Exit::Unregistered,
                    format!("{advice}; register it again with `esteira register`"),
                ));
            }
            ServerError::Transient(_) => {}
            // A proxy whose Gitea is only starting looks like no Gitea, but not for ever.
            ServerError::Incompatible(_) if strange < 5 => strange += 1,
            _ => return Err((Exit::Failure, advice)),
        }
        tracing::warn!("{advice}; trying on");
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

#[expect(clippy::too_many_arguments, reason = "it is called once, and each of them is another thing")]
async fn build(
    settings: Settings,
    environment: &Environment,
    registration: &Registration,
    labels: Vec<Label>,
    declared: &Declared,
    client: Client,
    state: StateFolder,
    args: &Wanted,
) -> Result<Daemon<HostBackend, Engine>, (Exit, String)> {
    let failure = |error: &dyn std::fmt::Display| (Exit::Failure, error.to_string());
    let agent = state.agent().map_err(|error| failure(&error))?;
    let scratch = state.folder("host").map_err(|error| failure(&error))?;
    let scratch = if settings.host.workdir_parent.starts_with(&settings.runner.state_dir) {
        scratch
    } else {
        settings.host.workdir_parent.clone()
    };
    let engine =
        Engine::new(&settings, environment, state.path(), &agent.path).counted(client.metrics().clone());
    let wants_engine = settings.container.require_docker
        || !settings.runner.default_image.is_empty()
        || labels.iter().any(|label| matches!(label.placement(), Placement::Docker(_)));
    if wants_engine {
        engine.await_start(&settings.container).await.map_err(|sentence| (Exit::Failure, sentence))?;
    }
    let owner = registration.uuid.clone();
    let sweeper = Sweeper {
        engine: wants_engine.then(|| engine.clone()),
        scratch: scratch.clone(),
        owner: owner.clone(),
    };
    sweeper.sweep(Arc::new(|_| false)).await;
    let tool_cache = match settings.runner.tool_cache_mode.as_str() {
        "shared" => Some(state.folder("tool_cache").map_err(|error| failure(&error))?),
        _ => None,
    };
    let host = HostBackend::new(HostConfig {
        executable: agent.path.clone(),
        scratch: scratch.clone(),
        tool_cache,
        environ: environment.all.clone(),
        engine: engine.get().await.ok().cloned(),
        terminal: settings.runner.allocate_pty,
    });
    let tls = proto::transport::trust(&settings.connect_options(environment).wire)
        .map_err(|error| failure(&error))?;
    let network = GitNetwork::default().with_instance_tls(Arc::new(tls));
    let actions = state.folder("actions").map_err(|error| failure(&error))?;
    let options = StoreOptions {
        offline: settings.cache.offline_mode,
        shallow: settings.runner.action_shallow_clone,
        ..StoreOptions::default()
    };
    let store = ActionStore::open(actions, options, network).map_err(|error| failure(&error))?;
    // Where nothing runs in containers, nobody else has to reach it.
    let listening =
        if wants_engine || engine.get().await.is_ok() { Listening::Everywhere } else { Listening::Loopback };
    let caches = caches::of_daemon(&settings, environment, client.metrics().clone(), listening);
    let about = About { name: registration.name.clone(), instance: registration.address.clone() };
    let folders = vec![state.path().to_owned(), scratch];
    let probe = wants_engine.then(|| engine.probe());
    let gate = Gate::new(settings.health_check.clone(), folders, probe, about);
    let facts = RunnerFacts {
        uuid: owner,
        name: registration.name.clone(),
        address: registration.instance().to_owned(),
        version: crate::VERSION.to_owned(),
        labels,
        capabilities: declared.capabilities.clone(),
        config: job_config(&settings, environment),
    };
    Ok(Daemon {
        facts: Arc::new(facts),
        client,
        state,
        backends: Backends { host, docker: Ok(engine) },
        store,
        caches,
        gate,
        sweeper,
        once: args.once || environment.once,
        ephemeral: registration.ephemeral,
        settings,
    })
}

/// The configuration, as jobs see it.
fn job_config(settings: &Settings, environment: &Environment) -> JobConfig {
    let runner = &settings.runner;
    let proxies = &environment.proxies;
    let mut place_env = BTreeMap::new();
    for (names, value) in [
        (["HTTP_PROXY", "http_proxy"], &proxies.http),
        (["HTTPS_PROXY", "https_proxy"], &proxies.https),
        (["ALL_PROXY", "all_proxy"], &proxies.all),
        (["NO_PROXY", "no_proxy"], &proxies.none),
    ] {
        if !value.is_empty() {
            place_env.extend(names.map(|name| (name.to_owned(), value.clone())));
        }
    }
    // An engine that jobs are to speak to is no matter for proxies.
    let engine = settings.container.docker_host.strip_prefix("tcp://").unwrap_or_default();
    let engine = engine.rsplit_once(':').map_or(engine, |(host, _)| host).trim_matches(['[', ']']);
    spare_proxy(&mut place_env, [engine.to_owned()].into_iter().filter(|host| !host.is_empty()));
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let path = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_owned());
    JobConfig {
        envs: runner.envs.clone(),
        timeout: runner.timeout,
        default_image: text(&runner.default_image),
        force_rebuild: settings.container.force_rebuild,
        github_mirror: text(&runner.github_mirror),
        set_act_env: runner.set_act_env,
        patch_actions: runner.patch_actions,
        node_dir: path(&runner.node_dir).map(|folder| std::path::absolute(&folder).unwrap_or(folder)),
        hooks: [path(&runner.hooks.job_started), path(&runner.hooks.job_completed)],
        place_env,
        ..JobConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Wanted, labels};
    use crate::{
        label::Label,
        secret::Secret,
        settings::{Environment, Registration, Settings},
    };

    #[test]
    fn the_flag_beats_the_configuration_which_beats_the_registration_and_the_result_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = Settings::default();
        settings.runner.file = folder.path().join(".runner");
        let mut registration = Registration {
            id: 1,
            uuid: "u".into(),
            name: "n".into(),
            token: Secret::new("t".into()),
            address: "http://a".into(),
            labels: vec!["old:host".into()],
            ephemeral: false,
        };
        let mut args = Wanted { once: false, labels: None };
        let mut names = |args: &Wanted, settings: &Settings| {
            let labels = labels(args, settings, &Environment::default(), &mut registration).expect("labels");
            labels.iter().map(|label: &Label| label.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&args, &settings), ["old"]);
        settings.runner.labels = vec!["configured:host".into()];
        assert_eq!(names(&args, &settings), ["configured"]);
        args.labels = Some("flag:host, docker:docker://x".into());
        assert_eq!(names(&args, &settings), ["flag", "docker"]);
        let kept = Registration::load(&settings.runner.file).expect("it is kept");
        assert_eq!(kept.labels, ["flag:host", "docker:docker://x"]);
    }
}
