//! An `options` text as words, split as a POSIX shell would, without expanding anything.

/// The words of `text`; the error is a sentence.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(inner) => word.push(inner),
                        None => return Err("a single quote is never closed".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                            Some(other) => word.extend(['\\', other]),
                            None => return Err("a double quote is never closed".to_owned()),
                        },
                        Some(inner) => word.push(inner),
                        None => return Err("a double quote is never closed".to_owned()),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err("there is nothing behind the last backslash".to_owned()),
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn quotes_and_backslashes_as_in_a_shell() {
        let text = r#"--health-cmd "pg_isready -U \"me\"" -e 'A=$B c' --x=a\ b ''"#;
        let words = split(text).expect("well formed");
        assert_eq!(words, ["--health-cmd", "pg_isready -U \"me\"", "-e", "A=$B c", "--x=a b", ""]);
        assert!(split("  \n ").expect("nothing").is_empty());
    }

    #[test]
    fn what_is_never_closed_is_an_error() {
        for text in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
