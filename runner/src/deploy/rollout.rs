//! One deployment from its file to its end: three stretches, since an interruption means something else in each.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use tokio::time::Instant;

use crate::deploy::{
    DeployError, Deployment, Outcome,
    bridge::Bridge,
    diff,
    docker::DockerCli,
    engine::Engine,
    follow::{Ending, Follower},
    observe::{self, Before},
    postmortem,
    show::Show,
    stack::{self, HandOver, Mark},
};

/// A hand-over under way when an interruption comes may end for so long: less than a cancelled job's step has.
const LAST_MOMENT: Duration = Duration::from_secs(6);

/// The outcome, with its cause where one is known.
type Ended = (Outcome, Option<String>);

/// All that the hand-over needs.
struct Ready<'a> {
    deployment: &'a Deployment,
    cli: DockerCli,
    bridge: Bridge,
    engine: Engine,
    names: Vec<String>,
    mark: Mark,
    /// The marked document.
    document: String,
    before: Before,
}

/// Deploys until the end, or until it is interrupted.
pub(super) async fn run<I: Future<Output = ()>>(
    deployment: &Deployment,
    show: &mut Show,
    mut interrupted: Pin<&mut I>,
) -> Result<Ended, DeployError> {
    let ready = tokio::select! {
        ready = prepare(deployment, show) => ready?,
        () = interrupted.as_mut() => {
            return Ok((Outcome::Interrupted, Some("nothing was changed".to_owned())));
        }
    };
    let Some(ready) = ready else { return Ok((Outcome::Converged, None)) };
    let started = Instant::now();
    let handed_over = ready.hand_over(started, show, interrupted.as_mut()).await?;
    let ended = if let Some(ended) = handed_over {
        ended
    } else {
        tokio::select! {
            ended = ready.follow(started, show) => ended?,
            () = interrupted => (Outcome::Interrupted, Some("Swarm goes on by itself".to_owned())),
        }
    };
    ready.bridge.close().await;
    Ok(ended)
}

/// Everything before the hand-over; `None` when this was a dry run, which ends there.
async fn prepare<'a>(deployment: &'a Deployment, show: &mut Show) -> Result<Option<Ready<'a>>, DeployError> {
    let cli = DockerCli::new(deployment.host.clone());
    cli.require_manager().await?;
    let stack = stack::render(&cli, &deployment.files).await?;
    for note in &stack.notes {
        show.note(note)?;
    }
    let names = stack.services();
    for unknown in deployment.no_wait_for.iter().filter(|name| !names.contains(name)) {
        show.note(&format!("--no-wait-for {unknown}: the stack has no such service"))?;
    }
    let (bridge, engine) = Bridge::open(&cli)?;
    let sections = diff::sections(&stack, &deployment.stack)?;
    if deployment.dry_run {
        let present = observe::specifications(&engine, &deployment.stack).await?;
        let networks = observe::network_names(&engine).await?;
        show.differences(&diff::differences(&sections, &present, &networks, deployment.prune))?;
        bridge.close().await;
        return Ok(None);
    }
    let mark = Mark::new(deployment.revision.clone());
    let fingerprints: BTreeMap<_, _> =
        sections.into_iter().map(|(name, section)| (name, section.fingerprint)).collect();
    let document = stack.marked(&mark, &fingerprints)?;
    let before = observe::before(&engine, &deployment.stack).await?;
    Ok(Some(Ready { deployment, cli, bridge, engine, names, mark, document, before }))
}

impl Ready<'_> {
    /// Hands the document over; `None` when it has to be followed now.
    async fn hand_over<I: Future<Output = ()>>(
        &self,
        started: Instant,
        show: &mut Show,
        interrupted: Pin<&mut I>,
    ) -> Result<Option<Ended>, DeployError> {
        let deadline = started + self.deployment.timeout;
        let work = stack::hand_over(&self.cli, self.deployment, &self.document, deadline);
        let mut work = std::pin::pin!(work);
        let (result, is_interrupted) = tokio::select! {
            result = &mut work => (Some(result?), false),
            () = interrupted => (tokio::time::timeout(LAST_MOMENT, work).await.ok().transpose()?, true),
        };
        let ended = match result {
            Some(HandOver::Done(notes)) => {
                for note in &notes {
                    show.note(note)?;
                }
                let whole = "the whole stack is handed over, and Swarm goes on by itself";
                return Ok(is_interrupted.then(|| (Outcome::Interrupted, Some(whole.to_owned()))));
            }
            // In a terminal the interruption has reached the docker command line as well.
            Some(HandOver::Refused(reason)) if is_interrupted => (Outcome::Interrupted, reason),
            Some(HandOver::Refused(reason)) => (Outcome::Failed, reason),
            Some(HandOver::Lost(reason)) => (Outcome::Unreachable, reason),
            Some(HandOver::OutOfTime) => (Outcome::TimedOut, "the hand-over took too long".to_owned()),
            None => (Outcome::Interrupted, "the hand-over was cut off".to_owned()),
        };
        let (outcome, reason) = ended;
        Ok(Some((outcome, Some(format!("{reason}; {}", self.extent().await)))))
    }

    /// How far a hand-over came that did not end well.
    async fn extent(&self) -> String {
        let Ok(services) = observe::look(&self.engine, &self.deployment.stack, &self.before).await else {
            return "which services have the new specification already could not be asked".to_owned();
        };
        let is_ours = |name: &&String| {
            services.get(*name).is_some_and(|facts| facts.deployment.as_ref() == Some(&self.mark.deployment))
        };
        let changed: Vec<&str> = self.names.iter().filter(is_ours).map(String::as_str).collect();
        if changed.is_empty() {
            return "no service was changed".to_owned();
        }
        format!(
            "{} of {} services have the new specification already, and Swarm goes on with them: {}",
            changed.len(),
            self.names.len(),
            changed.join(", ")
        )
    }

    async fn follow(&self, started: Instant, show: &mut Show) -> Result<Ended, DeployError> {
        let follower = Follower {
            engine: &self.engine,
            deployment: self.deployment,
            names: &self.names,
            mark: &self.mark,
            before: &self.before,
        };
        let ending = follower.follow(started, show).await?;
        if ending.outcome != Outcome::Converged {
            self.explain(&ending, show).await?;
        }
        Ok((ending.outcome, ending.cause()))
    }

    async fn explain(&self, ending: &Ending, show: &mut Show) -> Result<(), DeployError> {
        let deadline = postmortem::deadline();
        for failed in &ending.unfinished {
            show.postmortem(&postmortem::examine(&self.cli, failed, deadline).await)?;
        }
        Ok(())
    }
}
