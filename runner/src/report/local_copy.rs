//! An operator's own copy of each job's log: `log.job.dir` of the configuration. Masked, as everything behind the sink.
//!
//! One file for each task, `<UTC time>-task-<id>.log` (0600) in a folder of 0700. A copy that reaches its limit says
//! so and goes on only with the job's result. Copies older than the retention are removed when a task begins. A copy
//! that cannot be written costs a line in the daemon's log, never the job.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::journal::Record;

/// Where copies go and how long they stay.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// `log.job.dir`.
    pub folder: PathBuf,
    /// `log.job.retention`; zero keeps all.
    pub retention: Duration,
    /// `log.job.max_size` in bytes; zero is no limit.
    pub limit: u64,
}

/// One job's copy, while it is written.
#[derive(Debug)]
pub(super) struct LocalCopy {
    file: File,
    written: u64,
    limit: u64,
    full: bool,
}

impl LocalCopy {
    /// Begins the copy of `task`, after what is too old has been removed.
    pub(super) fn begin(options: &CopyOptions, task: i64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.folder)?;
        prune(options)?;
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let path = options.folder.join(format!("{now}-task-{task}.log"));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { file, written: 0, limit: options.limit, full: false })
    }

    /// Takes rows and the job's result; nothing else is in a copy.
    pub(super) fn take(&mut self, record: &Record) -> io::Result<()> {
        let mut text = String::new();
        match record {
            Record::Rows { rows, .. } => {
                for (time, row) in rows {
                    push_line(&mut text, *time, row);
                }
                if self.limit > 0 && self.written + text.len() as u64 > self.limit {
                    text.clear();
                    if !std::mem::replace(&mut self.full, true) {
                        push_line(
                            &mut text,
                            SystemTime::now(),
                            "This copy has reached log.job.max_size; rows are missing from here on.",
                        );
                    }
                } else if self.full {
                    text.clear();
                }
            }
            Record::Finished(report) => {
                push_line(&mut text, report.at, &format!("result: {}", report.conclusion.as_str()));
            }
            _ => return Ok(()),
        }
        self.file.write_all(text.as_bytes())?;
        self.written += text.len() as u64;
        Ok(())
    }
}

fn push_line(text: &mut String, time: SystemTime, row: &str) {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    text.push_str(&time.to_string());
    text.push(' ');
    text.push_str(row);
    text.push('\n');
}

/// Only files of our own name are removed: the folder is the operator's.
fn prune(options: &CopyOptions) -> io::Result<()> {
    if options.retention.is_zero() {
        return Ok(());
    }
    for entry in fs::read_dir(&options.folder)? {
        let entry = entry?;
        let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
        if is_copy(&entry.path()) && age > options.retention {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_copy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
        && path.file_stem().and_then(|name| name.to_str()).is_some_and(|name| name.contains("Z-task-"))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs,
        time::{Duration, SystemTime},
    };

    use super::{CopyOptions, LocalCopy};
    use crate::report::{Conclusion, JobReport, journal::Record};

    fn rows(texts: &[&str]) -> Record {
        Record::Rows {
            first: 0,
            rows: texts.iter().map(|text| (SystemTime::UNIX_EPOCH, (*text).to_owned())).collect(),
        }
    }

    fn copied(limit: u64) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let options = CopyOptions { folder: folder.path().join("logs"), retention: Duration::ZERO, limit };
        let mut copy = LocalCopy::begin(&options, 7).expect("begun");
        copy.take(&rows(&["one", "two"])).expect("written");
        copy.take(&rows(&["three"])).expect("written");
        let report = JobReport {
            conclusion: Conclusion::Failure,
            outputs: BTreeMap::new(),
            at: SystemTime::UNIX_EPOCH,
        };
        copy.take(&Record::Finished(report)).expect("written");
        let entry = fs::read_dir(&options.folder).expect("there").next().expect("a file").expect("an entry");
        assert!(entry.file_name().to_string_lossy().ends_with("Z-task-7.log"));
        let text = fs::read_to_string(entry.path()).expect("readable");
        text.lines().filter_map(|line| line.split_once(' ')).map(|(_, row)| row.to_owned()).collect()
    }

    #[test]
    fn a_copy_has_every_row_and_the_result() {
        assert_eq!(copied(0), ["one", "two", "three", "result: failure"]);
    }

    #[test]
    fn a_full_copy_says_so_once_and_still_has_the_result() {
        let rows = copied(60);
        assert_eq!(rows.len(), 4);
        assert!(rows[2].contains("log.job.max_size"));
        assert_eq!(rows[3], "result: failure");
    }

    #[test]
    fn only_old_copies_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let old = SystemTime::now() - Duration::from_hours(1);
        for name in ["20200101T000000Z-task-1.log", "mine.log", "20200101T000000Z-task-2.txt"] {
            let file = fs::File::create(folder.path().join(name)).expect("made");
            file.set_modified(old).expect("old");
        }
        let options =
            CopyOptions { folder: folder.path().to_owned(), retention: Duration::from_mins(1), limit: 0 };
        LocalCopy::begin(&options, 7).expect("begun");
        assert!(!folder.path().join("20200101T000000Z-task-1.log").exists());
        assert!(folder.path().join("mine.log").exists());
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 3);
    }
}
