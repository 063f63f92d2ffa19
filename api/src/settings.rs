//! Everything that can be set, resolved once: flags over environment over defaults.
//!
//! Secrets never come from flags (everybody on the machine can read those): they are read from the environment or
//! from the file that the `_FILE` twin names, as Swarm hands them out. An empty variable counts as unset.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use sqlx::postgres::PgConnectOptions;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A value that no log may show.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for the one who has to use it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// A small task API: serves until SIGTERM, then drains.
#[derive(Debug, Parser)]
#[command(name = "task-api", version, about, max_term_width = 110)]
pub struct Arguments {
    /// Address to listen on.
    #[arg(long, env = "TASKS_HOST", default_value = "0.0.0.0", global = true)]
    host: String,
    /// Port to listen on; 0 takes a free one and logs it.
    #[arg(long, env = "TASKS_PORT", default_value_t = 5000, global = true)]
    port: u16,
    /// Folder of the SQLite file tasks.db, used when no database URL is set.
    #[arg(long, env = "TASKS_DATA_DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Connections to PostgreSQL.
    #[arg(long, env = "TASKS_POOL_SIZE", default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=200))]
    pool_size: u32,
    /// Seconds to wait for the database at start.
    #[arg(long, env = "TASKS_DATABASE_WAIT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3600))]
    database_wait: u64,
    /// Most connections served at once; further ones wait in the system's queue.
    #[arg(long, env = "TASKS_MAX_CONNECTIONS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// Seconds to go on serving after SIGTERM while /ready says 503.
    #[arg(long, env = "TASKS_DRAIN_DELAY", default_value_t = 3.0, value_parser = seconds)]
    drain_delay: f64,
    /// Seconds from SIGTERM to exit at most; keep it below the orchestrator's stop grace period (Swarm: 10 s).
    #[arg(long, env = "TASKS_SHUTDOWN_TIMEOUT", default_value_t = 9.0, value_parser = seconds)]
    shutdown_timeout: f64,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", default_value = "text", ignore_case = true)]
    log_format: LogFormat,
    /// What to log: error, warn, info, debug, trace, or a filter such as info,task_api=debug.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_parser = log_filter)]
    log_level: String,
    /// Ask the running service on this host and port whether it lives, and exit with 0 or 1.
    #[arg(long)]
    healthcheck: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve (the default).
    Serve,
    /// Ask the running service whether it lives: exit 0 or 1.
    Healthcheck,
    /// Print the OpenAPI document.
    Openapi,
}

/// Where the tasks live.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file in WAL mode.
    Sqlite(PathBuf),
    /// A server; the URL may hold a password.
    Postgres(Secret),
}

/// All settings, resolved.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// Where the tasks live.
    pub database: Database,
    /// Connections to PostgreSQL.
    pub pool_size: u32,
    /// How long to wait for the database at start.
    pub database_wait: Duration,
    /// Most connections at once.
    pub max_connections: u32,
    /// How long to go on serving after SIGTERM.
    pub drain_delay: Duration,
    /// From SIGTERM to exit at most.
    pub shutdown_timeout: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What to log.
    pub log_level: String,
    /// Bearer token that changing requests must carry.
    pub token: Option<Secret>,
}

/// A setting that makes no sense, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Both a variable and its `_FILE` twin are set.
    #[error("both {0} and {0}_FILE are set; remove one of them")]
    Twice(&'static str),
    /// The file of a `_FILE` variable cannot be read.
    #[error("{variable}_FILE: cannot read {}: {source}", path.display())]
    File {
        /// The variable without `_FILE`.
        variable: &'static str,
        /// The file it names.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of a `_FILE` variable holds nothing.
    #[error("{variable}_FILE: {} is empty", path.display())]
    EmptyFile {
        /// The variable without `_FILE`.
        variable: &'static str,
        /// The file it names.
        path: PathBuf,
    },
    /// The URL is for a database that we do not speak.
    #[error("{0}: the database URL must start with postgres://, postgresql:// or sqlite:")]
    Scheme(&'static str),
    /// A `postgres:` URL that cannot be understood.
    #[error("{variable}: the database URL cannot be understood: {source}")]
    Url {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        source: sqlx::Error,
    },
    /// A `sqlite:` URL that names no file.
    #[error("{0}: the sqlite URL must name a file, for example sqlite:///data/tasks.db")]
    NoFile(&'static str),
    /// Draining would take longer than shutting down may.
    #[error(
        "TASKS_DRAIN_DELAY ({delay} s) must be smaller than TASKS_SHUTDOWN_TIMEOUT ({timeout} s): running requests \
         need the rest of the time"
    )]
    Drain {
        /// The delay in seconds.
        delay: f64,
        /// The bound in seconds.
        timeout: f64,
    },
}

impl Arguments {
    /// Reads flags and environment; ends the program with a sentence where they cannot be understood.
    pub fn read() -> Self {
        let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        let command = <Self as CommandFactory>::command().mut_args(|argument| {
            let unset = argument.get_env().is_some_and(is_empty);
            if unset { argument.env(Resettable::Reset) } else { argument }
        });
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// What the command line asks for.
    pub fn command(&self) -> Command {
        if self.healthcheck { Command::Healthcheck } else { self.command.unwrap_or(Command::Serve) }
    }

    /// Reads the secrets and decides every default.
    ///
    /// # Errors
    /// Settings that contradict each other, files that cannot be read and URLs of unknown databases. The health
    /// check needs none of them and gets none of these errors.
    pub fn resolve(&self) -> Result<Settings, SettingsError> {
        let serving = self.command() == Command::Serve;
        if serving && self.drain_delay >= self.shutdown_timeout {
            return Err(SettingsError::Drain { delay: self.drain_delay, timeout: self.shutdown_timeout });
        }
        let default = Database::Sqlite(self.data_dir.join("tasks.db"));
        let (database, token) =
            if serving { (database(default)?, read_secret("API_TOKEN")?) } else { (default, None) };
        Ok(Settings {
            host: self.host.clone(),
            port: self.port,
            database,
            pool_size: self.pool_size,
            database_wait: Duration::from_secs(self.database_wait),
            max_connections: self.max_connections,
            drain_delay: Duration::from_secs_f64(self.drain_delay),
            shutdown_timeout: Duration::from_secs_f64(self.shutdown_timeout),
            log_format: self.log_format,
            log_level: self.log_level.clone(),
            token,
        })
    }
}

/// The first of `TASKS_DATABASE_URL` and `DATABASE_URL` (or their files) that is set; else the file.
fn database(default: Database) -> Result<Database, SettingsError> {
    for variable in ["TASKS_DATABASE_URL", "DATABASE_URL"] {
        if let Some(url) = read_secret(variable)? {
            return parse_database_url(variable, url);
        }
    }
    Ok(default)
}

fn parse_database_url(variable: &'static str, url: Secret) -> Result<Database, SettingsError> {
    let text = url.expose();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return match PgConnectOptions::from_str(text) {
            Ok(_) => Ok(Database::Postgres(url)),
            Err(source) => Err(SettingsError::Url { variable, source }),
        };
    }
    let Some(rest) = text.strip_prefix("sqlite:") else { return Err(SettingsError::Scheme(variable)) };
    let file = rest.strip_prefix("//").unwrap_or(rest);
    let file = file.split_once('?').map_or(file, |(file, _)| file);
    if file.is_empty() || file == ":memory:" {
        return Err(SettingsError::NoFile(variable));
    }
    Ok(Database::Sqlite(PathBuf::from(file)))
}

/// The value of `variable`, or the content of the file that `variable_FILE` names, without its line end.
fn read_secret(variable: &'static str) -> Result<Option<Secret>, SettingsError> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (set(variable), set(&format!("{variable}_FILE"))) {
        (Some(_), Some(_)) => Err(SettingsError::Twice(variable)),
        (Some(value), None) => Ok(Some(Secret(value))),
        (None, Some(path)) => read_secret_file(variable, Path::new(&path)).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_secret_file(variable: &'static str, path: &Path) -> Result<Secret, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::File {
        variable,
        path: path.to_owned(),
        source,
    })?;
    let value = text.trim_end_matches(['\r', '\n']);
    if value.is_empty() {
        return Err(SettingsError::EmptyFile { variable, path: path.to_owned() });
    }
    Ok(Secret(value.to_owned()))
}

/// A level, or a filter of `target=level` parts. A word that is no level would silence everything.
fn log_filter(text: &str) -> Result<String, String> {
    let known = |word: &str| word.contains('=') || (!word.is_empty() && LevelFilter::from_str(word).is_ok());
    if text.split(',').all(|part| known(part.trim())) && EnvFilter::builder().parse(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err("expected error, warn, info, debug, trace or off, or a filter such as info,task_api=debug"
            .to_owned())
    }
}

/// Seconds, fractions allowed, at most an hour.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds between 0 and 3600, for example 2.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Database, SettingsError> {
        parse_database_url("DATABASE_URL", Secret(url.to_owned()))
    }

    #[test]
    fn database_urls_name_the_database() {
        assert!(matches!(parsed("postgres://u:p@h/d"), Ok(Database::Postgres(_))));
        assert!(matches!(parsed("postgresql://h/d"), Ok(Database::Postgres(_))));
        for (url, file) in [
            ("sqlite:tasks.db", "tasks.db"),
            ("sqlite:///data/t.db", "/data/t.db"),
            ("sqlite://t.db?mode=rwc", "t.db"),
        ] {
            let Ok(Database::Sqlite(path)) = parsed(url) else { panic!("{url} is a file") };
            assert_eq!(path, PathBuf::from(file));
        }
        assert!(matches!(parsed("mysql://h/d"), Err(SettingsError::Scheme("DATABASE_URL"))));
        assert!(matches!(parsed("sqlite::memory:"), Err(SettingsError::NoFile(_))));
        let broken = parsed("postgres://user:hunter2@[bad/d").expect_err("no address").to_string();
        assert!(broken.starts_with("DATABASE_URL: the database URL cannot be understood"), "{broken}");
        assert!(!broken.contains("hunter2"), "{broken}");
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret("hunter2".to_owned())), "***");
        assert!(!format!("{:?}", parsed("postgres://u:hunter2@h/d")).contains("hunter2"));
    }

    #[test]
    fn a_secret_file_loses_its_line_end_and_must_hold_something() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "s3cret\r\n").expect("written");
        assert_eq!(read_secret_file("API_TOKEN", &file).expect("read").expose(), "s3cret");
        std::fs::write(&file, "\n").expect("written");
        assert!(matches!(read_secret_file("API_TOKEN", &file), Err(SettingsError::EmptyFile { .. })));
        let missing = read_secret_file("API_TOKEN", &folder.path().join("no")).expect_err("not there");
        assert!(missing.to_string().starts_with("API_TOKEN_FILE: cannot read"));
    }

    #[test]
    fn the_drain_delay_must_leave_time_for_running_requests() {
        let arguments = Arguments::parse_from(["task-api", "--drain-delay", "9", "--shutdown-timeout", "9"]);
        assert!(matches!(arguments.resolve(), Err(SettingsError::Drain { .. })));
        assert!(Arguments::try_parse_from(["task-api", "--drain-delay", "-1"]).is_err());
    }

    #[test]
    fn a_log_filter_names_levels() {
        for fine in ["info", "WARN", "off", "info,task_api=debug", "task_api::service=warn, error"] {
            assert_eq!(log_filter(fine), Ok(fine.to_owned()));
        }
        for wrong in ["WARNING", "verbose", "info,task_api", "task_api=loud", ""] {
            assert!(log_filter(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_health_check_is_a_flag_and_a_command() {
        assert_eq!(Arguments::parse_from(["task-api", "--healthcheck"]).command(), Command::Healthcheck);
        assert_eq!(Arguments::parse_from(["task-api", "healthcheck"]).command(), Command::Healthcheck);
        assert_eq!(Arguments::parse_from(["task-api"]).command(), Command::Serve);
    }
}
