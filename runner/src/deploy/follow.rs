//! Looks at the stack every second until every service has come to its end, or the limit has.

use std::{collections::BTreeMap, time::Duration};

use bollard::Docker;
use tokio::time::Instant;

use crate::deploy::{
    DeployError, Deployment, Outcome,
    observe::{self, ServiceFacts},
    show::Show,
    stack::Mark,
    verdict::{Progress, Standing, judge},
};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// A manager that does not answer for so long is lost.
const ENGINE_PATIENCE: Duration = Duration::from_secs(30);
/// Looks in a row that must say "converged": a task may run for an instant before it fails.
const STILL: u32 = 2;

/// A service that did not converge, as last seen.
#[derive(Debug, Clone)]
pub(super) struct Unfinished {
    pub(super) service: String,
    pub(super) why: String,
    pub(super) facts: Option<ServiceFacts>,
    /// Tasks that failed at any time while we watched, by id: a rollback hides them from a last look.
    pub(super) failed: Vec<observe::TaskFacts>,
}

/// How following ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) unfinished: Vec<Unfinished>,
}

/// Follows the services named in the file to their end.
pub(super) async fn follow(
    engine: &Docker,
    deployment: &Deployment,
    names: &[String],
    mark: &Mark,
    started: Instant,
    show: &mut Show,
) -> Result<Ending, DeployError> {
    let mut still = 0;
    let mut last_answer = Instant::now();
    let mut failed: BTreeMap<String, BTreeMap<String, observe::TaskFacts>> = BTreeMap::new();
    loop {
        let stack = match observe::look(engine, &deployment.stack).await {
            Ok(stack) => stack,
            Err(error) if last_answer.elapsed() < ENGINE_PATIENCE => {
                tracing::debug!(%error, "the manager did not answer this time");
                tokio::time::sleep(INTERVAL).await;
                continue;
            }
            Err(error) => {
                return Err(DeployError::Unreachable(format!(
                    "the manager has not answered for {} s ({error}); Swarm goes on by itself",
                    ENGINE_PATIENCE.as_secs()
                )));
            }
        };
        last_answer = Instant::now();
        for (name, facts) in &stack {
            for task in facts
                .tasks
                .iter()
                .filter(|task| task.phase == observe::Phase::Failed && !task.error.is_empty())
            {
                if task.current || facts.deployment.as_deref() != Some(&mark.deployment) {
                    failed.entry(name.clone()).or_default().insert(task.id.clone(), task.clone());
                }
            }
        }
        let progress: BTreeMap<String, Progress> =
            names.iter().map(|name| (name.clone(), judge(&mark.deployment, stack.get(name)))).collect();
        show.progress(&progress, started.elapsed())?;
        let ending = |outcome| Ending { outcome, unfinished: unfinished(&progress, &stack, &failed) };
        if progress.values().all(|progress| progress.standing == Standing::Converged) {
            still += 1;
            if still >= STILL {
                return Ok(ending(Outcome::Converged));
            }
        } else {
            still = 0;
            if let Some(outcome) = settled(&progress) {
                return Ok(ending(outcome));
            }
        }
        if started.elapsed() >= deployment.timeout {
            return Ok(ending(Outcome::TimedOut));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The outcome, once a service has failed and none is still being moved back.
fn settled(progress: &BTreeMap<String, Progress>) -> Option<Outcome> {
    let standings = || progress.values().map(|progress| &progress.standing);
    if standings().any(|standing| matches!(standing, Standing::RollingBack(_))) {
        None
    } else if standings().any(|standing| matches!(standing, Standing::RolledBack(_))) {
        Some(Outcome::RolledBack)
    } else if standings().any(|standing| matches!(standing, Standing::Failed(_))) {
        Some(Outcome::Failed)
    } else {
        None
    }
}

fn unfinished(
    progress: &BTreeMap<String, Progress>,
    stack: &BTreeMap<String, ServiceFacts>,
    failed: &BTreeMap<String, BTreeMap<String, observe::TaskFacts>>,
) -> Vec<Unfinished> {
    progress
        .iter()
        .filter_map(|(name, progress)| {
            let why = match &progress.standing {
                Standing::Converged => return None,
                Standing::Waiting(why) => {
                    format!("{} of {} tasks are ready: {why}", progress.ready, progress.wanted)
                }
                Standing::RollingBack(why) | Standing::RolledBack(why) | Standing::Failed(why) => why.clone(),
            };
            Some(Unfinished {
                service: name.clone(),
                why,
                facts: stack.get(name).cloned(),
                failed: failed.get(name).map(|tasks| tasks.values().cloned().collect()).unwrap_or_default(),
            })
        })
        .collect()
}
