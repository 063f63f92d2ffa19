//! Which program runs a script when `shell:` is silent, and words of a command line.
//!
//! What a written `shell:` means is the language's business ([`workflows::shell`]). Without one it depends on the place:
//! in the label's own image Gitea's `bash` with `pipefail`, in the image of `container:` `sh -e`, on the host `bash -e`.

use workflows::shell::Shell;

/// Where a script without `shell` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DefaultShell {
    /// On the host.
    Host,
    /// In the image of the label.
    Label,
    /// In the image of the job's `container:`.
    Container,
}

/// The shell for the text of `shell:`, or the default of the place. The error is a sentence.
pub(crate) fn choose(shell: Option<&str>, place: DefaultShell, without_bash: bool) -> Result<Shell, String> {
    match shell.map(str::trim).filter(|shell| !shell.is_empty()) {
        Some(shell) => Shell::parse(shell),
        None if place == DefaultShell::Container => Ok(Shell::fallback(false)),
        None if place == DefaultShell::Host || without_bash => Ok(Shell::fallback(!without_bash)),
        None => Shell::parse("bash"),
    }
}

/// Words as a shell would see them: quotes of both kinds, and a backslash outside of single quotes.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (Some(_), '\\') => match chars.next()? {
                c @ ('"' | '\\' | '$' | '`') => word.get_or_insert_default().push(c),
                c => word.get_or_insert_default().extend(['\\', c]),
            },
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, c @ ('\'' | '"')) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return None;
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::{DefaultShell, choose, split};

    fn argv(shell: Option<&str>, place: DefaultShell, without_bash: bool) -> String {
        choose(shell, place, without_bash).unwrap().argv("S").join("|")
    }

    #[test]
    fn the_default_depends_on_the_place() {
        assert_eq!(argv(None, DefaultShell::Host, false), "bash|-e|S");
        assert_eq!(argv(None, DefaultShell::Host, true), "sh|-e|S");
        assert_eq!(argv(None, DefaultShell::Label, false), "bash|--noprofile|--norc|-e|-o|pipefail|S");
        assert_eq!(argv(None, DefaultShell::Label, true), "sh|-e|S");
        assert_eq!(argv(Some(" "), DefaultShell::Container, false), "sh|-e|S");
        assert_eq!(argv(Some("bash"), DefaultShell::Host, true), "bash|--noprofile|--norc|-e|-o|pipefail|S");
    }

    #[test]
    fn a_shell_without_place_for_the_script_is_refused() {
        assert!(
            choose(Some("bash -l"), DefaultShell::Host, false).unwrap_err().contains("Invalid shell option")
        );
    }

    #[test]
    fn words_are_split_like_a_shell_does() {
        assert_eq!(split(r#"a 'b c' "d\"e" f\ g ''"#).unwrap(), ["a", "b c", "d\"e", "f g", ""]);
        assert_eq!(split("a 'b"), None);
        assert_eq!(split("a \\"), None);
    }
}
