//! Who belongs to whom, as `/proc` tells it: the members of a step's tree and of the whole job.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use rustix::process::{Pid, Signal};

/// What is needed of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// In clock ticks since boot; with the pid it names a process once and for all.
    pub(crate) started: u64,
    pub(crate) name: String,
}

/// All living processes that can be seen, this one and zombies left out.
pub(crate) fn all() -> Vec<Process> {
    let own = std::process::id().cast_signed();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// Reads a line of `/proc/*/stat`; `None` for zombies and for lines that are cut.
fn parse(stat: &str) -> Option<Process> {
    // The name stands in brackets and may hold anything, brackets too: the last one closes it.
    let open = stat.find('(')?;
    let close = stat.rfind(')')?;
    let mut fields = stat.get(close + 2..)?.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    Some(Process {
        pid: stat.get(..open)?.trim().parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        session: fields.next()?.parse().ok()?,
        // Fields 7 to 21 lie between session and start time.
        started: fields.nth(15)?.parse().ok()?,
        name: stat.get(open + 1..close)?.to_owned(),
    })
}

/// When a process that has not been reaped yet was started; 0 when `/proc` is missing.
pub(super) fn started(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rfind(')').and_then(|close| stat.get(close + 2..)?.split(' ').nth(19)?.parse().ok()).unwrap_or(0)
}

/// The members of a step's tree: its session and group, what descends from them, and what was adopted by this
/// process since the step began (a daemon leaves its session and loses its parent). `others` lead other steps.
pub(super) fn of_step(
    processes: &[Process],
    leader: i32,
    since: u64,
    known: &HashSet<(i32, u64)>,
    others: &HashSet<i32>,
) -> Vec<Process> {
    let own = std::process::id().cast_signed();
    grow(processes, |process| {
        let of_session = process.session == leader || process.group == leader;
        let adopted = process.parent == own && process.started >= since && !others.contains(&process.pid);
        of_session || adopted || known.contains(&(process.pid, process.started))
    })
}

/// All that belongs to the job: what descends from this process, and what carries the job's tracking id.
/// In a container (`everything`) that is every process there is.
pub(super) fn of_job(processes: &[Process], tracking_id: &str, everything: bool) -> Vec<Process> {
    if everything {
        return processes.to_vec();
    }
    let own = std::process::id().cast_signed();
    let mut members = grow(processes, |process| process.parent == own);
    // Whoever gave itself another tracking id wants to stay, as on GitHub.
    members.retain(|process| tracking(process.pid).is_none_or(|id| id == tracking_id));
    let found: HashSet<i32> = members.iter().map(|process| process.pid).collect();
    if !tracking_id.is_empty() {
        members.extend(
            processes
                .iter()
                .filter(|process| !found.contains(&process.pid))
                .filter(|process| tracking(process.pid).is_some_and(|id| id == tracking_id))
                .cloned(),
        );
    }
    members
}

/// The `RUNNER_TRACKING_ID` that a process was started with.
pub(crate) fn tracking(pid: i32) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environ
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"RUNNER_TRACKING_ID="))
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

/// `root` processes and all their descendants.
fn grow(processes: &[Process], root: impl Fn(&Process) -> bool) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process);
    }
    let mut seen = HashSet::new();
    let mut queue: Vec<&Process> = processes.iter().filter(|process| root(process)).collect();
    let mut members = Vec::new();
    while let Some(process) = queue.pop() {
        if seen.insert(process.pid) {
            members.push(process.clone());
            queue.extend(children.get(&process.pid).into_iter().flatten());
        }
    }
    members
}

/// Sends a signal; who is gone already is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // Gone between the look and the signal: what was wanted.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// `name (pid)`, for rows.
pub(super) fn names(processes: &[Process]) -> Vec<String> {
    processes.iter().map(|process| format!("{} ({})", process.name, process.pid)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Process, all, of_step, parse};

    fn process(pid: i32, parent: i32, session: i32, started: u64) -> Process {
        Process { pid, parent, group: session, session, started, name: "p".into() }
    }

    fn pids(mut processes: Vec<Process>) -> Vec<i32> {
        processes.sort_by_key(|process| process.pid);
        processes.into_iter().map(|process| process.pid).collect()
    }

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_whole() {
        let line = "42 (a) b (c) S 7 42 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 991 0 0";
        let read = parse(line).expect("a process");
        assert_eq!(
            read,
            Process { pid: 42, parent: 7, group: 42, session: 40, started: 991, name: "a) b (c".into() }
        );
        assert_eq!(parse("42 (x) Z 7 42 40 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 991 0"), None);
    }

    #[test]
    fn a_tree_is_session_descendants_and_what_was_adopted_since() {
        let own = std::process::id().cast_signed();
        let processes = [
            process(900_001, own, 900_001, 50),     // the leader
            process(900_002, 900_001, 900_001, 60), // its child
            process(900_003, 900_002, 900_003, 70), // a grandchild with a session of its own
            process(900_004, own, 900_004, 80),     // a daemon: adopted after the step began
            process(900_005, own, 900_005, 10),     // an earlier step's daemon
            process(900_006, 900_005, 900_005, 90), // and its new child
        ];
        let members = of_step(&processes, 900_001, 50, &HashSet::new(), &HashSet::new());
        assert_eq!(pids(members), [900_001, 900_002, 900_003, 900_004]);
    }

    #[test]
    fn a_member_that_was_seen_once_stays_one() {
        let processes = [process(900_005, 1, 900_005, 10)];
        assert!(of_step(&processes, 900_001, 50, &HashSet::new(), &HashSet::new()).is_empty());
        assert_eq!(
            pids(of_step(&processes, 900_001, 50, &HashSet::from([(900_005, 10)]), &HashSet::new())),
            [900_005]
        );
    }

    #[test]
    fn this_machine_can_be_read() {
        let parent = rustix::process::getppid().expect("a parent").as_raw_nonzero().get();
        assert!(all().iter().any(|process| process.pid == parent));
    }
}
