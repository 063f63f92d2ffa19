//! After a crash: every task that a runner had begun and that has no owner any more is finished at the server.
//!
//! A job that had ended keeps its true result; one that had not has failed, and its log says why. What such a job has
//! left in an engine or among the processes is the business of the backends' own sweep.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Conclusion, JobReport,
    gitea::{Ended, ReportLimits, Reporter, Server},
    journal::{Journal, JournalError, Record},
    journal_text,
    progress::Progress,
};

/// How many tasks are finished at the same time.
const AT_A_TIME: usize = 8;

/// One task that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The server's number.
    pub task: i64,
    /// How its report ended.
    pub ended: Ended,
}

/// Finishes all journals below the folder `jobs` that have no owner. To be awaited beside the daemon's own work: a
/// server that does not answer keeps it waiting, until `hurry`.
pub async fn recover<S: Server>(
    jobs: &Path,
    server: &S,
    limits: &ReportLimits,
    hurry: &CancellationToken,
) -> Vec<Recovered> {
    if let Err(error) = journal_text::prune(jobs) {
        tracing::warn!(%error, "old logs could not be removed");
    }
    let mut found = orphans(jobs).into_iter();
    let mut running = JoinSet::new();
    let mut recovered = Vec::new();
    loop {
        while running.len() < AT_A_TIME
            && let Some((journal, progress)) = found.next()
        {
            let task = journal.task();
            let reporter = Reporter::resume(server.clone(), journal, progress, limits.clone(), hurry.clone());
            running.spawn(async move { Recovered { task, ended: reporter.run().await } });
        }
        match running.join_next().await {
            Some(Ok(one)) => recovered.push(one),
            Some(Err(error)) => tracing::error!(%error, "a task of an earlier run could not be finished"),
            None => return recovered,
        }
    }
}

/// The journals without an owner, each brought to an end.
fn orphans(jobs: &Path) -> Vec<(Journal, Progress)> {
    let folders: Vec<PathBuf> = match std::fs::read_dir(jobs) {
        Ok(entries) => {
            entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        }
        Err(_) => return Vec::new(),
    };
    let mut found = Vec::new();
    for folder in folders {
        match Journal::recover(&folder) {
            Ok((mut journal, mut progress)) => match end(&mut journal, &mut progress) {
                Ok(()) => found.push((journal, progress)),
                Err(error) => {
                    tracing::error!(folder = %folder.display(), %error, "a journal cannot be brought to its end");
                }
            },
            Err(JournalError::Owned(_)) => {}
            Err(JournalError::Empty(folder)) => {
                // A runner was killed between making the folder and writing the first record: nothing had begun.
                if let Err(error) = std::fs::remove_dir_all(&folder) {
                    tracing::warn!(folder = %folder.display(), %error, "an empty journal cannot be removed");
                }
            }
            Err(error) => tracing::error!(%error, "a journal of an earlier run cannot be read"),
        }
    }
    found
}

/// Writes the end that the job itself could not write.
fn end(journal: &mut Journal, progress: &mut Progress) -> std::io::Result<()> {
    if progress.finished.is_some() {
        return Ok(());
    }
    let at = SystemTime::now();
    let text = "##[error]The runner was stopped while the job ran. Re-run the job to try again.".to_owned();
    let mut records = vec![Record::Rows { first: progress.rows, rows: vec![(at, text)] }];
    for (index, step) in progress.steps.iter().enumerate() {
        if step.started.is_some() && step.conclusion.is_none() {
            records.push(Record::StepFinished { index, conclusion: Conclusion::Failure, at });
        }
    }
    records.push(Record::Finished(JobReport {
        conclusion: Conclusion::Failure,
        outputs: BTreeMap::new(),
        at,
    }));
    journal.append(&records, progress)?;
    for record in &records {
        progress.apply(record);
    }
    Ok(())
}
