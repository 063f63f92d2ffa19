//! Tokens to a tree by precedence climbing. Nesting of groups and the height of the tree are bounded,
//! so neither parsing nor any later walk can exhaust the stack.

use std::ops::Range;

use super::ast::{Comparison, Expr, ExprKind, Function};
use super::error::{SyntaxError, SyntaxErrorKind};
use super::lexer::{Lexer, Token};
use super::text;
use super::value::Value;
use crate::context::ContextName;
use crate::suggest;

/// Longest expression, in characters.
pub(crate) const MAX_LENGTH: usize = 21_000;
/// Greatest height of the tree.
const MAX_DEPTH: u16 = 50;
/// Deepest nesting of groups, which add no height by themselves but use the stack.
const MAX_GROUPS: usize = 60;

pub(crate) fn parse(source: &str) -> Result<Option<Expr>, SyntaxError> {
    if source.len() > MAX_LENGTH && source.encode_utf16().count() > MAX_LENGTH {
        return Err(SyntaxError::plain(
            format!("Exceeded max expression length {MAX_LENGTH}"),
            0..source.len(),
        ));
    }
    let mut lexer = Lexer::new(source);
    let (token, range) = lexer.next()?;
    let mut parser = Parser { source, lexer, token, range, previous: 0..0, groups: 0 };
    if parser.token == Token::End {
        return Ok(None);
    }
    let root = parser.parse_or()?;
    if parser.token != Token::End {
        return Err(parser.unexpected());
    }
    Ok(Some(root))
}

struct Parser<'s> {
    source: &'s str,
    lexer: Lexer<'s>,
    token: Token<'s>,
    range: Range<usize>,
    previous: Range<usize>,
    groups: usize,
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<(), SyntaxError> {
        let (token, range) = self.lexer.next()?;
        self.token = token;
        self.previous = std::mem::replace(&mut self.range, range);
        Ok(())
    }

    fn accept(&mut self, token: &Token<'_>) -> Result<bool, SyntaxError> {
        if self.token == *token {
            self.advance()?;
            return Ok(true);
        }
        Ok(false)
    }

    fn unexpected(&self) -> SyntaxError {
        if self.token == Token::End {
            return SyntaxError::located(
                SyntaxErrorKind::Parsing,
                "Unexpected end of expression",
                self.source,
                self.previous.clone(),
            );
        }
        SyntaxError::unexpected(SyntaxErrorKind::Parsing, self.source, self.range.clone())
    }

    /// A node from `start` to the end of the last token read, one higher than its children.
    fn node(&self, kind: ExprKind, start: usize, below: u16) -> Result<Expr, SyntaxError> {
        let end = self.previous.end;
        if below >= MAX_DEPTH {
            return Err(SyntaxError::plain(format!("Exceeded max expression depth {MAX_DEPTH}"), start..end));
        }
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Ok(Expr { kind, start: offset(start), end: offset(end), height: below + 1 })
    }

    fn parse_or(&mut self) -> Result<Expr, SyntaxError> {
        let first = self.parse_and()?;
        if self.token != Token::Or {
            return Ok(first);
        }
        let start = first.start as usize;
        let mut items = Vec::new();
        flatten(first, &mut items, false);
        while self.accept(&Token::Or)? {
            let item = self.parse_and()?;
            flatten(item, &mut items, false);
        }
        let below = items.iter().map(|item| item.height).max().unwrap_or(0);
        self.node(ExprKind::Or(items), start, below)
    }

    fn parse_and(&mut self) -> Result<Expr, SyntaxError> {
        let first = self.parse_equality()?;
        if self.token != Token::And {
            return Ok(first);
        }
        let start = first.start as usize;
        let mut items = Vec::new();
        flatten(first, &mut items, true);
        while self.accept(&Token::And)? {
            let item = self.parse_equality()?;
            flatten(item, &mut items, true);
        }
        let below = items.iter().map(|item| item.height).max().unwrap_or(0);
        self.node(ExprKind::And(items), start, below)
    }

    fn parse_equality(&mut self) -> Result<Expr, SyntaxError> {
        let mut left = self.parse_order()?;
        loop {
            let comparison = match self.token {
                Token::Equal => Comparison::Equal,
                Token::NotEqual => Comparison::NotEqual,
                _ => return Ok(left),
            };
            self.advance()?;
            let right = self.parse_order()?;
            left = self.compare(comparison, left, right)?;
        }
    }

    fn parse_order(&mut self) -> Result<Expr, SyntaxError> {
        let mut left = self.parse_unary()?;
        loop {
            let comparison = match self.token {
                Token::Less => Comparison::Less,
                Token::LessEqual => Comparison::LessEqual,
                Token::Greater => Comparison::Greater,
                Token::GreaterEqual => Comparison::GreaterEqual,
                _ => return Ok(left),
            };
            self.advance()?;
            let right = self.parse_unary()?;
            left = self.compare(comparison, left, right)?;
        }
    }

    fn compare(&self, comparison: Comparison, left: Expr, right: Expr) -> Result<Expr, SyntaxError> {
        let (start, below) = (left.start as usize, left.height.max(right.height));
        let kind = ExprKind::Compare(comparison, Box::new((left, right)));
        self.node(kind, start, below)
    }

    fn parse_unary(&mut self) -> Result<Expr, SyntaxError> {
        let mut starts = Vec::new();
        while self.token == Token::Not {
            starts.push(self.range.start);
            self.advance()?;
        }
        let mut operand = self.parse_postfix()?;
        for start in starts.into_iter().rev() {
            let below = operand.height;
            operand = self.node(ExprKind::Not(Box::new(operand)), start, below)?;
        }
        Ok(operand)
    }

    fn parse_postfix(&mut self) -> Result<Expr, SyntaxError> {
        let on_literal =
            matches!(self.token, Token::Null | Token::Bool(_) | Token::Number(_) | Token::Text(_));
        let mut operand = self.parse_primary()?;
        loop {
            let start = operand.start as usize;
            match self.token {
                // A literal has nothing to look into; the point or bracket is the mistake.
                Token::Dot | Token::OpenIndex if on_literal => return Err(self.unexpected()),
                Token::Dot => {
                    self.advance()?;
                    operand = match self.token {
                        Token::Property(name) => {
                            let range = self.range.clone();
                            self.advance()?;
                            let index = literal(Value::from(name), range);
                            self.index(operand, index, start)?
                        }
                        Token::Star => {
                            self.advance()?;
                            self.star(operand, start)?
                        }
                        _ => return Err(self.unexpected()),
                    };
                }
                Token::OpenIndex => {
                    self.advance()?;
                    if self.token == Token::Star {
                        self.advance()?;
                        self.close(&Token::CloseIndex)?;
                        operand = self.star(operand, start)?;
                    } else {
                        self.enter()?;
                        let index = self.parse_or()?;
                        self.groups -= 1;
                        self.close(&Token::CloseIndex)?;
                        operand = self.index(operand, index, start)?;
                    }
                }
                _ => return Ok(operand),
            }
        }
    }

    fn index(&self, of: Expr, index: Expr, start: usize) -> Result<Expr, SyntaxError> {
        let below = of.height.max(index.height);
        self.node(ExprKind::Index(Box::new((of, index))), start, below)
    }

    fn star(&self, of: Expr, start: usize) -> Result<Expr, SyntaxError> {
        let below = of.height;
        self.node(ExprKind::Star { of: Box::new(of) }, start, below)
    }

    fn enter(&mut self) -> Result<(), SyntaxError> {
        self.groups += 1;
        if self.groups > MAX_GROUPS {
            return Err(SyntaxError::plain(
                format!("Exceeded max expression depth {MAX_DEPTH}"),
                self.range.clone(),
            ));
        }
        Ok(())
    }

    fn close(&mut self, token: &Token<'_>) -> Result<(), SyntaxError> {
        if self.accept(token)? { Ok(()) } else { Err(self.unexpected()) }
    }

    fn parse_primary(&mut self) -> Result<Expr, SyntaxError> {
        let range = self.range.clone();
        // `Star` stands in while the token's text is moved out; every arm advances or puts it back.
        let value = match std::mem::replace(&mut self.token, Token::Star) {
            Token::Null => Value::Null,
            Token::Bool(value) => Value::Bool(value),
            Token::Number(value) => Value::Number(value),
            Token::Text(value) => Value::string(&*value),
            Token::Open => {
                self.enter()?;
                self.advance()?;
                let inner = self.parse_or()?;
                self.groups -= 1;
                self.close(&Token::Close)?;
                return Ok(inner);
            }
            Token::Name(name) => {
                let context = ContextName::from_name(name);
                self.advance()?;
                return self.node(ExprKind::Context(context), range.start, 0);
            }
            Token::Function(name) => return self.parse_call(name, range),
            other => {
                self.token = other;
                return Err(self.unexpected());
            }
        };
        self.advance()?;
        Ok(literal(value, range))
    }

    fn parse_call(&mut self, name: &str, range: Range<usize>) -> Result<Expr, SyntaxError> {
        let Some(function) = Function::by_name(name) else {
            let mut error =
                SyntaxError::located(SyntaxErrorKind::Parsing, "Unrecognized function", self.source, range);
            if let Some(near) = suggest::nearest(name, Function::ALL.iter().map(|function| function.name())) {
                error = error.with_help(format!("did you mean {near}()?"));
            }
            return Err(error);
        };
        self.advance()?;
        self.close(&Token::Open)?;
        self.enter()?;
        let mut arguments = Vec::new();
        if self.token != Token::Close {
            loop {
                arguments.push(self.parse_or()?);
                if !self.accept(&Token::Comma)? {
                    break;
                }
            }
        }
        self.groups -= 1;
        self.close(&Token::Close)?;
        self.check_arity(function, arguments.len(), &range)?;
        let below = arguments.iter().map(|argument| argument.height).max().unwrap_or(0);
        self.node(ExprKind::Call { function, arguments }, range.start, below)
    }

    fn check_arity(&self, function: Function, count: usize, range: &Range<usize>) -> Result<(), SyntaxError> {
        let (fewest, most) = function.arity();
        let what = if count < fewest {
            "Too few parameters supplied"
        } else if count > most {
            "Too many parameters supplied"
        } else if function == Function::Case && count.is_multiple_of(2) {
            "Even number of parameters supplied, an odd number is required"
        } else {
            return Ok(());
        };
        let range = range.start..self.previous.end;
        let expected = match (fewest, most) {
            (0, 0) => "takes no arguments".to_owned(),
            (fewest, most) if fewest == most => {
                format!("takes {fewest} argument{}", if fewest == 1 { "" } else { "s" })
            }
            _ if function == Function::Case => {
                "takes pairs of condition and value, then a default".to_owned()
            }
            (fewest, 255) => format!("takes at least {fewest}"),
            (fewest, most) => format!("takes {fewest} to {most} arguments"),
        };
        Err(SyntaxError::located(SyntaxErrorKind::Parsing, what, self.source, range)
            .with_help(format!("{}() {expected}, here are {count}", function.name())))
    }
}

/// Chains of the same operator are one node, so that they add no height.
fn flatten(item: Expr, into: &mut Vec<Expr>, and: bool) {
    match item.kind {
        ExprKind::And(items) if and => into.extend(items),
        ExprKind::Or(items) if !and => into.extend(items),
        kind => into.push(Expr { kind, ..item }),
    }
}

fn literal(value: Value, range: Range<usize>) -> Expr {
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Expr { kind: ExprKind::Literal(value), start: offset(range.start), end: offset(range.end), height: 1 }
}

/// Whether the text is a number for the language (used for YAML scalars by their readers).
pub(crate) fn is_number(value: &str) -> bool {
    !value.trim().is_empty() && !text::parse_number(value).is_nan()
}
