//! `esteira exec`: the workflows of a folder, run here. Arguments and wiring; the work is in [`crate::source::local`].

mod files;
mod given;
mod official;
mod session;
mod wiring;

use std::{
    collections::{BTreeMap, HashMap},
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use files::{detect, inputs, list, load};
use given::{axis, file_if_there, pair, placement, secrets, with_file};
use official::OfficialFlags;
use session::Session;
use wiring::{backends, cache_folder, caches, default_placement, open_store};
use workflows::plan;

use crate::{
    action::{ActionSource, WorkingTree},
    assignment::{JobConfig, RunnerFacts},
    cancel::{Cancel, CancelCause},
    label::Placement,
    report::console::{Console, Look},
    settings::Environment,
    source::local::{EventSpec, LocalOptions, LocalRun, Repository},
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

/// The variables of this process.
type Environ = BTreeMap<String, String>;

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
