//! Passed pipes: the output of a process, read by the runner itself.

use std::{io, os::fd::OwnedFd};

use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::LinkError;
use crate::backend::Stream;

/// The passed pipes of one process.
pub(super) struct Pipes {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    out: BytesMut,
    err: BytesMut,
}

impl Pipes {
    /// `None` when the output comes in frames.
    pub(super) fn open(fds: Vec<OwnedFd>) -> Result<Option<Self>, LinkError> {
        let mut fds = fds.into_iter();
        let (Some(stdout), Some(stderr)) = (fds.next(), fds.next()) else { return Ok(None) };
        let open = |fd| {
            pipe::Receiver::from_owned_fd(fd)
                .map(Some)
                .map_err(|error| LinkError::Local("a passed pipe".to_owned(), error))
        };
        Ok(Some(Self {
            stdout: open(stdout)?,
            stderr: open(stderr)?,
            out: BytesMut::new(),
            err: BytesMut::new(),
        }))
    }

    /// Whether nothing is waiting to be read.
    pub(super) fn are_empty(&self) -> bool {
        let waiting = |pipe: &pipe::Receiver| rustix::io::ioctl_fionread(pipe).unwrap_or(0) > 0;
        ![&self.stdout, &self.stderr].into_iter().flatten().any(waiting)
    }

    /// The next piece of either; `None` when both are closed.
    pub(super) async fn next(&mut self) -> Option<(Stream, Bytes)> {
        loop {
            let (stream, read) = match (&mut self.stdout, &mut self.stderr) {
                (None, None) => return None,
                (Some(out), None) => (Stream::Stdout, take(out, &mut self.out).await),
                (None, Some(err)) => (Stream::Stderr, take(err, &mut self.err).await),
                (Some(out), Some(err)) => tokio::select! {
                    read = take(out, &mut self.out) => (Stream::Stdout, read),
                    read = take(err, &mut self.err) => (Stream::Stderr, read),
                },
            };
            // A pipe that cannot be read is as good as closed.
            match (read.ok().filter(|bytes| !bytes.is_empty()), stream) {
                (Some(bytes), stream) => return Some((stream, bytes)),
                (None, Stream::Stdout) => self.stdout = None,
                (None, Stream::Stderr) => self.stderr = None,
            }
        }
    }
}

async fn take(pipe: &mut pipe::Receiver, buffer: &mut BytesMut) -> io::Result<Bytes> {
    buffer.reserve(64 << 10);
    pipe.read_buf(buffer).await?;
    Ok(buffer.split().freeze())
}
