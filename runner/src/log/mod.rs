//! The job's one way out: bytes, lines, commands, masking, rows.
//!
//! A [`JobLog`] is opened for each job with the [`Masker`] that knows its secrets. What a process prints goes through a
//! [`StepLog`]: `lines` splits each stream, `stage` obeys workflow commands and problem matchers, the masker
//! hides, and only then is a row cut to what a server takes. That order is law: nothing is cut, escaped or gathered
//! before it is masked. Rows leave as [`crate::report::JobEvent`]s; what follows is the business of `report`.

mod job_log;
mod lines;
mod masker;
mod matcher;
mod needles;
mod rows;
mod stage;
mod step_log;
#[cfg(test)]
mod tests;

pub use job_log::JobLog;
pub use masker::{Added, Masked, Masker};
pub use stage::{StepFindings, StepLogOptions};
pub use step_log::{MatcherRequest, MatcherRequests, StepLog};
