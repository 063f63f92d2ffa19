//! Looks for secrets in every byte that left a runner: calls, standard streams, files; in every encoding that a
//! workflow's tools may give them.

use aho_corasick::AhoCorasick;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{gitea::FakeGitea, runner::Home};

/// What `encodeURIComponent` leaves alone.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// What RFC 3986 leaves alone.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The same, for paths: the slash stays.
const PATH: &AsciiSet = &STRICT.remove(b'/');

/// Every form of one secret: its name for people, and the bytes to look for.
pub fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let json = serde_json::to_string(secret).expect("text is JSON");
    let mut forms = vec![
        ("plain", secret.to_owned()),
        ("JSON", json[1..json.len() - 1].to_owned()),
        ("percent-encoded", utf8_percent_encode(secret, STRICT).to_string()),
        ("percent-encoded with /", utf8_percent_encode(secret, PATH).to_string()),
        ("encodeURIComponent", utf8_percent_encode(secret, COMPONENT).to_string()),
        ("form-encoded", utf8_percent_encode(secret, STRICT).to_string().replace("%20", "+")),
        ("command-escaped", secret.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")),
    ];
    for offset in 0..3 {
        for (name, engine) in [("base64", STANDARD_NO_PAD), ("base64url", URL_SAFE_NO_PAD)] {
            forms.push((name, inner_base64(&engine, secret.as_bytes(), offset)));
        }
    }
    forms.retain(|(_, form)| !form.is_empty());
    forms
}

/// The characters of a base64 text that depend on the secret alone, when `offset` bytes stand before it and others
/// follow: the first and last group are shared with the neighbours.
fn inner_base64(engine: &impl base64::Engine, secret: &[u8], offset: usize) -> String {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(secret);
    let whole = engine.encode(&bytes);
    let from = (offset * 8).div_ceil(6);
    let to = bytes.len() * 8 / 6;
    whole.get(from..to).unwrap_or_default().to_owned()
}

/// Fails on the first hit of any of `secrets`, in any form, in anything that left: calls to `gitea`, and files of the
/// `home` (which hold the standard streams) that are not named in `except`.
///
/// # Panics
/// On a hit: with the form and the place, never with the secret.
pub fn check(gitea: &FakeGitea, home: &Home, secrets: &[&str], except: &[&str]) {
    let mut hits = Vec::new();
    let needles: Vec<(usize, &str, String)> = secrets
        .iter()
        .enumerate()
        .flat_map(|(number, secret)| forms(secret).into_iter().map(move |(name, form)| (number, name, form)))
        .collect();
    let all = AhoCorasick::new(needles.iter().map(|(_, _, form)| form)).expect("some dozen short needles");
    let mut search = |place: &str, bytes: &[u8]| {
        if let Some(hit) = all.find(bytes) {
            let (number, name, _) = &needles[hit.pattern().as_usize()];
            hits.push(format!("secret {number}, {name}, in {place}"));
        }
    };
    let program = std::fs::read(crate::runner::program()).expect("the program can be read");
    for (number, record) in gitea.state().records.iter().enumerate() {
        search(&format!("call {number} ({})", record.method), &record.bytes);
    }
    for (path, bytes) in home.files() {
        // The agent is a copy of the program; it is not something that a job has written.
        if bytes == program || except.iter().any(|name| path == std::path::Path::new(name)) {
            continue;
        }
        search(&path.display().to_string(), &bytes);
    }
    assert!(hits.is_empty(), "secrets have left the runner:\n{}", hits.join("\n"));
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn a_secret_is_found_inside_of_base64_whatever_stands_around_it() {
        let secret = "hush-hush-hush";
        for before in ["", "a", "ab", "abc"] {
            for after in ["", "x", "xy", "xyz"] {
                let text =
                    base64::engine::general_purpose::STANDARD.encode(format!("{before}{secret}{after}"));
                let found = forms(secret).iter().any(|(name, form)| *name == "base64" && text.contains(form));
                assert!(found, "{before}|{after}: {text}");
            }
        }
    }

    #[test]
    fn a_text_without_the_secret_has_no_hit() {
        let text = "nothing to see: aHVzaA== %20 \"";
        assert!(forms("correct horse battery").iter().all(|(_, form)| !text.contains(form)));
    }
}
