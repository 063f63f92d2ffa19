//! What users of a runner feel, measured: `cargo bench -p tests`.
//!
//! The release build of esteira runs jobs of a Gitea made of Rust, in containers where an engine answers and on the
//! host otherwise. With `OFFICIAL_BIN` the official runner does the same jobs in the same run, and each number stands
//! beside its own. `BENCH_IMAGE` names the image (default `esteira-test/base`, made by `tests/images.sh`). Nothing is
//! asserted: these are measurements.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use tests::{
    engine,
    gitea::{FakeGitea, Push, Status, TaskRow},
    proxy::CountingProxy,
    runner::{Home, root},
};

/// A runner's numbers, in the order of [`NAMES`]; `None` where there is nothing to measure.
type Numbers = Vec<Option<f64>>;

const NAMES: [&str; 15] = [
    "between two steps, median (ms)",
    "between two steps, 95th percentile (ms)",
    "assignment to first line, warm (ms)",
    "last line to final report (ms)",
    "engine requests: set-up",
    "engine requests: 40 steps",
    "engine requests: teardown",
    "engine requests: set-up, two services",
    "engine requests: node action and a step",
    "engine requests: docker action and a step",
    "row visible at the server, median (ms)",
    "row visible at the server, worst (ms)",
    "log calls a second while rows flow",
    "idle memory (MiB)",
    "program (MiB)",
];

fn main() {
    // `cargo test --benches` and `cargo bench` pass flags of their own framework; there is nothing to choose here.
    let image = std::env::var("BENCH_IMAGE").unwrap_or_else(|_| "esteira-test/base".to_owned());
    let image = engine::answers().then_some(image);
    say(&match &image {
        Some(image) => format!("jobs run in containers of {image}"),
        None => "skipped: containers: no engine answers; jobs run on the host".to_owned(),
    });
    if let Some(image) = &image {
        let mut floor: Vec<f64> = (0..5).map(|_| docker_run(image)).collect();
        floor.sort_by(f64::total_cmp);
        say(&format!("the engine's own floor: `docker run --rm {image} true` takes {:.0} ms", floor[2]));
    }
    let ours = measure(&release(), image.as_deref());
    let official = std::env::var_os("OFFICIAL_BIN").map(|path| measure(Path::new(&path), image.as_deref()));
    if official.is_none() {
        say("OFFICIAL_BIN is not set: no comparison");
    }
    say(&format!("{:42} {:>12} {:>12} {:>8}", "", "esteira", "official", "ratio"));
    for (place, name) in NAMES.iter().enumerate() {
        let theirs = official.as_ref().and_then(|numbers| numbers[place]);
        let ratio = match (ours[place], theirs) {
            (Some(ours), Some(theirs)) if ours > 0.0 => format!("{:.1}", theirs / ours),
            _ => String::new(),
        };
        say(&format!("{name:42} {:>12} {:>12} {ratio:>8}", shown(ours[place]), shown(theirs)));
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]
fn say(line: &str) {
    println!("{line}");
}

fn shown(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"))
}

/// The program as it is shipped.
fn release() -> PathBuf {
    if let Some(named) = std::env::var_os("ESTEIRA_BIN") {
        return named.into();
    }
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "-p", "runner", "--message-format=json-render-diagnostics"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be started");
    let text = String::from_utf8_lossy(&built.stdout);
    let mut programs = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.rfind(|path| path.ends_with("esteira")).expect("cargo builds esteira")
}

fn docker_run(image: &str) -> f64 {
    let began = Instant::now();
    engine::docker(&["run", "--rm", image, "true"]);
    began.elapsed().as_secs_f64() * 1000.0
}

/// Runs all jobs with one runner.
fn measure(program: &Path, image: Option<&str>) -> Numbers {
    say(&format!("measuring {}", program.display()));
    let (gitea, home) = (FakeGitea::start(), Home::of(program));
    let proxy = image.map(|_| CountingProxy::start(&home.path().join("engine.sock")));
    let home = match &proxy {
        Some(proxy) => home.with("DOCKER_HOST", &proxy.host()),
        None => home,
    };
    // A file, because the official runner's daemon asks for one where it should not look for others.
    home.write("config.yaml", "runner:\n  capacity: 1\n");
    let label = image.map_or_else(|| "lab:host".to_owned(), |image| format!("lab:docker://{image}"));
    home.register(&gitea, &label);
    let mut daemon = home.daemon(&[]);

    run(&gitea, "    - run: echo warm\n");
    let idle = idle_memory(daemon.pid().as_raw_nonzero().get());
    settle(image);
    let before = proxy.as_ref().map_or(0, |proxy| proxy.requests().len());
    let step = "    - run: |\n        echo begin $(date +%s%N)\n        echo end $(date +%s%N)\n";
    let task = run(&gitea, &step.repeat(40));
    settle(image);
    let (begins, ends) = (stamps(&task, "begin "), stamps(&task, "end "));
    let mut gaps: Vec<f64> =
        ends.iter().zip(&begins[1..]).map(|(end, begin)| milliseconds(*end, *begin)).collect();
    gaps.sort_by(f64::total_cmp);
    let requests = proxy.as_ref().map(|proxy| proxy.requests().split_off(before));
    let count = |from: Option<SystemTime>, to: Option<SystemTime>| {
        let inside = |at: SystemTime| from.is_none_or(|from| at > from) && to.is_none_or(|to| at <= to);
        let counted =
            requests.as_ref()?.iter().filter(|request| !request.is_greeting() && inside(request.at));
        u32::try_from(counted.count()).ok().map(f64::from)
    };
    let (first, last) = (begins[0], ends[ends.len() - 1]);

    let used = proxy.as_ref().map(|proxy| actions(&gitea, proxy, image.unwrap_or_default()));

    let ticks = run(&gitea, "    - run: for i in $(seq 40); do echo tick $(date +%s%N); sleep 0.53; done\n");
    let mut lags: Vec<f64> = ticks
        .rows
        .iter()
        .zip(&ticks.arrived)
        .filter_map(|((_, row), arrived)| Some(milliseconds(stamp(row, "tick ")?, *arrived)))
        .collect();
    lags.sort_by(f64::total_cmp);
    let calls =
        gitea.state().records.iter().filter(|r| r.method == "UpdateLog" && r.task == ticks.id).count();
    let span =
        milliseconds(stamps(&ticks, "tick ")[0], *ticks.arrived.last().expect("rows arrived")) / 1000.0;
    daemon.stop();

    vec![
        Some(gaps[gaps.len() / 2]),
        Some(gaps[gaps.len() * 95 / 100]),
        Some(milliseconds(clock(task.assigned), first)),
        task.ended.map(|ended| milliseconds(last, clock(ended))),
        count(None, Some(first)),
        count(Some(first), Some(last)),
        count(Some(last), None),
        used.map(|used| used[0]),
        used.map(|used| used[1]),
        used.map(|used| used[2]),
        lags.get(lags.len() / 2).copied(),
        lags.last().copied(),
        u32::try_from(calls).ok().map(|calls| f64::from(calls) / span),
        idle,
        fs::metadata(program).ok().map(|file| mebibytes(file.len())),
    ]
}

/// Engine requests of a job with two services until its first line, of a node action and of a docker action; each
/// action with the step behind it, whose line tells when it is over.
fn actions(gitea: &FakeGitea, proxy: &CountingProxy, image: &str) -> [f64; 3] {
    settle(Some(image));
    let before = proxy.requests().len();
    let keys = format!(
        "    services:\n      one: {{image: {image}, cmd: [sleep, '600']}}\n      two: {{image: {image}, cmd: [sleep, '600']}}\n"
    );
    let node = "name: n\\nruns: {using: node20, main: m.js}\\n";
    let docker = format!("name: d\\nruns: {{using: docker, image: docker://{image}, args: ['true']}}\\n");
    let steps = format!(
        "    - run: |\n        mkdir n d; printf '{node}' > n/action.yml; echo '1' > n/m.js; printf \"{docker}\" > d/action.yml\n        \
         echo a $(date +%s%N)\n    - uses: ./n\n    - run: echo b $(date +%s%N)\n    - uses: ./d\n    - run: echo c $(date +%s%N)\n"
    );
    let task = run_with(gitea, &keys, &steps);
    settle(Some(image));
    let requests = proxy.requests().split_off(before);
    let at = |word: &str| stamps(&task, word)[0];
    let count = |from: SystemTime, to: SystemTime| {
        let counted = requests.iter().filter(|r| !r.is_greeting() && r.at > from && r.at <= to).count();
        u32::try_from(counted).map_or(f64::INFINITY, f64::from)
    };
    let marks = [SystemTime::UNIX_EPOCH, at("a "), at("b "), at("c ")];
    [count(marks[0], marks[1]), count(marks[1], marks[2]), count(marks[2], marks[3])]
}

fn run(gitea: &FakeGitea, steps: &str) -> TaskRow {
    run_with(gitea, "", steps)
}

fn run_with(gitea: &FakeGitea, more: &str, steps: &str) -> TaskRow {
    let keys = format!("    defaults: {{run: {{shell: sh}}}}\n{more}");
    let text = format!("name: bench\non: push\njobs:\n  job:\n    runs-on: lab\n{keys}    steps:\n{steps}");
    let task = gitea.finished(300, &gitea.push(&Push::new(&text)));
    assert_eq!(task.status, Status::Success, "{:#?}", task.lines());
    task
}

/// Lets the teardown of the job before come to its end.
fn settle(image: Option<&str>) {
    std::thread::sleep(Duration::from_secs(if image.is_some() { 3 } else { 1 }));
}

fn idle_memory(pid: i32) -> Option<f64> {
    std::thread::sleep(Duration::from_secs(5));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(mebibytes(kibibytes * 1024))
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files and memory are far below 2^53")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn stamp(row: &str, word: &str) -> Option<SystemTime> {
    let nanoseconds = row.strip_prefix(word)?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds))
}

fn stamps(task: &TaskRow, word: &str) -> Vec<SystemTime> {
    task.lines().iter().filter_map(|row| stamp(row, word)).collect()
}

fn milliseconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// An instant on the wall's clock.
fn clock(instant: Instant) -> SystemTime {
    SystemTime::now() - instant.elapsed()
}
