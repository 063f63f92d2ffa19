//! Actions: what `uses:` means, where its files come from, and how each kind runs.
//!
//! A reference is parsed (`reference`), its repository fetched (`git`) into the store shared by all jobs (`store`), its
//! `action.yml` and those of the actions it uses are read before the job's first step (`load`); `run` brings the files into
//! the place and hands over to `node`, `composite`, `docker` or `go`.

mod checkout;
mod composite;
mod docker;
pub(crate) mod git;
mod go;
mod ignore;
mod load;
mod node;
mod patch;
mod reference;
mod run;
mod store;

pub use checkout::WorkingTree;
pub use git::{GitError, GitNetwork, Remote, default_tls};
pub use load::ActionSource;
pub(crate) use load::{Actions, LoadedAction, Origin, Residence, definition_names, parse_definition};
pub use reference::{Reference, ReferenceError, RemoteReference};
pub(crate) use run::{Inputs, input_variables};
pub use store::{ActionStore, Archive, StoreOptions};
