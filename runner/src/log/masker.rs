//! Masking as a type: text that may leave the runner is [`Masked`], and only a [`Masker`] makes it.
//!
//! A masker is shared by everything that speaks for one job. It knows every secret in every form of
//! [`super::needles`], finds all matches, also those that overlap, and puts `***` in place of each run of covered
//! text. Values may be added at any time (`::add-mask::`); whatever is masked afterwards, on either stream and by
//! any clone, knows them.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::needles;

/// Text in which no known secret is left. There is no way to make one but through [`Masker::mask`] (and its like).
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Masked(String);

impl Masked {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, by value.
    pub fn into_string(self) -> String {
        self.0
    }

    /// The text in pieces of at most `limit` bytes, cut between characters. Cutting comes after masking, so that no
    /// cut can hide a secret from the masker.
    pub(crate) fn into_pieces(self, limit: usize) -> impl Iterator<Item = Self> {
        let mut rest = Some(self.0);
        std::iter::from_fn(move || {
            let mut text = rest.take()?;
            if text.len() > limit {
                let cut = text.floor_char_boundary(limit.max(4));
                rest = Some(text.split_off(cut));
            }
            Some(Self(text))
        })
    }
}

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands in the place of a secret.
const STARS: &str = "***";

/// How many bytes of needles one job may have. A job that adds more is told so; nothing is silently left unmasked.
const NEEDLES_LIMIT: usize = 64 << 20;

/// What became of a value that was to be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is masked from now on (or was already).
    Yes,
    /// It is masked, and so short that much of the log will be stars.
    OneCharacter,
    /// It is empty: nothing to mask.
    Empty,
    /// The job has added too much; this value is *not* masked, and the caller has to fail.
    Full,
}

/// Knows the secrets of one job. Cheap to clone; clones share what they know.
#[derive(Clone, Default)]
pub struct Masker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Taken only to add.
    known: Mutex<Known>,
    /// Taken for reading by every line.
    tiers: RwLock<Tiers>,
}

#[derive(Default)]
struct Known {
    needles: HashSet<Box<str>>,
    bytes: usize,
    short: Vec<String>,
}

#[derive(Default)]
struct Tiers {
    /// Sizes shrink towards the end: adding n values one by one builds O(n log n) needles, not O(n²).
    tiers: Vec<Tier>,
    /// Bytes of the longest needle that fits into one row.
    longest: usize,
}

struct Tier {
    needles: Vec<Box<str>>,
    automaton: AhoCorasick,
}

impl Tier {
    fn build(needles: Vec<Box<str>>) -> Result<Self, aho_corasick::BuildError> {
        // The full automaton is twice as fast and twenty times as large; lines are short and memory is a promise.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(needles.iter().map(|needle| needle.as_bytes()))?;
        Ok(Self { needles, automaton })
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").finish_non_exhaustive()
    }
}

impl Masker {
    /// A masker that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Masks a secret that has a name; a one-character value is remembered for [`Self::warnings`].
    pub fn seed(&self, name: &str, value: &str) -> Added {
        let added = self.add(value);
        if added == Added::OneCharacter {
            self.known().short.push(name.to_owned());
        }
        added
    }

    /// One sentence for each named secret that is so short that masking it makes the log hard to read.
    pub fn warnings(&self) -> Vec<String> {
        self.known()
            .short
            .iter()
            .map(|name| {
                format!("The secret {name} is one character long: every such character in this log is shown as ***.")
            })
            .collect()
    }

    /// Masks `value` from now on: whole, each of its lines, and all their encodings.
    pub fn add(&self, value: &str) -> Added {
        if value.trim().is_empty() {
            return Added::Empty;
        }
        let mut known = self.known();
        let mut fresh = Vec::new();
        for needle in needles::of(value) {
            if !known.needles.contains(needle.as_str()) {
                fresh.push(needle.into_boxed_str());
            }
        }
        let bytes: usize = fresh.iter().map(|needle| needle.len()).sum();
        if known.bytes + bytes > NEEDLES_LIMIT {
            return Added::Full;
        }
        if !fresh.is_empty() {
            if !self.shared.tiers.write().unwrap_or_else(PoisonError::into_inner).push(fresh.clone()) {
                return Added::Full;
            }
            known.bytes += bytes;
            known.needles.extend(fresh);
        }
        if value.trim().chars().count() <= 1 { Added::OneCharacter } else { Added::Yes }
    }

    /// `text` without secrets. The text may have many lines.
    pub fn mask(&self, text: &str) -> Masked {
        Masked(self.mask_str(text).into_owned())
    }

    /// As [`Self::mask`], without a copy when there is nothing to mask.
    pub fn mask_owned(&self, text: String) -> Masked {
        let masked = match self.mask_str(&text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(masked) => Some(masked),
        };
        Masked(masked.unwrap_or(text))
    }

    /// Whether masking would change `text`: whether it has a secret in it.
    pub fn would_mask(&self, text: &str) -> bool {
        self.tiers().tiers.iter().any(|tier| tier.automaton.is_match(text))
    }

    /// Masked text that has yet to be escaped and masked again before it may be called [`Masked`].
    pub(super) fn mask_str<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let covered = self.tiers().covered(text, 0);
        if covered.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        render(text, &covered, text.len(), 0, &mut masked);
        Cow::Owned(masked)
    }

    /// Takes from the front of an endless line what can be told for sure: see [`LongLine`].
    pub(super) fn mask_front(&self, line: &mut LongLine, last: bool) -> Option<Masked> {
        let tiers = self.tiers();
        let length = line.text.len();
        let safe = if last {
            length
        } else {
            line.text.floor_char_boundary(length.saturating_sub(tiers.longest.saturating_sub(1)))
        };
        if safe == 0 {
            return None;
        }
        let covered = tiers.covered(&line.text, line.covered);
        drop(tiers);
        let mut masked = String::with_capacity(safe);
        let end = render(&line.text, &covered, safe, line.covered, &mut masked);
        line.text.drain(..safe);
        line.covered = end.saturating_sub(safe);
        (!masked.is_empty()).then_some(Masked(masked))
    }

    fn tiers(&self) -> std::sync::RwLockReadGuard<'_, Tiers> {
        self.shared.tiers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line without an end, that is shown in pieces while it comes.
///
/// A match that begins before `text.len() - longest` is all in `text`, so that much may leave. What it covers beyond
/// stays here as `covered`, already shown as stars, because another match may begin inside it.
#[derive(Debug, Default)]
pub(super) struct LongLine {
    /// What has not left yet.
    pub(super) text: String,
    covered: usize,
}

impl Tiers {
    /// False when the automaton cannot be built (more needles than it can count).
    fn push(&mut self, mut needles: Vec<Box<str>>) -> bool {
        self.longest = needles
            .iter()
            .filter(|needle| !needle.contains('\n'))
            .map(|needle| needle.len())
            .fold(self.longest, usize::max);
        while self.tiers.last().is_some_and(|last| last.needles.len() <= needles.len() * 2) {
            if let Some(last) = self.tiers.pop() {
                needles.extend(last.needles);
            }
        }
        match Tier::build(needles) {
            Ok(tier) => {
                self.tiers.push(tier);
                true
            }
            Err(_) => false,
        }
    }

    /// The parts of `text` that are covered by a match, in order; those that touch are one. The first `already`
    /// bytes count as covered.
    fn covered(&self, text: &str, already: usize) -> Vec<Range<usize>> {
        let mut all: Vec<Range<usize>> = Vec::new();
        if already > 0 {
            all.push(0..already);
        }
        for tier in &self.tiers {
            if !tier.automaton.is_match(text) {
                continue;
            }
            let mut own: Vec<Range<usize>> = Vec::new();
            for found in tier.automaton.find_overlapping_iter(text) {
                let mut range = found.range();
                // Matches come in the order of their ends, so only the last parts can touch this one.
                while let Some(last) = own.pop_if(|last| last.end >= range.start) {
                    range = last.start.min(range.start)..range.end;
                }
                own.push(range);
            }
            all.append(&mut own);
        }
        all.sort_unstable_by_key(|range| range.start);
        all.dedup_by(|next, before| {
            let touches = before.end >= next.start;
            if touches {
                before.end = before.end.max(next.end);
            }
            touches
        });
        all
    }
}

/// Writes `text[..until]` with stars for the covered parts; the part that begins at 0 has its stars already when
/// `already` is not 0. Answers where the last part that was written ends.
fn render(text: &str, covered: &[Range<usize>], until: usize, already: usize, out: &mut String) -> usize {
    let mut at = 0;
    for range in covered {
        if range.start >= until {
            break;
        }
        out.push_str(&text[at..range.start]);
        if range.start > 0 || already == 0 {
            out.push_str(STARS);
        }
        at = range.end;
    }
    if at < until {
        out.push_str(&text[at..until]);
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Added, LongLine, Masked, Masker};

    fn masker(values: &[&str]) -> Masker {
        let masker = Masker::new();
        for value in values {
            masker.add(value);
        }
        masker
    }

    #[test]
    fn the_longest_secret_wins_and_touching_matches_are_one() {
        let masker = masker(&["abc", "abcdef", "cdx"]);
        assert_eq!(masker.mask("abcdef").as_str(), "***");
        assert_eq!(masker.mask("-abcabc-").as_str(), "-***-");
        assert_eq!(masker.mask("abcdx").as_str(), "***", "overlapping needles leave no tail");
    }

    #[test]
    fn one_character_is_masked_and_named() {
        let masker = Masker::new();
        assert_eq!(masker.seed("PIN", "7"), Added::OneCharacter);
        assert_eq!(masker.mask("a7b").as_str(), "a***b");
        assert_eq!(
            masker.warnings(),
            ["The secret PIN is one character long: every such character in this log is shown as ***."]
        );
    }

    #[test]
    fn an_empty_value_masks_nothing() {
        let masker = Masker::new();
        assert_eq!(masker.add(""), Added::Empty);
        assert_eq!(masker.add("\r\n"), Added::Empty);
        assert_eq!(masker.mask("text").as_str(), "text");
    }

    #[test]
    fn clones_share_what_they_know() {
        let masker = Masker::new();
        let other = masker.clone();
        masker.add("late");
        assert_eq!(other.mask("too late").as_str(), "too ***");
        assert!(other.would_mask("too late"));
    }

    #[test]
    fn many_values_added_one_by_one_are_all_masked() {
        let masker = Masker::new();
        for number in 0..300 {
            masker.add(&format!("value-{number:03}"));
        }
        for number in 0..300 {
            assert_eq!(masker.mask(&format!("<value-{number:03}>")).as_str(), "<***>");
        }
        assert!(masker.tiers().tiers.len() < 12);
    }

    #[test]
    fn pieces_are_cut_between_characters() {
        let pieces: Vec<String> = Masked("aé€".repeat(9)).into_pieces(10).map(Masked::into_string).collect();
        assert!(pieces.iter().all(|piece| piece.len() <= 10));
        assert_eq!(pieces.concat(), "aé€".repeat(9));
    }

    proptest! {
        /// Whatever the text and wherever it is cut, an endless line shows what the whole would have shown.
        #[test]
        fn a_long_line_in_pieces_is_masked_as_the_whole(
            secrets in proptest::collection::vec("[abé]{1,6}", 1..4),
            text in "[abcé]{0,80}",
            cuts in proptest::collection::vec(0usize..80, 0..6),
        ) {
            let masker = Masker::new();
            for secret in &secrets { masker.add(secret); }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| text.floor_char_boundary(cut)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut line = LongLine::default();
            let mut shown = String::new();
            for pair in cuts.windows(2) {
                line.text.push_str(&text[pair[0]..pair[1]]);
                if let Some(piece) = masker.mask_front(&mut line, false) { shown.push_str(piece.as_str()); }
            }
            if let Some(piece) = masker.mask_front(&mut line, true) { shown.push_str(piece.as_str()); }
            prop_assert_eq!(shown, masker.mask(&text).into_string());
        }

        /// No secret is left in masked text. (Stars may stand beside letters and never complete one.)
        #[test]
        fn nothing_survives(
            secrets in proptest::collection::vec("[a-d]{1,8}", 1..8),
            text in "[a-e]{0,60}",
        ) {
            let masker = Masker::new();
            for secret in &secrets { masker.add(secret); }
            let masked = masker.mask(&text);
            for secret in &secrets { prop_assert!(!masked.as_str().contains(secret.as_str())); }
        }
    }
}
