//! Where assignments come from.

pub mod local;
