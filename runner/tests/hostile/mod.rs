//! Actions that mean harm, or do it by mistake, through the real program: each comes to a clear end, and the job after
//! them is fine.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path, process::Command};

/// How many rows the flood has.
const FLOOD: usize = 300_000;

const WORKFLOW: &str = r"
on: push
jobs:
  flood:
    runs-on: here
    steps:
    - uses: actions/checkout@v4
    - uses: ./flood
    - run: echo after the flood
  stubborn:
    runs-on: here
    steps:
    - uses: actions/checkout@v4
    - {uses: ./stubborn, timeout-minutes: 0.01, continue-on-error: true}
    - run: pgrep -f stubborn/main.js || echo it is gone
  full:
    runs-on: here
    container: {image: esteira-test/base, options: '--mount type=tmpfs,target=/__w,tmpfs-size=4m'}
    steps:
    - run: head -c 8000000 /dev/zero > $RUNNER_TEMP/much
    - {if: always(), run: echo and on}
  large-file:
    runs-on: here
    steps:
    - run: head -c 40000000 /dev/zero | tr '\0' x >> $GITHUB_OUTPUT
  outside:
    runs-on: here
    steps:
    - uses: ./../flood
  linked:
    runs-on: here
    steps:
    - uses: actions/checkout@v4
    - run: ls -l linked
    - uses: ./linked
  linked-inside:
    runs-on: here
    steps:
    - uses: actions/checkout@v4
    - uses: ./linked-inside
  endless:
    runs-on: here
    steps:
    - uses: actions/checkout@v4
    - uses: ./endless
  outside-image:
    runs-on: here
    steps:
    - uses: actions/checkout@v4
    - uses: ./outside-image
  last:
    needs: [flood, stubborn, full, large-file, outside, linked, linked-inside, endless, outside-image]
    if: always()
    runs-on: here
    steps:
    - run: echo still $((40+2))
";

const ACTIONS: &[(&str, &str)] = &[
    ("flood/action.yml", "name: f\nruns: {using: node20, main: main.js}\n"),
    ("stubborn/action.yml", "name: s\nruns: {using: node20, main: main.js}\n"),
    (
        "stubborn/main.js",
        "for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => console.log('no ' + name));\nsetInterval(() => {}, 1000);\n",
    ),
    ("endless/action.yml", "name: e\nruns:\n  using: composite\n  steps:\n  - uses: ./endless\n"),
    ("outside-image/action.yml", "name: o\nruns: {using: docker, image: ../../../../etc/Dockerfile}\n"),
];

/// Each job's rows.
fn run(root: &Path) -> BTreeMap<String, Vec<String>> {
    for (path, text) in ACTIONS {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let flood = format!(
        "const line = 'x'.repeat(200) + '\\n';\nfor (let at = 0; at < {FLOOD}; at += 1000) require('fs').writeSync(1, line.repeat(1000));\n"
    );
    fs::write(root.join("flood/main.js"), flood).unwrap();
    fs::create_dir(root.join("linked")).unwrap();
    symlink("/etc/passwd", root.join("linked/action.yml")).unwrap();
    fs::create_dir(root.join("linked-inside")).unwrap();
    symlink("../harmless.yml", root.join("linked-inside/action.yml")).unwrap();
    let harmless = "name: h\nruns:\n  using: composite\n  steps:\n  - {run: echo followed, shell: sh}\n";
    fs::write(root.join("harmless.yml"), harmless).unwrap();
    fs::write(root.join("hostile.yml"), WORKFLOW).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_esteira"))
        .current_dir(root)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", root.join("home"))
        .envs(std::env::var_os("DOCKER_HOST").map(|address| ("DOCKER_HOST", address)))
        .args(["exec", "--image", "esteira-test/base", "-W", "hostile.yml"])
        .output()
        .unwrap();
    let mut jobs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((job, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
            jobs.entry(job.to_owned()).or_default().push(rest.to_owned());
        }
    }
    assert!(!jobs.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    jobs
}

#[tokio::test]
async fn each_comes_to_a_clear_end_and_the_next_job_is_fine() {
    // Says why when there is no engine.
    if super::backend::docker::backend(|_| {}).await.is_none() {
        return;
    }
    let jobs = tokio::task::spawn_blocking(|| {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path())
    });
    let jobs = jobs.await.unwrap();
    let says = |job: &str, words: &str| {
        let rows = jobs.get(job).map(Vec::as_slice).unwrap_or_default();
        let last = &rows[rows.len().saturating_sub(12)..];
        assert!(rows.iter().any(|row| row.contains(words)), "{job} lacks {words:?}: {last:#?}");
    };
    let flood = jobs["flood"].iter().filter(|row| row.len() == 200 && row.starts_with("xxx")).count();
    assert_eq!(flood, FLOOD, "no row is lost");
    says("flood", "after the flood");
    says("stubborn", "no SIGINT");
    says("stubborn", "no SIGTERM");
    says("stubborn", "it is gone");
    says("full", "No space left on device");
    says("full", "✗ failure");
    says("large-file", "✗ failure");
    says("large-file", "error: ");
    says("outside", "leaves its repository");
    says("linked", "is a link that leads out of");
    says("linked-inside", "followed");
    says("linked-inside", "✓ success");
    says("endless", "nested more than 10 deep");
    says("outside-image", "leaves its repository");
    says("last", "still 42");
    says("last", "✓ success");
}
