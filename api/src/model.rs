//! The nouns: a task, a valid title, what may be changed, and which part of the list is asked for.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::ApiError;

/// Longest title in characters, after trimming.
pub(crate) const TITLE_LENGTH: usize = 500;
/// Most tasks of one page.
pub(crate) const PAGE_LIMIT: i64 = 1000;

/// A task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Task {
    /// Given by the database, never used again after the task is gone.
    #[schema(minimum = 1)]
    pub(crate) id: i64,
    /// What is to be done.
    #[schema(min_length = 1, max_length = 500)]
    pub(crate) title: String,
    /// Whether it is done.
    pub(crate) done: bool,
}

/// A title that may be stored: trimmed, 1 to 500 characters, no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Title(String);

impl Title {
    /// Checks and trims.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let text = text.trim();
        let fits = (1..=TITLE_LENGTH).contains(&text.chars().count());
        if fits && !text.contains(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ApiError::TitleInvalid)
        }
    }

    /// The text itself.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself, for keeping.
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// What PUT may change; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) title: Option<Title>,
    pub(crate) done: Option<bool>,
}

/// The title of POST's body. An absent or empty one is its own refusal, as the contract has it.
pub(crate) fn parse_new_task(body: &[u8]) -> Result<Title, ApiError> {
    if body.is_empty() {
        return Err(ApiError::TitleRequired);
    }
    match parse_object(body)?.get("title") {
        None => Err(ApiError::TitleRequired),
        Some(Value::String(title)) if title.trim().is_empty() => Err(ApiError::TitleRequired),
        Some(Value::String(title)) => Title::parse(title),
        Some(_) => Err(ApiError::InvalidData),
    }
}

/// What PUT's body changes. Unknown members are ignored.
pub(crate) fn parse_change(body: &[u8]) -> Result<Change, ApiError> {
    let object = parse_object(body)?;
    let title = match object.get("title") {
        None => None,
        Some(Value::String(title)) => Some(Title::parse(title)?),
        Some(_) => return Err(ApiError::InvalidData),
    };
    let done = match object.get("done") {
        None => None,
        Some(Value::Bool(done)) => Some(*done),
        Some(_) => return Err(ApiError::InvalidData),
    };
    Ok(Change { title, done })
}

/// serde_json refuses invalid UTF-8, lone surrogates and nesting deeper than 128, which is all we need it to.
fn parse_object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    serde_json::from_slice(body).map_err(|_| ApiError::InvalidData)
}

/// Which tasks are asked for, in the order of their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListQuery {
    /// Only done, or only open ones.
    pub(crate) done: Option<bool>,
    /// At most this many; `None` is all.
    pub(crate) limit: Option<i64>,
    /// Only ids above this one.
    pub(crate) after: i64,
}

impl ListQuery {
    /// Reads the query part of a URL. Unknown parameters are ignored, repeated known ones refused.
    pub(crate) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut parsed = Self::default();
        let mut seen = [false; 3];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
            let (position, name) = match name.as_ref() {
                "done" => (0, "done"),
                "limit" => (1, "limit"),
                "after" => (2, "after"),
                _ => continue,
            };
            let refuse = || ApiError::InvalidParameter(name);
            if std::mem::replace(&mut seen[position], true) {
                return Err(refuse());
            }
            let value = percent_encoding::percent_decode_str(value).decode_utf8().map_err(|_| refuse())?;
            match name {
                "done" => {
                    parsed.done = Some(match value.as_ref() {
                        "true" => true,
                        "false" => false,
                        _ => return Err(refuse()),
                    });
                }
                "limit" => {
                    let limit = parse_number(&value).filter(|limit| (1..=PAGE_LIMIT).contains(limit));
                    parsed.limit = Some(limit.ok_or_else(refuse)?);
                }
                _ => parsed.after = parse_number(&value).ok_or_else(refuse)?,
            }
        }
        Ok(parsed)
    }
}

/// Decimal digits that fit an id. Signs and spaces are not numbers here.
pub(crate) fn parse_number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_trimmed_counted_in_characters_and_free_of_control_characters() {
        assert_eq!(Title::parse("  a b ").expect("fine").as_str(), "a b");
        assert!(Title::parse(&"é".repeat(500)).is_ok());
        assert!(Title::parse(&"é".repeat(501)).is_err());
        assert!(Title::parse("a\u{0}b").is_err());
        assert!(Title::parse("a\u{85}b").is_err());
        assert!(Title::parse("   ").is_err());
    }

    #[test]
    fn a_new_task_needs_a_title_in_an_object() {
        assert_eq!(parse_new_task(br#"{"title":"x","extra":[1]}"#).expect("fine").as_str(), "x");
        for (body, error) in [
            ("", ApiError::TitleRequired),
            ("{}", ApiError::TitleRequired),
            (r#"{"title":"  "}"#, ApiError::TitleRequired),
            (r#"{"title":null}"#, ApiError::InvalidData),
            (r#"{"title":1}"#, ApiError::InvalidData),
            ("[]", ApiError::InvalidData),
            ("null", ApiError::InvalidData),
            (r#"{"title":"x""#, ApiError::InvalidData),
            (r#"{"title":"\ud800"}"#, ApiError::InvalidData),
            (r#"{"title":"a\u0007"}"#, ApiError::TitleInvalid),
        ] {
            assert_eq!(parse_new_task(body.as_bytes()), Err(error), "{body}");
        }
        let deep = format!("{{\"title\":{}", "[".repeat(60_000));
        assert_eq!(parse_new_task(deep.as_bytes()), Err(ApiError::InvalidData));
        assert_eq!(parse_new_task(b"{\"title\":\"\xff\"}"), Err(ApiError::InvalidData));
    }

    #[test]
    fn a_change_takes_any_of_title_and_done() {
        let change = |body: &str| parse_change(body.as_bytes());
        assert_eq!(change("{}"), Ok(Change { title: None, done: None }));
        assert_eq!(change(r#"{"done":true}"#).expect("fine").done, Some(true));
        assert_eq!(change(r#"{"done":1}"#), Err(ApiError::InvalidData));
        assert_eq!(change(r#"{"title":null}"#), Err(ApiError::InvalidData));
        assert_eq!(change(r#"{"title":""}"#), Err(ApiError::TitleInvalid));
        assert_eq!(change(""), Err(ApiError::InvalidData));
    }

    #[test]
    fn list_queries_are_read_strictly() {
        let all = ListQuery::default();
        assert_eq!(ListQuery::parse(""), Ok(all));
        assert_eq!(ListQuery::parse("&unknown=1&x"), Ok(all));
        assert_eq!(
            ListQuery::parse("done=true&limit=1%30&after=7"),
            Ok(ListQuery { done: Some(true), limit: Some(10), after: 7 })
        );
        for (query, name) in [
            ("done=1", "done"),
            ("done=", "done"),
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=+5", "limit"),
            ("limit=5&limit=5", "limit"),
            ("after=-1", "after"),
            ("after=9223372036854775808", "after"),
            ("after=%ff", "after"),
        ] {
            assert_eq!(ListQuery::parse(query), Err(ApiError::InvalidParameter(name)), "{query}");
        }
    }
}
