//! The wire: messages of `ping.v1`, `runner.v1` and `agent.v1`, and the transport that carries them.
//!
//! The code in `gen/` is made from the `.proto` files of this crate by `tests/main.rs`, committed, and never edited;
//! building needs no `protoc` and no build script. After a change to a `.proto` file run
//! `UPDATE=1 cargo test -p proto --test main`.

#[rustfmt::skip]
#[cfg_attr(feature = "server", expect(clippy::allow_attributes, reason = "generated"))]
#[expect(
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    missing_docs,
    reason = "generated: the style is the generator's"
)]
#[path = "gen/mod.rs"]
mod generated;
mod redact;
pub mod transport;

pub use generated::*;
