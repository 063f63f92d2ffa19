//! Text of an expression to tokens. Every token knows its byte range, so that errors can point into
//! the string they come from.

use std::borrow::Cow;
use std::ops::Range;

use super::error::{SyntaxError, SyntaxErrorKind};
use super::text;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token<'s> {
    Open,
    Close,
    OpenIndex,
    CloseIndex,
    Comma,
    Dot,
    Star,
    Not,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Equal,
    And,
    Or,
    Null,
    Bool(bool),
    Number(f64),
    Text(Cow<'s, str>),
    /// A name after a point.
    Property(&'s str),
    /// A name that a parenthesis follows.
    Function(&'s str),
    /// A name of a context.
    Name(&'s str),
    End,
}

/// Splits `source` on demand.
pub(crate) struct Lexer<'s> {
    source: &'s str,
    at: usize,
    /// Whether the last token can end an operand: then `.` is a dereference, and a sign no number.
    after_operand: bool,
    after_dot: bool,
}

impl<'s> Lexer<'s> {
    pub(crate) fn new(source: &'s str) -> Self {
        Self { source, at: 0, after_operand: false, after_dot: false }
    }

    /// The next token and its byte range.
    pub(crate) fn next(&mut self) -> Result<(Token<'s>, Range<usize>), SyntaxError> {
        let rest = &self.source[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        let start = self.at;
        let rest = &self.source[start..];
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, start..start));
        };
        let token = match first {
            '(' => self.take(1, Token::Open),
            ')' => self.take(1, Token::Close),
            '[' => self.take(1, Token::OpenIndex),
            ']' => self.take(1, Token::CloseIndex),
            ',' => self.take(1, Token::Comma),
            '*' => self.take(1, Token::Star),
            '!' if rest.starts_with("!=") => self.take(2, Token::NotEqual),
            '!' => self.take(1, Token::Not),
            '>' if rest.starts_with(">=") => self.take(2, Token::GreaterEqual),
            '>' => self.take(1, Token::Greater),
            '<' if rest.starts_with("<=") => self.take(2, Token::LessEqual),
            '<' => self.take(1, Token::Less),
            '=' if rest.starts_with("==") => self.take(2, Token::Equal),
            '&' if rest.starts_with("&&") => self.take(2, Token::And),
            '|' if rest.starts_with("||") => self.take(2, Token::Or),
            '\'' => self.read_text()?,
            '.' if self.after_operand => self.take(1, Token::Dot),
            '.' | '+' | '-' | '0'..='9' => self.read_number()?,
            'a'..='z' | 'A'..='Z' | '_' => self.read_name()?,
            _ => return Err(self.unexpected(start)),
        };
        self.after_operand = matches!(
            token,
            Token::Close
                | Token::CloseIndex
                | Token::Star
                | Token::Null
                | Token::Bool(_)
                | Token::Number(_)
                | Token::Text(_)
                | Token::Property(_)
                | Token::Name(_)
        );
        self.after_dot = token == Token::Dot;
        Ok((token, start..self.at))
    }

    fn take(&mut self, length: usize, token: Token<'s>) -> Token<'s> {
        self.at += length;
        token
    }

    fn read_text(&mut self) -> Result<Token<'s>, SyntaxError> {
        let start = self.at;
        let body = &self.source[start + 1..];
        let mut from = 0;
        while let Some(quote) = body[from..].find('\'') {
            let end = from + quote;
            from = end + 1;
            if body[from..].starts_with('\'') {
                from += 1;
            } else {
                self.at = start + 1 + from;
                let text = &body[..end];
                let doubled = text.contains('\'');
                return Ok(Token::Text(if doubled { text.replace("''", "'").into() } else { text.into() }));
            }
        }
        Err(SyntaxError::unexpected(SyntaxErrorKind::Lexing, self.source, start..self.source.len()))
    }

    fn read_number(&mut self) -> Result<Token<'s>, SyntaxError> {
        let start = self.at;
        let word = &self.source[start..start + word_length(&self.source[start..])];
        let number = text::parse_number(word);
        if number.is_nan() || word.is_empty() {
            return Err(self.unexpected(start));
        }
        self.at += word.len();
        Ok(Token::Number(number))
    }

    fn read_name(&mut self) -> Result<Token<'s>, SyntaxError> {
        let start = self.at;
        let rest = &self.source[start..];
        let length =
            rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte)).count();
        let name = &rest[..length];
        // What follows must end the word; `github/workflow` is one wrong word, not three tokens.
        if rest[length..].starts_with(|c: char| !ends_word(c)) {
            return Err(self.unexpected(start));
        }
        self.at += length;
        if self.after_dot {
            return Ok(Token::Property(name));
        }
        Ok(match name {
            "null" => Token::Null,
            "true" => Token::Bool(true),
            "false" => Token::Bool(false),
            "NaN" => Token::Number(f64::NAN),
            "Infinity" => Token::Number(f64::INFINITY),
            _ if self.source[self.at..].trim_start().starts_with('(') => Token::Function(name),
            _ => Token::Name(name),
        })
    }

    /// The error for the word at `start`, which reaches to the next boundary.
    fn unexpected(&self, start: usize) -> SyntaxError {
        let rest = &self.source[start..];
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let length = first + rest[first..].find(|c| ends_word(c) && c != '.').unwrap_or(rest.len() - first);
        SyntaxError::unexpected(SyntaxErrorKind::Lexing, self.source, start..start + length)
    }
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || "()[],.!<>=&|*".contains(c)
}

/// Length of a number: to the next boundary, which a point is not.
fn word_length(rest: &str) -> usize {
    rest.find(|c| ends_word(c) && c != '.' && c != '*').unwrap_or(rest.len())
}
