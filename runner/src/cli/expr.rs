//! `esteira expr`: answers expressions, for the conformance harness and for experiments.
//!
//! A line in is `{"id", "mode", "expr", "contexts"}`, a line out `{"id", "value"}` or `{"id", "error"}`.

use std::{
    io::{BufRead, Write},
    process::ExitCode,
};

use super::Exit;
use serde_json::{Map, Value as Json, json};
use workflows::{
    Answers, Condition, Contexts, EvalError, Expression, JobStatus, Scope, Template, Value, with_answers,
};

/// Answers each line of `input` on `output`.
pub(super) fn run(input: impl BufRead, mut output: impl Write) -> ExitCode {
    for line in input.lines() {
        let Ok(line) = line else { return Exit::Usage.into() };
        if line.trim().is_empty() {
            continue;
        }
        let answer = match serde_json::from_str::<Json>(&line) {
            Ok(question) => answer(&question),
            Err(error) => json!({ "id": Json::Null, "error": format!("the line is no JSON: {error}") }),
        };
        if writeln!(output, "{answer}").is_err() {
            return Exit::Usage.into();
        }
    }
    ExitCode::SUCCESS
}

fn answer(question: &Json) -> Json {
    let id = question.get("id").cloned().unwrap_or(Json::Null);
    let text = question.get("expr").and_then(Json::as_str).unwrap_or_default();
    let mode = question.get("mode").and_then(Json::as_str).unwrap_or("expression");
    let mut contexts = Contexts::new();
    for (name, value) in question.get("contexts").and_then(Json::as_object).into_iter().flatten() {
        contexts.set(name, from_json(value));
    }
    let status = match contexts.get("job").and_then(|job| job.get("status")).and_then(Value::as_str) {
        Some("failure") => JobStatus::Failure,
        Some("cancelled") => JobStatus::Cancelled,
        _ => JobStatus::Success,
    };
    let scope = Scope::new(&contexts).status(&status).strict();
    match evaluate(mode, text, &scope) {
        Ok(value) => json!({ "id": id, "value": to_json(&value) }),
        Err(error) => json!({ "id": id, "error": error.to_string() }),
    }
}

fn evaluate(mode: &str, text: &str, scope: &Scope<'_>) -> Result<Value, EvalError> {
    match mode {
        "template" => {
            let template = Template::parse(text);
            without_files(|answers| Ok(Value::from(template.eval(&scope.answers(answers))?.to_text())))
        }
        "condition" => {
            let condition = Condition::parse(text);
            without_files(|answers| condition.eval(&scope.answers(answers)).map(Value::from))
        }
        _ => {
            let expression = Expression::parse(text)?;
            without_files(|answers| expression.eval(&scope.answers(answers)))
        }
    }
}

/// A question comes without a workspace, so `hashFiles` matches nothing, which is the empty text.
fn without_files(evaluate: impl FnMut(&Answers) -> Result<Value, EvalError>) -> Result<Value, EvalError> {
    with_answers(evaluate, |_| Ok(String::new()))
}

/// JSON has no NaN and no infinities: `{"$number": "NaN"}` stands for them.
fn from_json(json: &Json) -> Value {
    match json {
        Json::Object(map) => match (map.len(), map.get("$number").and_then(Json::as_str)) {
            (1, Some("NaN")) => Value::Number(f64::NAN),
            (1, Some("Infinity")) => Value::Number(f64::INFINITY),
            (1, Some("-Infinity")) => Value::Number(f64::NEG_INFINITY),
            _ => Value::object(map.iter().map(|(key, value)| (key.as_str(), from_json(value))).collect()),
        },
        Json::Array(items) => Value::array(items.iter().map(from_json).collect()),
        other => Value::from_json(other),
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Number(number) if !number.is_finite() => json!({ "$number": value.to_text() }),
        Value::Array(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Object(object) => Json::Object(
            object.iter().map(|(key, value)| (key.to_owned(), to_json(value))).collect::<Map<_, _>>(),
        ),
        other => other.to_json(),
    }
}

#[cfg(test)]
mod tests {
    use super::run;

    fn ask(line: &str) -> String {
        let mut out = Vec::new();
        run(line.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn questions_are_answered_line_by_line() {
        let out = ask(concat!(
            r#"{"id":1,"mode":"expression","expr":"a.b == 2","contexts":{"a":{"b":2}}}"#,
            "\n",
            r#"{"id":2,"mode":"template","expr":"x${{ a }}","contexts":{"a":"y"}}"#,
            "\n",
            r#"{"id":3,"expr":"fromJSON('1') * 2"}"#,
            "\n",
            r#"{"id":4,"expr":"a","contexts":{"a":{"$number":"NaN"}}}"#,
            "\n",
            r#"{"id":5,"expr":"hashFiles('**/x')"}"#,
            "\n",
            r#"{"id":6,"mode":"template","expr":"${{ fromJSON('[1]') }}"}"#,
        ));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], r#"{"id":1,"value":true}"#);
        assert_eq!(lines[1], r#"{"id":2,"value":"xy"}"#);
        assert!(lines[2].contains("error"), "{out}");
        assert_eq!(lines[3], r#"{"id":4,"value":{"$number":"NaN"}}"#);
        assert_eq!(lines[4], r#"{"id":5,"value":""}"#);
        assert_eq!(lines[5], r#"{"id":6,"value":"Array"}"#);
    }
}
