//! What the program's exit codes mean, in one place. (`deploy` has more of its own; its `--help` lists them.)

use std::process::ExitCode;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All well.
    Success = 0,
    /// A job failed, a check found something, or the server said no.
    Failure = 1,
    /// A flag, a variable or the configuration is wrong.
    Usage = 2,
    /// The server does not know this runner (any more): register it again.
    Unregistered = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
