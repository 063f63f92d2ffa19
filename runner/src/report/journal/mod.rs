//! A job's story on disk, written before it is sent.
//!
//! A journal is a folder `<state>/jobs/<task>` (0700) with a `lock` that its owner holds, segments `000000.journal`, …
//! (0600) of frames ([`record`]), and a small `reserve` that is given back when the disk is full, so that there is room
//! to say so. Records are written with `write(2)` as they come; [`Journal::sync`] makes them survive a power cut. The
//! kernel keeps what a killed runner has written, so a killed runner loses nothing.
//!
//! A job that prints more than the limit gives up its oldest segments as far as the server has them; beyond that the
//! caller has to wait. The folder goes when the server has acknowledged all ([`Journal::delete`]).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

mod read;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use read::RowReader;
pub(crate) use record::Record;
use record::{HEADER, decode, encode, payload_length};

use super::progress::Progress;

/// How large the journal of one job may become unless the configuration says otherwise.
pub const JOURNAL_LIMIT: u64 = 2 << 30;

/// A segment is closed at this size.
const SEGMENT_BYTES: u64 = 32 << 20;

/// What a full disk leaves for the last words.
const RESERVE_BYTES: u64 = 128 << 10;

/// A place in the journal is remembered each time this much has been written.
const MARK_BYTES: u64 = 256 << 10;

/// Where a row can be found: reading forward from here meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    row: u64,
    segment: u32,
    offset: u64,
}

/// The writer of one job's journal.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    task: i64,
    /// Held for as long as the journal is ours.
    _lock: File,
    file: File,
    segment: u32,
    offset: u64,
    /// Bytes of all segments that are there.
    bytes: u64,
    /// Oldest first; the segment's number, its bytes and the number of its first row.
    older: Vec<(u32, u64, u64)>,
    /// The number of the first row of the open segment.
    first_row: u64,
    marks: Vec<Mark>,
    dirty: bool,
    buffer: Vec<u8>,
    segment_bytes: u64,
}

/// Why a journal could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Another runner that is alive owns it.
    #[error("the journal {0} belongs to a runner that is alive")]
    Owned(PathBuf),
    /// Disk or permissions.
    #[error("cannot use the journal {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// It holds no record that says whose it is.
    #[error("the journal {0} is empty")]
    Empty(PathBuf),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { path, source }
}

impl Journal {
    /// Makes the journal of a job that begins now.
    pub(crate) fn create(jobs: &Path, task: i64) -> Result<Self, JournalError> {
        let folder = jobs.join(task.to_string());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(io_error(&folder))?;
        let lock = lock(&folder)?;
        // A task's number is never used again: what is here is of a registration at another server.
        for old in segments(&folder).map_err(io_error(&folder))? {
            fs::remove_file(segment_path(&folder, old)).map_err(io_error(&folder))?;
        }
        let file = open_segment(&folder, 0).map_err(io_error(&folder))?;
        if let Err(error) = make_reserve(&folder) {
            tracing::warn!(%error, "no room is kept for the last words of a job on a full disk");
        }
        let mut journal = Self {
            folder: folder.clone(),
            task,
            _lock: lock,
            file,
            segment: 0,
            offset: 0,
            bytes: 0,
            older: Vec::new(),
            first_row: 0,
            marks: vec![Mark { row: 0, segment: 0, offset: 0 }],
            dirty: false,
            buffer: Vec::new(),
            segment_bytes: SEGMENT_BYTES,
        };
        let opened = Record::Opened { task, at: SystemTime::now() };
        journal.append(&[opened], &Progress::default()).map_err(io_error(&folder))?;
        Ok(journal)
    }

    /// Opens what another runner has left, cuts a torn tail off, and answers how far that job had come.
    pub(crate) fn recover(folder: &Path) -> Result<(Self, Progress), JournalError> {
        let lock = lock(folder)?;
        let numbers = segments(folder).map_err(io_error(folder))?;
        let Some(first) = numbers.first().copied() else {
            return Err(JournalError::Empty(folder.to_owned()));
        };
        let mut progress = Progress::default();
        let mut task = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        let (mut older, mut marks) = (Vec::new(), Vec::new());
        let mut last = (first, 0, 0);
        let mut torn = false;
        for (place, number) in numbers.iter().copied().enumerate() {
            let path = segment_path(folder, number);
            if torn || number != first + u32::try_from(place).unwrap_or(u32::MAX) {
                // Behind a torn frame nothing can be trusted to follow on.
                fs::remove_file(&path).map_err(io_error(&path))?;
                torn = true;
                continue;
            }
            if place > 0 {
                older.push(last);
            }
            let mut row = None;
            let good = scan(&path, |offset, record| {
                if let Record::Opened { task: opened, .. } = &record {
                    task = Some(*opened);
                }
                progress.apply(&record);
                let before = match &record {
                    Record::Rows { rows, .. } => progress.rows - rows.len() as u64,
                    _ => progress.rows,
                };
                row.get_or_insert(before);
                let far = marks
                    .last()
                    .is_none_or(|mark: &Mark| mark.segment != number || mark.offset + MARK_BYTES <= offset);
                if far {
                    marks.push(Mark { row: before, segment: number, offset });
                }
            })
            .map_err(io_error(&path))?;
            let length = fs::metadata(&path).map_err(io_error(&path))?.len();
            torn = good < length;
            last = (number, good, row.unwrap_or(progress.rows));
        }
        let path = segment_path(folder, last.0);
        let mut file = open_segment(folder, last.0).map_err(io_error(&path))?;
        file.set_len(last.1).map_err(io_error(&path))?;
        file.seek(SeekFrom::Start(last.1)).map_err(io_error(&path))?;
        let Some(task) = task else { return Err(JournalError::Empty(folder.to_owned())) };
        let bytes = older.iter().map(|(_, bytes, _)| bytes).sum::<u64>() + last.1;
        let journal = Self {
            folder: folder.to_owned(),
            task,
            _lock: lock,
            file,
            segment: last.0,
            offset: last.1,
            bytes,
            older,
            first_row: last.2,
            marks,
            dirty: false,
            buffer: Vec::new(),
            segment_bytes: SEGMENT_BYTES,
        };
        Ok((journal, progress))
    }

    /// The server's number of the task.
    pub(crate) const fn task(&self) -> i64 {
        self.task
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes on disk.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes records. `before` is the progress without them. After an error nothing of them is in the journal.
    pub(crate) fn append(&mut self, records: &[Record], before: &Progress) -> io::Result<()> {
        if self.offset >= self.segment_bytes {
            self.rotate(before)?;
        }
        self.buffer.clear();
        for record in records {
            encode(record, &mut self.buffer);
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            // A part of it may be there; a reader would stop in front of it, and so must the next frame.
            self.file.set_len(self.offset)?;
            self.file.seek(SeekFrom::Start(self.offset))?;
            return Err(error);
        }
        let far = self
            .marks
            .last()
            .is_none_or(|mark| mark.segment != self.segment || mark.offset + MARK_BYTES <= self.offset);
        if far {
            self.marks.push(Mark { row: before.rows, segment: self.segment, offset: self.offset });
        }
        let written = self.buffer.len() as u64;
        self.offset += written;
        self.bytes += written;
        self.dirty = true;
        self.buffer.shrink_to(1 << 20);
        Ok(())
    }

    fn rotate(&mut self, progress: &Progress) -> io::Result<()> {
        self.file.sync_data()?;
        let file = open_segment(&self.folder, self.segment + 1)?;
        self.older.push((self.segment, self.offset, self.first_row));
        self.file = file;
        self.segment += 1;
        self.offset = 0;
        self.first_row = progress.rows;
        self.marks.push(Mark { row: progress.rows, segment: self.segment, offset: 0 });
        self.buffer.clear();
        encode(&Record::Checkpoint(Box::new(progress.clone())), &mut self.buffer);
        self.file.write_all(&self.buffer)?;
        self.offset = self.buffer.len() as u64;
        self.bytes += self.offset;
        Ok(())
    }

    /// Gives up the oldest segments of which the server has every row, until no more than `limit` bytes are left.
    pub(crate) fn shrink(&mut self, limit: u64, acked: u64) -> io::Result<()> {
        while self.bytes > limit
            && let Some((number, bytes, _)) = self.older.first().copied()
        {
            let next_row = self.older.get(1).map_or(self.first_row, |(_, _, row)| *row);
            if next_row > acked {
                break;
            }
            fs::remove_file(segment_path(&self.folder, number))?;
            self.older.remove(0);
            self.bytes -= bytes;
            self.marks.retain(|mark| mark.segment != number);
        }
        Ok(())
    }

    /// A handle with which what has been written since the last call can be made to survive a power cut.
    pub(crate) fn unsynced(&mut self) -> io::Result<Option<File>> {
        std::mem::take(&mut self.dirty).then(|| self.file.try_clone()).transpose()
    }

    /// Gives back the room that is kept for the last words.
    pub(crate) fn use_reserve(&self) -> io::Result<()> {
        fs::remove_file(self.folder.join(RESERVE))
    }

    /// A place from which reading forward meets `row`; `None` when its segment has been given up.
    fn mark(&self, row: u64) -> Option<Mark> {
        let behind = self.marks.partition_point(|mark| mark.row <= row);
        // Records without rows may share a number: the earliest of them is safe.
        self.marks[..behind].last().copied()
    }

    /// The number of the first row that has not been given up.
    pub(crate) fn first_kept_row(&self) -> u64 {
        self.older.first().map_or(self.first_row, |(_, _, row)| *row)
    }

    /// Removes it: the server has everything.
    pub(crate) fn delete(self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder)
    }
}

const RESERVE: &str = "reserve";

fn make_reserve(folder: &Path) -> io::Result<()> {
    let path = folder.join(RESERVE);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES)?;
    Ok(())
}

fn lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error(&path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Owned(folder.to_owned())),
        Err(error) => Err(io_error(&path)(error.into())),
    }
}

fn segment_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:06}.journal"))
}

/// The numbers of the segments in `folder`, in order.
fn segments(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".journal"))
            && let Ok(number) = number.parse()
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn open_segment(folder: &Path, number: u32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(segment_path(folder, number))
}

/// Reads a segment to its end or to its first torn frame, and answers how many bytes are good.
fn scan(path: &Path, mut take: impl FnMut(u64, Record)) -> io::Result<u64> {
    let mut input = BufReader::with_capacity(256 << 10, File::open(path)?);
    let mut offset = 0;
    while let Some((record, length)) = next_frame(&mut input)? {
        take(offset, record);
        offset += length;
    }
    Ok(offset)
}

/// The next record and the bytes of its frame; `None` at the end and in front of a torn frame.
fn next_frame(input: &mut impl io::Read) -> io::Result<Option<(Record, u64)>> {
    let mut header = [0; HEADER];
    if !filled(input, &mut header)? {
        return Ok(None);
    }
    let Some(length) = payload_length(header) else { return Ok(None) };
    let mut payload = Vec::new();
    // The length may be torn as well: nothing is set aside for it before it has been read.
    if input.take(length as u64).read_to_end(&mut payload)? < length {
        return Ok(None);
    }
    Ok(decode(header, &payload).map(|record| (record, (HEADER + length) as u64)))
}

fn filled(input: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
