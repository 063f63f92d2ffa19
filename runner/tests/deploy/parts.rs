//! Releases that change only a part of the specification which is not the container's.

use super::{
    ROLL_BACK, SERVE, Stack, available, service,
    swarm::{docker, skipped},
};

/// Needs some 20 MB before it serves; the dollar is one for the stack file.
fn hungry() -> String {
    format!("echo loading; all=$$(yes | head -c 20000000); {SERVE}")
}

/// Whether the engine's kernel holds containers to a limit of memory; says it when not.
fn limits_memory(what: &str) -> bool {
    let limits = docker(&["info", "--format", "{{.MemoryLimit}}"]).is_some_and(|answer| answer == "true");
    if !limits {
        skipped(what, "the kernel limits no container's memory");
    }
    limits
}

fn limited(memory: &str) -> String {
    service(&hungry(), &format!("{}\n", ROLL_BACK.trim_end().trim_end_matches('}'))).trim_end().to_owned()
        + &format!("}}, resources: {{limits: {{memory: {memory}}}}}}}\n")
}

#[test]
fn a_release_that_only_lowers_a_limit_is_waited_for_and_its_failure_is_explained() {
    if !available("deploy: limits only") || !limits_memory("deploy: limits only") {
        return;
    }
    let stack = Stack::new("limits");
    let first = stack.deploy(&limited("100M"), &["--timeout", "180"]);
    assert_eq!(first.code, 0, "{first}");
    let more = stack.deploy(&limited("101M"), &["--timeout", "180"]);
    assert_eq!(more.code, 0, "{more}");
    let memory = stack.tasks("web", "{{.Spec.Resources.Limits.MemoryBytes}}");
    assert_eq!(memory, ["105906176"], "every task has the new limit when it has converged\n{more}");

    let bad = stack.deploy(&limited("7M"), &["--timeout", "240"]);
    assert_eq!(bad.code, 5, "{bad}");
    assert!(
        bad.last().contains("rolled back web") && bad.last().contains("web.1: task: non-zero exit"),
        "{bad}"
    );
    assert!(bad.text.contains("| loading"), "the failed task's own last lines are shown\n{bad}");
}

#[test]
fn a_constraint_that_the_node_meets_leaves_the_task_where_it_is() {
    if !available("deploy: placement only") {
        return;
    }
    let stack = Stack::new("placed");
    let first = stack.deploy(&service(SERVE, ""), &["--timeout", "180"]);
    assert_eq!(first.code, 0, "{first}");
    let before = stack.tasks("web", "{{.ID}}");
    let placed = "    deploy: {placement: {constraints: [node.role == manager]}}\n";
    let second = stack.deploy(&service(SERVE, placed), &["--timeout", "60"]);
    assert_eq!(second.code, 0, "{second}");
    assert_eq!(
        stack.tasks("web", "{{.ID}}"),
        before,
        "Swarm does not replace it, and it is not waited for\n{second}"
    );
}
