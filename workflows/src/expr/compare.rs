//! Equality and order of values with GitHub's coercions.

use std::cmp::Ordering;
use std::sync::Arc;

use super::text;
use super::value::Value;

/// The two sides after coercion to a common type.
enum Pair<'a> {
    Nulls,
    Bools(bool, bool),
    Numbers(f64, f64),
    Strings(&'a str, &'a str),
    /// Arrays or objects, or types that never meet.
    Others,
}

fn coerce<'a>(left: &'a Value, right: &'a Value) -> Pair<'a> {
    use Value::{Array, Bool, Null, Number, Object, String};
    match (left, right) {
        (Null, Null) => Pair::Nulls,
        (Bool(left), Bool(right)) => Pair::Bools(*left, *right),
        (Number(left), Number(right)) => Pair::Numbers(*left, *right),
        (String(left), String(right)) => Pair::Strings(left, right),
        (Array(_) | Object(_), _) | (_, Array(_) | Object(_)) => Pair::Others,
        // Every remaining mixture of primitives is compared as numbers.
        _ => Pair::Numbers(left.to_number(), right.to_number()),
    }
}

#[expect(clippy::float_cmp, reason = "the language compares doubles exactly")]
pub(crate) fn equals(left: &Value, right: &Value) -> bool {
    match coerce(left, right) {
        Pair::Nulls => true,
        Pair::Bools(left, right) => left == right,
        Pair::Numbers(left, right) => left == right,
        Pair::Strings(left, right) => text::equals_ignore_case(left, right),
        Pair::Others => match (left, right) {
            (Value::Array(left), Value::Array(right)) => Arc::ptr_eq(left, right),
            (Value::Object(left), Value::Object(right)) => Arc::ptr_eq(left, right),
            _ => false,
        },
    }
}

/// Order for `<` and `>`; `None` when neither holds.
pub(crate) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match coerce(left, right) {
        Pair::Bools(left, right) => Some(left.cmp(&right)),
        Pair::Numbers(left, right) => left.partial_cmp(&right),
        Pair::Strings(left, right) => Some(text::compare_ignore_case(left, right)),
        Pair::Nulls | Pair::Others => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixed_primitives_meet_as_numbers() {
        let yes = [
            (Value::Null, Value::from("")),
            (Value::Null, Value::Bool(false)),
            (Value::Bool(true), Value::from("1")),
            (Value::Number(15.0), Value::from(" 0xf ")),
            (Value::from("ABC"), Value::from("abc")),
        ];
        for (left, right) in yes {
            assert!(equals(&left, &right) && equals(&right, &left), "{left:?} {right:?}");
        }
        assert!(!equals(&Value::from("x"), &Value::Number(f64::NAN)));
        assert!(!equals(&Value::array(vec![]), &Value::from("")));
    }

    #[test]
    fn collections_are_equal_only_to_themselves() {
        let list = Value::array(vec![]);
        assert!(equals(&list, &list.clone()));
        assert!(!equals(&list, &Value::array(vec![])));
        assert_eq!(order(&list, &list), None);
    }

    #[test]
    fn order_exists_where_numbers_texts_or_booleans_meet() {
        assert_eq!(order(&Value::Bool(false), &Value::Bool(true)), Some(Ordering::Less));
        assert_eq!(order(&Value::from("a"), &Value::from("B")), Some(Ordering::Less));
        assert_eq!(order(&Value::from("10"), &Value::Number(9.0)), Some(Ordering::Greater));
        assert_eq!(order(&Value::Null, &Value::Null), None);
        assert_eq!(order(&Value::Number(f64::NAN), &Value::Number(1.0)), None);
    }
}
