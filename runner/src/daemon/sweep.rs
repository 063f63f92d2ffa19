//! What jobs have left behind because somebody killed the runner or the engine refused: found by our labels and tracking
//! ids, and removed at start and in idle times. What belongs to a running job or to anybody else is left alone.

use std::{path::PathBuf, sync::Arc};

use super::engine::Engine;
use crate::backend::host::{Leftover, reap};

/// Whether a task runs now.
pub(super) type IsLive = Arc<dyn Fn(i64) -> bool + Send + Sync>;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Sweeper {
    /// The engine, when labels need one.
    pub engine: Option<Engine>,
    /// Where host jobs have their folders.
    pub scratch: PathBuf,
    /// Whose leftovers: the runner's uuid.
    pub owner: String,
}

impl Sweeper {
    /// Removes everything of ours that belongs to no live task.
    pub async fn sweep(&self, is_live: IsLive) {
        let (folder, owner, live) = (self.scratch.clone(), self.owner.clone(), is_live.clone());
        match tokio::task::spawn_blocking(move || reap(&folder, &owner, |task| live(task))).await {
            Ok(found) => found.into_iter().for_each(tell),
            Err(error) => {
                tracing::error!(%error, "what earlier jobs have left on this host could not be looked for");
            }
        }
        if let Some(engine) = &self.engine {
            engine.sweep(&self.owner, is_live).await;
        }
    }
}

fn tell(leftover: Leftover) {
    match leftover {
        Leftover::Process(name, pid) => {
            tracing::warn!(name, pid, "ended a process that an earlier job has left");
        }
        Leftover::Folder(path) => {
            tracing::warn!(path = %path.display(), "removed a folder that an earlier job has left");
        }
        Leftover::Stuck(path, reason) => {
            tracing::error!(path = %path.display(), reason, "a folder that an earlier job has left cannot be removed");
        }
    }
}
