//! "Did you mean": the known name nearest to a wrong one.

/// Edits between two words, ignoring ASCII case; a swap of neighbours counts as one.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<u8> = left.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let right: Vec<u8> = right.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, &a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, &b) in right.iter().enumerate() {
            let mut best =
                (last[column] + usize::from(a != b)).min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && a == right[column - 1] && left[row - 1] == b {
                best = best.min(before_last[column - 1] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[right.len()]
}

/// The candidate that is near enough to `name` to be what was meant; the first of equals.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long garbage is nobody's typing mistake and would cost quadratic time.
    if name.len() > 64 {
        return None;
    }
    let limit = match name.len() {
        0..=2 => 1,
        3..=7 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_find_their_word() {
        let keys = ["runs-on", "steps", "strategy", "needs", "if"];
        assert_eq!(nearest("run-on", keys), Some("runs-on"));
        assert_eq!(nearest("runs_on", keys), Some("runs-on"));
        assert_eq!(nearest("setps", keys), Some("steps"));
        assert_eq!(nearest("fi", keys), Some("if"));
        assert_eq!(nearest("container", keys), None);
        assert_eq!(nearest(&"x".repeat(100), keys), None);
    }
}
