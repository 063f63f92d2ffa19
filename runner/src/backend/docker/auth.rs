//! Credentials for registries: those of the workflow, else those that the command line client has stored.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::backend::Credentials;

/// The name under which Docker Hub's credentials are stored.
const HUB: &str = "https://index.docker.io/v1/";

/// How long a credential helper may take.
const HELPER: Duration = Duration::from_secs(30);

/// The registry of an image reference, as the client's configuration spells it.
pub(super) fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => HUB,
            other => other,
        },
        _ => HUB,
    }
}

/// What to send with a pull of `image`. A helper that fails is told to nobody: the registry decides.
pub(super) async fn for_image(
    image: &str,
    given: Option<&Credentials>,
    environ: &BTreeMap<String, String>,
) -> Option<DockerCredentials> {
    let registry = registry(image);
    if let Some(given) = given {
        return Some(DockerCredentials {
            username: Some(given.username.clone()),
            password: Some(given.password.expose().clone()),
            serveraddress: Some(registry.to_owned()),
            ..DockerCredentials::default()
        });
    }
    let config = read_config(environ)?;
    let stored = stored(&config, registry);
    match helper(&config, registry) {
        Some(helper) => ask(&helper, registry, environ).await.or(stored),
        None => stored,
    }
}

/// All that the configuration stores in plain, for a build that may begin from any of them.
pub(super) fn all(
    environ: &BTreeMap<String, String>,
) -> std::collections::HashMap<String, DockerCredentials> {
    let config = read_config(environ).unwrap_or_default();
    let names = config.get("auths").and_then(Value::as_object).into_iter().flat_map(|auths| auths.keys());
    names.filter_map(|name| Some((name.clone(), stored(&config, name)?))).collect()
}

fn read_config(environ: &BTreeMap<String, String>) -> Option<Value> {
    let folder = match environ.get("DOCKER_CONFIG").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(environ.get("HOME")?).join(".docker"),
    };
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok()
}

fn helper(config: &Value, registry: &str) -> Option<String> {
    let own = config.get("credHelpers").and_then(|helpers| helpers.get(registry));
    own.or_else(|| config.get("credsStore"))?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

fn stored(config: &Value, registry: &str) -> Option<DockerCredentials> {
    let auths = config.get("auths")?.as_object()?;
    let plain = |name: &str| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        name.split('/').next().unwrap_or_default().to_owned()
    };
    let entry = auths
        .get(registry)
        .or_else(|| auths.iter().find(|(name, _)| plain(name) == plain(registry)).map(|(_, entry)| entry))?;
    let text = |name: &str| {
        entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let server = Some(registry.to_owned());
    if let Some(token) = text("identitytoken") {
        let identitytoken = Some(token);
        return Some(DockerCredentials {
            identitytoken,
            serveraddress: server,
            ..DockerCredentials::default()
        });
    }
    let (username, password) = match (text("username"), text("password"), text("auth")) {
        (Some(username), Some(password), _) => (username, password),
        (_, _, Some(auth)) => {
            let decoded = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
            let (username, password) = decoded.split_once(':')?;
            (username.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        _ => return None,
    };
    Some(DockerCredentials {
        username: Some(username),
        password: Some(password),
        serveraddress: server,
        ..DockerCredentials::default()
    })
}

/// Asks `docker-credential-NAME get`: the registry on its input, the answer as JSON.
async fn ask(name: &str, registry: &str, environ: &BTreeMap<String, String>) -> Option<DockerCredentials> {
    if name.contains('/') {
        return None;
    }
    let mut helper = tokio::process::Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .envs(environ)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let answer = async {
        let mut input = helper.stdin.take()?;
        input.write_all(registry.as_bytes()).await.ok()?;
        drop(input);
        helper.wait_with_output().await.ok()
    };
    let output = tokio::time::timeout(HELPER, answer).await.ok()??;
    let answer: Value = serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let (username, secret) = (text("Username")?, text("Secret")?);
    let server = Some(registry.to_owned());
    Some(if username == "<token>" {
        DockerCredentials {
            identitytoken: Some(secret),
            serveraddress: server,
            ..DockerCredentials::default()
        }
    } else {
        DockerCredentials {
            username: Some(username),
            password: Some(secret),
            serveraddress: server,
            ..DockerCredentials::default()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt};

    use super::{HUB, for_image, registry};
    use crate::backend::Credentials;

    fn home(config: &str) -> (tempfile::TempDir, BTreeMap<String, String>) {
        let home = tempfile::tempdir().expect("a folder");
        fs::create_dir(home.path().join(".docker")).expect("a folder");
        fs::write(home.path().join(".docker/config.json"), config).expect("a file");
        let environ = BTreeMap::from([("HOME".to_owned(), home.path().display().to_string())]);
        (home, environ)
    }

    #[test]
    fn the_registry_of_a_reference() {
        for (image, expected) in [
            ("alpine", HUB),
            ("library/alpine:3", HUB),
            ("docker.io/a/b", HUB),
            ("ghcr.io/a/b@sha256:00", "ghcr.io"),
            ("localhost/a", "localhost"),
            ("registry:5000/a", "registry:5000"),
        ] {
            assert_eq!(registry(image), expected, "{image}");
        }
    }

    #[tokio::test]
    async fn the_workflows_own_come_first_and_each_registry_gets_only_its_own() {
        // "me:secret"
        let (_home, environ) = home(r#"{"auths":{"https://ghcr.io/v2/":{"auth":"bWU6c2VjcmV0"}}}"#);
        let found = for_image("ghcr.io/a/b", None, &environ).await.expect("stored");
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("me"), Some("secret")));
        assert_eq!(for_image("quay.io/a/b", None, &environ).await, None);
        let given = Credentials { username: "you".into(), password: "word".to_owned().into() };
        let found = for_image("ghcr.io/a/b", Some(&given), &environ).await.expect("given");
        assert_eq!(found.username.as_deref(), Some("you"));
    }

    #[tokio::test]
    async fn a_helper_is_asked() {
        let (home, mut environ) = home(r#"{"credHelpers":{"ghcr.io":"test"}}"#);
        let helper = home.path().join("docker-credential-test");
        fs::write(&helper, "#!/bin/sh\nread registry\necho \"{\\\"Username\\\":\\\"u\\\",\\\"Secret\\\":\\\"for $registry\\\"}\"\n")
            .expect("a file");
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("executable");
        let path = std::env::var("PATH").unwrap_or_default();
        environ.insert("PATH".to_owned(), format!("{}:{path}", home.path().display()));
        let found = for_image("ghcr.io/a/b", None, &environ).await.expect("answered");
        assert_eq!(found.password.as_deref(), Some("for ghcr.io"));
    }
}
