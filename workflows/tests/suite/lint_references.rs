//! What is said about references: actions, reusable workflows, and `action.yml` itself.

use workflows::plan::WorkflowReference;
use workflows::{Files, LintOptions, SourceFile};

use super::lint::{action, check_with, says, step};

#[test]
fn references_to_actions() {
    let uses = |uses: &str| step(&format!("      - uses: {uses}\n"));
    says(&uses("checkout"), &["6:15 w uses: the action 'checkout' has no owner"]);
    says(
        &uses("actions/checkout"),
        &["6:15 w uses: the action 'actions/checkout' has no @ref (add a version: actions/checkout@v1)"],
    );
    says(
        &uses(".github/x/y"),
        &[
            "6:15 w uses: the action '.github/x/y' has no @ref (for an action of this repository write ./.github/x/y)",
        ],
    );
    says(&uses("$$docker://x"), &["6:"]);
    says(&uses("docker://"), &["6:15 e uses: 'docker://' names no image"]);
    says(&uses("docker://alpine"), &["6:15 w unpinned-action: the image 'alpine' has no tag"]);
    says(&uses("https://gitea.com/a/b"), &["6:15 w uses: the address 'https://gitea.com/a/b' has no @ref"]);
    says(
        &uses("actions/checkout@v2"),
        &[
            "6:15 w outdated-action: actions/checkout@v2 is made for a Node that runners no longer have (use actions/checkout@v4 or newer)",
        ],
    );
    says(&uses("actions/create-release@v1"), &["6:15 w outdated-action: actions/create-release@v1"]);
    says(
        &uses("actions/cache@v4"),
        &[
            "6:15 w action-input: actions/cache@v4 needs the input 'path'",
            "6:15 w action-input: actions/cache@v4 needs the input 'key'",
        ],
    );
    says(
        &step("      - {uses: actions/checkout@v4, with: {fetch_depth: 1}}\n"),
        &[
            "6:44 w action-input: actions/checkout@v4 has no input 'fetch_depth' (did you mean 'fetch-depth'?)",
        ],
    );
    says(
        &step("      - {uses: pypa/gh-action-pypi-publish@release/v1, with: {skip_existing: true}}\n"),
        &[
            "6:63 w action-input: the input 'skip_existing' of pypa/gh-action-pypi-publish is deprecated (write 'skip-existing')",
        ],
    );
    says(
        &step(
            "      - {id: c, uses: actions/cache@v4, with: {path: a, key: b}}\n      - run: echo ${{ steps.c.outputs.hit }}\n",
        ),
        &["7:39 w undefined-reference: 'hit' is not defined here"],
    );
}

struct Callee(&'static str);

impl Files for Callee {
    fn workflow(&self, reference: &WorkflowReference) -> Option<SourceFile> {
        (reference.to_string() == "./w.yml").then(|| SourceFile::new("w.yml", self.0))
    }
    fn action(&self, path: &str) -> Option<SourceFile> {
        (path == "act").then(|| SourceFile::new("action.yml", self.0))
    }
    fn is_complete(&self) -> bool {
        true
    }
}

#[test]
fn a_local_action_that_is_wrong_is_said_where_it_is_used() {
    let action = Callee("name: x\nruns: {using: node20}\n");
    let options = LintOptions { files: Some(&action), ..LintOptions::default() };
    let file = "on: push\njobs: {a: {runs-on: ubuntu-latest, steps: [uses: ./act]}}\n";
    says(
        &check_with(file, &options),
        &["2:50 w uses: action.yml:2 is wrong: an action of the kind 'node20'"],
    );
}

/// A repository with these workflows.
struct Workflows(&'static [(&'static str, &'static str)]);

impl Files for Workflows {
    fn workflow(&self, reference: &WorkflowReference) -> Option<SourceFile> {
        let name = reference.to_string();
        self.0.iter().find(|(own, _)| *own == name).map(|(own, text)| SourceFile::new(own, text))
    }
    fn action(&self, _path: &str) -> Option<SourceFile> {
        None
    }
}

#[test]
fn called_workflows_stay_within_the_permissions_of_their_caller() {
    let files = Workflows(&[
        (
            "./job.yml",
            "on: workflow_call\njobs: {b: {runs-on: x, permissions: {contents: write, actions: read}, steps: [run: x]}}",
        ),
        ("./all.yml", "on: workflow_call\npermissions: write-all\njobs: {b: {runs-on: x, steps: [run: x]}}"),
        ("./nested.yml", "on: workflow_call\njobs: {b: {permissions: {contents: read}, uses: ./job.yml}}"),
        ("./circle.yml", "on: workflow_call\njobs: {b: {uses: ./circle.yml}}"),
    ]);
    let options = LintOptions { files: Some(&files), ..LintOptions::default() };
    let call = |keys: &str| check_with(&format!("on: push\njobs:\n  a: {{{keys}}}\n"), &options);
    says(&call("uses: ./job.yml"), &[]);
    says(&call("permissions: write-all, uses: ./job.yml"), &[]);
    says(
        &call("permissions: {contents: read}, uses: ./job.yml"),
        &[
            "3:3 e permissions: job 'b' of ./job.yml asks for 'actions: read, contents: write', but is only allowed 'actions: none, contents: read' (grant it under",
        ],
    );
    says(
        &call("permissions: read-all, uses: ./all.yml"),
        &[
            "3:3 e permissions: ./all.yml asks for 'actions: write, artifact-metadata: write, attestations: write, checks: write, …', but is only allowed",
        ],
    );
    says(&call("permissions: write-all, uses: ./all.yml"), &[]);
    says(
        &call("permissions: write-all, uses: ./nested.yml"),
        &["3:3 e permissions: job 'b' of ./job.yml asks for"],
    );
    says(&call("permissions: {}, uses: ./circle.yml"), &[]);
    let of_workflow = "on: push\npermissions: {}\njobs: {a: {uses: ./job.yml}}\n";
    says(&check_with(of_workflow, &options), &["3:8 e permissions: job 'b' of ./job.yml asks for"]);
}

#[test]
fn calls_fit_the_called_workflow() {
    let callee = Callee(
        "on: {workflow_call: {inputs: {n: {type: number, required: true}}, secrets: {key: {required: true}}, outputs: {o: {value: x}}}}\njobs: {a: {runs-on: x, steps: [run: x]}}",
    );
    let call = |keys: &str| {
        let options = LintOptions { files: Some(&callee), ..LintOptions::default() };
        check_with(&format!("on: push\njobs:\n  a:\n    uses: {keys}\n"), &options)
    };
    says(&call("./w.yml\n    with: {n: 1}\n    secrets: inherit"), &[]);
    says(
        &call("./w.yml"),
        &[
            "4:11 e workflow-call: the called workflow needs the input 'n'",
            "4:11 e workflow-call: the called workflow needs the secret 'key'",
        ],
    );
    says(
        &call("./w.yml\n    with: {n: many, m: 1}\n    secrets: {key: k, kay: k}"),
        &[
            "5:15 e workflow-call: input 'n' of the called workflow is a number, found 'many'",
            "5:21 e workflow-call: input 'm' is not defined in the called workflow",
            "6:23 e workflow-call: secret 'kay' is not defined in the called workflow (did you mean 'key'?)",
        ],
    );
    says(&call("./none.yml"), &["4:11 w workflow-call: there is no file ./none.yml"]);
    says(&call("./w.yml@v1"), &["4:11 w uses: a workflow of the same repository takes no @ref"]);
    says(
        &call("o/r@v1"),
        &[
            "4:11 w uses: expected ./path/to/workflow.yml or owner/repo/path/to/workflow.yml@ref, found 'o/r@v1'",
        ],
    );
    says(
        &call("./w.yml\n    with: {n: 1}\n    secrets: yes please"),
        &[
            "4:11 e workflow-call: the called workflow needs the secret 'key'",
            "6:14 e wrong-type: 'secrets' must be a mapping or 'inherit'",
        ],
    );
    let uncallable = Callee("on: push\njobs: {a: {runs-on: x, steps: [run: x]}}");
    let options = LintOptions { files: Some(&uncallable), ..LintOptions::default() };
    says(
        &check_with("on: push\njobs:\n  a: {uses: ./w.yml}\n", &options),
        &["3:13 e workflow-call: ./w.yml cannot be called"],
    );
}

#[test]
fn local_actions_are_known_by_their_file() {
    let local = Callee(
        "name: x\ninputs: {a: {required: true}}\noutputs: {o: {value: x}}\nruns: {using: composite, steps: []}\n",
    );
    let options = LintOptions { files: Some(&local), ..LintOptions::default() };
    let text = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - {id: s, uses: ./act, with: {b: 1}}\n      - run: echo ${{ steps.s.outputs.p }}\n";
    says(
        &check_with(text, &options),
        &[
            "6:23 w action-input: ./act needs the input 'a'",
            "6:37 w action-input: ./act has no input 'b'",
            "7:39 w undefined-reference: 'p' is not defined here, so it is always empty",
        ],
    );
}

#[test]
fn actions_have_rules_of_their_own() {
    says(
        &action("runs: {using: node20, main: x}\n"),
        &["1:1 e missing-key: the action lacks the required key 'name'"],
    );
    says(&action("name: x\n"), &["1:1 e missing-key: the action lacks the required key 'runs'"]);
    says(
        &action("name: x\nruns: {using: nod20}\n"),
        &["2:15 e wrong-value: no runner can run an action of the kind 'nod20' (did you mean 'node20'?)"],
    );
    says(
        &action("name: x\nruns: {using: node20}\n"),
        &["2:8 e missing-key: an action of the kind 'node20' lacks the required key 'main'"],
    );
    says(
        &action("name: x\nruns: {using: docker}\n"),
        &["2:8 e missing-key: an action of the kind 'docker' lacks the required key 'image'"],
    );
    says(
        &action("name: x\nruns: {using: composite}\n"),
        &["2:8 e missing-key: an action of the kind 'composite' lacks the required key 'steps'"],
    );
    says(&action("name: x\nruns: [x]\n"), &["2:7 e wrong-type: 'runs' must be a mapping"]);
    says(
        &action("name: x\nruns: {main: x}\n"),
        &["2:8 e missing-key: 'runs' lacks the required key 'using'"],
    );
    says(
        &action("name: x\ninput: {}\nruns: {using: go, main: x}\n"),
        &["2:1 w unknown-key: unexpected key 'input' in an action (did you mean 'inputs'?)"],
    );
    says(
        &action("name: x\noutputs: {o: {description: d}}\nruns: {using: composite, steps: [{run: x}]}\n"),
        &["2:11 e missing-key: output 'o' of a composite action lacks the required key 'value'", "3:"],
    );
    says(
        &action(
            "name: x\ninputs: {i: {default: '${{ secrets.X }}', foo: 1}}\nruns: {using: docker, image: Dockerfile, args: ['${{ inputs.j }}'], env: {A: '${{ github.actor }}'}}\n",
        ),
        &[
            "2:28 e context-availability: the context 'secrets' is not available in default of an action's input",
            "2:43 w unknown-key: unexpected key 'foo' in input 'i'",
            "3:61 w undefined-reference: 'j' is not defined here",
            "3:83 e context-availability: the context 'github' is not available in args and env of a docker action",
        ],
    );
    says(&action("- x"), &["1:1 e wrong-type: an action.yml must be a mapping"]);
    says(&action(""), &["1:1 e empty-value: the file is empty"]);
}
