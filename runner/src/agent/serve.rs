//! The agent's loop: one connection, the steps, the children, the clock.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proto::agent::v1::{
    self as wire, Chunk, Digest, Done, Failed, Hello, Pong, Request, Started, Swept, event::Body, exited,
    request::Body as Asked,
};
use rustix::process::WaitOptions;
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    Mode, archive,
    channel::{self, ChannelError, Receiver, Sender},
    files, hash,
    ladder::{LOOK, Ladder, Progress},
    outbox::Outbox,
    own_stream, reach,
    spares::Spares,
    step::{self, Step},
    tree,
};

/// How long the agent lives without its runner.
const ALONE: Duration = Duration::from_secs(10);

/// How long it waits for the first call: an engine may take its time between start and answer.
const UNCALLED: Duration = Duration::from_mins(1);

/// How many messages may wait between the helpers and the loop.
const DEPTH: usize = 16;

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
struct Agent {
    /// Sends no end of file when its runner is gone: silence counts.
    needs_pings: bool,
    alone: bool,
    outbox: Outbox,
    /// Whether the outbox had no room when the loop last went to wait.
    full: bool,
    steps: HashMap<u64, Step>,
    spares: Spares,
    unpacking: HashMap<u64, mpsc::Sender<Bytes>>,
    helpers: JoinSet<()>,
    queue: mpsc::Sender<Inner>,
    tracking_id: String,
    sweep: Option<Sweep>,
    last_request: u64,
    /// When the runner was last heard, or this process began.
    heard: Instant,
    leaving: bool,
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
    fn others(&self, id: u64) -> HashSet<i32> {
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

    fn begin_sweep(&mut self, id: Option<u64>, interrupt: Duration, terminate: Duration, now: Instant) {
        let members = self.job();
        let ladder = Ladder::begin(&members, None, interrupt, terminate, now);
        self.sweep = Some(Sweep { id, ladder, ended: tree::names(&members) });
    }

    fn tell(&mut self, id: u64, body: Body) -> io::Result<()> {
        self.outbox.push(id, body, Vec::new()).map_err(io::Error::other)
    }

    fn answer(&mut self, id: u64, result: Result<Body, String>) -> io::Result<()> {
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

    async fn asked(&mut self, request: Request, now: Instant) -> io::Result<()> {
        let Request { id, acknowledged, body } = request;
        self.outbox.acknowledge(acknowledged);
        let Some(body) = body else { return Ok(()) };
        let begins = !matches!(body, Asked::Attach(_) | Asked::Ping(_) | Asked::Chunk(_) | Asked::Cancel(_));
        if begins {
            if id <= self.last_request {
                // Sent again after a lost connection: it is being done.
                return Ok(());
            }
            self.last_request = id;
        }
        match body {
            Asked::Attach(attach) => self.attach(id, attach),
            Asked::Ping(_) => self.outbox.push_urgent(id, Body::Pong(Pong {})).map_err(io::Error::other),
            Asked::Run(run) => self.run(id, run),
            Asked::Cancel(cancel) => {
                let others = self.others(cancel.run);
                if let Some(step) = self.steps.get_mut(&cancel.run) {
                    let interrupt = Duration::from_millis(cancel.interrupt_ms);
                    let terminate = Duration::from_millis(cancel.terminate_ms);
                    step.cancel(interrupt, terminate, &others, now);
                }
                Ok(())
            }
            Asked::Write(write) => {
                let result = write.files.iter().try_for_each(|file| files::write(file, &mut self.spares));
                self.answer(id, result.map(|()| Body::Done(Done {})))
            }
            Asked::Read(read) => {
                let file = read.file.unwrap_or_default();
                self.tell(id, Body::Content(files::collect(&file)))
            }
            Asked::Unpack(unpack) => {
                let (pieces, queue) = mpsc::channel(DEPTH);
                self.unpacking.insert(id, pieces);
                self.help(id, move || {
                    let stream = archive::Pieces { queue, current: Bytes::new() };
                    archive::unpack(io::BufReader::new(stream), Path::new(&unpack.into))
                        .map(|()| Body::Done(Done {}))
                });
                Ok(())
            }
            Asked::Chunk(chunk) => {
                if let Some(pieces) = self.unpacking.get(&id) {
                    // Closed when unpacking has failed: its answer is on the way.
                    let _ = pieces.send(chunk.bytes).await;
                }
                if chunk.last {
                    self.unpacking.remove(&id);
                }
                Ok(())
            }
            Asked::Pack(pack) => {
                let queue = self.queue.clone();
                self.help_with(id, move || {
                    let hand = |bytes| {
                        queue
                            .blocking_send(Inner::Piece { id, bytes, last: false })
                            .map_err(|_| io::Error::other("the agent is leaving"))
                    };
                    let packed = archive::pack(Path::new(&pack.folder), archive::Cutter::new(hand));
                    packed.map(|()| Inner::Piece { id, bytes: Bytes::new(), last: true })
                });
                Ok(())
            }
            Asked::HashFiles(ask) => {
                self.help(id, move || {
                    hash::hash(&ask.workspace, &ask.patterns, ask.follow_links)
                        .map(|hex| Body::Digest(Digest { hex }))
                });
                Ok(())
            }
            Asked::Reach(ask) => {
                let queue = self.queue.clone();
                self.helpers.spawn(async move {
                    let inner = Inner::Finished { id, result: reach::reach(ask).await };
                    // Nobody to tell: the agent is leaving.
                    let _ = queue.send(inner).await;
                });
                Ok(())
            }
            Asked::Sweep(sweep) => {
                let interrupt = Duration::from_millis(sweep.interrupt_ms);
                self.begin_sweep(Some(id), interrupt, Duration::from_millis(sweep.terminate_ms), now);
                Ok(())
            }
            Asked::Shutdown(_) => {
                self.leaving = true;
                self.tell(id, Body::Done(Done {}))
            }
        }
    }

    fn attach(&mut self, id: u64, attach: wire::Attach) -> io::Result<()> {
        self.tracking_id = attach.tracking_id;
        let unwritable =
            attach.folders.into_iter().filter(|folder| !files::usable(Path::new(folder))).collect();
        let environ = std::env::vars_os()
            .map(|(name, value)| {
                let mut entry = name.as_bytes().to_vec();
                entry.push(b'=');
                entry.extend_from_slice(value.as_bytes());
                entry.into()
            })
            .collect();
        let hello = Hello {
            executable: super::fingerprint(Path::new("/proc/self/exe")).unwrap_or_default(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            pid: std::process::id(),
            environ,
            machine: rustix::system::uname().machine().to_string_lossy().into_owned(),
            unwritable,
        };
        self.outbox.push_urgent(id, Body::Hello(hello)).map_err(io::Error::other)
    }

    fn run(&mut self, id: u64, run: wire::Run) -> io::Result<()> {
        let collect = run.collect.clone();
        match step::begin(run, &mut self.spares) {
            Ok(begun) => {
                let started = Started { pid: begun.step.leader.as_raw_nonzero().get().unsigned_abs() };
                self.outbox.push(id, Body::Started(started), begun.fds).map_err(io::Error::other)?;
                for pump in begun.pumps {
                    self.helpers.spawn(pump.run(id, self.queue.clone()));
                }
                self.steps.insert(id, begun.step);
                Ok(())
            }
            Err(reason) => {
                let files = collect.iter().map(files::collect).collect();
                let end = Some(exited::End::NotStarted(reason));
                self.tell(id, Body::Exited(wire::Exited { end, files, ..Default::default() }))
            }
        }
    }

    /// Does work that touches many files beside the loop.
    fn help(&mut self, id: u64, work: impl FnOnce() -> Result<Body, String> + Send + 'static) {
        self.help_with(id, move || Ok(Inner::Finished { id, result: work() }));
    }

    fn help_with(&mut self, id: u64, work: impl FnOnce() -> Result<Inner, String> + Send + 'static) {
        let queue = self.queue.clone();
        self.helpers.spawn_blocking(move || {
            let inner = work().unwrap_or_else(|reason| Inner::Finished { id, result: Err(reason) });
            // Nobody to tell: the agent is leaving.
            let _ = queue.blocking_send(inner);
        });
    }
}
