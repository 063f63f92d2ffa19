//! What jobs do and what the server then knows: states, rows, outputs, cancels.

use tests::{
    gitea::{Dialect, FakeGitea, Generation, Push, Status},
    runner::{Home, processes_with, within},
};

use crate::{host, host_with, numbered, push_steps, workflow};

#[test]
fn a_job_that_succeeds_has_every_row_in_its_step() {
    let (gitea, _home, _daemon) = host();
    let run = push_steps(
        &gitea,
        "    - name: one\n      run: echo first\n    - run: |\n        echo second\n        echo >&2 third\n    - run: 'true'\n",
    );
    let task = gitea.finished(60, &run);
    assert_eq!(task.status, Status::Success, "{:#?}", task.lines());
    assert!(
        task.steps.iter().all(|step| step.result == Some(Status::Success) && step.started && step.stopped)
    );
    assert!(task.step_lines(0).contains(&"first"), "{:?}", task.step_lines(0));
    let second = task.step_lines(1);
    assert!(second.contains(&"second") && second.contains(&"third"), "{second:?}");
    // The web page adds lengths up: the ranges of the steps must meet.
    let ends: Vec<i64> = task.steps.iter().map(|step| step.log_index + step.log_length).collect();
    let starts: Vec<i64> = task.steps.iter().map(|step| step.log_index).collect();
    assert_eq!(starts[1..], ends[..2]);
    assert!(task.stopped_at > 0, "the end has a time");
    assert_eq!(task.final_reports, 1);
}

#[test]
fn a_failed_step_fails_the_job_and_skips_the_rest() {
    let (gitea, _home, _daemon) = host();
    let run = push_steps(
        &gitea,
        "    - run: exit 7\n    - run: echo not-me\n    - if: failure()\n      run: echo but-me\n",
    );
    let task = gitea.finished(60, &run);
    assert_eq!(task.status, Status::Failure);
    let results: Vec<_> = task.steps.iter().map(|step| step.result).collect();
    assert_eq!(results, [Some(Status::Failure), Some(Status::Skipped), Some(Status::Success)]);
    assert!(task.step_lines(2).contains(&"but-me"));
    assert!(task.step_lines(0).iter().any(|line| line.contains('7')), "{:?}", task.step_lines(0));
    assert!(!task.lines().contains(&"not-me"));
}

#[test]
fn a_job_whose_condition_is_false_is_skipped_with_its_steps() {
    let (gitea, _home, _daemon) = host();
    let text = workflow("    if: github.ref == 'refs/heads/other'\n", "    - run: echo no\n");
    let task = gitea.finished(60, &gitea.push(&Push::new(&text)));
    assert_eq!(task.status, Status::Skipped);
    assert_eq!(task.steps[0].result, Some(Status::Skipped));
}

#[test]
fn outputs_reach_the_jobs_that_need_them() {
    let (gitea, _home, _daemon) = host();
    let run = gitea.push(&Push::new(
        "on: push
jobs:
  build:
    runs-on: lab
    outputs:
      version: ${{ steps.v.outputs.version }}
      text: ${{ steps.v.outputs.text }}
    steps:
      - id: v
        run: |
          echo version=1.2.3 >> \"$GITHUB_OUTPUT\"
          printf 'text<<END\\none\\ntwo\\nEND\\n' >> \"$GITHUB_OUTPUT\"
  use:
    needs: build
    runs-on: lab
    steps:
      - run: echo \"got ${{ needs.build.outputs.version }} from ${{ needs.build.result }}\"
      - run: test \"$TEXT\" = \"$(printf 'one\\ntwo')\"
        env:
          TEXT: ${{ needs.build.outputs.text }}
",
    ));
    let build = gitea.ended(60, &run, 0).expect("the first job ran");
    assert_eq!(build.outputs.get("version").map(String::as_str), Some("1.2.3"));
    let using = gitea.ended(60, &run, 1).expect("the second job ran");
    assert_eq!(using.status, Status::Success, "{:#?}", using.lines());
    assert!(using.lines().contains(&"got 1.2.3 from success"));
}

#[test]
fn a_matrix_is_one_cell_and_the_event_is_the_servers() {
    let (gitea, _home, _daemon) = host();
    let text = workflow(
        "    strategy:\n      matrix:\n        os: [a, b]\n",
        "    - run: echo cell ${{ matrix.os }} ref ${{ github.ref_name }}\n    - run: |\n        grep -o '\"id\": *17[,}]' \"$GITHUB_EVENT_PATH\"\n",
    );
    let run = gitea.push(&Push::new(&text));
    for (index, cell) in ["a", "b"].iter().enumerate() {
        let task = gitea.ended(60, &run, index).expect("each cell is a job");
        assert_eq!(task.status, Status::Success, "an integral number stays one: {:#?}", task.lines());
        assert!(task.lines().contains(&format!("cell {cell} ref main").as_str()));
    }
}

#[test]
fn a_hundred_thousand_lines_arrive_complete_and_in_order() {
    let (gitea, _home, _daemon) = host();
    let run = push_steps(&gitea, "    - run: seq -f 'line %.0f of many' 1 100000\n");
    let task = gitea.finished(180, &run);
    numbered(&task, 100_000);
}

#[test]
fn a_line_without_an_end_and_bytes_that_are_no_text_arrive() {
    let (gitea, _home, _daemon) = host();
    let run = push_steps(
        &gitea,
        "    - run: printf 'bad \\377 byte\\nno end'\n    - run: head -c 200000 /dev/zero | tr '\\0' x\n",
    );
    let task = gitea.finished(60, &run);
    assert_eq!(task.status, Status::Success, "{:#?}", task.status);
    let first = task.step_lines(0);
    assert!(first.contains(&"no end"), "{first:?}");
    assert!(first.iter().any(|line| line.starts_with("bad ") && line.ends_with(" byte")), "{first:?}");
    let second = task.step_lines(1);
    let long = second.iter().filter(|line| !line.is_empty() && line.bytes().all(|byte| byte == b'x'));
    assert_eq!(long.map(|line| line.len()).sum::<usize>(), 200_000);
    assert!(task.rows.iter().all(|(_, row)| row.len() <= 65_536));
}

fn cancelled(generation: Generation) {
    let mark = uuid::Uuid::new_v4().to_string();
    let gitea = FakeGitea::with(Dialect { generation, ..Dialect::default() }, "");
    let (gitea, _home, _daemon) = host_with(gitea, Home::new(), "");
    let text = workflow(
        &format!("    env: {{STORY_MARK: {mark}}}\n"),
        "    - run: |\n        echo on; sleep 600 & sleep 600\n    - run: echo skipped\n    - if: always()\n      run: echo always-$((40+2))\n    - if: cancelled()\n      run: echo cancelled-$((1+1))\n",
    );
    let run = gitea.push(&Push::new(&text));
    gitea.until(60, "the step runs", |state| {
        state.tasks.first().filter(|task| task.lines().contains(&"on")).map(|_| ())
    });
    gitea.cancel(&run);
    let task = gitea.finished(60, &run);
    assert_eq!(task.status, Status::Cancelled);
    assert!(task.says("always-42") && task.says("cancelled-2"), "{:#?}", task.lines());
    assert!(!task.lines().contains(&"skipped"));
    within(
        20,
        "no process of the job is left",
        || processes_with(&mark).is_empty().then_some(()),
        || processes_with(&mark).join("\n"),
    );
}

#[test]
fn a_cancel_that_is_final_at_once_still_runs_what_always_runs() {
    cancelled(Generation::First);
}

#[test]
fn a_cancel_that_waits_for_the_runner_ends_as_cancelled() {
    cancelled(Generation::Second);
}

#[test]
fn a_timeout_of_the_job_is_a_failure_that_says_so() {
    let (gitea, _home, _daemon) = host();
    let text = workflow("    timeout-minutes: 0.05\n", "    - run: echo on; sleep 600\n");
    let task = gitea.finished(60, &gitea.push(&Push::new(&text)));
    assert_eq!(task.status, Status::Failure, "{:#?}", task.lines());
    let last = task.lines().join("\n").to_lowercase();
    assert!(last.contains("time") && last.contains("out"), "{last}");
}

#[test]
fn a_job_that_no_label_matches_fails_with_a_sentence_and_not_on_the_host() {
    let (gitea, _home, _daemon) = host();
    // The server gives a job without labels to anybody.
    let run = gitea.push(&Push::new(
        "on: push\njobs:\n  job:\n    runs-on: []\n    steps:\n    - run: echo ran-$((1+1))\n",
    ));
    let task = gitea.finished(60, &run);
    assert_eq!(task.status, Status::Failure, "{:#?}", task.lines());
    assert!(!task.says("ran-2"));
    assert!(task.says("default_image"), "the row names the key: {:#?}", task.lines());
}

#[test]
fn a_step_of_an_unusable_workflow_fails_the_task_and_seals_its_log() {
    let (gitea, _home, _daemon) = host();
    let run = push_steps(&gitea, "    - run: echo ${{ nope( }}\n");
    let task = gitea.finished(60, &run);
    assert_eq!(task.status, Status::Failure);
    assert!(!task.rows.is_empty() && task.archived);
}

#[test]
fn many_jobs_at_once_all_end_well_and_apart() {
    let home = Home::new();
    let (gitea, _home, _daemon) = host_with(FakeGitea::start(), home, "runner:\n  capacity: 4\n");
    let count = tests::skip::repetitions(100) * 2;
    let runs: Vec<_> = (0..count.max(12))
        .map(|n| {
            push_steps(&gitea, &format!("    - run: echo mine-{n}\n    - run: echo again-{n} > f; cat f\n"))
        })
        .collect();
    for (n, run) in runs.iter().enumerate() {
        let task = gitea.finished(120, run);
        assert_eq!(task.status, Status::Success, "job {n}: {:#?}", task.lines());
        assert!(task.lines().contains(&format!("mine-{n}").as_str()));
        assert!(task.lines().contains(&format!("again-{n}").as_str()));
        let others = task.lines().iter().filter(|line| line.starts_with("mine-")).count();
        assert_eq!(others, 1, "no row of another job: {:#?}", task.lines());
    }
}

#[test]
fn rows_come_before_the_state_that_speaks_of_them_and_the_log_ends_first() {
    let (gitea, _home, _daemon) = host();
    let run = push_steps(&gitea, "    - run: echo one\n    - run: echo two\n");
    let task = gitea.finished(60, &run);
    let state = gitea.state();
    let mine: Vec<_> = state.records.iter().filter(|record| record.task == task.id).collect();
    let sealed = mine.iter().position(|record| record.no_more).expect("the log is sealed");
    let ended = mine.iter().position(|record| record.result.is_some()).expect("a result is reported");
    assert!(sealed < ended, "first the log, then the result");
    assert!(mine[sealed].rows > 0, "the last log call carries a row");
    assert_eq!(mine.iter().filter(|record| record.result.is_some()).count(), 1);
}

#[test]
fn the_script_after_a_job_learns_what_the_job_was() {
    let home = Home::new();
    let script = home.path().join("after");
    home.write("after", "#!/bin/sh\nenv | grep ^GITEA_ > \"$0.part\"; mv \"$0.part\" \"$0.env\"\n");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
    let config = format!("runner:\n  post_task_script: {}\n", script.display());
    let (gitea, home, _daemon) = host_with(FakeGitea::start(), home, &config);
    let run = push_steps(&gitea, "    - run: echo \"workspace $PWD\"\n");
    let task = gitea.finished(60, &run);
    let told = within(
        30,
        "the script has run",
        || Some(home.read("after.env")).filter(|text| !text.is_empty()),
        String::new,
    );
    let workspace = task.lines().iter().find_map(|line| line.strip_prefix("workspace ").map(str::to_owned));
    for line in [
        format!("GITEA_TASK_ID={}", task.id),
        format!("GITEA_WORKSPACE={}", workspace.expect("the step has printed it")),
        "GITEA_JOB_RESULT=success".to_owned(),
    ] {
        assert!(told.lines().any(|told| told == line), "{line}\n{told}");
    }
}
