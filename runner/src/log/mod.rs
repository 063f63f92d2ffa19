//! The job's one way out: bytes, lines, commands, masking, rows.

mod masker;

pub use masker::Masked;
