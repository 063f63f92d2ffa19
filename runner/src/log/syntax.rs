//! The grammar of workflow commands: `::name key=value,…::data` and the older `##[name key=value;…]data`.

/// A command that is known by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Lower case.
    pub(super) name: &'static str,
    /// In the order of the line; names are lower case.
    pub(super) properties: Vec<(String, String)>,
    /// Unescaped.
    pub(super) data: String,
}

impl Command {
    /// The value of a property; empty when it is missing.
    pub(super) fn property(&self, name: &str) -> &str {
        self.properties.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// All command names.
pub(super) const NAMES: [&str; 15] = [
    "set-output",
    "save-state",
    "set-env",
    "add-path",
    "add-mask",
    "debug",
    "notice",
    "warning",
    "error",
    "group",
    "endgroup",
    "echo",
    "stop-commands",
    "add-matcher",
    "remove-matcher",
];

/// The command in `line`, if there is one.
pub(super) fn parse(line: &str) -> Option<Command> {
    modern(line).or_else(|| legacy(line))
}

/// The word between the colons when `line` is `::word::…`, which is how commands are resumed.
pub(super) fn bare_word(line: &str) -> Option<&str> {
    let (head, _) = line.trim_start().strip_prefix("::")?.split_once("::")?;
    Some(head.split(' ').next().unwrap_or(head))
}

fn modern(line: &str) -> Option<Command> {
    let (head, data) = line.trim_start().strip_prefix("::")?.split_once("::")?;
    let (name, properties) = known(head)?;
    let codes = &[("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")];
    let properties = split(properties, ',', codes);
    Some(Command { name, properties, data: unescape(data, &[("%0D", "\r"), ("%0A", "\n"), ("%25", "%")]) })
}

fn legacy(line: &str) -> Option<Command> {
    let begin = memchr::memmem::find(line.as_bytes(), b"##[")?;
    let (head, data) = line[begin + 3..].split_once(']')?;
    let (name, properties) = known(head)?;
    let codes = &[("%0D", "\r"), ("%0A", "\n"), ("%3B", ";"), ("%5D", "]"), ("%25", "%")];
    Some(Command { name, properties: split(properties, ';', codes), data: unescape(data, codes) })
}

fn known(head: &str) -> Option<(&'static str, &str)> {
    let (word, properties) = head.split_once(' ').unwrap_or((head, ""));
    let name = NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(word))?;
    Some((name, properties))
}

fn split(text: &str, separator: char, codes: &[(&str, &str)]) -> Vec<(String, String)> {
    text.trim()
        .split(separator)
        .filter_map(|part| part.split_once('='))
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.trim().to_lowercase(), unescape(value, codes)))
        .collect()
}

/// One pass: what an escape yields is not read again.
fn unescape(text: &str, codes: &[(&str, &str)]) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((code, meaning)) = codes.iter().find(|(code, _)| rest.starts_with(code)) {
            plain.push_str(meaning);
            rest = &rest[code.len()..];
        } else {
            plain.push('%');
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Command, bare_word, parse};

    fn command(name: &'static str, properties: &[(&str, &str)], data: &str) -> Command {
        let properties =
            properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Command { name, properties, data: data.to_owned() }
    }

    #[test]
    fn the_modern_form() {
        assert_eq!(parse("::set-output name=a::1"), Some(command("set-output", &[("name", "a")], "1")));
        assert_eq!(parse("   ::warning::x"), Some(command("warning", &[], "x")));
        assert_eq!(parse("::set-output name=a::b::c"), Some(command("set-output", &[("name", "a")], "b::c")));
        assert_eq!(parse("::set-output name=k=v::1"), Some(command("set-output", &[("name", "k=v")], "1")));
        assert_eq!(parse("::SET-OUTPUT NAME=a::1"), Some(command("set-output", &[("name", "a")], "1")));
        assert_eq!(
            parse("::error file=a%3Ab%2Cc,,line=1::100%25%0Anext%250A"),
            Some(command("error", &[("file", "a:b,c"), ("line", "1")], "100%\nnext%0A"))
        );
        assert_eq!(parse("::unknown::x"), None);
        assert_eq!(parse("::warning:x"), None);
        assert_eq!(parse("a ::warning::x"), None);
    }

    #[test]
    fn the_older_form_anywhere_in_a_line() {
        assert_eq!(parse("abc ##[warning]x"), Some(command("warning", &[], "x")));
        assert_eq!(
            parse("##[error file=a;line=2]b%5D%3B"),
            Some(command("error", &[("file", "a"), ("line", "2")], "b];"))
        );
        assert_eq!(parse("##[section]x"), None);
        assert_eq!(parse("##[error"), None);
    }

    #[test]
    fn resuming() {
        assert_eq!(bare_word(" ::token::"), Some("token"));
        assert_eq!(bare_word("::token"), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(line in "[:#\\[\\] %0-9ADerorx=,;é]{0,40}") {
            let _ = parse(&line);
            let _ = bare_word(&line);
        }
    }
}
