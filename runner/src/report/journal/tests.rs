//! A journal loses nothing that it said it had, wherever it is cut.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{Journal, JournalError, Record, segment_path};
use crate::report::{Conclusion, JobReport, progress::Progress};

const AT: SystemTime = SystemTime::UNIX_EPOCH;

struct Writer {
    journal: Journal,
    progress: Progress,
}

impl Writer {
    fn new(jobs: &Path) -> Self {
        Self { journal: Journal::create(jobs, 7).expect("a journal"), progress: Progress::default() }
    }

    fn add(&mut self, record: Record) {
        self.journal.append(std::slice::from_ref(&record), &self.progress).expect("written");
        self.progress.apply(&record);
    }

    fn rows(&mut self, texts: &[&str]) {
        let rows = texts.iter().map(|text| (AT + Duration::from_secs(1), (*text).to_owned())).collect();
        self.add(Record::Rows { first: self.progress.rows, rows });
    }

    fn story(&mut self) {
        self.add(Record::Started { at: AT, steps: vec!["one".to_owned(), "two".to_owned()] });
        self.rows(&["set up"]);
        self.add(Record::StepStarted { index: 0, at: AT });
        self.rows(&["a", "b", "é"]);
        self.add(Record::Acked { rows: 2 });
        self.add(Record::StepFinished { index: 0, conclusion: Conclusion::Failure, at: AT });
        self.add(Record::Summary { index: 0, markdown: "# hi".to_owned() });
        self.add(Record::StepFinished { index: 1, conclusion: Conclusion::Skipped, at: AT });
        self.rows(&["last"]);
        let outputs = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        self.add(Record::Finished(JobReport { conclusion: Conclusion::Failure, outputs, at: AT }));
    }
}

fn texts(journal: &Journal, from: u64, until: u64, limit: usize) -> Vec<String> {
    let (mut reader, mut at, mut all) = (journal.reader(), from, Vec::new());
    while at < until {
        let rows = reader.read(journal.plan(at, until).expect("kept"), limit).expect("readable");
        assert!(!rows.is_empty(), "row {at} of {until}");
        at += rows.len() as u64;
        all.extend(rows.into_iter().map(|(_, text)| text));
    }
    all
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

#[test]
fn what_was_written_is_read_back() {
    let jobs = folder();
    let mut writer = Writer::new(jobs.path());
    writer.story();
    let progress = writer.progress.clone();
    drop(writer);
    let (journal, recovered) = Journal::recover(&jobs.path().join("7")).expect("recovered");
    assert_eq!(recovered, progress);
    assert_eq!(journal.task(), 7);
    assert_eq!(texts(&journal, 0, 5, 1), ["set up", "a", "b", "é", "last"]);
    assert_eq!(texts(&journal, 2, 5, 1 << 20), ["b", "é", "last"]);
}

#[test]
fn a_journal_that_is_cut_anywhere_is_good_up_to_there_and_goes_on() {
    let whole = folder();
    let mut writer = Writer::new(whole.path());
    writer.story();
    let bytes = fs::read(segment_path(writer.journal.folder(), 0)).expect("the segment");
    drop(writer);
    let mut rows_before = 0;
    for length in 0..=bytes.len() {
        let cut = folder();
        let journal_folder = cut.path().join("7");
        fs::create_dir(&journal_folder).expect("a folder");
        fs::write(segment_path(&journal_folder, 0), &bytes[..length]).expect("written");
        let (mut journal, progress) = Journal::recover(&journal_folder).expect("recovered");
        assert!(progress.rows >= rows_before, "a longer file never says less");
        rows_before = progress.rows;
        let row = Record::Rows { first: progress.rows, rows: vec![(AT, "after".to_owned())] };
        journal.append(&[row], &progress).expect("written");
        let expected = ["set up", "a", "b", "é", "last"];
        let mut all = texts(&journal, 0, progress.rows + 1, 1 << 20);
        assert_eq!(all.pop().as_deref(), Some("after"));
        assert_eq!(all, expected[..all.len()]);
    }
    assert_eq!(rows_before, 5);
}

#[test]
fn a_journal_has_one_owner() {
    let jobs = folder();
    let writer = Writer::new(jobs.path());
    let folder = writer.journal.folder().to_owned();
    assert!(matches!(Journal::recover(&folder), Err(JournalError::Owned(_))));
    assert!(matches!(Journal::create(jobs.path(), 7), Err(JournalError::Owned(_))));
    drop(writer);
    assert!(Journal::recover(&folder).is_ok());
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let jobs = folder();
    let writer = Writer::new(jobs.path());
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(writer.journal.folder()), 0o700);
    for entry in fs::read_dir(writer.journal.folder()).expect("readable") {
        assert_eq!(mode(&entry.expect("an entry").path()), 0o600);
    }
}

#[test]
fn segments_follow_each_other_and_are_given_up_when_the_server_has_them() {
    let jobs = folder();
    let mut writer = Writer::new(jobs.path());
    writer.journal.segment_bytes = 4096;
    writer.add(Record::Started { at: AT, steps: vec!["one".to_owned()] });
    writer.add(Record::StepStarted { index: 0, at: AT });
    let expected: Vec<String> = (0..1000).map(|number| format!("row number {number}")).collect();
    for text in &expected {
        writer.rows(&[text]);
    }
    assert!(writer.journal.segment > 5);
    assert_eq!(texts(&writer.journal, 0, 1000, 500), expected);
    assert_eq!(texts(&writer.journal, 777, 1000, 1 << 20), expected[777..]);

    writer.add(Record::Acked { rows: 500 });
    let before = writer.journal.bytes();
    writer.journal.shrink(u64::MAX, 500).expect("nothing to do");
    assert_eq!(writer.journal.bytes(), before, "below the limit everything is kept");
    writer.journal.shrink(0, 500).expect("cut");
    assert!(writer.journal.bytes() < before);
    assert!(writer.journal.first_kept_row() > 300 && writer.journal.first_kept_row() <= 500);
    assert!(writer.journal.plan(0, 1000).is_none());
    assert_eq!(texts(&writer.journal, 500, 1000, 700), expected[500..]);

    let (progress, folder) = (writer.progress.clone(), writer.journal.folder().to_owned());
    drop(writer);
    let (journal, recovered) = Journal::recover(&folder).expect("recovered");
    assert_eq!(recovered, progress, "the first segment that is left holds what went before");
    assert_eq!(texts(&journal, 500, 1000, 1 << 20), expected[500..]);
    journal.delete().expect("deleted");
    assert!(!folder.exists());
}

#[test]
fn a_segment_that_is_torn_in_the_middle_ends_the_story_there() {
    let jobs = folder();
    let mut writer = Writer::new(jobs.path());
    writer.journal.segment_bytes = 1024;
    for number in 0..100 {
        writer.rows(&[&format!("row number {number}")]);
    }
    let path = writer.journal.folder().to_owned();
    drop(writer);
    let second = segment_path(&path, 1);
    let mut bytes = fs::read(&second).expect("a second segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&second, bytes).expect("written");
    let (journal, progress) = Journal::recover(&path).expect("recovered");
    assert!(progress.rows > 20 && progress.rows < 100);
    assert_eq!(journal.segment, 1);
    assert!(!segment_path(&path, 2).exists());
    assert_eq!(texts(&journal, 0, progress.rows, 300).len() as u64, progress.rows);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Rows come back whatever their text, their batches and the size of the reads.
    #[test]
    fn rows_come_back(batches in proptest::collection::vec(proptest::collection::vec(".{0,12}", 0..5), 0..12), from in 0usize..20, limit in 1usize..200) {
        let jobs = folder();
        let mut writer = Writer::new(jobs.path());
        writer.journal.segment_bytes = 128;
        for batch in &batches {
            let texts: Vec<&str> = batch.iter().map(String::as_str).collect();
            writer.rows(&texts);
        }
        let all = batches.concat();
        let from = from.min(all.len());
        prop_assert_eq!(texts(&writer.journal, from as u64, all.len() as u64, limit), &all[from..]);
    }

    /// Bytes that nobody wrote are no records, and reading them never panics.
    #[test]
    fn rubbish_is_no_record(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let jobs = folder();
        let path = jobs.path().join("7");
        fs::create_dir(&path).expect("a folder");
        fs::write(segment_path(&path, 0), bytes).expect("written");
        let (_, progress) = Journal::recover(&path).expect("recovered");
        prop_assert_eq!(progress.rows, 0);
    }
}
