//! `esteira exec`: the workflows of a folder, run here. Arguments and wiring; the work is in [`crate::source::local`].

mod given;
mod official;
mod session;

use std::{
    collections::{BTreeMap, HashMap},
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use given::{axis, file_if_there, pair, placement, secrets, with_file};
use official::OfficialFlags;
use session::Session;
use workflows::{Code, LintOptions, Scope, SourceFile, Value, Workflow, lint, parse_payload, plan};

use crate::{
    action::{ActionSource, ActionStore, GitNetwork, StoreOptions, WorkingTree},
    assignment::{JobConfig, RunnerFacts},
    backend::{
        Notes,
        docker::{DockerBackend, DockerConfig, Transport},
        host::{HostBackend, HostConfig},
    },
    cache::{Caches, Limits, Listening, ServerOptions},
    cancel::{Cancel, CancelCause},
    job::Backends,
    label::Placement,
    metrics::Metrics,
    report::console::{Console, Look},
    settings::Environment,
    source::local::{EventSpec, LocalOptions, LocalRun, Repository, find},
};

/// Run the workflows of the current repository here, without a server.
#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// List the workflows and their jobs instead of running them.
    #[arg(short, long)]
    list: bool,
    /// Run this job and what it needs.
    #[arg(short, long)]
    job: Vec<String>,
    /// The event; default: `push`.
    #[arg(short = 'E', long)]
    event: Option<String>,
    /// Take the first event of the first workflow.
    #[arg(long)]
    detect_event: bool,
    /// A JSON file with the event's payload.
    #[arg(short = 'e', long)]
    eventpath: Option<PathBuf>,
    /// A workflow file or a folder of them; default: `.gitea/workflows`, else `.github/workflows`.
    #[arg(short = 'W', long)]
    workflows: Option<PathBuf>,
    /// The repository.
    #[arg(short = 'C', long, default_value = ".")]
    directory: PathBuf,
    /// Do not look into folders below that of the workflows.
    #[arg(long)]
    no_recurse: bool,
    /// A variable for every job, `NAME=VALUE`; without value that of the environment.
    #[arg(long)]
    env: Vec<String>,
    /// A file of such variables: `NAME=VALUE` lines, `NAME<<END` blocks, or a YAML mapping.
    #[arg(long, default_value = ".env")]
    env_file: PathBuf,
    /// A file of secrets.
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// A file for the `vars` context.
    #[arg(long)]
    var_file: Option<PathBuf>,
    /// A file of inputs.
    #[arg(long)]
    input_file: Option<PathBuf>,
    /// A secret, `NAME=VALUE`; without value that of the environment, else it is asked for.
    #[arg(short, long)]
    secret: Vec<String>,
    /// A variable of the `vars` context, `NAME=VALUE`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    var: Vec<(String, String)>,
    /// An input of a dispatched workflow, `NAME=VALUE`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    input: Vec<(String, String)>,
    /// Run only this value of a matrix, `KEY:VALUE`.
    #[arg(short, long, value_name = "KEY:VALUE", value_parser = axis)]
    matrix: Vec<(String, String)>,
    /// The image of every label; `-self-hosted` runs on this machine.
    #[arg(short, long, allow_hyphen_values = true)]
    image: Option<String>,
    /// The image of one label, `LABEL=IMAGE`.
    #[arg(short = 'P', long, value_name = "LABEL=IMAGE", value_parser = pair)]
    platform: Vec<(String, String)>,
    /// Where actions without a host come from.
    #[arg(long, default_value = "https://github.com")]
    default_actions_url: String,
    /// A folder that stands for an action's repository, `OWNER/NAME[@REF]=PATH`.
    #[arg(long, value_name = "NAME=PATH", value_parser = pair)]
    local_action: Vec<(String, String)>,
    /// Fetch nothing: use what is in the store.
    #[arg(long)]
    offline: bool,
    /// Let `actions/checkout` clone instead of copying the working tree.
    #[arg(long)]
    no_skip_checkout: bool,
    /// The address of the server that is stood in for; default: that of the remote.
    #[arg(long)]
    gitea_instance: Option<String>,
    /// `github.actor`; the default is that of the official runner.
    #[arg(short, long)]
    actor: Option<String>,
    /// Pull images although they are there.
    #[arg(short, long)]
    pull: bool,
    /// Give job containers all privileges.
    #[arg(long)]
    privileged: bool,
    /// More options for job containers.
    #[arg(long)]
    container_opts: Option<String>,
    /// The engine's address; `-` keeps its socket out of the jobs.
    #[arg(long)]
    container_daemon_socket: Option<String>,
    /// The network of job containers.
    #[arg(long)]
    network: Option<String>,
    /// Rebuild the images of actions.
    #[arg(long)]
    rebuild: bool,
    /// Validate and plan, but run nothing.
    #[arg(short = 'n', long, visible_alias = "dry-run")]
    dryrun: bool,
    /// Tell everything as JSON lines.
    #[arg(long)]
    json: bool,
    /// Serve no cache to the jobs.
    #[arg(long)]
    no_cache_server: bool,
    /// How many jobs run at a time; default: one for each processor.
    #[arg(long)]
    concurrent_jobs: Option<usize>,
    #[command(flatten)]
    official: OfficialFlags,
}

/// What stops a run before it begins, beyond what cannot even be read.
const FATAL: [Code; 3] = [Code::ConflictingKeys, Code::Identifier, Code::Needs];

/// The variables of this process.
type Environ = BTreeMap<String, String>;

/// The image of labels when none is named: that of Gitea's own runner.
const DEFAULT_IMAGE: &str = "docker.gitea.com/runner-images:ubuntu-latest";

/// A command line that cannot be followed, or a workflow that cannot be run. One sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// Runs the workflows; the exit code is 0 when all of them succeeded.
pub(super) async fn run(args: ExecArgs, environment: Environment) -> ExitCode {
    let coloured = std::io::stdout().is_terminal() && !environment.all.contains_key("NO_COLOR");
    let console = Console::new(match (args.json, coloured) {
        (true, _) => Look::Json,
        (false, true) => Look::Coloured,
        (false, false) => Look::Plain,
    });
    match execute(&args, &console, &environment.all).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Refused(error)) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            // A workflow that is wrong is a failed run; nothing here is a wrong use of the command line.
            ExitCode::FAILURE
        }
    }
}

async fn execute(args: &ExecArgs, console: &Console, environ: &Environ) -> Result<bool, Refused> {
    let root = args
        .directory
        .canonicalize()
        .map_err(|error| Refused(format!("{} is no folder: {error}", args.directory.display())))?;
    let parsed = load(args, &root)?;
    let repository = Repository::look(&root);
    let server = args.gitea_instance.clone().or_else(|| repository.server.clone());
    let event_name = match &args.event {
        Some(event) => event.clone(),
        None => detect(args, &parsed),
    };
    let spec = EventSpec {
        name: event_name,
        payload: args.eventpath.clone(),
        inputs: with_file(args.input_file.as_deref(), args.input.clone())?,
        actor: args.actor.clone().unwrap_or_else(|| "nektos/act".to_owned()),
        server: server.unwrap_or_else(|| "https://gitea.com".to_owned()).trim_end_matches('/').to_owned(),
    };
    let payload = spec.payload(&repository).map_err(|error| Refused(error.to_string()))?;
    let github = spec.github(&repository, &payload);
    let event = spec.event(&repository, &payload);
    let mut chosen = Vec::new();
    for workflow in parsed {
        match plan::matches(&workflow, &event) {
            plan::Match::Runs => chosen.push(workflow),
            plan::Match::Filtered(key) => {
                console
                    .note(&format!("{}: not run, its `{key}` leaves this event out", workflow.source.name()));
            }
            plan::Match::OtherEvent => {}
        }
    }
    for sentence in args.official.without_effect() {
        console.note(sentence);
    }
    if args.list {
        list(&chosen, console);
        return Ok(true);
    }
    if chosen.is_empty() {
        return Err(Refused(format!("no workflow runs for the event {}", spec.name)));
    }
    let scratch =
        tempfile::tempdir().map_err(|error| Refused(format!("cannot make a scratch folder: {error}")))?;
    let session = Session::begin(&cache_folder(environ).join("sessions"))
        .map_err(|error| Refused(format!("cannot make a session: {error}")))?;
    let backends = backends(args, scratch.path(), environ).await?;
    if let Ok(docker) = &backends.docker {
        for sentence in session.bury_the_dead(docker).await {
            console.error(&sentence);
        }
    }
    let store = open_store(args, environ)?;
    let placement = default_placement(args, &backends, console).await;
    let options = options(args, &root, &spec, github, session.name.clone(), placement, environ)?;
    let cancel = Cancel::new();
    let caches = caches(args, &backends, environ);
    let run = LocalRun {
        options: &options,
        backends: &backends,
        store: &store,
        caches: &caches,
        console,
        cancel: &cancel,
    };
    let work = async {
        let mut lines = Vec::new();
        let mut success = true;
        for workflow in chosen {
            let inputs = inputs(&workflow, &spec, &payload, console)?;
            let source = workflow.source.clone();
            if args.dryrun {
                console.note(&format!("{} would run:", source.name()));
            }
            let (result, jobs) = run.workflow(workflow, inputs).await.map_err(|diagnostics| {
                let lines: Vec<String> = diagnostics
                    .iter()
                    .map(|diagnostic| workflows::render_line(diagnostic, &source))
                    .collect();
                Refused(lines.join("\n"))
            })?;
            success &= matches!(result, plan::JobResult::Success | plan::JobResult::Skipped);
            lines.extend(jobs);
        }
        if !args.dryrun {
            console.table(&lines);
        }
        Ok(success)
    };
    let interrupted = interrupts(&cancel, console);
    tokio::select! {
        result = work => result,
        error = interrupted => {
            error?;
            // Nobody waits for the jobs any more: what they have in the engine goes at once.
            if let Ok(docker) = &backends.docker
                && let Err(error) = docker.reap(&options.runner.uuid, |_| false).await
            {
                console.error(&format!("the jobs' containers could not be removed: {error}"));
            }
            Ok(false)
        }
    }
}

/// The first interrupt cancels, so that `always()` steps and posts still run; returns with the second.
async fn interrupts(cancel: &Cancel, console: &Console) -> Result<(), Refused> {
    use tokio::signal::unix::{SignalKind, signal};
    let wrong = |error: std::io::Error| Refused(format!("cannot listen to signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(wrong)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(wrong)?;
    for first in [true, false] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if first {
            console.error("interrupted: cancelling the jobs (interrupt again to end at once)");
            cancel.cancel(CancelCause::Server);
        } else {
            console.error("interrupted again: ending everything");
        }
    }
    Ok(())
}

/// Reads and parses the workflow files; mistakes are shown with their place.
fn load(args: &ExecArgs, root: &Path) -> Result<Vec<Workflow>, Refused> {
    let path = args.workflows.clone().unwrap_or_else(|| {
        let folders = [".gitea/workflows", ".github/workflows"].map(PathBuf::from);
        let [gitea, github] = folders;
        if root.join(&gitea).is_dir() || !root.join(&github).is_dir() { gitea } else { github }
    });
    let found = find(root, &path, !args.no_recurse)
        .map_err(|error| Refused(format!("no workflows at {}: {error}", path.display())))?;
    if found.is_empty() {
        return Err(Refused(format!("there is no .yml or .yaml file in {}", path.display())));
    }
    let mut parsed = Vec::new();
    let mut wrong = Vec::new();
    for file in found {
        let source = SourceFile::new(&file.name, &file.text);
        let mut findings = match parse_payload(&source).into_result() {
            Ok(workflow) => {
                parsed.push(workflow);
                lint(&source, &LintOptions::default())
            }
            Err(diagnostics) => {
                wrong.extend(diagnostics.iter().map(|found| workflows::render_line(found, &source)));
                continue;
            }
        };
        // Servers let much pass that GitHub refuses; these mistakes none of them runs.
        findings.retain(|found| found.is_error() && FATAL.contains(&found.code));
        // A reserved id, or one that comes twice, still runs; one that is none does not.
        findings.retain(|found| found.code != Code::Identifier || !is_identifier(source.slice(found.span)));
        wrong.extend(findings.iter().map(|found| workflows::render_line(found, &source)));
    }
    if wrong.is_empty() { Ok(parsed) } else { Err(Refused(wrong.join("\n"))) }
}

fn is_identifier(text: &str) -> bool {
    let text = text.trim_matches(['"', '\'']);
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn detect(args: &ExecArgs, parsed: &[Workflow]) -> String {
    let mut names: Vec<&str> = parsed
        .iter()
        .flat_map(|workflow| workflow.on.events.iter().map(|trigger| trigger.name.value.as_str()))
        .collect();
    if args.detect_event {
        return names.first().map_or_else(|| "push".to_owned(), |name| (*name).to_owned());
    }
    names.dedup();
    match names.as_slice() {
        [only] => (*only).to_owned(),
        _ => "push".to_owned(),
    }
}

fn list(workflows: &[Workflow], console: &Console) {
    for workflow in workflows {
        let events: Vec<&str> =
            workflow.on.events.iter().map(|trigger| trigger.name.value.as_str()).collect();
        console.note(&format!(
            "{} ({}) on {}",
            workflow.display_name(),
            workflow.source.name(),
            events.join(", ")
        ));
        for job in &workflow.jobs {
            let needs: Vec<&str> = job.needs.iter().map(|need| need.value.as_str()).collect();
            let after = if needs.is_empty() { String::new() } else { format!(" after {}", needs.join(", ")) };
            let name = job.name.as_ref().map_or_else(String::new, |name| format!(": {}", name.raw()));
            console.note(&format!("  {}{name}{after}", job.id.value));
        }
    }
}

/// The `inputs` context of one workflow for this event. What is wrong with those of the command line is refused; an event
/// from a file has happened, so it is only told.
fn inputs(
    workflow: &Workflow,
    spec: &EventSpec,
    payload: &serde_json::Value,
    console: &Console,
) -> Result<Value, Refused> {
    let Some(trigger) = workflow.on.get(&spec.name) else { return Ok(Value::Null) };
    let given: Vec<(String, Value)> = payload
        .get("inputs")
        .and_then(serde_json::Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), Value::from_json(value)))
        .collect();
    if trigger.inputs.is_empty() {
        return Ok(Value::object(given.into_iter().collect()));
    }
    let contexts = workflows::Contexts::new();
    let (inputs, errors) = plan::inputs_as_given(trigger, &given, &Scope::new(&contexts));
    let told = format!("{}: {}", workflow.source.name(), errors.join("; "));
    if !errors.is_empty() && spec.payload.is_none() {
        return Err(Refused(told));
    }
    if !errors.is_empty() {
        console.note(&told);
    }
    Ok(Value::object(inputs))
}

/// Both kinds of places. A folder of their own holds what they leave behind.
async fn backends(
    args: &ExecArgs,
    scratch: &Path,
    environ: &Environ,
) -> Result<Backends<HostBackend, DockerBackend>, Refused> {
    let executable =
        std::env::current_exe().map_err(|error| Refused(format!("cannot find this program: {error}")))?;
    let docker = DockerBackend::connect(DockerConfig {
        docker_host: args.container_daemon_socket.clone().unwrap_or_default(),
        environ: environ.clone(),
        state: scratch.join("engine"),
        executable: executable.clone(),
        network: args.network.clone().unwrap_or_default(),
        enable_ipv4: None,
        enable_ipv6: None,
        privileged: args.privileged,
        options: args
            .container_opts
            .iter()
            .cloned()
            .chain(args.official.container_options())
            .collect::<Vec<_>>()
            .join(" "),
        workdir_parent: "/workspace".to_owned(),
        // It is the user's own machine.
        bind_workdir: false,
        valid_volumes: vec!["**".to_owned()],
        force_pull: args.pull,
        service_ready_timeout: Some(Duration::from_secs(300)),
        tool_cache: None,
        transport: Transport::Auto,
        terminal: false,
    })
    .await
    .map_err(|error| format!("There is no container engine here: {error}"));
    let host = HostBackend::new(HostConfig {
        executable,
        scratch: scratch.join("jobs"),
        tool_cache: None,
        environ: environ.clone(),
        engine: docker.as_ref().ok().cloned(),
        terminal: false,
    });
    Ok(Backends { host, docker })
}

/// Where labels without a place of their own lead. What was asked for is obeyed; otherwise containers when an engine
/// answers and has the image or can get it, and the host when not.
async fn default_placement(
    args: &ExecArgs,
    backends: &Backends<HostBackend, DockerBackend>,
    console: &Console,
) -> Placement {
    if let Some(image) = &args.image {
        return placement(image);
    }
    let why = match &backends.docker {
        Ok(docker) => match docker.obtain_image(DEFAULT_IMAGE, &Told(console)).await {
            Ok(()) => {
                console.note(&format!("jobs run in containers of {DEFAULT_IMAGE} ({})", docker.describe()));
                return Placement::Docker(DEFAULT_IMAGE.to_owned());
            }
            Err(error) => format!("the image {DEFAULT_IMAGE} cannot be had: {error}"),
        },
        Err(error) => error.clone(),
    };
    console.note(&format!("jobs run on this machine: {why}"));
    Placement::Host
}

/// Pull progress on the console.
struct Told<'a>(&'a Console);

impl Notes for Told<'_> {
    async fn note(&self, line: &str) {
        self.0.note(line);
    }
}

/// Where this program keeps what the next run can use.
fn cache_folder(environ: &Environ) -> PathBuf {
    let path = |name: &str| environ.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("esteira")
}

fn open_store(args: &ExecArgs, environ: &Environ) -> Result<ActionStore, Refused> {
    let folder = cache_folder(environ).join("actions");
    let options = StoreOptions { offline: args.offline, ..StoreOptions::default() };
    ActionStore::open(folder.clone(), options, GitNetwork::default())
        .map_err(|error| Refused(format!("cannot use the action store {}: {error}", folder.display())))
}

/// The cache of the run's jobs, in the folder that a daemon of this user has too.
fn caches(args: &ExecArgs, backends: &Backends<HostBackend, DockerBackend>, environ: &Environ) -> Caches {
    if args.no_cache_server {
        return Caches::default();
    }
    let home = environ.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let options = ServerOptions {
        folder: home.map_or_else(|| cache_folder(environ).join("cache"), |home| home.join(".cache/actcache")),
        port: 0,
        listening: if backends.docker.is_ok() { Listening::Everywhere } else { Listening::Loopback },
        limits: Limits::default(),
        secret: None,
        wire: proto::transport::Options::default(),
        metrics: Metrics::default(),
    };
    Caches::own(options, "", true)
}

fn options(
    args: &ExecArgs,
    root: &Path,
    spec: &EventSpec,
    github: workflows::Object,
    session: String,
    other: Placement,
    environ: &Environ,
) -> Result<LocalOptions, Refused> {
    let mut envs: BTreeMap<String, String> = file_if_there(&root.join(&args.env_file))?.into_iter().collect();
    for entry in &args.env {
        let (name, value) = entry.split_once('=').map_or_else(
            || (entry.as_str(), environ.get(entry).cloned().unwrap_or_default()),
            |(name, value)| (name, value.to_owned()),
        );
        envs.insert(name.to_owned(), value);
    }
    let secrets = secrets(args.secret_file.as_deref(), &args.secret, environ)?;
    let mut github = github;
    let token = secrets
        .iter()
        .find(|(name, _)| name == "GITEA_TOKEN" || name == "GITHUB_TOKEN")
        .map(|(_, t)| t.clone());
    if let Some(token) = &token {
        github.insert("token", token.expose().as_str());
    }
    let mut by_name = HashMap::new();
    for (label, image) in &args.platform {
        by_name.insert(label.clone(), placement(image));
    }
    let mut vars = with_file(args.var_file.as_deref(), args.var.clone())?;
    if args.official.debug {
        vars.push(("ACTIONS_STEP_DEBUG".to_owned(), "true".to_owned()));
    }
    Ok(LocalOptions {
        root: root.to_owned(),
        github,
        secrets,
        vars,
        jobs: args.job.clone(),
        matrix: args.matrix.clone(),
        placements: (by_name, other),
        parallel: args
            .concurrent_jobs
            .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
            .unwrap_or(2),
        source: ActionSource {
            default_url: args.default_actions_url.trim_end_matches('/').to_owned(),
            instance_url: spec.server.clone(),
            token,
            workflows_with_actions: args.gitea_instance.is_none(),
            patch: true,
            local: args.local_action.iter().map(|(name, path)| (name.clone(), PathBuf::from(path))).collect(),
        },
        working_tree: (!args.no_skip_checkout).then(|| Arc::new(WorkingTree::new(root.to_owned()))),
        runner: RunnerFacts {
            uuid: session,
            name: "esteira-exec".to_owned(),
            address: spec.server.clone(),
            version: crate::VERSION.to_owned(),
            config: JobConfig { envs, force_rebuild: args.rebuild, ..JobConfig::default() },
            ..RunnerFacts::default()
        },
        plan_only: args.dryrun,
    })
}
