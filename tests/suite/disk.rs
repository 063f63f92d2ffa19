//! A disk that is full: the job that filled it fails and says so, and the next one runs.

use std::{path::Path, process::Command};

use tests::{
    gitea::{FakeGitea, Push, Status},
    runner::{Home, within},
    skip,
};

use crate::{push_steps, workflow};

/// A small file system of its own over a folder; taken away with the story.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// `None` where this user may not mount.
    fn over(folder: &'a Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).expect("a folder in the home");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"]).arg(folder);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // A daemon that is being killed may still hold a file: detached, it goes with the last one.
        let unmounted = Command::new("umount").arg("-l").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}

#[test]
fn a_job_that_fills_the_disk_fails_with_a_reason_and_the_next_one_runs() {
    let (gitea, home) = (FakeGitea::start(), Home::new());
    home.register(&gitea, "lab:host");
    let jobs = home.path().join(".runner.state/jobs");
    let Some(_disk) = SmallDisk::over(&jobs, "2m") else {
        skip::say("a job on a full disk", "this user may not mount a file system");
        return;
    };
    let daemon = home.daemon(&[]);
    let steps = "    - run: |\n        echo first\n        for i in $(seq 60000); do echo \"line $i of too many for so small a disk\"; done\n        sleep 600\n    - if: always()\n      run: echo the last step runs\n";
    let run = gitea.push(&Push::new(&workflow("", steps)));
    let task = gitea.finished(120, &run);
    assert_eq!(task.status, Status::Failure);
    let lines = task.lines();
    assert_eq!(lines.iter().find(|line| **line == "first"), Some(&"first"), "what fitted is kept");
    let last = lines.iter().rfind(|line| line.contains("disk of the runner is full"));
    assert!(last.is_some_and(|line| line.contains("rows are missing")), "{:?}", lines.last());
    within(
        30,
        "the journal is gone",
        || (std::fs::read_dir(&jobs).is_ok_and(|mut entries| entries.next().is_none())).then_some(()),
        || daemon.text(),
    );
    let next = push_steps(&gitea, "    - run: echo next\n");
    assert_eq!(gitea.finished(60, &next).status, Status::Success, "{}", daemon.text());
}
