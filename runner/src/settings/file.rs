//! `config.yaml`: read, checked key by key with places, and turned into values.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    keys::{self, Key, Kind},
    spans::{self, Entry, Place, Shape},
    units::{parse_duration, parse_size},
    values::Settings,
};

/// A complaint about a file, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// File, line and column from 1; the latter are 0 when it is about the whole file.
    pub file: PathBuf,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
    /// What is wrong, and what to do.
    pub text: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file.display(), self.text)
        } else {
            write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.text)
        }
    }
}

impl std::error::Error for Complaint {}

/// What a file said.
#[derive(Debug)]
pub struct Loaded {
    /// The values, defaults filled in; paths and overlaps not yet resolved.
    pub settings: Settings,
    /// Unknown keys and keys without effect.
    pub warnings: Vec<Complaint>,
    /// Dotted paths that the file sets.
    pub set: Vec<String>,
}

/// Reads `text`, which came from `file`. All errors at once.
pub fn read(file: &Path, text: &str) -> Result<Loaded, Vec<Complaint>> {
    let at = |place: Place, text: String| Complaint {
        file: file.to_owned(),
        line: place.line,
        column: place.column,
        text,
    };
    let entries = spans::entries(text)
        .map_err(|(place, reason)| vec![at(place, format!("this is no YAML: {reason}"))])?;
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let mut set = Vec::new();
    for entry in &entries {
        match check(entry, &entries) {
            Finding::Fine => {}
            Finding::Set(key) => set.push(key.path.to_owned()),
            Finding::Unknown(sentence) => warnings.push(at(entry.key, sentence)),
            Finding::Wrong(sentence) => errors.push(at(entry.value, sentence)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let settings = values(text, &entries).map_err(|error| {
        let place = error.location().map_or(Place { line: 0, column: 0 }, |place| Place {
            line: place.line(),
            column: place.column(),
        });
        vec![at(place, error.to_string())]
    })?;
    Ok(Loaded { settings, warnings, set })
}

fn values(text: &str, entries: &[Entry]) -> Result<Settings, serde_yaml::Error> {
    let mut tree: serde_yaml::Value = serde_yaml::from_str(text)?;
    tree.apply_merge()?;
    for entry in entries {
        if let Shape::Scalar { text, .. } = &entry.shape
            && !entry.is_null()
            && takes_text(entry)
            && let Some(value) = at(&mut tree, &entry.path)
        {
            *value = serde_yaml::Value::String(text.clone());
        }
    }
    without_nulls(&mut tree);
    if tree.is_null() {
        return Ok(Settings::default());
    }
    serde_yaml::from_value(tree)
}

/// Whether a scalar is meant as it is written: `1.10` in `envs` is a text of four characters.
fn takes_text(entry: &Entry) -> bool {
    let parent = entry.path.len().saturating_sub(1);
    let key = keys::find(&entry.dotted()).or_else(|| keys::find(&entry.path[..parent].join(".")));
    key.is_some_and(|key| {
        matches!(key.kind, Kind::Text | Kind::Path | Kind::Map | Kind::List | Kind::Choice(_))
    })
}

fn at<'t>(tree: &'t mut serde_yaml::Value, path: &[String]) -> Option<&'t mut serde_yaml::Value> {
    path.iter().try_fold(tree, |node, part| match node {
        serde_yaml::Value::Sequence(items) => {
            let index = part.trim_start_matches('[').trim_end_matches(']').parse::<usize>().ok()?;
            items.get_mut(index)
        }
        other => other.get_mut(part.as_str()),
    })
}

/// A key with nothing behind it is not set.
fn without_nulls(tree: &mut serde_yaml::Value) {
    if let serde_yaml::Value::Mapping(entries) = tree {
        entries.retain(|_, value| !value.is_null());
        entries.values_mut().for_each(without_nulls);
        // A section in which everything is commented out is not set either; an empty `envs` is the same as none.
        entries.retain(|_, value| !matches!(value, serde_yaml::Value::Mapping(inner) if inner.is_empty()));
    }
}

enum Finding {
    Fine,
    Set(&'static Key),
    Unknown(String),
    Wrong(String),
}

fn check(entry: &Entry, all: &[Entry]) -> Finding {
    let path = entry.dotted();
    if let Some(key) = keys::find(&path) {
        if entry.is_null() {
            return Finding::Fine;
        }
        return misfit(key, entry, all)
            .map_or(Finding::Set(key), |reason| Finding::Wrong(format!("{path}: {reason}")));
    }
    if keys::is_section(&path) {
        return match entry.shape {
            Shape::Map => Finding::Fine,
            _ if entry.is_null() => Finding::Fine,
            _ => Finding::Wrong(format!("{path} is a section: its keys belong below it, indented")),
        };
    }
    // Entries of maps and lists are checked with their key; below an unknown key one complaint is enough.
    let parents = (1..entry.path.len()).rev().map(|length| entry.path[..length].join("."));
    for parent in parents {
        if keys::find(&parent).is_some() {
            return Finding::Fine;
        }
        if !keys::is_section(&parent) {
            return Finding::Fine;
        }
    }
    let hint = keys::nearest(&path).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Finding::Unknown(format!("unknown key {path}{hint}"))
}

/// Why a value does not fit its key.
fn misfit(key: &Key, entry: &Entry, all: &[Entry]) -> Option<String> {
    match (key.kind, &entry.shape) {
        (Kind::List, Shape::List) => inner(entry, all)
            .find(|item| !matches!(item.shape, Shape::Scalar { .. }))
            .map(|item| format!("line {} is no text: the list takes one text per line", item.value.line)),
        (Kind::List, _) => Some("this takes a list: one `- value` per line, or [a, b]".to_owned()),
        (Kind::Map, Shape::Map) => inner(entry, all)
            .find(|item| !matches!(item.shape, Shape::Scalar { .. }))
            .map(|item| format!("{} has to be text", item.dotted())),
        (Kind::Map, _) => Some("this takes NAME: value lines, indented".to_owned()),
        (_, Shape::List) => Some("this takes one value, not a list".to_owned()),
        (_, Shape::Map) => Some("this takes one value, not a section".to_owned()),
        (kind, Shape::Scalar { text, plain }) => scalar_misfit(kind, text, *plain),
    }
}

fn scalar_misfit(kind: Kind, text: &str, plain: bool) -> Option<String> {
    match kind {
        Kind::Bool => {
            let fits = plain && matches!(text, "true" | "false" | "True" | "False" | "TRUE" | "FALSE");
            (!fits).then(|| format!("'{text}' is neither true nor false"))
        }
        Kind::Count(least) => match text.parse::<u64>() {
            Ok(number) if plain && number >= least => None,
            Ok(number) if plain => Some(format!("{number} is too small: at least {least}")),
            _ => Some(format!("'{text}' is no whole number")),
        },
        Kind::Duration => match parse_duration(text) {
            Ok(Some(_)) => None,
            Ok(None) => Some(format!("'{text}' is negative")),
            Err(reason) => Some(reason),
        },
        Kind::DurationOrOff => parse_duration(text).err(),
        Kind::Size => parse_size(text).err(),
        Kind::Choice(words) => {
            (!words.contains(&text)).then(|| format!("'{text}' is none of {}", words.join(", ")))
        }
        Kind::Text | Kind::Path | Kind::Map | Kind::List => None,
    }
}

fn inner<'a>(of: &'a Entry, all: &'a [Entry]) -> impl Iterator<Item = &'a Entry> {
    all.iter().filter(|entry| entry.path.len() == of.path.len() + 1 && entry.path.starts_with(&of.path))
}

/// A value given on the command line for one key: fits or does not.
pub fn check_scalar(key: &Key, text: &str) -> Result<(), String> {
    scalar_misfit(key.kind, text, true).map_or(Ok(()), |reason| Err(format!("{}: {reason}", key.path)))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::{Settings, read};

    fn errors(text: &str) -> Vec<String> {
        let complaints = read(Path::new("config.yaml"), text).expect_err("it is wrong");
        complaints.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_file_and_empty_sections_are_the_defaults() {
        for text in ["", "# nothing\n", "runner:\n  envs:\ncontainer:\n  # network: x\n", "runner: {}\n"] {
            assert_eq!(read(Path::new("c"), text).expect(text).settings, Settings::default(), "{text}");
        }
    }

    #[test]
    fn values_arrive() {
        let text = "runner:\n  capacity: 4\n  timeout: 1h30m\n  envs: {A: 1.10, b: two}\n  labels:\n    - a:host\ncontainer:\n  service_ready_timeout: -1s\n";
        let settings = read(Path::new("c"), text).expect("it is right").settings;
        assert_eq!(settings.runner.capacity, 4);
        assert_eq!(settings.runner.timeout, Duration::from_mins(90));
        assert_eq!(settings.runner.envs.get("A").map(String::as_str), Some("1.10"));
        assert_eq!(settings.runner.labels, ["a:host"]);
        assert_eq!(settings.container.service_ready_timeout, None);
    }

    #[test]
    fn wrong_values_are_all_named_with_their_places() {
        let text = "runner:\n  capacity: 0\n  timeout: soon\n  insecure: yes\n  labels: a\ncache:\n  size_limit: big\nlog: debug\n";
        insta::assert_snapshot!(errors(text).join("\n"), @"
        config.yaml:2:13: runner.capacity: 0 is too small: at least 1
        config.yaml:3:12: runner.timeout: 'soon' is no duration: write it like 30s, 5m or 1h30m
        config.yaml:4:13: runner.insecure: 'yes' is neither true nor false
        config.yaml:5:11: runner.labels: this takes a list: one `- value` per line, or [a, b]
        config.yaml:7:15: cache.size_limit: 'big' is no size: write it like 512MB, 10GB or a number of bytes
        config.yaml:8:6: log is a section: its keys belong below it, indented
        ");
    }

    #[test]
    fn unknown_keys_are_warnings() {
        let text = "runner:\n  capasity: 2\n  patch_actions: true\nnothing:\n  deeper: 1\n";
        let warnings = read(Path::new("config.yaml"), text).expect("it starts").warnings;
        let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(warnings.join("\n"), @"
        config.yaml:2:3: unknown key runner.capasity; did you mean runner.capacity?
        config.yaml:4:1: unknown key nothing
        ");
    }

    #[test]
    fn what_is_no_yaml_is_placed() {
        let said = errors("runner:\n  - a\n capacity: [\n");
        assert!(said[0].contains("this is no YAML"), "{said:?}");
    }
}
