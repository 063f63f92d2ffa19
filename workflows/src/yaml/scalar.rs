//! Plain scalars by YAML 1.2's core schema.

use super::Resolved;
use crate::expr::text::parse_number;

/// What a plain scalar means.
pub(super) fn resolve(text: &str) -> Resolved {
    let Some(&first) = text.as_bytes().first() else {
        return Resolved::Null;
    };
    match first {
        b'~' if text == "~" => Resolved::Null,
        b'n' | b'N' if matches!(text, "null" | "Null" | "NULL") => Resolved::Null,
        b't' | b'T' if matches!(text, "true" | "True" | "TRUE") => Resolved::Bool(true),
        b'f' | b'F' if matches!(text, "false" | "False" | "FALSE") => Resolved::Bool(false),
        b'0'..=b'9' | b'+' | b'-' | b'.' => resolve_number(text).map_or(Resolved::Text, Resolved::Number),
        _ => Resolved::Text,
    }
}

/// A number of the core schema.
pub(super) fn resolve_number(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    // The two languages agree on the form of numbers, except for the words of infinity.
    if text.is_empty() || text.ends_with("nfinity") || text.starts_with(char::is_whitespace) {
        return None;
    }
    let number = parse_number(text);
    (!number.is_nan()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_types() {
        let table = [
            ("", Resolved::Null),
            ("~", Resolved::Null),
            ("NULL", Resolved::Null),
            ("nUll", Resolved::Text),
            ("True", Resolved::Bool(true)),
            ("yes", Resolved::Text),
            ("on", Resolved::Text),
            ("1.10", Resolved::Number(1.1)),
            ("0x1F", Resolved::Number(31.0)),
            ("0o17", Resolved::Number(15.0)),
            ("017", Resolved::Number(17.0)),
            ("-12", Resolved::Number(-12.0)),
            ("1e3", Resolved::Number(1000.0)),
            ("+.inf", Resolved::Number(f64::INFINITY)),
            ("-Infinity", Resolved::Text),
            ("1.2.3", Resolved::Text),
            ("1_000", Resolved::Text),
            ("-", Resolved::Text),
            ("2024-01-01", Resolved::Text),
        ];
        for (text, expected) in table {
            assert_eq!(resolve(text), expected, "{text:?}");
        }
        assert!(matches!(resolve(".nan"), Resolved::Number(number) if number.is_nan()));
    }
}
