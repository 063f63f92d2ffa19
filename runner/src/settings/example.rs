//! What `generate-config` prints, and the table of the reference: both made from [`super::keys`].

use std::fmt::Write;

use super::keys::{KEYS, Key, Kind};

/// A configuration in which every key is explained and stands, commented out, with its default.
pub fn documented_example() -> String {
    let mut text = String::from(
        "# Configuration of esteira. Every key is shown with its default; remove the '#' before those you change.\n\
         # Durations are written like 30s or 1h30m, sizes like 512MB or 10GB.\n",
    );
    let mut sections: Vec<&str> = Vec::new();
    for key in KEYS {
        let parts: Vec<&str> = key.path.split('.').collect();
        let (sections_of_key, name) = parts.split_at(parts.len() - 1);
        let shared = sections.iter().zip(sections_of_key).take_while(|(a, b)| a == b).count();
        sections.truncate(shared);
        for section in &sections_of_key[shared..] {
            let indent = "  ".repeat(sections.len());
            if sections.is_empty() {
                text.push('\n');
            }
            // Nested sections stay commented out: with nothing in them they would be in the way.
            let mark = if sections.is_empty() { "" } else { "# " };
            push(&mut text, format_args!("{indent}{mark}{section}:\n"));
            sections.push(section);
        }
        let indent = "  ".repeat(sections_of_key.len());
        for line in wrapped(&comment_of(key), 100) {
            push(&mut text, format_args!("{indent}# {line}\n"));
        }
        push(&mut text, format_args!("{indent}# {}: {}\n", name[0], shown_default(key)));
    }
    text
}

/// All keys as a Markdown table.
pub fn reference_table() -> String {
    let mut text = String::from("| key | takes | default | what it does |\n|---|---|---|---|\n");
    for key in KEYS {
        let takes = match key.kind {
            Kind::Text => "text".to_owned(),
            Kind::Path => "path".to_owned(),
            Kind::Bool => "true or false".to_owned(),
            Kind::Count(least) => format!("number ≥ {least}"),
            Kind::Duration | Kind::DurationOrOff => "duration".to_owned(),
            Kind::Size => "size".to_owned(),
            Kind::Map => "names and values".to_owned(),
            Kind::List => "list".to_owned(),
            Kind::Choice(words) => words.join(", "),
        };
        let doc = comment_of(key).replace('|', "\\|");
        push(&mut text, format_args!("| `{}` | {takes} | `{}` | {doc} |\n", key.path, shown_default(key)));
    }
    text
}

fn shown_default(key: &Key) -> &'static str {
    if key.default.is_empty() { "null" } else { key.default }
}

fn comment_of(key: &Key) -> String {
    let own = if key.official { "" } else { " (Not in Gitea's own runner.)" };
    format!("{}{own}", key.doc)
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Settings, keys::KEYS, read};
    use super::{documented_example, push, reference_table};

    #[test]
    fn the_example_changes_nothing() {
        let loaded = read(Path::new("example"), &documented_example()).expect("the example is right");
        assert_eq!(loaded.settings, Settings::default());
        assert!(loaded.warnings.is_empty() && loaded.set.is_empty(), "{:?}", loaded.warnings);
    }

    /// The example with its keys brought to life: the defaults in the table are those of the values.
    #[test]
    fn the_defaults_of_the_table_are_those_of_the_values() {
        let mut text = String::new();
        for line in documented_example().lines() {
            let bare = line.trim_start();
            let indent = &line[..line.len() - bare.len()];
            let name = |rest: &str| rest.split(':').next().unwrap_or_default().to_owned();
            match bare.strip_prefix("# ") {
                Some(rest) if rest.contains(':') && is_name(&name(rest)) => {
                    push(&mut text, format_args!("{indent}{rest}\n"));
                }
                Some(_) => {}
                None => push(&mut text, format_args!("{line}\n")),
            }
        }
        let loaded =
            read(Path::new("example"), &text).unwrap_or_else(|complaints| panic!("{complaints:?}\n{text}"));
        assert_eq!(loaded.settings, Settings::default(), "{text}");
        let missing: Vec<_> = KEYS
            .iter()
            .filter(|key| !key.default.is_empty() && !loaded.set.iter().any(|set| set == key.path))
            .map(|key| key.path)
            .collect();
        assert!(missing.is_empty(), "{missing:?}\n{text}");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }

    fn is_name(word: &str) -> bool {
        KEYS.iter().any(|key| key.path.split('.').any(|part| part == word))
    }

    /// Every field of the values is a key and the other way round.
    #[test]
    fn the_reference_in_the_docs_is_this_table() {
        let docs = include_str!("../../docs/config.md");
        let table = reference_table();
        if std::env::var_os("UPDATE").is_some() {
            let (head, _) = docs.split_once("| key |").expect("the docs have a table");
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md"), format!("{head}{table}"))
                .expect("the docs are written");
            return;
        }
        assert!(docs.contains(&table), "run `UPDATE=1 cargo test -p runner --lib settings::example`");
    }
}
