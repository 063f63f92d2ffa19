//! Scalars that may contain `${{ }}`, and trees of them as they stand under `env`, `with` or `matrix`.

use std::ops::Range;
use std::sync::Arc;

use super::error::{EvalError, SyntaxError, SyntaxErrorKind};
use super::eval::{Evaluated, Evaluator};
use super::scope::Scope;
use super::value::{Object, Value};
use super::{Expression, text};
use crate::source::{SourceFile, Span};
use crate::yaml::ScalarStyle;

const NOT_CLOSED: &str = "The expression is not closed. An unescaped ${{ sequence was found, but the closing }} sequence was not found.";

/// A scalar of a workflow file, parsed once: literal text, one expression, or a mixture.
///
/// ```
/// use workflows::{Contexts, Scope, Template, Value};
/// let contexts = Contexts::new().with("matrix", serde_json::json!({"os": "linux", "n": 3}));
/// let scope = Scope::new(&contexts);
/// assert_eq!(Template::parse("on ${{ matrix.os }}").eval_string(&scope)?, "on linux");
/// assert_eq!(Template::parse("${{ matrix.n }}").eval(&scope)?, Value::Number(3.0)); // keeps its type
/// # Ok::<(), workflows::EvalError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Template {
    span: Span,
    style: ScalarStyle,
    raw: Arc<str>,
    kind: TemplateKind,
}

#[derive(Debug, Clone)]
pub(crate) enum TemplateKind {
    Literal(Value),
    Expression(Expression),
    Mixed(Arc<[Segment]>),
    Wrong(Box<SyntaxError>),
}

#[derive(Debug, Clone)]
pub(crate) enum Segment {
    /// Where the text stands in the scalar.
    Text(Range<usize>),
    Expression(Expression),
}

impl Template {
    /// From text alone, as if it had been written in quotes.
    pub fn parse(text: &str) -> Self {
        Self::from_scalar(text.into(), None, ScalarStyle::DoubleQuoted, Span::default())
    }

    /// A literal that contains no expression, whatever its text.
    pub fn literal(value: impl Into<Value>, span: Span) -> Self {
        let value = value.into();
        Self {
            span,
            style: ScalarStyle::DoubleQuoted,
            raw: value.to_shared_text(),
            kind: TemplateKind::Literal(value),
        }
    }

    /// From a YAML scalar; `value` is what a plain one means in YAML's core schema.
    pub(crate) fn from_scalar(raw: Arc<str>, value: Option<Value>, style: ScalarStyle, span: Span) -> Self {
        let kind = match value {
            Some(value) => TemplateKind::Literal(value),
            None if !raw.as_bytes().contains(&b'$') || !raw.contains("${{") => {
                TemplateKind::Literal(Value::String(raw.clone()))
            }
            None => split(&raw).unwrap_or_else(|error| TemplateKind::Wrong(Box::new(error))),
        };
        Self { span, style, raw, kind }
    }

    /// Where it was written.
    pub const fn span(&self) -> Span {
        self.span
    }

    /// The text as written, without YAML quoting.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    pub(crate) const fn kind(&self) -> &TemplateKind {
        &self.kind
    }

    /// The value, when there is no expression in it.
    pub const fn as_literal(&self) -> Option<&Value> {
        match &self.kind {
            TemplateKind::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// The text, when there is no expression in it.
    pub fn as_literal_text(&self) -> Option<String> {
        self.as_literal().map(Value::to_text)
    }

    /// Whether the whole scalar is one expression.
    pub const fn is_expression(&self) -> bool {
        matches!(self.kind, TemplateKind::Expression(_))
    }

    /// Whether there is any expression in it, or something that tried to be one.
    pub const fn has_expression(&self) -> bool {
        !matches!(self.kind, TemplateKind::Literal(_))
    }

    /// Why it cannot be evaluated; the range is within [`Template::raw`].
    pub const fn syntax_error(&self) -> Option<&SyntaxError> {
        match &self.kind {
            TemplateKind::Wrong(error) => Some(error),
            _ => None,
        }
    }

    /// The expressions in it, each with the offset of its text within [`Template::raw`].
    pub fn expressions(&self) -> impl Iterator<Item = (&Expression, usize)> {
        let (single, segments): (Option<&Expression>, &[Segment]) = match &self.kind {
            TemplateKind::Expression(expression) => (Some(expression), &[]),
            TemplateKind::Mixed(segments) => (None, segments),
            TemplateKind::Literal(_) | TemplateKind::Wrong(_) => (None, &[]),
        };
        let among = segments.iter().filter_map(|segment| match segment {
            Segment::Expression(expression) => Some(expression),
            Segment::Text(_) => None,
        });
        single.into_iter().chain(among).map(|expression| (expression, expression.start()))
    }

    /// The value: of the expression's own type when the whole scalar is one, text otherwise.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value, EvalError> {
        self.eval_tracked(scope).map(|evaluated| evaluated.value)
    }

    /// The value, and whether a secret had a part in it.
    pub fn eval_tracked(&self, scope: &Scope<'_>) -> Result<Evaluated, EvalError> {
        match &self.kind {
            TemplateKind::Literal(value) => Ok(Evaluated { value: value.clone(), secret: false }),
            TemplateKind::Expression(expression) => expression.eval_tracked(scope),
            TemplateKind::Wrong(error) => Err(EvalError::Syntax((**error).clone())),
            TemplateKind::Mixed(segments) => {
                let mut run = Evaluator::new(scope);
                let mut joined = String::new();
                for segment in &**segments {
                    match segment {
                        Segment::Text(range) => joined.push_str(&self.raw[range.clone()]),
                        Segment::Expression(expression) => {
                            if let Some(root) = expression.root() {
                                let text = run.eval(root)?.to_shared_text();
                                run.charge(text.len())?;
                                joined.push_str(&text);
                            }
                        }
                    }
                }
                Ok(Evaluated { value: Value::from(joined), secret: run.secret })
            }
        }
    }

    /// The text where only text will do; a lone expression that gives an array or object is an error.
    pub fn eval_string(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        match self.eval(scope)? {
            Value::Array(_) => {
                Err(EvalError::failed(format!("A sequence was not expected: {}", self.raw.trim())))
            }
            Value::Object(_) => {
                Err(EvalError::failed(format!("A mapping was not expected: {}", self.raw.trim())))
            }
            value => Ok(value.to_text()),
        }
    }

    /// A number; text is read as one, as Gitea quotes numbers in its payloads.
    pub fn eval_number(&self, scope: &Scope<'_>) -> Result<f64, EvalError> {
        let value = self.eval(scope)?;
        let number = match &value {
            Value::Number(_) => value.to_number(),
            Value::String(text) if !text.trim().is_empty() => value.to_number(),
            _ => f64::NAN,
        };
        if number.is_nan() {
            return Err(EvalError::failed(format!(
                "expected a number, found {}: {}",
                describe(&value),
                self.raw
            )));
        }
        Ok(number)
    }

    /// A boolean; the texts `true` and `false` are read as such, as Gitea quotes booleans in its payloads.
    pub fn eval_bool(&self, scope: &Scope<'_>) -> Result<bool, EvalError> {
        let value = self.eval(scope)?;
        match &value {
            Value::Bool(value) => Ok(*value),
            Value::String(text) if text.trim().eq_ignore_ascii_case("true") => Ok(true),
            Value::String(text) if text.trim().eq_ignore_ascii_case("false") || text.trim().is_empty() => {
                Ok(false)
            }
            Value::Null => Ok(false),
            _ => Err(EvalError::failed(format!(
                "expected true or false, found {}: {}",
                describe(&value),
                self.raw
            ))),
        }
    }

    /// Whether GitHub refuses it for its length: it makes one `format()` of text with expressions, which
    /// may be no longer than any other expression.
    pub(crate) fn is_too_long(&self) -> bool {
        let TemplateKind::Mixed(segments) = &self.kind else { return false };
        // Quotes and braces are doubled, so text can become twice as long, and no longer.
        if self.raw.len() <= super::parser::MAX_LENGTH / 2 {
            return false;
        }
        let length: usize = segments
            .iter()
            .map(|segment| match segment {
                Segment::Text(range) => {
                    let text = &self.raw[range.clone()];
                    text.encode_utf16().count() + text.matches(['\'', '{', '}']).count()
                }
                Segment::Expression(expression) => expression.source().encode_utf16().count() + 5,
            })
            .sum();
        length + "format('')".len() > super::parser::MAX_LENGTH
    }

    /// Where a range of [`Template::raw`] stands in the source. Exact for scalars of one line and for
    /// block scalars; elsewhere the expression's line is found by counting the openings before it.
    pub fn locate(&self, source: &SourceFile, range: Range<usize>) -> Span {
        crate::yaml::locate(source, self.span, self.style, &self.raw, range)
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Array(_) => "a sequence".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::Null => "nothing".to_owned(),
        other => format!("'{}'", other.to_text()),
    }
}

/// End of the expression that starts `text`: the first `}}` outside of single quotes.
fn closing(text: &str) -> Option<usize> {
    let mut quoted = false;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            b'}' if !quoted && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
    }
    None
}

fn split(raw: &Arc<str>) -> Result<TemplateKind, SyntaxError> {
    let mut segments = Vec::new();
    let mut at = 0;
    while let Some(found) = raw[at..].find("${{") {
        let open = at + found;
        let body = open + 3;
        let Some(length) = closing(&raw[body..]) else {
            return Err(
                SyntaxError::plain(NOT_CLOSED, open..raw.len()).with_help("close the expression with }}")
            );
        };
        let inner = &raw[body..body + length];
        let text = inner.trim();
        let offset = body + (inner.len() - inner.trim_start().len());
        if text.is_empty() {
            return Err(SyntaxError {
                kind: SyntaxErrorKind::Parsing,
                ..SyntaxError::plain("An expression was expected", open..body + length + 2)
            });
        }
        let expression = Expression::parse_in(raw, offset..offset + text.len()).map_err(|mut error| {
            error.range = error.range.start + offset..error.range.end + offset;
            error
        })?;
        if open > at {
            segments.push(Segment::Text(at..open));
        }
        segments.push(Segment::Expression(expression));
        at = body + length + 2;
    }
    if at < raw.len() {
        segments.push(Segment::Text(at..raw.len()));
    }
    match segments.as_slice() {
        [Segment::Expression(expression)] => {
            // A lone string literal is that text, to be read as if it had been written without braces.
            let literal = expression.root().and_then(|root| root.literal_text()).cloned();
            Ok(literal.map_or_else(
                || TemplateKind::Expression(expression.clone()),
                |text| TemplateKind::Literal(Value::String(text)),
            ))
        }
        _ => Ok(TemplateKind::Mixed(segments.into())),
    }
}

/// A tree of templates: what stands under `matrix`, `with` or a value of them.
#[derive(Debug, Clone)]
pub enum TemplateNode {
    /// A scalar.
    Scalar(Template),
    /// A list and its place. An item that evaluates to a list is spliced in.
    Sequence(Vec<TemplateNode>, Span),
    /// A mapping.
    Mapping(TemplateMap),
}

impl TemplateNode {
    /// Where it was written.
    pub const fn span(&self) -> Span {
        match self {
            Self::Scalar(template) => template.span(),
            Self::Sequence(_, span) => *span,
            Self::Mapping(map) => map.span,
        }
    }

    /// The value of the whole tree.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value, EvalError> {
        match self {
            Self::Scalar(template) => template.eval(scope),
            Self::Sequence(items, _) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    match (item.eval(scope)?, item) {
                        (Value::Array(inner), Self::Scalar(_)) => values.extend(inner.iter().cloned()),
                        (value, _) => values.push(value),
                    }
                }
                Ok(Value::array(values))
            }
            Self::Mapping(map) => map.eval_object(scope).map(Value::object),
        }
    }

    /// Calls `visit` for every scalar, keys included.
    pub fn visit_templates<'a>(&'a self, visit: &mut dyn FnMut(&'a Template)) {
        match self {
            Self::Scalar(template) => visit(template),
            Self::Sequence(items, _) => items.iter().for_each(|item| item.visit_templates(visit)),
            Self::Mapping(map) => map.visit_templates(visit),
        }
    }
}

/// A mapping whose keys and values may be expressions, or one expression that gives the mapping:
/// `env`, `with`, `outputs`, `credentials`.
#[derive(Debug, Clone)]
pub struct TemplateMap {
    span: Span,
    whole: Option<Template>,
    entries: Vec<(Template, TemplateNode)>,
}

impl TemplateMap {
    /// A mapping of keys to values.
    pub const fn new(entries: Vec<(Template, TemplateNode)>, span: Span) -> Self {
        Self { span, whole: None, entries }
    }

    /// A mapping that one expression gives.
    pub fn from_expression(whole: Template) -> Self {
        Self { span: whole.span(), whole: Some(whole), entries: Vec::new() }
    }

    /// Where it was written.
    pub const fn span(&self) -> Span {
        self.span
    }

    /// The entries in order; empty when one expression gives the mapping.
    pub fn entries(&self) -> &[(Template, TemplateNode)] {
        &self.entries
    }

    /// The expression that gives the whole mapping.
    pub const fn whole(&self) -> Option<&Template> {
        self.whole.as_ref()
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.whole.is_none() && self.entries.is_empty()
    }

    /// The value written under a literal key, ignoring case.
    pub fn get(&self, key: &str) -> Option<&TemplateNode> {
        self.entries.iter().find(|(name, _)| text::equals_ignore_case(name.raw(), key)).map(|(_, node)| node)
    }

    /// Keys and values as text, in order; later keys replace earlier ones that differ only in case.
    ///
    /// # Errors
    /// Besides the errors of its expressions: a value that is an array or object.
    pub fn eval_strings(&self, scope: &Scope<'_>) -> Result<Vec<(String, String)>, EvalError> {
        let object = self.eval_object(scope)?;
        object
            .iter()
            .map(|(key, value)| match value {
                Value::Array(_) => Err(EvalError::failed(format!("A sequence was not expected: {key}"))),
                Value::Object(_) => Err(EvalError::failed(format!("A mapping was not expected: {key}"))),
                value => Ok((key.to_owned(), value.to_text())),
            })
            .collect()
    }

    /// The mapping as an object, `${{ insert }}` carried out.
    pub fn eval_object(&self, scope: &Scope<'_>) -> Result<Object, EvalError> {
        if let Some(whole) = &self.whole {
            return match whole.eval(scope)? {
                Value::Object(object) => Ok((*object).clone()),
                Value::Null => Ok(Object::new()),
                other => Err(EvalError::failed(format!(
                    "expected a mapping, found {}: {}",
                    describe(&other),
                    whole.raw()
                ))),
            };
        }
        let mut object = Object::with_capacity(self.entries.len());
        for (key, node) in &self.entries {
            if is_insert(key) {
                match node.eval(scope)? {
                    Value::Object(inner) => {
                        for (key, value) in inner.iter() {
                            object.insert(key, value.clone());
                        }
                    }
                    Value::Null => {}
                    _ => return Err(EvalError::failed("${{ insert }} expects a mapping")),
                }
                continue;
            }
            let key = key.eval_string(scope)?;
            let value = node.eval(scope)?;
            object.insert(key, value);
        }
        Ok(object)
    }

    /// Calls `visit` for every scalar, keys included.
    pub fn visit_templates<'a>(&'a self, visit: &mut dyn FnMut(&'a Template)) {
        if let Some(whole) = &self.whole {
            visit(whole);
        }
        for (key, node) in &self.entries {
            if !is_insert(key) {
                visit(key);
            }
            node.visit_templates(visit);
        }
    }
}

/// Whether a key is the directive that merges the mapping under it.
pub(crate) fn is_insert(key: &Template) -> bool {
    matches!(key.kind(), TemplateKind::Expression(expression) if expression.source() == "insert")
}
