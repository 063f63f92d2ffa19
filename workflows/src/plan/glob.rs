//! Filter patterns of `branches`, `tags` and `paths`, as GitHub documents them.
//!
//! `*` any characters but `/`, `**` any characters, `?` and `+` repeat what stands before them,
//! `[...]` one of a set, `\` takes the next character as it is, a leading `!` excludes.

use std::ops::RangeInclusive;

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    /// One character, repeated as often as the range says.
    One(Class, Repeat),
    /// `*`
    Star,
    /// `**`
    StarStar,
    /// `**/` at the start or behind a `/`: any number of folders, also none.
    Folders,
}

#[derive(Debug, Clone, PartialEq)]
enum Class {
    Char(char),
    Set(Vec<RangeInclusive<char>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Once,
    Optional,
    Many,
}

impl Class {
    fn contains(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::Set(ranges) => ranges.iter().any(|range| range.contains(&c)),
        }
    }
}

/// A mistake in a pattern and the byte at which it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GlobError {
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// A parsed pattern without its leading `!`.
#[derive(Debug, Clone)]
pub struct Glob {
    pieces: Vec<Piece>,
}

impl Glob {
    /// Parses a pattern; one that is broken is matched character by character, as runners do.
    pub fn new(pattern: &str) -> Self {
        let pieces = parse(pattern)
            .unwrap_or_else(|_| pattern.chars().map(|c| Piece::One(Class::Char(c), Repeat::Once)).collect());
        Self { pieces }
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // The set of positions in the text that the pieces so far can reach: linear in both lengths.
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for piece in &self.pieces {
            let mut next = vec![false; text.len() + 1];
            match piece {
                Piece::One(class, repeat) => {
                    for at in 0..=text.len() {
                        if reached[at] && *repeat == Repeat::Optional {
                            next[at] = true;
                        }
                        let from = reached[at] || *repeat == Repeat::Many && next[at];
                        if from && at < text.len() && class.contains(text[at]) {
                            next[at + 1] = true;
                        }
                    }
                }
                Piece::Star | Piece::StarStar => {
                    for at in 0..=text.len() {
                        next[at] |= reached[at];
                        if next[at] && at < text.len() && (*piece == Piece::StarStar || text[at] != '/') {
                            next[at + 1] = true;
                        }
                    }
                }
                Piece::Folders => {
                    let mut inside = false;
                    for at in 0..=text.len() {
                        inside |= reached[at];
                        next[at] |= reached[at];
                        if inside && at < text.len() && text[at] == '/' {
                            next[at + 1] = true;
                        }
                    }
                }
            }
            reached = next;
        }
        reached[text.len()]
    }
}

fn parse(pattern: &str) -> Result<Vec<Piece>, GlobError> {
    let wrong = |at: usize, message: &str| GlobError { at, message: message.to_owned() };
    let mut pieces: Vec<Piece> = Vec::with_capacity(pattern.len());
    let mut chars = pattern.char_indices().peekable();
    let mut previous = None;
    while let Some((at, c)) = chars.next() {
        match c {
            '*' => {
                let double = chars.next_if(|(_, c)| *c == '*').is_some();
                if double
                    && chars.peek().is_some_and(|(_, c)| *c == '/')
                    && matches!(previous, None | Some('/'))
                {
                    chars.next();
                    pieces.push(Piece::Folders);
                    previous = Some('/');
                    continue;
                }
                pieces.push(if double { Piece::StarStar } else { Piece::Star });
            }
            '?' | '+' => {
                let repeat = if c == '?' { Repeat::Optional } else { Repeat::Many };
                match pieces.last_mut() {
                    Some(Piece::One(_, own @ Repeat::Once)) => *own = repeat,
                    _ => return Err(wrong(at, &format!("'{c}' has no character before it to repeat"))),
                }
            }
            '[' => pieces.push(Piece::One(parse_set(at, &mut chars)?, Repeat::Once)),
            '\\' => {
                let (_, escaped) =
                    chars.next().ok_or_else(|| wrong(at, "'\\' at the end takes no character"))?;
                pieces.push(Piece::One(Class::Char(escaped), Repeat::Once));
            }
            c => pieces.push(Piece::One(Class::Char(c), Repeat::Once)),
        }
        previous = Some(c);
    }
    Ok(pieces)
}

fn parse_set(
    open: usize,
    chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>,
) -> Result<Class, GlobError> {
    let mut ranges = Vec::new();
    loop {
        let Some((at, low)) = chars.next() else {
            return Err(GlobError { at: open, message: "the set that begins here has no ']'".to_owned() });
        };
        if low == ']' {
            if ranges.is_empty() {
                return Err(GlobError { at: open, message: "the set is empty".to_owned() });
            }
            return Ok(Class::Set(ranges));
        }
        if chars.peek().is_some_and(|(_, c)| *c == '-') {
            chars.next();
            match chars.next() {
                Some((_, ']')) => {
                    ranges.extend([low..=low, '-'..='-']);
                    return Ok(Class::Set(ranges));
                }
                Some((_, high)) if low <= high => ranges.push(low..=high),
                Some((_, high)) => {
                    return Err(GlobError {
                        at,
                        message: format!("the range '{low}-{high}' runs backwards"),
                    });
                }
                None => {
                    return Err(GlobError {
                        at: open,
                        message: "the set that begins here has no ']'".to_owned(),
                    });
                }
            }
        } else {
            ranges.push(low..=low);
        }
    }
}

/// Which kind of names a pattern is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GlobKind {
    Ref,
    Path,
}

/// The first mistake of a pattern: in its own grammar, or characters that no name can contain.
pub(crate) fn check(pattern: &str, kind: GlobKind) -> Option<GlobError> {
    let (body, skipped) = pattern.strip_prefix('!').map_or((pattern, 0), |rest| (rest, 1));
    let wrong = |at: usize, message: &str| Some(GlobError { at: at + skipped, message: message.to_owned() });
    if body.is_empty() {
        return wrong(
            0,
            if skipped == 1 { "'!' must be followed by a pattern" } else { "the pattern is empty" },
        );
    }
    if let Err(error) = parse(body) {
        return wrong(error.at, &error.message);
    }
    if let Some(error) = check_sets(body) {
        return wrong(error.at, &error.message);
    }
    match kind {
        GlobKind::Ref => {
            if body.starts_with('/') {
                return wrong(0, "a branch or tag cannot begin with '/'");
            }
            let mut escaped = false;
            for (at, c) in body.char_indices() {
                if escaped && !"[?+*\\!".contains(c) {
                    return wrong(at - 1, "'\\' can only stand before [ ? + * \\ and !");
                }
                if !escaped && (c.is_whitespace() || "~^:".contains(c)) {
                    return wrong(at, &format!("'{c}' cannot be part of a branch or tag"));
                }
                escaped = c == '\\' && !escaped;
            }
            if body.len() > 1 && (body.ends_with('/') || body.ends_with('.')) {
                return wrong(body.len() - 1, "a branch or tag cannot end with '/' or '.'");
            }
        }
        GlobKind::Path => {
            if body.starts_with(char::is_whitespace) || body.ends_with(char::is_whitespace) {
                return wrong(0, "a path cannot begin or end with a space or a line break");
            }
            if body == "." || body == ".." || body.starts_with("./") || body.starts_with("../") {
                return wrong(
                    0,
                    "paths are relative to the root of the repository: './' and '../' never match",
                );
            }
        }
    }
    None
}

/// A set of one character is most often a mistake.
fn check_sets(pattern: &str) -> Option<GlobError> {
    let mut escaped = false;
    for (at, c) in pattern.char_indices() {
        if c == '[' && !escaped {
            let inner = pattern[at + 1..].split(']').next().unwrap_or("");
            if inner.chars().count() == 1 {
                return Some(GlobError {
                    at,
                    message: "a set of one character is that character".to_owned(),
                });
            }
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// Whether a name passes a list of patterns: the last one that matches decides, `!` excludes.
pub fn passes<'p>(name: &str, patterns: impl IntoIterator<Item = &'p str>) -> bool {
    let mut passed = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(excluded) if passed && Glob::new(excluded).matches(name) => passed = false,
            Some(_) => {}
            None if !passed && Glob::new(pattern).matches(name) => passed = true,
            None => {}
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("feature/*", &["feature/a"], &["feature/a/b", "feature"]),
            ("feature/**", &["feature/a", "feature/a/b"], &["feature"]),
            ("main", &["main"], &["mainline"]),
            ("*", &["main", "v1"], &["a/b"]),
            ("**", &["a/b/c", "main"], &[]),
            ("*feature", &["mona-feature", "feature"], &["feature-x"]),
            ("v2*", &["v2", "v2.0"], &["v1"]),
            ("v[12].[0-9]+.[0-9]+", &["v1.10.1", "v2.0.0"], &["v3.0.0", "v1..0"]),
            ("*.jsx?", &["page.js", "page.jsx"], &["page.jsxx"]),
            ("**.js", &["index.js", "js/a/index.js"], &["index.jsx"]),
            ("docs/**/*.md", &["docs/hello.md", "docs/a/b/c.md"], &["docs.md"]),
            ("**/docs/**", &["docs/a", "x/docs/a"], &["docsx/a"]),
            ("**/README.md", &["README.md", "js/README.md"], &["xREADME.md"]),
            ("**/*src/**", &["a/src/b", "my-src/b"], &["src"]),
            ("a\\*b", &["a*b"], &["axb"]),
            ("a[]", &["a[]"], &[]),
            ("[a-]", &["a", "-"], &["b"]),
        ];
        for (pattern, yes, no) in table {
            let glob = Glob::new(pattern);
            for name in *yes {
                assert!(glob.matches(name), "{pattern} should match {name}");
            }
            for name in *no {
                assert!(!glob.matches(name), "{pattern} should not match {name}");
            }
        }
    }

    #[test]
    fn the_last_match_decides() {
        assert!(passes("releases/10", ["releases/**", "!releases/**-alpha"]));
        assert!(!passes("releases/beta/3-alpha", ["releases/**", "!releases/**-alpha"]));
        assert!(passes("a", ["*", "!a", "a"]));
        assert!(!passes("a", ["!a"]));
    }

    #[test]
    fn mistakes_are_found_with_their_place() {
        let at = |pattern: &str, kind| check(pattern, kind).map(|error| error.at);
        assert_eq!(at("ab[x", GlobKind::Ref), Some(2));
        assert_eq!(at("[9-0]", GlobKind::Path), Some(1));
        assert_eq!(at("!", GlobKind::Path), Some(1));
        assert_eq!(at("?a", GlobKind::Path), Some(0));
        assert_eq!(at("a b", GlobKind::Ref), Some(1));
        assert_eq!(at("a b", GlobKind::Path), None);
        assert_eq!(at("/a", GlobKind::Ref), Some(0));
        assert_eq!(at("a/", GlobKind::Ref), Some(1));
        assert_eq!(at("./a", GlobKind::Path), Some(0));
        assert_eq!(at("a\\d", GlobKind::Ref), Some(1));
        assert_eq!(at("[x]", GlobKind::Ref), Some(0));
        assert_eq!(at("a\\", GlobKind::Path), Some(1));
        assert_eq!(at("v[0-9]+.x/**", GlobKind::Ref), None);
    }

    #[test]
    fn long_patterns_do_not_explode() {
        let glob = Glob::new(&"**a".repeat(200));
        assert!(!glob.matches(&"a".repeat(199)));
        assert!(glob.matches(&"a".repeat(200)));
    }
}
