//! From the configuration to the cache of a process.

use crate::{
    cache::{Caches, External, Limits, Listening, ServerOptions},
    metrics::Metrics,
    settings::{Environment, Settings},
};

/// The cache of a daemon's jobs, as the configuration says.
pub(super) fn of_daemon(
    settings: &Settings,
    environment: &Environment,
    metrics: Metrics,
    listening: Listening,
) -> Caches {
    let cache = &settings.cache;
    if !cache.enabled {
        return Caches::default();
    }
    if !cache.external_server.is_empty() {
        return Caches::external(External {
            url: cache.external_server.clone(),
            secret: cache.external_secret.clone(),
            wire: settings.connect_options(environment).wire,
            insecure: settings.runner.insecure,
            v2: cache.v2,
        });
    }
    // Whoever names an address means it to be reached.
    let listening = if cache.host.is_empty() { listening } else { Listening::Everywhere };
    Caches::own(server_options(settings, environment, metrics, listening), &cache.host, cache.v2)
}

/// How a server is started, as the configuration says.
pub(super) fn server_options(
    settings: &Settings,
    environment: &Environment,
    metrics: Metrics,
    listening: Listening,
) -> ServerOptions {
    let cache = &settings.cache;
    ServerOptions {
        folder: cache.dir.clone(),
        port: cache.port,
        listening,
        limits: Limits {
            retention: cache.retention,
            repository: cache.repo_size_limit,
            total: cache.size_limit,
            interval: cache.sweep_interval,
            ..Limits::default()
        },
        secret: None,
        wire: settings.connect_options(environment).wire,
        metrics,
    }
}
