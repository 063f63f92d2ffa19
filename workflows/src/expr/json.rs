//! `toJSON` and `fromJSON`: GitHub's layout and escapes one way, a strict reader the other.

use std::fmt::Write as _;

use super::text;
use super::value::Value;

/// Indented by two spaces, keys in insertion order, only the escapes that JSON demands plus the three
/// line separators of Unicode.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, 0, &mut out);
    out
}

fn write_value(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::String(text) => write_text(text, out),
        Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_shared_text()),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Object(object) if object.is_empty() => out.push_str("{}"),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                break_line(at, depth + 1, out);
                write_value(item, depth + 1, out);
            }
            break_line(0, depth, out);
            out.push(']');
        }
        Value::Object(object) => {
            out.push('{');
            for (at, (key, item)) in object.iter().enumerate() {
                break_line(at, depth + 1, out);
                write_text(key, out);
                out.push_str(": ");
                write_value(item, depth + 1, out);
            }
            break_line(0, depth, out);
            out.push('}');
        }
    }
}

fn break_line(at: usize, depth: usize, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{0}'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// A JSON document as a value; the error says where it stops being one.
pub(crate) fn read(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("Error parsing fromJson: the text is empty, expected a JSON document".to_owned());
    }
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => Ok(Value::from_json(&json)),
        Err(error) => {
            // Numbers beyond JSON's grammar that the service reads as well.
            let number = text::parse_number(text);
            if matches!(text.trim(), "NaN" | "Infinity" | "-Infinity") {
                return Ok(Value::Number(number));
            }
            Err(format!("Error parsing fromJson: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_laid_out_as_on_github() {
        let value = read(r#"{"b":"<&>","a":[1,[],{"x":null}]}"#).expect("valid");
        let expected =
            "{\n  \"b\": \"<&>\",\n  \"a\": [\n    1,\n    [],\n    {\n      \"x\": null\n    }\n  ]\n}";
        assert_eq!(write(&value), expected);
    }

    #[test]
    fn only_what_must_be_escaped_is() {
        let value = Value::from("a\"\\\n\r\t\u{8}\u{c}\u{1}\u{2028}é/");
        assert_eq!(write(&value), "\"a\\\"\\\\\\n\\r\\t\\b\\f\\u0001\\u2028é/\"");
    }

    #[test]
    fn wrong_documents_say_where() {
        assert!(read("").expect_err("empty").contains("empty"));
        assert!(read("{").expect_err("open").contains("line 1 column 1"));
        assert_eq!(read("-0").map(|value| value.to_text()), Ok("0".to_owned()));
        assert_eq!(read("Infinity"), Ok(Value::Number(f64::INFINITY)));
        assert!(read(&"[".repeat(100_000)).is_err());
    }
}
