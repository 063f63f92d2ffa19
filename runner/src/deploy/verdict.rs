//! Judges one service: pure, so that every ending of a rollout is a row in a table of tests.

use crate::deploy::observe::{Mode, Phase, ServiceFacts, Update};

/// Where a service stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// On its way; what it waits for.
    Waiting(String),
    /// Swarm takes the release back; the end is known, the service is not yet still.
    RollingBack(String),
    /// Runs what was asked for.
    Converged,
    /// Swarm took the release back.
    RolledBack(String),
    /// It will not get there.
    Failed(String),
}

impl Standing {
    /// Its name for programs; people read it with spaces.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting(_) => "waiting",
            Self::RollingBack(_) => "rolling_back",
            Self::Converged => "converged",
            Self::RolledBack(_) => "rolled_back",
            Self::Failed(_) => "failed",
        }
    }
}

/// What is shown of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    /// Tasks of the newest specification that run (or have completed).
    pub(super) ready: u64,
    /// Tasks that should.
    pub(super) wanted: u64,
    pub(super) standing: Standing,
}

/// Judges what is there of a service, `None` when it is not there at all.
pub(super) fn judge(deployment: &str, service: Option<&ServiceFacts>) -> Progress {
    let Some(service) = service else {
        return Progress {
            ready: 0,
            wanted: 0,
            standing: Standing::Failed("the service is not there".into()),
        };
    };
    let ready = match service.mode {
        Mode::Running => count(service, |phase| phase == Phase::Running),
        Mode::Job => service.completed,
    };
    Progress { ready, wanted: service.wanted, standing: standing(deployment, service, ready) }
}

fn count(service: &ServiceFacts, wanted: impl Fn(Phase) -> bool) -> u64 {
    service.tasks.iter().filter(|task| task.current && task.wanted && wanted(task.phase)).count() as u64
}

fn standing(deployment: &str, service: &ServiceFacts, ready: u64) -> Standing {
    let because = || {
        if service.update_message.is_empty() {
            String::new()
        } else {
            format!(": {}", service.update_message)
        }
    };
    match service.update {
        Update::RollingBack => {
            return Standing::RollingBack(format!("Swarm is rolling it back{}", because()));
        }
        Update::RolledBack if service.deployment.as_deref() != Some(deployment) => {
            return Standing::RolledBack(format!("Swarm rolled it back{}", because()));
        }
        Update::RollbackPaused => {
            return Standing::Failed(format!("the update failed and so did the way back{}", because()));
        }
        Update::Paused => return Standing::Failed(format!("Swarm paused the update{}", because())),
        Update::None | Update::Updating | Update::Completed | Update::RolledBack => {}
    }
    if service.deployment.as_deref() != Some(deployment) {
        return Standing::Failed("another deployment has replaced this one".into());
    }
    match service.mode {
        Mode::Job => job(service, ready),
        Mode::Running => running(service, ready),
    }
}

fn job(service: &ServiceFacts, ready: u64) -> Standing {
    if ready >= service.wanted {
        return Standing::Converged;
    }
    let failed = count_failed(service);
    if failed > 0 && !service.restarts {
        return Standing::Failed(format!("{failed} of its tasks failed and are not started again"));
    }
    Standing::Waiting(format!("{ready} of {} tasks have completed", service.wanted))
}

fn count_failed(service: &ServiceFacts) -> usize {
    service.tasks.iter().filter(|task| task.current && task.phase == Phase::Failed).count()
}

fn running(service: &ServiceFacts, ready: u64) -> Standing {
    let leaving = service
        .tasks
        .iter()
        .filter(|task| !task.current && task.wanted && task.phase == Phase::Running)
        .count();
    let starting = count(service, |phase| phase == Phase::Starting);
    if ready >= service.wanted && leaving == 0 && service.update != Update::Updating {
        return Standing::Converged;
    }
    let newest_error = service
        .tasks
        .iter()
        .filter(|task| task.current && !task.error.is_empty())
        .max_by_key(|task| task.changed)
        .map(|task| task.error.as_str());
    let ended = service
        .tasks
        .iter()
        .any(|task| task.current && matches!(task.phase, Phase::Failed | Phase::Complete));
    if ready < service.wanted && starting == 0 && leaving == 0 && ended && !service.restarts {
        return Standing::Failed(format!(
            "its tasks end and are not started again: {}",
            newest_error.unwrap_or("they exit by themselves")
        ));
    }
    let mut why = match service.update {
        Update::Updating => "updating".to_owned(),
        _ if leaving > 0 => format!("{leaving} tasks of the former release still run"),
        _ => "starting".to_owned(),
    };
    if let Some(error) = newest_error {
        why.push_str(", last error: ");
        why.push_str(error);
    }
    Standing::Waiting(why)
}

#[cfg(test)]
mod tests {
    use super::{Progress, Standing, judge};
    use crate::deploy::observe::{Mode, Phase, ServiceFacts, TaskFacts, Update};

    fn task(current: bool, wanted: bool, phase: Phase) -> TaskFacts {
        TaskFacts {
            id: "t".into(),
            slot: "1".into(),
            current,
            kept: false,
            wanted,
            phase,
            error: String::new(),
            exit_code: None,
            changed: None,
        }
    }

    fn service(update: Update, tasks: Vec<TaskFacts>) -> ServiceFacts {
        ServiceFacts {
            deployment: Some("ours".into()),
            mode: Mode::Running,
            wanted: 2,
            completed: 0,
            restarts: true,
            update,
            update_message: String::new(),
            tasks,
        }
    }

    fn standing(facts: &ServiceFacts) -> Standing {
        judge("ours", Some(facts)).standing
    }

    #[test]
    fn a_new_service_converges_when_all_of_it_runs() {
        let running = || task(true, true, Phase::Running);
        assert_eq!(
            judge("ours", Some(&service(Update::None, vec![running(), running()]))),
            Progress { ready: 2, wanted: 2, standing: Standing::Converged }
        );
        assert!(matches!(
            standing(&service(Update::None, vec![running(), task(true, true, Phase::Starting)])),
            Standing::Waiting(_)
        ));
    }

    #[test]
    fn an_update_is_not_over_while_the_former_release_still_runs_or_swarm_still_watches() {
        let new = || task(true, true, Phase::Running);
        assert!(matches!(standing(&service(Update::Updating, vec![new(), new()])), Standing::Waiting(_)));
        assert!(matches!(
            standing(&service(Update::Completed, vec![new(), new(), task(false, true, Phase::Running)])),
            Standing::Waiting(_)
        ));
        assert_eq!(
            standing(&service(Update::Completed, vec![new(), new(), task(false, false, Phase::Shutdown)])),
            Standing::Converged
        );
    }

    #[test]
    fn a_stale_completed_status_does_not_pass_for_the_new_release() {
        let old = || task(false, true, Phase::Running);
        assert!(matches!(standing(&service(Update::Completed, vec![old(), old()])), Standing::Waiting(_)));
    }

    #[test]
    fn a_rollback_is_seen_by_the_label_that_came_back() {
        let mut facts = service(Update::RolledBack, vec![task(true, true, Phase::Running)]);
        facts.deployment = Some("theirs".into());
        assert!(matches!(standing(&facts), Standing::RolledBack(_)));
        facts.update = Update::RollingBack;
        assert!(matches!(standing(&facts), Standing::RollingBack(_)));
    }

    #[test]
    fn a_service_of_another_deployment_is_not_ours() {
        let mut facts = service(Update::Completed, vec![]);
        facts.deployment = Some("theirs".into());
        assert!(matches!(standing(&facts), Standing::Failed(text) if text.contains("another deployment")));
    }

    #[test]
    fn a_paused_update_fails_with_swarms_words() {
        let mut facts = service(Update::Paused, vec![]);
        facts.update_message = "update paused due to failure".into();
        assert!(matches!(standing(&facts), Standing::Failed(text) if text.contains("due to failure")));
    }

    #[test]
    fn a_job_that_may_not_restart_fails_with_its_first_failure() {
        let mut facts = service(Update::None, vec![task(true, false, Phase::Failed)]);
        facts.mode = Mode::Job;
        facts.restarts = false;
        facts.wanted = 1;
        assert!(matches!(standing(&facts), Standing::Failed(_)));
        facts.completed = 1;
        assert_eq!(standing(&facts), Standing::Converged);
    }

    #[test]
    fn a_service_that_is_not_there_has_failed() {
        assert!(matches!(judge("ours", None).standing, Standing::Failed(_)));
    }
}
