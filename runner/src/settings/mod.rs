//! Settings: file, then environment, then flags, resolved once into values that need no second look.

mod edit;
mod env;
mod example;
mod file;
pub mod keys;
mod registration;
mod spans;
mod units;
mod values;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use edit::{Change, edit};
pub use env::{Environment, TOKEN_VARIABLES};
pub use example::{documented_example, reference_table};
pub use file::{Complaint, Loaded, check_scalar, read};
pub use registration::{FileLock, Registration, RegistrationError, lock_file};
pub use units::{parse_duration, parse_size};
pub use values::{
    Cache, Container, HealthCheck, Hooks, Host, JobLogFiles, Log, LogFormat, Metrics, NetworkCreateOptions,
    Runner, Settings,
};

use crate::server::ConnectOptions;

/// The longest that any poll may take.
const FETCH_LIMIT: std::time::Duration = std::time::Duration::from_mins(1);

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it says is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Complaint>),
    /// The file of the cache server's secret cannot be used.
    #[error("cache.external_secret_file {path}: {reason}")]
    SecretFile {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file of job environment cannot be read.
    #[error("runner.env_file {path}: {reason}")]
    EnvFile {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Settings and what there is to say about them at start.
#[derive(Debug)]
pub struct Resolved {
    /// The values; no field is empty that needs a value.
    pub settings: Settings,
    /// Sentences for the log at start.
    pub warnings: Vec<String>,
    /// The file they came from, if there was one.
    pub file: Option<PathBuf>,
}

/// Reads the file at `path` (or only defaults) and resolves it with the environment.
pub fn load(path: Option<&Path>, environment: &Environment) -> Result<Resolved, SettingsError> {
    let (loaded, file) = match path {
        Some(path) => {
            let unreadable = |source| SettingsError::Unreadable { path: path.to_owned(), source };
            let text = fs::read_to_string(path).map_err(unreadable)?;
            (read(path, &text).map_err(SettingsError::Wrong)?, Some(path.to_owned()))
        }
        None => (Loaded { settings: Settings::default(), warnings: Vec::new(), set: Vec::new() }, None),
    };
    let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let mut settings = loaded.settings;
    let is_set = |path: &str| loaded.set.iter().any(|set| set == path);
    settings.apply(environment, is_set("runner.file"));
    settings.read_cache_secret()?;
    settings.read_env_file(is_set("runner.env_file"))?;
    warnings.extend(settings.contradictions(is_set));
    Ok(Resolved { settings, warnings, file })
}

impl Settings {
    /// Fills in what depends on the environment and on other values.
    fn apply(&mut self, environment: &Environment, file_is_set: bool) {
        let runner = &mut self.runner;
        if let Some(file) = &environment.runner_file
            && !file_is_set
        {
            runner.file.clone_from(file);
        }
        if runner.state_dir.as_os_str().is_empty() {
            let mut name = runner.file.clone().into_os_string();
            name.push(".state");
            runner.state_dir = PathBuf::from(name);
        }
        for (hook, variable) in [
            (&mut runner.hooks.job_started, &environment.hook_job_started),
            (&mut runner.hooks.job_completed, &environment.hook_job_completed),
        ] {
            if let Some(path) = variable
                && hook.as_os_str().is_empty()
            {
                hook.clone_from(path);
            }
        }
        if self.host.workdir_parent.as_os_str().is_empty() {
            self.host.workdir_parent = runner.state_dir.join("host");
        }
        if self.cache.dir.as_os_str().is_empty() {
            let home = environment.home.as_ref().map(|home| home.join(".cache/actcache"));
            self.cache.dir = home.unwrap_or_else(|| self.runner.state_dir.join("cache"));
        }
        let container = &mut self.container;
        if container.network.is_empty() && container.network_mode != "bridge" {
            container.network = std::mem::take(&mut container.network_mode);
        }
        container.network_mode.clear();
        if !container.workdir_parent.starts_with('/') {
            container.workdir_parent.insert(0, '/');
        }
    }

    /// Merges `env_file` into `envs`. The default file may be missing, and so may a named one.
    fn read_env_file(&mut self, named: bool) -> Result<(), SettingsError> {
        let path = &self.runner.env_file;
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let fail = |reason| SettingsError::EnvFile { path: path.clone(), reason };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) if !named => return Ok(()), // an `.env` of somebody else in the working directory
            Err(error) => return Err(fail(error.to_string())),
        };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let Some((name, value)) = line.split_once('=') else {
                return Err(fail(format!("line {} is no NAME=value", number + 1)));
            };
            self.runner.envs.insert(name.trim().to_owned(), unquoted(value.trim()));
        }
        Ok(())
    }

    /// Reads the secret of the cache server from its file.
    fn read_cache_secret(&mut self) -> Result<(), SettingsError> {
        let cache = &mut self.cache;
        let path = &cache.external_secret_file;
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let fail = |reason| SettingsError::SecretFile { path: path.clone(), reason };
        if !cache.external_secret.expose().is_empty() {
            return Err(fail("cache.external_secret is set too: use one of them".to_owned()));
        }
        let text = fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        if text.trim().is_empty() {
            return Err(fail("it is empty".to_owned()));
        }
        cache.external_secret = crate::secret::Secret::new(text.trim().to_owned());
        Ok(())
    }

    /// Values that do not go together.
    fn contradictions(&mut self, is_set: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        let runner = &mut self.runner;
        if runner.fetch_timeout > FETCH_LIMIT {
            found.push("runner.fetch_timeout is more than 60s, which is the most: 60s are used".to_owned());
            runner.fetch_timeout = FETCH_LIMIT;
        }
        if runner.fetch_interval_max < runner.fetch_interval {
            found.push(
                "runner.fetch_interval_max is less than runner.fetch_interval, which is used for both"
                    .to_owned(),
            );
            runner.fetch_interval_max = runner.fetch_interval;
        }
        if runner.log_report_max_latency >= runner.log_report_interval
            && is_set("runner.log_report_max_latency")
        {
            found.push(
                "runner.log_report_max_latency is not below runner.log_report_interval, which bounds it"
                    .to_owned(),
            );
        }
        if runner.shutdown_timeout.is_zero() {
            found.push(
                "runner.shutdown_timeout is 0: when this daemon is stopped, running jobs are cancelled at once".to_owned(),
            );
        }
        let cache = &mut self.cache;
        if cache.sweep_interval.is_zero() {
            found.push("cache.sweep_interval is 0: the cache is swept every hour".to_owned());
            cache.sweep_interval = values::Cache::default().sweep_interval;
        }
        if !cache.external_server.is_empty() {
            if cache.external_secret.expose().is_empty() {
                found.push(
                    "cache.external_server without cache.external_secret: jobs are not registered there, so it has to let anybody in".to_owned(),
                );
            }
            for key in ["dir", "host", "port", "retention", "repo_size_limit", "size_limit", "sweep_interval"]
            {
                if is_set(&format!("cache.{key}")) {
                    found.push(format!("cache.{key} does nothing beside cache.external_server"));
                }
            }
        }
        if self.health_check.enabled && self.health_check.interval.is_zero() {
            found.push("health_check.interval is 0: checks run before every poll".to_owned());
        }
        if !self.health_check.enabled && !self.health_check.script.as_os_str().is_empty() {
            found.push("health_check.script does not run, because health_check.enabled is false".to_owned());
        }
        found
    }

    /// How to reach the server.
    pub fn connect_options(&self, environment: &Environment) -> ConnectOptions {
        let ca_file = &self.runner.ca_file;
        ConnectOptions {
            transport: self.runner.transport,
            wire: proto::transport::Options {
                insecure: self.runner.insecure,
                ca_file: (!ca_file.as_os_str().is_empty()).then(|| ca_file.clone()),
                proxies: environment.proxies.clone(),
                user_agent: format!("esteira/{}", crate::VERSION),
                ..Default::default()
            },
        }
    }
}

fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner.to_owned();
        }
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::{Environment, Settings, load};

    #[test]
    fn without_a_file_everything_has_a_value() {
        let resolved = load(None, &Environment::default()).expect("defaults");
        let settings = resolved.settings;
        assert_eq!(settings.runner.state_dir, PathBuf::from(".runner.state"));
        assert_eq!(settings.container.workdir_parent, "/workspace");
        assert!(
            resolved.warnings.iter().any(|warning| warning.contains("shutdown_timeout")),
            "{:?}",
            resolved.warnings
        );
    }

    #[test]
    fn the_older_network_key_and_the_state_follow_their_rules() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.yaml");
        fs::write(&path, "runner:\n  file: /srv/one\ncontainer:\n  network_mode: lab\n").expect("a file");
        let environment = Environment { runner_file: Some("/srv/other".into()), ..Environment::default() };
        let settings = load(Some(&path), &environment).expect("it is right").settings;
        assert_eq!(settings.runner.file, PathBuf::from("/srv/one"), "the file wins over RUNNER_STATE_FILE");
        assert_eq!(settings.runner.state_dir, PathBuf::from("/srv/one.state"));
        assert_eq!(settings.container.network, "lab");
    }

    #[test]
    fn the_caches_secret_has_one_source_and_what_it_makes_idle_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.yaml");
        let secret = folder.path().join("secret");
        fs::write(&secret, "hunter2\n").expect("a file");
        let write = |more: &str| {
            let file = secret.display();
            let text =
                format!("cache:\n  external_server: http://c:1\n  external_secret_file: {file}\n{more}");
            fs::write(&path, text).expect("a file");
            load(Some(&path), &Environment::default())
        };
        let resolved = write("  size_limit: 1GB\n").expect("it is right");
        assert_eq!(resolved.settings.cache.external_secret.expose(), "hunter2");
        let idle = "cache.size_limit does nothing beside cache.external_server";
        assert!(resolved.warnings.iter().any(|warning| warning == idle), "{:?}", resolved.warnings);
        let error = write("  external_secret: other\n").expect_err("two of them").to_string();
        assert!(error.contains("use one of them") && !error.contains("other\n"), "{error}");
        fs::write(&secret, " \n").expect("a file");
        assert!(write("").is_err(), "an empty one is none");
    }

    #[test]
    fn the_env_file_wins_over_envs_and_its_errors_have_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let env_file = folder.path().join("jobs.env");
        fs::write(&env_file, "# jobs\nexport A=file\nB=\"two words\"\n").expect("a file");
        let mut settings = Settings::default();
        settings.runner.envs.insert("A".into(), "envs".into());
        settings.runner.env_file = env_file.clone();
        settings.read_env_file(true).expect("it is right");
        assert_eq!(settings.runner.envs["A"], "file");
        assert_eq!(settings.runner.envs["B"], "two words");
        fs::write(&env_file, "A=1\nnonsense\n").expect("a file");
        let error = settings.read_env_file(true).expect_err("line 2 is wrong").to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
