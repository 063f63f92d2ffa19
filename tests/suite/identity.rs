//! Who a runner is: registration, its file, its end.

use std::os::unix::fs::PermissionsExt;

use tests::{
    gitea::{Dialect, Errors, FakeGitea, Push, Status},
    runner::Home,
};

use crate::{host, host_with, push_steps, workflow};

fn register(home: &Home, url: &str, token: &str, labels: &str) -> tests::runner::Ended {
    let fixed = ["register", "--no-interactive", "--name", "story"];
    home.run(&[&fixed[..], &["--instance", url, "--token", token, "--labels", labels]].concat())
}

#[test]
fn registering_writes_the_official_file_for_its_owner_only() {
    let (gitea, home) = (FakeGitea::start(), Home::new());
    let url = gitea.url() + "/";
    let ended = register(&home, &url, &gitea.registration_token(), "lab:host,box:docker://debian:12");
    assert!(ended.status.success(), "{}", ended.text());
    let file: serde_json::Value = serde_json::from_str(&home.read(".runner")).expect("JSON");
    let row = gitea.state().runners[0].clone();
    assert_eq!(file["uuid"], row.uuid);
    assert_eq!(file["token"], row.token);
    assert_eq!(file["address"], url);
    assert_eq!(file["labels"], serde_json::json!(["lab:host", "box:docker://debian:12"]));
    assert_eq!(file["ephemeral"], false);
    assert_eq!(row.labels, ["lab", "box"], "the server gets names only");
    let mode = std::fs::metadata(home.path().join(".runner")).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_wrong_token_is_one_clear_refusal_and_leaves_no_file() {
    let (gitea, home) = (FakeGitea::start(), Home::new());
    let wrong = "0123456789012345678901234567890123456789";
    let ended = register(&home, &gitea.url(), wrong, "lab:host");
    assert!(!ended.status.success());
    assert!(ended.text().contains("registration token"), "{}", ended.text());
    assert!(!ended.text().contains(wrong), "the token is not repeated");
    assert!(!home.path().join(".runner").exists());
}

#[test]
fn a_label_with_an_unknown_schema_is_refused_by_name() {
    let (gitea, home) = (FakeGitea::start(), Home::new());
    let ended = register(&home, &gitea.url(), &gitea.registration_token(), "lab:vm:thing");
    assert!(!ended.status.success());
    assert!(ended.text().contains("lab:vm:thing"), "{}", ended.text());
    assert!(gitea.state().runners.is_empty());
}

#[test]
fn the_daemon_registers_itself_from_its_environment() {
    let gitea = FakeGitea::start();
    let home = Home::new()
        .with("GITEA_INSTANCE_URL", &gitea.url())
        .with("GITEA_RUNNER_REGISTRATION_TOKEN", &gitea.registration_token())
        .with("GITEA_RUNNER_NAME", "from-the-environment")
        .with("GITEA_RUNNER_LABELS", "lab:host");
    let _daemon = home.daemon(&[]);
    let run = push_steps(&gitea, "    - run: env\n");
    let task = gitea.finished(60, &run);
    assert_eq!(task.status, Status::Success, "{:#?}", task.lines());
    assert_eq!(gitea.state().runners[0].name, "from-the-environment");
    assert!(!task.says(&gitea.registration_token()), "the registration token is not in a job's environment");
}

#[test]
fn the_daemon_declares_version_labels_and_that_it_can_cancel() {
    let (gitea, _home, _daemon) = host();
    let row = gitea.until(90, "the runner declares itself", |state| {
        state.runners.iter().find(|row| row.declared > 0).cloned()
    });
    assert_eq!(row.labels, ["lab"]);
    assert!(!row.version.is_empty() && row.version.len() <= 64);
    assert!(row.capabilities.iter().any(|capability| capability == "cancelling"));
}

#[test]
fn a_removed_runner_says_so_and_ends_with_its_own_code() {
    for errors in [Errors::Gitea, Errors::Forgejo] {
        let gitea = FakeGitea::with(Dialect { errors, ..Dialect::default() }, "");
        let (gitea, _home, mut daemon) = host_with(gitea, Home::new(), "");
        gitea.until(90, "the runner polls", |state| {
            state.records.iter().any(|r| r.method == "FetchTask").then_some(())
        });
        gitea.delete_runners();
        let status = daemon.wait(60);
        assert_eq!(status.code(), Some(3), "{errors:?}: {}", daemon.text());
        assert!(daemon.text().contains("register"), "it says what to do: {}", daemon.text());
    }
}

#[test]
fn two_daemons_with_one_registration_do_not_run() {
    let (gitea, home, _daemon) = host();
    gitea.until(90, "the runner polls", |state| {
        state.records.iter().any(|r| r.method == "FetchTask").then_some(())
    });
    let mut second = home.start("second", &["daemon"]);
    assert!(!second.wait(60).success());
    assert!(second.text().contains(".runner"), "it names the file: {}", second.text());
}

#[test]
fn an_ephemeral_runner_takes_one_job() {
    let (gitea, home) = (FakeGitea::start(), Home::new());
    let (url, token) = (gitea.url(), gitea.registration_token());
    let fixed = ["register", "--no-interactive", "--ephemeral", "--name", "story", "--labels", "lab:host"];
    let ended = home.run(&[&fixed[..], &["--instance", &url, "--token", &token]].concat());
    assert!(ended.status.success(), "{}", ended.text());
    let run = gitea.push(&Push::new(&workflow("    outputs: {a: '1'}\n", "    - run: echo once\n")));
    let waiting = push_steps(&gitea, "    - run: echo never\n");
    let mut daemon = home.daemon(&[]);
    assert!(daemon.wait(60).success(), "{}", daemon.text());
    let task = gitea.finished(1, &run);
    assert_eq!(task.status, Status::Success);
    assert_eq!(task.outputs.get("a").map(String::as_str), Some("1"));
    let state = gitea.state();
    assert!(state.runners.is_empty(), "the server has removed it");
    let second = state.jobs.iter().find(|job| job.id == waiting.jobs[0]).map(|job| job.status);
    assert_eq!(second, Some(Status::Waiting));
}

#[test]
fn once_is_one_job_for_any_runner() {
    let (gitea, home) = (FakeGitea::start(), Home::new());
    home.register(&gitea, "lab:host");
    let run = push_steps(&gitea, "    - run: echo once\n");
    let waiting = push_steps(&gitea, "    - run: echo never\n");
    let mut daemon = home.daemon(&["--once"]);
    assert!(daemon.wait(60).success(), "{}", daemon.text());
    assert_eq!(gitea.finished(1, &run).status, Status::Success);
    let state = gitea.state();
    let second = state.jobs.iter().find(|job| job.id == waiting.jobs[0]).map(|job| job.status);
    assert_eq!(second, Some(Status::Waiting));
}

#[test]
fn the_doctor_finds_out_whether_the_server_knows_the_runner_and_changes_nothing_there() {
    let (gitea, home) = (FakeGitea::start(), Home::new());
    home.register(&gitea, "lab:host");
    home.write("config.yaml", "runner:\n  labels: ['other:host']\n");
    let before = gitea.state().runners[0].clone();
    let ended = home.run(&["doctor", "--config", "config.yaml"]);
    assert!(ended.text().contains("the server knows this runner"), "{}", ended.text());
    let after = gitea.state().runners[0].clone();
    assert_eq!((after.labels, after.version, after.declared), (before.labels, before.version, 0));

    gitea.delete_runners();
    let ended = home.run(&["doctor", "--config", "config.yaml"]);
    assert!(
        !ended.status.success() && ended.text().contains("does not know this runner"),
        "{}",
        ended.text()
    );
}
