//! The crate from outside: its generated code, and its transport on real sockets.

mod bootstrap;
mod transport;
