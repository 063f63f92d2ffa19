//! Tests of the runner's parts together, in one program.

mod actions;
mod backend;
mod tricky;
