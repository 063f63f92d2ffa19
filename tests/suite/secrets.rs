//! The canary: secrets in every encoding a workflow's tools know, searched in every byte that left the runner.

use tests::{
    canary,
    gitea::{Dialect, FakeGitea, Push, Status},
    runner::Home,
};

use crate::host_with;

const SECRET: &str = "c4nary/\"quoted\" & plus+ 100% d\u{e9}j\u{e0}-vu";
const LINES: &str = "first-line-of-a-key\nsecond-line/of+a=key\nlast-line-of-a-key";
const ADDED: &str = "masked-while-it-runs/7";

const WORKFLOW: &str = r##"
name: canary ${{ secrets.CANARY }}
on: push
jobs:
  job:
    name: canary
    runs-on: lab
    env:
      S: ${{ secrets.CANARY }}
      KEY: ${{ secrets.KEY }}
    outputs:
      leak: ${{ steps.o.outputs.leak }}
      fine: ${{ steps.o.outputs.fine }}
    steps:
      - name: step of ${{ secrets.CANARY }}
        run: |
          echo "plain $S"; echo >&2 "stderr $S"
          echo "key: $KEY"; printf '%s' "$KEY" | tail -n 1; echo
          for before in '' a ab; do printf '%s%s' "$before" "$S" | base64 -w 0; echo; done
          printf '%s' "$S" | base64 -w 0 | tr '+/' '-_'; echo
          printf 'no newline, then a piece: %s' "${S:0:9}"; sleep 0.3; printf '%s\n' "${S:9}"
      - run: |
          import json, os, urllib.parse as u
          s = os.environ["S"]
          print(json.dumps(s, ensure_ascii=False)); print(u.quote(s, safe="")); print(u.quote(s)); print(u.quote_plus(s))
          print(s.replace("%", "%25"))
        shell: python3 {0}
      - run: |
          set -x
          : "$S"
          echo "::error file=a.rs,line=1::$(printf '%s' "$S" | sed 's/%/%25/g')"
          echo "::group::$S"; echo "::endgroup::"
          echo "::warning::$S"
      - run: |
          value=masked-while; value="$value-it-runs/7"
          echo "::add-mask::$value"
          echo "now masked: $value"
          printf '%s' "$value" | base64 -w 0
      - id: o
        run: |
          echo "leak=$S" >> "$GITHUB_OUTPUT"
          echo "fine=nothing to hide" >> "$GITHUB_OUTPUT"
          echo "# summary $S" >> "$GITHUB_STEP_SUMMARY"
          echo "FROM_FILE=$S" >> "$GITHUB_ENV"
      - run: echo "from the file $FROM_FILE"; echo "${{ toJSON(secrets) }}"; echo "token ${{ github.token }}"
        continue-on-error: true
      - run: env
      - run: 'echo "${{ secrets.CANARY }}" | nothing-that-exists "$S"'
        continue-on-error: true
      - run: echo end-$((40+2))
"##;

#[test]
fn no_secret_leaves_the_runner_in_any_encoding() {
    let dialect = Dialect { capabilities: Some("job-summary".to_owned()), ..Dialect::default() };
    let home = Home::new();
    let (gitea, home, mut daemon) = host_with(FakeGitea::with(dialect, ""), home, "log:\n  level: trace\n");
    let run =
        gitea.push(&Push::new(WORKFLOW).secret("CANARY", SECRET).secret("KEY", LINES).secret("EMPTY", ""));
    let task = gitea.finished(90, &run);
    daemon.stop();
    assert!(task.says("end-42"), "{:#?}", task.lines());
    assert_eq!(task.status, Status::Success, "{:#?}", task.lines());
    assert!(task.says("***"));
    assert_eq!(task.outputs.get("fine").map(String::as_str), Some("nothing to hide"));
    assert_eq!(task.outputs.get("leak"), None, "an output that holds a secret is dropped");
    // Announcing a mask is the one line in which its value may not appear either.
    assert!(!task.lines().iter().any(|line| line.starts_with("::add-mask")), "{:#?}", task.lines());

    let mut secrets = vec![SECRET, ADDED, &task.token, &task.runtime_token];
    secrets.extend(LINES.lines());
    canary::check(&gitea, &home, &secrets, &[]);
    for summary in gitea.state().summaries.values() {
        assert!(!summary.contains(SECRET), "the summary is masked");
    }
    let (_, own_token) = home.registration();
    canary::check(&gitea, &home, &[&own_token, &gitea.registration_token()], &[".runner"]);
}
