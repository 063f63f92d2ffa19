//! A step of a job or of a composite action.

use super::reader::{Reader, first_key, unknown_key};
use super::{Condition, Template, TemplateMap};
use crate::diagnostic::{Code, Diagnostic};
use crate::source::{Span, Spanned};
use crate::yaml::{Node, NodeKind};

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it was written.
    pub span: Span,
    /// `id`
    pub id: Option<Spanned<String>>,
    /// `name`
    pub name: Option<Template>,
    /// `if`
    pub condition: Option<Condition>,
    /// `env`
    pub env: Option<TemplateMap>,
    /// `continue-on-error`
    pub continue_on_error: Option<Template>,
    /// `timeout-minutes`
    pub timeout_minutes: Option<Template>,
    /// `background`: the next step starts without waiting for this one.
    pub background: bool,
    /// What it does.
    pub kind: StepKind,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// `run`
    Run {
        /// The script.
        script: Template,
        /// `shell`
        shell: Option<Template>,
        /// `working-directory`
        working_directory: Option<Template>,
    },
    /// `uses`
    Uses {
        /// The reference to the action. Gitea interpolates it, GitHub does not.
        uses: Template,
        /// `with`
        with: Option<TemplateMap>,
    },
    /// `wait`: until these background steps have ended.
    Wait(Vec<Spanned<String>>),
    /// `wait-all`: until all background steps have ended.
    WaitAll,
    /// `cancel`: ends a background step.
    Cancel(Spanned<String>),
    /// Neither `run` nor `uses`: cannot be run.
    Empty,
}

impl Step {
    /// The script of a `run` step.
    pub const fn script(&self) -> Option<&Template> {
        match &self.kind {
            StepKind::Run { script, .. } => Some(script),
            _ => None,
        }
    }

    /// The reference of a `uses` step.
    pub const fn uses(&self) -> Option<&Template> {
        match &self.kind {
            StepKind::Uses { uses, .. } => Some(uses),
            _ => None,
        }
    }

    /// What is shown for a step without a name: `Run` and the first line of the script, or the action.
    pub fn default_name(&self) -> String {
        match &self.kind {
            StepKind::Run { script, .. } => {
                let line = script.raw().lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
                format!("Run {line}")
            }
            StepKind::Uses { uses, .. } => format!("Run {}", uses.raw()),
            StepKind::Wait(ids) => {
                let ids: Vec<&str> = ids.iter().map(|id| id.value.as_str()).collect();
                format!("Wait for {}", ids.join(", "))
            }
            StepKind::WaitAll => "Wait for all background steps".to_owned(),
            StepKind::Cancel(id) => format!("Cancel {}", id.value),
            StepKind::Empty => "Run".to_owned(),
        }
    }
}

const COMMON: [&str; 7] = ["id", "name", "if", "env", "continue-on-error", "timeout-minutes", "background"];
const RUN_ONLY: [&str; 3] = ["run", "shell", "working-directory"];
const USES_ONLY: [&str; 2] = ["uses", "with"];
const WAITING: [&str; 3] = ["wait", "wait-all", "cancel"];

/// Which steps are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StepPlace {
    Job,
    Composite,
}

/// The steps of a sequence; null items are dropped with a finding.
pub(super) fn read_steps(reader: &mut Reader<'_>, node: &Node<'_>, place: StepPlace) -> Vec<Step> {
    let items = reader.sequence(node, "'steps'");
    let mut steps = Vec::with_capacity(items.len());
    for item in items {
        if item.is_null() {
            reader.unexpected(item, "a step", "a mapping");
        } else if let Some(group) = parallel_group(item, place) {
            // Steps of a group may run side by side; one after the other gives the same.
            reader.mapping(item, "a group of parallel steps", &["parallel"]);
            steps.extend(read_steps(reader, group, place));
        } else if let Some(step) = read_step(reader, item, place) {
            steps.push(step);
        }
    }
    steps
}

/// The steps of an item that is a `parallel` group.
fn parallel_group<'n, 's>(item: &'n Node<'s>, place: StepPlace) -> Option<&'n Node<'s>> {
    (place == StepPlace::Job).then(|| item.get("parallel")).flatten()
}

fn read_step(reader: &mut Reader<'_>, node: &Node<'_>, place: StepPlace) -> Option<Step> {
    let NodeKind::Mapping(entries) = &node.kind else {
        reader.unexpected(node, "a step", "a mapping");
        return None;
    };
    let mut step = Step {
        span: node.span,
        id: None,
        name: None,
        condition: None,
        env: None,
        continue_on_error: None,
        timeout_minutes: None,
        background: false,
        kind: StepKind::Empty,
    };
    let has = |key: &str| entries.iter().any(|entry| entry.key.as_text() == Some(key));
    let (is_run, is_uses) = (has("run"), has("uses"));
    let is_waiting = WAITING.iter().any(|key| has(key));
    let what = match (is_run, is_uses) {
        (true, _) => "a step with 'run'",
        (false, true) => "a step with 'uses'",
        _ => "a step",
    };
    let (mut script, mut shell, mut directory, mut uses, mut with) = (None, None, None, None, None);
    for entry in &**entries {
        let value = &entry.value;
        let key = entry.key.as_text().unwrap_or("");
        match key {
            "id" => step.id = reader.nonempty_text(value, "'id'"),
            "name" => step.name = reader.template(value, "'name'"),
            "if" => step.condition = read_condition(reader, value),
            "env" => step.env = reader.template_map(value, "'env'"),
            "continue-on-error" => {
                step.continue_on_error = reader.boolean_template(value, "'continue-on-error'");
            }
            "timeout-minutes" if place == StepPlace::Job => {
                step.timeout_minutes = reader.number_template(value, "'timeout-minutes'");
            }
            "background" if place == StepPlace::Job => {
                step.background = reader.boolean(value, "'background'").unwrap_or(false);
            }
            "run" => script = reader.template(value, "'run'"),
            "shell" => shell = reader.filled_template(value, "'shell'"),
            "working-directory" => directory = reader.template_if_any(value, "'working-directory'"),
            "uses" => uses = reader.filled_template(value, "'uses'"),
            "with" => with = reader.template_map(value, "'with'"),
            "wait" => step.kind = StepKind::Wait(reader.texts(value, "'wait'")),
            "wait-all" => step.kind = StepKind::WaitAll,
            "cancel" => {
                if let Some(id) = reader.nonempty_text(value, "'cancel'") {
                    step.kind = StepKind::Cancel(id);
                }
            }
            _ => {}
        }
        let allowed = COMMON.contains(&key)
            || (is_run || !is_uses) && RUN_ONLY.contains(&key)
            || !is_run && USES_ONLY.contains(&key)
            || (is_waiting || !is_run && !is_uses) && WAITING.contains(&key);
        let job_only = matches!(key, "timeout-minutes" | "background") || WAITING.contains(&key);
        if allowed && !(place == StepPlace::Composite && job_only) {
            continue;
        }
        if key == "uses" {
            // Beside 'run': said below, once for both.
        } else if is_run && USES_ONLY.contains(&key) || is_uses && RUN_ONLY.contains(&key) {
            let (other, own) = if USES_ONLY.contains(&key) { ("uses", "run") } else { ("run", "uses") };
            let message = format!("'{key}' belongs to a step with '{other}', this one has '{own}'");
            reader.report(
                Diagnostic::error(Code::ConflictingKeys, entry.key.span, message)
                    .with_help("a step has either 'run' or 'uses'"),
            );
        } else {
            let mut known: Vec<&str> = COMMON.to_vec();
            known.extend(if is_run || !is_uses { &RUN_ONLY[..] } else { &[] });
            known.extend(if is_run { &[] } else { &USES_ONLY[..] });
            if place == StepPlace::Composite {
                known.retain(|key| *key != "timeout-minutes" && *key != "background");
            }
            reader.report(unknown_key(&entry.key, what, &known));
        }
    }
    if is_run && is_uses {
        let second =
            entries.iter().filter(|entry| matches!(entry.key.as_text(), Some("run" | "uses"))).nth(1);
        let span = second.map_or(node.span, |entry| entry.key.span);
        reader.refuse(Code::ConflictingKeys, span, "a step has either 'run' or 'uses', this one has both");
    }
    if let Some(script) = script {
        step.kind = StepKind::Run { script, shell, working_directory: directory };
    } else if let Some(uses) = uses {
        step.kind = StepKind::Uses { uses, with };
    } else if !is_run && !is_uses && !is_waiting {
        let missing = if with.is_some() { "'uses'" } else { "'run' or 'uses'" };
        reader.error(Code::MissingKey, first_key(node), format!("the step lacks the required key {missing}"));
    }
    Some(step)
}

/// The value of an `if`; reports when it is no expression.
pub(super) fn read_condition(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Condition> {
    let template = reader.template(node, "'if'")?;
    let reported = template.syntax_error().is_some();
    let condition = Condition::from_template(template);
    if let Some(error) = condition.syntax_error()
        && !reported
    {
        let span = condition.template().locate(reader.source, error.range.clone());
        let mut diagnostic = Diagnostic::error(Code::Expression, span, error.message.clone());
        diagnostic.help.clone_from(&error.help);
        reader.report(diagnostic);
    }
    Some(condition)
}
