//! `esteira healthcheck`: asks the daemon on this machine, for container engines and service managers.

use std::{process::ExitCode, time::Duration};

use clap::Args;

use super::{ConfigFile, Exit, fail, print, settings};
use crate::{daemon::health, settings::Environment};

/// Ask the daemon whether it is well; exit code 0 means yes.
#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// How long to wait for its answer, in seconds.
    #[arg(long, default_value_t = 5)]
    timeout: u64,
}

/// Runs the subcommand.
pub(super) async fn run(args: HealthcheckArgs, outer: ConfigFile, environment: Environment) -> ExitCode {
    let config = args.file.or(outer, &environment);
    let resolved = match settings(config.as_deref(), &environment) {
        Ok(resolved) => resolved,
        Err(exit) => return exit,
    };
    let limit = Duration::from_secs(args.timeout);
    match health::ask(&resolved.settings.runner.state_dir, limit).await {
        Ok(answer) if answer.healthy => print(&format!("{}\n", answer.text)),
        Ok(answer) => fail(Exit::Failure, format_args!("{}", answer.text)),
        Err(error) => fail(Exit::Failure, format_args!("no daemon answers: {error}")),
    }
}
