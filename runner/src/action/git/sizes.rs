//! How large the objects of a pack are, known before any of them is held in memory: a pack of kilobytes can hold
//! gigabytes.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use gix_pack::data::{self, entry::Header};
use gix_zlib::{Decompress, FlushDecompress, Status};

use super::pack::PackError;

/// The largest object that is taken, in bytes.
const OBJECT_LIMIT: u64 = 256 * 1024 * 1024;

/// The bytes at the beginning of a delta that hold two sizes: its base's and its result's.
const DELTA_HEAD: usize = 20;

/// Reads the pack once and refuses one with an object that is larger than an action's file can be.
pub(super) fn check(path: &Path) -> Result<(), PackError> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut head = [0; data::header::SIZE];
    reader.read_exact(&mut head)?;
    let (_, count) = data::header::decode(&head).map_err(|error| PackError::Broken(error.to_string()))?;
    let mut inflate = Decompress::new();
    for _ in 0..count {
        // Offsets matter only to whoever follows deltas.
        let entry = data::Entry::from_read(&mut reader, 0, gix_hash::Kind::Sha1.len_in_bytes())?;
        refuse_above(entry.decompressed_size)?;
        inflate.reset();
        let head = skip(&mut reader, &mut inflate, entry.decompressed_size)?;
        if matches!(entry.header, Header::OfsDelta { .. } | Header::RefDelta { .. }) {
            refuse_above(
                result_size(&head).ok_or_else(|| PackError::Broken("a delta is cut off".to_owned()))?,
            )?;
        }
    }
    Ok(())
}

fn refuse_above(size: u64) -> Result<(), PackError> {
    if size > OBJECT_LIMIT {
        return Err(PackError::Broken(format!("a file is larger than {} MiB", OBJECT_LIMIT >> 20)));
    }
    Ok(())
}

/// Reads one compressed object of `size` bytes to its end; answers with its first bytes.
fn skip(reader: &mut impl BufRead, inflate: &mut Decompress, size: u64) -> Result<Vec<u8>, PackError> {
    let broken = |what: &str| PackError::Broken(what.to_owned());
    let (mut head, mut piece) = (Vec::new(), vec![0; 32 * 1024]);
    loop {
        let input = reader.fill_buf()?;
        let at_end = input.is_empty();
        let (taken, given) = (inflate.total_in(), inflate.total_out());
        let status = inflate
            .decompress(input, &mut piece, FlushDecompress::None)
            .map_err(|error| broken(&error.to_string()))?;
        let taken = usize::try_from(inflate.total_in() - taken).unwrap_or(usize::MAX);
        let given = usize::try_from(inflate.total_out() - given).unwrap_or(usize::MAX);
        reader.consume(taken);
        let wanted = DELTA_HEAD.saturating_sub(head.len()).min(given);
        head.extend_from_slice(piece.get(..wanted).unwrap_or_default());
        if inflate.total_out() > size {
            return Err(broken("an object is larger than it says"));
        }
        match status {
            Status::StreamEnd => return Ok(head),
            _ if at_end && given == 0 => return Err(broken("it ends too early")),
            _ if taken == 0 && given == 0 => return Err(broken("an object cannot be read")),
            _ => {}
        }
    }
}

/// The size of what a delta makes.
fn result_size(head: &[u8]) -> Option<u64> {
    let mut bytes = head.iter();
    let mut number = || {
        let (mut value, mut shift) = (0u64, 0u32);
        loop {
            let byte = *bytes.next()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
        }
    };
    number()?;
    number()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use gix_zlib::Decompress;

    use super::{result_size, skip};

    /// zlib with one stored block, so that the test needs no compressor; the checksum is that of `abc`.
    const STORED: [u8; 14] = [0x78, 1, 1, 3, 0, 0xfc, 0xff, b'a', b'b', b'c', 0x02, 0x4d, 0x01, 0x27];

    #[test]
    fn an_object_is_skipped_to_its_very_end() {
        let mut bytes = STORED.to_vec();
        bytes.extend_from_slice(b"next");
        let mut reader = Cursor::new(bytes);
        let head = skip(&mut reader, &mut Decompress::new(), 3).expect("whole");
        assert_eq!((head.as_slice(), reader.position()), (b"abc".as_slice(), 14));
    }

    #[test]
    fn an_object_that_is_cut_off_or_larger_than_it_says_is_an_error() {
        for (bytes, size) in [(&STORED[..8], 3), (&STORED[..], 2), (b"no zlib at all".as_slice(), 3)] {
            assert!(skip(&mut Cursor::new(bytes), &mut Decompress::new(), size).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn the_second_number_of_a_delta_is_the_size_of_its_result() {
        assert_eq!(result_size(&[3, 0x80, 0x80, 0x80, 0x80, 0x10]), Some(1 << 32));
        for bytes in [&[][..], &[3], &[0x80, 0x80], &[0xff; 20]] {
            assert_eq!(result_size(bytes), None, "{bytes:?}");
        }
    }
}
