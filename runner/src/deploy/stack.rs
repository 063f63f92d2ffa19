//! The stack file: rendered by the docker command line, marked with this deployment, handed over.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde_yaml::{Mapping, Value};

use crate::deploy::{DeployError, Deployment, docker::DockerCli, explain};

/// Label with the unique id of one deployment; a rollback brings the former one back.
pub(super) const DEPLOYMENT_LABEL: &str = "esteira.deployment";
/// Label with what people call the release.
pub(super) const REVISION_LABEL: &str = "esteira.revision";

/// How long rendering a file may take.
const RENDER_LIMIT: Duration = Duration::from_secs(60);
/// How long the hand-over may take: with registry lookups for every image.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(300);

/// What marks the services of one deployment.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// Unique.
    pub(super) deployment: String,
    /// For people.
    pub(super) revision: Option<String>,
}

impl Mark {
    pub(super) fn new(revision: Option<String>) -> Self {
        Self { deployment: uuid::Uuid::new_v4().simple().to_string(), revision }
    }
}

/// A rendered stack file.
#[derive(Debug)]
pub(super) struct Stack {
    document: Value,
    /// What the command line remarked: ignored options.
    pub(super) notes: Vec<String>,
}

/// Renders the files as `docker stack deploy` would read them: variables filled in, files merged, paths made absolute.
pub(super) async fn render(cli: &DockerCli, files: &[PathBuf]) -> Result<Stack, DeployError> {
    let names: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    for (file, name) in files.iter().zip(&names) {
        if let Err(error) = std::fs::metadata(file) {
            return Err(DeployError::Usage(format!(
                "{name}: {error}; name the stack file with --compose-file"
            )));
        }
    }
    let mut arguments = vec!["stack", "config"];
    for name in &names {
        arguments.extend(["--compose-file", name]);
    }
    let output = cli.run(&arguments, None, RENDER_LIMIT).await?;
    if !output.success {
        return Err(DeployError::Usage(explain::stack_file(&names.join(", "), &output.stderr)));
    }
    let document: Value = serde_yaml::from_str(&output.stdout).map_err(|error| {
        DeployError::Usage(format!("{}: the rendered file is not understood: {error}", names.join(", ")))
    })?;
    let notes =
        output.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let stack = Stack { document, notes };
    if stack.services().is_empty() {
        return Err(DeployError::Usage(format!("{}: there is no service in it", names.join(", "))));
    }
    Ok(stack)
}

impl Stack {
    /// The services' names, as in the file.
    pub(super) fn services(&self) -> Vec<String> {
        self.service_map().keys().cloned().collect()
    }

    /// The services, by name.
    pub(super) fn service_map(&self) -> BTreeMap<String, &Mapping> {
        self.document
            .get("services")
            .and_then(Value::as_mapping)
            .into_iter()
            .flatten()
            .filter_map(|(name, body)| Some((name.as_str()?.to_owned(), body.as_mapping()?)))
            .collect()
    }

    /// The document with the mark on every service.
    pub(super) fn marked(&self, mark: &Mark) -> Result<String, DeployError> {
        let mut document = self.document.clone();
        let services = document.get_mut("services").and_then(Value::as_mapping_mut).into_iter().flatten();
        for (name, body) in services {
            let unexpected = || {
                DeployError::Usage(format!(
                    "service {name:?}: `deploy.labels` has a form that is not understood"
                ))
            };
            let body = body.as_mapping_mut().ok_or_else(unexpected)?;
            let deploy = entry(body, "deploy").as_mapping_mut().ok_or_else(unexpected)?;
            let labels = entry(deploy, "labels");
            match labels {
                Value::Mapping(labels) => {
                    for (key, value) in mark_labels(mark) {
                        labels.insert(key.into(), value.into());
                    }
                }
                Value::Sequence(labels) => {
                    labels
                        .extend(mark_labels(mark).map(|(key, value)| Value::from(format!("{key}={value}"))));
                }
                _ => return Err(unexpected()),
            }
        }
        escape_dollars(&mut document);
        serde_yaml::to_string(&document)
            .map_err(|error| DeployError::Usage(format!("writing the stack file: {error}")))
    }
}

/// Variables are filled in already, and `docker stack deploy` fills them in once more: a `$` that has stayed is meant.
fn escape_dollars(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Value::Sequence(list) => list.iter_mut().for_each(escape_dollars),
        Value::Mapping(mapping) => mapping.values_mut().for_each(escape_dollars),
        _ => {}
    }
}

fn mark_labels(mark: &Mark) -> impl Iterator<Item = (&'static str, String)> + '_ {
    let revision = mark.revision.iter().map(|revision| (REVISION_LABEL, revision.clone()));
    std::iter::once((DEPLOYMENT_LABEL, mark.deployment.clone())).chain(revision)
}

/// The value under `key`, an empty mapping if there is none (or null).
fn entry<'a>(mapping: &'a mut Mapping, key: &str) -> &'a mut Value {
    let value = mapping.entry(Value::from(key)).or_insert(Value::Mapping(Mapping::new()));
    if value.is_null() {
        *value = Value::Mapping(Mapping::new());
    }
    value
}

/// Gives the marked document to Swarm; once more when two writers met.
pub(super) async fn hand_over(
    cli: &DockerCli,
    deployment: &Deployment,
    document: &str,
) -> Result<(), DeployError> {
    let help = cli.run(&["stack", "deploy", "--help"], None, RENDER_LIMIT).await?;
    let mut arguments = vec!["stack", "deploy", "--compose-file", "-", "--resolve-image", "always"];
    if help.stdout.contains("--detach") {
        arguments.push("--detach=true");
    }
    if deployment.with_registry_auth {
        arguments.push("--with-registry-auth");
    }
    if deployment.prune {
        arguments.push("--prune");
    }
    arguments.push(&deployment.stack);
    let mut output = cli.run(&arguments, Some(document.as_bytes()), HAND_OVER_LIMIT).await?;
    if !output.success && explain::is_out_of_sequence(&output.stderr) {
        tracing::info!("another writer changed a service at the same time; handing over once more");
        output = cli.run(&arguments, Some(document.as_bytes()), HAND_OVER_LIMIT).await?;
    }
    if output.success {
        Ok(())
    } else {
        Err(DeployError::Refused(explain::refused(&deployment.stack, &output.stderr)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, Stack};

    fn marked(text: &str) -> String {
        let stack = Stack { document: serde_yaml::from_str(text).expect("yaml"), notes: Vec::new() };
        stack.marked(&Mark { deployment: "d1".into(), revision: Some("abc".into()) }).expect("marked")
    }

    #[test]
    fn every_service_is_marked_and_keeps_its_labels() {
        let text = marked(
            "services:\n  a:\n    image: x\n  b:\n    image: y\n    deploy:\n      labels:\n        k: v\n",
        );
        assert_eq!(text.matches("esteira.deployment: d1").count(), 2, "{text}");
        assert_eq!(text.matches("esteira.revision: abc").count(), 2, "{text}");
        assert!(text.contains("k: v"), "{text}");
    }

    #[test]
    fn a_dollar_that_has_stayed_survives_the_second_reading() {
        let text = marked("services:\n  a:\n    image: x\n    command: ['^/(dev)($|/)', plain]\n");
        assert!(text.contains("^/(dev)($$|/)") && text.contains("plain"), "{text}");
    }

    #[test]
    fn labels_written_as_a_list_stay_a_list() {
        let text = marked("services:\n  b:\n    image: y\n    deploy:\n      labels: [k=v]\n");
        assert!(text.contains("- esteira.deployment=d1") && text.contains("- k=v"), "{text}");
    }
}
