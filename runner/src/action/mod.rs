//! Actions: what `uses:` means, where its files come from, and how each kind runs.

pub(crate) mod git;
mod reference;
mod store;

pub use git::{GitError, GitNetwork, Remote, default_tls};
pub use reference::{Reference, ReferenceError, RemoteReference};
pub use store::{ActionStore, Archive, StoreOptions};
