//! Inputs of `workflow_dispatch` and `workflow_call`: given values and defaults become typed.

use crate::expr::{Object, Scope, Value, text};
use crate::model::{Input, InputKind, Trigger};
use crate::suggest;

/// The `inputs` context: every declared input with its given value or default, of its type.
///
/// `scope` is for defaults that are expressions.
///
/// ```
/// use workflows::{Contexts, Scope, SourceFile, Value, parse_payload, plan::resolve_inputs};
/// let text = "on: {workflow_dispatch: {inputs: {loud: {type: boolean, default: true}}}}\njobs: {a: {runs-on: x}}";
/// let workflow = parse_payload(&SourceFile::new("w.yml", text)).into_result().expect("valid");
/// let trigger = workflow.on.get("workflow_dispatch").unwrap();
/// let contexts = Contexts::new();
/// let scope = Scope::new(&contexts);
/// assert_eq!(resolve_inputs(trigger, &[], &scope)?.get("loud"), Some(&Value::Bool(true)));
/// assert!(resolve_inputs(trigger, &[("lout".to_owned(), Value::Bool(true))], &scope).is_err());
/// # Ok::<(), Vec<String>>(())
/// ```
///
/// # Errors
/// One sentence for each input that is unknown, missing, or of the wrong type.
pub fn resolve_inputs(
    trigger: &Trigger,
    given: &[(String, Value)],
    scope: &Scope<'_>,
) -> Result<Object, Vec<String>> {
    let (inputs, errors) = inputs_as_given(trigger, given, scope);
    if errors.is_empty() { Ok(inputs) } else { Err(errors) }
}

/// Like [`resolve_inputs`] for an event that has happened: what is wrong with it is told beside the inputs, in which an
/// unknown one stands as it was given, one of the wrong type too, and a missing one is empty.
pub fn inputs_as_given(
    trigger: &Trigger,
    given: &[(String, Value)],
    scope: &Scope<'_>,
) -> (Object, Vec<String>) {
    let mut errors = Vec::new();
    let mut inputs = Object::with_capacity(trigger.inputs.len());
    for (name, value) in given {
        if trigger.input(name).is_none() {
            let known = trigger.inputs.iter().map(|input| input.name.value.as_str());
            let hint = suggest::nearest(name, known)
                .map_or_else(String::new, |near| format!(", did you mean '{near}'?"));
            errors.push(format!("Invalid input, {name} is not defined in the workflow{hint}"));
            inputs.insert(name.as_str(), value.clone());
        }
    }
    for input in &trigger.inputs {
        let name = &input.name.value;
        let value = given
            .iter()
            .rev()
            .find(|(given, _)| text::equals_ignore_case(given, name))
            .map(|(_, value)| value);
        let empty = |value: &Value| matches!(value, Value::Null) || value.as_str().is_some_and(str::is_empty);
        let value = match value {
            Some(value) if !(empty(value) && input.default.is_some()) => value.clone(),
            _ => match &input.default {
                Some(default) => match default.eval(scope) {
                    Ok(value) => value,
                    Err(error) => {
                        errors.push(format!("the default of input '{name}' cannot be evaluated: {error}"));
                        continue;
                    }
                },
                None if input.required => {
                    errors.push(format!("Input '{name}' is required, but not provided"));
                    Value::Null
                }
                None => Value::Null,
            },
        };
        let value = typed(input, value.clone()).unwrap_or_else(|error| {
            errors.push(error);
            value
        });
        inputs.insert(name.as_str(), value);
    }
    (inputs, errors)
}

/// A value in the input's type; text is read as booleans and numbers are written.
fn typed(input: &Input, value: Value) -> Result<Value, String> {
    let name = &input.name.value;
    if matches!(value, Value::Null)
        || value.as_str().is_some_and(str::is_empty) && input.kind != InputKind::String
    {
        return Ok(input.empty_value());
    }
    let wrong = |expected: &str| {
        let found =
            if value.is_primitive() { format!("'{}'", value.to_text()) } else { value.kind().to_owned() };
        Err(format!("input '{name}' must be {expected}, found {found}"))
    };
    match (input.kind, &value) {
        (_, Value::Array(_) | Value::Object(_)) => wrong("a scalar"),
        (InputKind::Boolean, Value::Bool(_)) | (InputKind::Number, Value::Number(_)) => Ok(value),
        (InputKind::Boolean, other) => match other.to_text().trim().to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => wrong("true or false"),
        },
        (InputKind::Number, Value::String(text)) if text::parse_number(text).is_finite() => {
            Ok(Value::Number(text::parse_number(text)))
        }
        (InputKind::Number, _) => wrong("a number"),
        (InputKind::Choice, other) => {
            let text = other.to_text();
            if input.options.is_empty() || input.options.iter().any(|option| option.value == text) {
                return Ok(Value::from(text));
            }
            let options: Vec<&str> = input.options.iter().map(|option| option.value.as_str()).collect();
            wrong(&format!("one of {}", options.join(", ")))
        }
        (InputKind::String | InputKind::Environment, other) => Ok(Value::String(other.to_shared_text())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Contexts;
    use crate::model::parse_payload;
    use crate::source::SourceFile;

    fn resolve(inputs: &str, given: &[(&str, &str)]) -> Result<serde_json::Value, Vec<String>> {
        let text = format!(
            "on: {{workflow_dispatch: {{inputs: {inputs}}}}}\njobs: {{a: {{runs-on: x, steps: [run: x]}}}}"
        );
        let source = SourceFile::new("a.yml", &text);
        let workflow = parse_payload(&source).into_result().expect("valid");
        let given: Vec<(String, Value)> =
            given.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        let contexts = Contexts::new();
        resolve_inputs(&workflow.on.events[0], &given, &Scope::new(&contexts))
            .map(|inputs| Value::object(inputs).to_json())
    }

    #[test]
    fn values_take_their_types() {
        let declared = "{b: {type: boolean}, n: {type: number, default: 3}, s: , c: {type: choice, options: [x, y], default: x}}";
        assert_eq!(
            resolve(declared, &[("B", "true"), ("s", "hi")]),
            Ok(serde_json::json!({"b": true, "n": 3, "s": "hi", "c": "x"}))
        );
        let choice = "{c: {type: choice, options: [x, y]}}";
        assert_eq!(resolve(choice, &[]), Ok(serde_json::json!({"c": "x"})));
        assert_eq!(resolve(declared, &[]), Ok(serde_json::json!({"b": false, "n": 3, "s": "", "c": "x"})));
    }

    #[test]
    fn what_does_not_fit_is_there_all_the_same() {
        let text = "on: {workflow_dispatch: {inputs: {flag: {type: boolean, required: true}, n: {type: number}}}}\njobs: {a: {runs-on: x, steps: [run: x]}}";
        let source = SourceFile::new("a.yml", text);
        let workflow = parse_payload(&source).into_result().expect("valid");
        let given =
            [("n", "many"), ("other", "x")].map(|(name, value)| (name.to_owned(), Value::from(value)));
        let contexts = Contexts::new();
        let (inputs, errors) = inputs_as_given(&workflow.on.events[0], &given, &Scope::new(&contexts));
        assert_eq!(
            Value::object(inputs).to_json(),
            serde_json::json!({"other": "x", "flag": false, "n": "many"})
        );
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let declared =
            "{flag: {type: boolean, required: true}, n: {type: number}, c: {type: choice, options: [x]}}";
        assert_eq!(
            resolve(declared, &[("n", "many"), ("c", "z"), ("flog", "x")]),
            Err(vec![
                "Invalid input, flog is not defined in the workflow, did you mean 'flag'?".to_owned(),
                "Input 'flag' is required, but not provided".to_owned(),
                "input 'n' must be a number, found 'many'".to_owned(),
                "input 'c' must be one of x, found 'z'".to_owned(),
            ])
        );
        assert_eq!(
            resolve(declared, &[("flag", "maybe")]),
            Err(vec!["input 'flag' must be true or false, found 'maybe'".to_owned()])
        );
    }
}
