//! The tree of a parsed expression. Its depth is bounded by the parser, so walking it may recurse.

use std::ops::Range;
use std::sync::Arc;

use super::value::Value;
use crate::context::ContextName;

/// Functions of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// `contains(search, item)`
    Contains,
    /// `startsWith(text, prefix)`
    StartsWith,
    /// `endsWith(text, suffix)`
    EndsWith,
    /// `format(pattern, …)`
    Format,
    /// `join(list, separator?)`
    Join,
    /// `toJSON(value)`
    ToJson,
    /// `fromJSON(text)`
    FromJson,
    /// `hashFiles(pattern, …)`
    HashFiles,
    /// `case(condition, value, …, default)`
    Case,
    /// `success()`
    Success,
    /// `failure()`
    Failure,
    /// `always()`
    Always,
    /// `cancelled()`
    Cancelled,
}

impl Function {
    /// Every function.
    pub const ALL: [Self; 13] = [
        Self::Contains,
        Self::StartsWith,
        Self::EndsWith,
        Self::Format,
        Self::Join,
        Self::ToJson,
        Self::FromJson,
        Self::HashFiles,
        Self::Case,
        Self::Success,
        Self::Failure,
        Self::Always,
        Self::Cancelled,
    ];

    /// The name as GitHub documents it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Format => "format",
            Self::Join => "join",
            Self::ToJson => "toJSON",
            Self::FromJson => "fromJSON",
            Self::HashFiles => "hashFiles",
            Self::Case => "case",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Always => "always",
            Self::Cancelled => "cancelled",
        }
    }

    /// By name, ignoring case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name().eq_ignore_ascii_case(name))
    }

    /// Fewest and most arguments.
    pub const fn arity(self) -> (usize, usize) {
        match self {
            Self::Contains | Self::StartsWith | Self::EndsWith => (2, 2),
            Self::Format | Self::HashFiles => (1, 255),
            Self::Join => (1, 2),
            Self::ToJson | Self::FromJson => (1, 1),
            Self::Case => (3, 255),
            // Job ids may be given to the first two in a job's `if`.
            Self::Success | Self::Failure => (0, 255),
            Self::Always | Self::Cancelled => (0, 0),
        }
    }

    /// Whether it is one of the four that ask how the job stands.
    pub const fn is_status(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Always | Self::Cancelled)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Debug, Clone)]
pub(crate) enum ExprKind {
    Literal(Value),
    Context(ContextName),
    /// `of.name` and `of[index]`: what is looked into, and by what.
    Index(Box<(Expr, Expr)>),
    /// `of.*` and `of[*]`.
    Star {
        of: Box<Expr>,
    },
    Call {
        function: Function,
        arguments: Vec<Expr>,
    },
    Not(Box<Expr>),
    Compare(Comparison, Box<(Expr, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
}

/// A node with its byte range in the expression's text and the height of the tree below it.
#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) height: u16,
}

impl Expr {
    pub(crate) fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The literal text, when this is one.
    pub(crate) fn literal_text(&self) -> Option<&Arc<str>> {
        match &self.kind {
            ExprKind::Literal(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Calls `visit` for this node and all below it, parents first.
    pub(crate) fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        visit(self);
        match &self.kind {
            ExprKind::Literal(_) | ExprKind::Context(_) => {}
            ExprKind::Star { of } | ExprKind::Not(of) => of.walk(visit),
            ExprKind::Index(pair) | ExprKind::Compare(_, pair) => {
                pair.0.walk(visit);
                pair.1.walk(visit);
            }
            ExprKind::Call { arguments: items, .. } | ExprKind::And(items) | ExprKind::Or(items) => {
                for item in items {
                    item.walk(visit);
                }
            }
        }
    }
}
