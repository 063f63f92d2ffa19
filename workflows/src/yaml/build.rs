//! Parser events to a tree, without recursion.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle as EventStyle, ScanError, StrInput, Tag};

use super::{Entry, Node, NodeKind, Resolved, Scalar, ScalarStyle, repair, scalar};
use crate::diagnostic::{Code, Diagnostic};
use crate::expr::text;
use crate::source::{SourceFile, Span};

/// Bounds of a document. The defaults are far above every real workflow file.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of source.
    pub bytes: usize,
    /// Deepest nesting of sequences and mappings; GitHub reads 50 levels.
    pub depth: usize,
    /// Most nodes, counting what aliases expand to.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 4 * 1024 * 1024, depth: 50, nodes: 200_000 }
    }
}

/// Reads the one document of `source`. Always gives diagnostics in order of appearance; the tree is
/// missing when the text is no YAML or breaks a limit.
///
/// ```
/// use workflows::{SourceFile, yaml};
/// let source = SourceFile::new("a.yml", "on: push\njobs: {}\n");
/// let (tree, diagnostics) = yaml::parse(&source, yaml::Limits::default());
/// assert!(diagnostics.is_empty());
/// assert_eq!(tree.unwrap().get("on").unwrap().as_text(), Some("push"));
/// ```
pub fn parse(source: &SourceFile, limits: Limits) -> (Option<Node<'_>>, Vec<Diagnostic>) {
    let mut broken = match read(source.text(), limits) {
        Ok(document) => return document,
        Err(broken) => broken,
    };
    let mut text = Cow::Borrowed(source.text());
    for _ in 0..MOST_REPAIRS {
        let Some(repaired) = broken.at.and_then(|at| repair::at(&text, at)) else { break };
        broken = match read(&repaired, limits) {
            Ok((tree, findings)) => return (tree.map(Node::into_owned), findings),
            Err(again) => again,
        };
        text = Cow::Owned(repaired);
    }
    (None, broken.findings)
}

/// Most places of one file that are read in spite of the grammar.
const MOST_REPAIRS: usize = 20;

/// A text that gave no tree.
struct Broken {
    /// The byte at which the grammar was left.
    at: Option<usize>,
    findings: Vec<Diagnostic>,
}

fn read(whole: &str, limits: Limits) -> Result<(Option<Node<'_>>, Vec<Diagnostic>), Broken> {
    if whole.len() > limits.bytes {
        let message = format!("the file is larger than {} bytes", limits.bytes);
        let findings = vec![Diagnostic::error(Code::YamlLimit, Span::new(0, 1), message)];
        return Err(Broken { at: None, findings });
    }
    // A byte order mark is no content.
    let text = whole.strip_prefix('\u{feff}').unwrap_or(whole);
    let mut builder = Builder {
        cursor: Cursor::new(text, whole.len() - text.len()),
        stack: Vec::new(),
        anchors: Vec::new(),
        nodes: 0,
        root: None,
        limits,
        diagnostics: Vec::new(),
    };
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(text);
    let mut documents = 0;
    while let Some(result) = parser.next_event() {
        let (event, span) = match result {
            Ok(next) => next,
            Err(error) => {
                let at = Some(builder.cursor.offset(error.marker()));
                builder.syntax_error(&error);
                return Err(Broken { at, findings: builder.diagnostics });
            }
        };
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                let span = builder.span(&span);
                builder.diagnostics.push(
                    Diagnostic::error(
                        Code::YamlSyntax,
                        span,
                        "a second document starts here, a file holds only one",
                    )
                    .with_help("remove the --- line or what follows it"),
                );
                break;
            }
        }
        if let Err(refusal) = builder.event(event, &span) {
            builder.diagnostics.push(refusal);
            return Err(Broken { at: None, findings: builder.diagnostics });
        }
    }
    for anchored in builder.anchors.iter().filter(|anchored| !anchored.used) {
        let start = anchored.node.span.start;
        let message = "an anchor is defined here that no alias uses";
        builder.diagnostics.push(Diagnostic::warning(Code::Anchor, Span::new(start, start + 1), message));
    }
    Ok((builder.root, builder.diagnostics))
}

/// Character positions of the parser to byte offsets; events come nearly in order.
struct Cursor<'s> {
    text: &'s str,
    skipped: usize,
    ascii: bool,
    chars: usize,
    bytes: usize,
}

impl<'s> Cursor<'s> {
    fn new(text: &'s str, skipped: usize) -> Self {
        Self { text, skipped, ascii: text.is_ascii(), chars: 0, bytes: 0 }
    }

    fn offset(&mut self, marker: &Marker) -> usize {
        let index = marker.index();
        if self.ascii {
            return index.min(self.text.len()) + self.skipped;
        }
        while self.chars < index {
            let Some(c) = self.text[self.bytes..].chars().next() else { break };
            self.bytes += c.len_utf8();
            self.chars += 1;
        }
        while self.chars > index {
            let Some(c) = self.text[..self.bytes].chars().next_back() else { break };
            self.bytes -= c.len_utf8();
            self.chars -= 1;
        }
        self.bytes + self.skipped
    }
}

/// A collection under construction.
struct Frame<'s> {
    start: u32,
    anchor: usize,
    /// Nodes counted when it began.
    nodes_before: usize,
    kind: FrameKind<'s>,
}

enum FrameKind<'s> {
    Sequence(Vec<Node<'s>>),
    Mapping { entries: Vec<Entry<'s>>, key: Option<Node<'s>> },
}

/// A node that aliases may bring again, and how many nodes that costs.
struct Anchored<'s> {
    id: usize,
    node: Node<'s>,
    nodes: usize,
    used: bool,
}

struct Builder<'s> {
    cursor: Cursor<'s>,
    stack: Vec<Frame<'s>>,
    anchors: Vec<Anchored<'s>>,
    nodes: usize,
    root: Option<Node<'s>>,
    limits: Limits,
    diagnostics: Vec<Diagnostic>,
}

impl<'s> Builder<'s> {
    fn span(&mut self, span: &saphyr_parser::Span) -> Span {
        let start = self.cursor.offset(&span.start);
        let end = self.cursor.offset(&span.end);
        Span::from_offsets(start, end.max(start))
    }

    /// Where the `|` or `>` of a block scalar stands; the parser names the first line of its content.
    fn block_header(&self, start: u32) -> u32 {
        let skipped = self.cursor.skipped;
        let Some(before) = (start as usize).checked_sub(skipped).and_then(|at| self.cursor.text.get(..at))
        else {
            return start;
        };
        if self.cursor.text[before.len()..].starts_with(['|', '>']) {
            return start;
        }
        let header = before.trim_end();
        let line_start = header.rfind('\n').map_or(0, |at| at + 1);
        let line = &header[line_start..];
        let line = line.find(" #").map_or(line, |comment| &line[..comment]).trim_end();
        let indicator = line.trim_end_matches(|c: char| c.is_ascii_digit() || c == '+' || c == '-');
        match indicator.as_bytes().last() {
            Some(b'|' | b'>') => u32::try_from(line_start + indicator.len() - 1 + skipped).unwrap_or(start),
            _ => start,
        }
    }

    fn syntax_error(&mut self, error: &ScanError) {
        let at = self.cursor.offset(error.marker());
        // The scanner counts nesting in a byte and looks ahead.
        if error.info().contains("recursion limit") {
            let message = format!("the document is nested deeper than {} levels", self.limits.depth);
            self.diagnostics.push(Diagnostic::error(
                Code::YamlLimit,
                Span::from_offsets(at, at + 1),
                message,
            ));
            return;
        }
        let mut diagnostic = Diagnostic::error(
            Code::YamlSyntax,
            Span::from_offsets(at, at + 1),
            format!("not valid YAML: {}", error.info()),
        );
        if error.info().contains("tab") {
            diagnostic = diagnostic.with_help("indent with spaces");
        }
        self.diagnostics.push(diagnostic);
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Diagnostic> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > self.limits.nodes {
            let message =
                format!("the document has more than {} nodes once aliases are expanded", self.limits.nodes);
            return Err(Diagnostic::error(Code::YamlLimit, span, message));
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'s>, span: &saphyr_parser::Span) -> Result<(), Diagnostic> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let mut span = self.span(span);
                if matches!(style, EventStyle::Literal | EventStyle::Folded) {
                    span.start = self.block_header(span.start);
                }
                self.count(1, span)?;
                let node = self.scalar(text, style, tag.as_deref(), span);
                self.keep_anchor(anchor, &node, 1);
                self.place(node)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(FrameKind::Sequence(Vec::new()), anchor, tag.as_deref(), "seq", span)
            }
            Event::MappingStart(anchor, tag) => {
                let kind = FrameKind::Mapping { entries: Vec::new(), key: None };
                self.open(kind, anchor, tag.as_deref(), "map", span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(id) => {
                let span = self.span(span);
                let Some(anchored) = self.anchors.iter_mut().rev().find(|anchored| anchored.id == id) else {
                    let message = "the alias names an anchor that contains it";
                    return Err(Diagnostic::error(Code::YamlSyntax, span, message));
                };
                anchored.used = true;
                let (node, nodes) = (anchored.node.clone(), anchored.nodes);
                self.count(nodes, span)?;
                self.place(node)
            }
            _ => Ok(()),
        }
    }

    fn open(
        &mut self,
        kind: FrameKind<'s>,
        anchor: usize,
        tag: Option<&Tag>,
        expected_tag: &str,
        span: &saphyr_parser::Span,
    ) -> Result<(), Diagnostic> {
        let span = self.span(span);
        self.count(1, span)?;
        if self.stack.len() >= self.limits.depth {
            let message = format!("the document is nested deeper than {} levels", self.limits.depth);
            return Err(Diagnostic::error(Code::YamlLimit, span, message));
        }
        if let Some(tag) = tag
            && core_name(tag) != Some(expected_tag)
        {
            self.unexpected_tag(tag, span);
        }
        self.stack.push(Frame { start: span.start, anchor, nodes_before: self.nodes - 1, kind });
        Ok(())
    }

    fn close(&mut self, span: &saphyr_parser::Span) -> Result<(), Diagnostic> {
        let end = self.span(span).end;
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let kind = match frame.kind {
            FrameKind::Sequence(items) => NodeKind::Sequence(Arc::new(items)),
            FrameKind::Mapping { entries, .. } => NodeKind::Mapping(Arc::new(self.finish_mapping(entries))),
        };
        let node = Node { span: Span::new(frame.start, end.max(frame.start)), kind };
        self.keep_anchor(frame.anchor, &node, self.nodes - frame.nodes_before);
        self.place(node)
    }

    fn keep_anchor(&mut self, id: usize, node: &Node<'s>, nodes: usize) {
        if id > 0 {
            self.anchors.push(Anchored { id, node: node.clone(), nodes, used: false });
        }
    }

    fn place(&mut self, node: Node<'s>) -> Result<(), Diagnostic> {
        match self.stack.last_mut().map(|frame| &mut frame.kind) {
            None => self.root = Some(node),
            Some(FrameKind::Sequence(items)) => items.push(node),
            Some(FrameKind::Mapping { entries, key }) => match key.take() {
                None if node.as_scalar().is_some() => *key = Some(node),
                None => {
                    let message = format!("a key must be a scalar, found {}", node.describe());
                    return Err(Diagnostic::error(Code::YamlSyntax, node.span, message));
                }
                Some(key) => {
                    // An empty value has no place of its own; its key is where a person looks.
                    let empty = node.span.is_empty() && node.is_null();
                    let span = if empty { key.span } else { node.span };
                    entries.push(Entry { key, value: Node { span, kind: node.kind } });
                }
            },
        }
        Ok(())
    }

    /// Refuses keys that differ at most in case, then carries merge keys out.
    fn finish_mapping(&mut self, mut entries: Vec<Entry<'s>>) -> Vec<Entry<'s>> {
        let merges = entries.iter().any(|entry| is_merge(&entry.key));
        let duplicate = if entries.len() <= 32 {
            let same = |left: &Entry<'_>, right: &Entry<'_>| match (left.key.as_text(), right.key.as_text()) {
                (Some(left), Some(right)) => text::equals_ignore_case(left, right),
                _ => false,
            };
            (1..entries.len()).any(|at| entries[..at].iter().any(|earlier| same(earlier, &entries[at])))
        } else {
            true
        };
        if duplicate {
            let mut seen: HashSet<String> = HashSet::with_capacity(entries.len());
            entries.retain(|entry| {
                let name = entry.key.as_text().unwrap_or("");
                let fresh = is_merge(&entry.key) || seen.insert(text::fold(name));
                if !fresh {
                    self.diagnostics.push(
                        Diagnostic::error(
                            Code::DuplicateKey,
                            entry.key.span,
                            format!("'{name}' is already defined"),
                        )
                        .with_help("keys that differ only in case count as the same; remove one of them"),
                    );
                }
                fresh
            });
        }
        if merges { self.merge(entries) } else { entries }
    }

    fn merge(&mut self, entries: Vec<Entry<'s>>) -> Vec<Entry<'s>> {
        let mut merged: Vec<Entry<'s>> = Vec::with_capacity(entries.len());
        let mut brought: Vec<Entry<'s>> = Vec::new();
        for entry in entries {
            if !is_merge(&entry.key) {
                merged.push(entry);
                continue;
            }
            self.diagnostics.push(
                Diagnostic::error(
                    Code::MergeKey,
                    entry.key.span,
                    "GitHub does not know the merge key <<, Gitea does",
                )
                .with_help("an alias of the whole mapping works on both"),
            );
            let sources = match &entry.value.kind {
                NodeKind::Sequence(items) => items.to_vec(),
                _ => vec![entry.value],
            };
            for source in sources {
                match source.kind {
                    NodeKind::Mapping(inner) => brought.extend(inner.iter().cloned()),
                    _ => self.diagnostics.push(Diagnostic::error(
                        Code::YamlSyntax,
                        source.span,
                        format!("the merge key << expects a mapping, found {}", source.describe()),
                    )),
                }
            }
        }
        for entry in brought {
            let known = |other: &Entry<'_>| match (other.key.as_text(), entry.key.as_text()) {
                (Some(left), Some(right)) => text::equals_ignore_case(left, right),
                _ => false,
            };
            if !merged.iter().any(known) {
                merged.push(entry);
            }
        }
        merged
    }

    fn scalar(&mut self, text: Cow<'s, str>, style: EventStyle, tag: Option<&Tag>, span: Span) -> Node<'s> {
        let style = match style {
            EventStyle::Plain => ScalarStyle::Plain,
            EventStyle::SingleQuoted => ScalarStyle::SingleQuoted,
            EventStyle::DoubleQuoted => ScalarStyle::DoubleQuoted,
            EventStyle::Literal => ScalarStyle::Literal,
            EventStyle::Folded => ScalarStyle::Folded,
        };
        let resolved = match tag {
            None if style == ScalarStyle::Plain => scalar::resolve(&text),
            None => Resolved::Text,
            Some(tag) => self.tagged(tag, &text, style, span),
        };
        let text = self.borrowed(text, span, style);
        Node { span, kind: NodeKind::Scalar(Scalar { text, style, resolved }) }
    }

    /// The parser copies every text; most stand in the source as they are.
    fn borrowed(&self, text: Cow<'s, str>, span: Span, style: ScalarStyle) -> Cow<'s, str> {
        let quote = match style {
            ScalarStyle::Plain => 0,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
            ScalarStyle::Literal | ScalarStyle::Folded => return text,
        };
        let source: &'s str = self.cursor.text;
        let start = (span.start as usize + quote).saturating_sub(self.cursor.skipped);
        match source.get(start..start + text.len()) {
            Some(written) if *written == *text => Cow::Borrowed(written),
            _ => text,
        }
    }

    /// A scalar with an explicit type.
    fn tagged(&mut self, tag: &Tag, text: &str, style: ScalarStyle, span: Span) -> Resolved {
        if tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty() {
            return Resolved::Text;
        }
        let Some(name) = core_name(tag) else {
            self.unexpected_tag(tag, span);
            return Resolved::Text;
        };
        let resolved = match (name, scalar::resolve(text)) {
            ("str", _) => return Resolved::Text,
            ("null", resolved @ Resolved::Null)
            | ("bool", resolved @ Resolved::Bool(_))
            | ("float", resolved @ Resolved::Number(_)) => Some(resolved),
            ("int", resolved @ Resolved::Number(number)) if number.fract() == 0.0 => Some(resolved),
            ("null" | "bool" | "float" | "int", _) => None,
            _ => {
                self.unexpected_tag(tag, span);
                return Resolved::Text;
            }
        };
        if style != ScalarStyle::Plain {
            let message = format!("a scalar tagged !!{name} must be written without quotes");
            self.diagnostics.push(Diagnostic::error(Code::YamlTag, span, message));
        }
        resolved.unwrap_or_else(|| {
            let message = format!("'{text}' is no value of the type !!{name}");
            self.diagnostics.push(Diagnostic::error(Code::YamlTag, span, message));
            Resolved::Text
        })
    }

    fn unexpected_tag(&mut self, tag: &Tag, span: Span) {
        let diagnostic = Diagnostic::error(Code::YamlTag, span, format!("unexpected tag '{tag}'"));
        let diagnostic = if tag.handle == "!" {
            diagnostic.with_help(
                "a value that begins with ! is read as a YAML tag: write it in ${{ }} or in quotes",
            )
        } else {
            diagnostic
                .with_help("tags that workflow files know: !!str !!int !!float !!bool !!null !!seq !!map")
        };
        self.diagnostics.push(diagnostic);
    }
}

/// Name of a type of the core schema, written `!!name` or in full.
fn core_name(tag: &Tag) -> Option<&str> {
    if tag.is_yaml_core_schema() {
        return Some(&tag.suffix);
    }
    tag.handle.is_empty().then(|| tag.suffix.strip_prefix("tag:yaml.org,2002:")).flatten()
}

fn is_merge(key: &Node<'_>) -> bool {
    key.as_scalar().is_some_and(|scalar| scalar.text == "<<" && scalar.style == ScalarStyle::Plain)
}
