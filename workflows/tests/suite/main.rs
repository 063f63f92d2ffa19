//! Integration tests of the crate, one binary: the conformance corpus, the planner's stories, and bounded
//! fuzzing of the grammars.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests read files and the environment and say what they skip, the crate does not"
)]

mod conformance;
mod examples;
mod fuzz;
mod limits;
mod lint;
mod lint_computed;
mod lint_references;
mod planner;
