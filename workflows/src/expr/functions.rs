//! The functions of the language with the errors GitHub gives.

use super::ast::{Expr, Function};
use super::compare;
use super::error::{EvalError, Need};
use super::eval::Evaluator;
use super::json;
use super::text;
use super::value::Value;

pub(crate) fn call(
    run: &mut Evaluator<'_>,
    function: Function,
    arguments: &[Expr],
) -> Result<Value, EvalError> {
    match function {
        Function::Contains => {
            let (search, item) = two(run, arguments)?;
            Ok(Value::Bool(contains(&search, &item)))
        }
        Function::StartsWith => {
            let (text, part) = two(run, arguments)?;
            Ok(Value::Bool(match_text(&text, &part, |text, part| text.starts_with(part))))
        }
        Function::EndsWith => {
            let (text, part) = two(run, arguments)?;
            Ok(Value::Bool(match_text(&text, &part, |text, part| text.ends_with(part))))
        }
        Function::Format => format(run, arguments),
        Function::Join => join(run, arguments),
        Function::ToJson => {
            let value = one(run, arguments)?;
            let text = json::write(&value);
            run.charge(text.len())?;
            Ok(Value::from(text))
        }
        Function::FromJson => {
            let text = one(run, arguments)?.to_shared_text();
            run.charge(text.len())?;
            json::read(&text).map_err(EvalError::Failed)
        }
        Function::HashFiles => hash_files(run, arguments),
        Function::Case => case(run, arguments),
        Function::Always => Ok(Value::Bool(true)),
        Function::Success | Function::Failure | Function::Cancelled => status(run, function, arguments),
    }
}

fn one(run: &mut Evaluator<'_>, arguments: &[Expr]) -> Result<Value, EvalError> {
    arguments.first().map_or(Ok(Value::Null), |argument| run.eval(argument))
}

fn two(run: &mut Evaluator<'_>, arguments: &[Expr]) -> Result<(Value, Value), EvalError> {
    match arguments {
        [first, second, ..] => Ok((run.eval(first)?, run.eval(second)?)),
        _ => Err(EvalError::failed("Too few parameters supplied")),
    }
}

pub(crate) fn contains(search: &Value, item: &Value) -> bool {
    match search {
        Value::Array(items) => items.iter().any(|candidate| compare::equals(candidate, item)),
        Value::Object(_) => false,
        _ => match_text(search, item, |text, part| text.contains(part)),
    }
}

fn match_text(text: &Value, part: &Value, test: impl Fn(&str, &str) -> bool) -> bool {
    if !text.is_primitive() || !part.is_primitive() {
        return false;
    }
    let (text, part) = (text.to_shared_text(), part.to_shared_text());
    test(&text::fold_cow(&text), &text::fold_cow(&part))
}

fn join(run: &mut Evaluator<'_>, arguments: &[Expr]) -> Result<Value, EvalError> {
    let list = one(run, arguments)?;
    let items = match &list {
        Value::Array(items) => items,
        Value::Object(_) => return Ok(Value::from("")),
        primitive => return Ok(Value::String(primitive.to_shared_text())),
    };
    let separator = match arguments.get(1) {
        Some(argument) => {
            let value = run.eval(argument)?;
            if value.is_primitive() { value.to_text() } else { ",".to_owned() }
        }
        None => ",".to_owned(),
    };
    let mut joined = String::new();
    for (at, item) in items.iter().enumerate() {
        let text = item.to_shared_text();
        run.charge(text.len() + separator.len())?;
        if at > 0 {
            joined.push_str(&separator);
        }
        joined.push_str(&text);
    }
    Ok(Value::from(joined))
}

/// A piece of a format string.
#[derive(Debug, PartialEq)]
pub(crate) enum FormatPart<'f> {
    Text(&'f str),
    Argument(usize),
}

/// Splits a format string; `None` when its braces are wrong.
pub(crate) fn format_parts(pattern: &str) -> Option<Vec<FormatPart<'_>>> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(brace) = rest.find(['{', '}']) {
        let (before, from_brace) = rest.split_at(brace);
        let doubled = if from_brace.starts_with('{') { "{{" } else { "}}" };
        if from_brace.starts_with(doubled) {
            parts.push(FormatPart::Text(&rest[..=brace]));
            rest = &from_brace[2..];
            continue;
        }
        let inner = from_brace.strip_prefix('{')?;
        let digits = inner.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = inner.split_at(digits);
        // GitHub reads the number as a byte; format specifiers exist only for types that never occur.
        let index: u8 = number.parse().ok()?;
        rest = after.strip_prefix('}')?;
        if !before.is_empty() {
            parts.push(FormatPart::Text(before));
        }
        parts.push(FormatPart::Argument(usize::from(index)));
    }
    if !rest.is_empty() {
        parts.push(FormatPart::Text(rest));
    }
    Some(parts)
}

fn format(run: &mut Evaluator<'_>, arguments: &[Expr]) -> Result<Value, EvalError> {
    let pattern = one(run, arguments)?.to_shared_text();
    let Some(parts) = format_parts(&pattern) else {
        return Err(EvalError::Failed(format!("The following format string is invalid: {pattern}")));
    };
    let mut values: Vec<Option<Value>> = vec![None; arguments.len()];
    let mut result = String::new();
    for part in parts {
        match part {
            FormatPart::Text(text) => {
                run.charge(text.len())?;
                result.push_str(text);
            }
            FormatPart::Argument(index) => {
                let Some(argument) = arguments.get(index + 1) else {
                    return Err(EvalError::Failed(format!(
                        "The following format string references more arguments than were supplied: {pattern}"
                    )));
                };
                let value = match &values[index + 1] {
                    Some(value) => value.clone(),
                    None => run.eval(argument)?,
                };
                let text = value.to_shared_text();
                values[index + 1] = Some(value);
                run.charge(text.len())?;
                result.push_str(&text);
            }
        }
    }
    Ok(Value::from(result))
}

fn case(run: &mut Evaluator<'_>, arguments: &[Expr]) -> Result<Value, EvalError> {
    let (pairs, default) = arguments.split_at(arguments.len().saturating_sub(1));
    for pair in pairs.chunks_exact(2) {
        match run.eval(&pair[0])? {
            Value::Bool(true) => return run.eval(&pair[1]),
            Value::Bool(false) => {}
            _ => return Err(EvalError::failed("case predicate must evaluate to a boolean value")),
        }
    }
    one(run, default)
}

fn hash_files(run: &mut Evaluator<'_>, arguments: &[Expr]) -> Result<Value, EvalError> {
    let mut patterns = Vec::with_capacity(arguments.len());
    for argument in arguments {
        patterns.push(run.eval(argument)?.to_text());
    }
    match run.scope.answers.hash(&patterns) {
        Some(Ok(hash)) => Ok(Value::from(hash.as_str())),
        Some(Err(message)) => Err(EvalError::failed(message.as_str())),
        None => Err(EvalError::Need(Need::HashFiles(patterns))),
    }
}

fn status(run: &mut Evaluator<'_>, function: Function, arguments: &[Expr]) -> Result<Value, EvalError> {
    let mut jobs = Vec::with_capacity(arguments.len());
    for argument in arguments {
        jobs.push(run.eval(argument)?.to_text());
    }
    let answer = match (run.scope.status, function) {
        (Some(status), Function::Success) => status.success(&jobs),
        (Some(status), Function::Failure) => status.failure(&jobs),
        (Some(status), _) => status.cancelled(),
        (None, _) => function == Function::Success,
    };
    Ok(Value::Bool(answer))
}
