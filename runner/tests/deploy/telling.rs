//! What a person and a program are told: remarks, differences, JSON lines; and what `--prune` removes.

use serde_json::Value;

use super::{Ended, SERVE, Stack, available, service};

const OTHER: &str = "  other:\n    image: esteira-test/busybox\n    command: [\"sleep\", \"1000\"]\n";

fn lines(ended: &Ended) -> Vec<Value> {
    ended
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}\n{ended}")))
        .collect()
}

#[test]
fn what_swarm_ignores_is_told() {
    if !available("deploy: ignored options") {
        return;
    }
    let stack = Stack::new("ignored");
    let ended = stack.deploy(&service(SERVE, "    privileged: true\n"), &["--timeout", "180"]);
    assert_eq!(ended.code, 0, "{ended}");
    let note = ended.text.lines().find(|line| line.starts_with("note: Ignoring unsupported options"));
    assert!(note.is_some_and(|note| note.contains("privileged")), "{ended}");
}

#[test]
fn a_service_that_the_file_no_longer_names_goes_only_with_prune() {
    if !available("deploy: --prune") {
        return;
    }
    let stack = Stack::new("prune");
    let both = format!("{}{OTHER}", service(SERVE, ""));
    let first = stack.deploy(&both, &["--timeout", "180"]);
    assert_eq!(first.code, 0, "{first}");
    let kept = stack.deploy(&service(SERVE, ""), &["--timeout", "180"]);
    assert_eq!(kept.code, 0, "{kept}");
    assert!(stack.has("other"), "{kept}");
    let stays = stack.deploy(&service(SERVE, ""), &["--dry-run"]);
    assert!(stays.text.contains("other: not in the file, stays"), "{stays}");
    let goes = stack.deploy(&service(SERVE, ""), &["--dry-run", "--prune"]);
    assert!(goes.text.contains("- other: would be removed"), "{goes}");
    assert!(goes.last().contains("1 of 2 services would change"), "{goes}");
    assert!(stack.has("other"), "a dry run removes nothing\n{goes}");
    let pruned = stack.deploy(&service(SERVE, ""), &["--timeout", "180", "--prune"]);
    assert_eq!(pruned.code, 0, "{pruned}");
    assert!(!stack.has("other") && stack.has("web"), "{pruned}");
}

#[test]
fn a_program_reads_a_line_for_each_event_and_always_an_end() {
    if !available("deploy: --format json") {
        return;
    }
    let stack = Stack::new("json");
    let ended =
        stack.deploy(&service(SERVE, "    privileged: true\n"), &["--format", "json", "--timeout", "180"]);
    assert_eq!(ended.code, 0, "{ended}");
    let told = lines(&ended);
    assert_eq!(told[0]["event"], "note", "{ended}");
    let progress = &told[told.len() - 2];
    assert_eq!(
        (
            &progress["event"],
            &progress["service"],
            &progress["standing"],
            &progress["ready"],
            &progress["wanted"]
        ),
        (&"progress".into(), &"web".into(), &"converged".into(), &1.into(), &1.into()),
        "{ended}"
    );
    let end = &told[told.len() - 1];
    assert_eq!(
        (&end["event"], &end["outcome"], &end["exit_code"]),
        (&"end".into(), &"converged".into(), &0.into())
    );

    let dry = stack.deploy(&service(SERVE, "    user: nobody\n"), &["--format", "json", "--dry-run"]);
    let told = lines(&dry);
    assert_eq!((told.len(), &told[0]["difference"]), (2, &"changed".into()), "{dry}");
    assert_eq!(told[0]["changes"][0]["property"], "user", "{dry}");
    assert_eq!((&told[1]["event"], &told[1]["outcome"]), (&"end".into(), &"converged".into()), "{dry}");

    let wrong = stack.deploy_file("nothing-here.yml", &["--format", "json"]);
    let told = lines(&wrong);
    assert_eq!(
        (&told[0]["event"], &told[0]["outcome"], &told[0]["exit_code"]),
        (&"end".into(), &"usage".into(), &2.into())
    );
}

/// Everything that is compared one by one, and some that is not.
const RICH: &str = r#"services:
  web:
    image: esteira-test/busybox
    command: ["sleep", "1000"]
    user: "1000:1000"
    hostname: box
    working_dir: /tmp
    init: true
    read_only: true
    stop_grace_period: 1m1s
    stop_signal: SIGQUIT
    cap_add: [NET_ADMIN]
    sysctls: {net.core.somaxconn: 1024}
    ulimits: {nofile: {soft: 1000, hard: 2000}}
    extra_hosts: ["box:10.1.2.3"]
    environment: [COLOUR=red, EMPTY=]
    labels: {a: b}
    healthcheck: {test: "true", interval: 1m30s, timeout: 3s, retries: 2, start_period: 5s}
    logging: {driver: json-file, options: {max-size: 10m}}
    networks: {front: {aliases: [shop]}, back: {}}
    volumes: ["data:/data", "/tmp:/host:ro", {type: tmpfs, target: /run, tmpfs: {size: 1048576}}]
    configs: [{source: conf, target: /etc/conf, mode: 0440}, plain]
    deploy:
      replicas: 0
      labels: {c: d}
      placement: {constraints: [node.role == manager], preferences: [{spread: node.labels.z}], max_replicas_per_node: 3}
      restart_policy: {condition: on-failure, delay: 2s, max_attempts: 3, window: 10s}
      update_config: {parallelism: 2, delay: 3s, order: start-first, failure_action: rollback, max_failure_ratio: 0.2}
      rollback_config: {parallelism: 0, order: stop-first}
      resources: {limits: {cpus: '0.5', memory: 50M, pids: 100}, reservations: {cpus: '0.1', memory: 10M}}
  bare:
    image: esteira-test/busybox
    command: sleep 1000
    healthcheck: {disable: true}
    deploy: {mode: global, placement: {constraints: [node.labels.nowhere == true]}}
networks: {front: {}, back: {name: NAME-back}}
volumes: {data: {}}
configs: {conf: {file: ./conf, name: NAME-conf-1}, plain: {file: ./conf}}
"#;

#[test]
fn a_dry_run_finds_no_difference_in_what_has_just_been_deployed_and_each_one_after() {
    if !available("deploy: dry run of everything") {
        return;
    }
    let stack = Stack::new("rich");
    std::fs::write(stack.folder().join("conf"), "x").expect("a file");
    let write = |text: &str| {
        let path = stack.folder().join("stack.yml");
        let name = stack.folder().file_name().expect("a name").to_string_lossy().replace('.', "");
        std::fs::write(&path, text.replace("NAME", &name)).expect("the stack file");
        path.to_string_lossy().into_owned()
    };
    let first = stack.deploy_file(&write(RICH), &["--timeout", "180"]);
    assert_eq!(first.code, 0, "{first}");
    let same = stack.deploy_file(&write(RICH), &["--dry-run"]);
    assert!(same.text.contains("  web: unchanged") && same.text.contains("  bare: unchanged"), "{same}");
    for (from, to, property) in [
        ("NAME-conf-1", "NAME-conf-2", "configs"),
        ("10.1.2.3", "10.1.2.4", "other keys of its section"),
        ("memory: 10M", "memory: 11M", "reservations.memory"),
        ("[shop]", "[store]", "networks"),
    ] {
        let changed = stack.deploy_file(&write(&RICH.replace(from, to)), &["--dry-run"]);
        let found = changed.text.lines().filter(|line| line.starts_with("    ")).collect::<Vec<_>>();
        assert!(found.len() == 1 && found[0].trim().starts_with(property), "{property}\n{changed}");
        assert!(changed.text.contains("  bare: unchanged"), "{changed}");
    }
}
