//! What stands behind the flags of `exec`: pairs, images, secrets, files of variables.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use super::{Environ, Refused};
use crate::{label::Placement, secret::Secret};

/// `-self-hosted` is the host, anything else an image.
pub(super) fn placement(image: &str) -> Placement {
    if image == "-self-hosted" { Placement::Host } else { Placement::Docker(image.to_owned()) }
}

pub(super) fn pairs(entries: &[String], flag: &str) -> Result<Vec<(String, String)>, Refused> {
    entries
        .iter()
        .map(|entry| {
            entry
                .split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .ok_or_else(|| Refused(format!("{flag} {entry}: write NAME=VALUE")))
        })
        .collect()
}

/// Secrets by name in upper case: given, from the environment, or asked for.
pub(super) fn secrets(
    entries: &[String],
    environ: &Environ,
) -> Result<Vec<(String, Secret<String>)>, Refused> {
    let mut secrets = Vec::new();
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
        secrets.push((name.to_uppercase(), Secret::new(value)));
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

/// `NAME=VALUE` lines; a file that is not there has none.
pub(super) fn env_file(path: &Path) -> Result<Vec<(String, String)>, Refused> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Refused(format!("{} cannot be read: {error}", path.display()))),
    };
    let mut entries = Vec::new();
    for line in text.lines().map(str::trim) {
        let line = line.strip_prefix("export ").unwrap_or(line);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        let unquoted = ['"', '\'']
            .iter()
            .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
            .unwrap_or(value);
        entries.push((name.trim().to_owned(), unquoted.to_owned()));
    }
    Ok(entries)
}
