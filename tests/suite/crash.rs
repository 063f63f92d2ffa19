//! `kill -9` at any instant: the next start finishes what was begun, and nothing is left of it.

use std::time::{Duration, SystemTime};

use tests::{
    gitea::{FakeGitea, Push, Status, TaskRow},
    runner::{Home, processes_with, within},
    skip::repetitions,
};

use crate::workflow;

/// A job that prints numbered lines, and writes each with its time to a file that no runner touches.
pub(crate) fn ticking(mark: &str, side: &str, keys: &str) -> String {
    workflow(
        &format!("{keys}    env: {{STORY_MARK: {mark}}}\n"),
        &format!(
            "    - run: |\n        for i in $(seq 100000); do echo \"tick $i\"; echo \"$i $(date +%s%N)\" >> {side}; sleep 0.01; done\n"
        ),
    )
}

/// How many lines the job had printed a second before `moment`.
fn printed_before(side: &str, moment: SystemTime) -> usize {
    let limit = moment - Duration::from_secs(1);
    let limit = limit.duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_nanos();
    let text = std::fs::read_to_string(side).unwrap_or_default();
    let times = text.lines().filter_map(|line| line.split_once(' ')?.1.parse::<u128>().ok());
    times.filter(|time| *time < limit).count()
}

/// The rows are the first lines without a gap, and at least `at_least` of them.
pub(crate) fn whole(task: &TaskRow, at_least: usize) {
    let lines = task.lines();
    let ticks: Vec<usize> =
        lines.iter().filter_map(|line| line.strip_prefix("tick ")?.parse().ok()).collect();
    assert!(ticks.iter().copied().eq(1..=ticks.len()), "a gap or a double: {ticks:?}");
    assert!(ticks.len() >= at_least, "{} of at least {at_least} rows", ticks.len());
}

fn killed_and_started_again(after: Duration) {
    let mark = uuid::Uuid::new_v4().to_string();
    let (gitea, home) = (FakeGitea::start(), Home::new());
    home.register(&gitea, "lab:host");
    let mut daemon = home.daemon(&[]);
    let side = home.path().join("side").display().to_string();
    let run = gitea.push(&Push::new(&ticking(&mark, &side, "")));
    let started = || std::fs::metadata(&side).is_ok_and(|file| file.len() > 0);
    within(60, "the job prints", || started().then_some(()), || daemon.text());
    std::thread::sleep(after);
    let moment = SystemTime::now();
    daemon.kill();
    let expected = printed_before(&side, moment);

    let mut again = home.daemon(&[]);
    let task = gitea.finished(60, &run);
    assert_eq!(task.status, Status::Failure, "{:?}", task.lines().last());
    assert!(task.says("runner was stopped while the job ran"), "{:?}", task.lines().last());
    whole(&task, expected);
    within(
        30,
        "no process of the job is left",
        || processes_with(&mark).is_empty().then_some(()),
        || processes_with(&mark).join("\n"),
    );
    let next = gitea.push(&Push::new(&workflow("", "    - run: echo next\n")));
    assert_eq!(gitea.finished(60, &next).status, Status::Success, "the runner works again");
    assert!(again.stop().success(), "{}", again.text());
    let left: Vec<_> = home
        .files()
        .into_iter()
        .filter(|(path, bytes)| path.components().any(|part| part.as_os_str() == "jobs") && !bytes.is_empty())
        .map(|(path, _)| path)
        .collect();
    assert!(left.is_empty(), "journals of jobs that are reported: {left:?}");
}

#[test]
fn a_killed_daemon_finishes_its_job_when_it_starts_again() {
    // Instants that no pattern of the runner's own clocks can share.
    let seed = u64::from(std::process::id());
    for round in 0..repetitions(20) as u64 {
        let after = Duration::from_millis((seed * 7919 + round * 104_729) % 3000);
        killed_and_started_again(after);
    }
}

#[test]
fn a_daemon_that_is_killed_while_the_server_is_away_reports_when_both_are_back() {
    let mark = uuid::Uuid::new_v4().to_string();
    let (gitea, home) = (FakeGitea::start(), Home::new());
    home.register(&gitea, "lab:host");
    let mut daemon = home.daemon(&[]);
    let side = home.path().join("side").display().to_string();
    let run = gitea.push(&Push::new(&ticking(&mark, &side, "")));
    gitea.until(60, "rows arrive", |state| {
        state.tasks.first().filter(|task| task.says("tick 10")).map(|_| ())
    });
    gitea.down();
    std::thread::sleep(Duration::from_secs(3));
    let moment = SystemTime::now();
    daemon.kill();
    let expected = printed_before(&side, moment);
    let _again = home.daemon(&[]);
    std::thread::sleep(Duration::from_secs(2));
    gitea.up();
    let task = gitea.finished(90, &run);
    assert_eq!(task.status, Status::Failure);
    whole(&task, expected);
}

#[test]
fn a_daemon_that_is_killed_at_the_end_of_a_job_reports_the_true_result_once() {
    for _ in 0..repetitions(20) {
        let (gitea, home) = (FakeGitea::start(), Home::new());
        home.register(&gitea, "lab:host");
        // No state can be reported: the job is over, its result is on the disk only.
        let mut daemon = home.daemon(&[]);
        let done = home.path().join("done");
        let run = gitea.push(&Push::new(&workflow(
            "    outputs: {word: '${{ steps.s.outputs.word }}'}\n",
            &format!(
                "    - id: s\n      run: |\n        echo word=kept >> \"$GITHUB_OUTPUT\"\n        while [ ! -e {} ]; do sleep 0.05; done\n        echo end\n",
                done.display()
            ),
        )));
        gitea.task_of(60, &run, 0);
        gitea.until(60, "the step runs", |state| {
            state.tasks[0].steps.first().filter(|step| step.started).map(|_| ())
        });
        gitea.down();
        std::fs::write(&done, "").expect("a file in the home");
        std::thread::sleep(Duration::from_secs(4));
        daemon.kill();
        gitea.up();
        let _again = home.daemon(&[]);
        let task = gitea.finished(60, &run);
        assert_eq!(task.status, Status::Success, "{:#?}", task.lines());
        assert!(task.lines().contains(&"end"));
        assert_eq!(task.outputs.get("word").map(String::as_str), Some("kept"));
    }
}
