//! The bytes under the frames: a connected unix socket (which also carries file descriptors) or a pair of pipes.
//!
//! Used by the agent and by the runner's end, without threads of their own.

use std::{
    collections::VecDeque,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use bytes::BytesMut;
use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::unix::AsyncFd;

use super::frame::{Decoder, FrameError};

/// How much is read at once.
const PIECE: usize = 16 << 10;

/// A frame carries at most this many file descriptors.
const FDS: usize = 2;

/// Why a connection ended, but by being closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// The operating system's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side does not speak frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Receiver {
    fd: Arc<AsyncFd<OwnedFd>>,
    socket: bool,
    decoder: Decoder,
    passed: VecDeque<OwnedFd>,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct Sender {
    fd: Arc<AsyncFd<OwnedFd>>,
    socket: bool,
}

/// Both halves over a connected unix socket.
pub(crate) fn over_socket(fd: OwnedFd) -> io::Result<(Sender, Receiver)> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    let fd = Arc::new(watch(fd)?);
    Ok((
        Sender { fd: Arc::clone(&fd), socket: true },
        Receiver { fd, socket: true, decoder: Decoder::default(), passed: VecDeque::new() },
    ))
}

/// Both halves over two pipes (or whatever an engine has made the standard streams of).
pub(crate) fn over_pipes(input: OwnedFd, output: OwnedFd) -> io::Result<(Sender, Receiver)> {
    rustix::io::ioctl_fionbio(&input, true)?;
    rustix::io::ioctl_fionbio(&output, true)?;
    Ok((
        Sender { fd: Arc::new(watch(output)?), socket: false },
        Receiver {
            fd: Arc::new(watch(input)?),
            socket: false,
            decoder: Decoder::default(),
            passed: VecDeque::new(),
        },
    ))
}

impl Receiver {
    /// The next message; `None` when the other side has closed. Cancelling the wait loses nothing.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, ChannelError> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(Some(message));
            }
            let mut ready = self.fd.readable().await?;
            let space = self.decoder.space();
            let socket = self.socket;
            let passed = &mut self.passed;
            match ready.try_io(|fd| {
                if socket { receive(fd.get_ref(), space, passed) } else { read(fd.get_ref(), space) }
            }) {
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Ok(Err(error)) => return Err(error.into()),
                Err(_would_block) => {}
            }
        }
    }

    /// A file descriptor that came with the message just read.
    pub(crate) fn passed(&mut self) -> Option<OwnedFd> {
        self.passed.pop_front()
    }
}

impl Sender {
    /// Sends some of `bytes`, and all of `fds` with the first of them; answers how many bytes went out.
    /// Cancelling the wait sends nothing.
    pub(crate) async fn send(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
        loop {
            let mut ready = self.fd.writable().await?;
            let socket = self.socket;
            let sent = ready.try_io(|fd| {
                if socket {
                    pass(fd.get_ref(), bytes, fds)
                } else {
                    Ok(rustix::io::write(fd.get_ref(), bytes)?)
                }
            });
            if let Ok(result) = sent {
                return result;
            }
        }
    }

    /// Sends a whole frame.
    pub(crate) async fn send_all(&self, mut bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let mut fds = fds;
        while !bytes.is_empty() {
            let sent = self.send(bytes, fds).await?;
            bytes = &bytes[sent..];
            fds = &[];
        }
        Ok(())
    }
}

/// Makes a descriptor that can be waited for.
#[expect(
    deprecated,
    reason = "its successor is unsafe; a descriptor that is owned stays open as long as it is watched"
)]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// Reads into `space`.
fn read<Fd: AsFd>(fd: Fd, space: &mut BytesMut) -> io::Result<usize> {
    let mut bytes = [0_u8; PIECE];
    let read = rustix::io::read(fd, &mut bytes)?;
    space.extend_from_slice(&bytes[..read]);
    Ok(read)
}

fn receive(fd: &OwnedFd, space: &mut BytesMut, passed: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut bytes = [0_u8; PIECE];
    let mut control = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut control);
    let got = rustix::net::recvmsg(
        fd,
        &mut [io::IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            passed.extend(fds);
        }
    }
    space.extend_from_slice(&bytes[..got.bytes]);
    Ok(got.bytes)
}

fn pass(fd: &OwnedFd, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut control = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut control);
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("too many file descriptors in one frame"));
    }
    Ok(rustix::net::sendmsg(fd, &[io::IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}
