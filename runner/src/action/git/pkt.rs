//! Git's pkt-lines: four hexadecimal digits of length, then that many bytes, and three special lengths.
//!
//! The grammar is `gitprotocol-common` and `gitprotocol-v2` of Git's own documentation.

use bytes::{Buf, Bytes, BytesMut};

/// One pkt-line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// Data, a trailing newline kept.
    Data(Bytes),
    /// `0000`: the end of a message.
    Flush,
    /// `0001`: the end of a section.
    Delimiter,
    /// `0002`: the end of a response in stateless connections.
    ResponseEnd,
}

impl Packet {
    /// The text of a data line without its newline; `None` for the others and for what is no UTF-8.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Data(bytes) => std::str::from_utf8(bytes).ok().map(|text| text.trim_end_matches('\n')),
            _ => None,
        }
    }
}

/// The stream is no sequence of pkt-lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not in git's wire format")]
pub(super) struct NotPackets;

/// Takes the first whole packet out of `buffer`; `None` when more bytes are needed.
pub(super) fn decode(buffer: &mut BytesMut) -> Result<Option<Packet>, NotPackets> {
    let Some(head) = buffer.get(..4) else { return Ok(None) };
    let length = std::str::from_utf8(head)
        .ok()
        .and_then(|text| usize::from_str_radix(text, 16).ok())
        .ok_or(NotPackets)?;
    let packet = match length {
        0 => Packet::Flush,
        1 => Packet::Delimiter,
        2 => Packet::ResponseEnd,
        3 => return Err(NotPackets),
        length if buffer.len() < length => return Ok(None),
        length => {
            let mut line = buffer.split_to(length);
            line.advance(4);
            return Ok(Some(Packet::Data(line.freeze())));
        }
    };
    buffer.advance(4);
    Ok(Some(packet))
}

/// Builds one request: lines, a delimiter, lines, a flush.
#[derive(Debug, Default)]
pub(super) struct Request(Vec<u8>);

impl Request {
    /// Adds one line; a newline is added to it.
    pub(super) fn line(mut self, text: &str) -> Self {
        self.0.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
        self
    }

    /// Ends the capabilities.
    pub(super) fn delimiter(mut self) -> Self {
        self.0.extend_from_slice(b"0001");
        self
    }

    /// Ends the request.
    pub(super) fn flush(mut self) -> Bytes {
        self.0.extend_from_slice(b"0000");
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;

    use super::{NotPackets, Packet, Request, decode};

    #[test]
    fn what_is_built_is_read_again() {
        let mut buffer =
            BytesMut::from(&Request::default().line("command=fetch").delimiter().line("done").flush()[..]);
        let mut packets = Vec::new();
        while let Some(packet) = decode(&mut buffer).unwrap() {
            packets.push(packet);
        }
        assert_eq!(
            packets,
            [
                Packet::Data(Bytes::from_static(b"command=fetch\n")),
                Packet::Delimiter,
                Packet::Data(Bytes::from_static(b"done\n")),
                Packet::Flush
            ]
        );
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_page_is_not_git() {
        assert_eq!(decode(&mut BytesMut::from("<html>")), Err(NotPackets));
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut buffer) {}
        }
    }
}
