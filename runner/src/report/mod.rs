//! Reporting: from a job's events to the server, the console and the disk.
//!
//! A job speaks [`JobEvent`]s into a [`Sink`]. For a server's task the far end is a [`gitea::Reporter`], which writes
//! them into a journal and ships them from there; [`recover()`] finishes what a killed runner had begun. For `exec` it is
//! the [`console`].

pub mod console;
mod event;
pub mod gitea;
mod journal;
mod journal_text;
mod local_copy;
mod progress;
mod recover;

pub use event::{Conclusion, JobEvent, JobReport, Row, SINK_DEPTH, Sink, SinkClosed};
pub use journal::JOURNAL_LIMIT;
pub use local_copy::CopyOptions;
pub use recover::{Recovered, recover};
