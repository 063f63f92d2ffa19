//! The pipeline as a step sees it: bytes in, rows and findings out.

use proptest::prelude::*;
use tokio::sync::mpsc;

use super::{JobLog, Masker, StepFindings, StepLogOptions};
use crate::{
    backend::{Output, Stream},
    cancel::Cancel,
    report::{JobEvent, Sink},
};

struct Bench {
    log: JobLog,
    events: mpsc::Receiver<JobEvent>,
}

fn bench(secrets: &[&str]) -> Bench {
    let masker = Masker::new();
    for secret in secrets {
        masker.add(secret);
    }
    let (sink, events) = Sink::new(Cancel::new());
    Bench { log: JobLog::open(sink, masker), events }
}

impl Bench {
    fn rows(&mut self) -> Vec<String> {
        let mut rows = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if let JobEvent::Rows(batch) = event {
                rows.extend(batch.into_iter().map(|row| row.text.into_string()));
            }
        }
        rows
    }

    async fn step(&mut self, options: StepLogOptions, text: &str) -> (Vec<String>, StepFindings) {
        let mut step = self.log.step(options);
        step.write(Stream::Stdout, text.as_bytes()).await;
        let findings = step.finish().await;
        (self.rows(), findings)
    }
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[tokio::test]
async fn a_row_leaves_before_more_comes() {
    let mut bench = bench(&[]);
    let mut step = bench.log.step(StepLogOptions::default());
    step.write(Stream::Stdout, b"one\ntw").await;
    assert_eq!(bench.rows(), ["one"]);
    step.write(Stream::Stderr, b"err\n").await;
    step.write(Stream::Stdout, b"o").await;
    assert_eq!(bench.rows(), ["err"]);
    step.finish().await;
    assert_eq!(bench.rows(), ["two"]);
}

#[tokio::test]
async fn commands_are_obeyed_and_not_shown() {
    let mut bench = bench(&[]);
    let text = "::set-output name=a::1%0A2\n::save-state name=s::x\nplain\n::set-output name=b::last, without a line end";
    let (rows, findings) = bench.step(StepLogOptions::default(), text).await;
    assert_eq!(rows, ["plain"]);
    assert_eq!(findings.outputs, [pair("a", "1\n2"), pair("b", "last, without a line end")]);
    assert_eq!(findings.state, [pair("s", "x")]);
    assert_eq!(findings.failed, None);
}

#[tokio::test]
async fn set_env_needs_the_gate_and_never_sets_node_options() {
    let mut bench = bench(&[]);
    let (rows, findings) =
        bench.step(StepLogOptions::default(), "::set-env name=A::b\n::add-path::/x\n").await;
    assert_eq!(rows[0], "##[error]Unable to process command '::set-env name=A::b' successfully.");
    assert!(rows[1].starts_with("##[error]The `set-env` command is disabled."));
    assert!(findings.failed.is_some_and(|reason| reason.contains("set-env")));
    assert!(findings.env.is_empty() && findings.paths.is_empty());

    let options = StepLogOptions { allow_unsecure_commands: true, ..StepLogOptions::default() };
    let text = "::set-env name=A::b\n::add-path::/x\n::set-env name=NODE_OPTIONS::--inspect\n";
    let (rows, findings) = bench.step(options, text).await;
    assert_eq!(rows, ["##[error]Can't update NODE_OPTIONS environment variable using ::set-env:: command."]);
    assert_eq!(findings.env, [pair("A", "b")]);
    assert_eq!(findings.paths, ["/x"]);
    assert_eq!((findings.failed, findings.errors), (None, 1));
}

#[tokio::test]
async fn annotations_take_their_place_into_the_text() {
    let mut bench = bench(&[]);
    let options = StepLogOptions { workspace: "/w/repo".to_owned(), ..StepLogOptions::default() };
    let text = "::error file=/w/repo/app.js,line=100,col=20,title=Oh::no%0Areally\n::warning file=a b.c::x\n\
                \u{20}  ::notice::100%25\nfoo ##[warning]tail\n::error line=x,file=f::y\n";
    let (rows, findings) = bench.step(options, text).await;
    assert_eq!(
        rows,
        [
            "##[error]app.js:100:20: Oh: no%0Areally",
            "##[warning]a b.c: x",
            "##[notice]100%",
            "##[warning]tail",
            "##[error]f: y"
        ]
    );
    assert_eq!((findings.errors, findings.warnings, findings.notices), (2, 2, 1));
}

#[tokio::test]
async fn debug_groups_and_echo() {
    let text = "::debug::d\n::group::G\nx\n::endgroup::\n::echo::on\n::set-output name=a::1\n::echo::off\n::set-output name=a::2\n";
    let mut bench = bench(&[]);
    let (rows, _) = bench.step(StepLogOptions::default(), text).await;
    assert_eq!(rows, ["##[group]G", "x", "##[endgroup]", "::set-output name=a::1"]);
    let options = StepLogOptions { debug: true, ..StepLogOptions::default() };
    let (rows, _) = bench.step(options, "::debug::d\n").await;
    assert_eq!(rows, ["##[debug]d"]);
    let (_, findings) = bench.step(StepLogOptions::default(), "::echo::maybe\n").await;
    assert!(findings.failed.is_some_and(|reason| reason.contains("'maybe'")));
}

#[tokio::test]
async fn commands_can_be_stopped_in_one_step_only() {
    let mut bench = bench(&[]);
    let text =
        "::stop-commands::my-token\n::set-output name=a::1\n::MY-TOKEN::\n::set-output name=b::2\nmy-token\n";
    let (rows, findings) = bench.step(StepLogOptions::default(), text).await;
    assert_eq!(rows, ["::set-output name=a::1", "***"], "a token of more than six characters is masked");
    assert_eq!(findings.outputs, [pair("b", "2")]);

    bench.step(StepLogOptions::default(), "::stop-commands::never-resumed\n").await;
    let (_, findings) = bench.step(StepLogOptions::default(), "::set-output name=c::3\n").await;
    assert_eq!(findings.outputs, [pair("c", "3")]);

    for bad in ["warning", "", "pause-logging"] {
        let (_, findings) = bench.step(StepLogOptions::default(), &format!("::stop-commands::{bad}\n")).await;
        assert!(findings.failed.is_some(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_mask_counts_for_the_next_line_of_the_other_stream() {
    let mut bench = bench(&[]);
    let mut step = bench.log.step(StepLogOptions::default());
    step.write(Stream::Stdout, b"hunter2\n::add-mask::hunter2\nhunter2\n").await;
    step.write(Stream::Stderr, b"on hunter2\n").await;
    bench.log.row("the runner says hunter2 too").await;
    step.finish().await;
    assert_eq!(bench.rows(), ["hunter2", "***", "on ***", "the runner says *** too"]);
}

#[tokio::test]
async fn masks_of_many_lines_of_one_character_and_of_nothing() {
    let mut bench = bench(&[]);
    let (rows, _) = bench.step(StepLogOptions::default(), "::add-mask::a%0Abcd\nbcd-a\n::add-mask::\n").await;
    assert_eq!(
        rows,
        [
            "***-***",
            "##[w***rning]C***n't ***dd secret m***sk for empty string in ##[***dd-m***sk] comm***nd."
        ]
    );
}

#[tokio::test]
async fn an_escape_cannot_carry_a_secret_out() {
    let mut bench = bench(&["pa%ss\nword", "50%25x"]);
    let (rows, _) =
        bench.step(StepLogOptions::default(), "::error::<pa%25ss%0Aword> 50%2525x\n::error::pa%ss\n").await;
    assert_eq!(rows, ["##[error]<***> ***", "##[error]***"]);
}

#[tokio::test]
async fn an_endless_line_is_shown_in_rows_without_its_secrets() {
    let mut bench = bench(&["TOP-SECRET-VALUE"]);
    let mut step = bench.log.step(StepLogOptions::default());
    let unit = "0123456789é TOP-SECRET-VALUE ".repeat(1000);
    let mut rows = Vec::new();
    for _ in 0..40 {
        for chunk in unit.as_bytes().chunks(7777) {
            step.write(Stream::Stdout, chunk).await;
            rows.extend(bench.rows());
        }
    }
    step.write(Stream::Stdout, b"\nnext\n").await;
    step.finish().await;
    rows.extend(bench.rows());
    assert_eq!(rows.pop().as_deref(), Some("next"));
    assert!(rows.iter().all(|row| row.len() <= 65536));
    assert_eq!(rows.concat(), "0123456789é *** ".repeat(40_000));
}

#[tokio::test]
async fn bytes_that_are_no_text_are_shown() {
    let mut bench = bench(&[]);
    let mut step = bench.log.step(StepLogOptions::default());
    step.write(Stream::Stdout, b"a\xffb\xc3\n\xe2\x82").await;
    step.write(Stream::Stdout, b"\xac\n").await;
    step.finish().await;
    assert_eq!(bench.rows(), ["a\u{fffd}b\u{fffd}", "€"]);
}

#[tokio::test]
async fn a_matcher_counts_from_the_next_line_although_its_file_comes_later() {
    const FILE: &[u8] = br#"{"problemMatcher":[{"owner":"t","severity":"warning","pattern":[{"regexp":"^(\\S+):(\\d+) (.*)$","file":1,"line":2,"message":3}]}]}"#;
    let mut bench = bench(&[]);
    let mut step = bench.log.step(StepLogOptions::default());
    let mut requests = step.matcher_requests().await;
    let serve = async {
        let mut paths = Vec::new();
        while let Some(request) = requests.next().await {
            paths.push(request.path.clone());
            request.answer(Ok(FILE)).await;
        }
        paths
    };
    let run = async {
        step.write(Stream::Stdout, b"a.c:1 before\n##[add-matcher].github/t.json\na.c:2 after\n").await;
        step.write(Stream::Stdout, b"::remove-matcher owner=T::\na.c:3 removed\n").await;
        step.finish().await
    };
    let (paths, findings) = tokio::join!(serve, run);
    assert_eq!(paths, [".github/t.json"]);
    assert_eq!(bench.rows(), ["a.c:1 before", "##[warning]a.c:2 after", "a.c:3 removed"]);
    assert_eq!(findings.warnings, 1);
}

#[tokio::test(start_paused = true)]
async fn a_matcher_that_nobody_reads_holds_nothing_up() {
    let mut bench = bench(&[]);
    let mut step = bench.log.step(StepLogOptions::default());
    let requests = step.matcher_requests().await;
    step.write(Stream::Stdout, b"::add-matcher::m.json\nline\n").await;
    assert!(bench.rows().is_empty());
    step.finish().await;
    drop(requests);
    let rows = bench.rows();
    assert!(rows[0].starts_with("##[warning]Unable to add the problem matchers"), "{rows:?}");
    assert_eq!(rows[1], "line");
}

#[tokio::test]
async fn what_the_runner_says_is_split_masked_and_not_obeyed() {
    let mut bench = bench(&["first\nsecond"]);
    bench.log.error("first\nsecond").await;
    bench.log.row("a\r\nb\n").await;
    bench.log.group("::set-output name=a::b").await;
    bench.log.end_group().await;
    assert_eq!(bench.rows(), ["##[error]***", "a", "b", "##[group]::set-output name=a::b", "##[endgroup]"]);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

proptest! {
    /// However the bytes of a stream arrive, its rows and findings are the same.
    #[test]
    fn chunks_do_not_matter(
        lines in proptest::collection::vec("(::add-mask::b|::set-output name=x::|::group::|##\\[error\\]|::stop-commands::k|::k::|)[abé\\xff]{0,5}\r?", 0..10),
        size in 1usize..9,
    ) {
        let text = lines.join("\n");
        let run = |size: usize| runtime().block_on(async {
            let mut bench = bench(&["aé"]);
            let mut step = bench.log.step(StepLogOptions::default());
            let mut rows = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                step.write(Stream::Stdout, chunk).await;
                rows.extend(bench.rows());
            }
            let findings = step.finish().await;
            rows.extend(bench.rows());
            (rows, findings)
        });
        prop_assert_eq!(run(size), run(text.len().max(1)));
    }
}
