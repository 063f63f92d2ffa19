//! Tests of the runner's parts together, in one program.

mod backend;
mod tricky;
