//! The same road with containers, on the machine's own engine; the images are made by `tests/images.sh`.

use std::time::{Duration, SystemTime};

use tests::{
    engine,
    gitea::{FakeGitea, Push, Status},
    proxy::{CountingProxy, EngineRequest},
    runner::{Home, within},
    skip,
};

use crate::{crash, push_steps, together, workflow};

fn container(image: &str) -> (FakeGitea, Home, tests::runner::Process) {
    let (gitea, home) = (FakeGitea::start(), Home::new());
    home.register(&gitea, &format!("lab:docker://{image}"));
    let daemon = home.daemon(&[]);
    (gitea, home, daemon)
}

fn nothing_left(home: &Home) {
    let (uuid, _) = home.registration();
    // The volume with the agent belongs to the engine, not to a job.
    let of_jobs = || {
        engine::objects_of(&uuid).into_iter().filter(|object| !object.contains("agent")).collect::<Vec<_>>()
    };
    within(
        30,
        "nothing of the job is left in the engine",
        || of_jobs().is_empty().then_some(()),
        || of_jobs().join("\n"),
    );
}

#[test]
fn a_job_in_a_container_reports_everything_and_leaves_nothing() {
    if skip::without_engine("a job in a container") {
        return;
    }
    for image in ["esteira-test/base", "esteira-test/user", "esteira-test/busybox"] {
        let (gitea, home, _daemon) = container(image);
        let text = workflow(
            "    defaults: {run: {shell: sh}}\n    outputs: {who: '${{ steps.a.outputs.who }}'}\n",
            "    - id: a\n      run: |\n        echo \"who=$(id -u)\" >> \"$GITHUB_OUTPUT\"\n        echo hello > file; ls -l\n    - run: cat file; echo ok-$((40+2))\n    - run: test -e /.dockerenv\n",
        );
        let task = gitea.finished(120, &gitea.push(&Push::new(&text)));
        assert_eq!(task.status, Status::Success, "{image}: {:#?}", task.lines());
        assert!(task.says("ok-42") && task.lines().contains(&"hello"));
        assert!(task.outputs.contains_key("who"));
        nothing_left(&home);
    }
}

#[test]
fn a_cancel_ends_the_container_and_runs_what_always_runs() {
    if skip::without_engine("a cancel in a container") {
        return;
    }
    let (gitea, home, _daemon) = container("esteira-test/base");
    let run = push_steps(
        &gitea,
        "    - run: echo on; sleep 600\n    - if: always()\n      run: echo always-$((40+2))\n",
    );
    gitea.until(90, "the step runs", |state| {
        state.tasks.first().filter(|task| task.lines().contains(&"on")).map(|_| ())
    });
    gitea.cancel(&run);
    let task = gitea.finished(60, &run);
    assert_eq!(task.status, Status::Cancelled);
    assert!(task.says("always-42"), "{:#?}", task.lines());
    nothing_left(&home);
}

#[test]
fn a_killed_daemon_leaves_nothing_in_the_engine_after_its_next_start() {
    if skip::without_engine("a killed daemon with a container") {
        return;
    }
    for round in 0..skip::repetitions(20) as u64 {
        let (gitea, home, mut daemon) = container("esteira-test/base");
        let run = gitea.push(&Push::new(&crash::ticking("container", "/tmp/side", "")));
        gitea.until(90, "rows arrive", |state| {
            state.tasks.first().filter(|task| task.says("tick 1")).map(|_| ())
        });
        std::thread::sleep(Duration::from_millis(round * 137 % 2000));
        let seen = gitea.state().tasks[0].rows.iter().filter(|(_, row)| row.starts_with("tick ")).count();
        daemon.kill();
        let _again = home.daemon(&[]);
        let task = gitea.finished(60, &run);
        assert_eq!(task.status, Status::Failure);
        crash::whole(&task, seen);
        nothing_left(&home);
    }
}

#[test]
fn two_runners_and_an_exec_on_one_engine_leave_each_other_alone() {
    if skip::without_engine("two runners and an exec on one engine") {
        return;
    }
    together::three_on_one_machine("docker://esteira-test/base", "esteira-test/base");
}

#[test]
fn a_service_that_is_named_by_its_key_answers_in_the_job() {
    if skip::without_engine("a service container") {
        return;
    }
    let (gitea, home, _daemon) = container("esteira-test/base");
    let text = workflow(
        "    services:\n      web:\n        image: esteira-test/busybox\n        cmd: [httpd, -f, -p, '80']\n",
        "    - run: for i in $(seq 50); do exec 3<>/dev/tcp/web/80 && break; sleep 0.1; done; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3\n",
    );
    let task = gitea.finished(120, &gitea.push(&Push::new(&text)));
    if task.says("not yet supported") {
        skip::say("a service container", "this runner does not support services yet");
        return;
    }
    assert_eq!(task.status, Status::Success, "{:#?}", task.lines());
    assert!(task.says("HTTP/1."), "{:#?}", task.lines());
    nothing_left(&home);
}

#[test]
fn steps_cost_no_request_to_the_engine_and_a_job_costs_few() {
    if skip::without_engine("requests to the engine") {
        return;
    }
    for (image, setup_limit) in [("esteira-test/base", 5), ("esteira-test/user", 8)] {
        let gitea = FakeGitea::start();
        let home = Home::new();
        let proxy = CountingProxy::start(&home.path().join("engine.sock"));
        let home = home.with("DOCKER_HOST", &proxy.host());
        home.register(&gitea, &format!("lab:docker://{image}"));
        let mut daemon = home.daemon(&[]);
        // The first job finds the engine and fills what is kept for all; the second one is measured.
        gitea.finished(120, &push_steps(&gitea, "    - run: 'true'\n"));
        nothing_left(&home);
        let before = proxy.requests().len();
        let stamp = "    - run: echo stamp $(date +%s%N)\n";
        let task = gitea.finished(120, &push_steps(&gitea, &stamp.repeat(12)));
        assert_eq!(task.status, Status::Success, "{:#?}", task.lines());
        nothing_left(&home);
        daemon.stop();
        let stamps: Vec<SystemTime> = task.lines().iter().filter_map(|line| stamped(line)).collect();
        let (first, last) = (stamps[0], stamps[stamps.len() - 1]);
        let requests: Vec<_> =
            proxy.requests().split_off(before).into_iter().filter(|request| !request.is_greeting()).collect();
        let lines =
            |requests: Vec<&EngineRequest>| requests.iter().map(|r| r.line.clone()).collect::<Vec<_>>();
        let setup = lines(requests.iter().filter(|request| request.at < first).collect());
        let during = lines(requests.iter().filter(|r| r.at >= first && r.at <= last).collect());
        let teardown = lines(requests.iter().filter(|request| request.at > last).collect());
        assert_eq!(during, Vec::<String>::new(), "between the first and the last of twelve steps");
        assert!(setup.len() <= setup_limit, "{image}, set-up: {setup:#?}");
        assert!(teardown.len() <= 3, "{image}, teardown: {teardown:#?}");
    }
}

/// The time in a row `stamp <nanoseconds since 1970>`.
fn stamped(line: &str) -> Option<SystemTime> {
    let nanoseconds = line.strip_prefix("stamp ")?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds))
}
