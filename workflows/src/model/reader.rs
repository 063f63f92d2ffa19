//! The common part of reading nouns from nodes: expectations, and what is said when they are not met.

use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::expr::template::is_insert;
use crate::expr::{Template, TemplateMap, TemplateNode};
use crate::source::{SourceFile, Span, Spanned};
use crate::suggest;
use crate::yaml::{Entry, Node, NodeKind, Resolved};

/// How exact to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// For checking files: everything GitHub refuses is an error.
    #[default]
    Strict,
    /// For running what a server has accepted already: an error is only what leaves nothing to run,
    /// all else is a warning; unknown keys are ignored; numbers and booleans may be quoted.
    Lenient,
}

/// What reading a file gives: as much of the noun as could be read, and every finding.
#[derive(Debug, Clone)]
pub struct Parsed<T> {
    /// The noun; missing only when there is no document that it could be read from.
    pub value: Option<T>,
    /// The findings in order of their places.
    pub diagnostics: Vec<Diagnostic>,
}

impl<T> Parsed<T> {
    /// Whether any finding is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// The noun, if it may be run; otherwise the errors.
    pub fn into_result(self) -> Result<T, Vec<Diagnostic>> {
        let failed = self.has_errors();
        match self.value {
            Some(value) if !failed => Ok(value),
            _ => Err(self.diagnostics.into_iter().filter(Diagnostic::is_error).collect()),
        }
    }
}

/// Collects findings while nouns are read.
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a SourceFile,
    mode: Mode,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// What is said about a key that `what` does not have.
pub(super) fn unknown_key(key: &Node<'_>, what: &str, known: &[&str]) -> Diagnostic {
    let name = key.as_text().unwrap_or("");
    let help = suggest::nearest(name, known.iter().copied()).map_or_else(
        || format!("known keys: {}", known.join(", ")),
        |near| format!("did you mean '{near}'?"),
    );
    Diagnostic::error(Code::UnknownKey, key.span, format!("unexpected key '{name}' in {what}"))
        .with_help(help)
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a SourceFile, mode: Mode, diagnostics: Vec<Diagnostic>) -> Self {
        let mut reader = Self { source, mode, diagnostics: Vec::new() };
        for mut diagnostic in diagnostics {
            // A server that accepted the file has decided about duplicate keys and tags.
            if mode == Mode::Lenient && !matches!(diagnostic.code, Code::YamlSyntax | Code::YamlLimit) {
                diagnostic.severity = Severity::Warning;
            }
            reader.diagnostics.push(diagnostic);
        }
        reader
    }

    pub(crate) fn lenient(&self) -> bool {
        self.mode == Mode::Lenient
    }

    /// What leaves nothing to run: an error in both modes.
    pub(crate) fn refuse(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(code, span, message));
    }

    /// What GitHub refuses: an error in strict mode.
    pub(crate) fn error(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::error(code, span, message));
    }

    pub(crate) fn warn(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::warning(code, span, message));
    }

    pub(crate) fn report(&mut self, mut diagnostic: Diagnostic) {
        if self.lenient() {
            diagnostic.severity = Severity::Warning;
        }
        self.diagnostics.push(diagnostic);
    }

    /// The entries of what must be a mapping with `known` keys; reports the others.
    pub(crate) fn mapping<'n, 's>(
        &mut self,
        node: &'n Node<'s>,
        what: &str,
        known: &[&str],
    ) -> &'n [Entry<'s>] {
        self.mapping_or(node, what, known, |_, key| unknown_key(key, what, known))
    }

    /// The same where keys may be expressions. GitHub's parser takes them; here they only get a warning.
    pub(crate) fn computed_mapping<'n, 's>(
        &mut self,
        node: &'n Node<'s>,
        what: &str,
        known: &[&str],
    ) -> &'n [Entry<'s>] {
        self.mapping_or(node, what, known, |reader, key| {
            let name = key.as_text().unwrap_or("");
            let computed = name.contains("${{")
                && reader.scalar_template(key).is_some_and(|template| template.has_expression());
            if !computed {
                return unknown_key(key, what, known);
            }
            let message = format!("the key '{name}' in {what} is computed, which no other runner reads");
            Diagnostic::warning(Code::UnknownKey, key.span, message)
                .with_help("write the key itself and compute its value")
        })
    }

    fn mapping_or<'n, 's>(
        &mut self,
        node: &'n Node<'s>,
        what: &str,
        known: &[&str],
        finding: impl Fn(&mut Self, &Node<'s>) -> Diagnostic,
    ) -> &'n [Entry<'s>] {
        let entries = self.any_mapping(node, what);
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_text().unwrap_or(""))) {
            let finding = finding(self, &entry.key);
            self.report(finding);
        }
        entries
    }

    /// The entries of what must be a mapping with any keys.
    pub(crate) fn any_mapping<'n, 's>(&mut self, node: &'n Node<'s>, what: &str) -> &'n [Entry<'s>] {
        if let NodeKind::Mapping(entries) = &node.kind {
            return entries;
        }
        self.unexpected(node, what, "a mapping");
        &[]
    }

    /// Says that a node is not what was expected.
    pub(crate) fn unexpected(&mut self, node: &Node<'_>, what: &str, expected: &str) {
        if node.is_null() {
            // An empty value is ignored at run time, as Gitea's server does.
            let message = format!("{what} must not be empty, expected {expected}");
            self.report(
                Diagnostic::error(Code::EmptyValue, node.span, message)
                    .with_help("remove the key or give it a value"),
            );
            return;
        }
        let found = match node.as_scalar() {
            Some(scalar) if !scalar.text.is_empty() && scalar.text.len() <= 40 => {
                format!("'{}'", scalar.text)
            }
            _ => node.describe().to_owned(),
        };
        self.error(Code::WrongType, node.span, format!("{what} must be {expected}, found {found}"));
    }

    /// The items of a sequence.
    pub(crate) fn sequence<'n, 's>(&mut self, node: &'n Node<'s>, what: &str) -> &'n [Node<'s>] {
        if let NodeKind::Sequence(items) = &node.kind {
            return items;
        }
        self.unexpected(node, what, "a sequence");
        &[]
    }

    /// The text of a scalar that takes no expressions; nothing written is nothing read.
    pub(crate) fn text(&mut self, node: &Node<'_>, what: &str) -> Option<Spanned<String>> {
        if node.is_null() {
            self.say_empty(node, what);
            return None;
        }
        let Some(scalar) = node.as_scalar() else {
            self.unexpected(node, what, "a string");
            return None;
        };
        let mut text = scalar.text.to_string();
        // Gitea leaves such text as it is.
        if !self.lenient() && text.contains("${{") {
            text = self.text_without_expression(node, what)?;
        }
        Some(Spanned::new(text, node.span))
    }

    /// The text of a scalar, which must not be empty.
    pub(crate) fn nonempty_text(&mut self, node: &Node<'_>, what: &str) -> Option<Spanned<String>> {
        if node.is_null() {
            self.unexpected(node, what, "a string");
            return None;
        }
        let text = self.text(node, what)?;
        if text.is_empty() {
            self.error(Code::EmptyValue, node.span, format!("{what} must not be empty"));
        } else if text.trim().is_empty() {
            self.warn(Code::EmptyValue, node.span, format!("{what} is blank"));
        }
        Some(text)
    }

    /// Says that nothing stands where text may stand.
    pub(crate) fn say_empty(&mut self, node: &Node<'_>, what: &str) {
        self.report(
            Diagnostic::warning(Code::EmptyValue, node.span, format!("{what} is empty"))
                .with_help("remove the key or give it a value"),
        );
    }

    /// Reports an expression where GitHub takes none; only a string literal in braces stands for its text.
    fn text_without_expression(&mut self, node: &Node<'_>, what: &str) -> Option<String> {
        let template = self.scalar_template(node)?;
        if template.has_expression() && template.syntax_error().is_none() {
            self.refuse_expression(&template, what);
        }
        template.as_literal_text()
    }

    /// Says that GitHub takes no expression here.
    pub(crate) fn refuse_expression(&mut self, template: &Template, what: &str) {
        let span = template.expressions().next().map_or(template.span(), |(expression, offset)| {
            template.locate(self.source, offset..offset + expression.source().len())
        });
        self.report(
            Diagnostic::error(Code::ContextAvailability, span, format!("{what} takes no expressions"))
                .with_help("write the text itself"),
        );
    }

    /// A list of strings, or one string.
    pub(crate) fn texts(&mut self, node: &Node<'_>, what: &str) -> Vec<Spanned<String>> {
        match &node.kind {
            NodeKind::Sequence(items) => {
                items.iter().filter_map(|item| self.nonempty_text(item, what)).collect()
            }
            NodeKind::Scalar(_) => self.nonempty_text(node, what).into_iter().collect(),
            NodeKind::Mapping(_) => {
                self.unexpected(node, what, "a string or a sequence of strings");
                Vec::new()
            }
        }
    }

    /// `true` or `false` without expressions.
    pub(crate) fn boolean(&mut self, node: &Node<'_>, what: &str) -> Option<bool> {
        let scalar = node.as_scalar();
        match scalar.map(|scalar| scalar.resolved) {
            Some(Resolved::Bool(value)) => Some(value),
            Some(Resolved::Text) if self.lenient() => {
                scalar.and_then(|scalar| scalar.text.trim().to_ascii_lowercase().parse().ok())
            }
            _ => {
                self.unexpected(node, what, "true or false");
                None
            }
        }
    }

    /// A scalar that may contain expressions; null counts as empty text.
    pub(crate) fn template(&mut self, node: &Node<'_>, what: &str) -> Option<Template> {
        let template = self.scalar_template(node);
        if template.is_none() {
            self.unexpected(node, what, "a string");
        }
        template
    }

    /// The template of a scalar; `None` for other nodes, about which nothing is said.
    fn scalar_template(&mut self, node: &Node<'_>) -> Option<Template> {
        let scalar = node.as_scalar()?;
        let raw = scalar.text.as_ref().into();
        Some(self.checked(Template::from_scalar(raw, scalar.typed(), scalar.style, node.span)))
    }

    /// A template that must be more than nothing.
    pub(crate) fn filled_template(&mut self, node: &Node<'_>, what: &str) -> Option<Template> {
        if node.is_null() {
            self.unexpected(node, what, "a string");
            return None;
        }
        let template = self.template(node, what)?;
        if template.raw().is_empty() {
            self.error(Code::EmptyValue, node.span, format!("{what} must not be empty"));
        }
        Some(template)
    }

    /// A template; a key without value is as if it were not there.
    pub(crate) fn template_if_any(&mut self, node: &Node<'_>, what: &str) -> Option<Template> {
        if node.is_null() {
            self.say_empty(node, what);
            return None;
        }
        self.template(node, what)
    }

    /// A template whose literal value has to be a number.
    pub(crate) fn number_template(&mut self, node: &Node<'_>, what: &str) -> Option<Template> {
        let template = self.filled_template(node, what)?;
        let is_number = match node.as_scalar().map(|scalar| (scalar.resolved, &scalar.text)) {
            Some((Resolved::Number(number), _)) => !number.is_nan(),
            Some((Resolved::Text, text)) => self.lenient() && crate::expr::parser::is_number(text),
            _ => false,
        };
        if !is_number && !template.has_expression() {
            self.unexpected(node, what, "a number or an expression");
            return (!self.lenient()).then_some(template);
        }
        self.warn_of_text(&template, what, "a number");
        Some(template)
    }

    /// A template whose literal value has to be a boolean.
    pub(crate) fn boolean_template(&mut self, node: &Node<'_>, what: &str) -> Option<Template> {
        let template = self.filled_template(node, what)?;
        let is_boolean = match node.as_scalar().map(|scalar| (scalar.resolved, &scalar.text)) {
            Some((Resolved::Bool(_), _)) => true,
            Some((Resolved::Text, text)) => self.lenient() && matches!(&**text, "true" | "false"),
            _ => false,
        };
        if !is_boolean && !template.has_expression() {
            self.unexpected(node, what, "true, false or an expression");
        }
        self.warn_of_text(&template, what, "true or false");
        Some(template)
    }

    /// Text around an expression makes its value text.
    fn warn_of_text(&mut self, template: &Template, what: &str, expected: &str) {
        if template.has_expression() && !template.is_expression() && template.syntax_error().is_none() {
            let message = format!("{what} must be {expected}, text around ${{{{ }}}} makes it text");
            self.report(
                Diagnostic::warning(Code::WrongType, template.span(), message)
                    .with_help("put the whole value into one ${{ }}"),
            );
        }
    }

    /// Reports the syntax error of a template, if it has one.
    pub(crate) fn checked(&mut self, template: Template) -> Template {
        if let Some(error) = template.syntax_error() {
            let span = template.locate(self.source, error.range.clone());
            let mut diagnostic = Diagnostic::error(Code::Expression, span, error.message.clone());
            diagnostic.help.clone_from(&error.help);
            self.report(diagnostic);
        } else if !self.lenient() && template.is_too_long() {
            let span = Span::new(template.span().start, template.span().start + 1);
            let message =
                "the text with its expressions is longer than 21000 characters, which GitHub refuses";
            self.report(
                Diagnostic::error(Code::Expression, span, message)
                    .with_help("pass values through 'env', so that the text has no expressions"),
            );
        }
        template
    }

    /// A mapping of scalars, or an expression that gives one: `env`, `with`, `outputs`.
    pub(crate) fn template_map(&mut self, node: &Node<'_>, what: &str) -> Option<TemplateMap> {
        match &node.kind {
            NodeKind::Mapping(entries) => {
                let mut read = Vec::with_capacity(entries.len());
                for entry in &**entries {
                    let Some(key) = self.filled_template(&entry.key, "a key") else { continue };
                    let value = if is_insert(&key) {
                        self.template_node(&entry.value)
                    } else if let Some(template) = self.scalar_template(&entry.value) {
                        TemplateNode::Scalar(template)
                    } else {
                        self.unexpected(&entry.value, &format!("'{}'", key.raw()), "a string");
                        continue;
                    };
                    read.push((key, value));
                }
                Some(TemplateMap::new(read, node.span))
            }
            _ => self.expression_in_place_of(node, what, "a mapping").map(TemplateMap::from_expression),
        }
    }

    /// The same where GitHub computes values only, neither keys nor the mapping as a whole.
    pub(crate) fn fixed_template_map(&mut self, node: &Node<'_>, what: &str) -> Option<TemplateMap> {
        let map = self.template_map(node, what)?;
        let keys = map.entries().iter().map(|(key, _)| key).filter(|key| key.has_expression());
        for template in map.whole().into_iter().chain(keys) {
            if template.syntax_error().is_none() {
                let part = if map.whole().is_some() { what.to_owned() } else { format!("a key of {what}") };
                self.refuse_expression(template, &part);
            }
        }
        Some(map)
    }

    /// A scalar that must be one expression, because the place is for `expected`.
    pub(crate) fn expression_in_place_of(
        &mut self,
        node: &Node<'_>,
        what: &str,
        expected: &str,
    ) -> Option<Template> {
        if node.as_scalar().is_some_and(|scalar| scalar.resolved == Resolved::Text) {
            let template = self.template(node, what)?;
            if template.is_expression() || template.syntax_error().is_some() {
                return Some(template);
            }
        }
        self.unexpected(node, what, expected);
        None
    }

    /// Any node as a tree of templates.
    pub(crate) fn template_node(&mut self, node: &Node<'_>) -> TemplateNode {
        match &node.kind {
            NodeKind::Scalar(scalar) => TemplateNode::Scalar(self.checked(Template::from_scalar(
                scalar.text.as_ref().into(),
                scalar.typed(),
                scalar.style,
                node.span,
            ))),
            NodeKind::Sequence(items) => {
                TemplateNode::Sequence(items.iter().map(|item| self.template_node(item)).collect(), node.span)
            }
            NodeKind::Mapping(entries) => {
                let entries = entries
                    .iter()
                    .filter_map(|entry| {
                        let key = self.filled_template(&entry.key, "a key")?;
                        Some((key, self.template_node(&entry.value)))
                    })
                    .collect();
                TemplateNode::Mapping(TemplateMap::new(entries, node.span))
            }
        }
    }

    /// Reports a key that must be there, at the mapping that lacks it.
    pub(crate) fn missing(&mut self, node: &Node<'_>, what: &str, key: &str) {
        let span = first_key(node);
        self.error(Code::MissingKey, span, format!("{what} lacks the required key '{key}'"));
    }

    /// Findings in order of their places.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Parsed<T> {
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
        self.diagnostics.dedup();
        Parsed { value, diagnostics: self.diagnostics }
    }
}

/// The place of a mapping in few characters: its first key.
pub(crate) fn first_key(node: &Node<'_>) -> Span {
    match node.as_mapping() {
        Some([first, ..]) => first.key.span,
        _ => Span::new(node.span.start, node.span.end.min(node.span.start + 1)),
    }
}
