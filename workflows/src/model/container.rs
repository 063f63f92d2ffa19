//! Containers: of a job, and of the services beside it.

use super::job::{Job, read_template_list};
use super::reader::Reader;
use super::{Template, TemplateMap, TemplateNode};
use crate::diagnostic::Code;
use crate::source::{Span, Spanned};
use crate::yaml::{Node, NodeKind, Resolved};

/// `container`, and the common part of a service.
#[derive(Debug, Clone)]
pub struct Container {
    /// Where it was written.
    pub span: Span,
    /// One expression that gives the image name or the whole mapping.
    pub whole: Option<Template>,
    /// `image`
    pub image: Option<Template>,
    /// `env`
    pub env: Option<TemplateMap>,
    /// `ports`
    pub ports: Option<TemplateNode>,
    /// `volumes`
    pub volumes: Option<TemplateNode>,
    /// `options`
    pub options: Option<Template>,
    /// `credentials`
    pub credentials: Option<Credentials>,
    /// `entrypoint` (services)
    pub entrypoint: Option<TemplateNode>,
    /// `command`, or Gitea's `cmd` (services)
    pub command: Option<TemplateNode>,
}

/// `credentials` of a container.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Where they were written.
    pub span: Span,
    /// One expression that gives both.
    pub whole: Option<Template>,
    /// `username`
    pub username: Option<Template>,
    /// `password`
    pub password: Option<Template>,
}

/// An entry of `services`.
#[derive(Debug, Clone)]
pub struct Service {
    /// The key, which is the host name in the job's network.
    pub id: Spanned<String>,
    /// What to start.
    pub container: Container,
}

const CONTAINER_KEYS: [&str; 6] = ["image", "env", "ports", "volumes", "options", "credentials"];
const SERVICE_KEYS: [&str; 9] =
    ["image", "env", "ports", "volumes", "options", "credentials", "entrypoint", "command", "cmd"];

pub(super) fn read_container(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    what: &str,
    service: bool,
) -> Option<Container> {
    let mut container = Container {
        span: node.span,
        whole: None,
        image: None,
        env: None,
        ports: None,
        volumes: None,
        options: None,
        credentials: None,
        entrypoint: None,
        command: None,
    };
    if let NodeKind::Scalar(scalar) = &node.kind {
        // No container is what an empty image means at run time, too.
        if scalar.resolved == Resolved::Null && !service {
            reader.say_empty(node, what);
            return None;
        }
        if scalar.text.is_empty() && service {
            reader.unexpected(node, what, "an image or a mapping");
            return None;
        }
        let template = reader.template(node, what)?;
        if template.is_expression() {
            container.whole = Some(template);
        } else {
            container.image = Some(template);
        }
        return Some(container);
    }
    let keys: &[&str] = if service { &SERVICE_KEYS } else { &CONTAINER_KEYS };
    let entries = reader.computed_mapping(node, what, keys);
    for entry in entries {
        let value = &entry.value;
        match entry.key.as_text().unwrap_or("") {
            "image" => container.image = reader.filled_template(value, "'image'"),
            "env" => container.env = reader.template_map(value, "'env'"),
            "ports" => container.ports = Some(read_sequence(reader, value, "'ports'")),
            "volumes" => container.volumes = Some(read_sequence(reader, value, "'volumes'")),
            "options" => container.options = reader.template(value, "'options'"),
            "credentials" => container.credentials = read_credentials(reader, value),
            "entrypoint" if service => {
                container.entrypoint = Some(read_template_list(reader, value, "'entrypoint'"));
            }
            "command" | "cmd" if service => {
                container.command = Some(read_template_list(reader, value, "'command'"));
            }
            _ => {}
        }
    }
    let computed = entries.iter().any(|entry| entry.key.as_text().is_some_and(|key| key.contains("${{")));
    if node.as_mapping().is_some() && node.get("image").is_none() && !computed {
        reader.missing(node, what, "image");
    }
    Some(container)
}

fn read_credentials(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Credentials> {
    let mut credentials = Credentials { span: node.span, whole: None, username: None, password: None };
    if node.as_scalar().is_some() {
        credentials.whole = Some(reader.expression_in_place_of(node, "'credentials'", "a mapping")?);
        return Some(credentials);
    }
    for entry in reader.computed_mapping(node, "'credentials'", &["username", "password"]) {
        match entry.key.as_text().unwrap_or("") {
            "username" => credentials.username = reader.filled_template(&entry.value, "'username'"),
            "password" => credentials.password = reader.filled_template(&entry.value, "'password'"),
            _ => {}
        }
    }
    Some(credentials)
}

pub(super) fn read_services(reader: &mut Reader<'_>, node: &Node<'_>, job: &mut Job) {
    if node.as_scalar().is_some() {
        job.services_expression = reader.expression_in_place_of(node, "'services'", "a mapping");
        return;
    }
    for entry in reader.any_mapping(node, "'services'") {
        let id = Spanned::new(entry.key.as_text().unwrap_or("").to_owned(), entry.key.span);
        let what = format!("service '{}'", id.value);
        if let Some(container) = read_container(reader, &entry.value, &what, true) {
            job.services.push(Service { id, container });
        }
    }
}

/// A list that GitHub wants to be one even for a single item.
fn read_sequence(reader: &mut Reader<'_>, node: &Node<'_>, what: &str) -> TemplateNode {
    if node
        .as_scalar()
        .is_some_and(|scalar| scalar.resolved != Resolved::Null && !scalar.text.contains("${{"))
    {
        reader.unexpected(node, what, "a sequence");
    }
    for item in node.as_sequence().unwrap_or_default() {
        if item.as_text().is_some_and(|text| text.trim().is_empty() && !text.is_empty()) {
            reader.warn(Code::EmptyValue, item.span, format!("an item of {what} is blank"));
        }
    }
    read_template_list(reader, node, what)
}
