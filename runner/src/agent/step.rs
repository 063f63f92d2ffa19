//! One process of a step between its start and the moment it is let go.

use std::{
    collections::HashSet,
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use proto::agent::v1::{Collect, Delivery, Exited, Run, exited::End};
use rustix::{
    buffer::spare_capacity,
    io::Errno,
    pipe::PipeFlags,
    process::{Pid, WaitStatus},
};
use tokio::sync::mpsc;

use super::{
    channel, files,
    ladder::{Ladder, Progress},
    serve::Inner,
    spares::Spares,
    spawn::{self, Streams},
    terminal,
    tree::{self, Process},
};

/// How long the output may stay open after the main process has ended.
pub(super) const HELD: Duration = Duration::from_secs(5);

/// Room in a pipe, as far as the system grants it.
const PIPE: usize = 1 << 20;

/// How often whoever reads from a terminal is told that there is nothing.
const READ: Duration = Duration::from_secs(1);

/// How much of a stream is handed on at once.
const PIECE: usize = 64 << 10;

/// A process that runs.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) leader: Pid,
    since: u64,
    collect: Vec<Collect>,
    end: Option<End>,
    /// When its main process ended, and later by as long as its output could not be taken since.
    ended_at: Option<Instant>,
    looked_at: Instant,
    /// How many of its streams are read here and still open.
    open: u8,
    ladder: Option<Ladder>,
    lost: Vec<String>,
    /// The read ends of its pipes: as long as they are here, a runner that goes away breaks nothing.
    pipes: Vec<OwnedFd>,
    /// Its terminal, and when that has to be told again that nobody types.
    terminal: Option<(OwnedFd, Instant)>,
}

/// What a start has given.
pub(super) struct Begun {
    pub(super) step: Step,
    /// To be passed to the runner; empty when this process reads the output.
    pub(super) fds: Vec<OwnedFd>,
    /// To be read here.
    pub(super) pumps: Vec<Pump>,
}

/// Writes the files and starts the process. The error is the sentence of [`End::NotStarted`].
pub(super) fn begin(run: Run, spares: &mut Spares) -> Result<Begun, String> {
    for file in &run.files {
        files::write(file, spares)?;
    }
    spares.expect(run.files.len());
    if run.terminal {
        let (ours, theirs) = terminal::open()?;
        let leader = spawn::spawn(&run.argv, &run.environ, &run.cwd, Streams::Terminal(theirs))?;
        let mut step = Step::led_by(leader, run.collect);
        step.open = 1;
        let fd = ours.try_clone().map_err(|error| format!("no terminal: {error}"))?;
        step.terminal = Some((ours, Instant::now() + READ));
        return Ok(Begun { step, fds: Vec::new(), pumps: vec![Pump { fd, stderr: false }] });
    }
    let system = |error: rustix::io::Errno| format!("no pipe for the output: {error}");
    let (out_read, out_write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(system)?;
    let (err_read, err_write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(system)?;
    for pipe in [&out_read, &err_read] {
        // A larger pipe is a favour that the system may refuse.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
    }
    let streams = Streams::Pipes { stdout: out_write, stderr: err_write };
    let leader = spawn::spawn(&run.argv, &run.environ, &run.cwd, streams)?;
    let mut step = Step::led_by(leader, run.collect);
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(|error| format!("no pipe for the output: {error}"));
    if Delivery::try_from(run.delivery) == Ok(Delivery::Passed) {
        step.pipes = vec![copy(&out_read)?, copy(&err_read)?];
        return Ok(Begun { step, fds: vec![out_read, err_read], pumps: Vec::new() });
    }
    step.open = 2;
    let pumps = vec![Pump { fd: out_read, stderr: false }, Pump { fd: err_read, stderr: true }];
    Ok(Begun { step, fds: Vec::new(), pumps })
}

impl Step {
    fn led_by(leader: Pid, collect: Vec<Collect>) -> Self {
        Self {
            leader,
            since: tree::started(leader.as_raw_nonzero().get()),
            collect,
            end: None,
            ended_at: None,
            looked_at: Instant::now(),
            open: 0,
            ladder: None,
            lost: Vec::new(),
            pipes: Vec::new(),
            terminal: None,
        }
    }

    /// Its main process has ended.
    pub(super) fn ended(&mut self, status: WaitStatus, now: Instant) {
        self.end = Some(match status.terminating_signal() {
            Some(signal) => End::Signal(signal),
            None => End::Code(status.exit_status().unwrap_or(-1)),
        });
        self.ended_at = Some(now);
    }

    /// One of its streams is closed.
    pub(super) fn closed(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Who belongs to it. `others` lead other steps.
    fn members(&self, processes: &[Process], others: &HashSet<i32>) -> Vec<Process> {
        let none = HashSet::new();
        let known = self.ladder.as_ref().map_or(&none, |ladder| &ladder.known);
        tree::of_step(processes, self.leader.as_raw_nonzero().get(), self.since, known, others)
    }

    /// The leader while it has not been waited for: after that its number may belong to somebody else.
    fn living(&self) -> Option<Pid> {
        self.end.is_none().then_some(self.leader)
    }

    /// Begins to end it, unless that has begun.
    pub(super) fn cancel(
        &mut self,
        interrupt: Duration,
        terminate: Duration,
        others: &HashSet<i32>,
        now: Instant,
    ) {
        if self.ladder.is_none() {
            let members = self.members(&tree::all(), others);
            self.ladder = Some(Ladder::begin(&members, self.living(), interrupt, terminate, now));
        }
    }

    /// Whether it is being ended.
    pub(super) fn is_dying(&self) -> bool {
        self.ladder.is_some()
    }

    /// Looks after it. `Some` when it is over: then it is to be forgotten. While the way to the runner has been `full`
    /// since the last look, nothing was taken from its pipes: that time does not count against [`HELD`].
    pub(super) fn look(&mut self, others: &HashSet<i32>, now: Instant, full: bool) -> Option<Exited> {
        if full && let Some(at) = &mut self.ended_at {
            *at += now.saturating_duration_since(self.looked_at.max(*at));
        }
        self.looked_at = now;
        if let Some((terminal, next)) = &mut self.terminal
            && now >= *next
        {
            terminal::end_input(terminal);
            *next = now + READ;
        }
        if self.ladder.is_some() {
            let members = self.members(&tree::all(), others);
            let living = self.living();
            match self.ladder.as_mut()?.advance(&members, living, now) {
                Progress::Dying => return None,
                Progress::Over(lost) => self.lost = lost,
            }
            self.ladder = None;
            if self.end.is_none() {
                // Not even KILL: it hangs in the kernel.
                self.end = Some(End::Signal(9));
                self.ended_at = Some(now);
            }
        }
        let ended_at = self.ended_at?;
        let held = self.open > 0;
        if held && now < ended_at + HELD {
            return None;
        }
        Some(Exited {
            files: self.collect.iter().map(files::collect).collect(),
            output_held: held,
            lost: std::mem::take(&mut self.lost),
            end: self.end.take(),
        })
    }

    /// When it has to be looked at again at the latest.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        if self.is_dying() {
            return Some(now + super::ladder::LOOK);
        }
        let terminal = self.terminal.as_ref().map(|(_, next)| *next);
        self.ended_at.map(|at| at + HELD).into_iter().chain(terminal).min()
    }
}

/// Reads one stream and hands it on.
#[derive(Debug)]
pub(super) struct Pump {
    fd: OwnedFd,
    stderr: bool,
}

impl Pump {
    /// Runs to the end of the stream.
    pub(super) async fn run(self, id: u64, queue: mpsc::Sender<Inner>) {
        // The loop is gone only when the agent is: nobody is left to tell.
        if let Err(error) = self.copy(id, &queue).await {
            let text = format!("esteira: reading the output failed: {error}\n");
            let _ = queue.send(Inner::Output { id, stderr: true, bytes: text.into() }).await;
        }
        let _ = queue.send(Inner::Closed { id }).await;
    }

    async fn copy(self, id: u64, queue: &mpsc::Sender<Inner>) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&self.fd, true)?;
        let fd = channel::watch(self.fd)?;
        loop {
            let mut ready = fd.readable().await?;
            let mut bytes = Vec::with_capacity(PIECE);
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), spare_capacity(&mut bytes))?)) {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(_)) => {}
                // How a terminal says that nobody holds it any more.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => continue,
            }
            if queue.send(Inner::Output { id, stderr: self.stderr, bytes: bytes.into() }).await.is_err() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        time::{Duration, Instant},
    };

    use proto::agent::v1::exited::End;
    use rustix::process::Pid;

    use super::{HELD, Step};

    #[test]
    fn time_in_which_the_output_could_not_be_taken_does_not_count() {
        let start = Instant::now();
        let mut step = Step::led_by(Pid::INIT, Vec::new());
        step.end = Some(End::Code(0));
        (step.ended_at, step.looked_at, step.open) = (Some(start), start, 1);
        let nobody = HashSet::new();
        let moment = Duration::from_millis(1);
        let mut now = start + HELD.saturating_sub(moment);
        assert_eq!(step.look(&nobody, now, false), None, "it may still be written");
        now += HELD * 3;
        assert_eq!(step.look(&nobody, now, true), None, "nobody could read");
        assert_eq!(step.next_look(now), Some(now + moment));
        now += moment;
        let exited = step.look(&nobody, now, false).expect("its time is over");
        assert!(exited.output_held);
    }
}
