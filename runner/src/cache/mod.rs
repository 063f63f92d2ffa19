//! The cache of jobs: what `actions/cache`, the `setup-*` actions, BuildKit and the like save in one run and find in the
//! next.
//!
//! Both versions of the protocol are served over one store. `store` keeps archives as files and knows them by an
//! embedded index; an archive is in the index only when it is whole, so whatever dies in the middle of an upload leaves
//! nothing that could be found. `http` is what jobs speak to: they show the runtime token of their job, which is known
//! here while the job runs and no longer (`tokens`), and see the entries of their own repository only. Archives travel
//! by signed addresses (`sign`), because the clients send no token there.
//!
//! A job meets all this as an [`Offer`]: [`Caches`] makes it, from the server of this process, which starts with the
//! first job, or from one elsewhere (`cache.external_server`). Nothing here ever fails a job: what is wrong is a warning.

mod address;
mod http;
mod offer;
mod remote;
mod server;
mod sign;
mod store;
mod tokens;

pub use self::{
    offer::{Caches, Entered, Offer},
    remote::External,
    server::{CacheError, CacheServer, Listening, ServerOptions},
    store::Limits,
};

/// Now, in seconds since 1970.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
