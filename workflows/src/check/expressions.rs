//! Every expression of a file at its place: available, defined, of a fitting type, and not a stranger's.

use super::Checker;
use super::infer::{ContextTypes, Infer};
use super::place::Place;
use super::types::Type;
use super::untrusted;
use crate::diagnostic::{Code, Diagnostic};
use crate::expr::{Condition, Template, TemplateMap, TemplateNode, Value};
use crate::model::InputKind;

/// What the value of a template is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Text: an object or array is a mistake.
    Text,
    /// Text that is run: strangers' words are a danger.
    Script,
    /// Anything.
    Any,
    /// A mapping.
    Mapping,
    /// Labels: text, a list of it, or a mapping of group and labels.
    Labels,
    /// A boolean.
    Bool,
    /// A number.
    Number,
    /// The default of an input, in the input's type.
    Input(InputKind),
}

impl Checker<'_> {
    pub(super) fn template(
        &mut self,
        template: &Template,
        place: Place,
        usage: Use,
        types: &dyn ContextTypes,
    ) {
        if !template.has_expression() {
            return;
        }
        for (expression, offset) in template.expressions() {
            let Some(root) = expression.root() else { continue };
            let mut infer = Infer::new(place, types);
            let result = infer.infer(root);
            let findings = infer.findings;
            for finding in findings {
                let range = finding.range.start + offset..finding.range.end + offset;
                let span = template.locate(self.source, range);
                self.push(Diagnostic { span, ..finding.diagnostic });
            }
            let whole =
                || template.locate(self.source, root.range().start + offset..root.range().end + offset);
            self.usage(template, usage, &result, whole);
            if usage == Use::Script {
                for untrusted in untrusted::find(root) {
                    let range = untrusted.expr.range();
                    let span = template.locate(self.source, range.start + offset..range.end + offset);
                    let message = format!(
                        "'{}' is text that strangers can choose, here it becomes part of a script",
                        untrusted.path
                    );
                    self.push(
                        Diagnostic::warning(Code::ScriptInjection, span, message)
                            .with_help("pass it through 'env' and use the variable in the script"),
                    );
                }
            }
        }
    }

    /// Whether the type fits what it is used for.
    fn usage(
        &mut self,
        template: &Template,
        usage: Use,
        result: &Type,
        span: impl Fn() -> crate::source::Span,
    ) {
        let lone = template.is_expression();
        let message = match (usage, result) {
            (_, Type::Any) => return,
            (Use::Text | Use::Script, Type::Object(_) | Type::Array(_)) => {
                format!("{} does not become text; use toJSON() or a property of it", result.name())
            }
            (Use::Text | Use::Script, Type::Null) => {
                "this is always null, which becomes empty text".to_owned()
            }
            (Use::Labels, Type::Object(object))
                if object.get("labels").is_none() && object.get("group").is_none() =>
            {
                "labels are text or a list of it, this is an object".to_owned()
            }
            (Use::Mapping, Type::Object(_)) if lone => return,
            (Use::Mapping, other) => format!("a mapping is expected here, this is {}", other.name()),
            (Use::Bool, Type::Object(_) | Type::Array(_) | Type::Number) if lone => {
                format!("true or false is expected here, this is {}", result.name())
            }
            (Use::Number, Type::Object(_) | Type::Array(_) | Type::Bool) if lone => {
                format!("a number is expected here, this is {}", result.name())
            }
            (Use::Input(InputKind::Boolean), other) if lone && *other != Type::Bool => {
                format!("the input is a boolean, this is {}", other.name())
            }
            (Use::Input(InputKind::Number), other) if lone && *other != Type::Number => {
                format!("the input is a number, this is {}", other.name())
            }
            _ => return,
        };
        // Text can never take the place of a mapping, whoever runs it.
        let refused = usage == Use::Mapping && result.is_primitive();
        let span = span();
        if refused {
            self.error(Code::ExpressionType, span, message);
        } else {
            self.warn(Code::ExpressionType, span, message);
        }
    }

    pub(super) fn optional(
        &mut self,
        template: Option<&Template>,
        place: Place,
        usage: Use,
        types: &dyn ContextTypes,
    ) {
        if let Some(template) = template {
            self.template(template, place, usage, types);
        }
    }

    /// A mapping of texts.
    pub(super) fn map(&mut self, map: Option<&TemplateMap>, place: Place, types: &dyn ContextTypes) {
        let Some(map) = map else { return };
        if let Some(whole) = map.whole() {
            self.template(whole, place, Use::Mapping, types);
        }
        for (key, node) in map.entries() {
            if crate::expr::is_insert(key) {
                self.node(node, place, Use::Any, types);
            } else {
                self.template(key, place, Use::Text, types);
                self.node(node, place, Use::Text, types);
            }
        }
    }

    pub(super) fn node(&mut self, node: &TemplateNode, place: Place, usage: Use, types: &dyn ContextTypes) {
        match node {
            TemplateNode::Scalar(template) => self.template(template, place, usage, types),
            TemplateNode::Sequence(items, _) => {
                for item in items {
                    // An item may be an array, which is spliced in.
                    let usage = if usage == Use::Text { Use::Any } else { usage };
                    self.node(item, place, usage, types);
                }
            }
            TemplateNode::Mapping(map) => {
                if let Some(whole) = map.whole() {
                    self.template(whole, place, Use::Mapping, types);
                }
                for (key, node) in map.entries() {
                    if !crate::expr::is_insert(key) {
                        self.template(key, place, Use::Text, types);
                    }
                    self.node(node, place, usage, types);
                }
            }
        }
    }

    /// An `if`.
    pub(super) fn condition(
        &mut self,
        condition: Option<&Condition>,
        place: Place,
        types: &dyn ContextTypes,
    ) {
        let Some(condition) = condition else { return };
        let template = condition.template();
        if condition.is_text() {
            self.template(template, place, Use::Any, types);
            let message =
                "this is always true, because text around ${{ }} makes it a string that is not empty";
            self.push(
                Diagnostic::warning(Code::ConstantCondition, template.span(), message)
                    .with_help("put the whole condition into one ${{ }}, or leave the braces out"),
            );
            return;
        }
        let Some(expression) = condition.expression() else { return };
        if template.is_expression() {
            self.template(template, place, Use::Any, types);
        } else if let Some(root) = expression.root() {
            // Without braces the whole scalar is the expression.
            let mut infer = Infer::new(place, types);
            infer.infer(root);
            for finding in infer.findings {
                let span = template.locate(self.source, finding.range);
                self.push(Diagnostic { span, ..finding.diagnostic });
            }
        }
        if template.raw().trim().is_empty() {
            if matches!(template.as_literal(), Some(Value::Null)) {
                self.warn(Code::EmptyValue, template.span(), "an empty 'if' is no condition");
            }
            return;
        }
        if let Some(value) = expression.constant()
            && !expression.is_empty()
        {
            let word = if value.is_truthy() { "always true" } else { "never true" };
            let message = format!("this condition is {word}, whatever happens");
            self.push(
                Diagnostic::warning(Code::ConstantCondition, template.span(), message)
                    .with_help(if value.is_truthy() { "remove the if" } else { "remove what is never run" }),
            );
        }
    }
}
