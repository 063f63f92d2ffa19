//! Single files inside the place: written before a process, read back after it. What a step has put in their place
//! (a link, a pipe, a folder) is never followed and never waited for.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use proto::agent::v1::{self as wire, collected::End};
use rustix::fs::OFlags;

use super::spares::Spares;

/// Writes one file, replacing what is there; missing folders are made. The error is a sentence.
pub(super) fn write(file: &wire::File, spares: &mut Spares) -> Result<(), String> {
    let path = Path::new(&file.path);
    if spares.place(path, file.mode, &file.content) {
        return Ok(());
    }
    replace(path, file.mode, &file.content).map_err(|error| format!("cannot write {}: {error}", file.path))
}

fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let open = || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(path)
    };
    let mut file = match open() {
        Ok(file) if file.metadata()?.is_file() => file,
        // A link, a pipe or a file of somebody else stands there: it goes, what it points to stays.
        _ => {
            fs::remove_file(path)?;
            open()?
        }
    };
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Makes a folder and those above it.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Whether files can be made in this folder, after making it.
pub(super) fn usable(path: &Path) -> bool {
    make_folder(path).is_ok() && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Reads one file back.
pub(super) fn collect(file: &wire::Collect) -> wire::Collected {
    wire::Collected { end: Some(look(file)) }
}

fn look(file: &wire::Collect) -> End {
    let path = match followed(file) {
        Ok(path) => path,
        Err(end) => return end,
    };
    match open(&path) {
        Ok(Some(opened)) => match take(opened, file.limit) {
            Ok(Ok(content)) => End::Content(content.into()),
            Ok(Err(length)) => End::TooLarge(length),
            Err(error) => End::Refused(format!("cannot read {}: {error}", file.path)),
        },
        Ok(None) => End::Refused(format!("{} is no regular file", file.path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => End::Missing(true),
        // NOFOLLOW answers with this for a link.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            End::Refused(format!("{} is a symbolic link", file.path))
        }
        Err(error) => End::Refused(format!("cannot read {}: {error}", file.path)),
    }
}

/// Where a file is that may be a link: below the folder that it may not leave.
fn followed(file: &wire::Collect) -> Result<PathBuf, End> {
    let path = PathBuf::from(&file.path);
    if file.within.is_empty() || !path.is_symlink() {
        return Ok(path);
    }
    let unreadable = |error: io::Error| End::Refused(format!("cannot read {}: {error}", file.path));
    let real = path.canonicalize().map_err(unreadable)?;
    if real.starts_with(Path::new(&file.within).canonicalize().map_err(unreadable)?) {
        return Ok(real);
    }
    Err(End::Refused(format!("{} is a link that leads out of {}", file.path, file.within)))
}

/// Opens a regular file; `None` when it is something else.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY))
        .open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// The content, or the length when it is over the limit. The file may grow meanwhile.
fn take(file: File, limit: u64) -> io::Result<Result<Vec<u8>, u64>> {
    let length = file.metadata()?.len();
    if length > limit {
        return Ok(Err(length));
    }
    let mut content = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    let read = content.len() as u64;
    Ok(if read > limit { Err(read) } else { Ok(content) })
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proto::agent::v1::{Collect, File, collected::End};

    use super::{Spares, look};

    fn write(file: &File) -> Result<(), String> {
        super::write(file, &mut Spares::default())
    }

    fn file(path: &std::path::Path, content: &'static str) -> File {
        File { path: path.display().to_string(), mode: 0o640, content: content.into() }
    }

    fn ask(path: &std::path::Path, limit: u64) -> End {
        look(&Collect { path: path.display().to_string(), limit, ..Collect::default() })
    }

    #[test]
    fn a_file_is_written_with_its_folders_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b/file");
        write(&file(&path, "text")).expect("written");
        assert_eq!(ask(&path, 4), End::Content("text".into()));
        assert_eq!(ask(&path, 3), End::TooLarge(4));
        assert_eq!(ask(&folder.path().join("none"), 4), End::Missing(true));
    }

    #[test]
    fn a_link_is_neither_written_through_nor_read_through() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        let link = folder.path().join("link");
        std::fs::write(&target, "precious").expect("a file");
        symlink(&target, &link).expect("a link");
        assert!(matches!(ask(&link, 100), End::Refused(reason) if reason.ends_with("is a symbolic link")));
        write(&file(&link, "new")).expect("written");
        assert_eq!(std::fs::read_to_string(&target).expect("still there"), "precious");
        assert_eq!(ask(&link, 100), End::Content("new".into()));
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        assert!(matches!(ask(&path, 100), End::Refused(reason) if reason.ends_with("is no regular file")));
    }
}
