//! The agent's loop: one connection, the steps, the children, the clock.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proto::agent::v1::{self as wire, Chunk, Failed, Request, Swept, event::Body};
use rustix::process::WaitOptions;
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    Mode,
    channel::{self, ChannelError, Receiver, Sender},
    ladder::{LOOK, Ladder, Progress},
    outbox::Outbox,
    own_stream,
    spares::Spares,
    step::Step,
    tree,
};

/// How long the agent lives without its runner.
const ALONE: Duration = Duration::from_secs(10);

/// How long it waits for the first call: an engine may take its time between start and answer.
const UNCALLED: Duration = Duration::from_mins(1);

/// How many messages may wait between the helpers and the loop.
pub(super) const DEPTH: usize = 16;

/// What helpers (readers of pipes, threads that touch many files) tell the loop.
#[derive(Debug)]
pub(super) enum Inner {
    Output { id: u64, stderr: bool, bytes: Bytes },
    Closed { id: u64 },
    Piece { id: u64, bytes: Bytes, last: bool },
    Finished { id: u64, result: Result<Body, String> },
}

/// What woke the loop.
enum Wake {
    Children,
    Terminate,
    Called(io::Result<UnixStream>),
    Asked(Result<Option<Request>, ChannelError>),
    Sent(io::Result<usize>),
    Told(Option<Inner>),
    Clock,
}

/// What the loop works on.
pub(super) struct Agent {
    /// Sends no end of file when its runner is gone: silence counts.
    needs_pings: bool,
    alone: bool,
    pub(super) outbox: Outbox,
    /// Whether the outbox had no room when the loop last went to wait.
    full: bool,
    pub(super) steps: HashMap<u64, Step>,
    pub(super) spares: Spares,
    pub(super) unpacking: HashMap<u64, mpsc::Sender<Bytes>>,
    pub(super) helpers: JoinSet<()>,
    pub(super) queue: mpsc::Sender<Inner>,
    pub(super) tracking_id: String,
    sweep: Option<Sweep>,
    pub(super) last_request: u64,
    /// When the runner was last heard, or this process began.
    heard: Instant,
    pub(super) leaving: bool,
}

/// The end of everything that the job has started.
struct Sweep {
    id: Option<u64>,
    ladder: Ladder,
    ended: Vec<String>,
}

/// Serves until the job is over.
pub(super) async fn run(mode: Mode) -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut children = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Whoever presses ^C means the runner, and the runner tells.
    let _interrupt = signal(SignalKind::interrupt())?;
    let _hangup = signal(SignalKind::hangup())?;
    let needs_pings = matches!(mode, Mode::Stdio);
    let (listener, mut connection) = match &mode {
        Mode::Listen(path) => (Some(listen(path)?), None),
        Mode::Socket => (None, Some(channel::over_socket(own_stream(io::stdin())?)?)),
        Mode::Stdio => {
            (None, Some(channel::over_pipes(own_stream(io::stdin())?, own_stream(io::stdout())?)?))
        }
    };
    let (queue, mut told) = mpsc::channel(DEPTH);
    let mut agent = Agent {
        needs_pings,
        alone: connection.is_none(),
        outbox: Outbox::default(),
        full: false,
        steps: HashMap::new(),
        spares: Spares::default(),
        unpacking: HashMap::new(),
        helpers: JoinSet::new(),
        queue,
        tracking_id: String::new(),
        sweep: None,
        last_request: 0,
        heard: Instant::now() + UNCALLED.saturating_sub(ALONE),
        leaving: false,
    };
    loop {
        while agent.helpers.try_join_next().is_some() {}
        agent.look(Instant::now())?;
        if agent.leaving && (connection.is_none() || agent.outbox.is_sent()) {
            return Ok(());
        }
        let deadline = agent.deadline(Instant::now());
        let room = agent.outbox.has_room();
        let wake = {
            let front = agent.outbox.front();
            let (sender, receiver) = match &mut connection {
                Some((sender, receiver)) => (Some(&*sender), Some(receiver)),
                None => (None, None),
            };
            tokio::select! {
                _ = children.recv() => Wake::Children,
                _ = terminate.recv() => Wake::Terminate,
                called = accept(listener.as_ref()), if receiver.is_none() && listener.is_some() => Wake::Called(called),
                asked = next(receiver) => Wake::Asked(asked),
                sent = send(sender, front) => Wake::Sent(sent),
                inner = told.recv(), if room => Wake::Told(inner),
                () = tokio::time::sleep_until(deadline.into()) => Wake::Clock,
            }
        };
        let now = Instant::now();
        match wake {
            Wake::Children => agent.reap(now),
            Wake::Terminate => agent.begin_sweep(None, Duration::ZERO, Duration::from_secs(5), now),
            Wake::Called(stream) => {
                connection = Some(channel::over_socket(stream?.into_std()?.into())?);
                agent.connected(now);
            }
            Wake::Asked(Ok(Some(request))) => {
                agent.heard = now;
                agent.asked(request, now).await?;
            }
            // Closed, broken or unintelligible: the runner may call again, where it can.
            Wake::Asked(Ok(None) | Err(_)) | Wake::Sent(Err(_)) => {
                connection = None;
                agent.alone = true;
                agent.outbox.rewind();
            }
            Wake::Sent(Ok(bytes)) => {
                agent.outbox.advance(bytes);
                if agent.outbox.is_sent() && !agent.steps.is_empty() {
                    // The runner knows that the process has started, and waits for it.
                    agent.spares.refill();
                }
            }
            Wake::Told(Some(inner)) => agent.told(inner)?,
            Wake::Told(None) | Wake::Clock => {}
        }
    }
}

/// Binds the socket so that a runner of another user can call: its folder is open to the runner alone.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

async fn accept(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn next(receiver: Option<&mut Receiver>) -> Result<Option<Request>, ChannelError> {
    match receiver {
        Some(receiver) => receiver.next().await,
        None => std::future::pending().await,
    }
}

async fn send(sender: Option<&Sender>, front: Option<(&[u8], &[std::os::fd::OwnedFd])>) -> io::Result<usize> {
    match (sender, front) {
        (Some(sender), Some((bytes, fds))) => sender.send(bytes, fds).await,
        _ => std::future::pending().await,
    }
}

impl Agent {
    fn connected(&mut self, now: Instant) {
        self.alone = false;
        self.heard = now;
        self.outbox.rewind();
    }

    /// Waits for every child that has ended, adopted ones too.
    fn reap(&mut self, now: Instant) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if let Some(step) = self.steps.values_mut().find(|step| step.leader == pid) {
                step.ended(status, now);
            }
        }
    }

    /// The pids that lead steps, without that of `id`.
    pub(super) fn others(&self, id: u64) -> HashSet<i32> {
        self.steps
            .iter()
            .filter(|(other, _)| **other != id)
            .map(|(_, step)| step.leader.as_raw_nonzero().get())
            .collect()
    }

    /// Looks after everything that has a clock.
    fn look(&mut self, now: Instant) -> io::Result<()> {
        let full = std::mem::replace(&mut self.full, !self.outbox.has_room());
        let ids: Vec<u64> = self.steps.keys().copied().collect();
        for id in ids {
            let others = self.others(id);
            if let Some(exited) = self.steps.get_mut(&id).and_then(|step| step.look(&others, now, full)) {
                self.steps.remove(&id);
                self.tell(id, Body::Exited(exited))?;
            }
        }
        if let Some(mut sweep) = self.sweep.take() {
            let members = self.job();
            match sweep.ladder.advance(&members, None, now) {
                Progress::Dying => self.sweep = Some(sweep),
                Progress::Over(lost) => match sweep.id {
                    Some(id) => self.tell(id, Body::Swept(Swept { ended: sweep.ended, lost }))?,
                    None => self.leaving = true,
                },
            }
        }
        if self.is_abandoned(now) {
            let ladder = crate::backend::Ladder::default();
            self.begin_sweep(None, ladder.interrupt, ladder.terminate, now);
        }
        Ok(())
    }

    fn is_abandoned(&self, now: Instant) -> bool {
        (self.alone || self.needs_pings) && self.sweep.is_none() && !self.leaving && now >= self.heard + ALONE
    }

    fn deadline(&self, now: Instant) -> Instant {
        let idle = now + Duration::from_hours(1);
        let steps = self.steps.values().filter_map(|step| step.next_look(now));
        let sweep = self.sweep.as_ref().map(|_| now + LOOK);
        let watch = (self.alone || self.needs_pings) && self.sweep.is_none();
        let silence = watch.then(|| self.heard + ALONE);
        steps.chain(sweep).chain(silence).fold(idle, Instant::min)
    }

    fn job(&self) -> Vec<tree::Process> {
        tree::of_job(&tree::all(), &self.tracking_id, std::process::id() == 1)
    }

    pub(super) fn begin_sweep(
        &mut self,
        id: Option<u64>,
        interrupt: Duration,
        terminate: Duration,
        now: Instant,
    ) {
        let members = self.job();
        let ladder = Ladder::begin(&members, None, interrupt, terminate, now);
        self.sweep = Some(Sweep { id, ladder, ended: tree::names(&members) });
    }

    pub(super) fn tell(&mut self, id: u64, body: Body) -> io::Result<()> {
        self.outbox.push(id, body, Vec::new()).map_err(io::Error::other)
    }

    pub(super) fn answer(&mut self, id: u64, result: Result<Body, String>) -> io::Result<()> {
        self.tell(id, result.unwrap_or_else(|reason| Body::Failed(Failed { reason })))
    }

    fn told(&mut self, inner: Inner) -> io::Result<()> {
        match inner {
            Inner::Output { id, stderr, bytes } => {
                // Whoever held the output beyond its time has no reader any more; the pipe is emptied all the same.
                if self.steps.contains_key(&id) {
                    self.tell(id, Body::Output(wire::Output { stderr, bytes }))?;
                }
            }
            Inner::Closed { id } => {
                if let Some(step) = self.steps.get_mut(&id) {
                    step.closed();
                }
            }
            Inner::Piece { id, bytes, last } => self.tell(id, Body::Chunk(Chunk { bytes, last }))?,
            Inner::Finished { id, result } => {
                self.unpacking.remove(&id);
                self.answer(id, result)?;
            }
        }
        Ok(())
    }
}
