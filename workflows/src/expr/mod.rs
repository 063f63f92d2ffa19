//! The expression language: text to tree to value, with GitHub's semantics.
//!
//! [`Expression`] is what stands between `${{` and `}}`; [`Template`] is a scalar of a workflow file
//! that may contain such; [`Condition`] is the value of an `if`. All three are parsed once and
//! evaluated often, against a [`Scope`]. What an evaluation cannot know (`hashFiles`) comes back as a
//! [`Need`]; the caller answers and evaluates again, which is free of effects and cheap.

pub(crate) mod ast;
mod compare;
mod condition;
pub(crate) mod error;
mod eval;
pub(crate) mod functions;
mod json;
mod lexer;
pub(crate) mod parser;
pub(crate) mod scope;
pub(crate) mod template;
pub(crate) mod text;
pub(crate) mod value;

use std::ops::Range;
use std::sync::Arc;

pub use ast::Function;
pub use condition::Condition;
pub use error::{EvalError, Need, SyntaxError, SyntaxErrorKind};
pub use eval::Evaluated;
pub(crate) use json::read as read_json;
pub use scope::{Answers, CompositeStatus, JobStatus, Scope, StatusFunctions};
pub(crate) use template::is_insert;
pub use template::{Template, TemplateMap, TemplateNode};
pub use value::{Object, Value};

use ast::{Expr, ExprKind};
use eval::Evaluator;

/// A parsed expression.
///
/// ```
/// use workflows::{Contexts, Expression, Scope, Value};
/// let expression = Expression::parse("format('{0}-{1}', 'a', 1 + 1)");
/// assert!(expression.is_err()); // there is no arithmetic
/// let expression = Expression::parse("join(fromJSON('[1, 2]'), '+')")?;
/// let contexts = Contexts::new();
/// assert_eq!(expression.eval(&Scope::new(&contexts))?, Value::from("1+2"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Expression {
    /// The text that contains it.
    text: Arc<str>,
    range: Range<usize>,
    /// `None` for an empty expression, whose value is null.
    root: Option<Arc<Expr>>,
}

impl Expression {
    /// Parses the text between the braces. Unknown functions and wrong argument counts are errors;
    /// unknown contexts are met at evaluation or by the checker.
    pub fn parse(source: &str) -> Result<Self, SyntaxError> {
        Self::parse_in(&source.into(), 0..source.len())
    }

    /// Parses a part of a text, which is kept as it is.
    pub(crate) fn parse_in(text: &Arc<str>, range: Range<usize>) -> Result<Self, SyntaxError> {
        let root = parser::parse(&text[range.clone()])?;
        Ok(Self { text: text.clone(), range, root: root.map(Arc::new) })
    }

    /// The text it was parsed from.
    pub fn source(&self) -> &str {
        &self.text[self.range.clone()]
    }

    /// Where its text begins in the scalar that contains it.
    pub(crate) const fn start(&self) -> usize {
        self.range.start
    }

    /// Whether there is nothing but white space.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(crate) fn root(&self) -> Option<&Expr> {
        self.root.as_deref()
    }

    /// The value. See [`EvalError`] for what can go wrong.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value, EvalError> {
        self.eval_tracked(scope).map(|evaluated| evaluated.value)
    }

    /// The value, and whether a secret had a part in it.
    pub fn eval_tracked(&self, scope: &Scope<'_>) -> Result<Evaluated, EvalError> {
        let mut run = Evaluator::new(scope);
        let value = match &self.root {
            Some(root) => run.eval(root)?,
            None => Value::Null,
        };
        Ok(Evaluated { value, secret: run.secret })
    }

    /// Whether one of `success()`, `failure()`, `always()`, `cancelled()` is called anywhere.
    pub fn calls_status_function(&self) -> bool {
        let mut found = false;
        self.walk(&mut |expr| {
            found |= matches!(&expr.kind, ExprKind::Call { function, .. } if function.is_status());
        });
        found
    }

    /// Names of the contexts that are read, each once, in order of appearance.
    pub fn contexts(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        self.walk(&mut |expr| {
            if let ExprKind::Context(name) = &expr.kind
                && !names.contains(&name.as_str())
            {
                names.push(name.as_str());
            }
        });
        names
    }

    pub(crate) fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        if let Some(root) = &self.root {
            root.walk(visit);
        }
    }

    /// The value, when it is the same whatever the contexts: no context, status function or file is read.
    pub fn constant(&self) -> Option<Value> {
        let mut constant = true;
        self.walk(&mut |expr| {
            constant &= match &expr.kind {
                ExprKind::Context(_) => false,
                ExprKind::Call { function, .. } => !function.is_status() && *function != Function::HashFiles,
                _ => true,
            };
        });
        let contexts = crate::context::Contexts::new();
        if constant { self.eval(&Scope::new(&contexts)).ok() } else { None }
    }
}

impl std::str::FromStr for Expression {
    type Err = SyntaxError;
    fn from_str(source: &str) -> Result<Self, SyntaxError> {
        Self::parse(source)
    }
}

/// Evaluates until there is a value, answering needs with `answer`. For callers that can answer at once;
/// others keep [`Answers`] themselves.
///
/// ```
/// use workflows::{Contexts, Need, Scope, Template, with_answers};
/// let key = Template::parse("cargo-${{ hashFiles('Cargo.lock') }}");
/// let contexts = Contexts::new();
/// let text = with_answers(
///     |answers| key.eval_string(&Scope::new(&contexts).answers(answers)),
///     |Need::HashFiles(patterns)| Ok(format!("hash of {}", patterns.join(", "))),
/// )?;
/// assert_eq!(text, "cargo-hash of Cargo.lock");
/// # Ok::<(), workflows::EvalError>(())
/// ```
pub fn with_answers<T>(
    mut evaluate: impl FnMut(&Answers) -> Result<T, EvalError>,
    mut answer: impl FnMut(&Need) -> Result<String, String>,
) -> Result<T, EvalError> {
    let mut answers = Answers::new();
    loop {
        match evaluate(&answers) {
            Err(EvalError::Need(need)) => {
                let reply = answer(&need);
                answers.add(need, reply);
            }
            other => return other,
        }
    }
}
