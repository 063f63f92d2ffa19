//! Frames: four bytes of length, big endian, then one protobuf message. Used by both ends; owns the limits.

use bytes::{Buf, BytesMut};
use prost::Message;

/// Longest frame that either side accepts, in bytes. What is written or read as a whole file has to fit.
pub(crate) const LIMIT: usize = 64 << 20;

/// Length of a frame's head.
const HEAD: usize = 4;

/// What makes a connection useless.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The length says more than [`LIMIT`].
    #[error("a frame of {0} bytes is over the limit of {LIMIT} bytes")]
    TooLong(usize),
    /// The bytes are no message.
    #[error("a frame that cannot be read: {0}")]
    Garbled(#[from] prost::DecodeError),
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Where the next bytes go.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole message, if it has arrived.
    pub(crate) fn next<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > LIMIT {
            return Err(FrameError::TooLong(length));
        }
        if self.buffer.len() < HEAD + length {
            // A whole file may be on its way: one growth instead of many, but never more than was announced.
            self.buffer.reserve((HEAD + length - self.buffer.len()).min(1 << 20));
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let body = self.buffer.split_to(length).freeze();
        Ok(Some(M::decode(body)?))
    }
}

/// One message as a frame.
pub(crate) fn encode<M: Message>(message: &M) -> Result<BytesMut, FrameError> {
    let length = message.encoded_len();
    let head = u32::try_from(length).ok().filter(|_| length <= LIMIT).ok_or(FrameError::TooLong(length))?;
    let mut frame = BytesMut::with_capacity(HEAD + length);
    frame.extend_from_slice(&head.to_be_bytes());
    message.encode_raw(&mut frame);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::agent::v1::{Event, Output, event::Body};

    use super::{Decoder, LIMIT, encode};

    fn event(number: u64, bytes: Vec<u8>) -> Event {
        Event { number, id: 1, body: Some(Body::Output(Output { stderr: false, bytes: bytes.into() })) }
    }

    proptest! {
        #[test]
        fn what_was_sent_arrives_however_it_is_cut(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            cut in 1_usize..64,
        ) {
            let sent: Vec<Event> =
                contents.into_iter().enumerate().map(|(n, bytes)| event(n as u64, bytes)).collect();
            let mut stream = Vec::new();
            for message in &sent {
                stream.extend_from_slice(&encode(message).expect("short enough"));
            }
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.space().extend_from_slice(piece);
                while let Some(message) = decoder.next::<Event>().expect("well formed") {
                    seen.push(message);
                }
            }
            prop_assert_eq!(seen, sent);
        }

        #[test]
        fn any_bytes_give_messages_or_an_error_and_no_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut decoder = Decoder::default();
            decoder.space().extend_from_slice(&bytes);
            while let Ok(Some(_)) = decoder.next::<Event>() {}
        }
    }

    #[test]
    fn an_announced_length_over_the_limit_is_refused_before_it_is_read() {
        let mut decoder = Decoder::default();
        let head = u32::try_from(LIMIT + 1).expect("fits").to_be_bytes();
        decoder.space().extend_from_slice(&head);
        assert!(decoder.next::<Event>().is_err());
    }
}
