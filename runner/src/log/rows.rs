//! Rows on their way out: cut to what a server takes, gathered into batches.

use std::time::SystemTime;

use super::Masked;
use crate::report::Row;

/// A server cuts a longer row off; a longer line becomes several rows.
pub(super) const ROW_LIMIT: usize = 64 << 10;

/// Rows that have not been handed over yet.
#[derive(Debug, Default)]
pub(super) struct RowBuffer {
    rows: Vec<Row>,
}

impl RowBuffer {
    /// Adds one masked line.
    pub(super) fn push(&mut self, time: SystemTime, text: Masked) {
        if text.as_str().len() <= ROW_LIMIT {
            self.rows.push(Row { time, text });
        } else {
            self.rows.extend(text.into_pieces(ROW_LIMIT).map(|text| Row { time, text }));
        }
    }

    /// What is there.
    pub(super) fn take(&mut self) -> Option<Vec<Row>> {
        (!self.rows.is_empty()).then(|| std::mem::take(&mut self.rows))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{ROW_LIMIT, RowBuffer};
    use crate::log::Masker;

    #[test]
    fn a_long_line_becomes_rows_and_loses_nothing() {
        let line = "é".repeat(ROW_LIMIT);
        let mut buffer = RowBuffer::default();
        buffer.push(SystemTime::UNIX_EPOCH, Masker::new().mask(&line));
        let rows = buffer.take().expect("there are rows");
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.text.as_str().len() <= ROW_LIMIT));
        assert_eq!(rows.iter().map(|row| row.text.as_str()).collect::<String>(), line);
        assert!(buffer.take().is_none());
    }
}
