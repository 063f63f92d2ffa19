//! The last sentence of a deployment. Pure.

use std::collections::BTreeMap;

use crate::deploy::{
    Outcome,
    verdict::{Progress, Standing},
};

/// What a dry run ends with.
pub(super) fn dry_run(stack: &str, changed: usize, count: usize) -> String {
    format!("dry run of stack {stack}: {changed} of {count} services would change, nothing was changed")
}

/// What happened, why, and what it means.
pub(super) fn sentence(
    stack: &str,
    outcome: Outcome,
    cause: Option<&str>,
    last: &BTreeMap<String, Progress>,
) -> String {
    let because = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
    let cause = cause.unwrap_or("no reason given");
    match outcome {
        Outcome::Converged => converged(stack, last),
        Outcome::RolledBack => rolled_back(stack, &because, last),
        Outcome::Interrupted => format!("interrupted: stack {stack}: {cause}"),
        // Nothing was followed: the cause is the whole story.
        Outcome::Unreachable | Outcome::Usage => cause.to_owned(),
        Outcome::Failed if last.is_empty() => cause.to_owned(),
        Outcome::TimedOut if last.is_empty() => format!("stack {stack}: {cause}"),
        Outcome::TimedOut => format!(
            "stack {stack} did not converge in time: {}{because}; Swarm goes on by itself, a longer wait is set with --timeout",
            names(last, |standing| *standing != Standing::Converged)
        ),
        Outcome::Failed => {
            let failed = names(last, |standing| matches!(standing, Standing::Failed(_)));
            format!("stack {stack} failed: {failed}{because}")
        }
    }
}

fn names(last: &BTreeMap<String, Progress>, wanted: fn(&Standing) -> bool) -> String {
    let names: Vec<&str> =
        last.iter().filter(|(_, now)| wanted(&now.standing)).map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}

fn converged(stack: &str, last: &BTreeMap<String, Progress>) -> String {
    let unawaited = names(last, |standing| matches!(standing, Standing::Waiting(_)));
    let rest = if unawaited.is_empty() {
        String::new()
    } else {
        format!("; not waited for, still on the way: {unawaited}")
    };
    let plural = if last.len() == 1 { "" } else { "s" };
    format!("stack {stack} has converged: {} service{plural}{rest}", last.len())
}

fn rolled_back(stack: &str, because: &str, last: &BTreeMap<String, Progress>) -> String {
    let on_the_way = names(last, |standing| matches!(standing, Standing::RollingBack(_)));
    if on_the_way.is_empty() {
        let is_back = |now: &Progress| matches!(now.standing, Standing::RolledBack(_));
        let serves = last.values().filter(|now| is_back(now)).all(|now| now.ready >= now.wanted);
        let former = if serves {
            "the former release goes on serving"
        } else {
            "not all tasks of the former release run yet: look whether they come"
        };
        let back = names(last, |standing| matches!(standing, Standing::RolledBack(_)));
        return format!("stack {stack}: Swarm rolled back {back}{because}; {former}");
    }
    format!(
        "stack {stack}: Swarm rolls back {on_the_way}{because}; it had not ended when --timeout did: look whether the \
         former release runs"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::sentence;
    use crate::deploy::{
        Outcome,
        verdict::{Progress, Standing},
    };

    fn told(outcome: Outcome, standings: &[(&str, Standing)]) -> String {
        let last = standings.iter().map(|(name, standing)| {
            ((*name).to_owned(), Progress { ready: 0, wanted: 1, standing: standing.clone() })
        });
        sentence("shop", outcome, Some("the cause"), &last.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn only_the_services_that_it_is_about_are_named() {
        let both = [("api", Standing::Converged), ("web", Standing::RolledBack("back".into()))];
        let text = told(Outcome::RolledBack, &both);
        assert!(
            text.contains("rolled back web (the cause); not all tasks") && !text.contains("api"),
            "{text}"
        );
        let text = told(Outcome::TimedOut, &[("api", Standing::Waiting("starting".into()))]);
        assert!(text.contains("did not converge in time: api"), "{text}");
    }

    #[test]
    fn before_anything_was_followed_the_cause_is_the_story() {
        assert_eq!(told(Outcome::TimedOut, &[]), "stack shop: the cause");
        assert_eq!(told(Outcome::Unreachable, &[]), "the cause");
    }
}
