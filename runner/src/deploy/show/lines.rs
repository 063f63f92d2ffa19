//! The lines for programs: one JSON object each, as `docs/deploy.md` describes them.

use std::time::Duration;

use serde_json::{Value, json};

use super::why;
use crate::deploy::{
    Outcome,
    diff::Difference,
    postmortem::{Postmortem, TaskReport},
    verdict::Progress,
};

pub(super) fn note(text: &str) -> Value {
    json!({"event": "note", "text": text})
}

pub(super) fn progress(service: &str, now: &Progress, elapsed: Duration) -> Value {
    json!({
        "event": "progress",
        "service": service,
        "ready": now.ready,
        "wanted": now.wanted,
        "standing": now.standing.as_str(),
        "why": why(&now.standing),
        "seconds": elapsed.as_secs_f64(),
    })
}

pub(super) fn difference(service: &str, difference: &Difference) -> Value {
    let changes: Vec<Value> = match difference {
        Difference::Changed(changes) => changes
            .iter()
            .map(|(property, before, after)| json!({"property": property, "before": before, "after": after}))
            .collect(),
        _ => Vec::new(),
    };
    json!({"event": "difference", "service": service, "difference": difference.as_str(), "changes": changes})
}

pub(super) fn postmortem(report: &Postmortem) -> Value {
    let task = |task: &TaskReport| {
        json!({
            "task": task.name,
            "error": task.error,
            "lines": task.log.as_deref().unwrap_or_default(),
            "unreadable": task.log.as_ref().err(),
        })
    };
    let tasks: Vec<Value> = report.tasks.iter().map(task).collect();
    json!({"event": "postmortem", "service": report.service, "why": report.why, "tasks": tasks})
}

pub(super) fn end(stack: &str, outcome: Outcome, text: &str) -> Value {
    json!({
        "event": "end",
        "stack": stack,
        "outcome": outcome.as_str(),
        "exit_code": outcome.exit_code(),
        "text": text,
    })
}

#[cfg(test)]
mod tests {
    use super::{end, postmortem};
    use crate::deploy::{
        Outcome,
        postmortem::{Postmortem, TaskReport},
    };

    #[test]
    fn the_outcome_has_a_name_for_programs() {
        let line = end("shop", Outcome::RolledBack, "text").to_string();
        let wanted = r#"{"event":"end","stack":"shop","outcome":"rolled_back","exit_code":5,"text":"text"}"#;
        assert_eq!(line, wanted);
    }

    #[test]
    fn a_log_that_cannot_be_read_has_no_lines_and_a_reason() {
        let task = |log| TaskReport { name: "web.1 (t)".into(), error: "it broke".into(), log };
        let tasks = vec![task(Ok(vec!["last words".into()])), task(Err("too long".into()))];
        let line = postmortem(&Postmortem { service: "web".into(), why: "w".into(), tasks });
        assert_eq!(line["tasks"][0]["lines"][0], "last words");
        assert!(line["tasks"][0]["unreadable"].is_null(), "{line}");
        assert_eq!(line["tasks"][1]["unreadable"], "too long");
        assert_eq!(line["tasks"][1]["lines"].as_array().map(Vec::len), Some(0), "{line}");
    }
}
