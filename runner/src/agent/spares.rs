//! Files made in advance. Making a file can cost a file system a quarter of a millisecond, giving one that exists a name
//! a tenth of that; a step needs six before its process starts. So the next step's files are made while this one runs,
//! without names (`O_TMPFILE`): nobody sees them, and they are gone when this process is.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, OFlags};

/// At most so many are kept.
const MOST: usize = 16;

/// The files that have no name yet.
#[derive(Debug, Default)]
pub(super) struct Spares {
    files: Vec<File>,
    /// Where the last file was put: the next one comes there, or beside it on the same file system.
    folder: PathBuf,
    /// How many the next process is expected to need.
    wanted: usize,
}

impl Spares {
    /// A process is about to be started with so many files.
    pub(super) fn expect(&mut self, files: usize) {
        self.wanted = files.min(MOST);
    }

    /// Makes a new file `path` out of a spare one. `false` when there is none, when the file system cannot, or when
    /// something stands there already: then the file has to be made as any other, and that says what is wrong.
    pub(super) fn place(&mut self, path: &Path, mode: u32, content: &[u8]) -> bool {
        if let Some(folder) = path.parent()
            && folder != self.folder
        {
            folder.clone_into(&mut self.folder);
        }
        self.files.pop().is_some_and(|file| name(file, path, mode, content).is_ok())
    }

    /// Makes as many as are expected to be needed.
    pub(super) fn refill(&mut self) {
        while self.files.len() < self.wanted {
            match make(&self.folder) {
                Ok(file) => self.files.push(file),
                // This file system has no such files, or is full: whoever needs one makes it the usual way.
                Err(_) => self.wanted = 0,
            }
        }
    }
}

fn make(folder: &Path) -> io::Result<File> {
    let flags = (OFlags::TMPFILE | OFlags::CLOEXEC).bits().cast_signed();
    OpenOptions::new().write(true).mode(0o600).custom_flags(flags).open(folder)
}

fn name(mut file: File, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, from, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::Spares;

    #[test]
    fn a_spare_file_becomes_one_with_a_name_only_where_nothing_stands() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let mut spares = Spares::default();
        assert!(!spares.place(&path, 0o640, b"first"), "none yet");
        spares.expect(2);
        spares.refill();
        assert_eq!(fs::read_dir(folder.path()).expect("its entries").count(), 0, "they have no names");
        if spares.files.is_empty() {
            eprintln!("skipped: the file system of {} has no files without names", folder.path().display());
            return;
        }
        assert!(spares.place(&path, 0o640, b"second"));
        assert_eq!(fs::read(&path).expect("a file"), b"second");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o7777, 0o640);
        assert!(!spares.place(&path, 0o640, b"third"), "something stands there");
        assert_eq!(fs::read(&path).expect("a file"), b"second");
        assert!(spares.files.is_empty());
    }
}
