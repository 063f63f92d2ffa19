//! The named contexts that expressions read (`github`, `env`, `steps`, …).

use std::fmt;
use std::sync::Arc;

use crate::expr::text;
use crate::expr::value::{Object, Value};

/// Name of a context.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ContextName {
    /// One that the language knows.
    Known(Context),
    /// Any other, as written.
    Other(Arc<str>),
}

/// The contexts that the language knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Context {
    /// `github`, and `gitea` which is the same.
    Github,
    /// `env`
    Env,
    /// `vars`
    Vars,
    /// `job`
    Job,
    /// `jobs`
    Jobs,
    /// `steps`
    Steps,
    /// `runner`
    Runner,
    /// `secrets`
    Secrets,
    /// `strategy`
    Strategy,
    /// `matrix`
    Matrix,
    /// `needs`
    Needs,
    /// `inputs`
    Inputs,
}

impl Context {
    /// Every context.
    pub const ALL: [Self; 12] = [
        Self::Github,
        Self::Env,
        Self::Vars,
        Self::Job,
        Self::Jobs,
        Self::Steps,
        Self::Runner,
        Self::Secrets,
        Self::Strategy,
        Self::Matrix,
        Self::Needs,
        Self::Inputs,
    ];

    /// The name in expressions.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Env => "env",
            Self::Vars => "vars",
            Self::Job => "job",
            Self::Jobs => "jobs",
            Self::Steps => "steps",
            Self::Runner => "runner",
            Self::Secrets => "secrets",
            Self::Strategy => "strategy",
            Self::Matrix => "matrix",
            Self::Needs => "needs",
            Self::Inputs => "inputs",
        }
    }

    /// By name, ignoring case; `gitea` means `github`.
    pub fn by_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("gitea") {
            return Some(Self::Github);
        }
        Self::ALL.into_iter().find(|context| context.name().eq_ignore_ascii_case(name))
    }
}

impl ContextName {
    /// From the name as written.
    pub fn from_name(name: &str) -> Self {
        Context::by_name(name).map_or_else(|| Self::Other(name.into()), Self::Known)
    }

    /// The name, `github` for `gitea`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(context) => context.name(),
            Self::Other(name) => name,
        }
    }
}

impl fmt::Debug for ContextName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Values of the contexts for one evaluation. Cloning copies a dozen pointers.
///
/// ```
/// use workflows::{Contexts, Expression, Scope};
/// let mut contexts = Contexts::new();
/// contexts.set("github", serde_json::json!({"ref": "refs/heads/main"}));
/// let expression = Expression::parse("github.ref == 'refs/heads/main'")?;
/// assert!(expression.eval(&Scope::new(&contexts))?.is_truthy());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Contexts {
    known: [Option<Value>; 12],
    others: Vec<(Arc<str>, Value)>,
}

impl Contexts {
    /// No context at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a context by name; `gitea` sets `github`.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        match ContextName::from_name(name) {
            ContextName::Known(context) => self.known[context as usize] = Some(value),
            ContextName::Other(name) => {
                self.others.retain(|(other, _)| !text::equals_ignore_case(other, &name));
                self.others.push((name, value));
            }
        }
        self
    }

    /// [`Contexts::set`] for chains.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Takes a context away.
    pub fn remove(&mut self, name: &str) {
        match ContextName::from_name(name) {
            ContextName::Known(context) => self.known[context as usize] = None,
            ContextName::Other(name) => {
                self.others.retain(|(other, _)| !text::equals_ignore_case(other, &name));
            }
        }
    }

    /// The value of a context, if it is set.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.lookup(&ContextName::from_name(name))
    }

    /// Whether no context is set.
    pub fn is_empty(&self) -> bool {
        self.others.is_empty() && self.known.iter().all(Option::is_none)
    }

    pub(crate) fn lookup(&self, name: &ContextName) -> Option<&Value> {
        match name {
            ContextName::Known(context) => self.known[*context as usize].as_ref(),
            ContextName::Other(name) => self
                .others
                .iter()
                .find(|(other, _)| text::equals_ignore_case(other, name))
                .map(|(_, value)| value),
        }
    }
}

/// Shows the names only: values may be secrets.
impl fmt::Debug for Contexts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Context::ALL.into_iter().filter(|context| self.known[*context as usize].is_some());
        let mut names: Vec<&str> = known.map(Context::name).collect();
        names.extend(self.others.iter().map(|(name, _)| &**name));
        formatter.debug_set().entries(names).finish()
    }
}

/// An object of strings, as `env`, `secrets` and `vars` are.
impl From<&[(String, String)]> for Object {
    fn from(entries: &[(String, String)]) -> Self {
        entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gitea_is_github_and_names_ignore_case() {
        let mut contexts = Contexts::new();
        contexts.set("gitea", Value::from("g")).set("custom", Value::from("c"));
        assert_eq!(contexts.get("GitHub"), Some(&Value::from("g")));
        assert_eq!(contexts.get("CUSTOM"), Some(&Value::from("c")));
        contexts.remove("custom");
        contexts.remove("github");
        assert!(contexts.is_empty());
    }

    #[test]
    fn debug_hides_values() {
        let contexts = Contexts::new().with("secrets", serde_json::json!({"A": "hidden"})).with("x", "y");
        assert_eq!(format!("{contexts:?}"), r#"{"secrets", "x"}"#);
    }
}
