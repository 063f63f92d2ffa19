//! `esteira deploy`: arguments and wiring.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use crate::deploy::{Deployment, Format, deploy};

/// Deploy a stack file to Docker Swarm and wait until it has converged.
///
/// Exit codes: 0 every service runs the new release, 1 a service failed, 2 the stack file or an argument is wrong, 5 Swarm
/// rolled back or is about to, 6 not converged in time, 7 the manager cannot be reached, 130 interrupted. After 1, 5 and 6 the failed
/// tasks' errors and last log lines are printed.
#[derive(Debug, Args)]
pub(super) struct DeployArgs {
    /// Name of the stack.
    stack: String,
    /// Stack file; may be given more than once, later files override earlier ones.
    #[arg(short = 'c', long = "compose-file", default_value = "docker-compose.yml")]
    compose_file: Vec<PathBuf>,
    /// Engine of a Swarm manager, e.g. `ssh://deploy@manager`; default: the docker command line's own (DOCKER_HOST, context).
    #[arg(long)]
    host: Option<String>,
    /// What people know this release by; becomes the service label `esteira.revision`.
    #[arg(long, env = "GITHUB_SHA")]
    revision: Option<String>,
    /// How long to wait for convergence, in seconds; the hand-over counts.
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Do not wait for this service's new tasks; may be given more than once. For the runner that runs this very
    /// deployment: it is replaced when its last job has ended, so that job must not wait for it.
    #[arg(long, value_name = "SERVICE")]
    no_wait_for: Vec<String>,
    /// Send the registry's credentials to the nodes, as `docker login` has stored them.
    #[arg(long)]
    with_registry_auth: bool,
    /// Remove services that the file no longer names.
    #[arg(long)]
    prune: bool,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// How to tell it; the JSON lines are described in docs/deploy.md.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the subcommand.
pub(super) async fn run(args: DeployArgs) -> ExitCode {
    let deployment = Deployment {
        stack: args.stack,
        files: args.compose_file,
        revision: args.revision.filter(|revision| !revision.is_empty()),
        host: args.host,
        timeout: Duration::from_secs(args.timeout),
        no_wait_for: args.no_wait_for,
        with_registry_auth: args.with_registry_auth,
        prune: args.prune,
        dry_run: args.dry_run,
        format: args.format,
    };
    ExitCode::from(deploy(&deployment, interrupted()).await.exit_code())
}

/// Completes at the first INT or TERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
