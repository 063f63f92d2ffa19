//! How far a job has come, as the server wants to hear it: a value that is built from records and answers questions.
//!
//! Pure. The live reporter and the recovery of a crashed one build it from the same records. It owns the rule by which
//! a server cuts one list of rows into steps: ranges of steps touch each other, from the first step's first row on.

use std::{collections::BTreeMap, time::SystemTime};

use super::{Conclusion, JobReport, journal::Record};

/// One main step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepProgress {
    pub(crate) name: String,
    pub(crate) started: Option<SystemTime>,
    pub(crate) stopped: Option<SystemTime>,
    pub(crate) conclusion: Option<Conclusion>,
    begin: Option<u64>,
    end: Option<u64>,
}

/// A step's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) index: u64,
    pub(crate) length: u64,
}

/// Everything a report needs but the rows themselves.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Progress {
    /// How many rows there are.
    pub(crate) rows: u64,
    /// How many of them the server has.
    pub(crate) acked: u64,
    pub(crate) started: Option<SystemTime>,
    pub(crate) steps: Vec<StepProgress>,
    /// Indexes of the steps that have begun, in that order.
    begun: Vec<usize>,
    /// Markdown by step; a later one replaces an earlier one.
    pub(crate) summaries: BTreeMap<usize, String>,
    pub(crate) finished: Option<JobReport>,
}

impl Progress {
    /// Takes one record in.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Opened { .. } => {}
            Record::Started { at, steps } => {
                self.started = Some(*at);
                self.steps = steps.iter().map(|name| StepProgress::new(name)).collect();
            }
            Record::Rows { rows, .. } => self.rows += rows.len() as u64,
            Record::StepStarted { index, at } => {
                let rows = self.rows;
                if let Some(step) = self.step(*index)
                    && step.begin.is_none()
                {
                    step.started = Some(*at);
                    step.begin = Some(rows);
                    self.begun.push(*index);
                }
            }
            Record::StepFinished { index, conclusion, at } => {
                let rows = self.rows;
                if let Some(step) = self.step(*index) {
                    step.stopped = Some(*at);
                    step.conclusion = Some(*conclusion);
                    step.end = Some(rows);
                }
            }
            Record::Summary { index, markdown } => {
                self.summaries.insert(*index, markdown.clone());
            }
            Record::Finished(report) => {
                let open = if report.conclusion == Conclusion::Skipped {
                    Conclusion::Skipped
                } else {
                    Conclusion::Cancelled
                };
                for step in &mut self.steps {
                    if step.conclusion.is_none() {
                        step.conclusion = Some(open);
                        step.stopped = Some(report.at);
                        step.end = Some(self.rows);
                    }
                }
                self.finished = Some(report.clone());
            }
            Record::Acked { rows } => self.acked = (*rows).min(self.rows),
            Record::Checkpoint(progress) => *self = (**progress).clone(),
        }
    }

    /// The rows of step `index`, as far as the first `known` rows go: a server must not hear of rows it does not have.
    pub(crate) fn range(&self, index: usize, known: u64) -> Range {
        let Some(step) = self.steps.get(index) else { return Range { index: 0, length: 0 } };
        let Some(begin) = step.begin else {
            return Range { index: step.end.unwrap_or(0).min(known), length: 0 };
        };
        let next = self
            .begun
            .iter()
            .position(|begun| *begun == index)
            .and_then(|place| self.begun.get(place + 1))
            .and_then(|next| self.steps[*next].begin);
        let end = next.or(step.end).unwrap_or(self.rows);
        let begin = begin.min(known);
        Range { index: begin, length: end.clamp(begin, known.max(begin)) - begin }
    }

    /// Whether rows may belong to a step: none does before the first one.
    pub(crate) fn has_begun_steps(&self) -> bool {
        !self.begun.is_empty()
    }

    fn step(&mut self, index: usize) -> Option<&mut StepProgress> {
        self.steps.get_mut(index)
    }

    /// For a checkpoint.
    pub(super) fn begun(&self) -> &[usize] {
        &self.begun
    }

    pub(super) fn restore_begun(&mut self, begun: Vec<usize>) {
        self.begun = begun.into_iter().filter(|index| *index < self.steps.len()).collect();
    }
}

impl StepProgress {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), started: None, stopped: None, conclusion: None, begin: None, end: None }
    }

    pub(super) const fn bounds(&self) -> (Option<u64>, Option<u64>) {
        (self.begin, self.end)
    }

    pub(super) const fn restore_bounds(&mut self, begin: Option<u64>, end: Option<u64>) {
        self.begin = begin;
        self.end = end;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::SystemTime};

    use super::{Progress, Range};
    use crate::report::{Conclusion, JobReport, journal::Record};

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn rows(count: usize) -> Record {
        Record::Rows { first: 0, rows: vec![(AT, String::new()); count] }
    }

    fn started(index: usize) -> Record {
        Record::StepStarted { index, at: AT }
    }

    fn finished(index: usize, conclusion: Conclusion) -> Record {
        Record::StepFinished { index, conclusion, at: AT }
    }

    fn progress(records: &[Record]) -> Progress {
        let mut progress = Progress::default();
        progress.apply(&Record::Started { at: AT, steps: vec!["a".into(), "b".into(), "c".into()] });
        for record in records {
            progress.apply(record);
        }
        progress
    }

    fn ranges(progress: &Progress, known: u64) -> Vec<(u64, u64)> {
        (0..3)
            .map(|index| progress.range(index, known))
            .map(|Range { index, length }| (index, length))
            .collect()
    }

    #[test]
    fn ranges_touch_although_rows_came_between_steps() {
        let progress = progress(&[
            rows(3),
            started(0),
            rows(4),
            finished(0, Conclusion::Success),
            rows(2),
            finished(1, Conclusion::Skipped),
            started(2),
            rows(5),
            finished(2, Conclusion::Failure),
            rows(7),
        ]);
        assert_eq!(ranges(&progress, 21), [(3, 6), (9, 0), (9, 5)]);
        assert!(progress.has_begun_steps());
    }

    #[test]
    fn a_server_hears_only_of_rows_that_it_has() {
        let progress =
            progress(&[rows(3), started(0), rows(4), finished(0, Conclusion::Success), started(1), rows(1)]);
        assert_eq!(ranges(&progress, 5), [(3, 2), (5, 0), (0, 0)]);
        assert_eq!(ranges(&progress, 0), [(0, 0), (0, 0), (0, 0)]);
    }

    #[test]
    fn steps_without_a_result_get_one_at_the_end() {
        let report =
            |conclusion| Record::Finished(JobReport { conclusion, outputs: BTreeMap::new(), at: AT });
        let ended = progress(&[rows(1), started(0), rows(1), report(Conclusion::Failure)]);
        assert!(ended.steps.iter().all(|step| step.conclusion == Some(Conclusion::Cancelled)));
        let skipped = progress(&[rows(1), report(Conclusion::Skipped)]);
        assert!(skipped.steps.iter().all(|step| step.conclusion == Some(Conclusion::Skipped)));
    }
}
