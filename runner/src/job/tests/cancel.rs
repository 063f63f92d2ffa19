//! What a cancel, a limit and the end of the runner do to a job.

use std::time::Duration;

use super::Tale;
use crate::{cancel::CancelCause, report::Conclusion};

const STEPS: &str = "    - {run: 'print begin'}
    - {run: 'sleep 100'}
    - {run: 'print never'}
    - {if: cancelled(), run: 'print cancelled'}
    - {if: always(), run: 'print always ${{ job.status }}'}
    - {if: failure(), run: 'print failure'}
";

async fn cancelled(tale: Tale, cause: CancelCause) -> super::Story {
    let cancel = tale.cancel.clone();
    let (story, ()) = tokio::join!(tale.tell(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel(cause);
    });
    story
}

#[tokio::test(start_paused = true)]
async fn after_a_cancel_only_those_run_that_want_to() {
    let story = cancelled(Tale::steps(STEPS), CancelCause::Server).await;
    assert_eq!(story.report.conclusion, Conclusion::Cancelled);
    assert!(story.says("cancelled") && story.says("always cancelled"), "{:?}", story.lines);
    assert!(!story.says("never") && !story.says("failure"));
    assert!(story.says("< 1 cancelled") && story.says("< 2 skipped"));
    assert!(story.fake.done.lock().unwrap().iter().any(|line| line == "teardown"));
}

#[tokio::test(start_paused = true)]
async fn a_running_step_that_wants_to_go_on_does() {
    let story = cancelled(
        Tale::steps("    - {if: always(), run: \"sleep 20\\nprint finished\"}\n"),
        CancelCause::Server,
    )
    .await;
    assert!(story.says("finished"));
    assert_eq!(story.report.conclusion, Conclusion::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_goes_down_runs_nothing_more() {
    let story = cancelled(Tale::steps(STEPS), CancelCause::Shutdown).await;
    assert_eq!(story.report.conclusion, Conclusion::Cancelled);
    assert!(!story.says("cancelled") && !story.mentions("always"));
    assert!(story.mentions("The runner was shut down."));
}

#[tokio::test(start_paused = true)]
async fn a_jobs_limit_is_a_failure() {
    let story = Tale::job(&format!("    timeout-minutes: 1\n    steps:\n{STEPS}")).tell().await;
    assert_eq!(story.report.conclusion, Conclusion::Failure);
    assert!(story.says("always cancelled"));
    assert!(story.mentions("timeout-minutes"));
}

#[tokio::test(start_paused = true)]
async fn a_steps_limit_fails_that_step_alone() {
    let story = Tale::steps(
        "    - {timeout-minutes: 1, name: slow, run: 'sleep 600'}
    - {if: failure(), run: 'print went on'}
",
    )
    .tell()
    .await;
    assert_eq!(story.report.conclusion, Conclusion::Failure);
    assert!(story.mentions("The action 'slow' has timed out after 1 minutes."), "{:?}", story.lines);
    assert!(story.says("went on"));
}
