//! Integration tests of the crate, one binary: the conformance corpus, the planner's stories, and bounded
//! fuzzing of the grammars.

mod conformance;
mod examples;
mod fuzz;
mod limits;
mod planner;
