//! What the agent tells, numbered, and kept until the runner has acknowledged it: a new connection gets it again.

use std::{collections::VecDeque, os::fd::OwnedFd};

use bytes::Bytes;
use proto::agent::v1::{Event, event::Body};

use super::frame::{self, FrameError};

/// So much may wait for the runner, in bytes, before output is no longer taken from the processes.
const ROOM: usize = 4 << 20;

#[derive(Debug)]
struct Kept {
    number: u64,
    frame: Bytes,
    fds: Vec<OwnedFd>,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Hello and Pong: sent between two others, never kept.
    urgent: VecDeque<Bytes>,
    kept: VecDeque<Kept>,
    bytes: usize,
    last: u64,
    /// How many of `kept` have gone out whole on this connection.
    sent: usize,
    /// How much of the current frame has gone out.
    offset: usize,
    /// Whether the current frame is an urgent one.
    in_urgent: bool,
}

impl Outbox {
    /// Adds an event that answers the request `id`.
    pub(super) fn push(&mut self, id: u64, body: Body, fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        let number = self.last + 1;
        let frame = frame::encode(&Event { number, id, body: Some(body) })?.freeze();
        self.last = number;
        self.bytes += frame.len();
        self.kept.push_back(Kept { number, frame, fds });
        Ok(())
    }

    /// Adds one that is sent on this connection or never.
    pub(super) fn push_urgent(&mut self, id: u64, body: Body) -> Result<(), FrameError> {
        let frame = frame::encode(&Event { number: 0, id, body: Some(body) })?.freeze();
        self.urgent.push_back(frame);
        Ok(())
    }

    /// Whether output may be added.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < ROOM
    }

    /// The runner has dealt with everything up to `number`.
    pub(super) fn acknowledge(&mut self, number: u64) {
        while self.sent > 0 && self.kept.front().is_some_and(|kept| kept.number <= number) {
            if let Some(kept) = self.kept.pop_front() {
                self.bytes -= kept.frame.len();
                self.sent -= 1;
            }
        }
    }

    /// A new connection has come: everything that was not acknowledged goes out again.
    pub(super) fn rewind(&mut self) {
        self.urgent.clear();
        (self.sent, self.offset, self.in_urgent) = (0, 0, false);
    }

    /// What to send next, and the file descriptors that go with its first byte.
    pub(super) fn front(&mut self) -> Option<(&[u8], &[OwnedFd])> {
        if self.offset == 0 {
            self.in_urgent = !self.urgent.is_empty();
        }
        if self.in_urgent {
            return self.urgent.front().map(|frame| (&frame[self.offset..], [].as_slice()));
        }
        let kept = self.kept.get(self.sent)?;
        let fds = if self.offset == 0 { kept.fds.as_slice() } else { &[] };
        Some((&kept.frame[self.offset..], fds))
    }

    /// So many bytes of the front have gone out.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.offset += bytes;
        if self.in_urgent {
            if self.urgent.front().is_some_and(|frame| frame.len() == self.offset) {
                self.urgent.pop_front();
                self.offset = 0;
            }
        } else if self.kept.get(self.sent).is_some_and(|kept| kept.frame.len() == self.offset) {
            self.sent += 1;
            self.offset = 0;
        }
    }

    /// Whether everything has gone out.
    pub(super) fn is_sent(&self) -> bool {
        self.urgent.is_empty() && self.sent == self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use proto::agent::v1::{Done, Event, Pong, event::Body};

    use super::Outbox;
    use crate::agent::frame::Decoder;

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u64> {
        let mut decoder = Decoder::default();
        while let Some((bytes, _)) = outbox.front() {
            let length = bytes.len().min(step);
            decoder.space().extend_from_slice(&bytes[..length]);
            outbox.advance(length);
        }
        let mut numbers = Vec::new();
        while let Some(event) = decoder.next::<Event>().expect("whole frames") {
            numbers.push(event.number);
        }
        numbers
    }

    #[test]
    fn what_was_not_acknowledged_goes_out_again_on_the_next_connection() {
        let mut outbox = Outbox::default();
        for id in 1..=3 {
            outbox.push(id, Body::Done(Done {}), Vec::new()).expect("short");
        }
        assert_eq!(drain(&mut outbox, 3), [1, 2, 3]);
        outbox.acknowledge(2);
        outbox.rewind();
        assert_eq!(drain(&mut outbox, 3), [3]);
        assert!(outbox.is_sent());
    }

    #[test]
    fn an_urgent_frame_never_cuts_another() {
        let mut outbox = Outbox::default();
        outbox.push(1, Body::Done(Done {}), Vec::new()).expect("short");
        let length = outbox.front().expect("one frame").0.len();
        outbox.advance(length - 1);
        outbox.push_urgent(0, Body::Pong(Pong {})).expect("short");
        assert_eq!(outbox.front().expect("the rest").0.len(), 1);
        outbox.advance(1);
        assert_eq!(drain(&mut outbox, 100), [0]);
    }

    #[test]
    fn an_acknowledgement_beyond_what_was_sent_forgets_nothing_unsent() {
        let mut outbox = Outbox::default();
        outbox.push(1, Body::Done(Done {}), Vec::new()).expect("short");
        outbox.acknowledge(99);
        assert_eq!(drain(&mut outbox, 100), [1]);
    }
}
