//! Problem matchers: regular expressions that turn lines of a compiler or a test into errors and warnings.
//!
//! A file registers matchers by owner (`::add-matcher::FILE`); they stay for the job. Each stream of each step keeps
//! its own place in a matcher of several patterns. The first matcher that completes an issue wins and sets the others
//! back. Expressions are ECMAScript's, matched with a limit on steps; one that fails three times is taken out.

use std::sync::Arc;

use fancy_regex::Regex;
use serde::Deserialize;

use super::stage::Severity;

/// Failures (too many steps of matching) after which a matcher is taken out.
const FAILURES: u8 = 3;

#[derive(Deserialize)]
struct FileShape {
    #[serde(rename = "problemMatcher")]
    matchers: Vec<MatcherShape>,
}

#[derive(Deserialize)]
struct MatcherShape {
    #[serde(default)]
    owner: String,
    #[serde(default)]
    severity: Option<String>,
    #[serde(default)]
    pattern: Vec<PatternShape>,
}

#[derive(Deserialize)]
struct PatternShape {
    regexp: String,
    file: Option<usize>,
    #[serde(rename = "fromPath")]
    from_path: Option<usize>,
    line: Option<usize>,
    column: Option<usize>,
    severity: Option<usize>,
    code: Option<usize>,
    message: Option<usize>,
    #[serde(default, rename = "loop")]
    repeats: bool,
}

/// One registered matcher.
#[derive(Debug)]
pub(super) struct Matcher {
    pub(super) owner: String,
    severity: Option<String>,
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    repeats: bool,
    groups: [Option<usize>; FIELDS],
}

const FIELDS: usize = 7;
const FIELD_NAMES: [&str; FIELDS] = ["file", "fromPath", "line", "column", "severity", "code", "message"];
const FILE: usize = 0;
const LINE: usize = 2;
const COLUMN: usize = 3;
const SEVERITY: usize = 4;

type Captured = [Option<String>; FIELDS];

/// What a matcher has seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Issue {
    pub(super) severity: Severity,
    /// `file:line:column`, as far as known, when the matched line itself need not name it.
    pub(super) place: Option<String>,
}

/// Reads a matcher file; the error is one sentence for the job's log.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Arc<Matcher>>, String> {
    let text = String::from_utf8_lossy(bytes);
    let file: FileShape =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| error.to_string())?;
    file.matchers.into_iter().map(|shape| check(shape).map(Arc::new)).collect()
}

fn check(shape: MatcherShape) -> Result<Matcher, String> {
    let owner = shape.owner;
    if owner.trim().is_empty() {
        return Err("a problem matcher needs an owner".to_owned());
    }
    let severity = shape.severity.filter(|word| !word.is_empty());
    if let Some(word) = &severity
        && Severity::parse(word).is_none()
    {
        return Err(format!(
            "problem matcher '{owner}': severity '{word}' is none of error, warning and notice"
        ));
    }
    let count = shape.pattern.len();
    if count == 0 {
        return Err(format!("problem matcher '{owner}' has no pattern"));
    }
    let mut seen = [false; FIELDS];
    let mut patterns = Vec::with_capacity(count);
    for (index, pattern) in shape.pattern.into_iter().enumerate() {
        if pattern.repeats && (count == 1 || index + 1 != count) {
            return Err(format!(
                "problem matcher '{owner}': only the last of several patterns may have 'loop'"
            ));
        }
        let groups = [
            pattern.file,
            pattern.from_path,
            pattern.line,
            pattern.column,
            pattern.severity,
            pattern.code,
            pattern.message,
        ];
        for (field, group) in groups.iter().enumerate() {
            if group.is_some() && std::mem::replace(&mut seen[field], true) {
                return Err(format!("problem matcher '{owner}' names '{}' twice", FIELD_NAMES[field]));
            }
        }
        let regex = Regex::new(&pattern.regexp).map_err(|error| {
            format!("problem matcher '{owner}': the expression '{}' is not valid: {error}", pattern.regexp)
        })?;
        patterns.push(Pattern { regex, repeats: pattern.repeats, groups });
    }
    if !seen[FIELDS - 1] {
        return Err(format!("problem matcher '{owner}' needs a pattern with 'message'"));
    }
    Ok(Matcher { owner, severity, patterns })
}

/// The matchers of a job, newest first.
#[derive(Debug, Default, Clone)]
pub(super) struct MatcherSet {
    all: Vec<Arc<Matcher>>,
}

impl MatcherSet {
    /// Puts `matchers` first; those with an owner that is already there replace it.
    pub(super) fn add(&mut self, matchers: Vec<Arc<Matcher>>) {
        for matcher in matchers {
            self.remove(&matcher.owner);
            self.all.insert(0, matcher);
        }
    }

    /// Takes out the matcher of `owner`, in any case of letters.
    pub(super) fn remove(&mut self, owner: &str) {
        self.all.retain(|matcher| matcher.owner.to_lowercase() != owner.to_lowercase());
    }
}

/// Where one step is in the job's matchers.
#[derive(Debug, Default)]
pub(super) struct Matching {
    places: Vec<Place>,
}

/// What a line is to one matcher.
enum Found {
    Nothing,
    /// It completes a match whose severity is the tool's own affair (`info`): the line stays a plain one.
    Ignored,
    Issue(Issue),
}

#[derive(Debug)]
struct Place {
    matcher: Arc<Matcher>,
    /// For each stream, what each pattern but the last has captured.
    running: [Vec<Option<Captured>>; 2],
    failures: u8,
}

impl Matching {
    /// Follows a change of the job's matchers; places in matchers that stay are kept.
    pub(super) fn follow(&mut self, set: &MatcherSet) {
        let mut old = std::mem::take(&mut self.places);
        self.places = set
            .all
            .iter()
            .map(|matcher| {
                old.iter()
                    .position(|place| Arc::ptr_eq(&place.matcher, matcher))
                    .map_or_else(|| Place::new(Arc::clone(matcher)), |index| old.swap_remove(index))
            })
            .collect();
    }

    /// Whether there is nothing to match.
    pub(super) const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Looks at one line of one stream. The second value names a matcher that has just been given up.
    pub(super) fn line(&mut self, stream: usize, line: &str) -> (Option<Issue>, Option<String>) {
        let plain = without_colours(line);
        let mut given_up = None;
        let mut index = 0;
        while index < self.places.len() {
            match self.places[index].line(stream, &plain) {
                Ok(Found::Nothing) => index += 1,
                Ok(found) => {
                    for (other, place) in self.places.iter_mut().enumerate() {
                        if other != index {
                            place.running[stream].fill(None);
                        }
                    }
                    return match found {
                        Found::Issue(issue) => (Some(issue), given_up),
                        _ => (None, given_up),
                    };
                }
                Err(()) => {
                    self.places[index].failures += 1;
                    if self.places[index].failures >= FAILURES {
                        given_up = Some(self.places.remove(index).matcher.owner.clone());
                    } else {
                        index += 1;
                    }
                }
            }
        }
        (None, given_up)
    }
}

impl Place {
    fn new(matcher: Arc<Matcher>) -> Self {
        let rows = vec![None; matcher.patterns.len() - 1];
        Self { matcher, running: [rows.clone(), rows], failures: 0 }
    }

    fn line(&mut self, stream: usize, line: &str) -> Result<Found, ()> {
        let running = &mut self.running[stream];
        let last = self.matcher.patterns.len() - 1;
        for (index, pattern) in self.matcher.patterns.iter().enumerate().rev() {
            let before = match index {
                0 => Captured::default(),
                _ => match &running[index - 1] {
                    Some(captured) => captured.clone(),
                    None => continue,
                },
            };
            let found = pattern.regex.captures(line).map_err(|_| ())?;
            let captured = found.map(|found| {
                let mut captured = before;
                for (field, group) in pattern.groups.iter().enumerate() {
                    if let Some(text) = group.and_then(|group| found.get(group)) {
                        captured[field] = Some(text.as_str().to_owned());
                    }
                }
                captured
            });
            if index < last {
                running[index] = captured;
            } else if let Some(captured) = captured {
                let kept = pattern.repeats.then(|| running[index - 1].take()).flatten();
                running.fill(None);
                if pattern.repeats {
                    running[index - 1] = kept;
                }
                return Ok(self.matcher.issue(&captured).map_or(Found::Ignored, Found::Issue));
            } else if index > 0 {
                running[index - 1] = None;
            }
        }
        Ok(Found::Nothing)
    }
}

impl Matcher {
    fn issue(&self, captured: &Captured) -> Option<Issue> {
        let word = captured[SEVERITY].as_deref().filter(|word| !word.is_empty()).or(self.severity.as_deref());
        let severity = word.map_or(Some(Severity::Error), Severity::parse)?;
        let field = |index: usize| captured[index].as_deref().filter(|text: &&str| !text.is_empty());
        let place = (self.patterns.len() > 1).then(|| field(FILE)).flatten().map(|file| {
            let mut place = file.to_owned();
            for part in [field(LINE), field(LINE).and(field(COLUMN))].into_iter().flatten() {
                place.push(':');
                place.push_str(part);
            }
            place
        });
        Some(Issue { severity, place })
    }
}

/// `line` without terminal colours and other control sequences.
fn without_colours(line: &str) -> std::borrow::Cow<'_, str> {
    if !line.contains('\u{1b}') {
        return line.into();
    }
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' && rest.next_if_eq(&'[').is_some() {
            while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        } else if c != '\u{1b}' {
            plain.push(c);
        }
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::{Issue, MatcherSet, Matching, Severity, parse};

    fn matching(file: &str) -> Matching {
        let mut set = MatcherSet::default();
        set.add(parse(file.as_bytes()).expect("a valid file"));
        let mut matching = Matching::default();
        matching.follow(&set);
        matching
    }

    const SINGLE: &str = r#"{"problemMatcher":[{"owner":"cc","pattern":[{"regexp":"^(.+):(\\d+):(\\d+): (warning|error|info): (.+)$",
        "file":1,"line":2,"column":3,"severity":4,"message":5}]}]}"#;

    const STYLISH: &str = r#"{"problemMatcher":[{"owner":"style","pattern":[
        {"regexp":"^([^\\s].*)$","file":1},
        {"regexp":"^\\s+(\\d+):(\\d+)\\s+(error|warning)\\s+(.*)$","line":1,"column":2,"severity":3,"message":4,"loop":true}]}]}"#;

    #[test]
    fn one_pattern() {
        let mut matching = matching(SINGLE);
        let issue = |severity| (Some(Issue { severity, place: None }), None);
        assert_eq!(matching.line(0, "a.c:1:2: error: no"), issue(Severity::Error));
        assert_eq!(
            matching.line(0, "\u{1b}[1ma.c:1:2: \u{1b}[35mwarning\u{1b}[0m: hm"),
            issue(Severity::Warning)
        );
        assert_eq!(matching.line(0, "a.c:1:2: info: an unknown severity is no issue"), (None, None));
        assert_eq!(matching.line(0, "all is well"), (None, None));
    }

    #[test]
    fn a_loop_keeps_the_file_and_streams_do_not_mix() {
        let mut matching = matching(STYLISH);
        assert_eq!(matching.line(0, "src/a.js"), (None, None));
        assert_eq!(matching.line(1, "  1:2  error  on the other stream").0, None);
        let first = matching.line(0, "  1:2  error  bad").0.expect("an issue");
        assert_eq!(first, Issue { severity: Severity::Error, place: Some("src/a.js:1:2".to_owned()) });
        let second = matching.line(0, "  7:1  warning  meh").0.expect("an issue");
        assert_eq!(second, Issue { severity: Severity::Warning, place: Some("src/a.js:7:1".to_owned()) });
        assert_eq!(matching.line(0, "").0, None);
        assert_eq!(matching.line(0, "  7:1  warning  after a break").0, None);
    }

    #[test]
    fn an_owner_is_replaced_and_removed_in_any_case() {
        let mut set = MatcherSet::default();
        set.add(parse(SINGLE.as_bytes()).expect("valid"));
        set.add(parse(SINGLE.replace("\"cc\"", "\"CC\"").as_bytes()).expect("valid"));
        assert_eq!(set.all.len(), 1);
        set.remove("cC");
        assert!(set.all.is_empty());
    }

    #[test]
    fn wrong_files_say_what_is_wrong() {
        let sentence = |text: &str| parse(text.as_bytes()).expect_err("refused");
        assert!(sentence("{").contains("EOF"));
        assert_eq!(sentence(r#"{"problemMatcher":[{"pattern":[]}]}"#), "a problem matcher needs an owner");
        assert_eq!(sentence(r#"{"problemMatcher":[{"owner":"a"}]}"#), "problem matcher 'a' has no pattern");
        assert_eq!(
            sentence(r#"{"problemMatcher":[{"owner":"a","pattern":[{"regexp":"(.)","file":1}]}]}"#),
            "problem matcher 'a' needs a pattern with 'message'"
        );
        assert_eq!(
            sentence(
                r#"{"problemMatcher":[{"owner":"a","pattern":[{"regexp":"(.)","message":1,"loop":true}]}]}"#
            ),
            "problem matcher 'a': only the last of several patterns may have 'loop'"
        );
        assert!(
            sentence(r#"{"problemMatcher":[{"owner":"a","pattern":[{"regexp":"(","message":1}]}]}"#)
                .contains("not valid")
        );
    }

    #[test]
    fn an_expression_that_never_ends_is_given_up() {
        let mut matching = matching(
            r#"{"problemMatcher":[{"owner":"slow","pattern":[{"regexp":"^(?=(a+)+$)(a+)+b\\1$","message":1}]}]}"#,
        );
        let line = "a".repeat(64);
        assert_eq!(matching.line(0, &line), (None, None));
        assert_eq!(matching.line(0, &line), (None, None));
        assert_eq!(matching.line(0, &line), (None, Some("slow".to_owned())));
        assert!(matching.is_empty());
    }
}
