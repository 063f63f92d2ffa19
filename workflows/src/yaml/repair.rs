//! What the parsers of GitHub and Gitea read although YAML's grammar does not allow it, and real files
//! contain: a bracket that closes a flow collection at the indentation of what contains it, and a comment
//! right behind such a bracket.
//!
//! A repaired text is as long as the written one, so that every place stays what it is.

/// The text with what stands at byte `at` put into a form that the grammar allows; `None` when it is
/// something else.
pub(super) fn at(text: &str, at: usize) -> Option<String> {
    let bytes = text.as_bytes();
    match bytes.get(at)? {
        b']' | b'}' => join_line(text, at),
        b'#' if matches!(bytes[..at].last(), Some(b']' | b'}')) => Some(blank(text, at, line_end(text, at))),
        _ => None,
    }
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length)
}

/// Puts what begins a line behind the line before.
fn join_line(text: &str, at: usize) -> Option<String> {
    let before = text[..at].trim_end_matches([' ', '\t']);
    let broken = before.strip_suffix('\n')?;
    let start = broken.rfind('\n').map_or(0, |newline| newline + 1);
    let line = &broken[start..];
    // A comment would swallow the bracket; whether a # within quotes is one is not asked here.
    let from = match line.find('#') {
        Some(_) if line.contains(['\'', '"']) => return None,
        Some(comment) => start + comment,
        None => broken.trim_end_matches('\r').len(),
    };
    Some(blank(text, from, before.len()))
}

/// Spaces in place of the bytes of a range.
fn blank(text: &str, from: usize, to: usize) -> String {
    [&text[..from], &" ".repeat(to - from), &text[to..]].concat()
}

#[cfg(test)]
mod tests {
    use crate::source::SourceFile;
    use crate::yaml::{Limits, parse};

    #[test]
    fn closing_brackets_may_stand_at_the_indentation_of_their_parent() {
        let text = "a:\n  - [\n    one, # first\n    two\n  ]\n  - {\n    b: 'é'\n  } # last\nc: ${{ d }}\n";
        let source = SourceFile::new("f", text);
        let (tree, findings) = parse(&source, Limits::default());
        assert!(findings.is_empty(), "{findings:?}");
        let tree = tree.expect("a tree");
        let expected = serde_json::json!({"a": [["one", "two"], {"b": "é"}], "c": "${{ d }}"});
        assert_eq!(tree.to_value().to_json(), expected);
        assert_eq!(source.slice(tree.get("c").expect("c").span), "${{ d }}");
    }

    #[test]
    fn comments_may_follow_a_closing_bracket_at_once() {
        let source = SourceFile::new("f", "a: [one]#, two ]\nb: 1\n");
        let (tree, findings) = parse(&source, Limits::default());
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(tree.expect("a tree").to_value().to_json(), serde_json::json!({"a": ["one"], "b": 1}));
    }

    #[test]
    fn other_mistakes_stay_mistakes() {
        for text in ["a: [\n# x 'y'\n]\nb: ]\n", "a: b]\n  c: d\n", "]", "a: [b\n"] {
            assert!(parse(&SourceFile::new("f", text), Limits::default()).0.is_none(), "{text}");
        }
    }
}
