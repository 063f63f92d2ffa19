//! What is said about wrong files: place, severity, code, sentence and help, one mistake a case.

use workflows::{Code, FileKind, LintOptions, SourceFile, lint};

pub(super) fn check_with(text: &str, options: &LintOptions<'_>) -> Vec<String> {
    let source = SourceFile::new("f.yml", text);
    lint(&source, options)
        .iter()
        .map(|finding| {
            let at = source.position(finding.span.start);
            let help = finding.help.as_ref().map_or_else(String::new, |help| format!(" ({help})"));
            let severity = &finding.severity.as_str()[..1];
            format!("{}:{} {severity} {}: {}{help}", at.line, at.column, finding.code, finding.message)
        })
        .collect()
}

pub(super) fn check(text: &str) -> Vec<String> {
    check_with(text, &LintOptions::default())
}

/// The findings of a job with these keys beside `runs-on` and a step.
pub(super) fn job(keys: &str) -> Vec<String> {
    check(&format!("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [run: x]\n{keys}"))
}

/// The findings of a step with these keys.
pub(super) fn step(keys: &str) -> Vec<String> {
    check(&format!("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n{keys}"))
}

/// The findings of a file with this `on`.
pub(super) fn on(keys: &str) -> Vec<String> {
    check(&format!("{keys}\njobs: {{a: {{runs-on: ubuntu-latest, steps: [run: x]}}}}\n"))
}

pub(super) fn action(text: &str) -> Vec<String> {
    check_with(text, &LintOptions { kind: FileKind::Action, ..LintOptions::default() })
}

#[track_caller]
pub(super) fn says(findings: &[String], expected: &[&str]) {
    let starts = findings.len() == expected.len()
        && findings.iter().zip(expected).all(|(own, start)| own.starts_with(start));
    assert!(starts, "found    {findings:#?}\nexpected {expected:#?}");
}

#[test]
fn files_that_are_no_workflow() {
    says(&check(""), &["1:1 e empty-value: the file is empty"]);
    says(&check("- a"), &["1:1 e wrong-type: a workflow file must be a mapping, found a sequence"]);
    says(&check("a: [\n"), &["2:1 e yaml-syntax: not valid YAML: "]);
    says(
        &check("on: push\n---\non: push"),
        &[
            "1:1 e missing-key: the workflow lacks the required key 'jobs'",
            "2:1 e yaml-syntax: a second document starts here",
        ],
    );
    says(
        &check("name: x\n"),
        &[
            "1:1 e missing-key: the workflow lacks the required key 'on'",
            "1:1 e missing-key: the workflow lacks the required key 'jobs'",
        ],
    );
    says(&check("on: push\njobs: {}\n"), &["2:7 e empty-value: 'jobs' must not be empty"]);
    says(&check("on: push\njobs:\n  a: 1\n"), &["3:6 e wrong-type: job 'a' must be a mapping, found '1'"]);
}

#[test]
fn keys_are_known_unique_and_there() {
    says(
        &job("    run-on: x\n"),
        &["6:5 e unknown-key: unexpected key 'run-on' in a job (did you mean 'runs-on'?)"],
    );
    says(&job("    Runs-On: x\n"), &["6:5 e duplicate-key: 'Runs-On' is already defined"]);
    says(
        &check("on: push\njobs:\n  a: {steps: [run: x]}\n"),
        &["3:7 e missing-key: job 'a' lacks the required key 'runs-on'"],
    );
    says(
        &check("on: push\njobs:\n  a: {runs-on: ubuntu-latest}\n"),
        &["3:3 w missing-key: job 'a' has no 'steps'"],
    );
    says(&step("      - name: x\n"), &["6:9 e missing-key: the step lacks the required key 'run' or 'uses'"]);
    says(
        &step("      - {run: x, uses: a/b@v1}\n"),
        &["6:18 e conflicting-keys: a step has either 'run' or 'uses', this one has both"],
    );
    says(
        &step("      - {uses: a/b@v1, shell: bash}\n"),
        &["6:24 e conflicting-keys: 'shell' belongs to a step with 'run'"],
    );
    says(&step("      -\n      - run: x\n"), &["6:8 e empty-value: a step must not be empty"]);
    says(&job("    with: {a: b}\n"), &["6:5 e conflicting-keys: 'with' belongs to a job that calls"]);
    says(
        &check("on: push\njobs:\n  a: {uses: ./a.yml, runs-on: ubuntu-latest}\n"),
        &["3:22 e conflicting-keys: unexpected key 'runs-on' in a job that calls a reusable workflow"],
    );
    says(&job("    env:\n"), &["6:5 e empty-value: 'env' must not be empty, expected a mapping"]);
    says(&job("    env: text\n"), &["6:10 e wrong-type: 'env' must be a mapping, found 'text'"]);
    says(
        &job("    environment: {url: x}\n"),
        &["6:19 e missing-key: 'environment' lacks the required key 'name'"],
    );
    says(
        &job("    concurrency: {cancel-in-progress: true}\n"),
        &["6:19 e missing-key: 'concurrency' lacks the required key 'group'"],
    );
    says(
        &job("    environment: [x]\n    concurrency: [x]\n    permissions: [x]\n"),
        &[
            "6:18 e wrong-type: 'environment' must be",
            "7:18 e wrong-type: 'concurrency' must be",
            "8:18 e wrong-type: 'permissions' must be",
        ],
    );
    says(
        &job("    timeout-minutes: soon\n"),
        &["6:22 e wrong-type: 'timeout-minutes' must be a number or an expression, found 'soon'"],
    );
    says(&job("    timeout-minutes: 0\n"), &["6:22 w wrong-value: 'timeout-minutes' must be greater than 0"]);
    says(
        &job("    continue-on-error: maybe\n"),
        &["6:24 e wrong-type: 'continue-on-error' must be true, false or an expression"],
    );
    says(&job("    needs: []\n"), &["6:12 w empty-value: 'needs' is empty"]);
    says(
        &job("    needs: {a: b}\n"),
        &["6:12 e wrong-type: 'needs' must be a string or a sequence of strings"],
    );
    says(
        &job("    snapshot: {version: 1.*}\n"),
        &["6:16 e missing-key: 'snapshot' lacks the required key 'image-name'"],
    );
    says(
        &job("    snapshot: {image-name: i, version: '1.2'}\n"),
        &[
            "6:40 e wrong-value: '1.2' is no version of an image (write the major version and .*, such as 1.*)",
        ],
    );
    says(
        &job("    concurrency: {group: g, queue: all}\n"),
        &["6:36 e wrong-value: 'queue' must be single or max, found 'all'"],
    );
    says(&step("      - {run: x, timeout-minutes: 0}\n"), &["6:35 w wrong-value: 'timeout-minutes' must be"]);
    says(&job("    defaults: {}\n"), &["6:15 w empty-value: 'defaults' is empty"]);
}

#[test]
fn empty_values_are_refused_only_where_something_must_stand() {
    says(
        &job("    name:\n    environment:\n    container:\n"),
        &[
            "7:5 w empty-value: 'environment' is empty (remove the key or give it a value)",
            "8:5 w empty-value: 'container' is empty",
        ],
    );
    says(
        &check("name:\non: push\njobs: {a: {runs-on: ubuntu-latest, steps: [run: x]}}\n"),
        &["1:1 w empty-value: 'name' is empty"],
    );
    says(&job("    permissions:\n"), &["6:5 e empty-value: 'permissions' must not be empty"]);
    says(&job("    permissions: {contents: }\n"), &["6:19 e empty-value: permission 'contents' must not"]);
    says(&job("    concurrency: ''\n"), &["6:18 e empty-value: 'concurrency' must not be empty"]);
    says(&job("    container: {image: ''}\n"), &["6:24 e empty-value: 'image' must not be empty"]);
    says(
        &job("    services: {db: ''}\n"),
        &["6:20 e wrong-type: service 'db' must be an image or a mapping"],
    );
    says(&job("    env: {~: x}\n"), &["6:11 e empty-value: a key must not be empty"]);
    says(&step("      - run:\n"), &["6:9 w empty-value: the script is empty"]);
    says(&step("      - {run: x, shell: ''}\n"), &["6:25 e empty-value: 'shell' must not be empty"]);
    says(&step("      - {run: x, id: }\n"), &["6:18 e empty-value: 'id' must not be empty"]);
    says(&on("on: {push: {branches: ''}}"), &["1:23 e empty-value: 'branches' must not be empty"]);
    says(&on("on: {push: {paths: [' ']}}"), &["1:21 w empty-value: 'paths' is blank"]);
}

#[test]
fn expressions_stand_only_where_they_are_evaluated() {
    says(
        &check("name: a ${{ github.ref }}\non: push\njobs: {a: {runs-on: ubuntu-latest, steps: [run: x]}}\n"),
        &["1:13 e context-availability: 'name' takes no expressions (write the text itself)"],
    );
    says(&job("    needs: ${{ 'b' }}\n"), &["6:12 e needs: job 'a' needs 'b', which does not exist"]);
    says(
        &job("    needs: ['${{ github.ref }}']\n"),
        &["6:18 e context-availability: 'needs' takes no expressions"],
    );
    says(
        &on("on: {push: {branches: ['${{ github.ref }}']}}"),
        &["1:29 e context-availability: 'branches' takes no"],
    );
    says(
        &on("on: {push: {branches: '${{ github.ref'}}"),
        &["1:24 e expression: The expression is not closed."],
    );
    says(
        &on("on: {workflow_dispatch: {inputs: {a: {default: '${{ github.ref }}'}}}}"),
        &["1:53 e context-availability: the default of a dispatched workflow's input takes no expressions"],
    );
    says(
        &check("on: push\njobs: {a: {uses: './${{ github.ref }}.yml'}}\n"),
        &["2:25 e context-availability: 'uses' takes no expressions"],
    );
    says(
        &job("    timeout-minutes: 1${{ github.run_id }}\n"),
        &["6:22 w wrong-type: 'timeout-minutes' must be a number, text around ${{ }} makes it text"],
    );
    let long = format!("      - run: echo ${{{{ github.sha }}}} {}\n", "'x' ".repeat(4_000));
    says(&step(&long), &["6:14 e expression: the text with its expressions is longer than 21000 characters"]);
    let long = format!("      - run: echo {}\n", "'x' ".repeat(6_000));
    says(&step(&long), &[]);
}

#[test]
fn defaults_of_called_workflows_see_the_inputs_before_them() {
    let call = |inputs: &str| on(&format!("on: {{workflow_call: {{inputs: {{{inputs}}}}}}}"));
    says(&call("a: {type: string}, b: {type: string, default: '${{ inputs.a }}'}"), &[]);
    says(
        &call("b: {type: string, default: '${{ inputs.a }}'}, a: {type: string}"),
        &["1:70 w undefined-reference: 'a' is not defined here"],
    );
    says(
        &call("a: {type: string}, b: {type: boolean, default: '${{ inputs.a }}'}"),
        &["1:83 w expression-type: the input is a boolean, this is a string"],
    );
    says(
        &call("a: {type: boolean}, b: {type: number, default: '${{ inputs.a }}'}"),
        &["1:83 w expression-type: the input is a number, this is a boolean"],
    );
}

#[test]
fn ports_of_services_are_looked_up_by_number() {
    says(&step("      - run: echo ${{ job.services.redis.ports[6379] }}\n"), &[]);
    says(&step("      - run: echo ${{ job.service.redis }}\n"), &["6:27 w undefined-reference: "]);
}

#[test]
fn shells_fit_the_machine() {
    says(&step("      - {run: x, shell: cmd}\n"), &["6:25 w shell: the shell 'cmd' exists on Windows only"]);
    let on_windows = "on: push\njobs: {a: {runs-on: [self-hosted, windows], steps: [{run: x, shell: sh}]}}\n";
    says(&check(on_windows), &["2:69 w shell: the shell 'sh' does not exist on Windows"]);
    let unknown = "on: push\njobs: {a: {runs-on: '${{ github.x }}', steps: [{run: x, shell: cmd}]}}\n";
    assert!(check(unknown).iter().all(|finding| !finding.contains("shell")), "{:?}", check(unknown));
}

#[test]
fn labels_from_a_matrix_fit_those_beside_them() {
    let file = "on: push\njobs:\n  a:\n    strategy: {matrix: {os: [windows-latest, x64]}}\n    runs-on: [ubuntu-latest, '${{ matrix.os }}']\n    steps: [run: x]\n";
    says(
        &check(file),
        &["4:30 w runner-label: no machine has the label 'windows-latest' together with 'ubuntu-latest'"],
    );
}

#[test]
fn yaml_itself_has_rules() {
    says(&job("    env: {a: !!int x}\n"), &["6:14 e yaml-tag: 'x' is no value of the type !!int"]);
    says(
        &job("    env: {a: !!bool 'true'}\n"),
        &["6:14 e yaml-tag: a scalar tagged !!bool must be written without quotes"],
    );
    says(&job("    if: !cancelled()\n"), &["6:"]);
    says(&job("    env: &e {a: b}\n"), &["6:10 w anchor: an anchor is defined here that no alias uses"]);
    says(
        &job("    env: &e {a: b}\n    outputs: {<<: *e}\n"),
        &["7:15 e merge-key: GitHub does not know the merge key <<"],
    );
    says(&job("    env: {a: *none}\n"), &["6:14 e yaml-syntax: "]);
}

#[test]
fn events_and_their_filters() {
    says(&on("on: psuh"), &["1:5 e event: unknown event 'psuh' (did you mean 'push'?)"]);
    says(&on("on: workflow_job"), &["1:5 w event: the event 'workflow_job' exists on Gitea, not on GitHub"]);
    says(&on("on: []"), &["1:5 w empty-value: 'on' names no event, so nothing starts the workflow"]);
    says(
        &on("on: {push: {branch: x}}"),
        &["1:13 e unknown-key: unexpected key 'branch' in the event 'push' (did you mean 'branches'?)"],
    );
    says(
        &on("on: {workflow_dispatch: {input: {}}}"),
        &[
            "1:26 w unknown-key: unexpected key 'input' in the event 'workflow_dispatch' (did you mean 'inputs'?)",
        ],
    );
    says(
        &on("on: {issues: {paths: x}}"),
        &["1:15 e event: the event 'issues' has no filter 'paths' (only these have it: "],
    );
    says(&on("on: {create: {types: x}}"), &["1:14 e event: the event 'create' has no settings"]);
    says(
        &on("on: {issues: {types: [opend]}}"),
        &["1:23 e event: the event 'issues' has no activity type 'opend' (did you mean 'opened'?)"],
    );
    says(
        &on("on: {push: {branches: a, branches-ignore: b}}"),
        &[
            "1:13 w event: 'branches' and 'branches-ignore' exclude each other",
            "1:26 w event: 'branches' and 'branches-ignore' cannot both be used",
        ],
    );
    says(
        &on("on: {push: {branches: ['a b']}}"),
        &["1:24 w glob: in the pattern 'a b': ' ' cannot be part of a branch or tag"],
    );
    says(&on("on: {push: {branches: ['!x']}}"), &["1:24 w glob: patterns that only exclude match nothing"]);
    says(&on("on: {push: {paths: []}}"), &["1:20 w empty-value: 'paths' is empty, so nothing matches"]);
    says(&on("on: {schedule: [{cron: '* * *'}]}"), &["1:24 e cron: a schedule has five fields"]);
    says(
        &on("on: {schedule: [{cron: '* * * * *'}]}"),
        &["1:24 w cron: the schedule runs more often than every 5 minutes"],
    );
    says(
        &on("on: {schedule: [{cron: '@daily'}]}"),
        &["1:24 w cron: Gitea knows this shorthand, GitHub does not"],
    );
    says(
        &on("on: {schedule: [{timezone: UTC}]}"),
        &["1:18 e missing-key: an item of 'schedule' lacks the required key 'cron'"],
    );
    says(&on("on: [schedule]"), &["1:6 w event: the event 'schedule' does nothing without"]);
    says(
        &on("on: {workflow_run: }"),
        &["1:6 w event: the event 'workflow_run' does nothing without 'workflows'"],
    );
}

#[test]
fn inputs_and_outputs_of_workflows() {
    let dispatch = |inputs: &str| on(&format!("on: {{workflow_dispatch: {{inputs: {{a: {inputs}}}}}}}"));
    let call = |keys: &str| on(&format!("on: {{workflow_call: {{{keys}}}}}"));
    says(
        &dispatch("{type: text}"),
        &["1:45 e wrong-value: 'text' is no type of an input (known types: string,"],
    );
    says(&dispatch("{type: choice}"), &["1:35 e event: input 'a' is a choice without 'options'"]);
    says(
        &dispatch("{options: [x, x]}"),
        &[
            "1:35 e event: input 'a' has 'options', but is no choice",
            "1:52 w event: the option 'x' is there already",
        ],
    );
    says(
        &dispatch("{type: boolean, default: maybe}"),
        &["1:63 w wrong-value: the default 'maybe' of input 'a' is not true or false"],
    );
    says(&dispatch("{type: choice, options: [x], default: y}"), &["1:"]);
    says(
        &call("inputs: {a: {default: 1}}"),
        &["1:35 e missing-key: input 'a' lacks the required key 'type'"],
    );
    says(
        &call("inputs: {a: {type: number, default: x}}"),
        &["1:58 w wrong-value: the default 'x' of input 'a' is not a number"],
    );
    says(
        &call("inputs: {a: {type: string, required: true, default: x}}"),
        &["1:74 w event: input 'a' is required, so its default is never used"],
    );
    says(
        &call("outputs: {a: {description: x}}"),
        &["1:36 e missing-key: output 'a' lacks the required key 'value'"],
    );
    says(&call("outputs: {a: {value: '${{ jobs.b.outputs.x }}'}}"), &["1:"]);
    says(
        &call("secrets: {github_token: {required: true}}"),
        &["1:32 w identifier: the secret name 'GITHUB_TOKEN' is taken"],
    );
    says(&call("secrets: "), &["1:22 e empty-value: 'secrets' must not be empty"]);
}

#[test]
fn jobs_and_their_needs() {
    says(
        &check("on: push\njobs:\n  1a: {runs-on: ubuntu-latest, steps: [run: x]}\n"),
        &["3:3 e identifier: the identifier '1a' is invalid"],
    );
    says(
        &check("on: push\njobs:\n  __a: {runs-on: ubuntu-latest, steps: [run: x]}\n"),
        &["3:3 e identifier: the identifier '__a' is invalid: ids that begin with __ are reserved"],
    );
    says(&job("    needs: b\n"), &["6:12 e needs: job 'a' needs 'b', which does not exist"]);
    says(
        &job("    permissions: all\n"),
        &["6:18 e permissions: 'all' is no permission for everything (write read-all,"],
    );
    says(
        &job("    permissions: {content: read}\n"),
        &["6:19 e permissions: unknown permission scope 'content' (did you mean 'contents'?)"],
    );
    says(
        &job("    permissions: {models: write, code: read}\n"),
        &[
            "6:27 e permissions: 'write' is no level of the permission 'models' (possible: none, read)",
            "6:34 w permissions: the permission scope 'code' exists on Gitea, not on GitHub",
        ],
    );
    says(
        &job("    env: {'A B': x}\n"),
        &["6:11 w environment-variable: 'A B' cannot be the name of an environment variable"],
    );
    says(
        &job("    container: {image: i, credentials: {username: u, password: p}}\n"),
        &["6:64 w credentials: the password of 'container' stands in the file"],
    );
    says(
        &job("    services: {db: {image: i, credentials: {username: u}}}\n"),
        &["6:44 w missing-key: the credentials of 'db' need both"],
    );
    says(&job("    container: {}\n"), &["6:16 e missing-key: 'container' lacks the required key 'image'"]);
    says(
        &job("    container: {image: i, ports: 80}\n"),
        &["6:34 e wrong-type: 'ports' must be a sequence, found '80'"],
    );
}

#[test]
fn machines() {
    let labels =
        |labels: &str| check(&format!("on: push\njobs:\n  a: {{runs-on: {labels}, steps: [run: x]}}\n"));
    says(
        &labels("ubuntu-lastest"),
        &[
            "3:16 w runner-label: the label 'ubuntu-lastest' is none of GitHub's machines (did you mean 'ubuntu-latest'?)",
        ],
    );
    says(
        &labels("[ubuntu-latest, windows-latest]"),
        &["3:32 w runner-label: no machine has the label 'windows-latest' together with 'ubuntu-latest'"],
    );
    says(&labels("[self-hosted, gpu]"), &[]);
    says(&labels("[]"), &["3:16 w empty-value: 'runs-on' names no label, so no runner takes the job"]);
    says(&labels("{group: g, labels: []}"), &["3:35 w empty-value: 'labels' is empty"]);
    says(&labels("{}"), &["3:16 w empty-value: 'runs-on' has neither 'group' nor 'labels'"]);
    says(
        &labels("{group: own/team}"),
        &[
            "3:24 e wrong-value: 'own/team' is no name of a runner group (write the name alone, or organization/NAME",
        ],
    );
    says(&labels("{group: org/team}"), &[]);
    let own = ["my-*".to_owned()];
    let options = LintOptions { labels: &own, ..LintOptions::default() };
    says(&check_with("on: push\njobs: {a: {runs-on: my-box, steps: [run: x]}}\n", &options), &[]);
}

#[test]
fn matrices() {
    let matrix = |matrix: &str| job(&format!("    strategy: {{matrix: {matrix}}}\n"));
    says(&matrix("{a: 1}"), &["6:28 e wrong-type: 'a' must be a sequence, found '1'"]);
    says(&matrix("{a: []}"), &["6:28 e matrix: the axis 'a' has no values"]);
    says(&matrix("{a: [1, 2, 1]}"), &["6:35 w matrix: the axis 'a' has this value already"]);
    says(
        &matrix("{a: [1], exclude: [{b: 1}]}"),
        &["6:44 w matrix: 'b' in 'exclude' is no axis of the matrix"],
    );
    says(&matrix("{a: [1], exclude: [{a: 2}]}"), &["6:47 w matrix: no value of the axis 'a' matches this"]);
    says(
        &matrix("{a: [1], exclude: [], include: []}"),
        &["6:42 w empty-value: 'exclude' is empty", "6:55 w empty-value: 'include' is empty"],
    );
    says(
        &matrix("{a: [1], include: [x]}"),
        &["6:43 e wrong-type: an item of 'include' must be a mapping, found 'x'"],
    );
    says(&matrix("{a: [1], exclude: [{a: 1}]}"), &["6:25 w matrix: the matrix gives no combinations"]);
    let many = (0..300).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    says(
        &matrix(&format!("{{a: [{many}]}}")),
        &["6:25 e matrix: the matrix gives 300 combinations, the limit is 256"],
    );
    says(
        &job("    strategy: {max-parallel: 0}\n"),
        &["6:30 w wrong-value: 'max-parallel' must be at least 1"],
    );
    says(
        &job("    strategy: {max-parallel: 1.5}\n"),
        &["6:30 w wrong-value: 'max-parallel' must be a whole number"],
    );
    says(&job("    strategy: text\n"), &["6:15 e wrong-type: 'strategy' must be a mapping"]);
}

#[test]
fn expressions_point_into_their_strings() {
    says(
        &step("      - run: echo ${{ github.actor\n"),
        &["6:19 e expression: The expression is not closed."],
    );
    says(
        &step("      - run: echo ${{ \"x\" }}\n"),
        &[
            "6:23 e expression: Unexpected symbol: '\"x\"'. Located at position 1 within expression: \"x\" (strings are written in single quotes: 'text')",
        ],
    );
    says(
        &step("      - run: echo ${{ formt('a') }}\n"),
        &["6:23 e expression: Unrecognized function: 'formt'"],
    );
    says(
        &step("      - run: |\n          one\n          ${{ github.nope }}\n"),
        &["8:22 w undefined-reference: 'nope' is not defined here"],
    );
    says(&step("      - if: github.ref == \n        run: x\n"), &["6:"]);
    says(
        &job("    name: ${{ env.X }}\n"),
        &[
            "6:15 e context-availability: the context 'env' is not available in this key of a job (available here: github,",
        ],
    );
    says(
        &job("    name: ${{ gihtub.actor }}\n"),
        &["6:15 e context-availability: unknown context 'gihtub' (did you mean 'github'?)"],
    );
    says(
        &job("    name: ${{ success() }}\n"),
        &["6:15 e context-availability: success() is not available in this key of a job"],
    );
    says(
        &job("    env: {A: \"${{ hashFiles('x') }}\"}\n"),
        &["6:19 e context-availability: hashFiles() is not available"],
    );
    says(
        &step("      - {id: a, run: x}\n      - run: ${{ steps.b.outputs.x }}\n"),
        &["7:24 w undefined-reference: 'b' is not defined here, so it is always empty (defined there: a)"],
    );
    says(
        &step("      - run: echo ${{ github.actor.name }}\n"),
        &["6:36 w expression-type: there is nothing to look up in a string"],
    );
    says(
        &step("      - run: echo ${{ env[0] }}\n"),
        &["6:27 w expression-type: an object is indexed with a string, this is a number"],
    );
    says(
        &step("      - run: echo ${{ env }}\n"),
        &["6:23 w expression-type: an object does not become text"],
    );
    says(
        &step("      - run: echo ${{ github.actor == job }}\n"),
        &["6:23 w expression-type: a string never equals an object"],
    );
    says(
        &step("      - run: echo ${{ true > 1 }}\n"),
        &["6:23 w expression-type: a boolean is compared with a number by order"],
    );
    says(
        &step("      - run: echo ${{ fromJSON('{') }}\n"),
        &["6:32 w expression-type: fromJSON() gets a broken document"],
    );
    says(
        &step("      - run: echo ${{ contains(job, 'x') }}\n"),
        &["6:32 w expression-type: contains() cannot search an object"],
    );
    says(
        &step("      - run: echo ${{ join(job) }}\n"),
        &["6:28 w expression-type: join() of an object is empty"],
    );
    says(
        &step("      - run: echo ${{ github.actor.* }}\n"),
        &[
            "6:23 w expression-type: .* works on objects and arrays",
            "6:23 w expression-type: an array does not become text",
        ],
    );
    says(&step("      - run: echo ${{ fromJSON('[1]').x }}\n"), &["6:"]);
    says(
        &step("      - {env: '${{ github.actor }}', run: x}\n"),
        &["6:20 e expression-type: a mapping is expected here, this is a string"],
    );
    says(
        &step("      - {timeout-minutes: '${{ true }}', run: x}\n"),
        &["6:32 w expression-type: a number is expected here, this is a boolean"],
    );
    says(
        &step("      - {continue-on-error: '${{ 1 }}', run: x}\n"),
        &["6:34 w expression-type: true or false is expected here"],
    );
}

#[test]
fn format_strings() {
    let format = |call: &str| step(&format!("      - run: echo ${{{{ {call} }}}}\n"));
    says(&format("format('{0', 1)"), &["6:30 w format-string: the format string is invalid"]);
    says(
        &format("format('{1}', 1)"),
        &["6:30 w format-string: the format string uses {1}, but only 1 values are given"],
    );
    says(&format("format('{0}', 1, 2)"), &["6:40 w format-string: the format string does not use {1}"]);
}

#[test]
fn conditions_that_never_change() {
    says(
        &step("      - {if: true, run: x}\n"),
        &["6:14 w constant-condition: this condition is always true, whatever happens (remove the if)"],
    );
    says(
        &step("      - {if: \"${{ 1 == 2 }}\", run: x}\n"),
        &["6:14 w constant-condition: this condition is never true"],
    );
    says(
        &step("      - if: ${{ github.actor }} == 'x'\n        run: x\n"),
        &["6:13 w constant-condition: this is always true, because text around ${{ }}"],
    );
    says(&step("      - {if: , run: x}\n"), &["6:10 w empty-value: an empty 'if' is no condition"]);
}

#[test]
fn scripts_and_shells() {
    says(
        &step("      - run: echo ${{ github.event.issue.title }}\n"),
        &["6:23 w script-injection: 'github.event.issue.title' is text that strangers can choose"],
    );
    says(&step("      - run: echo ${{ contains(github.head_ref, 'x') }}\n"), &[]);
    says(
        &step("      - {uses: actions/github-script@v7, with: {script: '${{ github.head_ref }}'}}\n"),
        &["6:62 w script-injection: 'github.head_ref'"],
    );
    says(
        &step("      - run: echo '::set-output name=a::b'\n"),
        &["6:20 w deprecated-command: the command 'set-output' is deprecated"],
    );
    says(&step("      - {run: x, shell: bash -l}\n"), &["6:25 w shell: Invalid shell option 'bash -l'"]);
    says(&step("      - {run: x, shell: '${{ matrix.x }}'}\n"), &["6:"]);
    says(&step("      - run: ''\n"), &["6:14 w empty-value: the script is empty"]);
    says(
        &step("      - {id: a, run: x}\n      - {id: A, run: x}\n"),
        &["7:14 e identifier: the identifier 'A' may not be used more than once"],
    );
}

#[test]
fn comments_and_options_silence() {
    let step = |comment: &str| step(&format!("      - run: echo ${{{{ github.nope }}}} {comment}\n"));
    says(&step("# esteira: ignore undefined-reference"), &[]);
    says(&step("# esteira: ignore"), &[]);
    says(&step("# esteira: ignore shell, undefined-reference"), &[]);
    assert_eq!(step("# esteira: ignore shell").len(), 1);
    assert_eq!(step("# esteira: ignore undefined-refrence").len(), 1);
    let above = "on: push\n# esteira: ignore event\non: psuh\n";
    assert!(check(above).iter().all(|finding| !finding.contains(" event:")));
    assert!(check("# esteira: ignore-file\non: psuh\n").is_empty());
    let silenced = [Code::UndefinedReference];
    let options = LintOptions { silenced: &silenced, ..LintOptions::default() };
    says(
        &check_with(
            "on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [run: '${{ github.nope }}']}}\n",
            &options,
        ),
        &[],
    );
    assert_eq!(FileKind::of_path("a/b/action.yaml"), FileKind::Action);
    assert_eq!(FileKind::of_path("action.yml.bak"), FileKind::Workflow);
}

#[test]
fn payloads_are_read_leniently() {
    let text = "name: x\n\"on\":\n  push:\njobs:\n  a:\n    name: a (1)\n    runs-on: x\n    unknown: y\n    timeout-minutes: \"5\"\n    strategy:\n      fail-fast: \"false\"\n      max-parallel: \"2\"\n      matrix: {v: [1]}\n    services: {db: {image: i, cmd: [x]}}\n    steps:\n      - uses: https://gitea.com/a/b@v1\n        continue-on-error: \"true\"\n        timeout-minutes: \"3\"\n      -\n      - run: '${{ broken'\n";
    let source = SourceFile::new("payload.yml", text);
    let workflow = workflows::parse_payload(&source).into_result().expect("a payload that can be run");
    let job = &workflow.jobs[0];
    let contexts = workflows::Contexts::new();
    let scope = workflows::Scope::new(&contexts);
    let number = |template: &Option<workflows::Template>| {
        template.as_ref().map(|template| template.eval_number(&scope))
    };
    assert_eq!(number(&job.timeout_minutes), Some(Ok(5.0)));
    assert_eq!(number(&job.steps[0].timeout_minutes), Some(Ok(3.0)));
    let strategy = job.strategy.as_ref().expect("a strategy");
    assert_eq!(strategy.fail_fast.as_ref().map(|template| template.eval_bool(&scope)), Some(Ok(false)));
    assert_eq!(job.steps.len(), 2);
    let broken = job.steps[1].script().expect("a script").eval_string(&scope);
    assert!(broken.expect_err("not closed").to_string().contains("not closed"));
    assert!(workflows::parse_payload(&SourceFile::new("p", "on: push\n")).into_result().is_err());
}
