//! The runner's end of the agent's connection: requests out, events in, one process at a time or many.
//!
//! Two tasks carry the frames; both end with the [`Link`]. A connection that breaks answers every waiting request with
//! [`LinkError::Lost`]; who owns the place adds the engine's reason.

mod carry;
mod pipes;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::OwnedFd,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use proto::agent::v1::{
    self as wire, Request, collected, event::Body as Told, exited, request::Body as Asked,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use carry::{receive_attached, receive_socket, send_attached, send_socket};
use pipes::Pipes;

use super::{Collected, ExecOutcome, ExecSpec, Exit, FileIn, FileOut, Ladder, Output, Stream};
use crate::{
    agent::{archive::PIECE, channel, frame},
    cancel::Cancel,
};

/// How many requests may wait to be sent.
const DEPTH: usize = 16;

/// How many events of one request may wait to be taken.
const ANSWERS: usize = 64;

/// How long the first answer may take.
const HELLO: Duration = Duration::from_secs(10);

/// How long passed output may stay open after its process has ended.
const HELD: Duration = Duration::from_secs(5);

/// How long the end of a pipe that is empty may take to be seen.
const CLOSING: Duration = Duration::from_millis(100);

/// More than two pipes hold, in bytes: what comes later than [`HELD`] beyond it is a background process's own.
const MOST_HELD: usize = 4 << 20;

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The connection is gone. One sentence.
    #[error("{0}")]
    Lost(String),
    /// The agent says why not. One sentence.
    #[error("{0}")]
    Failed(String),
    /// A file of the runner's own.
    #[error("{0}: {1}")]
    Local(String, io::Error),
}

/// How frames travel.
pub(super) enum Connection {
    /// A unix socket; output comes as passed pipes.
    Socket(OwnedFd),
    /// An engine's attach; output comes in frames.
    Attached(bollard::container::AttachContainerResults),
}

#[derive(Debug)]
struct Answer {
    body: Told,
    fds: Vec<OwnedFd>,
}

#[derive(Debug, Default)]
struct Routes {
    waiting: Mutex<HashMap<u64, mpsc::Sender<Answer>>>,
    /// Set once, before the routes are closed.
    lost: OnceLock<String>,
}

/// A connection to one agent.
#[derive(Debug)]
pub(super) struct Link {
    requests: mpsc::Sender<Request>,
    routes: Arc<Routes>,
    next: AtomicU64,
    delivery: wire::Delivery,
    hello: wire::Hello,
    _carriers: JoinSet<()>,
}

/// The answers to one request; forgets the route when it is dropped.
struct Call<'a> {
    id: u64,
    link: &'a Link,
    answers: mpsc::Receiver<Answer>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        lock(&self.link.routes.waiting).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The map is whole after every statement that holds the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Takes up a connection and waits for the agent's hello.
    pub(super) async fn open(
        connection: Connection,
        tracking_id: &str,
        folders: Vec<String>,
    ) -> Result<Self, LinkError> {
        let (requests, queue) = mpsc::channel(DEPTH);
        let routes = Arc::new(Routes::default());
        let mut carriers = JoinSet::new();
        let (taken, acknowledge) = watch::channel(0);
        let delivery = match connection {
            Connection::Socket(fd) => {
                let (sender, receiver) = channel::over_socket(fd)
                    .map_err(|error| LinkError::Lost(format!("the agent's socket: {error}")))?;
                carriers.spawn(receive_socket(receiver, Arc::clone(&routes), taken));
                carriers.spawn(send_socket(sender, queue, acknowledge, Arc::clone(&routes)));
                wire::Delivery::Passed
            }
            Connection::Attached(attached) => {
                carriers.spawn(receive_attached(attached.output, Arc::clone(&routes), taken));
                carriers.spawn(send_attached(attached.input, queue, acknowledge, Arc::clone(&routes)));
                wire::Delivery::Framed
            }
        };
        let mut link = Self {
            requests,
            routes,
            next: AtomicU64::new(1),
            delivery,
            hello: wire::Hello::default(),
            _carriers: carriers,
        };
        let attach = wire::Attach { tracking_id: tracking_id.to_owned(), folders };
        let hello = {
            let mut call = link.call(Asked::Attach(attach)).await?;
            match tokio::time::timeout(HELLO, call.next()).await {
                Ok(Ok(Answer { body: Told::Hello(hello), .. })) => hello,
                Ok(Ok(_)) => return Err(LinkError::Lost("the agent did not say hello".to_owned())),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(LinkError::Lost("the agent did not answer within 10 s".to_owned())),
            }
        };
        link.hello = hello;
        Ok(link)
    }

    /// What the agent found.
    pub(super) const fn hello(&self) -> &wire::Hello {
        &self.hello
    }

    /// The agent's environment; entries that are no UTF-8 are left out, since no expression could show them.
    pub(super) fn environ(&self) -> BTreeMap<String, String> {
        self.hello
            .environ
            .iter()
            .filter_map(|entry| {
                let (name, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect()
    }

    fn lost(&self) -> LinkError {
        let reason = self.routes.lost.get().map_or("the connection to the agent is closed", String::as_str);
        LinkError::Lost(reason.to_owned())
    }

    async fn send(&self, id: u64, body: Asked) -> Result<(), LinkError> {
        let request = Request { id, acknowledged: 0, body: Some(body) };
        self.requests.send(request).await.map_err(|_| self.lost())
    }

    async fn call(&self, body: Asked) -> Result<Call<'_>, LinkError> {
        let (sender, answers) = mpsc::channel(ANSWERS);
        let id = {
            // Number and route under one lock; the queue keeps the order of one caller, and the agent tells a
            // repeated number from a new one only when they ascend, so the lock is held until it is queued.
            let permit = self.requests.reserve().await.map_err(|_| self.lost())?;
            let mut waiting = lock(&self.routes.waiting);
            if self.routes.lost.get().is_some() {
                return Err(self.lost());
            }
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            waiting.insert(id, sender);
            permit.send(Request { id, acknowledged: 0, body: Some(body) });
            id
        };
        Ok(Call { id, link: self, answers })
    }

    /// Runs one process to its end, with a `terminal` or pipes; see [`super::JobEnv::exec`].
    pub(super) async fn exec<O: Output>(
        &self,
        mut spec: ExecSpec,
        terminal: bool,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<ExecOutcome, LinkError> {
        refuse_too_large(&spec.files)?;
        if terminal {
            // As an engine does for its own terminals.
            spec.env.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
        }
        let environ = spec.env.iter().map(|(name, value)| Bytes::from(format!("{name}={value}"))).collect();
        let run = wire::Run {
            argv: spec.argv,
            environ,
            cwd: spec.cwd,
            files: spec.files.into_iter().map(file_in).collect(),
            collect: spec.collect.into_iter().map(file_out).collect(),
            delivery: self.delivery.into(),
            terminal,
        };
        let call = self.call(Asked::Run(run)).await?;
        let id = call.id;
        let canceller = async {
            cancel.cancelled().await;
            // When this fails the connection is gone, and the other arm says so.
            let _ = self.send(id, Asked::Cancel(cancel_of(id, spec.ladder))).await;
            std::future::pending::<()>().await;
        };
        let process = pin!(follow(call, output));
        tokio::select! {
            outcome = process => outcome,
            () = canceller => Err(self.lost()),
        }
    }

    /// Writes files.
    pub(super) async fn write(&self, files: Vec<FileIn>) -> Result<(), LinkError> {
        refuse_too_large(&files)?;
        let write = wire::Write { files: files.into_iter().map(file_in).collect() };
        self.call(Asked::Write(write)).await?.done().await
    }

    /// See [`super::JobEnv::unpack`].
    pub(super) async fn unpack(&self, archive: &Path, into: &str) -> Result<(), LinkError> {
        let local = |error| LinkError::Local(format!("cannot read {}", archive.display()), error);
        let mut file = tokio::fs::File::open(archive).await.map_err(local)?;
        let mut call = self.call(Asked::Unpack(wire::Unpack { into: into.to_owned() })).await?;
        loop {
            let mut bytes = BytesMut::with_capacity(PIECE);
            let read = (&mut file).take(PIECE as u64).read_buf(&mut bytes).await.map_err(local)?;
            self.send(call.id, Asked::Chunk(wire::Chunk { bytes: bytes.freeze(), last: read == 0 })).await?;
            if read == 0 {
                return call.done().await;
            }
            if let Ok(answer) = call.answers.try_recv() {
                // It has failed early; the rest is of no use.
                return done(answer);
            }
        }
    }

    /// See [`super::JobEnv::pack`].
    pub(super) async fn pack(&self, folder: &str, into: &Path) -> Result<(), LinkError> {
        let local = |error| LinkError::Local(format!("cannot write {}", into.display()), error);
        let mut file = tokio::fs::File::create(into).await.map_err(local)?;
        let mut call = self.call(Asked::Pack(wire::Pack { folder: folder.to_owned() })).await?;
        loop {
            match call.next().await?.body {
                Told::Chunk(chunk) => {
                    file.write_all(&chunk.bytes).await.map_err(local)?;
                    if chunk.last {
                        return file.flush().await.map_err(local);
                    }
                }
                Told::Failed(failed) => return Err(LinkError::Failed(failed.reason)),
                _ => return Err(unexpected()),
            }
        }
    }

    /// See [`super::JobEnv::read`].
    pub(super) async fn read(&self, file: FileOut) -> Result<Collected, LinkError> {
        match self.call(Asked::Read(wire::Read { file: Some(file_out(file)) })).await?.next().await?.body {
            Told::Content(content) => Ok(collected(content)),
            _ => Err(unexpected()),
        }
    }

    /// See [`super::JobEnv::hash_files`].
    pub(super) async fn hash_files(
        &self,
        workspace: &str,
        patterns: Vec<String>,
        follow_links: bool,
    ) -> Result<String, LinkError> {
        let ask = wire::HashFiles { workspace: workspace.to_owned(), patterns, follow_links };
        match self.call(Asked::HashFiles(ask)).await?.next().await?.body {
            Told::Digest(digest) => Ok(digest.hex),
            Told::Failed(failed) => Err(LinkError::Failed(failed.reason)),
            _ => Err(unexpected()),
        }
    }

    /// Waits until something listens on an address; answers with the ports that stay closed.
    pub(super) async fn reach(&self, ask: wire::Reach) -> Result<wire::Reached, LinkError> {
        match self.call(Asked::Reach(ask)).await?.next().await?.body {
            Told::Reached(reached) => Ok(reached),
            Told::Failed(failed) => Err(LinkError::Failed(failed.reason)),
            _ => Err(unexpected()),
        }
    }

    /// Whether a TCP port answers the agent, now; `None` when the agent cannot be asked.
    pub(super) async fn reaches(&self, address: std::net::IpAddr, port: u16) -> Option<bool> {
        let ask =
            wire::Reach { address: address.to_string(), ports: vec![port.into()], any: false, limit_ms: 0 };
        // Whoever uses the link next says that it is gone.
        let reached = self.reach(ask).await.ok()?;
        Some(reached.closed.is_empty() && !reached.unreachable)
    }

    /// Ends what the job still runs: names of what was ended, and of what could not be.
    pub(super) async fn sweep(&self, ladder: Ladder) -> Result<(Vec<String>, Vec<String>), LinkError> {
        let cancel = cancel_of(0, ladder);
        let sweep = wire::Sweep { interrupt_ms: cancel.interrupt_ms, terminate_ms: cancel.terminate_ms };
        match self.call(Asked::Sweep(sweep)).await?.next().await?.body {
            Told::Swept(swept) => Ok((swept.ended, swept.lost)),
            _ => Err(unexpected()),
        }
    }

    /// Lets the agent go.
    pub(super) async fn shutdown(&self) -> Result<(), LinkError> {
        self.call(Asked::Shutdown(wire::Shutdown {})).await?.done().await
    }
}

impl Call<'_> {
    async fn next(&mut self) -> Result<Answer, LinkError> {
        self.answers.recv().await.ok_or_else(|| self.link.lost())
    }

    async fn done(&mut self) -> Result<(), LinkError> {
        done(self.next().await?)
    }
}

fn done(answer: Answer) -> Result<(), LinkError> {
    match answer.body {
        Told::Done(_) => Ok(()),
        Told::Failed(failed) => Err(LinkError::Failed(failed.reason)),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> LinkError {
    LinkError::Lost("the agent gave an answer that fits no question".to_owned())
}

fn cancel_of(run: u64, ladder: Ladder) -> wire::Cancel {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    wire::Cancel {
        run,
        interrupt_ms: milliseconds(ladder.interrupt),
        terminate_ms: milliseconds(ladder.terminate),
    }
}

fn file_in(file: FileIn) -> wire::File {
    wire::File { path: file.path, mode: file.mode, content: file.bytes }
}

fn file_out(file: FileOut) -> wire::Collect {
    wire::Collect { path: file.path, limit: file.limit, within: file.within.unwrap_or_default() }
}

fn collected(file: wire::Collected) -> Collected {
    match file.end {
        Some(collected::End::Content(bytes)) => Collected::Content(bytes),
        Some(collected::End::TooLarge(length)) => Collected::TooLarge(length),
        Some(collected::End::Refused(reason)) => Collected::Refused(reason),
        Some(collected::End::Missing(_)) | None => Collected::Missing,
    }
}

/// Hands on the output of a process until it has ended and its output is closed (or let go).
async fn follow<O: Output>(mut call: Call<'_>, output: &mut O) -> Result<ExecOutcome, LinkError> {
    let mut pipes: Option<Pipes> = None;
    let exited = loop {
        let answer = match &mut pipes {
            None => call.next().await?,
            Some(open) => tokio::select! {
                answer = call.next() => answer?,
                piece = open.next() => {
                    match piece {
                        Some((stream, bytes)) => output.write(stream, &bytes).await,
                        None => pipes = None,
                    }
                    continue;
                }
            },
        };
        match answer.body {
            Told::Started(_) => pipes = Pipes::open(answer.fds)?,
            Told::Output(piece) => {
                let stream = if piece.stderr { Stream::Stderr } else { Stream::Stdout };
                output.write(stream, &piece.bytes).await;
            }
            Told::Exited(exited) => break exited,
            _ => return Err(unexpected()),
        }
    };
    let output_held = match pipes {
        Some(open) => exited.output_held | drain(open, output).await,
        None => exited.output_held,
    };
    let exit = match exited.end {
        Some(exited::End::Code(code)) => Exit::Code(code),
        Some(exited::End::Signal(signal)) => Exit::Signal(signal),
        Some(exited::End::NotStarted(reason)) => Exit::NotStarted(reason),
        None => return Err(unexpected()),
    };
    let files = exited.files.into_iter().map(collected).collect();
    Ok(ExecOutcome { exit, files, output_held, lost: exited.lost })
}

/// Hands on what is left in the pipes of a process that has ended. Answers whether somebody else still holds them.
///
/// Only waiting counts against [`HELD`]: what stands in a pipe is taken however slow the far side is.
async fn drain<O: Output>(mut open: Pipes, output: &mut O) -> bool {
    let deadline = Instant::now() + HELD;
    let mut taken = 0;
    loop {
        let late = Instant::now() >= deadline;
        if late && taken >= MOST_HELD {
            return true;
        }
        // What the process itself has written stands in the pipe; its end may still have to be seen.
        let last = late && open.are_empty();
        let next = if late && !last {
            Ok(open.next().await)
        } else {
            timeout_at(if last { Instant::now() + CLOSING } else { deadline }, open.next()).await
        };
        match next {
            Ok(None) => return false,
            Ok(Some((stream, bytes))) => {
                taken += bytes.len();
                output.write(stream, &bytes).await;
            }
            Err(_) => {}
        }
        if last {
            return true;
        }
    }
}

/// A frame over the limit would cost the connection: it is refused before.
fn refuse_too_large(files: &[FileIn]) -> Result<(), LinkError> {
    const SPARE: usize = 1 << 20;
    let length: usize = files.iter().map(|file| file.bytes.len() + file.path.len()).sum();
    if length > frame::LIMIT - SPARE {
        return Err(LinkError::Failed(format!(
            "the files of one step are {length} bytes, over what an agent takes"
        )));
    }
    Ok(())
}
