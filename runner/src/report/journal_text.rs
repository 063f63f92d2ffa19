//! The log of a job as a text file, for a person: what is left when a server did not take it.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::journal::Journal;

/// How long such a file is kept.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// Read at a time.
const PIECE: usize = 1 << 20;

/// Beside the folder of the journals.
fn folder(jobs: &Path) -> PathBuf {
    jobs.parent().unwrap_or(jobs).join("undelivered")
}

/// Writes all rows of `journal` to `<state>/undelivered/<task>.log` (0600) and answers the path.
pub(super) fn keep(journal: &Journal) -> io::Result<PathBuf> {
    let jobs = journal.folder().parent().unwrap_or_else(|| journal.folder());
    let folder = folder(jobs);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let path = folder.join(format!("{}.log", journal.task()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    let mut out = BufWriter::new(file);
    let (mut reader, mut at) = (journal.reader(), journal.first_kept_row());
    while let Some(plan) = journal.plan(at, u64::MAX) {
        let rows = reader.read(plan, PIECE)?;
        if rows.is_empty() {
            break;
        }
        for (time, text) in &rows {
            let time = jiff::Timestamp::try_from(*time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            writeln!(out, "{time} {text}")?;
        }
        at += rows.len() as u64;
    }
    out.flush()?;
    Ok(path)
}

/// Removes files that are older than a week.
pub(super) fn prune(jobs: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder(jobs)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
        if age > KEPT && entry.path().extension().is_some_and(|extension| extension == "log") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
