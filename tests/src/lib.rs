//! The harness of the end-to-end stories: a Gitea made of Rust, the real `esteira` as a process, and the searches
//! over everything that left it.
//!
//! - [`gitea`]: the server's behaviour as far as a runner can see it, with the faults a network has.
//! - [`runner`]: a hermetic home, the runner's processes in it, what they printed and left behind.
//! - [`canary`]: looks for secrets, in every encoding, in every byte that left.
//! - [`engine`]: what is in the Docker Engine; [`proxy`]: a socket before it that counts.
//! - [`skip`]: says aloud what cannot run here.
//!
//! The stories are in `suite/`, a module each. They know the runner as an operator does: by its command line, its
//! files and what it sends. They are synchronous on purpose; the server has a thread of its own.

pub mod canary;
pub mod engine;
pub mod gitea;
pub mod proxy;
pub mod runner;
pub mod skip;
