//! `action.yml`: what an action takes, gives, and runs.

use super::reader::{Mode, Parsed, Reader, first_key};
use super::step::{Step, StepPlace, read_condition, read_steps};
use super::{Condition, Template, TemplateMap};
use crate::diagnostic::{Code, Diagnostic};
use crate::source::{SourceFile, Span, Spanned};
use crate::suggest;
use crate::yaml::{self, Node};

/// An `action.yml`.
#[derive(Debug, Clone)]
pub struct Action {
    /// `name`
    pub name: Option<Spanned<String>>,
    /// `description`
    pub description: Option<Spanned<String>>,
    /// `author`
    pub author: Option<Spanned<String>>,
    /// `inputs`, in order
    pub inputs: Vec<ActionInput>,
    /// `outputs`, in order
    pub outputs: Vec<ActionOutput>,
    /// `runs`
    pub runs: Runs,
    /// The file it was read from.
    pub source: SourceFile,
}

impl Action {
    /// The input of that id, ignoring case.
    pub fn input(&self, name: &str) -> Option<&ActionInput> {
        self.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(name))
    }
}

/// One input of an action.
#[derive(Debug, Clone)]
pub struct ActionInput {
    /// Its id.
    pub name: Spanned<String>,
    /// `description`
    pub description: Option<String>,
    /// `required`, which no runner enforces.
    pub required: bool,
    /// `default`
    pub default: Option<Template>,
    /// `deprecationMessage`
    pub deprecation: Option<String>,
}

/// One output of an action.
#[derive(Debug, Clone)]
pub struct ActionOutput {
    /// Its id.
    pub name: Spanned<String>,
    /// `description`
    pub description: Option<String>,
    /// `value`, of composite actions.
    pub value: Option<Template>,
}

/// `runs`
#[derive(Debug, Clone)]
pub enum Runs {
    /// `node12` to `node24`: JavaScript.
    Node {
        /// `using`, in lower case.
        version: String,
        /// `main`
        main: String,
        /// `pre`
        pre: Option<String>,
        /// `pre-if`; without one the pre stage always runs.
        pre_if: Option<Condition>,
        /// `post`
        post: Option<String>,
        /// `post-if`; without one the post stage always runs.
        post_if: Option<Condition>,
    },
    /// `go`, of Gitea: a program built and run with the Go tool.
    Go {
        /// `main`
        main: String,
        /// `pre`
        pre: Option<String>,
        /// `pre-if`
        pre_if: Option<Condition>,
        /// `post`
        post: Option<String>,
        /// `post-if`
        post_if: Option<Condition>,
    },
    /// `composite`
    Composite {
        /// `steps`
        steps: Vec<Step>,
    },
    /// `docker`
    Docker {
        /// `image`: a Dockerfile's path or `docker://image`.
        image: String,
        /// `entrypoint`
        entrypoint: Option<String>,
        /// `pre-entrypoint`
        pre_entrypoint: Option<String>,
        /// `post-entrypoint`
        post_entrypoint: Option<String>,
        /// `args`; `None` when not written, which is not the same as empty.
        args: Option<Vec<Template>>,
        /// `env`
        env: Option<TemplateMap>,
        /// `pre-if`
        pre_if: Option<Condition>,
        /// `post-if`
        post_if: Option<Condition>,
    },
}

/// Kinds of `using`, newest runtime of each first.
const USING: [&str; 7] = ["node24", "node20", "node16", "node12", "composite", "docker", "go"];
const KEYS: [&str; 8] =
    ["name", "author", "description", "inputs", "outputs", "runs", "branding", "deprecationMessage"];

/// Reads and checks an `action.yml` strictly.
pub fn parse_action(source: &SourceFile) -> Parsed<Action> {
    parse_action_with(source, Mode::Strict)
}

/// Reads an `action.yml`; lenient is for running it.
///
/// ```
/// use workflows::{Mode, Runs, SourceFile, parse_action_with};
/// let source = SourceFile::new("action.yml", "name: Hello\nruns:\n  using: node20\n  main: index.js\n");
/// let action = parse_action_with(&source, Mode::Lenient).into_result().unwrap();
/// assert!(matches!(action.runs, Runs::Node { ref main, .. } if main == "index.js"));
/// ```
pub fn parse_action_with(source: &SourceFile, mode: Mode) -> Parsed<Action> {
    let (tree, diagnostics) = yaml::parse(source, yaml::Limits::default());
    let mut reader = Reader::new(source, mode, diagnostics);
    let action = match &tree {
        Some(root) if root.as_mapping().is_some() => read_action(&mut reader, root),
        Some(root) => {
            reader.refuse(
                Code::WrongType,
                Span::new(root.span.start, root.span.start + 1),
                "an action.yml must be a mapping",
            );
            None
        }
        None => {
            if reader.diagnostics.is_empty() {
                reader.refuse(Code::EmptyValue, Span::default(), "the file is empty");
            }
            None
        }
    };
    reader.finish(action)
}

fn read_action(reader: &mut Reader<'_>, root: &Node<'_>) -> Option<Action> {
    let (mut name, mut description, mut author) = (None, None, None);
    let (mut inputs, mut outputs, mut runs, mut has_runs) = (Vec::new(), Vec::new(), None, false);
    for entry in reader.any_mapping(root, "an action") {
        let value = &entry.value;
        match entry.key.as_text().unwrap_or("") {
            "name" => name = reader.text(value, "'name'"),
            "description" => description = reader.text(value, "'description'"),
            "author" => author = reader.text(value, "'author'"),
            "inputs" => inputs = read_inputs(reader, value),
            "outputs" => outputs = read_outputs(reader, value),
            "runs" => {
                has_runs = true;
                runs = read_runs(reader, value);
            }
            "branding" => {}
            other => {
                // Runners ignore what they do not know here.
                let mut finding = Diagnostic::warning(
                    Code::UnknownKey,
                    entry.key.span,
                    format!("unexpected key '{other}' in an action"),
                );
                if let Some(near) = suggest::nearest(other, KEYS) {
                    finding = finding.with_help(format!("did you mean '{near}'?"));
                }
                reader.report(finding);
            }
        }
    }
    if name.is_none() && root.get("name").is_none() {
        reader.missing(root, "the action", "name");
    }
    if !has_runs {
        reader.refuse(Code::MissingKey, first_key(root), "the action lacks the required key 'runs'");
    }
    Some(Action { name, description, author, inputs, outputs, runs: runs?, source: reader.source.clone() })
}

fn read_inputs(reader: &mut Reader<'_>, node: &Node<'_>) -> Vec<ActionInput> {
    let mut inputs = Vec::new();
    if node.is_null() {
        return inputs;
    }
    for entry in reader.any_mapping(node, "'inputs'") {
        let name = Spanned::new(entry.key.as_text().unwrap_or("").to_owned(), entry.key.span);
        let what = format!("input '{}'", name.value);
        let mut input =
            ActionInput { name, description: None, required: false, default: None, deprecation: None };
        if !entry.value.is_null() {
            for property in reader.any_mapping(&entry.value, &what) {
                let value = &property.value;
                match property.key.as_text().unwrap_or("") {
                    "description" => input.description = value.as_text().map(str::to_owned),
                    // Written in many ways, enforced by nobody.
                    "required" => {
                        input.required =
                            value.as_text().is_some_and(|text| text.eq_ignore_ascii_case("true"));
                    }
                    "default" => input.default = reader.template(value, "'default'"),
                    "deprecationMessage" => input.deprecation = value.as_text().map(str::to_owned),
                    other => {
                        let message = format!("unexpected key '{other}' in {what}");
                        reader.warn(Code::UnknownKey, property.key.span, message);
                    }
                }
            }
        }
        inputs.push(input);
    }
    inputs
}

fn read_outputs(reader: &mut Reader<'_>, node: &Node<'_>) -> Vec<ActionOutput> {
    let mut outputs = Vec::new();
    if node.is_null() {
        return outputs;
    }
    for entry in reader.any_mapping(node, "'outputs'") {
        let name = Spanned::new(entry.key.as_text().unwrap_or("").to_owned(), entry.key.span);
        let what = format!("output '{}'", name.value);
        let mut output = ActionOutput { name, description: None, value: None };
        if !entry.value.is_null() {
            for property in reader.mapping(&entry.value, &what, &["description", "value"]) {
                match property.key.as_text().unwrap_or("") {
                    "description" => output.description = property.value.as_text().map(str::to_owned),
                    "value" => output.value = reader.template(&property.value, "'value'"),
                    _ => {}
                }
            }
        }
        outputs.push(output);
    }
    outputs
}

/// Everything that may stand under `runs`, whatever the kind.
#[derive(Default)]
struct RunsKeys {
    main: Option<String>,
    pre: Option<String>,
    pre_if: Option<Condition>,
    post: Option<String>,
    post_if: Option<Condition>,
    image: Option<String>,
    entrypoint: Option<String>,
    pre_entrypoint: Option<String>,
    post_entrypoint: Option<String>,
    args: Option<Vec<Template>>,
    env: Option<TemplateMap>,
    steps: Option<Vec<Step>>,
}

fn read_runs(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Runs> {
    if node.as_mapping().is_none() {
        reader.refuse(
            Code::WrongType,
            node.span,
            format!("'runs' must be a mapping, found {}", node.describe()),
        );
        return None;
    }
    let Some(using_node) = node.get("using") else {
        reader.refuse(Code::MissingKey, first_key(node), "'runs' lacks the required key 'using'");
        return None;
    };
    let using = using_node.as_text().unwrap_or("").trim().to_ascii_lowercase();
    let known: &[&str] = match using.as_str() {
        "composite" => &["using", "steps"],
        "docker" => &[
            "using",
            "image",
            "entrypoint",
            "pre-entrypoint",
            "post-entrypoint",
            "args",
            "env",
            "pre-if",
            "post-if",
        ],
        _ => &["using", "main", "pre", "pre-if", "post", "post-if"],
    };
    if !USING.contains(&using.as_str()) && !is_node(&using) {
        let help = suggest::nearest(&using, USING).map_or_else(
            || format!("known kinds: {}", USING.join(", ")),
            |near| format!("did you mean '{near}'?"),
        );
        let message = format!("no runner can run an action of the kind '{using}'");
        reader
            .diagnostics
            .push(Diagnostic::error(Code::WrongValue, using_node.span, message).with_help(help));
        return None;
    }
    let mut keys = RunsKeys::default();
    for entry in reader.mapping(node, "'runs'", known) {
        let value = &entry.value;
        let text = |reader: &mut Reader<'_>| reader.text(value, "a path").map(|text| text.value);
        match entry.key.as_text().unwrap_or("") {
            "main" => keys.main = text(reader),
            "pre" => keys.pre = text(reader),
            "post" => keys.post = text(reader),
            "pre-if" => keys.pre_if = read_condition(reader, value).map(Condition::verbatim),
            "post-if" => keys.post_if = read_condition(reader, value).map(Condition::verbatim),
            "image" => keys.image = text(reader),
            "entrypoint" => keys.entrypoint = text(reader),
            "pre-entrypoint" => keys.pre_entrypoint = text(reader),
            "post-entrypoint" => keys.post_entrypoint = text(reader),
            "env" => keys.env = reader.template_map(value, "'env'"),
            "args" => {
                let items = reader.sequence(value, "'args'");
                keys.args =
                    Some(items.iter().filter_map(|item| reader.template(item, "an argument")).collect());
            }
            "steps" => keys.steps = Some(read_steps(reader, value, StepPlace::Composite)),
            _ => {}
        }
    }
    let mut require = |key: &str, value: Option<String>| {
        if value.is_none() {
            let message = format!("an action of the kind '{using}' lacks the required key '{key}'");
            reader.refuse(Code::MissingKey, first_key(node), message);
        }
        value
    };
    Some(match using.as_str() {
        "composite" => {
            if keys.steps.is_none() {
                require("steps", None);
            }
            Runs::Composite { steps: keys.steps? }
        }
        "docker" => Runs::Docker {
            image: require("image", keys.image)?,
            entrypoint: keys.entrypoint,
            pre_entrypoint: keys.pre_entrypoint,
            post_entrypoint: keys.post_entrypoint,
            args: keys.args,
            env: keys.env,
            pre_if: keys.pre_if,
            post_if: keys.post_if,
        },
        "go" => Runs::Go {
            main: require("main", keys.main)?,
            pre: keys.pre,
            pre_if: keys.pre_if,
            post: keys.post,
            post_if: keys.post_if,
        },
        _ => Runs::Node {
            main: require("main", keys.main)?,
            version: using.clone(),
            pre: keys.pre,
            pre_if: keys.pre_if,
            post: keys.post,
            post_if: keys.post_if,
        },
    })
}

/// `node` and a number.
fn is_node(using: &str) -> bool {
    using
        .strip_prefix("node")
        .is_some_and(|version| !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()))
}
