//! `esteira deploy` against a real one-node Swarm: every way a roll-out can end, by exit code and last line.
//!
//! Skipped (loudly) where no engine answers or its node is a worker. `docker swarm init` is used only on an engine that
//! is in no Swarm, on the loopback address; stacks are removed again, the Swarm stays.

mod handover;
mod parts;
mod ssh;
mod swarm;
mod telling;

use swarm::{Ended, Stack, available};

/// A service of the local test image: `script` is its program, `more` further keys.
fn service(script: &str, more: &str) -> String {
    format!(
        "services:\n  web:\n    image: esteira-test/busybox\n    stop_grace_period: 1s\n    command: [\"sh\", \"-c\", \"{script}\"]\n{more}"
    )
}

const SERVE: &str = "trap 'exit 0' TERM; while true; do sleep 1 & wait; done";
/// A health check that fails is a verdict after two looks; the machine may be busy, so each look may take long.
const UNHEALTHY: &str =
    "    healthcheck: {test: [\"CMD\", \"false\"], interval: 1s, timeout: 30s, retries: 2}\n";
const ROLL_BACK: &str = "    deploy: {update_config: {order: start-first, failure_action: rollback, monitor: 5s, max_failure_ratio: 0}}\n";

#[test]
fn a_release_converges_and_a_bad_one_is_rolled_back_with_its_reason() {
    if !available("deploy: rollback") {
        return;
    }
    let stack = Stack::new("back");
    let first = stack.deploy(&service(SERVE, ROLL_BACK), &["--revision", "one", "--timeout", "180"]);
    assert_eq!(first.code, 0, "{first}");
    assert!(first.last().contains("has converged"), "{first}");

    let script = format!("echo cannot open the ledger; {SERVE}");
    let bad = stack.deploy(
        &service(&script, &format!("{UNHEALTHY}{ROLL_BACK}")),
        &["--revision", "two", "--timeout", "240"],
    );
    assert_eq!(bad.code, 5, "{bad}");
    assert!(bad.last().contains("rolled back web") && bad.last().contains("unhealthy"), "{bad}");
    assert!(bad.text.contains("| cannot open the ledger"), "the task's own last lines are shown\n{bad}");
    assert_eq!(stack.label("web", "esteira.revision"), "one");
}

#[test]
fn a_dry_run_shows_what_would_change_and_changes_nothing() {
    if !available("deploy: dry run") {
        return;
    }
    let stack = Stack::new("dry");
    let first = stack.deploy(&service(SERVE, ""), &["--timeout", "180"]);
    assert_eq!(first.code, 0, "{first}");
    let dry = stack.deploy(&service(SERVE, "    environment: {COLOUR: red}\n"), &["--dry-run"]);
    assert_eq!(dry.code, 0, "{dry}");
    assert!(dry.text.contains("environment.COLOUR") && !dry.text.contains("red"), "{dry}");
    let again = stack.deploy(&service(SERVE, ""), &["--dry-run"]);
    assert!(again.text.contains("web: unchanged"), "{again}");
}

#[test]
fn a_first_release_that_never_gets_well_ends_at_the_limit_with_its_reason() {
    if !available("deploy: first release never healthy") {
        return;
    }
    let stack = Stack::new("ill");
    let ill = stack.deploy(&service("echo no database here; exit 3", ""), &["--timeout", "20"]);
    assert_eq!(ill.code, 6, "{ill}");
    assert!(ill.last().contains("web.1") && ill.last().contains("non-zero exit (3)"), "{ill}");
    assert!(ill.text.contains("| no database here"), "{ill}");
}

#[test]
fn a_task_without_a_place_is_named() {
    if !available("deploy: unplaceable task") {
        return;
    }
    let stack = Stack::new("place");
    let constraint = "    deploy: {placement: {constraints: [node.labels.nowhere == true]}}\n";
    let nowhere = stack.deploy(&service(SERVE, constraint), &["--timeout", "8"]);
    assert_eq!(nowhere.code, 6, "{nowhere}");
    assert!(nowhere.last().contains("no suitable node") && nowhere.last().contains("placement"), "{nowhere}");
}

#[test]
fn a_job_that_fails_and_may_not_restart_fails_at_once() {
    if !available("deploy: failing job") {
        return;
    }
    let stack = Stack::new("job");
    let job = "    deploy: {mode: replicated-job, restart_policy: {condition: none}}\n";
    let failed = stack.deploy(&service("echo column is missing; exit 4", job), &["--timeout", "180"]);
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.last().contains("(4)") && failed.text.contains("| column is missing"), "{failed}");
    let passed = stack.deploy(&service("exit 0", job), &["--timeout", "180"]);
    assert_eq!(passed.code, 0, "{passed}");
}

#[test]
fn mistakes_in_the_file_are_told_before_anything_changes() {
    if !available("deploy: mistakes in the file") {
        return;
    }
    let stack = Stack::new("wrong");
    let misspelt = stack.deploy(&service(SERVE, "    replicas: 2\n"), &[]);
    assert_eq!(misspelt.code, 2, "{misspelt}");
    assert!(misspelt.last().contains("stack.yml") && misspelt.last().contains("replicas"), "{misspelt}");
    let missing = stack.deploy(&service("echo ${NOBODY_SETS_THIS:?}", ""), &[]);
    assert_eq!(missing.code, 2, "{missing}");
    assert!(missing.last().contains("NOBODY_SETS_THIS"), "{missing}");
    let absent = stack.deploy_file("nothing-here.yml", &[]);
    assert_eq!(absent.code, 2, "{absent}");
    assert!(absent.last().contains("--compose-file"), "{absent}");
}

#[test]
fn an_image_that_cannot_be_had_says_what_to_check() {
    if !available("deploy: image that is not there") {
        return;
    }
    let stack = Stack::new("image");
    // Port 9 of this machine: no registry, refused at once.
    let file = service(SERVE, "").replace("esteira-test/busybox", "127.0.0.1:9/nothing:here");
    let absent = stack.deploy(&file, &["--timeout", "15"]);
    assert_eq!(absent.code, 6, "{absent}");
    assert!(
        absent.last().contains("No such image") && absent.last().contains("--with-registry-auth"),
        "{absent}"
    );
}

#[test]
fn two_deployments_at_once_both_end_and_one_of_them_wins() {
    if !available("deploy: two at once") {
        return;
    }
    let stack = Stack::new("two");
    assert_eq!(stack.deploy(&service(SERVE, ""), &["--timeout", "180"]).code, 0);
    let endings = std::thread::scope(|scope| {
        let runs = ["red", "blue"].map(|colour| {
            let stack = &stack;
            let file = service(SERVE, &format!("    environment: {{COLOUR: {colour}}}\n"));
            scope.spawn(move || stack.deploy(&file, &["--revision", colour, "--timeout", "240"]))
        });
        runs.map(|run| run.join().expect("no panic"))
    });
    let winner = stack.label("web", "esteira.revision");
    for (ending, colour) in endings.iter().zip(["red", "blue"]) {
        if winner == colour {
            assert_eq!(ending.code, 0, "{ending}");
        } else {
            // It may have converged before the other one came.
            assert!(
                ending.code == 0
                    || ending.last().contains("another deployment")
                    || ending.last().contains("out of sequence"),
                "{ending}"
            );
        }
    }
}

#[test]
fn what_is_not_waited_for_may_still_be_on_its_way() {
    if !available("deploy: --no-wait-for") {
        return;
    }
    let stack = Stack::new("late");
    let constraint = "    deploy: {placement: {constraints: [node.labels.nowhere == true]}}\n";
    let late = stack.deploy(&service(SERVE, constraint), &["--no-wait-for", "web", "--no-wait-for", "other"]);
    assert_eq!(late.code, 0, "{late}");
    assert!(late.last().contains("still on the way: web"), "{late}");
    assert!(late.text.contains("no such service"), "{late}");
}
