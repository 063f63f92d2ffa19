//! Changing one key of a configuration's text and nothing else: comments, order and line ends stay.

use super::{
    file::check_scalar,
    keys::{Key, Kind},
    spans::{self, Entry, Shape},
};

/// What to do with a key.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Give it this value; a list gets all of them.
    Set(&'a [String]),
    /// Put these at the end of its list.
    Add(&'a [String]),
    /// Take these out of its list.
    Remove(&'a [String]),
}

/// The changed text, or one sentence why not.
pub fn edit(text: &str, key: &Key, change: Change<'_>) -> Result<String, String> {
    let entries = spans::entries(text)
        .map_err(|(place, reason)| format!("line {}: this is no YAML: {reason}", place.line))?;
    let entry = entries.iter().find(|entry| entry.dotted() == key.path);
    let is_list = key.kind == Kind::List;
    if key.kind == Kind::Map {
        return Err(format!("{} holds names and values: change it with an editor", key.path));
    }
    if !is_list {
        return match change {
            Change::Set([value]) => {
                check_scalar(key, value)?;
                Ok(set_scalar(text, &entries, entry, key, &scalar(value, key.kind)))
            }
            Change::Set(_) => Err(format!("{} takes one value", key.path)),
            Change::Add(_) | Change::Remove(_) => Err(format!("{} is no list", key.path)),
        };
    }
    let items: Vec<&Entry> = entry.map(|entry| items_of(entry, &entries)).unwrap_or_default();
    let values: Vec<String> = items.iter().filter_map(|item| text_of(item)).collect();
    match change {
        Change::Set(wanted) => Ok(set_list(text, &entries, entry, &items, key, wanted)),
        Change::Add(new) => {
            if let Some(twice) = new.iter().find(|value| values.contains(value)) {
                return Err(format!("{} has '{twice}' already", key.path));
            }
            let all: Vec<String> = values.iter().chain(new).cloned().collect();
            match items.last() {
                Some(last) if is_block(text, last) => Ok(insert_items(text, last, new)),
                _ => Ok(set_list(text, &entries, entry, &items, key, &all)),
            }
        }
        Change::Remove(old) => {
            if let Some(missing) = old.iter().find(|value| !values.contains(value)) {
                return Err(format!("{} has no '{missing}'", key.path));
            }
            let left: Vec<String> = values.iter().filter(|value| !old.contains(value)).cloned().collect();
            if left.is_empty() || !items.iter().all(|item| is_block(text, item)) {
                return Ok(set_list(text, &entries, entry, &items, key, &left));
            }
            let gone: Vec<usize> = items
                .iter()
                .filter(|item| text_of(item).is_some_and(|value| old.contains(&value)))
                .map(|item| item.value.line)
                .collect();
            Ok(without_lines(text, |number| gone.contains(&number)))
        }
    }
}

fn items_of<'e>(list: &Entry, entries: &'e [Entry]) -> Vec<&'e Entry> {
    entries
        .iter()
        .filter(|entry| entry.path.len() == list.path.len() + 1 && entry.path.starts_with(&list.path))
        .collect()
}

fn text_of(entry: &Entry) -> Option<String> {
    match &entry.shape {
        Shape::Scalar { text, .. } => Some(text.clone()),
        Shape::List | Shape::Map => None,
    }
}

/// Text as YAML writes it: quoted where it could be taken for something else.
fn scalar(value: &str, kind: Kind) -> String {
    let typed =
        matches!(kind, Kind::Bool | Kind::Count(_) | Kind::Duration | Kind::DurationOrOff | Kind::Size);
    let harmless = value.chars().all(|c| c.is_ascii_alphanumeric() || "._/-:@+".contains(c))
        && value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '.')
        && !value.ends_with(':')
        && !matches!(
            value.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off"
        );
    if typed || harmless { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn set_scalar(text: &str, entries: &[Entry], entry: Option<&Entry>, key: &Key, value: &str) -> String {
    match entry {
        Some(entry) if !entry.range.is_empty() => {
            format!("{}{value}{}", &text[..entry.range.start], &text[entry.range.end..])
        }
        // `key:` with nothing behind it: the line is written anew up to a comment.
        Some(entry) => {
            let mut lines = lines(text);
            let line = &mut lines[entry.key.line - 1];
            if let Some(colon) = line.find(':') {
                line.insert_str(colon + 1, &format!(" {value}"));
            }
            lines.concat()
        }
        None => insert_key(text, entries, key, &format!(" {value}"), &[]),
    }
}

fn set_list(
    text: &str,
    entries: &[Entry],
    entry: Option<&Entry>,
    items: &[&Entry],
    key: &Key,
    values: &[String],
) -> String {
    let (head, body): (&str, Vec<String>) = if values.is_empty() {
        (" []", Vec::new())
    } else {
        ("", values.iter().map(|value| format!("- {}", scalar(value, Kind::Text))).collect())
    };
    let Some(entry) = entry else { return insert_key(text, entries, key, head, &body) };
    let first = entry.key.line;
    let last = items.iter().map(|item| item.value.line).max().unwrap_or(first).max(entry.value.line);
    let mut lines = lines(text);
    let indent = " ".repeat(entry.key.column - 1);
    let name = entry.path.last().map(String::as_str).unwrap_or_default();
    let end = line_end(text);
    let mut new = vec![format!("{indent}{name}:{head}{end}")];
    new.extend(body.iter().map(|item| format!("{indent}  {item}{end}")));
    lines.splice(first - 1..last, new);
    lines.concat()
}

/// Whether an item stands on a line of its own, behind its dash.
fn is_block(text: &str, item: &Entry) -> bool {
    let line = text.lines().nth(item.value.line - 1).unwrap_or_default();
    line.trim_start().starts_with("- ")
}

fn insert_items(text: &str, after: &Entry, values: &[String]) -> String {
    let mut lines = lines(text);
    let at = after.value.line - 1;
    let indent: String = lines[at].chars().take_while(|c| c.is_whitespace()).collect();
    let end = line_end(text);
    if !lines[at].ends_with('\n') {
        lines[at].push_str(end);
    }
    let new = values.iter().map(|value| format!("{indent}- {}{end}", scalar(value, Kind::Text)));
    lines.splice(at + 1..=at, new.collect::<Vec<_>>());
    lines.concat()
}

/// A key that is not there yet: below its deepest section that is, else at the end.
fn insert_key(text: &str, entries: &[Entry], key: &Key, head: &str, body: &[String]) -> String {
    let parts: Vec<&str> = key.path.split('.').collect();
    let end = line_end(text);
    let mut lines = lines(text);
    let section = (1..parts.len()).rev().find_map(|depth| {
        let path = parts[..depth].join(".");
        let found = entries.iter().find(|entry| entry.dotted() == path)?;
        (found.shape == Shape::Map || found.is_null()).then_some((depth, found))
    });
    let (depth, at, indent) = match section {
        Some((depth, section)) => {
            let child = entries.iter().find(|entry| {
                entry.path.len() == depth + 1
                    && entry.path.starts_with(&section.path)
                    && entry.key.line > section.key.line
            });
            let column = child.map_or(section.key.column + 2, |child| child.key.column);
            (depth, section.key.line, column - 1)
        }
        None => (0, lines.len(), 0),
    };
    if let Some(last) = at.checked_sub(1).and_then(|index| lines.get_mut(index))
        && !last.ends_with('\n')
    {
        last.push_str(end);
    }
    let mut new = Vec::new();
    for (level, part) in parts[depth..].iter().enumerate() {
        let is_last = depth + level + 1 == parts.len();
        let value = if is_last { head } else { "" };
        new.push(format!("{}{part}:{value}{end}", " ".repeat(indent + 2 * level)));
    }
    let inner = " ".repeat(indent + 2 * (parts.len() - depth));
    new.extend(body.iter().map(|item| format!("{inner}{item}{end}")));
    lines.splice(at..at, new);
    lines.concat()
}

fn without_lines(text: &str, gone: impl Fn(usize) -> bool) -> String {
    lines(text).into_iter().enumerate().filter(|(index, _)| !gone(index + 1)).map(|(_, line)| line).collect()
}

/// Lines with their ends.
fn lines(text: &str) -> Vec<String> {
    text.split_inclusive('\n').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Change, edit};
    use crate::settings::{documented_example, keys, read};

    const TEXT: &str = "# mine\nlog:\n  level: info # quiet\nrunner:\n  # how many\n  capacity: 1\n  labels:\n    - a:host # first\n    - b:host\n  insecure:\n";

    fn changed(text: &str, key: &str, change: Change<'_>) -> String {
        let changed =
            edit(text, keys::find(key).expect(key), change).unwrap_or_else(|error| panic!("{error}"));
        read(Path::new("c"), &changed).unwrap_or_else(|errors| panic!("{errors:?}\n{changed}"));
        changed
    }

    fn list(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn a_value_changes_and_its_comment_stays() {
        let text = changed(TEXT, "log.level", Change::Set(&list(&["debug"])));
        assert_eq!(text, TEXT.replace("level: info # quiet", "level: debug # quiet"));
        let text = changed(TEXT, "runner.insecure", Change::Set(&list(&["true"])));
        assert_eq!(text, TEXT.replace("insecure:", "insecure: true"));
        let windows = TEXT.replace('\n', "\r\n");
        let text = changed(&windows, "runner.capacity", Change::Set(&list(&["4"])));
        assert_eq!(text, windows.replace("capacity: 1", "capacity: 4"));
    }

    #[test]
    fn a_new_key_goes_into_its_section_or_makes_one() {
        let text = changed(TEXT, "log.format", Change::Set(&list(&["json"])));
        assert!(text.contains("log:\n  format: json\n  level: info # quiet\n"), "{text}");
        let text =
            changed(TEXT, "container.network_create_options.enable_ipv6", Change::Set(&list(&["true"])));
        assert!(text.ends_with("container:\n  network_create_options:\n    enable_ipv6: true\n"), "{text}");
        let text = changed("log: {}", "runner.labels", Change::Add(&list(&["a:host"])));
        assert_eq!(text, "log: {}\nrunner:\n  labels:\n    - a:host\n");
        let text = changed(&documented_example(), "runner.capacity", Change::Set(&list(&["3"])));
        assert_eq!(read(Path::new("c"), &text).expect("right").settings.runner.capacity, 3);
    }

    #[test]
    fn lists_grow_and_shrink() {
        let text = changed(TEXT, "runner.labels", Change::Add(&list(&["c:docker://x:1"])));
        assert_eq!(text, TEXT.replace("    - b:host\n", "    - b:host\n    - c:docker://x:1\n"));
        let text = changed(TEXT, "runner.labels", Change::Remove(&list(&["a:host"])));
        assert_eq!(text, TEXT.replace("    - a:host # first\n", ""));
        let text = changed(TEXT, "runner.labels", Change::Remove(&list(&["a:host", "b:host"])));
        assert!(text.contains("  labels: []\n  insecure:\n"), "{text}");
        let flow = "runner:\n  labels: [a:host, b:host]\n  capacity: 1\n";
        let text = changed(flow, "runner.labels", Change::Add(&list(&["*"])));
        assert_eq!(text, "runner:\n  labels:\n    - a:host\n    - b:host\n    - \"*\"\n  capacity: 1\n");
        let text = changed(TEXT, "runner.labels", Change::Set(&list(&["z:host"])));
        assert!(text.contains("  labels:\n    - z:host\n  insecure:\n"), "{text}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused =
            |key: &str, change: Change<'_>| edit(TEXT, keys::find(key).expect(key), change).expect_err(key);
        assert!(refused("runner.capacity", Change::Set(&list(&["many"]))).contains("whole number"));
        assert!(refused("runner.capacity", Change::Add(&list(&["1"]))).contains("no list"));
        assert!(refused("runner.labels", Change::Add(&list(&["a:host"]))).contains("already"));
        assert!(refused("runner.labels", Change::Remove(&list(&["x"]))).contains("has no 'x'"));
        assert!(refused("runner.envs", Change::Set(&list(&["A=1"]))).contains("editor"));
    }
}
