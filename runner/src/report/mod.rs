//! Reporting: from a job's events to the server, the console and the disk.

mod event;

pub use event::{Conclusion, JobEvent, JobReport, Row, SINK_DEPTH, Sink, SinkClosed};
