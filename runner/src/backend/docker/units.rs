//! Sizes, times and counts as `docker create` writes them.

/// Bytes of `512m`, `1.5GiB`, `1024`.
pub(super) fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("'{text}' is no size such as 512m or 2g");
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let factor: f64 = match lower[number.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1024.0 * 1024.0,
        "g" => 1024.0 * 1024.0 * 1024.0,
        "t" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let value: f64 = number.trim().parse().map_err(|_| wrong())?;
    whole(value * factor).ok_or_else(wrong)
}

/// Billionths of a processor of `1.5`.
pub(super) fn processors(text: &str) -> Result<i64, String> {
    let wrong = || format!("'{text}' is no number of processors such as 1.5");
    let value: f64 = text.trim().parse().map_err(|_| wrong())?;
    whole(value * 1e9).ok_or_else(wrong)
}

/// Nanoseconds of `1m30s`, `500ms`, `10s`.
pub(super) fn nanoseconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("'{text}' is no time such as 10s or 1m30s");
    if text.trim() == "0" {
        return Ok(0);
    }
    let mut rest = text.trim();
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.').ok_or_else(wrong)?;
        let value: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest.find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(wrong()),
        };
        total += value * factor;
        rest = &rest[end..];
    }
    if text.trim().is_empty() { Err(wrong()) } else { whole(total).ok_or_else(wrong) }
}

/// A whole number.
pub(super) fn count(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| format!("'{text}' is no whole number"))
}

#[expect(clippy::cast_possible_truncation, reason = "checked to lie in the range")]
fn whole(value: f64) -> Option<i64> {
    (value.is_finite() && (0.0..9.0e18).contains(&value)).then_some(value.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::{bytes, nanoseconds, processors};

    #[test]
    fn the_engines_own_spelling() {
        assert_eq!(bytes("512m"), Ok(512 << 20));
        assert_eq!(bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(bytes("64"), Ok(64));
        assert_eq!(bytes("2kb"), Ok(2048));
        assert_eq!(processors("0.5"), Ok(500_000_000));
        assert_eq!(nanoseconds("1m30s"), Ok(90_000_000_000));
        assert_eq!(nanoseconds("500ms"), Ok(500_000_000));
    }

    #[test]
    fn anything_else_is_named() {
        assert_eq!(bytes("much"), Err("'much' is no size such as 512m or 2g".to_owned()));
        for text in ["", "5", "5x", "s", "1e400h", "-5s"] {
            assert!(nanoseconds(text).is_err(), "{text}");
        }
        assert!(bytes("-1m").is_err() && bytes("nan").is_err() && bytes("").is_err());
        assert!(processors("inf").is_err());
    }
}
