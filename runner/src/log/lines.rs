//! From bytes to lines, in bounded memory.
//!
//! A [`LineSplitter`] belongs to one stream of one process. It gets pieces of any size and hands out lines: whole ones
//! as long as they stay below a limit, and an endless one in parts. Line ends (`\n`, `\r\n`) are taken off. It never
//! looks into a line; that is the business of the stages behind it.

/// A line, or a part of one that is too long to be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'b> {
    /// A whole line, without its end.
    Line(&'b [u8]),
    /// A part of a long line; more follows.
    Part(&'b [u8]),
    /// The rest of a long line; may be empty.
    Last(&'b [u8]),
}

/// A line up to this many bytes is kept whole.
pub(super) const LINE_LIMIT: usize = 256 << 10;

/// A line that begins as a workflow command does is kept whole up to this many bytes, as a command file would be.
pub(super) const COMMAND_LIMIT: usize = 16 << 20;

/// Splits one stream.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    /// The begin of a line whose end has not come; or, in a long line, a `\r` that may belong to the end.
    kept: Vec<u8>,
    long: bool,
}

impl LineSplitter {
    /// Takes `bytes` and hands out what they complete, in order.
    pub(super) fn push(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(Piece<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.kept.is_empty() && !self.long && line.len() <= LINE_LIMIT {
                emit(Piece::Line(without_return(line)));
                continue;
            }
            self.extend(line, emit);
            self.end(emit);
        }
        self.extend(bytes, emit);
    }

    /// The stream is over: hands out what has no line end.
    pub(super) fn finish(&mut self, emit: &mut impl FnMut(Piece<'_>)) {
        if self.long || !self.kept.is_empty() {
            self.end(emit);
        }
    }

    fn extend(&mut self, bytes: &[u8], emit: &mut impl FnMut(Piece<'_>)) {
        if bytes.is_empty() {
            return;
        }
        self.kept.extend_from_slice(bytes);
        let limit = if !self.long && begins_like_a_command(&self.kept) { COMMAND_LIMIT } else { LINE_LIMIT };
        if self.kept.len() > limit {
            self.long = true;
            // A carriage return at the very end may be half of a line end.
            let held = usize::from(self.kept.ends_with(b"\r"));
            emit(Piece::Part(&self.kept[..self.kept.len() - held]));
            self.kept.drain(..self.kept.len() - held);
        }
    }

    fn end(&mut self, emit: &mut impl FnMut(Piece<'_>)) {
        let line = without_return(&self.kept);
        emit(if self.long { Piece::Last(line) } else { Piece::Line(line) });
        self.long = false;
        self.kept.clear();
        self.kept.shrink_to(LINE_LIMIT);
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// `::` or `##[` after white space: such a line may have to be understood before it is shown.
pub(super) fn begins_like_a_command(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    line.starts_with(b"::") || line.starts_with(b"##[")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{COMMAND_LIMIT, LINE_LIMIT, LineSplitter, Piece};

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut open) = (Vec::new(), Vec::new());
        let mut splitter = LineSplitter::default();
        let mut emit = |piece: Piece<'_>| match piece {
            Piece::Line(line) => lines.push(line.to_vec()),
            Piece::Part(part) => open.extend_from_slice(part),
            Piece::Last(part) => {
                open.extend_from_slice(part);
                lines.push(std::mem::take(&mut open));
            }
        };
        for chunk in chunks {
            splitter.push(chunk, &mut emit);
        }
        splitter.finish(&mut emit);
        lines
    }

    #[test]
    fn line_ends_of_both_kinds_and_a_last_line_without_one() {
        assert_eq!(split(&[b"a\nb\r", b"\n\nc"]), [&b"a"[..], b"b", b"", b"c"]);
        assert!(split(&[]).is_empty());
        assert_eq!(split(&[b"10%\r20%\r\n"]), [b"10%\r20%"]);
    }

    #[test]
    fn an_endless_line_is_held_in_bounded_memory() {
        let mut splitter = LineSplitter::default();
        let (mut bytes, mut parts) = (0, 0);
        let chunk = vec![b'x'; 64 << 10];
        for _ in 0..1024 {
            splitter.push(&chunk, &mut |piece| match piece {
                Piece::Part(part) => {
                    bytes += part.len();
                    parts += 1;
                }
                other => panic!("{other:?}"),
            });
            assert!(splitter.kept.capacity() <= 2 * LINE_LIMIT + chunk.len());
        }
        splitter.finish(&mut |piece| match piece {
            Piece::Last(part) => bytes += part.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(bytes, 1024 * chunk.len());
        assert!(parts > 100);
    }

    #[test]
    fn a_long_command_stays_whole() {
        let mut line = b"::set-output name=x::".to_vec();
        line.resize(3 << 20, b'y');
        assert!(line.len() < COMMAND_LIMIT);
        assert_eq!(split(&[&line, b"\n"]), [line]);
    }

    proptest! {
        /// However the bytes arrive, the lines are those of the whole.
        #[test]
        fn chunks_do_not_matter(text in "[a\\r\\n:]{0,60}", cuts in proptest::collection::vec(0usize..60, 0..8)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&chunks), split(&[bytes]));
        }

        /// The same for lines beyond the limit.
        #[test]
        fn chunks_do_not_matter_for_long_lines(lengths in proptest::collection::vec(1usize..200_000, 1..8), returns in any::<bool>()) {
            let mut whole = Vec::new();
            for (number, length) in lengths.iter().enumerate() {
                whole.extend(std::iter::repeat_n(b'a' + u8::try_from(number).expect("few"), *length));
                if returns { whole.push(b'\r'); }
                if number % 3 == 2 { whole.push(b'\n'); }
            }
            let chunks: Vec<&[u8]> = whole.chunks(70_001).collect();
            let lines: Vec<Vec<u8>> = whole.split(|byte| *byte == b'\n')
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()).collect();
            let mut lines = lines;
            if lines.last().is_some_and(Vec::is_empty) && whole.ends_with(b"\n") { lines.pop(); }
            prop_assert_eq!(split(&chunks), lines);
        }
    }
}
