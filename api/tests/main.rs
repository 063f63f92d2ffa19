//! The task API as its clients and its operator see it: the program is started, asked over HTTP, killed and drained.
//!
//! Tests on PostgreSQL start a server of their own from Debian's programs. Where those are missing the tests say
//! "skipped" and pass, except under `CI=true`. `ESTEIRA_LONG=1` runs the long repetitions in full.

mod contract;
mod crash;
mod hostile;
mod lists;
mod outage;
mod process;
mod rolling;
mod slow;
mod support;
