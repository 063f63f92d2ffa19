//! INT, then TERM, then KILL, with time between them: the end of a process tree that was asked to end.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use super::tree::{self, Process};

/// How often a dying tree is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// How long after KILL a process may take to go before it is declared lost.
const LAST: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Interrupt,
    Terminate,
    Kill,
}

/// One climb.
#[derive(Debug)]
pub(super) struct Ladder {
    rung: Rung,
    next: Instant,
    terminate: Duration,
    /// Everyone who was ever seen to belong to the tree: a member that changes its parent stays one.
    pub(super) known: HashSet<(i32, u64)>,
}

/// Where a climb stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Somebody is left.
    Dying,
    /// Nobody is left but those that KILL did not end: `name (pid)` each.
    Over(Vec<String>),
}

impl Ladder {
    /// Sends INT to `members`; those in the group of `leader` (the others follow by name, each gets it once).
    pub(super) fn begin(
        members: &[Process],
        leader: Option<Pid>,
        interrupt: Duration,
        terminate: Duration,
        now: Instant,
    ) -> Self {
        let mut ladder =
            Self { rung: Rung::Interrupt, next: now + interrupt, terminate, known: HashSet::new() };
        if !interrupt.is_zero() {
            deliver(members, leader, Signal::INT);
        }
        ladder.remember(members);
        ladder
    }

    /// Looks at who is left and climbs when it is time.
    pub(super) fn advance(&mut self, members: &[Process], leader: Option<Pid>, now: Instant) -> Progress {
        self.remember(members);
        if members.is_empty() && leader.is_none() {
            return Progress::Over(Vec::new());
        }
        if now < self.next {
            if self.rung == Rung::Kill {
                // Whoever was born between two looks.
                deliver(members, None, Signal::KILL);
            }
            return Progress::Dying;
        }
        match self.rung {
            Rung::Interrupt => {
                self.rung = Rung::Terminate;
                self.next = now + self.terminate;
                deliver(members, leader, Signal::TERM);
                // A stopped process takes the signal only when it goes on.
                deliver(members, leader, Signal::CONT);
            }
            Rung::Terminate => {
                self.rung = Rung::Kill;
                self.next = now + LAST;
                deliver(members, leader, Signal::KILL);
            }
            Rung::Kill => return Progress::Over(tree::names(members)),
        }
        Progress::Dying
    }

    fn remember(&mut self, members: &[Process]) {
        self.known.extend(members.iter().map(|process| (process.pid, process.started)));
    }
}

/// The leader's group in one call (that works without `/proc` too), everyone else by pid.
fn deliver(members: &[Process], leader: Option<Pid>, signal: Signal) {
    let group = leader.map_or(0, |pid| pid.as_raw_nonzero().get());
    if let Some(leader) = leader {
        // Gone already: what was wanted.
        let _ = rustix::process::kill_process_group(leader, signal);
    }
    for process in members.iter().filter(|process| group == 0 || process.group != group) {
        tree::signal(process.pid, signal);
    }
}
