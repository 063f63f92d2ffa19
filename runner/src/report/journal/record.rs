//! What a journal is made of: records, and the frames they travel in.
//!
//! A frame is the payload's length and its CRC-32 (both little-endian, 4 bytes), then the payload: one protobuf message
//! of this file. A file that ends inside a frame, or in one whose sum is wrong, is good up to there.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use prost::Message as _;

use super::super::{
    Conclusion, JobReport,
    progress::{Progress, StepProgress},
};

/// Bytes in front of each payload.
pub(super) const HEADER: usize = 8;

/// No payload is longer: a job's outputs are the largest.
const PAYLOAD_LIMIT: usize = 256 << 20;

/// One thing that has happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    /// The first record: whose job this is.
    Opened { task: i64, at: SystemTime },
    /// The job is on.
    Started { at: SystemTime, steps: Vec<String> },
    /// Rows from number `first` on.
    Rows { first: u64, rows: Vec<(SystemTime, String)> },
    /// A main step has begun.
    StepStarted { index: usize, at: SystemTime },
    /// A main step has ended.
    StepFinished { index: usize, conclusion: Conclusion, at: SystemTime },
    /// A step's summary.
    Summary { index: usize, markdown: String },
    /// The job has ended.
    Finished(JobReport),
    /// The server has this many rows.
    Acked { rows: u64 },
    /// All of the above so far: the first record of a file that is not the first.
    Checkpoint(Box<Progress>),
}

/// Appends `record` as a frame.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    let message = wire::Record::from(record);
    let at = out.len();
    out.resize(at + HEADER, 0);
    // A Vec has room for everything.
    let _ = message.encode(out);
    let payload = &out[at + HEADER..];
    let (length, sum) = (u32::try_from(payload.len()).unwrap_or(u32::MAX), crc32fast::hash(payload));
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    out[at + 4..at + HEADER].copy_from_slice(&sum.to_le_bytes());
}

/// The length that a header announces; `None` for one that no writer has written.
pub(super) fn payload_length(header: [u8; HEADER]) -> Option<usize> {
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    (length > 0 && length <= PAYLOAD_LIMIT).then_some(length)
}

/// The record of a payload; `None` when it is torn.
pub(super) fn decode(header: [u8; HEADER], payload: &[u8]) -> Option<Record> {
    let sum = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    if crc32fast::hash(payload) != sum {
        return None;
    }
    wire::Record::decode(payload).ok()?.kind.map(Record::from)
}

fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn time(nanoseconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds.unsigned_abs())
}

const fn conclusion_number(conclusion: Conclusion) -> u32 {
    match conclusion {
        Conclusion::Success => 1,
        Conclusion::Failure => 2,
        Conclusion::Cancelled => 3,
        Conclusion::Skipped => 4,
    }
}

const fn conclusion(number: u32) -> Option<Conclusion> {
    Some(match number {
        1 => Conclusion::Success,
        2 => Conclusion::Failure,
        3 => Conclusion::Cancelled,
        4 => Conclusion::Skipped,
        _ => return None,
    })
}

/// The messages on disk. Field numbers are for ever: a newer runner reads what an older one has left.
mod wire {
    use std::collections::HashMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Record {
        #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
        pub(super) kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Kind {
        #[prost(message, tag = "1")]
        Opened(Opened),
        #[prost(message, tag = "2")]
        Started(Started),
        #[prost(message, tag = "3")]
        Rows(Rows),
        #[prost(message, tag = "4")]
        StepStarted(Step),
        #[prost(message, tag = "5")]
        StepFinished(Step),
        #[prost(message, tag = "6")]
        Summary(Summary),
        #[prost(message, tag = "7")]
        Finished(Finished),
        #[prost(uint64, tag = "8")]
        Acked(u64),
        #[prost(message, tag = "9")]
        Checkpoint(Checkpoint),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Opened {
        #[prost(int64, tag = "1")]
        pub(super) task: i64,
        #[prost(int64, tag = "2")]
        pub(super) at: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Started {
        #[prost(int64, tag = "1")]
        pub(super) at: i64,
        #[prost(string, repeated, tag = "2")]
        pub(super) steps: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Rows {
        #[prost(uint64, tag = "1")]
        pub(super) first: u64,
        #[prost(message, repeated, tag = "2")]
        pub(super) rows: Vec<Row>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Row {
        #[prost(int64, tag = "1")]
        pub(super) at: i64,
        #[prost(string, tag = "2")]
        pub(super) text: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Step {
        #[prost(uint64, tag = "1")]
        pub(super) index: u64,
        #[prost(int64, tag = "2")]
        pub(super) at: i64,
        #[prost(uint32, tag = "3")]
        pub(super) conclusion: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Summary {
        #[prost(uint64, tag = "1")]
        pub(super) index: u64,
        #[prost(string, tag = "2")]
        pub(super) markdown: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Finished {
        #[prost(uint32, tag = "1")]
        pub(super) conclusion: u32,
        #[prost(map = "string, string", tag = "2")]
        pub(super) outputs: HashMap<String, String>,
        #[prost(int64, tag = "3")]
        pub(super) at: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Checkpoint {
        #[prost(uint64, tag = "1")]
        pub(super) rows: u64,
        #[prost(uint64, tag = "2")]
        pub(super) acked: u64,
        #[prost(int64, optional, tag = "3")]
        pub(super) started: Option<i64>,
        #[prost(message, repeated, tag = "4")]
        pub(super) steps: Vec<CheckpointStep>,
        #[prost(uint64, repeated, tag = "5")]
        pub(super) begun: Vec<u64>,
        #[prost(message, repeated, tag = "6")]
        pub(super) summaries: Vec<Summary>,
        #[prost(message, optional, tag = "7")]
        pub(super) finished: Option<Finished>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct CheckpointStep {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(int64, optional, tag = "2")]
        pub(super) started: Option<i64>,
        #[prost(int64, optional, tag = "3")]
        pub(super) stopped: Option<i64>,
        #[prost(uint32, tag = "4")]
        pub(super) conclusion: u32,
        #[prost(uint64, optional, tag = "5")]
        pub(super) begin: Option<u64>,
        #[prost(uint64, optional, tag = "6")]
        pub(super) end: Option<u64>,
    }
}

impl From<&JobReport> for wire::Finished {
    fn from(report: &JobReport) -> Self {
        Self {
            conclusion: conclusion_number(report.conclusion),
            outputs: report.outputs.clone().into_iter().collect(),
            at: nanoseconds(report.at),
        }
    }
}

impl From<wire::Finished> for JobReport {
    fn from(finished: wire::Finished) -> Self {
        Self {
            // A conclusion of a newer runner is one that this one cannot vouch for.
            conclusion: conclusion(finished.conclusion).unwrap_or(Conclusion::Failure),
            outputs: finished.outputs.into_iter().collect(),
            at: time(finished.at),
        }
    }
}

impl From<&Record> for wire::Record {
    fn from(record: &Record) -> Self {
        use wire::Kind;
        let kind = match record {
            Record::Opened { task, at } => Kind::Opened(wire::Opened { task: *task, at: nanoseconds(*at) }),
            Record::Started { at, steps } => {
                Kind::Started(wire::Started { at: nanoseconds(*at), steps: steps.clone() })
            }
            Record::Rows { first, rows } => {
                let rows = rows
                    .iter()
                    .map(|(at, text)| wire::Row { at: nanoseconds(*at), text: text.clone() })
                    .collect();
                Kind::Rows(wire::Rows { first: *first, rows })
            }
            Record::StepStarted { index, at } => {
                Kind::StepStarted(wire::Step { index: *index as u64, at: nanoseconds(*at), conclusion: 0 })
            }
            Record::StepFinished { index, conclusion, at } => Kind::StepFinished(wire::Step {
                index: *index as u64,
                at: nanoseconds(*at),
                conclusion: conclusion_number(*conclusion),
            }),
            Record::Summary { index, markdown } => {
                Kind::Summary(wire::Summary { index: *index as u64, markdown: markdown.clone() })
            }
            Record::Finished(report) => Kind::Finished(report.into()),
            Record::Acked { rows } => Kind::Acked(*rows),
            Record::Checkpoint(progress) => Kind::Checkpoint(checkpoint(progress)),
        };
        Self { kind: Some(kind) }
    }
}

fn checkpoint(progress: &Progress) -> wire::Checkpoint {
    let steps = progress
        .steps
        .iter()
        .map(|step| {
            let (begin, end) = step.bounds();
            wire::CheckpointStep {
                name: step.name.clone(),
                started: step.started.map(nanoseconds),
                stopped: step.stopped.map(nanoseconds),
                conclusion: step.conclusion.map_or(0, conclusion_number),
                begin,
                end,
            }
        })
        .collect();
    let summaries = progress
        .summaries
        .iter()
        .map(|(index, markdown)| wire::Summary { index: *index as u64, markdown: markdown.clone() })
        .collect();
    wire::Checkpoint {
        rows: progress.rows,
        acked: progress.acked,
        started: progress.started.map(nanoseconds),
        steps,
        begun: progress.begun().iter().map(|index| *index as u64).collect(),
        summaries,
        finished: progress.finished.as_ref().map(Into::into),
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl From<wire::Checkpoint> for Progress {
    fn from(checkpoint: wire::Checkpoint) -> Self {
        let steps = checkpoint
            .steps
            .into_iter()
            .map(|kept| {
                let mut step = StepProgress::new(&kept.name);
                step.started = kept.started.map(time);
                step.stopped = kept.stopped.map(time);
                step.conclusion = conclusion(kept.conclusion);
                step.restore_bounds(kept.begin, kept.end);
                step
            })
            .collect();
        let summaries: BTreeMap<usize, String> =
            checkpoint.summaries.into_iter().map(|kept| (index(kept.index), kept.markdown)).collect();
        let mut progress = Self::default();
        progress.rows = checkpoint.rows;
        progress.acked = checkpoint.acked;
        progress.started = checkpoint.started.map(time);
        progress.steps = steps;
        progress.summaries = summaries;
        progress.finished = checkpoint.finished.map(Into::into);
        progress.restore_begun(checkpoint.begun.into_iter().map(index).collect());
        progress
    }
}

impl From<wire::Kind> for Record {
    fn from(kind: wire::Kind) -> Self {
        use wire::Kind;
        match kind {
            Kind::Opened(opened) => Self::Opened { task: opened.task, at: time(opened.at) },
            Kind::Started(started) => Self::Started { at: time(started.at), steps: started.steps },
            Kind::Rows(rows) => Self::Rows {
                first: rows.first,
                rows: rows.rows.into_iter().map(|row| (time(row.at), row.text)).collect(),
            },
            Kind::StepStarted(step) => Self::StepStarted { index: index(step.index), at: time(step.at) },
            Kind::StepFinished(step) => Self::StepFinished {
                index: index(step.index),
                conclusion: conclusion(step.conclusion).unwrap_or(Conclusion::Failure),
                at: time(step.at),
            },
            Kind::Summary(summary) => {
                Self::Summary { index: index(summary.index), markdown: summary.markdown }
            }
            Kind::Finished(finished) => Self::Finished(finished.into()),
            Kind::Acked(rows) => Self::Acked { rows },
            Kind::Checkpoint(checkpoint) => Self::Checkpoint(Box::new(checkpoint.into())),
        }
    }
}
