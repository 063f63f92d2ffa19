//! Reading rows back: what a reporter sends comes from here, so memory holds one batch and no more.

use std::{
    fs::File,
    io::{self, BufReader, Seek as _, SeekFrom},
    path::PathBuf,
    time::SystemTime,
};

use super::{Journal, Record, next_frame, segment_path};

/// What a row takes in memory beside its text on its way to the server: its time, two headers, an allocation, its frame.
const ROW_BYTES: usize = 96;

/// Reads the rows of one journal forward, and jumps when it has to.
#[derive(Debug)]
pub(crate) struct RowReader {
    folder: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    input: BufReader<File>,
    segment: u32,
    /// The number of the next row that is read from `input`.
    row: u64,
    /// Rows of a frame that did not fit into the last batch.
    left: std::collections::VecDeque<(SystemTime, String)>,
}

/// A place to begin at, found before reading: the journal itself may be written meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadPlan {
    from: u64,
    until: u64,
    mark: super::Mark,
}

impl Journal {
    /// A reader of this journal's rows.
    pub(crate) fn reader(&self) -> RowReader {
        RowReader { folder: self.folder.clone(), open: None }
    }

    /// What is needed to read rows from `from` up to `until`; `None` when they are not here any more.
    pub(crate) fn plan(&self, from: u64, until: u64) -> Option<ReadPlan> {
        self.mark(from).map(|mark| ReadPlan { from, until, mark })
    }
}

impl RowReader {
    /// Rows from the plan's begin on: at least one if there is one, at most about `limit` bytes of memory.
    pub(crate) fn read(&mut self, plan: ReadPlan, limit: usize) -> io::Result<Vec<(SystemTime, String)>> {
        let ReadPlan { from, until, mark } = plan;
        let mut rows = Vec::new();
        let mut bytes = 0;
        // Going on where the last batch ended is the rule; a row before that, or one that is far ahead, is a jump.
        let mut open = match self.open.take().filter(|open| open.row <= from && open.row >= mark.row) {
            Some(open) => open,
            None => self.open_at(mark)?,
        };
        while open.row < until && bytes < limit {
            if let Some(row) = open.left.pop_front() {
                if open.row >= from {
                    bytes += row.1.len() + ROW_BYTES;
                    rows.push(row);
                }
                open.row += 1;
                continue;
            }
            match next_frame(&mut open.input)? {
                Some((Record::Rows { first, rows }, _)) => {
                    open.row = first;
                    open.left = rows.into();
                }
                Some(_) => {}
                None if segment_path(&self.folder, open.segment + 1).exists() => {
                    open =
                        self.open_at(super::Mark { row: open.row, segment: open.segment + 1, offset: 0 })?;
                }
                None => break,
            }
        }
        self.open = Some(open);
        Ok(rows)
    }

    fn open_at(&self, mark: super::Mark) -> io::Result<Open> {
        let mut file = File::open(segment_path(&self.folder, mark.segment))?;
        file.seek(SeekFrom::Start(mark.offset))?;
        Ok(Open {
            input: BufReader::with_capacity(64 << 10, file),
            segment: mark.segment,
            row: mark.row,
            left: std::collections::VecDeque::new(),
        })
    }
}
