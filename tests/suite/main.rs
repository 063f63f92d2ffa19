//! The end-to-end stories: the real `esteira` against a Gitea made of Rust, a module per subject.
//!
//! Jobs run on the host where no container is the subject. Waits are on conditions with generous deadlines: nothing
//! here measures time.

mod architecture;
mod build;
mod wire;
