//! What stands behind the flags of `exec`: pairs, images, secrets, files of variables.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    path::Path,
};

use super::{Environ, Refused};
use crate::{label::Placement, secret::Secret};

/// `-self-hosted` is the host, anything else an image.
pub(super) fn placement(image: &str) -> Placement {
    if image == "-self-hosted" { Placement::Host } else { Placement::Docker(image.to_owned()) }
}

/// The value of a flag that takes `NAME=VALUE`.
pub(super) fn pair(entry: &str) -> Result<(String, String), String> {
    split(entry, '=').ok_or_else(|| "write NAME=VALUE".to_owned())
}

/// The value of `--matrix`.
pub(super) fn axis(entry: &str) -> Result<(String, String), String> {
    split(entry, ':').ok_or_else(|| "write KEY:VALUE".to_owned())
}

fn split(entry: &str, separator: char) -> Option<(String, String)> {
    let (name, value) = entry.split_once(separator)?;
    Some((name.to_owned(), value.to_owned()))
}

/// The entries of a file, and after them those of the command line, which win.
pub(super) fn with_file(
    path: Option<&Path>,
    given: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, Refused> {
    let mut entries = path.map(file).transpose()?.unwrap_or_default();
    entries.retain(|(name, _)| !given.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
    entries.extend(given);
    Ok(entries)
}

/// Secrets by name in upper case: from a file, given, from the environment, or asked for.
pub(super) fn secrets(
    path: Option<&Path>,
    entries: &[String],
    environ: &Environ,
) -> Result<Vec<(String, Secret<String>)>, Refused> {
    let mut secrets: Vec<(String, Secret<String>)> = path
        .map(file)
        .transpose()?
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_uppercase(), Secret::new(value)))
        .collect();
    for entry in entries {
        let (name, value) = match entry.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match environ.get(entry) {
                Some(value) => (entry.as_str(), value.clone()),
                None if std::io::stdin().is_terminal() => (entry.as_str(), ask(entry)?),
                None => {
                    return Err(Refused(format!(
                        "the secret {entry} has no value: write --secret {entry}=VALUE or set it in the environment"
                    )));
                }
            },
        };
        let name = name.to_uppercase();
        secrets.retain(|(other, _)| *other != name);
        secrets.push((name, Secret::new(value)));
    }
    Ok(secrets)
}

/// Asks for a secret without showing it.
fn ask(name: &str) -> Result<String, Refused> {
    let failed = |error: std::io::Error| Refused(format!("cannot ask for the secret {name}: {error}"));
    write!(std::io::stderr(), "{name}: ").map_err(failed)?;
    let stdin = std::io::stdin();
    let shown = rustix::termios::tcgetattr(&stdin).map_err(|error| failed(error.into()))?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(rustix::termios::LocalModes::ECHO);
    rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Flush, &hidden)
        .map_err(|error| failed(error.into()))?;
    let mut value = String::new();
    let read = stdin.read_line(&mut value);
    let _ = rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Flush, &shown);
    let _ = writeln!(std::io::stderr());
    read.map_err(failed)?;
    Ok(value.trim_end_matches(['\r', '\n']).to_owned())
}

/// The variables of a file: a YAML mapping when its name says so, otherwise lines `NAME=VALUE` and blocks
/// `NAME<<END … END` as in the command files of a step.
pub(super) fn file(path: &Path) -> Result<Vec<(String, String)>, Refused> {
    let refused = |why: String| Refused(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
    if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
        let entries: BTreeMap<String, serde_yaml::Value> = serde_yaml::from_str(&text)
            .map_err(|error| refused(format!("is no mapping of names to values: {error}")))?;
        return entries
            .into_iter()
            .map(|(name, value)| match scalar(&value) {
                Some(value) => Ok((name, value)),
                None => Err(refused(format!("the value of {name} is neither text nor a number"))),
            })
            .collect();
    }
    lines(&text).map_err(refused)
}

/// Like [`file`]; one that is not there has none.
pub(super) fn file_if_there(path: &Path) -> Result<Vec<(String, String)>, Refused> {
    if path.exists() { file(path) } else { Ok(Vec::new()) }
}

fn scalar(value: &serde_yaml::Value) -> Option<String> {
    match value {
        serde_yaml::Value::Null => Some(String::new()),
        serde_yaml::Value::Bool(value) => Some(value.to_string()),
        serde_yaml::Value::Number(value) => Some(value.to_string()),
        serde_yaml::Value::String(value) => Some(value.clone()),
        _ => None,
    }
}

fn lines(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut entries = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let block = line.split_once("<<").filter(|(name, _)| !name.contains('='));
        if let Some((name, end)) = block {
            let mut value = Vec::new();
            loop {
                match lines.next() {
                    Some(line) if line == end => break,
                    Some(line) => value.push(line),
                    None => return Err(format!("the value of {name} has no end: a line '{end}' is missing")),
                }
            }
            entries.push((name.trim().to_owned(), value.join("\n")));
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        entries.push((name.trim().to_owned(), unquoted(value)));
    }
    Ok(entries)
}

/// A value without its quotes; in double ones a backslash begins a line break, a tab or a sign that means something else.
fn unquoted(value: &str) -> String {
    let inside = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(plain) = inside('\'') {
        return plain.to_owned();
    }
    let Some(escaped) = inside('"') else { return value.to_owned() };
    let mut text = String::new();
    let mut chars = escaped.chars();
    while let Some(c) = chars.next() {
        match if c == '\\' {
            chars.next()
        } else {
            text.push(c);
            continue;
        } {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some(sign @ ('"' | '\\' | '$')) => text.push(sign),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{file, lines};

    #[test]
    fn lines_and_blocks_become_variables() {
        let text = "# a comment\nA=1\nexport B = \"two words\"\nC<<END\n one\n\nC=D\nEND\nD='x\\n'\nF=\"a\\nb\\\"\\c\"\nE=a<<b\nnothing\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", " one\n\nC=D"),
            ("D", "x\\n"),
            ("F", "a\nb\"\\c"),
            ("E", "a<<b"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(lines(text).expect("good"), expected);
        assert_eq!(
            lines("A<<END\nx\n"),
            Err("the value of A has no end: a line 'END' is missing".to_owned())
        );
    }

    #[test]
    fn a_yaml_file_is_a_mapping() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secrets.yml");
        std::fs::write(&path, "A: 1\nB: |-\n  one\n  two\n").expect("written");
        let expected =
            [("A", "1"), ("B", "one\ntwo")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(file(&path).map_err(|error| error.to_string()), Ok(expected.to_vec()));
        std::fs::write(&path, "A: [1]\n").expect("written");
        let error = file(&path).expect_err("a list").to_string();
        assert!(error.ends_with("the value of A is neither text nor a number"), "{error}");
    }
}
