//! Stories of the planner: whole workflows from start to result, told as the list of what happened.

use workflows::plan::{JobResult, NeedResult, Run, RunOptions, Step};
use workflows::{Object, SourceFile, Value, Workflow, parse_payload};

fn workflow(name: &str, text: &str) -> Workflow {
    parse_payload(&SourceFile::new(name, text)).into_result().expect("a workflow that can be run")
}

/// What the jobs of a story do: name of the job, its result and outputs.
type Script<'s> = &'s [(&'s str, JobResult, &'s [(&'s str, &'s str)])];

/// Runs a workflow; jobs that the script does not name succeed without outputs.
fn story(text: &str, options: RunOptions, files: &[(&str, &str)], script: Script<'_>) -> Vec<String> {
    let mut run = Run::new(workflow("ci.yml", text), options).expect("a plan");
    let mut told = Vec::new();
    let mut running = std::collections::VecDeque::new();
    for _ in 0..1000 {
        for step in run.advance() {
            match step {
                Step::Start(job) => {
                    told.push(format!("start {}", job.name));
                    running.push_back((job.key, job.name.clone()));
                }
                Step::Fetch(request) => {
                    let name = request.reference.to_string();
                    told.push(format!("fetch {name}"));
                    let found = files.iter().find(|(own, _)| *own == name);
                    let answer =
                        found.map(|(name, text)| workflow(name, text)).ok_or_else(|| format!("no {name}"));
                    run.answer(&request, answer);
                }
                Step::Skipped { name, result, .. } => told.push(format!("{} {name}", result.as_str())),
                Step::Failed { name, message, .. } => told.push(format!("failed {name}: {message}")),
                Step::Cancel(key) => {
                    let name =
                        running.iter().find(|(own, _)| *own == key).map_or("?", |(_, name)| name.as_str());
                    told.push(format!("cancel {name}"));
                }
            }
        }
        if run.is_finished() {
            told.push(format!("= {}", run.result().expect("finished").as_str()));
            return told;
        }
        if let Some((key, name)) = running.pop_front() {
            let (result, outputs) = script
                .iter()
                .find(|(own, _, _)| *own == name)
                .map_or((JobResult::Success, &[][..]), |(_, result, outputs)| (*result, *outputs));
            run.finish(key, result, outputs.iter().map(|(key, value)| (*key, *value)).collect());
        }
    }
    panic!("the run never ends: {told:?}");
}

fn tell(text: &str, script: Script<'_>) -> Vec<String> {
    story(text, RunOptions::default(), &[], script)
}

const CHAIN: &str = "
on: push
jobs:
  build: {runs-on: x, steps: [run: x]}
  test: {needs: build, runs-on: x, steps: [run: x]}
  report: {needs: test, if: always(), runs-on: x, steps: [run: x]}
  deploy: {needs: [test, report], runs-on: x, steps: [run: x]}
";

#[test]
fn jobs_start_when_what_they_need_has_ended() {
    assert_eq!(tell(CHAIN, &[]), ["start build", "start test", "start report", "start deploy", "= success"]);
}

#[test]
fn a_failed_job_skips_its_children_but_for_always() {
    assert_eq!(
        tell(CHAIN, &[("build", JobResult::Failure, &[])]),
        ["start build", "skipped test", "start report", "skipped deploy", "= failure"]
    );
}

#[test]
fn success_looks_at_all_ancestors() {
    let text = "
on: push
jobs:
  a: {if: false, runs-on: x, steps: [run: x]}
  b: {needs: a, if: always(), runs-on: x, steps: [run: x]}
  c: {needs: b, runs-on: x, steps: [run: x]}
  d: {needs: b, if: failure(), runs-on: x, steps: [run: x]}
  e: {needs: b, if: \"success('b')\", runs-on: x, steps: [run: x]}
";
    assert_eq!(tell(text, &[]), ["skipped a", "start b", "skipped c", "skipped d", "start e", "= success"]);
}

#[test]
fn matrices_expand_with_names_and_outputs_of_needs() {
    let text = "
on: push
jobs:
  list:
    runs-on: x
    steps: [run: x]
  each:
    needs: list
    strategy:
      matrix:
        item: ${{ fromJSON(needs.list.outputs.items) }}
        include: [{item: b, extra: 1}]
    runs-on: ${{ matrix.item }}
    steps: [run: x]
  named:
    needs: list
    name: go ${{ matrix.v }}
    strategy: {matrix: {v: [1.10, 2]}}
    runs-on: x
    steps: [run: x]
";
    assert_eq!(
        tell(text, &[("list", JobResult::Success, &[("items", "[\"a\", \"b\"]")])]),
        ["start list", "start each (a)", "start each (b, 1)", "start go 1.1", "start go 2", "= success"]
    );
}

#[test]
fn fail_fast_cancels_the_others_and_continue_on_error_does_not_count() {
    let text = |rest: &str| {
        format!(
            "on: push\njobs:\n  m:\n    strategy: {{matrix: {{n: [1, 2, 3]}}, {rest}}}\n    runs-on: x\n    steps: [run: x]\n"
        )
    };
    let failed: Script<'_> = &[("m (1)", JobResult::Failure, &[]), ("m (2)", JobResult::Cancelled, &[])];
    assert_eq!(
        tell(&text("max-parallel: 2"), failed),
        ["start m (1)", "start m (2)", "cancel m (2)", "cancelled m (3)", "= failure"]
    );
    assert_eq!(
        tell(&text("fail-fast: 'false', max-parallel: '1'"), failed),
        ["start m (1)", "start m (2)", "start m (3)", "= failure"]
    );
    let soft = "on: push\njobs:\n  a: {continue-on-error: true, runs-on: x, steps: [run: x]}\n  b: {needs: a, if: needs.a.result == 'success', runs-on: x, steps: [run: x]}\n";
    assert_eq!(tell(soft, &[("a", JobResult::Failure, &[])]), ["start a", "start b", "= success"]);
}

const CALLER: &str = "
on: push
jobs:
  call:
    strategy: {matrix: {env: [dev, prod]}}
    uses: ./.gitea/workflows/deploy.yml
    with: {target: '${{ matrix.env }}', dry: true}
    secrets: {key: '${{ secrets.KEY }}'}
  after:
    needs: call
    if: needs.call.outputs.url == 'u-prod'
    runs-on: x
    steps: [run: x]
";

const CALLEE: &str = "
on:
  workflow_call:
    inputs:
      target: {type: string, required: true}
      dry: {type: boolean, default: false}
      count: {type: number, default: 2}
    secrets:
      key: {required: true}
    outputs:
      url: {value: '${{ jobs.go.outputs.url }}'}
jobs:
  go: {if: inputs.dry == true && inputs.count == 2, runs-on: '${{ inputs.target }}', steps: [run: x]}
  inner: {needs: go, uses: org/repo/other.yml@v1, secrets: inherit}
";

const OTHER: &str = "
on: {workflow_call: }
jobs:
  last: {runs-on: x, steps: [run: x]}
  near: {uses: ./near.yml}
";

fn secrets() -> RunOptions {
    RunOptions {
        secrets: Value::from(serde_json::json!({"KEY": "k", "GITHUB_TOKEN": "t"})),
        ..RunOptions::default()
    }
}

#[test]
fn reusable_workflows_run_with_inputs_secrets_and_outputs() {
    let near = "on: {workflow_call: }\njobs: {deep: {runs-on: x, steps: [run: x]}}\n";
    let files =
        [("./.gitea/workflows/deploy.yml", CALLEE), ("org/repo/other.yml@v1", OTHER), ("./near.yml", near)];
    let script: Script<'_> = &[
        ("call (dev) / go", JobResult::Success, &[("url", "u-dev")]),
        ("call (prod) / go", JobResult::Success, &[("url", "u-prod")]),
    ];
    assert_eq!(
        story(CALLER, secrets(), &files, script),
        [
            "fetch ./.gitea/workflows/deploy.yml",
            "start call (dev) / go",
            "start call (prod) / go",
            "fetch org/repo/other.yml@v1",
            "start call (dev) / inner / last",
            "fetch ./near.yml",
            "start call (prod) / inner / last",
            "start call (dev) / inner / near / deep",
            "start call (prod) / inner / near / deep",
            "start after",
            "= success",
        ]
    );
}

#[test]
fn calls_that_cannot_be_say_why() {
    let call = |rest: &str| format!("on: push\njobs:\n  c: {{uses: ./w.yml{rest}}}\n");
    let told = |rest: &str, callee: &str| {
        story(&call(rest), RunOptions::default(), &[("./w.yml", callee)], &[])
            .into_iter()
            .find(|line| line.starts_with("failed"))
    };
    let job = "\njobs: {a: {runs-on: x, steps: [run: x]}}\n";
    assert_eq!(
        told("", &format!("on: push{job}")).as_deref(),
        Some("failed c: ./w.yml cannot be called: its 'on' has no 'workflow_call'")
    );
    let typed =
        format!("on: {{workflow_call: {{inputs: {{flag: {{type: boolean, required: true}}}}}}}}{job}");
    assert_eq!(told("", &typed).as_deref(), Some("failed c: Input 'flag' is required, but not provided"));
    assert_eq!(
        told(", with: {flag: maybe}", &typed).as_deref(),
        Some("failed c: input 'flag' must be true or false, found 'maybe'")
    );
    let secret = format!("on: {{workflow_call: {{secrets: {{key: {{required: true}}}}}}}}{job}");
    assert_eq!(
        told("", &secret).as_deref(),
        Some("failed c: Secret 'key' is required by ./w.yml, but not provided")
    );
    let itself = "on: {workflow_call: }\njobs: {again: {uses: ./w.yml}}\n";
    assert!(told("", itself).expect("too deep").contains("nested deeper than 9 levels"));
    let missing = story(&call(""), RunOptions::default(), &[], &[]);
    assert_eq!(missing, ["fetch ./w.yml", "failed c: no ./w.yml", "= failure"]);
}

#[test]
fn a_payload_takes_its_needs_from_outside() {
    let text = "on: push\njobs:\n  t:\n    needs: [build]\n    if: needs.build.outputs.ok == 'yes'\n    strategy: {matrix: {os: [linux]}}\n    runs-on: x\n    steps: [run: x]\n";
    let need = |result| NeedResult {
        id: "build".into(),
        result,
        outputs: [("ok", "yes")].into_iter().collect::<Object>(),
    };
    let options = |result| RunOptions { needs: vec![need(result)], ..RunOptions::default() };
    assert_eq!(story(text, options(JobResult::Success), &[], &[]), ["start t (linux)", "= success"]);
    assert_eq!(story(text, options(JobResult::Failure), &[], &[]), ["skipped t", "= success"]);
}

#[test]
fn jobs_and_legs_can_be_selected() {
    let jobs = RunOptions { jobs: vec!["TEST".into()], ..RunOptions::default() };
    assert_eq!(story(CHAIN, jobs, &[], &[]), ["start build", "start test", "= success"]);
    let matrix =
        "on: push\njobs:\n  m: {strategy: {matrix: {os: [a, b], v: [1, 2]}}, runs-on: x, steps: [run: x]}\n";
    let legs = RunOptions {
        matrix: vec![("os".into(), "b".into()), ("v".into(), "2".into()), ("v".into(), "1".into())],
        ..RunOptions::default()
    };
    assert_eq!(story(matrix, legs, &[], &[]), ["start m (b, 1)", "start m (b, 2)", "= success"]);
    let none = RunOptions { matrix: vec![("os".into(), "z".into())], ..RunOptions::default() };
    assert_eq!(
        story(matrix, none, &[], &[]),
        ["failed m: no combination of the matrix is selected", "= failure"]
    );
    let unknown = RunOptions { jobs: vec!["tset".into()], ..RunOptions::default() };
    let errors = Run::new(workflow("ci.yml", CHAIN), unknown).expect_err("no such job");
    assert_eq!(errors[0].message, "there is no job 'tset' in ci.yml");
    assert_eq!(errors[0].help.as_deref(), Some("did you mean 'test'?"));
}

#[test]
fn a_cancelled_run_ends() {
    let mut run = Run::new(workflow("ci.yml", CHAIN), RunOptions::default()).expect("a plan");
    let steps = run.advance();
    let Some(Step::Start(build)) = steps.first() else { panic!("{steps:?}") };
    run.cancel();
    assert!(matches!(run.advance()[..], [Step::Cancel(key)] if key == build.key));
    run.finish(build.key, JobResult::Cancelled, Object::new());
    let told: Vec<String> = run
        .advance()
        .iter()
        .map(|step| match step {
            Step::Skipped { name, result, .. } => format!("{} {name}", result.as_str()),
            Step::Start(job) => format!("start {}", job.name),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["cancelled test", "start report"]);
}

#[test]
fn what_cannot_be_evaluated_fails_the_job_with_its_reason() {
    let text = "
on: push
jobs:
  a: {if: nonsense.x, runs-on: x, steps: [run: x]}
  b: {strategy: {matrix: {v: []}}, runs-on: x, steps: [run: x]}
  c: {strategy: '${{ fromJSON(vars.MATRIX) }}', runs-on: x, steps: [run: x]}
  d: {runs-on: \"${{ fromJSON('x') }}\", steps: [run: x]}
";
    let told = tell(text, &[]);
    assert!(told[0].starts_with("failed a: the job's if: Unrecognized named-value: 'nonsense'"), "{told:?}");
    assert_eq!(told[1], "failed b: the matrix axis 'v' has no values");
    assert!(told[2].starts_with("failed c: strategy of job: "), "{told:?}");
    assert!(told[3].starts_with("failed d: runs-on of job: "), "{told:?}");
}

#[test]
fn run_names_groups_and_payloads_are_evaluated() {
    let text = "
name: CI
run-name: by ${{ github.actor }}
on: push
concurrency: {group: 'g-${{ github.ref }}', cancel-in-progress: true}
env: {LEVEL: '1'}
jobs:
  t:
    needs: []
    name: test
    concurrency: 'job-${{ matrix.os }}'
    strategy: {fail-fast: false, matrix: {os: [linux, 'on']}}
    runs-on: [a, '${{ matrix.os }}']
    steps:
      - run: |
          echo one
          echo '${{ matrix.os }}'
      - uses: actions/checkout@v4
        with: {fetch-depth: 0}
";
    let options = RunOptions {
        github: serde_json::json!({"actor": "mona", "ref": "r"}).into(),
        ..RunOptions::default()
    };
    let mut run = Run::new(workflow("ci.yml", text), options).expect("a plan");
    assert_eq!(run.run_name(), Some(Ok("by mona".to_owned())));
    let group = run.concurrency().expect("a group").expect("evaluated");
    assert_eq!((group.group.as_str(), group.cancel_in_progress), ("g-r", true));
    let steps = run.advance();
    let Some(Step::Start(second)) = steps.get(1) else { panic!("{steps:?}") };
    assert_eq!(second.name, "test (on)");
    assert_eq!(second.concurrency.as_ref().map(|group| group.group.as_str()), Some("job-on"));
    assert_eq!(
        second.contexts().get("strategy").map(Value::to_json),
        Some(serde_json::json!({"fail-fast": false, "job-index": 1, "job-total": 2, "max-parallel": 2}))
    );
    let again = workflow("payload.yml", &second.payload());
    let job = &again.jobs[0];
    assert_eq!(job.steps.len(), 2);
    assert_eq!(
        job.steps[0].script().map(|script| script.raw().to_owned()),
        Some("echo one\necho '${{ matrix.os }}'\n".to_owned())
    );
    let mut payload = Run::new(again, RunOptions::default()).expect("a plan");
    let steps = payload.advance();
    assert!(
        matches!(&steps[..], [Step::Start(job)] if job.name == "test (on) (on)" || job.name == "test (on)"),
        "{steps:?}"
    );
}

#[test]
fn a_payload_keeps_every_scalar_what_it_was() {
    // Written plain, in quotes and as blocks: what would mean something else without its quotes keeps them.
    let text = r#"on: push
jobs:
  a:
    runs-on: x
    steps:
    - run: true
      env:
        A: plain words
        B: "true"
        C: 'a # b'
        D: 'a: b'
        E: 'ends:'
        F: " around "
        G: "- dash"
        H: "{brace"
        I: ''
        J: |
          two
          lines
        K: 12
        L: "012"
        M: "*star"
"#;
    let env = |workflow: &Workflow| {
        let map = workflow.jobs[0].steps[0].env.as_ref().expect("an env");
        let contexts = workflows::Contexts::new();
        let values = map.eval_strings(&workflows::Scope::new(&contexts)).expect("no expressions");
        values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    let before = workflow("ci.yml", text);
    let wanted = env(&before);
    let mut run = Run::new(before, RunOptions::default()).expect("a plan");
    let steps = run.advance();
    let [Step::Start(job)] = steps.as_slice() else { panic!("one job: {steps:?}") };
    let payload = job.payload();
    assert_eq!(env(&workflow("payload.yml", &payload)), wanted, "{payload}");
}
