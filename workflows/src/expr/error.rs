//! What can go wrong with an expression: before it runs ([`SyntaxError`]) and while it does
//! ([`EvalError`]), in GitHub's words where people know them from there.

use std::fmt;
use std::ops::Range;

/// Which stage refused the text of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntaxErrorKind {
    /// A character or word that is no token.
    Lexing,
    /// Tokens in an order that means nothing, unknown functions, wrong argument counts, limits.
    Parsing,
}

/// An expression that cannot be understood, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Which stage refused it.
    pub kind: SyntaxErrorKind,
    /// One sentence in GitHub's words, with position and text of the expression.
    pub message: String,
    /// The bytes of the expression that are at fault.
    pub range: Range<usize>,
    /// What to write instead, where that can be guessed.
    pub help: Option<String>,
}

impl SyntaxError {
    /// 1-based position in UTF-16 units, as GitHub counts.
    fn position(source: &str, at: usize) -> usize {
        source.get(..at).map_or(0, |before| before.encode_utf16().count()) + 1
    }

    /// Message of the form `what: 'symbol'. Located at position N within expression: source`.
    pub(crate) fn located(kind: SyntaxErrorKind, what: &str, source: &str, range: Range<usize>) -> Self {
        let symbol = source.get(range.clone()).unwrap_or("");
        let position = Self::position(source, range.start);
        let message =
            format!("{what}: '{symbol}'. Located at position {position} within expression: {source}");
        Self { kind, message, range, help: None }
    }

    pub(crate) fn unexpected(kind: SyntaxErrorKind, source: &str, range: Range<usize>) -> Self {
        let mut error = Self::located(kind, "Unexpected symbol", source, range.clone());
        error.help = help_for(source.get(range).unwrap_or(""));
        error
    }

    pub(crate) fn plain(message: impl Into<String>, range: Range<usize>) -> Self {
        Self { kind: SyntaxErrorKind::Parsing, message: message.into(), range, help: None }
    }

    #[must_use]
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Advice for symbols that other languages have.
fn help_for(symbol: &str) -> Option<String> {
    let advice = match symbol.chars().next()? {
        '"' => "strings are written in single quotes: 'text'",
        '\'' => "the string is not closed; a quote inside a string is written twice: 'it''s'",
        '+' => "there is no arithmetic; join text with format('{0}{1}', a, b)",
        '=' => "equality is written ==",
        '&' => "and is written &&",
        '|' => "or is written ||",
        '$' => "no ${{ }} inside an expression: write the name alone",
        _ => return None,
    };
    Some(advice.to_owned())
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// Something the evaluation needs from outside; answer it and evaluate again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// `hashFiles(...)`: the digest of the files these patterns match in the workspace.
    HashFiles(Vec<String>),
}

/// Why an evaluation has no value.
#[derive(Debug, Clone, PartialEq)]
pub enum EvalError {
    /// The caller has to answer something first, then evaluate again.
    Need(Need),
    /// The text was no expression in the first place.
    Syntax(SyntaxError),
    /// The evaluation failed, with one sentence.
    Failed(String),
}

impl EvalError {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Need(Need::HashFiles(patterns)) => {
                write!(formatter, "hashFiles('{}') cannot be answered here", patterns.join("', '"))
            }
            Self::Syntax(error) => error.fmt(formatter),
            Self::Failed(message) => formatter.write_str(message),
        }
    }
}

impl std::error::Error for EvalError {}

impl From<SyntaxError> for EvalError {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error)
    }
}
