//! Patterns of `hashFiles`: GitHub's glob, which is minimatch with dot files and without braces, extended globs and
//! comments inside a pattern.

/// One part of a pattern between two slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of folders.
    Any,
    /// Anything else.
    One(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    Star,
    Question,
    Set { negated: bool, ranges: Vec<(char, char)> },
}

/// One pattern, rooted.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) negated: bool,
    segments: Vec<Segment>,
    /// Written with a slash at its end: matches folders alone.
    folders_only: bool,
    /// Made for the content of a folder that was named.
    implicit: bool,
}

/// What a pattern matches a path as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Match {
    pub(super) folder: bool,
    pub(super) file: bool,
}

impl Pattern {
    /// Reads one line relative to `root`; `None` for an empty line or a comment. Errors are sentences.
    pub(super) fn parse(line: &str, root: &str) -> Result<Option<Self>, String> {
        let mut text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(None);
        }
        let mut negated = false;
        while let Some(rest) = text.strip_prefix('!') {
            negated = !negated;
            text = rest.trim();
        }
        let relative = text.strip_prefix("./").unwrap_or(if text == "." { "" } else { text });
        let mut segments: Vec<Segment> = Vec::new();
        if !text.starts_with('/') {
            segments.extend(root.split('/').filter(|part| !part.is_empty()).map(literal));
        }
        for part in relative.split('/').filter(|part| !part.is_empty()) {
            if part == "." || part == ".." {
                return Err(format!("the pattern '{line}' is not allowed: it must not contain '.' or '..'"));
            }
            segments.push(if part == "**" { Segment::Any } else { Segment::One(tokens(part)) });
        }
        // `a/**/**/b` is `a/**/b`; without this a hostile pattern takes exponential time.
        segments.dedup_by(|right, left| *right == Segment::Any && *left == Segment::Any);
        Ok(Some(Self { negated, segments, folders_only: relative.ends_with('/'), implicit: false }))
    }

    /// The pattern for what lies below a match of this one; `None` when it ends in `**` already.
    pub(super) fn descendants(&self) -> Option<Self> {
        if !self.folders_only && self.segments.last() == Some(&Segment::Any) {
            return None;
        }
        let mut segments = self.segments.clone();
        segments.push(Segment::Any);
        segments.dedup_by(|right, left| *right == Segment::Any && *left == Segment::Any);
        Some(Self { negated: self.negated, segments, folders_only: false, implicit: true })
    }

    /// The deepest folder (or the file) that is named without wildcards.
    pub(super) fn search_path(&self) -> String {
        let mut path = String::new();
        for segment in &self.segments {
            let Some(name) = plain(segment) else { break };
            path.push('/');
            path.push_str(&name);
        }
        if path.is_empty() { "/".to_owned() } else { path }
    }

    /// As what this pattern matches an absolute path without a slash at its end.
    pub(super) fn matches(&self, path: &[&str]) -> Match {
        let hit = match self.segments.split_last() {
            // `a/**` matches `a` itself only when the user wrote it.
            Some((_, above)) if self.implicit => {
                (0..path.len()).any(|depth| walk(above, &path[..depth], false))
            }
            _ => walk(&self.segments, path, false),
        };
        Match { folder: hit, file: hit && !self.folders_only }
    }

    /// Whether something below `path` could match.
    pub(super) fn could_match_below(&self, path: &[&str]) -> bool {
        walk(&self.segments, path, true)
    }
}

fn literal(part: &str) -> Segment {
    Segment::One(part.chars().map(Token::Char).collect())
}

/// The segment's text if it has no wildcard.
fn plain(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Any => None,
        Segment::One(tokens) => tokens
            .iter()
            .map(|token| match token {
                Token::Char(char) => Some(*char),
                Token::Set { negated: false, ranges } => match ranges.as_slice() {
                    [(first, last)] if first == last => Some(*first),
                    _ => None,
                },
                _ => None,
            })
            .collect(),
    }
}

fn tokens(part: &str) -> Vec<Token> {
    let chars: Vec<char> = part.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(char) = chars.get(at) {
        at += 1;
        match char {
            '*' => {
                if tokens.last() != Some(&Token::Star) {
                    tokens.push(Token::Star);
                }
            }
            '?' => tokens.push(Token::Question),
            '\\' if at < chars.len() => {
                tokens.push(Token::Char(chars[at]));
                at += 1;
            }
            '[' => match set(&chars[at..]) {
                Some((token, length)) => {
                    tokens.push(token);
                    at += length;
                }
                None => tokens.push(Token::Char('[')),
            },
            other => tokens.push(Token::Char(*other)),
        }
    }
    tokens
}

/// A set from behind its opening bracket, and how many characters it took; `None` when it never closes.
fn set(chars: &[char]) -> Option<(Token, usize)> {
    let negated = matches!(chars.first(), Some('!' | '^'));
    let mut at = usize::from(negated);
    let mut ranges = Vec::new();
    let mut first = true;
    loop {
        let mut low = *chars.get(at)?;
        if low == ']' && !first {
            return Some((Token::Set { negated, ranges }, at + 1));
        }
        if low == '\\' {
            at += 1;
            low = *chars.get(at)?;
        }
        first = false;
        at += 1;
        if chars.get(at) == Some(&'-') && chars.get(at + 1).is_some_and(|next| *next != ']') {
            ranges.push((low, *chars.get(at + 1)?));
            at += 2;
        } else {
            ranges.push((low, low));
        }
    }
}

/// Whether `path` matches, or (`partly`) could become a match by growing. Both lists are short; the state is one row of
/// a table, so the time is bounded by their product.
fn walk(pattern: &[Segment], path: &[&str], partly: bool) -> bool {
    // reachable[i]: the path so far is matched by the first i segments.
    let mut reachable = vec![false; pattern.len() + 1];
    reachable[0] = true;
    skip(pattern, &mut reachable);
    for name in path {
        let mut next = vec![false; pattern.len() + 1];
        for (at, segment) in pattern.iter().enumerate() {
            if !reachable[at] {
                continue;
            }
            match segment {
                Segment::Any => next[at] = true,
                Segment::One(tokens) => next[at + 1] |= fits(tokens, name),
            }
        }
        skip(pattern, &mut next);
        reachable = next;
    }
    if partly { reachable.iter().any(|reached| *reached) } else { reachable[pattern.len()] }
}

/// `**` may stand for nothing.
fn skip(pattern: &[Segment], reachable: &mut [bool]) {
    for (at, segment) in pattern.iter().enumerate() {
        if reachable[at] && *segment == Segment::Any {
            reachable[at + 1] = true;
        }
    }
}

/// Whether one name fits one segment: the greedy match with one way back that is enough for `*`.
fn fits(tokens: &[Token], name: &str) -> bool {
    let chars: Vec<char> = name.chars().collect();
    if chars.is_empty() {
        return tokens.is_empty();
    }
    let (mut at, mut token) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while at < chars.len() {
        match tokens.get(token) {
            Some(Token::Star) => {
                back = Some((token + 1, at));
                token += 1;
            }
            Some(other) if single(other, chars[at]) => {
                token += 1;
                at += 1;
            }
            _ => {
                let Some((resume, start)) = back else { return false };
                back = Some((resume, start + 1));
                (token, at) = (resume, start + 1);
            }
        }
    }
    tokens[token..].iter().all(|rest| *rest == Token::Star)
}

fn single(token: &Token, char: char) -> bool {
    match token {
        Token::Char(expected) => *expected == char,
        Token::Question => true,
        Token::Star => false,
        Token::Set { negated, ranges } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&char)) != *negated
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Pattern;

    fn file(pattern: &str, path: &str) -> bool {
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        Pattern::parse(pattern, "/w").expect("valid").expect("a pattern").matches(&path).file
    }

    #[test]
    fn wildcards() {
        for (pattern, path, expected) in [
            ("*.lock", "/w/Cargo.lock", true),
            ("*.lock", "/w/sub/Cargo.lock", false),
            ("**/*.lock", "/w/Cargo.lock", true),
            ("**/*.lock", "/w/a/b/Cargo.lock", true),
            ("**", "/w/a/.hidden", true),
            ("a?c", "/w/abc", true),
            ("a?c", "/w/ac", false),
            ("[a-c]x", "/w/bx", true),
            ("[!a-c]x", "/w/bx", false),
            ("[]]x", "/w/]x", true),
            ("[ax", "/w/[ax", true),
            ("\\*", "/w/*", true),
            ("\\*", "/w/a", false),
            ("{a,b}", "/w/a", false),
            ("./a", "/w/a", true),
            ("/etc/*", "/etc/passwd", true),
            ("a*b*c", "/w/aXbYbZc", true),
            ("*", "/w/ä", true),
        ] {
            assert_eq!(file(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn dots_are_refused_with_the_pattern_named() {
        let reason = Pattern::parse("a/../b", "/w").expect_err("refused");
        assert!(reason.contains("'a/../b'"), "{reason}");
    }

    #[test]
    fn a_search_starts_at_the_last_plain_folder() {
        let start = |pattern| Pattern::parse(pattern, "/w").expect("valid").expect("a pattern").search_path();
        assert_eq!(start("a/b/*.c"), "/w/a/b");
        assert_eq!(start("**"), "/w");
        assert_eq!(start("[a]b/c"), "/w/ab/c");
    }

    proptest! {
        #[test]
        fn any_pattern_and_path_give_an_answer(pattern in "[a\\[\\]!*?/\\\\-]{0,40}", path in "[ab/]{0,60}") {
            let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            if let Ok(Some(pattern)) = Pattern::parse(&pattern, "/w") {
                let whole = pattern.matches(&path);
                prop_assert!(!whole.file || pattern.could_match_below(&path));
            }
        }
    }
}
