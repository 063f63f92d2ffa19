//! The program's own log: text or JSON, on standard error. Job output and secrets never get into it, because no code
//! that has them logs them.

use std::io::{self, IsTerminal};

use tracing::Level;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

use crate::settings::{Log, LogFormat};

/// Switches it on. A second call does nothing.
pub(super) fn start(settings: &Log) {
    let level = match settings.level.as_str() {
        "trace" => Level::TRACE,
        "debug" => Level::DEBUG,
        "warn" => Level::WARN,
        "error" | "fatal" => Level::ERROR,
        _ => Level::INFO,
    };
    let detailed = level >= Level::DEBUG;
    // Libraries only tell what is wrong, unless somebody is looking for it.
    let others = if level == Level::TRACE { Level::DEBUG } else { level.min(Level::WARN) };
    let targets =
        Targets::new().with_default(others).with_target("esteira", level).with_target("proto", level);
    // A client that hangs up is no error of ours.
    let targets = if level == Level::TRACE { targets } else { targets.with_target("warp", LevelFilter::OFF) };
    let line = fmt::layer()
        .with_writer(io::stderr)
        .with_target(detailed)
        .with_file(detailed)
        .with_line_number(detailed);
    let started = match settings.format {
        LogFormat::Text => {
            let line = line.with_ansi(io::stderr().is_terminal());
            registry().with(line.with_filter(targets)).try_init()
        }
        LogFormat::Json => registry().with(line.json().with_filter(targets)).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "the log is on already");
    }
}
