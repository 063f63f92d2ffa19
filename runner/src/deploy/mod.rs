//! `esteira deploy`: brings a stack file to Docker Swarm and stays until the truth is known.
//!
//! `docker stack deploy` itself says "converged" and exits 0 after Swarm has rolled a release back. This module asks
//! the services instead: each one of the stack is marked with the id of this deployment, and the deployment has
//! succeeded only when every service still carries that mark, has as many running tasks of its newest specification as
//! it wants, and Swarm is not updating it any more.
//!
//! The line is `rollout`: `stack` renders the file with the docker command line (`docker`), marks it and hands it over,
//! `bridge` opens the engine's API (`engine`) through that same command line (so contexts, TLS and `ssh://` work as the
//! operator knows them), `observe` reads what is there, `watch` remembers it and `verdict` judges it without any I/O,
//! `follow` repeats that until the end, `show` tells a person or a program, `postmortem` fetches what failed tasks said.
//! A dry run ends before the hand-over, with what `diff` has found.

mod bridge;
mod diff;
mod docker;
mod engine;
mod explain;
mod follow;
mod observe;
mod postmortem;
mod rollout;
mod show;
mod stack;
mod verdict;
mod watch;

use std::{path::PathBuf, time::Duration};

pub use show::Format;

use crate::deploy::show::Show;

/// What to deploy, and how long to wait.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The stack's name.
    pub stack: String,
    /// Compose files, later ones override earlier ones.
    pub files: Vec<PathBuf>,
    /// What people know this release by: a commit or a tag. Becomes the label `esteira.revision`.
    pub revision: Option<String>,
    /// Engine address for the docker command line (`-H`), e.g. `ssh://deploy@manager`; `None` leaves it to the environment.
    pub host: Option<String>,
    /// From the beginning of the hand-over to the last service's convergence.
    pub timeout: Duration,
    /// Services that may still be on their way when the deployment ends well; one that has failed is a failure all the same.
    pub no_wait_for: Vec<String>,
    /// Send the registry's credentials to the nodes.
    pub with_registry_auth: bool,
    /// Remove services that the file no longer names.
    pub prune: bool,
    /// Show what would change and stop.
    pub dry_run: bool,
    /// How to tell it.
    pub format: Format,
}

/// How a deployment ended; the process's exit code says it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every service runs what was asked for (or a dry run has shown its differences).
    Converged,
    /// A task cannot run, a service is missing or paused, or another deployment took over.
    Failed,
    /// The stack file, a variable or an argument is wrong; nothing was changed.
    Usage,
    /// Swarm rolled at least one service back.
    RolledBack,
    /// The limit was reached first; Swarm goes on by itself.
    TimedOut,
    /// The manager could not be reached, or was lost for too long.
    Unreachable,
    /// Interrupted; what Swarm has been given it goes on with.
    Interrupted,
}

impl Outcome {
    /// The exit code of the process.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Converged => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::RolledBack => 5,
            Self::TimedOut => 6,
            Self::Unreachable => 7,
            Self::Interrupted => 130,
        }
    }

    /// Its name for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::RolledBack => "rolled_back",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What stopped a deployment before Swarm could answer.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The file or the arguments. One sentence.
    #[error("{0}")]
    Usage(String),
    /// The engine or the way to it. One sentence.
    #[error("{0}")]
    Unreachable(String),
    /// The output could not be written.
    #[error("writing the output: {0}")]
    Output(#[from] std::io::Error),
}

impl DeployError {
    /// The outcome that stands for it.
    const fn outcome(&self) -> Outcome {
        match self {
            Self::Usage(_) => Outcome::Usage,
            Self::Unreachable(_) => Outcome::Unreachable,
            Self::Output(_) => Outcome::Failed,
        }
    }
}

/// Deploys, and tells how it went. Does not fail: whatever goes wrong is the outcome.
pub async fn deploy(deployment: &Deployment, interrupted: impl Future<Output = ()> + Send) -> Outcome {
    let mut show = Show::new(deployment.format);
    let result = rollout::run(deployment, &mut show, std::pin::pin!(interrupted)).await;
    let (outcome, cause) = match result {
        Ok(ended) => ended,
        Err(error) => (error.outcome(), Some(error.to_string())),
    };
    // The reader has gone away (a closed pipe): the exit code still says it.
    let _ = show.end(&deployment.stack, outcome, cause.as_deref());
    outcome
}
