//! The program `task-api`: flags in, exit code out. 0 served and drained, or healthy; 1 failed, or unhealthy; 2 wrong use.

use std::io::Write;
use std::process::ExitCode;

use task_api::settings::{Arguments, Command, LogFormat, Settings};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::read();
    let settings = match arguments.resolve() {
        Ok(settings) => settings,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    match arguments.command() {
        Command::Healthcheck => match task_api::health::check(&settings.host, settings.port) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        },
        Command::Openapi => {
            let written = writeln!(std::io::stdout(), "{}", task_api::openapi_document());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Command::Serve => serve(settings),
    }
}

fn serve(settings: Settings) -> ExitCode {
    start_logging(&settings);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(task_api::run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(settings: &Settings) {
    let filter = EnvFilter::builder().parse_lossy(&settings.log_level);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    match settings.log_format {
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
        LogFormat::Text => subscriber.with_ansi(false).init(),
    }
}

/// Tells the user on standard error. A closed standard error leaves nobody to tell.
fn complain(error: &dyn std::fmt::Display) {
    drop(writeln!(std::io::stderr(), "task-api: {error}"));
}
