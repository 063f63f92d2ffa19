//! Numbers and letters as GitHub's .NET services treat them: parsing and printing of numbers, and the
//! simple upper-casing by which text is compared without case.

use std::borrow::Cow;
use std::cmp::Ordering;

/// Reads a number by the rules for strings in comparisons: trimmed, empty is 0, decimal with sign,
/// point and exponent, `0x` and `0o` within 32 bits, `Infinity`; anything else is NaN.
pub(crate) fn parse_number(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return parse_radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return parse_radix(digits, 8);
    }
    match text {
        "Infinity" | "+Infinity" => return f64::INFINITY,
        "-Infinity" => return f64::NEG_INFINITY,
        _ => {}
    }
    if !is_decimal(text.as_bytes()) {
        return f64::NAN;
    }
    text.parse().unwrap_or(f64::NAN)
}

/// Digits of a 32-bit number; with the top bit set it is negative, as .NET reads `0xFFFFFFFF`.
fn parse_radix(digits: &str, radix: u32) -> f64 {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return f64::NAN;
    }
    u32::from_str_radix(digits, radix).map_or(f64::NAN, |bits| f64::from(bits.cast_signed()))
}

/// Whether the text is sign, digits with at most one point, and an optional exponent.
fn is_decimal(text: &[u8]) -> bool {
    let mut rest = text;
    if let [b'+' | b'-', tail @ ..] = rest {
        rest = tail;
    }
    let whole = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest = &rest[whole..];
    let mut fraction = 0;
    if let [b'.', tail @ ..] = rest {
        fraction = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &tail[fraction..];
    }
    if whole + fraction == 0 {
        return false;
    }
    if let [b'e' | b'E', tail @ ..] = rest {
        rest = match tail {
            [b'+' | b'-', digits @ ..] => digits,
            digits => digits,
        };
        if rest.is_empty() {
            return false;
        }
        rest = &rest[rest.iter().take_while(|byte| byte.is_ascii_digit()).count()..];
    }
    rest.is_empty()
}

/// Prints a number as .NET's `G15` format: at most 15 significant digits, exponent form below 1e-4
/// and from 1e15.
pub(crate) fn format_number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    let scientific = format!("{value:.14e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    if (-5..15).contains(&exponent) && exponent >= -4 {
        return format!("{sign}{}", place_point(digits, exponent));
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}E{exponent_sign}{:02}", exponent.unsigned_abs())
}

/// Significant digits and a decimal exponent as plain notation.
fn place_point(digits: &str, exponent: i32) -> String {
    if exponent < 0 {
        return format!("0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
    }
    let whole = exponent.unsigned_abs() as usize + 1;
    if digits.len() <= whole {
        return format!("{digits}{}", "0".repeat(whole - digits.len()));
    }
    format!("{}.{}", &digits[..whole], &digits[whole..])
}

/// Simple upper case of one character, independent of language; characters whose upper case is longer
/// than one character, and the two that .NET leaves alone, stay.
pub(crate) fn upper(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let code = u32::from(c);
    match code {
        // Dotless i and long s map to themselves in the invariant culture.
        0x131 | 0x17F => return c,
        // Greek letters with iota subscript: the simple mapping is the title-case letter.
        0x1F80..=0x1FAF => return char::from_u32(code | 8).unwrap_or(c),
        0x1FB3 | 0x1FC3 | 0x1FF3 => return char::from_u32(code + 9).unwrap_or(c),
        // Outside the basic plane .NET sees two surrogates, which have no case.
        0x1_0000.. => return c,
        _ => {}
    }
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(single), None) if u32::from(single) < 0x1_0000 => single,
        _ => c,
    }
}

/// The key under which text that differs only in case is the same.
pub(crate) fn fold(text: &str) -> String {
    text.chars().map(upper).collect()
}

/// The same as [`fold`] where text without lower-case letters is not copied.
pub(crate) fn fold_cow(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_lowercase() || !byte.is_ascii()) {
        Cow::Owned(fold(text))
    } else {
        Cow::Borrowed(text)
    }
}

/// Equality without case.
pub(crate) fn equals_ignore_case(left: &str, right: &str) -> bool {
    // A letter of ASCII is the same only as itself in the other case, so most words differ at once.
    if let (Some(a), Some(b)) = (left.as_bytes().first(), right.as_bytes().first())
        && a.is_ascii()
        && b.is_ascii()
        && !a.eq_ignore_ascii_case(b)
    {
        return false;
    }
    if left.len() == right.len() && left.eq_ignore_ascii_case(right) {
        return true;
    }
    if left.is_ascii() && right.is_ascii() {
        return false;
    }
    left.chars().map(upper).eq(right.chars().map(upper))
}

/// Order of upper-cased UTF-16 code units.
pub(crate) fn compare_ignore_case(left: &str, right: &str) -> Ordering {
    let units = |text: &str| -> Vec<u16> {
        let mut units = Vec::with_capacity(text.len());
        let mut buffer = [0; 2];
        for c in text.chars() {
            units.extend_from_slice(upper(c).encode_utf16(&mut buffer));
        }
        units
    };
    if left.is_ascii() && right.is_ascii() {
        let upper = |byte: u8| byte.to_ascii_uppercase();
        return left.bytes().map(upper).cmp(right.bytes().map(upper));
    }
    units(left).cmp(&units(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_with_fifteen_digits() {
        let table = [
            (0.1 + 0.2, "0.3"),
            (-0.0, "0"),
            (1e15, "1E+15"),
            (999_999_999_999_999.0, "999999999999999"),
            (0.0001, "0.0001"),
            (0.00001, "1E-05"),
            (-1234.5, "-1234.5"),
            (1.5e-10, "1.5E-10"),
            (1e21, "1E+21"),
            (1.234_567_890_123_456_7, "1.23456789012346"),
            (123_456_789_012_345_680.0, "1.23456789012346E+17"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (0.000_999_999_999_999_999_9, "0.001"),
        ];
        for (number, expected) in table {
            assert_eq!(format_number(number), expected);
        }
    }

    #[test]
    fn strings_are_read_as_numbers() {
        let table = [
            ("", 0.0),
            (" \t12 ", 12.0),
            ("+.5", 0.5),
            ("1.", 1.0),
            ("1e3", 1000.0),
            ("0xff", 255.0),
            ("0xFFFFFFFF", -1.0),
            ("0o17", 15.0),
            ("-Infinity", f64::NEG_INFINITY),
        ];
        for (text, expected) in table {
            assert!(parse_number(text).total_cmp(&expected).is_eq(), "{text:?}");
        }
        for text in ["abc", "1e", ".", "-0xFF", "0x1FFFFFFFF", "0x", "0o8", "inf", "nan", "1_000", "1 2"] {
            assert!(parse_number(text).is_nan(), "{text:?}");
        }
    }

    #[test]
    fn case_is_ignored_as_by_simple_upper_casing() {
        assert!(equals_ignore_case("ÄbC", "äBc"));
        assert!(equals_ignore_case("ς", "Σ"));
        assert!(!equals_ignore_case("ı", "I"));
        assert!(!equals_ignore_case("ſ", "S"));
        assert!(!equals_ignore_case("İ", "i"));
        assert!(!equals_ignore_case("ß", "SS"));
        assert!(equals_ignore_case("ᾀ", "ᾈ"));
        assert_eq!(compare_ignore_case("a", "["), Ordering::Less);
        assert_eq!(compare_ignore_case("é", "Z"), Ordering::Greater);
        assert_eq!(fold_cow("ABC-1"), Cow::Borrowed("ABC-1"));
    }
}
