//! YAML as a tree in which every node knows its place.
//!
//! Events come from `saphyr-parser`; this module resolves plain scalars by YAML 1.2's core schema,
//! expands aliases and merge keys, refuses duplicate keys, and bounds size, depth and expansion so that
//! no input can exhaust memory or stack.

mod build;
mod locate;
mod repair;
mod scalar;

use std::borrow::Cow;
use std::sync::Arc;

pub use build::{Limits, parse};
pub(crate) use locate::locate;

use crate::expr::value::Value;
use crate::source::Span;

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScalarStyle {
    /// Without quotes: may mean a number, boolean or null.
    #[default]
    Plain,
    /// `'text'`
    SingleQuoted,
    /// `"text"`
    DoubleQuoted,
    /// `|`
    Literal,
    /// `>`
    Folded,
}

/// A node and its place.
#[derive(Debug, Clone)]
pub struct Node<'s> {
    /// Where it stands; for a node brought by an alias, where the anchor's node stands.
    pub span: Span,
    /// What it is.
    pub kind: NodeKind<'s>,
}

/// The three kinds of nodes. Sequences and mappings are shared, so aliases cost nothing.
#[derive(Debug, Clone)]
pub enum NodeKind<'s> {
    /// Text, number, boolean or null.
    Scalar(Scalar<'s>),
    /// A list.
    Sequence(Arc<Vec<Node<'s>>>),
    /// A mapping; keys are unique ignoring case.
    Mapping(Arc<Vec<Entry<'s>>>),
}

/// A scalar as written, and what it means.
#[derive(Debug, Clone)]
pub struct Scalar<'s> {
    /// The text without quotes and escapes.
    pub text: Cow<'s, str>,
    /// How it was written.
    pub style: ScalarStyle,
    /// What a plain scalar means when it is not text.
    pub resolved: Resolved,
}

/// Meaning of a plain scalar in YAML 1.2's core schema.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Resolved {
    /// Text.
    Text,
    /// `~`, `null` or nothing at all.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
}

/// One key of a mapping with its value.
#[derive(Debug, Clone)]
pub struct Entry<'s> {
    /// The key, always a scalar.
    pub key: Node<'s>,
    /// The value.
    pub value: Node<'s>,
}

impl<'s> Node<'s> {
    /// The scalar, if this is one.
    pub const fn as_scalar(&self) -> Option<&Scalar<'s>> {
        match &self.kind {
            NodeKind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar of any type.
    pub fn as_text(&self) -> Option<&str> {
        self.as_scalar().map(|scalar| &*scalar.text)
    }

    /// The items of a sequence.
    pub fn as_sequence(&self) -> Option<&[Self]> {
        match &self.kind {
            NodeKind::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a mapping.
    pub fn as_mapping(&self) -> Option<&[Entry<'s>]> {
        match &self.kind {
            NodeKind::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// Whether it is null: nothing written, `~` or `null`.
    pub fn is_null(&self) -> bool {
        self.as_scalar().is_some_and(|scalar| scalar.resolved == Resolved::Null)
    }

    /// The value under a key of a mapping, compared exactly.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_mapping()?.iter().find(|entry| entry.key.as_text() == Some(key)).map(|entry| &entry.value)
    }

    /// Article and name of the kind, for messages.
    pub const fn describe(&self) -> &'static str {
        match &self.kind {
            NodeKind::Scalar(_) => "a scalar",
            NodeKind::Sequence(_) => "a sequence",
            NodeKind::Mapping(_) => "a mapping",
        }
    }

    /// The same tree, independent of the text it was read from.
    fn into_owned(self) -> Node<'static> {
        let kind = match self.kind {
            NodeKind::Scalar(scalar) => {
                NodeKind::Scalar(Scalar { text: Cow::Owned(scalar.text.into_owned()), ..scalar })
            }
            NodeKind::Sequence(items) => {
                NodeKind::Sequence(Arc::new(items.iter().cloned().map(Node::into_owned).collect()))
            }
            NodeKind::Mapping(entries) => NodeKind::Mapping(Arc::new(
                entries
                    .iter()
                    .cloned()
                    .map(|Entry { key, value }| Entry { key: key.into_owned(), value: value.into_owned() })
                    .collect(),
            )),
        };
        Node { span: self.span, kind }
    }

    /// The tree as a value, expressions left as text.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            NodeKind::Scalar(scalar) => scalar.to_value(),
            NodeKind::Sequence(items) => Value::array(items.iter().map(Self::to_value).collect()),
            NodeKind::Mapping(entries) => Value::object(
                entries
                    .iter()
                    .map(|entry| (entry.key.as_text().unwrap_or(""), entry.value.to_value()))
                    .collect(),
            ),
        }
    }
}

impl Scalar<'_> {
    /// The typed value.
    pub fn to_value(&self) -> Value {
        self.typed().unwrap_or_else(|| Value::string(&*self.text))
    }

    /// The value of what is not text.
    pub(crate) const fn typed(&self) -> Option<Value> {
        match self.resolved {
            Resolved::Text => None,
            Resolved::Null => Some(Value::Null),
            Resolved::Bool(value) => Some(Value::Bool(value)),
            Resolved::Number(value) => Some(Value::Number(value)),
        }
    }
}
