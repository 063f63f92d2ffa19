//! Where a job runs: the label's image, the host, or the image of its `container:`, with its services.

use std::collections::BTreeMap;

use workflows::{Container, Contexts, EvalError, JobStatus, Scope, TemplateMap, TemplateNode, Value};

use crate::{
    assignment::Assignment,
    backend::{ContainerSpec, Credentials, JobSpec, ServiceSpec},
    label::{Label, Placement},
    log::Masker,
    secret::Secret,
    step::shell::DefaultShell,
};

/// A chosen place.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// What to prepare; a container in it means the engine, none the host.
    pub(crate) spec: JobSpec,
    /// What runs a script without `shell`.
    pub(crate) default_shell: DefaultShell,
}

/// Decides where `work` runs. The error is a sentence.
pub(crate) fn choose(work: &Assignment, contexts: &Contexts, masker: &Masker) -> Result<Chosen, String> {
    let status = JobStatus::Success;
    let scope = Scope::new(contexts).status(&status);
    let job = work.job();
    let mut container = None;
    let mut default_shell = DefaultShell::Container;
    if let Some(declared) = &job.container {
        container = container_spec(declared, &scope, masker)
            .map_err(|error| format!("The job's container cannot be evaluated: {error}"))?
            .map(|(spec, ..)| spec);
    }
    if container.is_none() {
        let labels = match &job.runs_on {
            Some(runs_on) => runs_on
                .eval_labels(&scope)
                .map_err(|error| format!("The job's runs-on cannot be evaluated: {error}"))?,
            None => Vec::new(),
        };
        let placement = match Label::pick(&work.runner.labels, &labels) {
            Some(label) => label.placement().clone(),
            None => Placement::Docker(
                work.runner.config.default_image.clone().ok_or_else(|| no_label(work, &labels))?,
            ),
        };
        default_shell = DefaultShell::Host;
        if let Placement::Docker(image) = placement {
            default_shell = DefaultShell::Label;
            container = Some(ContainerSpec { image, ..ContainerSpec::default() });
        }
    }
    let services = services(work, &scope, masker)
        .map_err(|error| format!("The job's services cannot be evaluated: {error}"))?;
    let mut env = work.runner.config.place_env.clone();
    let near = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().chain(work.cache.hosts());
    spare_proxy(&mut env, near.chain(services.iter().map(|service| service.id.clone())));
    if container.is_some() {
        env.insert("LANG".to_owned(), "C.UTF-8".to_owned());
    }
    let spec = JobSpec {
        name: format!("{}-{}", work.task, job.id.value),
        task: work.task,
        owner: work.runner.uuid.clone(),
        repository: work.repository(),
        container,
        services,
        env,
        files: Vec::new(),
        bind_workspace: work.runner.config.bind_workspace.clone(),
        node: work.runner.config.node_dir.clone(),
    };
    Ok(Chosen { spec, default_shell })
}

/// Adds hosts that are reached without a proxy, where there is one.
pub(crate) fn spare_proxy(env: &mut BTreeMap<String, String>, hosts: impl Iterator<Item = String>) {
    let proxied = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].iter().any(|name| env.contains_key(*name));
    if !proxied {
        return;
    }
    let given = env.get("NO_PROXY").cloned().unwrap_or_default();
    let mut all: Vec<String> =
        given.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect();
    for host in hosts {
        if !all.contains(&host) {
            all.push(host);
        }
    }
    for name in ["NO_PROXY", "no_proxy"] {
        env.insert(name.to_owned(), all.join(","));
    }
}

fn no_label(work: &Assignment, labels: &[String]) -> String {
    let own: Vec<&str> = work.runner.labels.iter().map(Label::name).collect();
    format!(
        "The job asks for `runs-on: {}`, and this runner has none of these labels (it has: {}). Add the label to the runner, or set runner.default_image.",
        labels.join(", "),
        if own.is_empty() { "none".to_owned() } else { own.join(", ") }
    )
}

fn services(work: &Assignment, scope: &Scope<'_>, masker: &Masker) -> Result<Vec<ServiceSpec>, EvalError> {
    let mut services = Vec::new();
    for service in &work.job().services {
        if let Some((container, entrypoint, command)) = container_spec(&service.container, scope, masker)? {
            services.push(ServiceSpec { id: service.id.value.clone(), container, command, entrypoint });
        }
    }
    if let Some(whole) = &work.job().services_expression
        && let Some(object) = whole.eval(scope)?.as_object()
    {
        for (id, value) in object.iter() {
            if let Some((container, entrypoint, command)) = from_value(value, masker)? {
                services.push(ServiceSpec { id: id.to_owned(), container, command, entrypoint });
            }
        }
    }
    Ok(services)
}

type Described = (ContainerSpec, Vec<String>, Vec<String>);

/// The container that is described; `None` when its image comes out empty. Besides: entry point and command.
fn container_spec(
    declared: &Container,
    scope: &Scope<'_>,
    masker: &Masker,
) -> Result<Option<Described>, EvalError> {
    if let Some(whole) = &declared.whole {
        return from_value(&whole.eval(scope)?, masker);
    }
    let text = |template: Option<&workflows::Template>| {
        template.map_or_else(|| Ok(String::new()), |template| template.eval_string(scope))
    };
    let list = |node: Option<&TemplateNode>| {
        node.map_or_else(|| Ok(Vec::new()), |node| node.eval(scope).map(|value| texts(&value)))
    };
    let image = text(declared.image.as_ref())?;
    if image.trim().is_empty() {
        return Ok(None);
    }
    let env = declared
        .env
        .as_ref()
        .map(|map: &TemplateMap| map.eval_strings(scope))
        .transpose()?
        .unwrap_or_default();
    let credentials = match &declared.credentials {
        Some(declared) => match &declared.whole {
            Some(whole) => credentials(&whole.eval(scope)?, masker)?,
            None => login(text(declared.username.as_ref())?, text(declared.password.as_ref())?, masker)?,
        },
        None => None,
    };
    let spec = ContainerSpec {
        image: image_name(&image),
        credentials,
        env: env.into_iter().collect(),
        ports: list(declared.ports.as_ref())?,
        volumes: list(declared.volumes.as_ref())?,
        options: text(declared.options.as_ref())?,
    };
    let entrypoint = words(declared.entrypoint.as_ref(), scope)?;
    Ok(Some((spec, entrypoint, words(declared.command.as_ref(), scope)?)))
}

/// A list of words, or one text that is split like a shell does.
fn words(node: Option<&TemplateNode>, scope: &Scope<'_>) -> Result<Vec<String>, EvalError> {
    let Some(node) = node else { return Ok(Vec::new()) };
    Ok(match node.eval(scope)? {
        value @ Value::Array(_) => texts(&value),
        single => crate::step::shell::split(&single.to_text()).unwrap_or_default(),
    })
}

/// A container that one expression gives: the image's name, or the whole mapping.
fn from_value(value: &Value, masker: &Masker) -> Result<Option<Described>, EvalError> {
    let at = |key: &str| value.get(key).map(Value::to_text).unwrap_or_default();
    let list = |key: &str| value.get(key).map(texts).unwrap_or_default();
    let image = if value.as_object().is_some() { at("image") } else { value.to_text() };
    if image.trim().is_empty() {
        return Ok(None);
    }
    let env = value.get("env").and_then(Value::as_object);
    let spec = ContainerSpec {
        image: image_name(&image),
        credentials: value.get("credentials").map(|value| credentials(value, masker)).transpose()?.flatten(),
        env: env
            .iter()
            .flat_map(|env| env.iter())
            .map(|(name, value)| (name.to_owned(), value.to_text()))
            .collect(),
        ports: list("ports"),
        volumes: list("volumes"),
        options: at("options"),
    };
    let command = if value.get("command").is_some() { list("command") } else { list("cmd") };
    Ok(Some((spec, list("entrypoint"), command)))
}

fn credentials(value: &Value, masker: &Masker) -> Result<Option<Credentials>, EvalError> {
    let at = |key: &str| value.get(key).map(Value::to_text).unwrap_or_default();
    login(at("username"), at("password"), masker)
}

/// Both together are credentials, both empty (secrets that a run does not get) are none, one alone is a mistake.
fn login(username: String, password: String, masker: &Masker) -> Result<Option<Credentials>, EvalError> {
    let missing = match (username.is_empty(), password.is_empty()) {
        (true, true) => return Ok(None),
        (false, false) => {
            masker.seed("credentials.password", &password);
            return Ok(Some(Credentials { username, password: Secret::new(password) }));
        }
        (true, false) => "username",
        (false, true) => "password",
    };
    Err(EvalError::Failed(format!(
        "the credentials have an empty {missing}, which is invalid: both are required"
    )))
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(Value::to_text).filter(|text| !text.is_empty()).collect(),
        Value::Null => Vec::new(),
        single => vec![single.to_text()],
    }
}

fn image_name(image: &str) -> String {
    let image = image.trim();
    image.strip_prefix("docker://").unwrap_or(image).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::spare_proxy;

    #[test]
    fn hosts_nearby_need_no_proxy_and_without_one_nothing_changes() {
        let near = || ["localhost", "db"].map(str::to_owned).into_iter();
        let mut env = BTreeMap::new();
        spare_proxy(&mut env, near());
        assert!(env.is_empty());
        env.insert("HTTPS_PROXY".to_owned(), "http://p:1".to_owned());
        env.insert("NO_PROXY".to_owned(), "example.com, localhost".to_owned());
        spare_proxy(&mut env, near());
        assert_eq!(env["NO_PROXY"], "example.com,localhost,db");
        assert_eq!(env["no_proxy"], env["NO_PROXY"]);
    }
}
