//! Several runners and an `exec` on one machine: each minds its own.

use std::process::Command;

use tests::{
    gitea::{FakeGitea, Push, Status},
    runner::{Home, Process},
};

/// A home with a repository of one commit that holds this workflow.
pub(crate) fn repository(workflow: &str) -> Home {
    let home = Home::new();
    home.write("repo/.gitea/workflows/story.yml", workflow);
    home.write("repo/README", "a story\n");
    for arguments in [
        &["init", "-q", "-b", "main"][..],
        &["add", "-A"],
        &["-c", "user.name=story", "-c", "user.email=story@example.invalid", "commit", "-qm", "story"],
    ] {
        let mut git = Command::new("git");
        git.arg("-C").arg(home.path().join("repo")).args(arguments).env("HOME", home.path());
        assert!(git.status().expect("git can be started").success());
    }
    home
}

/// Two daemons and an `exec`, one daemon killed and started again while the others work.
pub(crate) fn three_on_one_machine(label: &str, image: &str) {
    let gitea = FakeGitea::start();
    let steps = "    steps:\n      - run: for i in $(seq 60); do echo tick $i; sleep 0.1; done\n      - run: echo end-$((40+2))\n";
    let (first, second) = (Home::new(), Home::new());
    first.register(&gitea, &format!("one:{label}"));
    second.register(&gitea, &format!("two:{label}"));
    let mut killed = first.daemon(&[]);
    let other = second.daemon(&[]);
    let third = repository(&format!("on: push\njobs:\n  job:\n    runs-on: lab\n{steps}"));
    let mut exec = third.start("exec", &["exec", "-C", "repo", "--image", image]);
    let lost = gitea.push(&Push::new(&format!("on: push\njobs:\n  job:\n    runs-on: one\n{steps}")));
    let kept = gitea.push(&Push::new(&format!("on: push\njobs:\n  job:\n    runs-on: two\n{steps}")));
    for run in [&lost, &kept] {
        let job = run.jobs[0];
        gitea.until(90, "both jobs print", |state| {
            let task = state.jobs.iter().find(|row| row.id == job)?.task.and_then(|id| state.task(id))?;
            task.says("tick 3").then_some(())
        });
    }
    killed.kill();
    let again: Process = first.daemon(&[]);
    let task = gitea.finished(90, &lost);
    assert_eq!(task.status, Status::Failure, "{}", again.text());
    let task = gitea.finished(90, &kept);
    assert_eq!(task.status, Status::Success, "the other daemon's job is not touched: {}", other.text());
    assert!(task.says("end-42"));
    let status = exec.wait(90);
    assert!(status.success(), "exec is not touched: {}", exec.text());
    assert!(exec.text().contains("end-42"), "{}", exec.text());
}

#[test]
fn two_runners_and_an_exec_on_the_host_leave_each_other_alone() {
    three_on_one_machine("host", "-self-hosted");
}

#[test]
fn exec_runs_the_jobs_of_a_workflow_in_order_and_its_code_is_the_result() {
    let home = repository(
        "on: push\njobs:\n  b:\n    needs: a\n    runs-on: lab\n    steps: [{run: \"echo word ${{ needs.a.outputs.w }}\"}]\n  a:\n    runs-on: lab\n    outputs: {w: \"${{ steps.s.outputs.w }}\"}\n    steps: [{id: s, run: 'echo w=passed >> \"$GITHUB_OUTPUT\"'}]\n",
    );
    let ended = home.run(&["exec", "-C", "repo", "--image", "-self-hosted"]);
    assert!(ended.status.success(), "{}", ended.text());
    assert!(ended.text().contains("word passed"), "{}", ended.text());

    let home = repository("on: push\njobs:\n  a:\n    runs-on: lab\n    steps: [{run: exit 3}]\n");
    let ended = home.run(&["exec", "-C", "repo", "--image", "-self-hosted"]);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.text());
}
