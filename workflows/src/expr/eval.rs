//! Evaluates the tree with GitHub's semantics. Pure: what it cannot know it returns as a need.

use std::sync::Arc;

use super::ast::{Comparison, Expr, ExprKind};
use super::compare;
use super::error::EvalError;
use super::functions;
use super::scope::Scope;
use super::value::Value;
use crate::context::{Context, ContextName};

/// Most bytes of text that one evaluation may build.
pub(crate) const MAX_MEMORY: usize = 10 * 1024 * 1024;

/// A value, and whether a secret had a part in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// The result.
    pub value: Value,
    /// Whether `secrets` or `github.token` were read on the way: such a result must not be shown.
    pub secret: bool,
}

/// One run of the evaluator over one tree.
pub(crate) struct Evaluator<'a> {
    pub(crate) scope: &'a Scope<'a>,
    pub(crate) secret: bool,
    memory: usize,
}

/// A value on its way: filtered arrays (`.*`) map the next index over their items.
struct Operand {
    value: Value,
    filtered: bool,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(scope: &'a Scope<'a>) -> Self {
        Self { scope, secret: false, memory: 0 }
    }

    /// Counts text that was built; too much of it is an error, not an exhausted machine.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > MAX_MEMORY {
            return Err(EvalError::failed("The maximum allowed memory size was exceeded"));
        }
        Ok(())
    }

    pub(crate) fn eval(&mut self, expr: &Expr) -> Result<Value, EvalError> {
        Ok(match &expr.kind {
            ExprKind::Literal(value) => value.clone(),
            ExprKind::Context(name) => self.context(name)?,
            ExprKind::Index(_) | ExprKind::Star { .. } => self.operand(expr)?.value,
            ExprKind::Call { function, arguments } => functions::call(self, *function, arguments)?,
            ExprKind::Not(operand) => Value::Bool(!self.eval(operand)?.is_truthy()),
            ExprKind::Compare(comparison, sides) => {
                let (left, right) = &**sides;
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                Value::Bool(compare_values(*comparison, &left, &right))
            }
            ExprKind::And(items) => self.first_where(items, false)?,
            ExprKind::Or(items) => self.first_where(items, true)?,
        })
    }

    /// The first item whose truth is `truth`, else the last.
    fn first_where(&mut self, items: &[Expr], truth: bool) -> Result<Value, EvalError> {
        let mut value = Value::Null;
        for item in items {
            value = self.eval(item)?;
            if value.is_truthy() == truth {
                break;
            }
        }
        Ok(value)
    }

    fn context(&mut self, name: &ContextName) -> Result<Value, EvalError> {
        if *name == ContextName::Known(Context::Secrets) {
            self.secret = true;
        }
        match (self.scope.contexts.lookup(name), name) {
            (Some(value), _) => Ok(value.clone()),
            (None, ContextName::Known(_)) if !self.scope.strict => Ok(Value::Null),
            (None, name) => Err(EvalError::failed(format!("Unrecognized named-value: '{}'", name.as_str()))),
        }
    }

    fn operand(&mut self, expr: &Expr) -> Result<Operand, EvalError> {
        match &expr.kind {
            ExprKind::Index(pair) => {
                let (of, index) = &**pair;
                if matches!(of.kind, ExprKind::Context(ContextName::Known(Context::Github)))
                    && index.literal_text().is_some_and(|name| name.eq_ignore_ascii_case("token"))
                {
                    self.secret = true;
                }
                let operand = self.operand(of)?;
                if let Some(name) = index.literal_text()
                    && !operand.filtered
                    && let Value::Object(object) = &operand.value
                {
                    let value = object.get(name).cloned().unwrap_or_default();
                    return Ok(Operand { value, filtered: false });
                }
                let index = self.eval(index)?;
                if !operand.filtered {
                    let value = item(&operand.value, &index).unwrap_or_default();
                    return Ok(Operand { value, filtered: false });
                }
                let items = operand.value.as_array().unwrap_or_default();
                let picked = items.iter().filter_map(|collection| item(collection, &index)).collect();
                Ok(Operand { value: Value::array(picked), filtered: true })
            }
            ExprKind::Star { of } => {
                let operand = self.operand(of)?;
                let items = if operand.filtered {
                    let nested = operand.value.as_array().unwrap_or_default();
                    nested.iter().flat_map(children).collect()
                } else {
                    children(&operand.value)
                };
                self.charge(items.len() * size_of::<Value>())?;
                Ok(Operand { value: Value::array(items), filtered: true })
            }
            _ => Ok(Operand { value: self.eval(expr)?, filtered: false }),
        }
    }
}

pub(crate) fn compare_values(comparison: Comparison, left: &Value, right: &Value) -> bool {
    use std::cmp::Ordering::{Greater, Less};
    let order = || compare::order(left, right);
    match comparison {
        Comparison::Equal => compare::equals(left, right),
        Comparison::NotEqual => !compare::equals(left, right),
        Comparison::Less => order() == Some(Less),
        Comparison::Greater => order() == Some(Greater),
        // Defined as "or equal", so that null <= null holds.
        Comparison::LessEqual => order() == Some(Less) || compare::equals(left, right),
        Comparison::GreaterEqual => order() == Some(Greater) || compare::equals(left, right),
    }
}

/// All values of a collection; of anything else, none.
fn children(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.to_vec(),
        Value::Object(object) => object.iter().map(|(_, value)| value.clone()).collect(),
        _ => Vec::new(),
    }
}

/// `collection[index]`; `None` when there is no such item.
fn item(collection: &Value, index: &Value) -> Option<Value> {
    match collection {
        Value::Object(object) => {
            if !index.is_primitive() {
                return None;
            }
            let key: Arc<str> = index.to_shared_text();
            object.get(&key).cloned()
        }
        Value::Array(items) => {
            let number = index.to_number().floor();
            #[expect(clippy::cast_precision_loss, reason = "arrays are far shorter than 2^52")]
            if !(number >= 0.0 && number < items.len() as f64) {
                return None;
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
            items.get(number as usize).cloned()
        }
        _ => None,
    }
}
