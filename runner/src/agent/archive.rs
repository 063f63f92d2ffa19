//! Folders as tar archives, in both directions, as streams of pieces.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

/// How large the pieces of an archive are, in bytes.
pub(crate) const PIECE: usize = 256 << 10;

/// The pieces of an archive as a stream of bytes, for a thread that may block.
pub(super) struct Pieces {
    pub(super) queue: mpsc::Receiver<Bytes>,
    pub(super) current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.queue.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let length = space.len().min(self.current.len());
        self.current.copy_to_slice(&mut space[..length]);
        Ok(length)
    }
}

/// Unpacks into `folder`, which is made; an entry that would land outside of it is an error. Owners are not kept,
/// executable bits are.
pub(super) fn unpack(archive: impl Read, folder: &Path) -> Result<(), String> {
    let fail = |error: io::Error| format!("cannot unpack into {}: {error}", folder.display());
    super::files::make_folder(folder).map_err(fail)?;
    let mut archive = tar::Archive::new(archive);
    archive.set_overwrite(true);
    for entry in archive.entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        entry.set_preserve_mtime(false);
        if !entry.unpack_in(folder).map_err(fail)? {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(format!("the archive's entry {name} would leave {}", folder.display()));
        }
    }
    // The sender may still be padding: its queue must not close under it.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(fail)?;
    Ok(())
}

/// Takes what `pack` writes and hands it on in pieces.
pub(super) struct Cutter<F: FnMut(Bytes) -> io::Result<()>> {
    buffer: BytesMut,
    hand: F,
}

impl<F: FnMut(Bytes) -> io::Result<()>> Cutter<F> {
    pub(super) fn new(hand: F) -> Self {
        Self { buffer: BytesMut::with_capacity(PIECE), hand }
    }
}

impl<F: FnMut(Bytes) -> io::Result<()>> Write for Cutter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            (self.hand)(self.buffer.split().freeze())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { Ok(()) } else { (self.hand)(self.buffer.split().freeze()) }
    }
}

/// Packs what is in `folder`: folders, regular files and links as links; sockets, pipes and devices are left out.
pub(crate) fn pack(folder: &Path, into: impl Write) -> Result<(), String> {
    let fail = |error: io::Error| format!("cannot pack {}: {error}", folder.display());
    let mut builder = tar::Builder::new(into);
    builder.follow_symlinks(false);
    if !folder.is_dir() {
        return Err(format!("{} is no folder", folder.display()));
    }
    add(&mut builder, folder, Path::new("")).map_err(fail)?;
    builder.into_inner().and_then(|mut into| into.flush()).map_err(fail)
}

fn add(builder: &mut tar::Builder<impl Write>, folder: &Path, name: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    // The same folder gives the same archive.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            builder.append_dir(&name, &path)?;
            add(builder, &path, &name)?;
        } else if kind.is_symlink() {
            let mut header = tar::Header::new_gnu();
            header.set_metadata(&fs::symlink_metadata(&path)?);
            header.set_size(0);
            builder.append_link(&mut header, &name, fs::read_link(&path)?)?;
        } else if kind.is_file() {
            builder.append_file(&name, &mut File::open(&path)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{Cutter, pack, unpack};

    #[test]
    fn a_folder_arrives_as_it_was() {
        let from = tempfile::tempdir().expect("a folder");
        fs::create_dir(from.path().join("sub")).expect("a folder in it");
        fs::write(from.path().join("sub/file"), vec![7_u8; 600_000]).expect("a file");
        symlink("sub/file", from.path().join("link")).expect("a link");
        let mut bytes = Vec::new();
        pack(
            from.path(),
            Cutter::new(|piece| {
                bytes.extend_from_slice(&piece);
                Ok(())
            }),
        )
        .expect("packed");
        let into = tempfile::tempdir().expect("a folder");
        unpack(bytes.as_slice(), &into.path().join("deep/er")).expect("unpacked");
        assert_eq!(
            fs::read(into.path().join("deep/er/link")).expect("through the link"),
            vec![7_u8; 600_000]
        );
    }

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().expect("finished")
    }

    #[test]
    fn an_entry_that_leaves_the_folder_is_an_error() {
        let bytes = archive(|builder| {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..11].copy_from_slice(b"../outside\0");
            header.set_size(1);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, b"x".as_slice()).expect("appended");
        });
        let folder = tempfile::tempdir().expect("a folder");
        let reason = unpack(bytes.as_slice(), &folder.path().join("in")).expect_err("refused");
        assert!(reason.contains("../outside would leave"), "{reason}");
        assert!(!folder.path().join("outside").exists());
    }

    #[test]
    fn a_link_in_the_archive_is_no_way_out() {
        let bytes = archive(|builder| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, "door", "..").expect("a link");
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o644);
            builder.append_data(&mut header, "door/outside", b"x".as_slice()).expect("appended");
        });
        let folder = tempfile::tempdir().expect("a folder");
        unpack(bytes.as_slice(), &folder.path().join("in")).expect_err("refused");
        assert!(!folder.path().join("outside").exists());
    }
}
