//! The command line: arguments and wiring, nothing else.

mod bug_report;
mod cache_server;
mod caches;
mod config;
mod daemon;
mod deploy;
mod doctor;
mod exec;
mod exit;
mod expr;
mod healthcheck;
mod lint;
mod logging;
mod register;
mod shellcheck;

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime::{Builder, Runtime};

pub use exit::Exit;

use crate::settings::{Environment, Resolved, load};

/// A Gitea Actions runner.
#[derive(Debug, Parser)]
#[command(name = "esteira", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

/// Which configuration; may stand before or behind the subcommand.
#[derive(Debug, Default, Args)]
struct ConfigFile {
    /// Configuration file; or CONFIG_FILE; without one, every key has its default.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn or(self, outer: Self, environment: &Environment) -> Option<PathBuf> {
        self.config.or(outer.config).or_else(|| environment.config_file.clone())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Register(register::RegisterArgs),
    Daemon(daemon::DaemonArgs),
    Exec(Box<exec::ExecArgs>),
    CacheServer(cache_server::CacheServerArgs),
    Lint(lint::LintArgs),
    Deploy(Box<deploy::DeployArgs>),
    Healthcheck(healthcheck::HealthcheckArgs),
    Doctor(doctor::DoctorArgs),
    Config(config::ConfigArgs),
    /// Print a configuration file in which every key is explained.
    GenerateConfig,
    /// Print a completion script for a shell.
    #[command(visible_alias = "completion")]
    Completions {
        /// For which.
        shell: Shell,
    },
    BugReport(bug_report::BugReportArgs),
    /// Evaluate expressions, one JSON object a line.
    #[command(hide = true)]
    Expr,
    /// Stand in a job's container or beside it and start its steps.
    #[command(hide = true)]
    Agent {
        /// Its own words; `main` hands them over before it comes here.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = !error.use_stderr();
            // Nobody reads it when this fails.
            let _ = error.print();
            return if asked { Exit::Success.into() } else { Exit::Usage.into() };
        }
    };
    let environment = Environment::read();
    let outer = arguments.config;
    match arguments.command {
        Command::Register(args) => in_runtime(small(), register::run(args, outer, environment)),
        Command::Daemon(args) => daemon::run(args, outer, &environment),
        Command::Exec(args) => in_runtime(large(), exec::run(*args, environment)),
        Command::CacheServer(args) => in_runtime(large(), cache_server::run(args, outer, environment)),
        Command::Lint(args) => lint::run(args),
        Command::Deploy(args) => in_runtime(small(), deploy::run(*args)),
        Command::Healthcheck(args) => in_runtime(small(), healthcheck::run(args, outer, environment)),
        Command::Doctor(args) => in_runtime(small(), doctor::run(args, outer, environment)),
        Command::Config(args) => config::run(args, outer, &environment),
        Command::GenerateConfig => print(&crate::settings::documented_example()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "esteira", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::BugReport(args) => bug_report::run(args),
        Command::Expr => expr::run(io::stdin().lock(), io::stdout().lock()),
        Command::Agent { words } => crate::agent::main(&words),
    }
}

/// Bytes of a worker's stack. Only what is used takes memory; a job's whole story is one deep future, and each action
/// inside an action makes it deeper.
const STACK: usize = 8 << 20;

/// As many threads as there are processors: for jobs.
fn large() -> io::Result<Runtime> {
    Builder::new_multi_thread().thread_stack_size(STACK).enable_all().build()
}

/// One thread: for everything else.
fn small() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn in_runtime(runtime: io::Result<Runtime>, run: impl Future<Output = ExitCode>) -> ExitCode {
    match runtime {
        Ok(runtime) => runtime.block_on(run),
        Err(error) => fail(Exit::Failure, format_args!("the program cannot start: {error}")),
    }
}

/// The settings, or the sentence that says what is wrong with them.
fn settings(config: Option<&std::path::Path>, environment: &Environment) -> Result<Resolved, ExitCode> {
    load(config, environment).map_err(|error| fail(Exit::Usage, format_args!("{error}")))
}

/// Says what is wrong, and ends so.
fn fail(exit: Exit, what: fmt::Arguments<'_>) -> ExitCode {
    // Where nobody reads, the exit code is left.
    let _ = writeln!(io::stderr(), "esteira: {what}");
    exit.into()
}

/// Prints a result for people or pipes.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => Exit::Success.into(),
        // `| head` is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success.into(),
        Err(error) => fail(Exit::Failure, format_args!("cannot print: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Arguments;

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_pair_without_separator_is_a_wrong_use() {
        let flags = [
            ("--matrix", "KEY:VALUE"),
            ("--var", "NAME=VALUE"),
            ("--input", "NAME=VALUE"),
            ("-P", "NAME=VALUE"),
        ];
        for (flag, form) in flags {
            let error = Arguments::try_parse_from(["esteira", "exec", flag, "os"]).expect_err("malformed");
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(form), "{error}");
        }
    }
}
