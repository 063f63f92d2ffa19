//! Walks an expression with types: what is not available, does not exist, or cannot work.

use std::ops::Range;

use super::place::Place;
use super::types::Type;
use crate::context::{Context, ContextName};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::expr::ast::{Comparison, Expr, ExprKind};
use crate::expr::functions::{FormatPart, format_parts};
use crate::expr::{Function, Value};
use crate::suggest;

/// Types of the contexts at one place.
pub(crate) trait ContextTypes {
    /// The type of a context; [`Type::Any`] when nothing is known.
    fn context(&self, context: Context) -> Type;
}

/// A finding at a range of the expression.
pub(crate) struct Finding {
    pub(crate) range: Range<usize>,
    pub(crate) diagnostic: Diagnostic,
}

/// Checks one expression.
pub(crate) struct Infer<'a> {
    place: Place,
    contexts: &'a dyn ContextTypes,
    pub(crate) findings: Vec<Finding>,
}

impl<'a> Infer<'a> {
    pub(crate) fn new(place: Place, contexts: &'a dyn ContextTypes) -> Self {
        Self { place, contexts, findings: Vec::new() }
    }

    fn report(
        &mut self,
        range: Range<usize>,
        severity: Severity,
        code: Code,
        message: String,
        help: Option<String>,
    ) {
        let diagnostic = Diagnostic { code, severity, span: crate::source::Span::default(), message, help };
        self.findings.push(Finding { range, diagnostic });
    }

    fn warn(&mut self, range: Range<usize>, code: Code, message: String) {
        self.report(range, Severity::Warning, code, message, None);
    }

    /// The type of an expression; findings are collected.
    pub(crate) fn infer(&mut self, expr: &Expr) -> Type {
        match &expr.kind {
            ExprKind::Literal(value) => Type::of_value(value),
            ExprKind::Context(name) => self.context(name, expr),
            ExprKind::Index(pair) => self.index(&pair.0, &pair.1),
            ExprKind::Star { of } => match self.infer(of) {
                Type::Array(items) => Type::Array(items),
                Type::Object(object) => {
                    let kinds = object.properties.iter().map(|(_, kind)| kind.clone());
                    Type::array(Type::union(kinds.chain(object.others.clone())))
                }
                Type::Any => Type::array(Type::Any),
                other => {
                    let message = format!(".* works on objects and arrays, this is {}", other.name());
                    self.warn(of.range(), Code::ExpressionType, message);
                    Type::array(Type::Any)
                }
            },
            ExprKind::Call { function, arguments } => self.call(*function, arguments, expr),
            ExprKind::Not(operand) => {
                self.infer(operand);
                Type::Bool
            }
            ExprKind::Compare(comparison, sides) => {
                let (left, right) = &**sides;
                let (left_type, right_type) = (self.infer(left), self.infer(right));
                self.compare(*comparison, &left_type, &right_type, left.start as usize..right.range().end);
                Type::Bool
            }
            ExprKind::And(items) => {
                let types: Vec<Type> = items.iter().map(|item| self.infer(item)).collect();
                // The value is the first falsy operand or the last: null and '' of the others seldom matter.
                types.into_iter().last().unwrap_or(Type::Any)
            }
            ExprKind::Or(items) => {
                let types: Vec<Type> = items.iter().map(|item| self.infer(item)).collect();
                Type::union(types)
            }
        }
    }

    fn context(&mut self, name: &ContextName, expr: &Expr) -> Type {
        let available = self.place.contexts();
        let (word, known) = match name {
            ContextName::Known(context) => {
                if available.contains(context) {
                    return self.contexts.context(*context);
                }
                (context.name(), true)
            }
            ContextName::Other(name) => (&**name, false),
        };
        let list: Vec<&str> = available.iter().map(|context| context.name()).collect();
        let message = if known {
            format!("the context '{word}' is not available in {}", self.place.name())
        } else {
            format!("unknown context '{word}'")
        };
        let help = match suggest::nearest(word, list.iter().copied()) {
            Some(near) if !known => format!("did you mean '{near}'?"),
            _ if list.is_empty() => "expressions cannot read anything here".to_owned(),
            _ => format!("available here: {}", list.join(", ")),
        };
        self.report(expr.range(), Severity::Error, Code::ContextAvailability, message, Some(help));
        Type::Any
    }

    fn index(&mut self, of: &Expr, index: &Expr) -> Type {
        let base = self.infer(of);
        let mapped = is_filtered(of);
        let index_type = self.infer(index);
        let base = match (&base, mapped) {
            (Type::Array(items), true) => (**items).clone(),
            _ => base,
        };
        let result = self.property(&base, index, &index_type, mapped);
        if mapped { Type::array(result) } else { result }
    }

    fn property(&mut self, base: &Type, index: &Expr, index_type: &Type, mapped: bool) -> Type {
        match base {
            Type::Any => Type::Any,
            Type::Object(object) => {
                if matches!(index_type, Type::Number | Type::Bool | Type::Null) {
                    let message =
                        format!("an object is indexed with a string, this is {}", index_type.name());
                    self.warn(index.range(), Code::ExpressionType, message);
                }
                let Some(name) = index.literal_text() else {
                    let kinds = object.properties.iter().map(|(_, kind)| kind.clone());
                    return Type::union(kinds.chain(object.others.clone()));
                };
                if let Some(kind) = object.get(name) {
                    return kind;
                }
                if !mapped {
                    let names: Vec<&str> = object.names().collect();
                    let help = suggest::nearest(name, names.iter().copied()).map_or_else(
                        || match names.len() {
                            0 => "nothing is defined there".to_owned(),
                            1..=20 => format!("defined there: {}", names.join(", ")),
                            _ => "see the documentation of this context for what it has".to_owned(),
                        },
                        |near| format!("did you mean '{near}'?"),
                    );
                    let message = format!("'{name}' is not defined here, so it is always empty");
                    self.report(
                        index.range(),
                        Severity::Warning,
                        Code::UndefinedReference,
                        message,
                        Some(help),
                    );
                }
                Type::Any
            }
            Type::Array(items) => {
                if index.literal_text().is_some() && *index_type == Type::String {
                    let message =
                        "an array is indexed with a number; use .* to look into every item".to_owned();
                    self.warn(index.range(), Code::ExpressionType, message);
                    return Type::Any;
                }
                (**items).clone()
            }
            primitive => {
                let message = format!("there is nothing to look up in {}", primitive.name());
                self.warn(index.range(), Code::ExpressionType, message);
                Type::Any
            }
        }
    }

    fn compare(&mut self, comparison: Comparison, left: &Type, right: &Type, range: Range<usize>) {
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        let collection = |kind: &Type| matches!(kind, Type::Array(_) | Type::Object(_));
        let message = match (left, right) {
            (Type::Any, _) | (_, Type::Any) => return,
            (left, right) if collection(left) != collection(right) => {
                if matches!((left, right), (Type::Null, _) | (_, Type::Null)) && is_equality {
                    return;
                }
                format!("{} never equals {}", left.name(), right.name())
            }
            (left, right) if collection(left) && !is_equality => {
                format!("{} and {} have no order", left.name(), right.name())
            }
            (Type::Array(left), Type::Array(right)) if left.excludes(right) => {
                "these arrays hold different types, so they are never equal".to_owned()
            }
            (Type::Bool | Type::Null, Type::Bool | Type::Number | Type::String | Type::Null)
            | (Type::Number | Type::String, Type::Bool | Type::Null)
                if !is_equality =>
            {
                format!("{} is compared with {} by order", left.name(), right.name())
            }
            _ => return,
        };
        self.warn(range, Code::ExpressionType, message);
    }

    fn call(&mut self, function: Function, arguments: &[Expr], expr: &Expr) -> Type {
        if !self.place.allows(function) {
            let range = expr.start as usize..expr.start as usize + function.name().len();
            let help = if function.is_status() {
                "the status functions exist in the if of a job or step only"
            } else {
                "hashFiles() exists in the keys of steps only"
            };
            let message = format!("{}() is not available in {}", function.name(), self.place.name());
            self.report(range, Severity::Error, Code::ContextAvailability, message, Some(help.to_owned()));
        }
        let types: Vec<Type> = arguments.iter().map(|argument| self.infer(argument)).collect();
        match function {
            Function::Contains | Function::StartsWith | Function::EndsWith => {
                for (at, (kind, argument)) in types.iter().zip(arguments).enumerate() {
                    let list_allowed = function == Function::Contains && at == 0;
                    let wrong = match kind {
                        Type::Object(_) => true,
                        Type::Array(_) => !list_allowed,
                        _ => false,
                    };
                    if wrong {
                        let message = format!("{}() cannot search {}", function.name(), kind.name());
                        self.warn(argument.range(), Code::ExpressionType, message);
                    }
                }
                Type::Bool
            }
            Function::Format => {
                self.check_format(arguments);
                Type::String
            }
            Function::Join => {
                if let (Some(Type::Object(_)), Some(argument)) = (types.first(), arguments.first()) {
                    self.warn(
                        argument.range(),
                        Code::ExpressionType,
                        "join() of an object is empty".to_owned(),
                    );
                }
                Type::String
            }
            Function::ToJson | Function::HashFiles => Type::String,
            Function::FromJson => self.check_json(arguments),
            Function::Case => {
                let results = types.iter().enumerate().filter(|(at, _)| at % 2 == 1 || at + 1 == types.len());
                Type::union(results.map(|(_, kind)| kind.clone()))
            }
            Function::Success | Function::Failure | Function::Always | Function::Cancelled => Type::Bool,
        }
    }

    /// A literal document is read; its type is known then.
    fn check_json(&mut self, arguments: &[Expr]) -> Type {
        let Some(Value::String(document)) = arguments.first().and_then(literal) else { return Type::Any };
        match crate::expr::read_json(document) {
            Ok(value) => Type::of_value(&value),
            Err(error) => {
                let message = format!("fromJSON() gets a broken document: {error}");
                self.warn(arguments[0].range(), Code::ExpressionType, message);
                Type::Any
            }
        }
    }

    fn check_format(&mut self, arguments: &[Expr]) {
        let Some(Value::String(pattern)) = arguments.first().and_then(literal) else { return };
        let range = arguments[0].range();
        let Some(parts) = format_parts(pattern) else {
            let message = "the format string is invalid: write {{ and }} for braces".to_owned();
            return self.warn(range, Code::FormatString, message);
        };
        let given = arguments.len() - 1;
        let used = |index: usize| parts.contains(&FormatPart::Argument(index));
        let highest = parts.iter().filter_map(|part| match part {
            FormatPart::Argument(index) => Some(*index),
            FormatPart::Text(_) => None,
        });
        if let Some(missing) = highest.max().filter(|index| *index >= given) {
            let message = format!("the format string uses {{{missing}}}, but only {given} values are given");
            return self.warn(range, Code::FormatString, message);
        }
        if let Some(unused) = (0..given).find(|index| !used(*index)) {
            let message = format!("the format string does not use {{{unused}}}");
            self.warn(arguments[unused + 1].range(), Code::FormatString, message);
        }
    }
}

fn literal(expr: &Expr) -> Option<&Value> {
    match &expr.kind {
        ExprKind::Literal(value) => Some(value),
        _ => None,
    }
}

/// Whether an index on this maps over the items of a filtered array.
fn is_filtered(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Star { .. } => true,
        ExprKind::Index(pair) => is_filtered(&pair.0),
        _ => false,
    }
}
