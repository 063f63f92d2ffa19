//! Matrix expansion in GitHub's order: axes as written, the first varying slowest; `exclude`, then
//! `include`, which extends combinations or adds its own.

use crate::expr::{Object, Value};

/// Most combinations that one matrix may give.
pub const MAX_COMBINATIONS: usize = 256;

/// The combinations of an evaluated matrix.
///
/// # Errors
/// One sentence: the matrix or a part of it has the wrong type, gives nothing, or gives too much.
///
/// ```
/// use workflows::{Value, plan::expand_matrix};
/// let matrix = Value::from(serde_json::json!({"os": ["a", "b"], "include": [{"os": "b", "extra": 1}, {"os": "c"}]}));
/// let legs = expand_matrix(&matrix)?;
/// assert_eq!(legs.len(), 3);
/// assert_eq!(legs[1].get("extra").map(|v| v.to_text()).as_deref(), Some("1"));
/// # Ok::<(), String>(())
/// ```
pub fn expand_matrix(matrix: &Value) -> Result<Vec<Object>, String> {
    let Value::Object(matrix) = matrix else {
        return Err(format!("the matrix must be a mapping, found {}", matrix.kind()));
    };
    let mut axes: Vec<(&str, &[Value])> = Vec::new();
    let (mut include, mut exclude) = (Vec::new(), Vec::new());
    for (key, value) in matrix.iter() {
        match (key.to_ascii_lowercase().as_str(), value) {
            ("include", value) => include = filters(key, value)?,
            ("exclude", value) => exclude = filters(key, value)?,
            (_, Value::Array(items)) if items.is_empty() => {
                return Err(format!("the matrix axis '{key}' has no values"));
            }
            (_, Value::Array(items)) => axes.push((key, items)),
            // What a server has resolved already may stand without its list.
            (_, single) if single.is_primitive() => axes.push((key, std::slice::from_ref(single))),
            (_, other) => {
                return Err(format!("the matrix axis '{key}' must be a sequence, found {}", other.kind()));
            }
        }
    }
    let total = axes.iter().fold(1_usize, |total, (_, values)| total.saturating_mul(values.len()));
    // Excluded combinations are cheap to skip, but not without bound.
    if total > MAX_COMBINATIONS * 64 {
        return Err(too_many(total));
    }
    for filter in &exclude {
        if let Some((key, _)) =
            filter.iter().find(|(key, _)| !axes.iter().any(|(axis, _)| axis.eq_ignore_ascii_case(key)))
        {
            return Err(format!("'exclude' of the matrix has the unknown key '{key}', which is no axis"));
        }
    }
    let mut legs: Vec<Object> = Vec::new();
    if !axes.is_empty() {
        for number in 0..total {
            let leg = combination(&axes, number);
            if !exclude.iter().any(|filter| filter.iter().all(|(key, value)| agrees(leg.get(key), value))) {
                legs.push(leg);
            }
        }
    }
    let originals = legs.len();
    for extra in &include {
        let is_axis = |key: &str| axes.iter().any(|(axis, _)| axis.eq_ignore_ascii_case(key));
        let mut used = false;
        for leg in &mut legs[..originals] {
            let fits = extra.iter().all(|(key, value)| !is_axis(key) || agrees(leg.get(key), value));
            if fits {
                used = true;
                for (key, value) in extra.iter().filter(|(key, _)| !is_axis(key)) {
                    leg.insert(key, value.clone());
                }
            }
        }
        if !used {
            legs.push((*extra).clone());
        }
    }
    if legs.is_empty() {
        return Err("the matrix gives no combinations".to_owned());
    }
    if legs.len() > MAX_COMBINATIONS {
        return Err(too_many(legs.len()));
    }
    Ok(legs)
}

fn too_many(count: usize) -> String {
    format!("the matrix gives {count} combinations, the limit is {MAX_COMBINATIONS}")
}

/// Combination `number` of the cross product; the last axis varies fastest.
fn combination(axes: &[(&str, &[Value])], mut number: usize) -> Object {
    let mut combinations: usize = axes.iter().map(|(_, values)| values.len()).product();
    axes.iter()
        .map(|(key, values)| {
            combinations /= values.len();
            let value = values[number / combinations].clone();
            number %= combinations;
            (*key, value)
        })
        .collect()
}

/// Items of `include` and `exclude`.
fn filters<'v>(key: &str, value: &'v Value) -> Result<Vec<&'v Object>, String> {
    let wrong = |found: &Value| {
        format!("'{key}' of the matrix must be a sequence of mappings, found {}", found.kind())
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items.iter().map(|item| item.as_object().ok_or_else(|| wrong(item))).collect(),
        other => Err(wrong(other)),
    }
}

/// Whether a filter's value fits. As GitHub's `MatrixBuilder` has it: every leaf of the filter is compared by the `==` of
/// expressions with what stands at its place, or with null where nothing does.
fn agrees(own: Option<&Value>, wanted: &Value) -> bool {
    match wanted {
        Value::Object(wanted) => wanted
            .iter()
            .all(|(key, value)| agrees(own.and_then(Value::as_object).and_then(|own| own.get(key)), value)),
        Value::Array(wanted) => wanted.iter().enumerate().all(|(index, value)| {
            agrees(own.and_then(Value::as_array).and_then(|own| own.get(index)), value)
        }),
        leaf => own.unwrap_or(&Value::Null).loose_equals(leaf),
    }
}

/// Longest display name of a job, in characters.
const MAX_NAME: usize = 100;

/// The name of one leg: the base and its values in brackets, cut to 100 characters.
pub fn leg_name(base: &str, leg: &Object) -> String {
    let mut values = Vec::new();
    for (_, value) in leg.iter() {
        collect_leaves(value, &mut values);
    }
    let name = if values.is_empty() { base.to_owned() } else { format!("{base} ({})", values.join(", ")) };
    if name.chars().count() <= MAX_NAME {
        return name;
    }
    let cut: String = name.chars().take(MAX_NAME - 3).collect();
    format!("{cut}...")
}

fn collect_leaves(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_leaves(item, into)),
        Value::Object(object) => object.iter().for_each(|(_, item)| collect_leaves(item, into)),
        Value::Null => {}
        primitive => into.push(primitive.to_text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};

    fn expand(matrix: Json) -> Vec<Json> {
        let legs = expand_matrix(&Value::from(matrix)).expect("valid");
        legs.into_iter().map(|leg| Value::object(leg).to_json()).collect()
    }

    #[test]
    fn the_first_axis_varies_slowest() {
        assert_eq!(
            expand(json!({"a": [1, 2], "b": ["x", "y"]})),
            [
                json!({"a": 1, "b": "x"}),
                json!({"a": 1, "b": "y"}),
                json!({"a": 2, "b": "x"}),
                json!({"a": 2, "b": "y"})
            ]
        );
    }

    #[test]
    fn include_extends_or_adds_as_documented() {
        let matrix = json!({"fruit": ["apple", "pear"], "animal": ["cat", "dog"], "include": [
            {"color": "green"}, {"color": "pink", "animal": "cat"}, {"fruit": "apple", "shape": "circle"},
            {"fruit": "banana"}, {"fruit": "banana", "animal": "cat"}]});
        assert_eq!(
            expand(matrix),
            [
                json!({"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"}),
                json!({"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"}),
                json!({"fruit": "pear", "animal": "cat", "color": "pink"}),
                json!({"fruit": "pear", "animal": "dog", "color": "green"}),
                json!({"fruit": "banana"}),
                json!({"fruit": "banana", "animal": "cat"}),
            ]
        );
        assert_eq!(expand(json!({"include": [{"a": 1}, {"a": 2}]})), [json!({"a": 1}), json!({"a": 2})]);
    }

    #[test]
    fn exclude_takes_away_also_by_parts_of_mappings() {
        assert_eq!(
            expand(
                json!({"os": [{"n": "l", "v": 1}, {"n": "w", "v": 2}], "x": [1], "exclude": [{"os": {"n": "w"}}]})
            ),
            [json!({"os": {"n": "l", "v": 1}, "x": 1})]
        );
        assert_eq!(expand(json!({"a": [1, 2], "exclude": [{"a": "1"}]})), [json!({"a": 2})]);
    }

    #[test]
    fn filters_compare_as_expressions_do() {
        let axis = json!(["a", "b", 0, "", null, false]);
        assert_eq!(expand(json!({"a": axis, "exclude": [{"A": "A"}, {"A": null}]})), [json!({"a": "b"})]);
        let deep = json!({"a0": "a", "a1": 0, "a2": "", "a3": null, "4": false});
        let filter = json!({"A0": "A", "A1": 0, "A2": 0, "A3": 0, "4": 0});
        assert_eq!(expand(json!({"a": ["b", deep], "exclude": [{"A": filter}]})), [json!({"a": "b"})]);
        assert_eq!(
            expand(json!({"a": [["x"], ["x", "y"]], "exclude": [{"a": ["X", null]}]})),
            [json!({"a": ["x", "y"]})]
        );
        assert_eq!(
            expand(json!({"os": ["Linux"], "include": [{"os": "linux", "extra": 1}]})),
            [json!({"os": "Linux", "extra": 1})]
        );
    }

    #[test]
    fn what_cannot_be_expanded_says_why() {
        let error = |matrix: Json| expand_matrix(&Value::from(matrix)).expect_err("wrong");
        assert!(error(json!([])).contains("mapping"));
        assert!(error(json!({"a": []})).contains("'a' has no values"));
        assert!(error(json!({"a": {"b": 1}})).contains("sequence"));
        assert!(error(json!({"a": [1], "exclude": [{"b": 1}]})).contains("'b', which is no axis"));
        assert!(error(json!({"a": [1], "include": [1]})).contains("mappings"));
        assert!(error(json!({"a": [1], "exclude": [{"a": 1}]})).contains("no combinations"));
        assert!(error(json!({})).contains("no combinations"));
        let many: Vec<i32> = (0..300).collect();
        assert!(error(json!({"a": many})).contains("300 combinations"));
        assert!(error(json!({"a": many, "b": many, "c": many})).contains("limit"));
    }

    #[test]
    fn names_show_the_leaves() {
        let leg = Value::from(json!({"os": "linux", "n": 1.5, "deep": {"a": [true, null]}}));
        let leg = leg.as_object().expect("object");
        assert_eq!(leg_name("test", leg), "test (linux, 1.5, true)");
        assert_eq!(leg_name("test", &Object::new()), "test");
        assert_eq!(leg_name(&"x".repeat(200), leg).len(), 100);
        let fitting = "x".repeat(81);
        assert_eq!(
            leg_name(&fitting, leg),
            format!("{fitting} (linux, 1.5, true)"),
            "100 characters are no more than that"
        );
    }
}
