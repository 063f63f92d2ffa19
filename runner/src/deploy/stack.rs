//! The stack file: rendered by the docker command line, marked with this deployment, handed over.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde_yaml::{Mapping, Value};
use tokio::time::Instant;

use crate::deploy::{
    DeployError, Deployment,
    docker::{CliError, CliOutput, DockerCli},
    explain,
};

/// Label with the unique id of one deployment; a rollback brings the former one back.
pub(super) const DEPLOYMENT_LABEL: &str = "esteira.deployment";
/// Label with what people call the release.
pub(super) const REVISION_LABEL: &str = "esteira.revision";
/// Label with the fingerprint of the service's section, so that a later dry run knows whether it is another one.
pub(super) const SECTION_LABEL: &str = "esteira.section";

/// How long rendering a file may take.
const RENDER_LIMIT: Duration = Duration::from_secs(60);

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
    /// What the command line remarked.
    pub(super) notes: Vec<String>,
}

/// How a hand-over ended.
#[derive(Debug)]
pub(super) enum HandOver {
    /// Swarm has it; what the command line remarked: options that Swarm ignores, images without a digest.
    Done(Vec<String>),
    /// Swarm or the registry said no, perhaps after some services. One sentence.
    Refused(String),
    /// The manager was lost on the way. One sentence.
    Lost(String),
    /// The limit was reached first.
    OutOfTime,
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
    let stack = Stack { document, notes: output.remarks() };
    if stack.services().is_empty() {
        return Err(DeployError::Usage(format!("{}: there is no service in it", names.join(", "))));
    }
    Ok(stack)
}

impl Stack {
    /// A document that is rendered already.
    #[cfg(test)]
    pub(super) fn of(document: &str) -> Self {
        Self { document: serde_yaml::from_str(document).expect("YAML"), notes: Vec::new() }
    }

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

    /// A definition of the top level: `kind` is `secrets`, `configs`, `networks` or `volumes`.
    pub(super) fn definition(&self, kind: &str, name: &str) -> Option<&Mapping> {
        self.document.get(kind)?.get(name)?.as_mapping()
    }

    /// The document with the mark on every service, and the fingerprint of its section where there is one.
    pub(super) fn marked(
        &self,
        mark: &Mark,
        fingerprints: &BTreeMap<String, String>,
    ) -> Result<String, DeployError> {
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
            let marks = mark_labels(mark, name.as_str().and_then(|name| fingerprints.get(name)));
            match entry(deploy, "labels") {
                Value::Mapping(labels) => {
                    for (key, value) in marks {
                        labels.insert(key.into(), value.into());
                    }
                }
                Value::Sequence(labels) => {
                    labels.extend(marks.map(|(key, value)| Value::from(format!("{key}={value}"))));
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

fn mark_labels<'a>(
    mark: &'a Mark,
    fingerprint: Option<&'a String>,
) -> impl Iterator<Item = (&'static str, String)> + 'a {
    let labels = [
        (DEPLOYMENT_LABEL, Some(&mark.deployment)),
        (REVISION_LABEL, mark.revision.as_ref()),
        (SECTION_LABEL, fingerprint),
    ];
    labels.into_iter().filter_map(|(key, value)| Some((key, value?.clone())))
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
    deadline: Instant,
) -> Result<HandOver, DeployError> {
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
    let once = || cli.run(&arguments, Some(document.as_bytes()), deadline.duration_since(Instant::now()));
    let mut output = once().await;
    if matches!(&output, Ok(CliOutput { success: false, stderr, .. }) if explain::is_out_of_sequence(stderr))
    {
        tracing::info!("another writer changed a service at the same time; handing over once more");
        output = once().await;
    }
    match output {
        Ok(output) if output.success => Ok(HandOver::Done(output.remarks())),
        Ok(output) if explain::is_lost(&output.stderr) => {
            Ok(HandOver::Lost(explain::unreachable(&output.stderr)))
        }
        Ok(output) => Ok(HandOver::Refused(explain::refused(&deployment.stack, &output.stderr))),
        Err(CliError::TooLong(..)) => Ok(HandOver::OutOfTime),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Mark, Stack};

    fn marked(text: &str) -> String {
        let stack = Stack::of(text);
        let fingerprints = BTreeMap::from([("b".to_owned(), "f1".to_owned())]);
        stack
            .marked(&Mark { deployment: "d1".into(), revision: Some("abc".into()) }, &fingerprints)
            .expect("marked")
    }

    #[test]
    fn every_service_is_marked_and_keeps_its_labels() {
        let text = marked(
            "services:\n  a:\n    image: x\n  b:\n    image: y\n    deploy:\n      labels:\n        k: v\n",
        );
        assert_eq!(text.matches("esteira.deployment: d1").count(), 2, "{text}");
        assert_eq!(text.matches("esteira.revision: abc").count(), 2, "{text}");
        assert_eq!(text.matches("esteira.section: f1").count(), 1, "{text}");
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
