//! Actions out of the workspace: stages, scopes, states.

use super::Tale;
use crate::report::Conclusion;

const NODE: &str = "name: n
inputs:
  given: {default: d}
  plain: {}
runs: {using: node20, pre: pre.js, main: main.js, post: post.js}
";

fn with_node(tale: Tale, name: &str) -> Tale {
    let base = format!("/w/o/r/{name}");
    tale.with_file(&format!("{base}/action.yml"), NODE)
        .with_file(
            &format!("{base}/main.js"),
            "print main\nshow INPUT_GIVEN\nshow INPUT_PLAIN\nstate S=kept\noutput o=1",
        )
        .with_file(&format!("{base}/post.js"), "print post\nshow STATE_S")
}

#[tokio::test]
async fn posts_run_backwards_and_remember() {
    let tale =
        Tale::steps("    - {uses: ./a, id: one}\n    - {uses: ./b, with: {given: own}}\n    - run: exit 1\n");
    let tale = with_node(with_node(tale, "a"), "b");
    let story = tale.tell().await;
    assert_eq!(story.report.conclusion, Conclusion::Failure);
    let done = story.fake.done.lock().unwrap();
    let ran: Vec<&str> = done.iter().filter_map(|line| line.strip_prefix("node /w/o/r/")).collect();
    assert_eq!(ran, ["a/main.js", "b/main.js", "b/post.js", "a/post.js"]);
    assert_eq!(story.lines.iter().filter(|line| *line == "STATE_S=kept").count(), 2);
    assert!(story.says("INPUT_GIVEN=d") && story.says("INPUT_GIVEN=own") && story.says("INPUT_PLAIN="));
}

#[tokio::test]
async fn a_skipped_action_has_no_post() {
    let story = with_node(Tale::steps("    - {uses: ./a, if: false}\n"), "a").tell().await;
    assert!(!story.says("post"));
}

#[tokio::test]
async fn a_post_may_depend_on_the_jobs_status() {
    for (step, expected) in [("print fine", true), ("exit 1", false)] {
        let tale = Tale::steps(&format!("    - uses: ./a\n    - run: {step}\n"));
        let definition = NODE.replace("post: post.js", "post: post.js, post-if: success()");
        let tale = with_node(tale, "a").with_file("/w/o/r/a/action.yml", &definition);
        assert_eq!(tale.tell().await.says("post"), expected, "{step}");
    }
}

#[tokio::test]
async fn a_composite_has_a_scope_of_its_own() {
    let composite = "name: c
inputs: {who: {default: nobody}}
outputs: {answer: {value: '${{ steps.in.outputs.o }}'}}
runs:
  using: composite
  steps:
  - {shell: sh, run: \"show INPUT_WHO\\nshow OUTER\\nprint ${{ inputs.who }} [${{ secrets.S }}] [${{ steps.before.outcome }}]\"}
  - {id: in, shell: sh, run: \"output o=42\\nenv FROM=inside\"}
  - {uses: ./n}
";
    let tale = Tale::steps(
        "    - {id: before, run: print before}
    - {id: c, uses: ./c, with: {who: me}, env: {OUTER: seen}}
    - run: \"show FROM\\nshow OUTER\\nprint ${{ steps.c.outputs.answer }} [${{ steps.in.outcome }}]\"
",
    )
    .with_secret("S", "not-for-composites")
    .with_file("/w/o/r/c/action.yml", composite);
    let story = with_node(tale, "n").tell().await;
    assert_eq!(story.report.conclusion, Conclusion::Success, "{:?}", story.lines);
    for line in [
        "INPUT_WHO=(unset)",
        "OUTER=seen",
        "me [] []",
        "INPUT_GIVEN=d",
        "FROM=inside",
        "OUTER=(unset)",
        "42 []",
        "post",
    ] {
        assert!(story.says(line), "{line}: {:?}", story.lines);
    }
}

#[tokio::test]
async fn inside_a_composite_failure_is_its_own() {
    let composite = "name: c
runs:
  using: composite
  steps:
  - {if: failure(), shell: sh, run: print not yet}
  - {shell: sh, run: exit 1}
  - {shell: sh, run: print never}
  - {if: failure(), shell: sh, run: print inner cleanup}
";
    let tale = Tale::steps(
        "    - run: exit 2\n    - {uses: ./c, if: always(), id: c}\n    - {if: always(), run: 'print ${{ steps.c.outcome }}'}\n",
    );
    let story = tale.with_file("/w/o/r/c/action.yml", composite).tell().await;
    assert!(story.says("inner cleanup") && story.says("failure"));
    assert!(!story.says("not yet") && !story.says("never"), "{:?}", story.lines);
}

#[tokio::test]
async fn a_docker_actions_own_arguments_stand_above_the_steps() {
    let action = "name: d
inputs: {x: {default: '1'}}
runs: {using: docker, image: 'docker://tool:1', args: ['--x', '${{ inputs.x }}'], entrypoint: /run}
";
    let tale = Tale::steps("    - {uses: ./d, with: {args: theirs, entrypoint: /other, x: 5}}\n");
    let story = tale.with_file("/w/o/r/d/action.yml", action).tell().await;
    assert!(story.says("image tool:1 [/run] --x 5"), "{:?}", story.lines);
}

#[tokio::test]
async fn what_cannot_be_had_is_a_sentence() {
    let story = Tale::steps("    - uses: ./nowhere\n").tell().await;
    assert!(story.mentions("Did you forget to run actions/checkout"));
    let story = Tale::steps("    - uses: owner/repo\n").tell().await;
    assert!(story.mentions("has no ref"));
    assert_eq!(story.report.conclusion, Conclusion::Failure);
    let story = Tale::steps("    - uses: http://127.0.0.1:1/o/r@v1\n    - run: print never\n").tell().await;
    assert!(story.mentions("http://127.0.0.1:1/o/r") && !story.says("never"), "{:?}", story.lines);
}
