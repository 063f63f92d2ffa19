//! Integration tests of the crate, one binary: the conformance corpus, the planner's stories, and bounded
//! fuzzing of the grammars.
#![expect(clippy::print_stdout, reason = "a skipped corpus and the number of tried inputs are said aloud")]
#![expect(clippy::disallowed_methods, reason = "tests read files and the environment, the crate does not")]

mod conformance;
mod examples;
mod fuzz;
mod limits;
mod lint;
mod planner;
