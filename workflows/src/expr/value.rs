//! Values as expressions see them: six types, arrays and objects with identity, objects in insertion
//! order with look-ups that ignore case.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::text;

/// A value of the expression language.
///
/// Strings, arrays and objects are shared, so cloning is cheap. Arrays and objects have an identity:
/// `==` between two of them is true only for the very same one, as on GitHub ([`Value::loose_equals`]).
///
/// ```
/// use workflows::Value;
/// let value = Value::from_json(&serde_json::json!({"Name": ["a", 1.5]}));
/// assert_eq!(value.get("name").and_then(|list| list.at(1)).map(|v| v.to_text()), Some("1.5".to_owned()));
/// ```
#[derive(Clone, Default)]
pub enum Value {
    /// Nothing: a missing key, a context that is empty, the literal `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A double; there are no integers.
    Number(f64),
    /// Text.
    String(Arc<str>),
    /// A list.
    Array(Arc<Vec<Value>>),
    /// A mapping.
    Object(Arc<Object>),
}

impl Value {
    /// A string value.
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(text.into())
    }

    /// An array value with a new identity.
    pub fn array(items: Vec<Value>) -> Self {
        Self::Array(Arc::new(items))
    }

    /// An object value with a new identity.
    pub fn object(object: Object) -> Self {
        Self::Object(Arc::new(object))
    }

    /// The name of the type as GitHub writes it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "Null",
            Self::Bool(_) => "Boolean",
            Self::Number(_) => "Number",
            Self::String(_) => "String",
            Self::Array(_) => "Array",
            Self::Object(_) => "Object",
        }
    }

    /// Whether this is neither an array nor an object.
    pub const fn is_primitive(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// Truth as `&&`, `||`, `!` and `if` see it: null, false, 0, NaN and the empty string are false.
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(value) => *value != 0.0 && !value.is_nan(),
            Self::String(value) => !value.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// The number this value counts as in comparisons; NaN for what is none.
    pub fn to_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Number(value) => *value,
            Self::String(value) => text::parse_number(value),
            Self::Array(_) | Self::Object(_) => f64::NAN,
        }
    }

    /// The text this value becomes in interpolation: `''` for null, `Array` and `Object` for collections.
    pub fn to_text(&self) -> String {
        match self {
            Self::String(value) => value.to_string(),
            other => other.to_shared_text().to_string(),
        }
    }

    /// [`Value::to_text`] without copying when it is a string already.
    pub fn to_shared_text(&self) -> Arc<str> {
        match self {
            Self::Null => Arc::from(""),
            Self::Bool(true) => Arc::from("true"),
            Self::Bool(false) => Arc::from("false"),
            Self::Number(value) => Arc::from(text::format_number(*value)),
            Self::String(value) => value.clone(),
            Self::Array(_) => Arc::from("Array"),
            Self::Object(_) => Arc::from("Object"),
        }
    }

    /// The text of a string value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    /// The items of an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The object behind an object value.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Property `name` of an object, ignoring case; `None` for other types.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get(name)
    }

    /// Item `index` of an array.
    pub fn at(&self, index: usize) -> Option<&Value> {
        self.as_array()?.get(index)
    }

    /// Equality of the `==` operator with GitHub's coercions.
    pub fn loose_equals(&self, other: &Self) -> bool {
        super::compare::equals(self, other)
    }

    /// From a JSON document; later duplicates have already won there.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(value) => Self::Number(value.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(value) => Self::string(value.as_str()),
            serde_json::Value::Array(items) => Self::array(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(map) => {
                let mut object = Object::with_capacity(map.len());
                for (key, value) in map {
                    object.insert(key.as_str(), Self::from_json(value));
                }
                Self::object(object)
            }
        }
    }

    /// To a JSON document. Whole numbers become JSON integers; NaN and the infinities, which JSON
    /// cannot hold, become their text.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(value) => number_to_json(*value),
            Self::String(value) => serde_json::Value::String(value.to_string()),
            Self::Array(items) => serde_json::Value::Array(items.iter().map(Self::to_json).collect()),
            Self::Object(object) => serde_json::Value::Object(
                object.iter().map(|(key, value)| (key.to_owned(), value.to_json())).collect(),
            ),
        }
    }
}

/// A number as JSON: an integer when it is one that a double holds exactly.
fn number_to_json(value: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the exact range of a double")]
        return serde_json::Value::from(value as i64);
    }
    serde_json::Number::from_f64(value)
        .map_or_else(|| serde_json::Value::String(text::format_number(value)), serde_json::Value::Number)
}

/// Structural equality for tests and deduplication; expressions use [`Value::loose_equals`].
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::Number(left), Self::Number(right)) => left == right || (left.is_nan() && right.is_nan()),
            (Self::String(left), Self::String(right)) => left == right,
            (Self::Array(left), Self::Array(right)) => left == right,
            (Self::Object(left), Self::Object(right)) => left == right,
            _ => false,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("null"),
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Number(value) => formatter.write_str(&text::format_number(*value)),
            Self::String(value) => write!(formatter, "{value:?}"),
            Self::Array(items) => formatter.debug_list().entries(items.iter()).finish(),
            Self::Object(object) => object.fmt(formatter),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Number(f64::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::string(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::string(value)
    }
}

impl From<Object> for Value {
    fn from(value: Object) -> Self {
        Self::object(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Self {
        Self::array(value)
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        Self::from_json(&value)
    }
}

/// Objects above this size look keys up in an index instead of one by one.
const INDEX_FROM: usize = 48;

/// A mapping in insertion order. Keys are looked up ignoring case, except in one made by
/// [`Object::case_sensitive`] (the `env` context on Linux).
#[derive(Clone, Default)]
pub struct Object {
    entries: Vec<(Arc<str>, Value)>,
    case_sensitive: bool,
    index: OnceLock<Vec<(Box<str>, usize)>>,
}

impl Object {
    /// An empty object whose look-ups ignore case.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty object with room for `capacity` entries.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity), ..Self::default() }
    }

    /// An empty object whose keys are told apart by case.
    pub fn case_sensitive() -> Self {
        Self { case_sensitive: true, ..Self::default() }
    }

    fn position(&self, key: &str) -> Option<usize> {
        if self.case_sensitive {
            return self.entries.iter().position(|(name, _)| **name == *key);
        }
        if self.entries.len() < INDEX_FROM {
            return self.entries.iter().position(|(name, _)| text::equals_ignore_case(name, key));
        }
        let index = self.index.get_or_init(|| {
            let mut index: Vec<(Box<str>, usize)> = self
                .entries
                .iter()
                .enumerate()
                .map(|(at, (name, _))| (text::fold(name).into_boxed_str(), at))
                .collect();
            index.sort();
            index
        });
        let folded = text::fold(key);
        index.binary_search_by(|(name, _)| (**name).cmp(&folded)).ok().map(|at| index[at].1)
    }

    /// Sets `key`. A key that exists (by this object's idea of case) keeps its place and spelling.
    /// Returns the value it had.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        if let Some(at) = self.position(&key) {
            return Some(std::mem::replace(&mut self.entries[at].1, value));
        }
        self.index = OnceLock::new();
        self.entries.push((key, value));
        None
    }

    /// Removes `key` and returns what it held; the order of the others stays.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.position(key)?;
        self.index = OnceLock::new();
        Some(self.entries.remove(at).1)
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.position(key).map(|at| &self.entries[at].1)
    }

    /// Whether `key` exists.
    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// Entries in insertion order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Into<Arc<str>>, V: Into<Value>> FromIterator<(K, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut object = Self::new();
        for (key, value) in entries {
            object.insert(key, value);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_order_and_ignore_case() {
        let mut object: Object = [("B", "1"), ("a", "2")].into_iter().collect();
        assert_eq!(object.insert("b", "3"), Some(Value::from("1")));
        let keys: Vec<&str> = object.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["B", "a"]);
        assert_eq!(object.get("A"), Some(&Value::from("2")));
        assert_eq!(object.remove("A"), Some(Value::from("2")));
        assert!(!object.contains_key("a"));
    }

    #[test]
    fn numbers_are_structurally_equal_also_when_they_are_none() {
        let nan = Value::Number(f64::NAN);
        assert!(nan == nan.clone() && !nan.loose_equals(&nan));
        assert!(nan != Value::Number(1.0) && Value::Number(1.0) != nan);
    }

    #[test]
    fn case_sensitive_objects_tell_keys_apart() {
        let mut object = Object::case_sensitive();
        object.insert("Path", "1");
        object.insert("PATH", "2");
        assert_eq!(object.len(), 2);
        assert_eq!(object.get("path"), None);
    }

    #[test]
    fn big_objects_are_looked_up_through_their_index() {
        let mut object: Object = (0..200).map(|n| (format!("Key{n}"), f64::from(n))).collect();
        assert_eq!(object.get("kEY150"), Some(&Value::Number(150.0)));
        object.insert("extra", "x");
        assert_eq!(object.get("EXTRA"), Some(&Value::from("x")));
        assert_eq!(object.get("none"), None);
    }

    #[test]
    fn json_goes_both_ways() {
        let json = serde_json::json!({"n": 1, "f": 1.5, "l": [null, true, "x"], "o": {}});
        assert_eq!(Value::from_json(&json).to_json(), json);
        assert_eq!(Value::Number(f64::NAN).to_json(), serde_json::json!("NaN"));
        assert_eq!(Value::Number(1e300).to_json(), serde_json::json!(1e300));
    }

    #[test]
    fn debug_shows_plain_data() {
        let value = Value::from_json(&serde_json::json!({"a": [1, "b", null, true]}));
        assert_eq!(format!("{value:?}"), r#"{"a": [1, "b", null, true]}"#);
    }
}
