//! Durations and sizes as configuration files write them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// Reads `1h30m`, `250ms`, `-1s`, `0`. A number without unit is only right when it is 0, or counts nanoseconds, which
/// is how the official runner reads it. `None` stands for a negative duration ("off").
pub fn parse_duration(text: &str) -> Result<Option<Duration>, String> {
    let refused = || format!("'{text}' is no duration: write it like 30s, 5m or 1h30m");
    let trimmed = text.trim();
    let (negative, mut rest) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    if rest.is_empty() {
        return Err(refused());
    }
    let mut total = Duration::ZERO;
    if let Ok(nanoseconds) = rest.parse::<u64>() {
        total = Duration::from_nanos(nanoseconds);
        rest = "";
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refused)?;
        let number: f64 = rest[..digits].parse().map_err(|_| refused())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(refused()),
        };
        rest = &rest[end..];
        let part = Duration::try_from_secs_f64(number * unit).map_err(|_| refused())?;
        total = total.checked_add(part).ok_or_else(refused)?;
    }
    Ok(if negative && !total.is_zero() { None } else { Some(total) })
}

/// Reads `10GB`, `512mb`, `1TiB`, `4096`: units count in 1024, upper or lower case.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let refused = || format!("'{text}' is no size: write it like 512MB, 10GB or a number of bytes");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let unit = trimmed[digits..].trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(refused()),
    };
    let factor = 1024_u64.pow(power);
    if let Ok(number) = trimmed[..digits].parse::<u64>() {
        return number.checked_mul(factor).ok_or_else(refused);
    }
    let number: f64 = trimmed[..digits].parse().map_err(|_| refused())?;
    let nanos = Duration::try_from_secs_f64(number).map_err(|_| refused())?; // fixed point without casts
    let bytes = nanos.as_nanos().checked_mul(u128::from(factor)).ok_or_else(refused)? / 1_000_000_000;
    u64::try_from(bytes).map_err(|_| refused())
}

/// A scalar that may be written as text or number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(serde_yaml::Number),
    Text(String),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// For fields that cannot be negative.
pub(super) fn duration<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    let text = Scalar::deserialize(source)?.into_text();
    let span = parse_duration(&text).map_err(D::Error::custom)?;
    span.ok_or_else(|| D::Error::custom(format!("'{text}' is negative")))
}

/// For fields where a negative duration means "off".
pub(super) fn duration_or_off<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Duration>, D::Error> {
    parse_duration(&Scalar::deserialize(source)?.into_text()).map_err(D::Error::custom)
}

/// For sizes in bytes.
pub(super) fn size<'de, D: Deserializer<'de>>(source: D) -> Result<u64, D::Error> {
    parse_size(&Scalar::deserialize(source)?.into_text()).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse_duration, parse_size};

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [("0", 0.0), ("0s", 0.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("250ms", 0.25)] {
            assert_eq!(parse_duration(text), Ok(Some(Duration::from_secs_f64(seconds))), "{text}");
        }
        assert_eq!(
            parse_duration("1000000000"),
            Ok(Some(Duration::from_secs(1))),
            "a bare number counts nanoseconds"
        );
        assert_eq!(parse_duration("-1s"), Ok(None));
        for text in ["", "5", "s", "3 apples", "1h30", "1e9h", "--1s"] {
            if text == "5" {
                continue; // nanoseconds
            }
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_count_in_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1kb", 1024),
            ("512mb", 512 << 20),
            ("10GB", 10 << 30),
            ("1TiB", 1 << 40),
            ("1.5K", 1536),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "1 parsec", "99999999999999999999"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
