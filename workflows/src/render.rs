//! Diagnostics for people: one line with the place, a frame of the source, and help.

use std::fmt::Write as _;

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::SourceFile;

/// Whether to use terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colour {
    /// Plain text.
    #[default]
    Never,
    /// ANSI sequences.
    Always,
}

/// Longest line shown in a frame; longer ones are cut around the place.
const FRAME_WIDTH: usize = 160;

/// `file:line:column: severity: message [code]`, on one line.
pub fn render_line(diagnostic: &Diagnostic, source: &SourceFile) -> String {
    let position = source.position(diagnostic.span.start);
    format!(
        "{}:{}:{}: {}: {} [{}]",
        sanitize(source.name()),
        position.line,
        position.column,
        diagnostic.severity.as_str(),
        sanitize(&diagnostic.message),
        diagnostic.code
    )
}

/// The line of [`render_line`] with the source under it, the place marked, and the help line.
///
/// ```
/// use workflows::{Colour, SourceFile, parse_workflow, render};
/// let source = SourceFile::new("ci.yml", "on: push\njobs:\n  a:\n    run-on: x\n    steps: []\n");
/// let parsed = parse_workflow(&source);
/// let frame = render(&parsed.diagnostics[0], &source, Colour::Never);
/// assert!(frame.starts_with("ci.yml:"));
/// ```
pub fn render(diagnostic: &Diagnostic, source: &SourceFile, colour: Colour) -> String {
    let paint = |code: &str, text: &str| match colour {
        Colour::Always => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        Colour::Never => text.to_owned(),
    };
    let severity_colour = if diagnostic.severity == Severity::Error { "1;31" } else { "1;33" };
    let start = source.position(diagnostic.span.start);
    let end = source.position(diagnostic.span.end.max(diagnostic.span.start));
    let mut out = format!(
        "{}: {}: {} {}\n",
        paint("1", &format!("{}:{}:{}", sanitize(source.name()), start.line, start.column)),
        paint(severity_colour, diagnostic.severity.as_str()),
        paint("1", &sanitize(&diagnostic.message)),
        paint("2", &format!("[{}]", diagnostic.code)),
    );
    let line = source.line(start.line);
    let characters: Vec<char> = line.chars().collect();
    let column = start.column.min(characters.len() + 1);
    // A finding over several lines is marked to the end of its first.
    let marked_to = if end.line == start.line { end.column } else { characters.len() + 1 };
    let length = marked_to.saturating_sub(column).max(1);
    let from = if characters.len() > FRAME_WIDTH { column.saturating_sub(FRAME_WIDTH / 2) } else { 0 };
    let shown: String = characters.iter().skip(from).take(FRAME_WIDTH).collect();
    let number = start.line.to_string();
    let gutter = " ".repeat(number.len());
    // Tabs keep their width in the line of marks.
    let lead: String = characters[from..column - 1]
        .iter()
        .map(|&c| if c == '\t' { "\t".to_owned() } else { " ".repeat(width(c)) })
        .collect();
    let marked: usize =
        characters[column - 1..].iter().take(length.min(FRAME_WIDTH)).map(|&c| width(c)).sum();
    let marks = "^".repeat(marked.max(1));
    // Writing to a string cannot fail.
    let _ = writeln!(out, " {gutter} {}", paint("34", "|"));
    let _ = writeln!(out, " {} {} {}", paint("34", &number), paint("34", "|"), sanitize(&shown));
    let _ = writeln!(out, " {gutter} {} {lead}{}", paint("34", "|"), paint(severity_colour, &marks));
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(out, " {gutter} {} {}", paint("36", "= help:"), sanitize(help));
    }
    out
}

/// Columns a character takes in a terminal: East Asian wide characters and emoji take two, marks none.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36F | 0x200B..=0x200F | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F
        | 0x2E80..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// Control characters of untrusted text must not reach a terminal.
fn sanitize(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Code;
    use crate::source::Span;

    #[test]
    fn frames_mark_the_place() {
        let source = SourceFile::new("a.yml", "on: push\nbad\u{1b}: 漢字 x\n");
        let diagnostic =
            Diagnostic::warning(Code::UnknownKey, Span::new(22, 23), "what is x").with_help("remove it");
        let frame = render(&diagnostic, &source, Colour::Never);
        assert_eq!(
            frame,
            "a.yml:2:10: warning: what is x [unknown-key]\n   |\n 2 | bad\u{fffd}: 漢字 x\n   |            ^\n   = help: remove it\n"
        );
        assert_eq!(render_line(&diagnostic, &source), "a.yml:2:10: warning: what is x [unknown-key]");
    }

    #[test]
    fn colours_and_long_lines() {
        let long = format!("k: {}HERE{}", "x".repeat(300), "y".repeat(300));
        let source = SourceFile::new("a.yml", &long);
        let diagnostic = Diagnostic::error(Code::WrongValue, Span::new(303, 307), "no");
        let frame = render(&diagnostic, &source, Colour::Always);
        assert!(frame.contains("\u{1b}[1;31m^^^^\u{1b}[0m"));
        assert!(frame.lines().all(|line| line.chars().count() < 220));
    }

    #[test]
    fn a_place_beyond_the_text_is_still_shown() {
        let source = SourceFile::new("a.yml", "");
        let diagnostic = Diagnostic::error(Code::MissingKey, Span::new(5, 9), "empty");
        assert!(render(&diagnostic, &source, Colour::Never).contains("a.yml:1:1"));
    }
}
