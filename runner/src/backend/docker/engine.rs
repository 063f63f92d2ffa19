//! Finding the engine and speaking its version.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};

use super::timed::{Watch, timed_tcp, timed_unix};
use crate::backend::BackendError;

/// Bound of one request; pulls, builds, logs and waits are streams and only have to begin within it.
const TIMEOUT: u64 = 300;

/// How long an engine may take to say its version.
const FIRST: Duration = Duration::from_secs(10);

/// An engine that has answered.
#[derive(Debug, Clone)]
pub struct Engine {
    /// The client, with the version that both sides speak.
    pub(super) docker: Docker,
    /// As it was found: `unix:///…` or `tcp://…`.
    pub(super) address: String,
    /// `amd64`, `arm64`, …
    pub(super) arch: String,
    /// Name and version, for the log.
    pub(super) product: String,
    /// It is Podman behind a compatible socket.
    pub(super) is_podman: bool,
}

impl Engine {
    /// The socket's path when it is a local one.
    pub(super) fn socket(&self) -> Option<&Path> {
        self.address.strip_prefix("unix://").map(Path::new)
    }

    /// Whether this executable can run there.
    pub(super) fn runs_our_programs(&self) -> bool {
        let ours = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        self.arch.is_empty() || self.arch == ours || (ours == "386" && self.arch == "amd64")
    }
}

/// Where engines may be, the first that was asked for or that is there.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    host: String,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`.
    certificates: Option<PathBuf>,
}

/// Finds the engine: `configured` (empty, `-` and `automount` mean: look), then `DOCKER_HOST`, the current context of
/// the command line client, and the usual sockets of Docker and Podman. Then asks for its version.
pub(super) async fn connect(
    configured: &str,
    environ: &BTreeMap<String, String>,
    watch: Watch,
) -> Result<Engine, BackendError> {
    let address = find(configured, environ)?;
    let host = address.host.clone();
    let no_answer = |reason: String| {
        BackendError::engine(
            format!("the container engine at {host} does not answer"),
            std::io::Error::other(reason),
        )
    };
    // The version is asked for without a version: every engine answers that.
    let probe =
        client(&address, API_DEFAULT_VERSION, Watch::default())?.with_request_modifier(without_version);
    let version = match tokio::time::timeout(FIRST, probe.version()).await {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => return Err(no_answer(error.to_string())),
        Err(_) => return Err(no_answer(format!("no answer within {} s", FIRST.as_secs()))),
    };
    let spoken = version.api_version.as_deref().and_then(parse_version).unwrap_or(*API_DEFAULT_VERSION);
    let spoken = if spoken < *API_DEFAULT_VERSION { spoken } else { *API_DEFAULT_VERSION };
    let is_podman = version.components.iter().flatten().any(|component| component.name.starts_with("Podman"));
    let product = match version.platform {
        _ if is_podman => "Podman".to_owned(),
        // A distribution's own build has no name.
        Some(platform) if !platform.name.is_empty() => platform.name,
        _ => "engine".to_owned(),
    };
    Ok(Engine {
        docker: client(&address, &spoken, watch)?.with_request_modifier(url_safe_credentials),
        arch: version.arch.unwrap_or_default(),
        product: format!("{product} {} (API {spoken})", version.version.unwrap_or_default()),
        address: address.host,
        is_podman,
    })
}

fn client(address: &Address, version: &ClientVersion, watch: Watch) -> Result<Docker, BackendError> {
    let host = address.host.as_str();
    let fail = |error| BackendError::engine(format!("the container engine at {host}"), error);
    if let Some(path) = host.strip_prefix("unix://") {
        return timed_unix(path, TIMEOUT, version, watch).map_err(fail);
    }
    if let Some(folder) = &address.certificates {
        let file = |name| folder.join(name);
        return Docker::connect_with_ssl(
            &host.replacen("tcp://", "https://", 1),
            &file("key.pem"),
            &file("cert.pem"),
            &file("ca.pem"),
            TIMEOUT,
            version,
        )
        .map_err(fail);
    }
    if host.starts_with("tcp://") || host.starts_with("http://") {
        return timed_tcp(host, TIMEOUT, version, watch).map_err(fail);
    }
    Err(BackendError::Refused(format!(
        "the engine address {host} is not supported: use unix:// or tcp:// (for ssh, forward the socket)"
    )))
}

fn parse_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

fn without_version(mut request: BollardRequest) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let path = parts.path_and_query.as_ref().map(|path| path.as_str().to_owned()).unwrap_or_default();
    if let Some((_, rest)) = path.strip_prefix("/v").and_then(|path| path.split_once('/')) {
        parts.path_and_query = format!("/{rest}").parse().ok();
        if let Ok(uri) = http::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// Engines read these headers in the alphabet for URLs; the client writes the other one, which differs where a
/// password holds `>`, `?` or `~`.
fn url_safe_credentials(mut request: BollardRequest) -> BollardRequest {
    for name in ["x-registry-auth", "x-registry-config"] {
        let safe = request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.replace('+', "-").replace('/', "_").parse().ok());
        if let Some(safe) = safe {
            request.headers_mut().insert(name, safe);
        }
    }
    request
}

fn find(configured: &str, environ: &BTreeMap<String, String>) -> Result<Address, BackendError> {
    let set = |name: &str| environ.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let home = set("HOME").map(PathBuf::from).unwrap_or_default();
    let certificates = || {
        let wanted = set("DOCKER_TLS_VERIFY").is_some() || set("DOCKER_TLS").is_some();
        let folder = set("DOCKER_CERT_PATH").map_or_else(|| home.join(".docker"), PathBuf::from);
        wanted.then_some(folder)
    };
    let remote = |host: &str| {
        let certificates = if host.starts_with("tcp://") { certificates() } else { None };
        Address { host: host.to_owned(), certificates }
    };
    if !matches!(configured, "" | "-" | "automount") {
        return Ok(remote(configured));
    }
    if let Some(host) = set("DOCKER_HOST") {
        return Ok(remote(host));
    }
    let config = set("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), PathBuf::from);
    if let Some(address) = context(&config, set("DOCKER_CONTEXT"))? {
        return Ok(address);
    }
    let runtime = set("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut sockets = vec![PathBuf::from("/var/run/docker.sock"), PathBuf::from("/run/docker.sock")];
    sockets.extend(runtime.iter().map(|folder| folder.join("docker.sock")));
    sockets.push(home.join(".docker/run/docker.sock"));
    sockets.push(PathBuf::from("/run/podman/podman.sock"));
    sockets.extend(runtime.iter().map(|folder| folder.join("podman/podman.sock")));
    sockets
        .into_iter()
        .find(|path| path.exists())
        .map(|path| Address { host: format!("unix://{}", path.display()), certificates: None })
        .ok_or_else(|| {
            BackendError::Refused(
                "no container engine was found: set `container.docker_host` or DOCKER_HOST, or start Docker or Podman"
                    .to_owned(),
            )
        })
}

/// The current context of the command line client, unless it is the default one.
fn context(config: &Path, wanted: Option<&str>) -> Result<Option<Address>, BackendError> {
    let read = |path: &Path| -> Option<serde_json::Value> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    };
    let current = || {
        let config = read(&config.join("config.json"))?;
        Some(config.get("currentContext")?.as_str()?.to_owned())
    };
    let Some(name) =
        wanted.map(str::to_owned).or_else(current).filter(|name| !matches!(name.as_str(), "" | "default"))
    else {
        return Ok(None);
    };
    use sha2::Digest;
    let folder = crate::agent::hash::hex(&sha2::Sha256::digest(&name));
    let meta = read(&config.join("contexts/meta").join(&folder).join("meta.json"));
    let host = meta.as_ref().and_then(|meta| meta.pointer("/Endpoints/docker/Host")?.as_str());
    let Some(host) = host else {
        return Err(BackendError::Refused(format!(
            "the Docker context '{name}' is selected, and there is none of this name in {}",
            config.display()
        )));
    };
    let tls = config.join("contexts/tls").join(&folder).join("docker");
    Ok(Some(Address { host: host.to_owned(), certificates: tls.join("cert.pem").exists().then_some(tls) }))
}

/// The HTTP status of an engine's answer.
pub(super) fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The engine's own words.
pub(super) fn message(error: &bollard::errors::Error) -> String {
    match error {
        bollard::errors::Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        bollard::errors::Error::DockerStreamError { error } => error.trim().to_owned(),
        other => other.to_string(),
    }
}

/// An error of a request, with what was tried.
pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> BackendError {
    let what = what.into();
    move |error| BackendError::engine(what, std::io::Error::other(message(&error)))
}

/// A removal that finds nothing, or finds it being removed, has what it wants.
pub(super) fn gone_is_fine(result: Result<(), bollard::errors::Error>) -> Result<(), bollard::errors::Error> {
    match result {
        Err(error) if status(&error) == Some(404) => Ok(()),
        Err(error) if status(&error) == Some(409) && message(&error).contains("already in progress") => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::PathBuf};

    use super::{Address, find, parse_version, without_version};

    fn environ(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_configuration_comes_first_then_the_environment() {
        let variables = environ(&[
            ("DOCKER_HOST", "tcp://b:2376"),
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", "/c"),
        ]);
        let tls = Some(PathBuf::from("/c"));
        let found = |configured| find(configured, &variables).expect("found");
        assert_eq!(found("unix:///a.sock"), Address { host: "unix:///a.sock".into(), certificates: None });
        assert_eq!(found("tcp://a:1"), Address { host: "tcp://a:1".into(), certificates: tls.clone() });
        for look in ["", "-", "automount"] {
            assert_eq!(found(look), Address { host: "tcp://b:2376".into(), certificates: tls.clone() });
        }
    }

    #[test]
    fn a_context_is_read_and_a_missing_one_is_named() {
        let home = tempfile::tempdir().expect("a folder");
        let docker = home.path().join(".docker");
        // SHA-256 of "build".
        let id = "8fc6d07abc41c21c4ee1e8d43ca7cb6e9bd1ee1a3e7b4f7a7a5a5b9b1d3f0f6c";
        fs::create_dir_all(docker.join("contexts/meta").join(id)).expect("folders");
        fs::write(docker.join("config.json"), r#"{"currentContext":"build"}"#).expect("a file");
        let error = find("", &environ(&[("HOME", &home.path().display().to_string())])).expect_err("missing");
        assert!(error.to_string().contains("'build'"), "{error}");
    }

    #[test]
    fn the_first_question_has_no_version() {
        assert!(parse_version("1.41").expect("a version") < parse_version("1.53").expect("a version"));
        let request = http::Request::builder()
            .uri("unix://2f766172/v1.53/version?x=1")
            .body(bollard::body_full(bytes::Bytes::new()))
            .expect("a request");
        assert_eq!(without_version(request).uri().to_string(), "unix://2f766172/version?x=1");
    }
}
