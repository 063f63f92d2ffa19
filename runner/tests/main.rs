//! Tests of the runner's parts together, in one program.

#![expect(clippy::unwrap_used, reason = "a helper of a test that cannot go on says where")]

mod actions;
mod backend;
mod deploy;
mod hostile;
mod tricky;
