//! What was seen of a stack's tasks while it was followed: which ones failed, and since when the others run. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::deploy::observe::{Before, Mode, Phase, ServiceFacts, TaskFacts, failure};

/// So long a new task must have run: without a health check it runs for an instant before it fails. Swarm watches the
/// tasks of an update for as long by default, those of a first release not at all. And so long a task must have been let
/// alone that Swarm may still replace.
const STEADY: Duration = Duration::from_secs(5);

/// The memory of one deployment.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    deployment: &'a str,
    before: &'a Before,
    /// Failed tasks of our release by service and id: a rollback hides them from a last look.
    failed: BTreeMap<String, BTreeMap<String, TaskFacts>>,
    /// Tasks that were there while the service was ours.
    ours: HashSet<String>,
    /// Since when a task has been seen running.
    since: HashMap<String, Instant>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(deployment: &'a str, before: &'a Before) -> Self {
        let (failed, ours, since) = (BTreeMap::new(), HashSet::new(), HashMap::new());
        Self { deployment, before, failed, ours, since }
    }

    /// Keeps what failed of our release.
    pub(super) fn note(&mut self, stack: &BTreeMap<String, ServiceFacts>) {
        for (name, facts) in stack {
            let is_ours = facts.deployment.as_deref() == Some(self.deployment);
            for task in facts.tasks.iter().filter(|task| !self.before.tasks.contains(&task.id)) {
                // After a rollback the specification is the former one: ours are the tasks that we know, and those
                // that do not have it.
                if is_ours && task.current || !is_ours && (!task.current || task.kept) {
                    self.ours.insert(task.id.clone());
                }
                if self.ours.contains(&task.id)
                    && let Some(failure) = failure(facts.mode, task)
                {
                    self.failed.entry(name.clone()).or_default().insert(task.id.clone(), failure);
                }
            }
        }
    }

    /// Whether every running task of these services that is new, or that Swarm may still replace, has run for a while.
    pub(super) fn is_steady(
        &mut self,
        names: &[String],
        stack: &BTreeMap<String, ServiceFacts>,
        now: Instant,
    ) -> bool {
        let services = names.iter().filter_map(|name| stack.get(name));
        let running = services
            .filter(|facts| facts.mode == Mode::Running)
            .flat_map(|facts| &facts.tasks)
            .filter(|task| task.current && task.wanted && task.phase == Phase::Running)
            .filter(|task| task.kept || !self.before.tasks.contains(&task.id));
        running.fold(true, |steady, task| {
            let since = *self.since.entry(task.id.clone()).or_insert(now);
            steady && now.duration_since(since) >= STEADY
        })
    }

    /// The failed tasks of a service.
    pub(super) fn failed(&self, service: &str) -> Vec<TaskFacts> {
        self.failed.get(service).map(|tasks| tasks.values().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::time::Instant;

    use super::{STEADY, Watch};
    use crate::deploy::observe::{Before, Mode, Phase, ServiceFacts, TaskFacts, Update};

    fn task(id: &str, current: bool, kept: bool, phase: Phase) -> TaskFacts {
        TaskFacts {
            id: id.into(),
            slot: "1".into(),
            current,
            kept,
            wanted: true,
            phase,
            error: if phase == Phase::Failed { "it broke".into() } else { String::new() },
            exit_code: None,
            changed: None,
        }
    }

    fn stack(deployment: &str, tasks: Vec<TaskFacts>) -> BTreeMap<String, ServiceFacts> {
        let facts = ServiceFacts {
            deployment: Some(deployment.into()),
            mode: Mode::Running,
            wanted: 1,
            completed: 0,
            restarts: true,
            update: Update::None,
            update_message: String::new(),
            tasks,
        };
        BTreeMap::from([("web".to_owned(), facts)])
    }

    fn before(id: &str) -> Before {
        Before { tasks: std::iter::once(id.to_owned()).collect(), ..Before::default() }
    }

    fn failed(watch: &Watch<'_>) -> Vec<String> {
        watch.failed("web").into_iter().map(|task| task.id).collect()
    }

    #[test]
    fn a_rollback_does_not_hide_our_failures_nor_show_those_of_the_way_back() {
        let before = before("old");
        let mut watch = Watch::new("ours", &before);
        watch.note(&stack("ours", vec![task("known", true, false, Phase::Starting)]));
        watch.note(&stack(
            "theirs",
            vec![
                task("old", true, false, Phase::Failed),
                task("known", true, true, Phase::Failed),
                task("unseen", false, false, Phase::Failed),
                task("placed", true, true, Phase::Failed),
                task("back", true, false, Phase::Failed),
            ],
        ));
        assert_eq!(failed(&watch), ["known", "placed", "unseen"]);
    }

    #[test]
    fn a_task_that_swarm_may_still_replace_is_waited_for() {
        let before = before("old");
        let mut watch = Watch::new("ours", &before);
        let (names, now) = (["web".to_owned()], Instant::now());
        let same = stack("ours", vec![task("old", true, false, Phase::Running)]);
        assert!(watch.is_steady(&names, &same, now), "nothing of it has changed");
        let kept = stack("ours", vec![task("old", true, true, Phase::Running)]);
        assert!(!watch.is_steady(&names, &kept, now));
        assert!(watch.is_steady(&names, &kept, now + STEADY));
        let new = stack("ours", vec![task("new", true, false, Phase::Running)]);
        assert!(!watch.is_steady(&names, &new, now + STEADY));
    }
}
