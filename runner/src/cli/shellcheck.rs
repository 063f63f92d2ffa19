//! What shellcheck says about the scripts of a workflow, at the place of the script.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value as Json;
use workflows::{Code, Diagnostic, SourceFile, Span, StepKind, parse_payload};

/// Findings of shellcheck in the `run` scripts of `source`; none when it cannot be run.
pub(super) fn findings(source: &SourceFile) -> Vec<Diagnostic> {
    let Some(workflow) = parse_payload(source).value else { return Vec::new() };
    let mut findings = Vec::new();
    for step in workflow.jobs.iter().flat_map(|job| &job.steps) {
        let StepKind::Run { script, shell, .. } = &step.kind else { continue };
        let shell = shell.as_ref().map_or("bash", |shell| shell.raw());
        let program = shell.split_whitespace().next().unwrap_or("bash");
        if matches!(program, "bash" | "sh") {
            findings.extend(check(program, script.raw(), script.span()));
        }
    }
    findings
}

/// Expressions become words that shellcheck takes for plain text.
fn without_expressions(script: &str) -> String {
    let mut out = String::with_capacity(script.len());
    let mut rest = script;
    while let Some(start) = rest.find("${{") {
        let Some(end) = rest[start..].find("}}") else { break };
        out.push_str(&rest[..start]);
        out.extend(std::iter::repeat_n('_', end + 2));
        rest = &rest[start + end + 2..];
    }
    out.push_str(rest);
    out
}

fn check(program: &str, script: &str, span: Span) -> Vec<Diagnostic> {
    let answer = ask(program, &without_expressions(script)).unwrap_or_default();
    let Ok(Json::Array(comments)) = serde_json::from_slice::<Json>(&answer) else { return Vec::new() };
    comments
        .iter()
        .filter_map(|comment| {
            let number = comment.get("code")?.as_u64()?;
            let line = comment.get("line")?.as_u64()?;
            let text = comment.get("message")?.as_str()?;
            let level = comment.get("level")?.as_str()?;
            let message = format!("SC{number} in line {line} of the script: {}", text.trim_end_matches('.'));
            (level != "style").then(|| Diagnostic::warning(Code::ShellCheck, span, message))
        })
        .collect()
}

fn ask(program: &str, script: &str) -> std::io::Result<Vec<u8>> {
    let mut child = Command::new("shellcheck")
        .args(["--format=json", "--norc", "--exclude=SC1091,SC2194,SC2050,SC2157", "-s", program, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // Writing beside reading: shellcheck reads everything before it answers.
        input.write_all(script.as_bytes())?;
    }
    Ok(child.wait_with_output()?.stdout)
}

#[cfg(test)]
mod tests {
    use super::without_expressions;

    #[test]
    fn expressions_keep_their_length() {
        assert_eq!(without_expressions("a ${{ x.y }} b ${{ z"), "a __________ b ${{ z");
    }
}
