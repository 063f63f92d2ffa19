//! Every form in which a secret may appear in a log: the union of what GitHub's and Gitea's runners look for.
//!
//! Pure text to text. A value counts whole and line by line, because rows hold one line each; each of these counts
//! plain and in all encodings. The same form may come out twice.

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

/// The shortest fragment of base64 in the middle of other data that is looked for: three bytes of the secret.
const SHORTEST_FRAGMENT: usize = 4;

/// The shortest part of a value around `&` that PowerShell's error messages are searched for.
const SHORTEST_PART: usize = 6;

/// All needles for `value`; never an empty one.
pub(super) fn of(value: &str) -> Vec<String> {
    let mut all = Vec::new();
    let trimmed = value.trim();
    forms(value, &mut all);
    if trimmed.len() != value.len() {
        forms(trimmed, &mut all);
    }
    if trimmed.contains(['\n', '\r']) {
        for line in trimmed.split(['\n', '\r']) {
            forms(line.trim(), &mut all);
        }
        // A text file with other line ends is the same secret.
        forms(&trimmed.replace("\r\n", "\n"), &mut all);
    }
    all.retain(|needle| !needle.is_empty());
    all.sort_unstable();
    all.dedup();
    all
}

fn forms(value: &str, all: &mut Vec<String>) {
    if value.is_empty() {
        return;
    }
    all.push(value.to_owned());
    base64(value.as_bytes(), all);
    json(value, all);
    percent(value, all);
    commands(value, all);
    markup(value, all);
    shells(value, all);
    if value.len() > 8
        && let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
    {
        all.push(inner.to_owned());
    }
}

/// Base64 of the value alone and inside other data, where it may begin at any of three alignments.
fn base64(value: &[u8], all: &mut Vec<String>) {
    let config = GeneralPurposeConfig::new();
    for alphabet in [&STANDARD, &URL_SAFE] {
        let engine = GeneralPurpose::new(alphabet, config);
        let whole = engine.encode(value);
        wrapped(&whole, all);
        let bare = whole.trim_end_matches('=').to_owned();
        all.push(whole);
        if bare.len() >= SHORTEST_FRAGMENT {
            all.push(bare);
        }
        for shift in 0..3_usize {
            let mut padded = vec![0; shift];
            padded.extend_from_slice(value);
            let text = engine.encode(&padded);
            // Characters that hold bits of what stands before; and those that may hold bits of what stands after.
            let first = (shift * 8).div_ceil(6);
            let sure = padded.len() * 8 / 6;
            if sure >= first + SHORTEST_FRAGMENT {
                all.push(text[first..sure].to_owned());
                // The same at the end of the data: the last character is known too, then padding.
                all.push(text[first..].trim_end_matches('=').to_owned());
                all.push(text[first..].to_owned());
            }
        }
        // A value that is cut at its front, as GitHub looks for it.
        for cut in 1..=2 {
            if value.len() > cut + 2 {
                all.push(engine.encode(&value[cut..]));
            }
        }
    }
}

/// Tools break long base64 into rows: 76 columns in mail and coreutils, 64 in PEM.
fn wrapped(whole: &str, all: &mut Vec<String>) {
    for columns in [64, 76] {
        if whole.len() > columns {
            all.extend(
                whole
                    .as_bytes()
                    .chunks(columns)
                    .filter(|row| row.len() >= 8)
                    .map(|row| String::from_utf8_lossy(row).into_owned()),
            );
        }
    }
}

/// Inside a JSON string, as the common writers put it.
fn json(value: &str, all: &mut Vec<String>) {
    let Ok(quoted) = serde_json::to_string(value) else { return };
    let plain = &quoted[1..quoted.len() - 1];
    all.push(plain.to_owned());
    all.push(plain.replace('/', "\\/"));
    for upper in [false, true] {
        let code = |unit: u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
        // Go's and .NET's default, that is safe inside HTML; and the one that is pure ASCII.
        let html = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{85}');
        let strict = |c: char| html(c) || matches!(c, '\'' | '+' | '`') || !c.is_ascii();
        let ascii = |c: char| !c.is_ascii();
        for escaped in [&html as &dyn Fn(char) -> bool, &strict, &ascii] {
            let mut text = String::with_capacity(plain.len());
            for c in plain.chars() {
                if escaped(c) {
                    text.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| code(*unit)));
                } else {
                    text.push(c);
                }
            }
            all.push(text);
        }
    }
    let quotes_as_codes = plain.replace("\\\"", "\\u0022");
    all.push(quotes_as_codes);
}

/// Inside a URL. Writers differ in what they keep, in how they write a space and in the case of the digits.
fn percent(value: &str, all: &mut Vec<String>) {
    const KEPT: [&str; 10] = [
        "-_.~",                 // RFC 3986, query escape of Go
        "-_.~/",                // a whole path, Python's quote
        "-_.",                  // forms of older writers
        "-_.!~*'()",            // encodeURIComponent
        "-_.!*()",              // .NET
        "-_.*",                 // HTML forms, Java
        "-_.!~*'();,/?:@&=+$#", // encodeURI
        "-_.~$&+=:@",           // one segment of a path in Go
        "-_.~$&+=:@/,;",        // a whole path in Go
        "-_.~$&+,;=",           // user and password in Go
    ];
    for kept in KEPT {
        for lower in [false, true] {
            let text = percent_encode(value, kept, lower);
            if text.contains("%20") {
                all.push(text.replace("%20", "+"));
            }
            all.push(text);
        }
    }
}

fn percent_encode(value: &str, kept: &str, lower: bool) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            text.push(char::from(byte));
        } else if lower {
            // Writing into a String cannot fail.
            let _ = write!(text, "%{byte:02x}");
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Inside a workflow command: data, a property, and the bracket form.
fn commands(value: &str, all: &mut Vec<String>) {
    let data = value.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    all.push(data.replace(':', "%3A").replace(',', "%2C"));
    all.push(data.replace(';', "%3B").replace(']', "%5D"));
    all.push(data);
}

/// Inside XML and HTML.
fn markup(value: &str, all: &mut Vec<String>) {
    let text = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    for quote in ["&quot;", "&#34;", "\""] {
        for apostrophe in ["&apos;", "&#39;", "&#x27;", "'"] {
            all.push(text.replace('"', quote).replace('\'', apostrophe));
        }
    }
}

/// Quoted for a command line, an expression, or by a shell that shows what it runs.
fn shells(value: &str, all: &mut Vec<String>) {
    all.push(value.replace('"', "\\\""));
    all.push(value.replace('\'', "''"));
    all.push(value.replace('\'', "'\\''"));
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"_-./:=@%^+,".contains(c) && !c.is_ascii_control() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    all.push(escaped);
    // PowerShell colours its error messages around `&`, which tears the value into two.
    if value.contains('&') {
        let cut = value.find("&+").map_or_else(|| value.rfind('&').map_or(0, |at| at + 1), |at| at + 2);
        let (before, after) = value.split_at(cut);
        for part in [before, after] {
            if part.len() >= SHORTEST_PART {
                all.push(part.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose as engines};
    use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use crate::log::Masker;

    const PATH: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    const QUERY: &AsciiSet = &PATH.add(b'/');
    const URI: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'%')
        .add(b'<')
        .add(b'>')
        .add(b'\\')
        .add(b'^')
        .add(b'`')
        .add(b'{')
        .add(b'|')
        .add(b'}')
        .add(b'[')
        .add(b']');

    fn masker(value: &str) -> Masker {
        let masker = Masker::new();
        masker.add(value);
        masker
    }

    #[test]
    fn a_value_of_many_lines_is_masked_whole_by_line_and_in_a_command() {
        let masker = masker("-----BEGIN KEY-----\r\n  c2VjcmV0\r\n\r\n-----END KEY-----\n");
        for row in ["-----BEGIN KEY-----", "c2VjcmV0", "-----END KEY-----", "a c2VjcmV0 b"] {
            assert!(masker.would_mask(row), "{row}");
        }
        assert_eq!(
            masker.mask("-----BEGIN KEY-----%0D%0A  c2VjcmV0%0D%0A%0D%0A-----END KEY-----").as_str(),
            "***"
        );
        assert_eq!(masker.mask("-----BEGIN KEY-----\n  c2VjcmV0\n\n-----END KEY-----").as_str(), "***");
    }

    #[test]
    fn the_url_form_that_keeps_slashes() {
        let masker = masker("pa/ss wö:rd");
        assert_eq!(masker.mask("https://host/pa/ss%20w%C3%B6%3Ard/x").as_str(), "https://host/***/x");
        assert_eq!(masker.mask("?q=pa%2fss+w%c3%b6%3ard").as_str(), "?q=***");
    }

    #[test]
    fn base64_over_several_rows() {
        let value = "0123456789abcdefghijklmnopqrstuvwxyz".repeat(4);
        let masker = masker(&value);
        let text = engines::STANDARD.encode(&value);
        for columns in [64, 76] {
            for row in text.as_bytes().chunks(columns) {
                assert_eq!(masker.mask(&String::from_utf8_lossy(row)).as_str(), "***");
            }
        }
    }

    #[test]
    fn both_sides_of_an_ampersand_in_powershell() {
        let masker = masker("longpart&otherpart");
        assert_eq!(masker.mask("x longpart& y").as_str(), "x *** y");
        assert_eq!(masker.mask("x otherpart y").as_str(), "x *** y");
    }

    #[test]
    fn quotes_around_a_value_do_not_matter() {
        assert_eq!(masker("\"quoted-value\"").mask("a quoted-value b").as_str(), "a *** b");
    }

    fn encodings(value: &str) -> Vec<String> {
        let json = serde_json::to_string(value).expect("a string is JSON");
        let mut all = vec![
            value.to_owned(),
            json[1..json.len() - 1].to_owned(),
            json[1..json.len() - 1].replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
            utf8_percent_encode(value, PATH).to_string(),
            utf8_percent_encode(value, QUERY).to_string(),
            utf8_percent_encode(value, QUERY).to_string().replace("%20", "+"),
            utf8_percent_encode(value, URI).to_string(),
            value.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A"),
            value.replace('\'', "''"),
            value.replace('"', "\\\""),
        ];
        for engine in
            [&engines::STANDARD, &engines::STANDARD_NO_PAD, &engines::URL_SAFE, &engines::URL_SAFE_NO_PAD]
        {
            all.push(engine.encode(value));
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// In whatever form a secret is printed, nothing of the form is left.
        #[test]
        fn every_encoding_is_masked(value in r"[ -~é€]{3,24}") {
            prop_assume!(!value.trim().is_empty());
            let masker = masker(&value);
            for form in encodings(&value) {
                let masked = masker.mask(&format!("\n{form}\n"));
                prop_assert_eq!(masked.as_str(), "\n***\n", "form {}", form);
            }
        }

        /// In the middle of other data, at each alignment, at most the characters that share bits with it are left.
        #[test]
        fn base64_is_masked_at_every_alignment(value in "[!-~]{5,24}", before in 0usize..7, after in 0usize..4) {
            let masker = masker(&value);
            let text = engines::STANDARD.encode(format!("{}{value}{}", "\u{1}".repeat(before), "\u{1}".repeat(after)));
            let masked = masker.mask(&text).into_string();
            prop_assert!(masked.contains("***"), "{} in {}", masked, text);
            let first = (before * 8).div_ceil(6);
            let sure = (before + value.len()) * 8 / 6;
            let secret = &text[first..sure];
            prop_assert!(!masked.contains(secret));
            prop_assert!(masked.len() <= text.len() - secret.len() + 3);
        }
    }
}
