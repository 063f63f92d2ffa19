//! `esteira bug-report`: what to put into a report.

use std::{fmt::Write, process::ExitCode, thread};

use clap::Args;

use super::print;

/// Print version, system and engine variables for a bug report; nothing secret is in it.
#[derive(Debug, Args)]
pub(super) struct BugReportArgs {}

/// Runs the subcommand.
pub(super) fn run(_: BugReportArgs) -> ExitCode {
    let system = rustix::system::uname();
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    };
    line("esteira", crate::VERSION);
    line("built for", concat!(env!("CARGO_PKG_NAME"), " on ", env!("CARGO_PKG_RUST_VERSION"), " or newer"));
    line("system", &format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy()));
    line("machine", &system.machine().to_string_lossy());
    line(
        "processors",
        &thread::available_parallelism().map_or_else(|_| "unknown".to_owned(), |count| count.to_string()),
    );
    line("pid 1 here", if std::process::id() == 1 { "yes" } else { "no" });
    print(&text)
}
