//! Looks at the stack every second until every service has come to its end, or the limit has.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::deploy::{
    DeployError, Deployment, Outcome,
    engine::Engine,
    explain,
    observe::{self, Before, ServiceFacts},
    show::Show,
    stack::Mark,
    verdict::{Progress, Standing, judge},
    watch::Watch,
};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// A manager that does not answer for so long is lost.
const ENGINE_PATIENCE: Duration = Duration::from_secs(30);
/// Looks in a row that must say "converged".
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

impl Ending {
    /// The first task that failed and why, with what to do about it; else a task that found no place; else what the
    /// service itself says.
    pub(super) fn cause(&self) -> Option<String> {
        let failed =
            self.unfinished.iter().flat_map(|service| service.failed.iter().map(move |task| (service, task)));
        let stuck = self.unfinished.iter().flat_map(|service| {
            let tasks = service.facts.iter().flat_map(|facts| &facts.tasks);
            tasks.filter(|task| task.current && !task.error.is_empty()).map(move |task| (service, task))
        });
        let first = failed
            .min_by_key(|(_, task)| task.changed)
            .or_else(|| stuck.min_by_key(|(_, task)| task.changed));
        match first {
            Some((service, task)) => {
                Some(format!("{}.{}: {}", service.service, task.slot, explain::task(&task.error)))
            }
            None => self.unfinished.first().map(|service| format!("{}: {}", service.service, service.why)),
        }
    }
}

/// One deployment being followed.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    pub(super) engine: &'a Engine,
    pub(super) deployment: &'a Deployment,
    /// The services of the file.
    pub(super) names: &'a [String],
    pub(super) mark: &'a Mark,
    pub(super) before: &'a Before,
}

impl Follower<'_> {
    /// Follows the services to their end, or to the limit.
    pub(super) async fn follow(&self, started: Instant, show: &mut Show) -> Result<Ending, DeployError> {
        let mut still = 0;
        let mut watch = Watch::new(&self.mark.deployment, self.before);
        loop {
            let stack = self.look().await?;
            watch.note(&stack);
            let steady = watch.is_steady(self.names, &stack, Instant::now());
            let progress: BTreeMap<String, Progress> = self
                .names
                .iter()
                .map(|name| (name.clone(), judge(&self.mark.deployment, stack.get(name))))
                .collect();
            show.progress(&progress, started.elapsed())?;
            let ending = |outcome| Ending { outcome, unfinished: unfinished(&progress, &stack, &watch) };
            if progress.iter().all(|(name, progress)| self.is_enough(name, &progress.standing)) {
                still += 1;
                if still >= STILL && steady {
                    return Ok(ending(Outcome::Converged));
                }
            } else {
                still = 0;
                if let Some(outcome) = settled(&progress) {
                    return Ok(ending(outcome));
                }
            }
            if started.elapsed() >= self.deployment.timeout {
                return Ok(ending(out_of_time(&progress)));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// One look, tried again for as long as a manager may be away.
    async fn look(&self) -> Result<BTreeMap<String, ServiceFacts>, DeployError> {
        let asked = Instant::now();
        loop {
            match observe::look(self.engine, &self.deployment.stack, self.before).await {
                Ok(stack) => return Ok(stack),
                Err(error) if asked.elapsed() < ENGINE_PATIENCE => {
                    tracing::debug!(%error, "the manager did not answer this time");
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(error) => {
                    return Err(DeployError::Unreachable(format!(
                        "the manager has not answered for {} s ({error}); Swarm goes on by itself",
                        ENGINE_PATIENCE.as_secs()
                    )));
                }
            }
        }
    }

    fn is_enough(&self, name: &str, standing: &Standing) -> bool {
        match standing {
            Standing::Converged => true,
            Standing::Waiting(_) => self.deployment.no_wait_for.iter().any(|unawaited| unawaited == name),
            Standing::RollingBack(_) | Standing::RolledBack(_) | Standing::Failed(_) => false,
        }
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

/// The outcome at the limit: a release that is being taken back is refused, however long the way back takes.
fn out_of_time(progress: &BTreeMap<String, Progress>) -> Outcome {
    let taken_back = progress.values().any(|progress| matches!(progress.standing, Standing::RollingBack(_)));
    if taken_back { Outcome::RolledBack } else { Outcome::TimedOut }
}

fn unfinished(
    progress: &BTreeMap<String, Progress>,
    stack: &BTreeMap<String, ServiceFacts>,
    watch: &Watch<'_>,
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
                failed: watch.failed(name),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Outcome, Progress, Standing, out_of_time};

    fn at_the_limit(standing: Standing) -> Outcome {
        out_of_time(&BTreeMap::from([("web".to_owned(), Progress { ready: 0, wanted: 2, standing })]))
    }

    #[test]
    fn a_way_back_that_outlasts_the_limit_is_a_rollback_all_the_same() {
        assert_eq!(at_the_limit(Standing::RollingBack("failed".into())), Outcome::RolledBack);
        assert_eq!(at_the_limit(Standing::Waiting("starting".into())), Outcome::TimedOut);
    }
}
