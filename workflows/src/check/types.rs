//! Static types of expressions: what is known about a context before anything runs.

use std::sync::Arc;

use crate::expr::{Value, text};

/// A type. Cloning is cheap.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Type {
    /// Nothing is known.
    Any,
    Null,
    Bool,
    Number,
    String,
    Array(Arc<Type>),
    Object(Arc<ObjectType>),
}

/// Known properties, and the type of all others; without one, others do not exist.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ObjectType {
    pub(crate) properties: Vec<(Arc<str>, Type)>,
    pub(crate) others: Option<Type>,
}

impl Type {
    /// An object with exactly these properties.
    pub(crate) fn closed(properties: Vec<(Arc<str>, Type)>) -> Self {
        Self::Object(Arc::new(ObjectType { properties, others: None }))
    }

    /// An object in which every property has this type.
    pub(crate) fn map_of(others: Self) -> Self {
        Self::Object(Arc::new(ObjectType { properties: Vec::new(), others: Some(others) }))
    }

    /// An object with these properties of type string.
    pub(crate) fn strings(names: &[&str]) -> Self {
        Self::closed(names.iter().map(|name| (Arc::from(*name), Self::String)).collect())
    }

    pub(crate) fn array(items: Self) -> Self {
        Self::Array(Arc::new(items))
    }

    /// The type of a value that is known.
    pub(crate) fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::String,
            Value::Array(items) => Self::array(Self::union(items.iter().map(Self::of_value))),
            Value::Object(object) => Self::closed(
                object.iter().map(|(key, value)| (Arc::from(key), Self::of_value(value))).collect(),
            ),
        }
    }

    /// A type that covers both.
    pub(crate) fn merge(self, other: Self) -> Self {
        if self == other {
            return self;
        }
        match (self, other) {
            (Self::Object(left), Self::Object(right)) => {
                let mut merged = (*left).clone();
                for (name, kind) in &right.properties {
                    match merged.properties.iter_mut().find(|(own, _)| text::equals_ignore_case(own, name)) {
                        Some((_, own)) => *own = own.clone().merge(kind.clone()),
                        None => merged.properties.push((name.clone(), kind.clone())),
                    }
                }
                merged.others = match (merged.others, &right.others) {
                    (Some(left), Some(right)) => Some(left.merge(right.clone())),
                    (left, right) => left.or_else(|| right.clone()),
                };
                Self::Object(Arc::new(merged))
            }
            (Self::Array(left), Self::Array(right)) => Self::array((*left).clone().merge((*right).clone())),
            _ => Self::Any,
        }
    }

    pub(crate) fn union(types: impl IntoIterator<Item = Self>) -> Self {
        types.into_iter().reduce(Self::merge).unwrap_or(Self::Any)
    }

    /// The name in messages.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// Whether no value can be of both types.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        !matches!((self, other), (Self::Any, _) | (_, Self::Any)) && self.name() != other.name()
    }

    pub(crate) const fn is_primitive(&self) -> bool {
        matches!(self, Self::Null | Self::Bool | Self::Number | Self::String)
    }
}

impl ObjectType {
    /// The type of a property; `None` when it cannot exist.
    pub(crate) fn get(&self, name: &str) -> Option<Type> {
        self.properties
            .iter()
            .find(|(own, _)| text::equals_ignore_case(own, name))
            .map(|(_, kind)| kind.clone())
            .or_else(|| self.others.clone())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.properties.iter().map(|(name, _)| &**name)
    }
}
