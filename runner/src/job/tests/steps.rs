//! Steps and what they leave for each other.

use super::{Tale, fake::Fake};
use crate::report::Conclusion;

#[tokio::test]
async fn steps_run_in_order_and_conditions_decide() {
    let story = Tale::steps(
        "    - {id: a, run: 'print one'}
    - {id: b, run: 'exit 4'}
    - {run: 'print never'}
    - {if: failure(), run: 'print after ${{ steps.b.outcome }} ${{ steps.c.outcome }}.'}
    - {if: 'always() && ${{ false }}', run: 'print never either'}
    - {if: always(), run: 'print last ${{ job.status }}'}
",
    )
    .tell()
    .await;
    assert_eq!(story.report.conclusion, Conclusion::Failure);
    assert_eq!(
        story.output(),
        [
            "> 0",
            "one",
            "< 0 success",
            "> 1",
            "##[error]Process completed with exit code 4.",
            "< 1 failure",
            "< 2 skipped",
            "> 3",
            "after failure .",
            "< 3 success",
            "< 4 skipped",
            "> 5",
            "last failure",
            "< 5 success"
        ]
    );
}

#[tokio::test]
async fn a_failure_that_may_be_is_none() {
    let story = Tale::steps(
        "    - {id: a, continue-on-error: true, run: 'exit 1'}
    - {if: failure(), run: 'print never'}
    - {run: 'print ${{ steps.a.outcome }} ${{ steps.a.conclusion }}'}
",
    )
    .tell()
    .await;
    assert_eq!(story.report.conclusion, Conclusion::Success);
    assert!(story.says("failure success"));
    assert!(!story.says("never"));
}

#[tokio::test]
async fn command_files_work_for_the_steps_after() {
    let story = Tale::steps(
        "    - id: a
      run: |
        env A=b
        output x=1
        output y<<E\\n\\nz\\nE
        path /own
        summary '# hi'
        show A
    - run: |
        show A
        show PATH
        print ${{ steps.a.outputs.x }} ${{ toJSON(steps.a.outputs.y) }} ${{ env.A }}
",
    )
    .tell()
    .await;
    assert_eq!(story.report.conclusion, Conclusion::Success, "{:?}", story.lines);
    for line in ["A=(unset)", "A=b", "PATH=/own:/bin", "1 \"\\nz\" b"] {
        assert!(story.says(line), "{line}: {:?}", story.lines);
    }
    assert_eq!(story.summaries[&0], "'# hi'\n");
}

#[tokio::test]
async fn a_bad_line_fails_the_step_but_what_stood_before_counts() {
    let story = Tale::steps(
        "    - id: a
      run: |
        env GOOD=1
        env no pair here
        output o=2
    - {if: always(), run: 'print ${{ env.GOOD }} ${{ steps.a.outputs.o }}'}
",
    )
    .tell()
    .await;
    assert_eq!(story.report.conclusion, Conclusion::Failure);
    assert!(story.mentions("Unable to process file command 'env' successfully."));
    assert!(story.says("1 2"));
}

#[tokio::test]
async fn node_options_are_refused_without_failing() {
    let story = Tale::steps("    - run: env NODE_OPTIONS=--x\n    - run: show NODE_OPTIONS\n").tell().await;
    assert_eq!(story.report.conclusion, Conclusion::Success);
    assert!(story.says("NODE_OPTIONS=(unset)"));
    assert!(story.mentions("NODE_OPTIONS"));
}

#[tokio::test]
async fn variables_have_levels_and_the_runner_has_the_last_word() {
    let story = Tale::job(
        "    env: {LEVEL: job, JOB: '${{ env.LEVEL }}'}
    steps:
    - {run: 'show LEVEL', env: {LEVEL: step}}
    - run: |
        show LEVEL
        show JOB
    - {run: 'env LEVEL=file'}
    - {run: 'show LEVEL'}
    - {run: 'show GITHUB_SHA', env: {GITHUB_SHA: mine}}
",
    )
    .tell()
    .await;
    let shown: Vec<&str> = story.output().into_iter().filter(|line| line.contains('=')).collect();
    assert_eq!(shown, ["LEVEL=step", "LEVEL=job", "JOB=workflow", "LEVEL=file", "GITHUB_SHA=abc"]);
}

#[tokio::test]
async fn an_object_is_no_variable() {
    let story = Tale::steps("    - {run: 'print x', env: {X: '${{ github.event }}'}}\n").tell().await;
    assert_eq!(story.report.conclusion, Conclusion::Failure);
    assert!(!story.says("x"));
    assert!(story.mentions("A mapping was not expected"));
}

#[tokio::test]
async fn unnamed_steps_have_githubs_names_and_no_place_in_steps() {
    let story = Tale::steps(
        "    - run: show GITHUB_ACTION
    - run: show GITHUB_ACTION
    - run: \"print [${{ steps['0'].outcome }}${{ steps.__run.outcome }}]\"
",
    )
    .tell()
    .await;
    for line in ["GITHUB_ACTION=__run", "GITHUB_ACTION=__run_2", "[]"] {
        assert!(story.says(line), "{line}: {:?}", story.lines);
    }
}

#[tokio::test]
async fn defaults_merge_and_steps_win() {
    let story = Tale::job(
        "    defaults: {run: {shell: 'mine {0}', working-directory: sub}}
    steps:
    - run: pwd
    - {run: pwd, shell: sh, working-directory: /abs}
    - {run: pwd, working-directory: ./x/}
",
    )
    .tell()
    .await;
    let folders: Vec<&str> = story.output().into_iter().filter(|line| line.starts_with('/')).collect();
    assert_eq!(folders, ["/w/o/r/sub", "/abs", "/w/o/r/x"]);
    let done = story.fake.done.lock().unwrap();
    let programs: Vec<&str> = done.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(programs, ["mine", "sh", "mine", "teardown"]);
}

#[tokio::test]
async fn an_expression_may_give_the_defaults_of_a_job() {
    let story = Tale::job(
        "    defaults: {run: \"${{ fromJSON('{\\\"working-directory\\\": \\\"sub\\\"}') }}\"}
    steps:
    - run: pwd
",
    )
    .tell()
    .await;
    assert!(story.says("/w/o/r/sub"), "{:?}", story.lines);
}

#[tokio::test]
async fn without_bash_sh_is_used() {
    let mut tale = Tale::steps("    - run: print a\n    - run: print b\n    - {run: print c, shell: bash}\n");
    tale.fake = Fake { missing: vec!["bash".into()], ..Fake::default() };
    let story = tale.tell().await;
    assert!(story.says("a") && story.says("b") && !story.says("c"));
    assert!(story.mentions("bash was not found"));
}

#[tokio::test]
async fn a_shell_without_place_for_the_script_fails_the_step() {
    let story = Tale::steps("    - {run: print a, shell: bash -l}\n").tell().await;
    assert_eq!(story.report.conclusion, Conclusion::Failure);
    assert!(story.mentions("Invalid shell option"));
}

#[tokio::test]
async fn outputs_leave_without_secrets_and_without_empty_ones() {
    let story = Tale::job(
        "    outputs:
      plain: ${{ steps.a.outputs.x }}
      secret: ${{ steps.a.outputs.s }}
      empty: ${{ steps.a.outputs.none }}
    steps:
    - {id: a, run: \"output x=1\\noutput s=begin-hunter22-end\"}
",
    )
    .with_secret("PASSWORD", "hunter22")
    .tell()
    .await;
    assert_eq!(story.report.outputs.iter().collect::<Vec<_>>(), [(&"plain".to_owned(), &"1".to_owned())]);
    assert!(story.mentions("Skip output 'secret'"));
    assert!(!story.mentions("hunter22"));
}

#[tokio::test]
async fn hashes_are_asked_of_the_place() {
    let story = Tale::steps("    - run: print ${{ hashFiles('**/lock', 'x') }}\n").tell().await;
    assert!(story.says("hash of **/lock x"), "{:?}", story.lines);
}

#[tokio::test]
async fn a_place_that_breaks_ends_the_job() {
    let story = Tale::steps("    - run: gone\n    - {if: always(), run: print never}\n").tell().await;
    assert_eq!(story.report.conclusion, Conclusion::Failure);
    assert!(story.mentions("the container died"));
    assert!(!story.says("never"));
}

#[tokio::test]
async fn docker_steps_get_their_words_and_inputs() {
    let story = Tale::steps(
        "    - {uses: 'docker://alpine:3', with: {entrypoint: /bin/echo, args: \"a 'b c'\", other: z}}\n",
    )
    .tell()
    .await;
    assert!(story.says("image alpine:3 [/bin/echo] a b c"), "{:?}", story.lines);
    assert!(story.says("INPUT_OTHER=z"));
}
