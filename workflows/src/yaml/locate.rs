//! From a range within a scalar's text back to the source it was written in.

use std::ops::Range;

use super::ScalarStyle;
use crate::source::{SourceFile, Span};

/// Where `range` of `text`, the content of the scalar at `span`, stands in the source.
pub(crate) fn locate(
    source: &SourceFile,
    span: Span,
    style: ScalarStyle,
    text: &str,
    range: Range<usize>,
) -> Span {
    let written = source.slice(span);
    let direct = |skip: usize| {
        let start = span.start as usize + skip;
        Span::from_offsets(start + range.start, start + range.end)
    };
    let skip = usize::from(matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted));
    if written.get(skip..).is_some_and(|inner| inner.starts_with(text)) {
        return direct(skip);
    }
    match style {
        ScalarStyle::Literal => locate_in_block(source, span, text, &range),
        _ => locate_by_count(source, span, text, &range),
    }
    .unwrap_or(span)
}

/// A line of the text is a line of a literal block behind its indentation.
fn locate_in_block(source: &SourceFile, span: Span, text: &str, range: &Range<usize>) -> Option<Span> {
    let header = source.position(span.start).line;
    let before = text.get(..range.start)?;
    let line_in_text = before.matches('\n').count();
    let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
    let line = text.split('\n').nth(line_in_text)?;
    let number = header + 1 + line_in_text;
    let indent = source.line(number).len().checked_sub(line.trim_end_matches('\r').len())?;
    let start = source.line_start(number) + indent + column;
    let length = range.len().min(line.len().saturating_sub(column)).max(1);
    Some(Span::from_offsets(start, start + length))
}

/// In scalars with escapes or folded lines: the expression whose opening comes as the same in number.
fn locate_by_count(source: &SourceFile, span: Span, text: &str, range: &Range<usize>) -> Option<Span> {
    const OPENING: &str = "${{";
    // The opening itself may be what the range starts with.
    let until = (range.start + OPENING.len()).min(text.len());
    let prefix = text.get(..until).or_else(|| text.get(..range.start))?;
    let count = prefix.matches(OPENING).count().checked_sub(1)?;
    let opening_in_text = prefix.rfind(OPENING)?;
    let written = source.slice(span);
    let (opening, _) = written.match_indices(OPENING).nth(count)?;
    let wanted = text.get(range.clone())?;
    let start = span.start as usize + opening;
    // The words of the range can usually be found as they are behind the opening.
    let offset = range.start.saturating_sub(opening_in_text);
    let exact = text.get(opening_in_text..range.end).is_some_and(|part| written[opening..].starts_with(part));
    if exact {
        return Some(Span::from_offsets(start + offset, start + offset + range.len()));
    }
    let first_line = wanted.lines().next().unwrap_or("");
    match written[opening..].find(first_line) {
        Some(found) if !first_line.is_empty() => {
            Some(Span::from_offsets(start + found, start + found + first_line.len()))
        }
        _ => Some(Span::from_offsets(start, start + OPENING.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, style: ScalarStyle, written: &str, text: &str, part: &str) -> (usize, usize) {
        let source = SourceFile::new("f", yaml);
        let start = yaml.find(written).expect("written");
        let span = Span::from_offsets(start, start + written.len());
        let at = text.find(part).expect("part");
        let found = locate(&source, span, style, text, at..at + part.len());
        let position = source.position(found.start);
        (position.line, position.column)
    }

    #[test]
    fn every_style_leads_back_to_its_place() {
        assert_eq!(check("a: x ${{ y }}", ScalarStyle::Plain, "x ${{ y }}", "x ${{ y }}", "y"), (1, 10));
        assert_eq!(
            check("a: 'x ${{ y }}'", ScalarStyle::SingleQuoted, "'x ${{ y }}'", "x ${{ y }}", "y"),
            (1, 11)
        );
        let block = "a: |\n  one\n  ${{ two }}\n";
        assert_eq!(check(block, ScalarStyle::Literal, &block[3..], "one\n${{ two }}\n", "two"), (3, 7));
        let folded = "a: >\n  one ${{ b }}\n  ${{ two }}\n";
        assert_eq!(
            check(folded, ScalarStyle::Folded, &folded[3..], "one ${{ b }} ${{ two }}\n", "two"),
            (3, 7)
        );
        let quoted = "a: 'it''s ${{ c }} ${{ d }}'";
        assert_eq!(
            check(quoted, ScalarStyle::SingleQuoted, &quoted[3..], "it's ${{ c }} ${{ d }}", "d"),
            (1, 24)
        );
    }
}
