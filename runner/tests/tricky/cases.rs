//! The cases, as data.

/// One corner: a job, and what must and must not be in its log.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// More keys of the job, on one line.
    pub(super) keys: &'static str,
    pub(super) steps: &'static str,
    /// Whole lines that must be there.
    pub(super) says: &'static [&'static str],
    /// Whole lines that must not be there.
    pub(super) never: &'static [&'static str],
    pub(super) succeeds: bool,
}

const fn case(
    name: &'static str,
    steps: &'static str,
    says: &'static [&'static str],
    never: &'static [&'static str],
    succeeds: bool,
) -> Case {
    Case { name, keys: "", steps, says, never, succeeds }
}

/// Files of the repository.
pub(super) const FILES: &[(&str, &str)] = &[
    (
        "input/action.yml",
        "name: i\ninputs:\n  my.input: {default: d}\nruns:\n  using: composite\n  steps:\n  - {shell: bash, run: 'echo \"[$(env | grep -c ^INPUT_ || true)]\"'}\n",
    ),
    (
        "outer/action.yml",
        "name: o\ninputs:\n  token: {default: outer}\nruns:\n  using: composite\n  steps:\n  - uses: ./inner\n",
    ),
    (
        "inner/action.yml",
        "name: n\ninputs:\n  token: {default: inner}\nruns:\n  using: composite\n  steps:\n  - {shell: sh, run: 'echo got ${{ inputs.token }}'}\n",
    ),
    ("lock", "x\n"),
    (
        "words/action.yml",
        "name: w\nruns:\n  using: docker\n  image: docker://esteira-test/base\n  entrypoint: echo\n  args: [from, the action]\n",
    ),
    ("post/action.yml", "name: p\nruns: {using: node20, main: main.js, post: post.js, post-if: success()}\n"),
    ("shared/.keep", ""),
    ("post/main.js", "console.log('main ran')\n"),
    ("post/post.js", "console.log('post ran')\n"),
];

/// Those that need an engine; each job is in the image `esteira-test/base`.
pub(super) const CONTAINER_CASES: &[Case] = &[
    Case {
        name: "c03-a-container-has-sh",
        keys: "container: esteira-test/base",
        steps: "- run: '[[ a == a ]] && echo bash'",
        says: &[],
        never: &["bash"],
        succeeds: false,
    },
    case("c03-a-labels-image-has-bash", "- run: '[[ a == a ]] && echo bash'", &["bash"], &[], true),
    Case {
        name: "c23-the-jobs-env-is-above-the-containers",
        keys: "env: {V: job}\n    container: {image: esteira-test/base, env: {V: cont, W: cont}}",
        steps: "- run: echo $V $W",
        says: &["job cont"],
        never: &[],
        succeeds: true,
    },
    Case {
        name: "c24-what-is-written-is-above-the-containers",
        keys: "container: {image: esteira-test/base, env: {V: a}}",
        steps: "- run: echo \"$V\"; echo V=b >> $GITHUB_ENV\n- run: echo then $V",
        says: &["a", "then b"],
        never: &[],
        succeeds: true,
    },
    case(
        "c38-a-limit-ends-the-process-itself",
        "- {run: echo begun; sleep 611, timeout-minutes: 0.01, continue-on-error: true}\n- run: pgrep -f 'sleep [6]11' || echo it is gone",
        &["begun", "it is gone"],
        &[],
        true,
    ),
    case(
        "c44-the-actions-own-arguments-win",
        "- uses: actions/checkout@v4\n- {uses: ./words, with: {args: from the step}}",
        &["from the action"],
        &["from the step"],
        true,
    ),
    Case {
        name: "c47-a-service-has-volumes",
        keys: "container: {image: esteira-test/base, volumes: ['./shared:/seen']}\n    services: {one: {image: esteira-test/base, volumes: ['./shared:/mine'], command: ['sh', '-c', 'echo mounted > /mine/file; sleep 600']}}",
        steps: "- {run: 'until [ -s /seen/file ]; do sleep 0.1; done; cat /seen/file', timeout-minutes: 1}",
        says: &["mounted"],
        never: &[],
        succeeds: true,
    },
    Case {
        name: "c48-an-image-with-nothing-in-it",
        keys: "container: esteira-test/empty",
        steps: "- {uses: 'docker://esteira-test/base', with: {entrypoint: echo, args: beside it}}",
        says: &["beside it"],
        never: &[],
        succeeds: true,
    },
    case(
        "c49-a-post-may-want-success",
        "- uses: actions/checkout@v4\n- uses: ./post\n- run: exit 1",
        &["main ran"],
        &["post ran"],
        false,
    ),
];

pub(super) const CASES: &[Case] = &[
    case("c01-host-default-has-no-pipefail", "- run: false | true", &[], &[], true),
    case("c02-bash-has-pipefail", "- {shell: bash, run: false | true}", &[], &[], false),
    case("c04-shell-without-place", "- {shell: bash -l, run: echo ran}", &[], &["ran"], false),
    case(
        "c05-every-place-is-filled",
        "- {shell: 'bash -c \"cat $0 $1\" {0} {0}', run: twice}",
        &["twicetwice"],
        &[],
        true,
    ),
    case(
        "c06-command-without-newline",
        "- {id: s, run: \"printf '::set-output name=a::1'\"}\n- run: echo got ${{ steps.s.outputs.a }}",
        &["got 1"],
        &[],
        true,
    ),
    case("c07-command-after-blanks", "- run: echo '   ::warning::x'", &["warning: x"], &[], true),
    case(
        "c08-old-command-inside-a-line",
        "- run: |\n    echo 'abc ##[warning]x'",
        &["warning: x"],
        &[],
        true,
    ),
    case(
        "c09-first-colons-end-the-header",
        "- {id: s, run: \"echo '::set-output name=a::b::c'\"}\n- run: echo 'got ${{ steps.s.outputs.a }}'",
        &["got b::c"],
        &[],
        true,
    ),
    case(
        "c10-first-equals-ends-the-name",
        "- {id: s, run: \"echo '::set-output name=k=v::1'\"}\n- run: echo \"got ${{ steps.s.outputs['k=v'] }}\"",
        &["got 1"],
        &[],
        true,
    ),
    case(
        "c11-commands-ignore-case",
        "- {id: s, run: \"echo '::SET-OUTPUT name=a::1'\"}\n- run: echo got ${{ steps.s.outputs.a }}",
        &["got 1"],
        &[],
        true,
    ),
    case("c12-a-command-is-no-stop-token", "- run: echo '::stop-commands::warning'", &[], &[], false),
    case(
        "c13-stop-lasts-one-step",
        "- run: |\n    echo '::stop-commands::tok'\n    echo '::warning::quiet'\n- run: echo '::warning::loud'",
        &["warning: loud"],
        &["warning: quiet"],
        true,
    ),
    case(
        "c14-every-line-of-a-mask",
        "- run: |\n    echo '::add-mask::qj%0Akwy'\n    echo 'see qj and kwy here'",
        &["see *** and *** here"],
        &[],
        true,
    ),
    case("c15-the-longer-secret-wins", "- run: echo a zqxwvu b zqx c", &["a *** b *** c"], &[], true),
    case(
        "c16-empty-first-line-of-a-value",
        "- run: printf 'A<<E\\n\\nx\\nE\\n' >> $GITHUB_ENV\n- run: printf '[%s]\\n' \"$A\"",
        &["[", "x]"],
        &[],
        true,
    ),
    case(
        "c17-a-carriage-return-stays",
        "- {id: s, run: \"printf 'A=b\\\\r\\\\n' >> $GITHUB_OUTPUT\"}\n- run: echo ${{ toJSON(steps.s.outputs.A) }}",
        &["b\\r"],
        &[],
        true,
    ),
    case(
        "c18-a-blank-line-is-no-pair",
        "- run: echo '  ' >> $GITHUB_ENV",
        &["error: Unable to process file command 'env' successfully."],
        &[],
        false,
    ),
    case(
        "c19-what-stood-before-counts",
        "- id: s\n  continue-on-error: true\n  run: |\n    printf 'GOOD=1\\nbad\\n' >> $GITHUB_ENV\n    echo o=2 >> $GITHUB_OUTPUT\n- run: echo ${{ steps.s.outcome }} $GOOD ${{ steps.s.outputs.o }}",
        &["failure 1 2"],
        &[],
        true,
    ),
    case(
        "c20-node-options-are-refused",
        "- run: echo NODE_OPTIONS=--x >> $GITHUB_ENV\n- run: echo \"[$NODE_OPTIONS]\"",
        &["[]"],
        &[],
        true,
    ),
    case(
        "c21-utf-16-is-decoded",
        "- run: printf '\\377\\376A\\0=\\0b\\0\\n\\0' >> $GITHUB_ENV\n- run: echo got $A",
        &["got b"],
        &[],
        true,
    ),
    case(
        "c22-the-context-wins",
        "- {run: 'test \"$GITHUB_SHA\" = ${{ github.sha }} && echo real', env: {GITHUB_SHA: x}}",
        &["real"],
        &[],
        true,
    ),
    Case {
        name: "c25-yaml-types",
        keys: "env: {V: 1.10, W: True, X: 0x1F}",
        steps: "- run: echo $V $W $X",
        says: &["1.1 true 31"],
        never: &[],
        succeeds: true,
    },
    case("c26-a-literal-false", "- {if: \"${{ 'false' }}\", run: echo ran}", &[], &["ran"], true),
    case(
        "c27-text-around-an-expression",
        "- run: exit 1\n- {if: 'always() && ${{ false }}', run: echo ran}",
        &[],
        &["ran"],
        false,
    ),
    case(
        "c28-filters",
        "- {id: a, run: exit 1, continue-on-error: true}\n- {if: \"contains(steps.*.outcome, 'failure')\", run: echo seen}",
        &["seen"],
        &[],
        true,
    ),
    case(
        "c29-to-35-expressions",
        "- run: |\n    echo 29 ${{ null != null }}\n    echo 30 ${{ 'a' < '[' }}\n    echo 31 ${{ 'fromJSON(''7'')' == 7 }}\n    echo 32 ${{ github.event == github.event }}\n    echo 33 ${{ github.event.list[fromJSON('0')] }} ${{ github.event.o[5] }}\n    echo 35 ${{ case(true, 'x', 'y') }}\n- run: |\n    cat <<'X'\n    ${{ toJSON(fromJSON('{\"b\":\"<\",\"a\":1}')) }}\n    X",
        &["29 false", "30 true", "31 false", "32 true", "33 x five", "35 x", "  \"b\": \"<\",", "  \"a\": 1"],
        &[],
        true,
    ),
    case(
        "c36-an-object-is-no-text",
        "- {run: echo ran, env: {X: '${{ github.event }}'}}",
        &[],
        &["ran"],
        false,
    ),
    case(
        "c37-unnamed-steps",
        "- run: echo $GITHUB_ACTION\n- run: echo \"[${{ steps['0'].outcome }}]\"",
        &["__run", "[]"],
        &[],
        true,
    ),
    case(
        "c39-a-server-in-the-background",
        "- run: |\n    sleep 600 &\n    echo $! > pid\n- run: kill -0 $(cat pid) && echo alive; kill $(cat pid)",
        &["alive"],
        &[],
        true,
    ),
    case(
        "c41-and-43-inputs-of-a-composite",
        "- uses: actions/checkout@v4\n- uses: ./input",
        &["[0]"],
        &[],
        true,
    ),
    case(
        "c42-an-inner-default-is-its-own",
        "- uses: actions/checkout@v4\n- uses: ./outer",
        &["got inner"],
        &["got outer"],
        true,
    ),
    case(
        "c45-hashes-need-no-node",
        "- uses: actions/checkout@v4\n- run: echo ${{ hashFiles('lock') }}",
        &["af783de711a03d4e784d3cd52d07738e879f8e3004e6bab584d4f5986f26ef1f"],
        &[],
        true,
    ),
    Case {
        name: "c46-an-output-with-a-secret",
        keys: "outputs: {bad: '${{ steps.s.outputs.x }}', good: '${{ steps.s.outputs.y }}'}",
        steps: "- {id: s, run: 'printf \"x=a zqxwvu b\\ny=1\\n\" >> $GITHUB_OUTPUT'}",
        says: &["warning: Skip output 'bad' since it may contain secret.", "output good=1"],
        never: &[],
        succeeds: true,
    },
    case(
        "c50-an-overlooked-failure",
        "- {run: exit 1, continue-on-error: true}\n- {if: failure(), run: echo ran}",
        &[],
        &["ran"],
        true,
    ),
];
