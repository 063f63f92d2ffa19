//! What the runner asks of the agent, one request at a time.

use std::{
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proto::agent::v1::{
    self as wire, Digest, Done, Hello, Pong, Request, Started, event::Body, exited, request::Body as Asked,
};
use tokio::sync::mpsc;

use super::{
    archive, files, hash, reach,
    serve::{Agent, DEPTH, Inner},
    step,
};

impl Agent {
    /// Does what is asked, or begins it.
    pub(super) async fn asked(&mut self, request: Request, now: Instant) -> io::Result<()> {
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
