//! The daemon's own environment, read in this one place.

use std::{collections::BTreeMap, env, ffi::OsString, fmt, path::PathBuf};

use proto::transport::Proxies;

use crate::secret::Secret;

/// Variables that carry the registration token: dropped from the environment as soon as they have been read.
pub const TOKEN_VARIABLES: [&str; 2] =
    ["GITEA_RUNNER_REGISTRATION_TOKEN", "GITEA_RUNNER_REGISTRATION_TOKEN_FILE"];

/// Every variable that this program reads for itself. Empty values count as not set.
#[derive(Clone, Default)]
pub struct Environment {
    /// `GITEA_INSTANCE_URL`
    pub instance: Option<String>,
    /// `GITEA_RUNNER_REGISTRATION_TOKEN`
    pub registration_token: Option<Secret<String>>,
    /// `GITEA_RUNNER_REGISTRATION_TOKEN_FILE`, used when the former is not set.
    pub registration_token_file: Option<PathBuf>,
    /// `GITEA_RUNNER_NAME`
    pub runner_name: Option<String>,
    /// `GITEA_RUNNER_LABELS`
    pub labels: Option<String>,
    /// `GITEA_RUNNER_EPHEMERAL`: any value.
    pub ephemeral: bool,
    /// `GITEA_RUNNER_ONCE`: any value.
    pub once: bool,
    /// `GITEA_MAX_REG_ATTEMPTS`
    pub max_registration_attempts: Option<String>,
    /// `CONFIG_FILE`
    pub config_file: Option<PathBuf>,
    /// `RUNNER_STATE_FILE`
    pub runner_file: Option<PathBuf>,
    /// `ACTIONS_RUNNER_HOOK_JOB_STARTED`
    pub hook_job_started: Option<PathBuf>,
    /// `ACTIONS_RUNNER_HOOK_JOB_COMPLETED`
    pub hook_job_completed: Option<PathBuf>,
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, lower case first.
    pub proxies: Proxies,
    /// `DOCKER_HOST`
    pub docker_host: Option<String>,
    /// `HOME`
    pub home: Option<PathBuf>,
    /// Everything, for those parts of the program that have rules of their own about it (engine, jobs on the host).
    /// Without the registration token.
    pub all: BTreeMap<String, String>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Anything may be in an environment.
        f.debug_struct("Environment").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads the process's environment.
    pub fn read() -> Self {
        let mut read = Self::from(|name| env::var_os(name));
        read.all = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !TOKEN_VARIABLES.contains(&name.as_str()))
            .collect();
        read
    }

    /// Reads variables through `get`.
    pub fn from(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let raw = |name: &str| get(name).filter(|value| !value.is_empty());
        let text = |name: &str| raw(name).map(|value| value.to_string_lossy().into_owned());
        let path = |name: &str| raw(name).map(PathBuf::from);
        let proxy = |lower: &str, upper: &str| text(lower).or_else(|| text(upper)).unwrap_or_default();
        Self {
            instance: text("GITEA_INSTANCE_URL"),
            registration_token: text(TOKEN_VARIABLES[0]).map(Secret::new),
            registration_token_file: path(TOKEN_VARIABLES[1]),
            runner_name: text("GITEA_RUNNER_NAME"),
            labels: text("GITEA_RUNNER_LABELS"),
            ephemeral: raw("GITEA_RUNNER_EPHEMERAL").is_some(),
            once: raw("GITEA_RUNNER_ONCE").is_some(),
            max_registration_attempts: text("GITEA_MAX_REG_ATTEMPTS"),
            config_file: path("CONFIG_FILE"),
            runner_file: path("RUNNER_STATE_FILE"),
            hook_job_started: path("ACTIONS_RUNNER_HOOK_JOB_STARTED"),
            hook_job_completed: path("ACTIONS_RUNNER_HOOK_JOB_COMPLETED"),
            proxies: Proxies {
                // Upper-case HTTP_PROXY is honoured too: this is no CGI program.
                http: proxy("http_proxy", "HTTP_PROXY"),
                https: proxy("https_proxy", "HTTPS_PROXY"),
                all: proxy("all_proxy", "ALL_PROXY"),
                none: proxy("no_proxy", "NO_PROXY"),
            },
            docker_host: text("DOCKER_HOST"),
            home: path("HOME"),
            all: BTreeMap::new(),
        }
    }

    /// Whether the environment holds a registration token or says where one is.
    pub const fn has_token(&self) -> bool {
        self.registration_token.is_some() || self.registration_token_file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Environment;

    #[test]
    fn empty_variables_are_not_set_and_lower_case_proxies_win() {
        let read = Environment::from(|name| match name {
            "GITEA_INSTANCE_URL" => Some("".into()),
            "GITEA_RUNNER_ONCE" => Some("0".into()),
            "http_proxy" => Some("http://small:1".into()),
            "HTTP_PROXY" => Some("http://large:1".into()),
            "GITEA_RUNNER_REGISTRATION_TOKEN" => Some("hunter2".into()),
            _ => None,
        });
        assert_eq!(read.instance, None);
        assert!(read.once && !read.ephemeral && read.has_token());
        assert_eq!(read.proxies.http, "http://small:1");
        assert!(!format!("{read:?}").contains("hunter2"), "tokens are not shown");
    }
}
