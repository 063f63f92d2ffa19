//! `esteira cache-server`: the cache by itself, for several runners.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{ConfigFile, Exit, caches, fail, logging, settings};
use crate::{
    cache::{CacheServer, Listening, Offer},
    daemon::Signals,
    metrics::Metrics,
    settings::Environment,
};

/// Serve a cache for several runners.
///
/// Each of them names it with cache.external_server and the same cache.external_secret (or cache.external_secret_file), which
/// this server needs too: runners register their jobs by it. INT or TERM ends it at once.
#[derive(Debug, Args)]
pub(super) struct CacheServerArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// The folder; or cache.dir.
    #[arg(short, long)]
    dir: Option<PathBuf>,
    /// The address that is told in the log; or cache.host. The server listens on all of this machine's.
    #[arg(short = 's', long)]
    host: Option<String>,
    /// The port; or cache.port.
    #[arg(short, long)]
    port: Option<u16>,
}

/// Runs the subcommand.
pub(super) async fn run(args: CacheServerArgs, outer: ConfigFile, environment: Environment) -> ExitCode {
    let config = args.file.or(outer, &environment);
    let resolved = match settings(config.as_deref(), &environment) {
        Ok(resolved) => resolved,
        Err(exit) => return exit,
    };
    let mut settings = resolved.settings;
    let cache = &mut settings.cache;
    cache.dir = args.dir.unwrap_or_else(|| cache.dir.clone());
    cache.host = args.host.unwrap_or_else(|| cache.host.clone());
    cache.port = args.port.unwrap_or(cache.port);
    let secret = cache.external_secret.clone();
    if secret.expose().is_empty() {
        return fail(
            Exit::Usage,
            format_args!(
                "a cache server for other runners needs cache.external_secret or cache.external_secret_file, \
                 the same that each of them has beside cache.external_server"
            ),
        );
    }
    logging::start(&settings.log);
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(Exit::Failure, format_args!("signals cannot be heard: {error}")),
    };
    let mut options =
        caches::server_options(&settings, &environment, Metrics::default(), Listening::Everywhere);
    options.secret = Some(secret);
    let server = match CacheServer::start(options).await {
        Ok(server) => server,
        Err(error) => return fail(Exit::Failure, format_args!("{error}")),
    };
    let host = if settings.cache.host.is_empty() { "0.0.0.0" } else { settings.cache.host.as_str() };
    tracing::info!(
        address = Offer::base(host, server.port()),
        folder = %settings.cache.dir.display(),
        "the cache is served"
    );
    signals.stop().await;
    tracing::info!("the cache server ends");
    Exit::Success.into()
}
