//! A hand-over that does not end as it should: refused in the middle, too slow, interrupted.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{Ended, SERVE, Stack, available, service};

#[test]
fn a_refusal_in_the_middle_says_what_has_changed_already() {
    if !available("deploy: refused in the middle") {
        return;
    }
    let stack = Stack::new("half");
    // Swarm gives a port of its mesh to one service only: whichever comes second is refused.
    let port = 20_000 + std::process::id() % 10_000;
    let ports = format!("    ports: [\"{port}:80\"]\n");
    let two =
        format!("{}{}", service(SERVE, &ports), service(SERVE, &ports).replace("services:\n  web", "  two"));
    let half = stack.deploy(&two, &["--timeout", "60"]);
    assert_eq!(half.code, 1, "{half}");
    assert!(half.last().contains("is already in use"), "{half}");
    assert!(half.last().contains("1 of 2 services have the new specification already"), "{half}");
}

/// A docker command line in front of the real one that says when the hand-over begins, and then runs `instead`.
fn front(stack: &Stack, instead: &str) -> (PathBuf, PathBuf) {
    let begun = stack.folder().join("begun");
    let real = Command::new("sh").args(["-c", "command -v docker"]).output().expect("a shell");
    let real = String::from_utf8_lossy(&real.stdout).trim().to_owned();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *'stack deploy --compose-file'*) touch {}; {instead} ;; esac\nexec {real} \"$@\"\n",
        begun.display()
    );
    let folder = stack.folder().join("front");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("docker"), script).expect("the front");
    fs::set_permissions(folder.join("docker"), fs::Permissions::from_mode(0o755)).expect("its mode");
    (folder, begun)
}

fn program(stack: &Stack, instead: &str, more: &[&str]) -> (Command, PathBuf) {
    let (folder, begun) = front(stack, instead);
    let file = stack.folder().join("stack.yml");
    fs::write(&file, service(SERVE, "")).expect("the stack file");
    let mut command = stack.command(&file.to_string_lossy(), more);
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").expect("a PATH"));
    command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (command, begun)
}

/// Interrupts the program's whole process group, as a cancelled job does, when the hand-over has begun.
fn interrupted(stack: &Stack, instead: &str) -> Ended {
    use std::os::unix::process::CommandExt as _;
    let (mut command, begun) = program(stack, instead, &["--timeout", "180"]);
    let child = command.process_group(0).spawn().expect("the program runs");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !begun.exists() {
        assert!(Instant::now() < deadline, "no hand-over begins");
        std::thread::sleep(Duration::from_millis(20));
    }
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().expect("kill runs").success());
    Ended::of(&child.wait_with_output().expect("the program ends"))
}

#[test]
fn a_hand_over_that_outlasts_the_limit_is_out_of_time_and_says_what_has_changed() {
    if !available("deploy: slow hand-over") {
        return;
    }
    let stack = Stack::new("slow");
    let (mut command, _) = program(&stack, "exec sleep 600", &["--timeout", "2"]);
    let slow = Ended::of(&command.output().expect("the program runs"));
    assert_eq!(slow.code, 6, "{slow}");
    assert!(slow.last().contains("the hand-over took too long; no service was changed"), "{slow}");
}

#[test]
fn an_interrupted_hand_over_is_let_end_or_its_cut_is_told() {
    if !available("deploy: interrupted hand-over") {
        return;
    }
    let stack = Stack::new("brief");
    let brief = interrupted(&stack, "sleep 1");
    assert_eq!(brief.code, 130, "{brief}");
    assert!(brief.last().contains("the whole stack is handed over"), "{brief}");
    assert!(stack.has("web"), "{brief}");

    let stack = Stack::new("cut");
    let cut = interrupted(&stack, "exec sleep 600");
    assert_eq!(cut.code, 130, "{cut}");
    assert!(cut.last().contains("the hand-over was cut off; no service was changed"), "{cut}");
}

#[test]
fn a_manager_that_is_lost_in_the_middle_is_unreachable_not_refusing() {
    if !available("deploy: lost in the hand-over") {
        return;
    }
    let stack = Stack::new("lost");
    let words =
        "error during connect: Post http://docker/services/create: EOF: stderr=Connection to manager closed.";
    let (mut command, _) = program(&stack, &format!("echo '{words}' >&2; exit 1"), &["--timeout", "60"]);
    let lost = Ended::of(&command.output().expect("the program runs"));
    assert_eq!(lost.code, 7, "{lost}");
    assert!(lost.last().contains("Connection to manager closed.; no service was changed"), "{lost}");
}
