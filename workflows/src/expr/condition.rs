//! The value of an `if`: raw text or one `${{ }}`, with `success()` implied where no status function
//! is called.

use std::sync::Arc;

use super::error::EvalError;
use super::scope::{JobStatus, Scope};
use super::template::{Template, TemplateKind};
use super::{Expression, SyntaxError};
use crate::source::Span;

/// A parsed `if`, `pre-if` or `post-if`.
///
/// ```
/// use workflows::{Condition, Contexts, JobStatus, Scope};
/// let contexts = Contexts::new();
/// let failed = Scope::new(&contexts).status(&JobStatus::Failure);
/// assert!(!Condition::parse("1 == 1").eval(&failed)?); // success() is implied
/// assert!(Condition::parse("failure()").eval(&failed)?);
/// # Ok::<(), workflows::EvalError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Condition {
    span: Span,
    text: Template,
    form: Form,
    implied_success: bool,
}

#[derive(Debug, Clone)]
enum Form {
    Expression(Expression),
    /// Text around `${{ }}`: true unless it comes out empty.
    Text,
    Wrong(Box<SyntaxError>),
}

impl Condition {
    /// From the text of an `if`.
    pub fn parse(text: &str) -> Self {
        Self::from_template(Template::parse(text))
    }

    /// From a scalar of a workflow file.
    pub fn from_template(text: Template) -> Self {
        let span = text.span();
        let form = match text.kind() {
            TemplateKind::Expression(expression) => Form::Expression(expression.clone()),
            // Includes `${{ 'text' }}`: a lone string literal is text, which is then read as the expression.
            TemplateKind::Literal(value) => parse(value.to_shared_text()),
            TemplateKind::Mixed(_) => Form::Text,
            TemplateKind::Wrong(error) => Form::Wrong(error.clone()),
        };
        let calls_status = match &form {
            Form::Expression(expression) => expression.calls_status_function(),
            Form::Text => text.expressions().any(|(expression, _)| expression.calls_status_function()),
            Form::Wrong(_) => false,
        };
        Self { span, text, form, implied_success: !calls_status }
    }

    /// A condition as it is, without an implied `success()`: for `pre-if` and `post-if`.
    #[must_use]
    pub fn verbatim(mut self) -> Self {
        self.implied_success = false;
        self
    }

    /// Where it was written.
    pub const fn span(&self) -> Span {
        self.span
    }

    /// The scalar as written.
    pub const fn template(&self) -> &Template {
        &self.text
    }

    /// The expression, when it is one.
    pub const fn expression(&self) -> Option<&Expression> {
        match &self.form {
            Form::Expression(expression) => Some(expression),
            Form::Text | Form::Wrong(_) => None,
        }
    }

    /// Why it is no expression.
    pub const fn syntax_error(&self) -> Option<&SyntaxError> {
        match &self.form {
            Form::Wrong(error) => Some(error),
            Form::Expression(_) | Form::Text => None,
        }
    }

    /// Whether `success() &&` is implied.
    pub const fn implies_success(&self) -> bool {
        self.implied_success
    }

    /// Whether text stands around the braces, which makes it true whatever they say.
    pub const fn is_text(&self) -> bool {
        matches!(self.form, Form::Text)
    }

    /// Whether it holds.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<bool, EvalError> {
        if self.implied_success {
            let went_well = match scope.status {
                Some(status) => status.success(&[]),
                None => true,
            };
            if !went_well {
                return Ok(false);
            }
        }
        match &self.form {
            Form::Expression(expression) => Ok(expression.eval(scope)?.is_truthy()),
            Form::Text => Ok(!self.text.eval_string(scope)?.is_empty()),
            Form::Wrong(error) => Err(EvalError::Syntax((**error).clone())),
        }
    }

    /// The condition of a step or job that has none: `success()`.
    pub fn holds_by_default(status: JobStatus) -> bool {
        status == JobStatus::Success
    }
}

/// An empty condition is no condition: only the implied `success()` counts.
fn parse(text: Arc<str>) -> Form {
    let text = if text.trim().is_empty() { "true".into() } else { text };
    match Expression::parse_in(&text, 0..text.len()) {
        Ok(expression) => Form::Expression(expression),
        Err(error) => Form::Wrong(Box::new(error)),
    }
}
