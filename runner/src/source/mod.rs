//! Where assignments come from, together with the place their story goes.

pub mod gitea;
pub mod local;
