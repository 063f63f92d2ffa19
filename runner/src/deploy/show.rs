//! Tells how a deployment goes: a live table in a terminal, plain rows in a job's log, JSON lines for programs.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use serde_json::json;

use crate::deploy::{
    Outcome,
    diff::Difference,
    postmortem::Postmortem,
    verdict::{Progress, Standing},
};

/// How to tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A live table in a terminal, plain rows elsewhere.
    Text,
    /// One JSON object a line.
    Json,
}

const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";

enum Style {
    Table { drawn: usize },
    Rows,
    Json,
}

/// Writes to standard output.
pub(super) struct Show {
    style: Style,
    last: BTreeMap<String, Progress>,
    out: io::Stdout,
}

impl std::fmt::Debug for Show {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Show").field("last", &self.last).finish_non_exhaustive()
    }
}

/// Control characters of untrusted text must not reach a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

const fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Waiting(_) => "waiting",
        Standing::RollingBack(_) => "rolling back",
        Standing::Converged => "converged",
        Standing::RolledBack(_) => "rolled back",
        Standing::Failed(_) => "failed",
    }
}

fn why(standing: &Standing) -> &str {
    match standing {
        Standing::Converged => "",
        Standing::Waiting(why)
        | Standing::RollingBack(why)
        | Standing::RolledBack(why)
        | Standing::Failed(why) => why,
    }
}

impl Show {
    pub(super) fn new(format: Format) -> Self {
        let out = io::stdout();
        let style = match format {
            Format::Json => Style::Json,
            Format::Text if out.is_terminal() => Style::Table { drawn: 0 },
            Format::Text => Style::Rows,
        };
        Self { style, last: BTreeMap::new(), out }
    }

    fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        writeln!(self.out, "{value}")
    }

    /// A remark of the docker command line, such as an option that Swarm ignores.
    pub(super) fn note(&mut self, note: &str) -> io::Result<()> {
        match self.style {
            Style::Json => self.json(&json!({"event": "note", "text": note})),
            _ => writeln!(self.out, "note: {}", clean(note)),
        }
    }

    /// The services as they stand; rows only for those that have changed.
    pub(super) fn progress(
        &mut self,
        progress: &BTreeMap<String, Progress>,
        elapsed: Duration,
    ) -> io::Result<()> {
        let width = progress.keys().map(String::len).max().unwrap_or(0);
        let seconds = elapsed.as_secs();
        let row = |name: &str, now: &Progress| {
            let text = format!("{name:width$}  {}/{} {}", now.ready, now.wanted, word(&now.standing));
            let reason = clean(why(&now.standing));
            if reason.is_empty() { text } else { format!("{text}: {reason}") }
        };
        match &mut self.style {
            Style::Table { drawn } => {
                if *drawn > 0 {
                    write!(self.out, "\x1b[{drawn}A")?;
                }
                // A row that is too long is cut by the terminal: a wrapped one would be two to the way back up.
                write!(self.out, "{WRAP_OFF}")?;
                for (name, now) in progress {
                    writeln!(self.out, "\x1b[2K{}", row(name, now))?;
                }
                write!(self.out, "\x1b[2K{seconds} s\r{WRAP_ON}")?;
                *drawn = progress.len();
                self.out.flush()?;
            }
            Style::Rows => {
                for (name, now) in progress {
                    if self.last.get(name) != Some(now) {
                        writeln!(self.out, "{seconds:>4} s  {}", row(name, now))?;
                    }
                }
                self.out.flush()?;
            }
            Style::Json => {
                for (name, now) in progress {
                    if self.last.get(name) != Some(now) {
                        let line = json!({"event": "progress", "service": name, "ready": now.ready, "wanted": now.wanted,
                            "standing": word(&now.standing), "why": why(&now.standing), "seconds": elapsed.as_secs_f64()});
                        writeln!(self.out, "{line}")?;
                    }
                }
                self.out.flush()?;
            }
        }
        self.last.clone_from(progress);
        Ok(())
    }

    /// What a dry run has found.
    pub(super) fn differences(&mut self, differences: &BTreeMap<String, Difference>) -> io::Result<()> {
        for (name, difference) in differences {
            if matches!(self.style, Style::Json) {
                let (what, changes) = match difference {
                    Difference::Created => ("created", Vec::new()),
                    Difference::Unnamed { removed: true } => ("removed", Vec::new()),
                    Difference::Unnamed { removed: false } => ("kept", Vec::new()),
                    Difference::Same => ("unchanged", Vec::new()),
                    Difference::Changed(changes) => (
                        "changed",
                        changes
                            .iter()
                            .map(|(key, old, new)| json!({"property": key, "before": old, "after": new}))
                            .collect(),
                    ),
                };
                self.json(
                    &json!({"event": "difference", "service": name, "difference": what, "changes": changes}),
                )?;
                continue;
            }
            match difference {
                Difference::Created => writeln!(self.out, "+ {name}: would be created")?,
                Difference::Unnamed { removed: true } => writeln!(self.out, "- {name}: would be removed")?,
                Difference::Unnamed { removed: false } => {
                    writeln!(self.out, "  {name}: not in the file, stays (--prune removes it)")?;
                }
                Difference::Same => writeln!(self.out, "  {name}: unchanged")?,
                Difference::Changed(changes) => {
                    writeln!(self.out, "~ {name}:")?;
                    for (key, old, new) in changes {
                        writeln!(self.out, "    {key}: {} -> {}", clean(old), clean(new))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What a service that did not converge has to say.
    pub(super) fn postmortem(&mut self, report: &Postmortem) -> io::Result<()> {
        if matches!(self.style, Style::Json) {
            let tasks: Vec<_> = report
                .tasks
                .iter()
                .map(|task| json!({"task": task.name, "error": task.error, "lines": task.lines, "unreadable": task.unreadable}))
                .collect();
            return self.json(
                &json!({"event": "postmortem", "service": report.service, "why": report.why, "tasks": tasks}),
            );
        }
        writeln!(self.out, "\n{}: {}", report.service, clean(&report.why))?;
        for task in &report.tasks {
            writeln!(self.out, "  {}: {}", task.name, clean(&task.error))?;
            if let Some(reason) = &task.unreadable {
                writeln!(self.out, "    its log could not be read: {}", clean(reason))?;
            }
            for line in &task.lines {
                writeln!(self.out, "    | {}", clean(line))?;
            }
        }
        Ok(())
    }

    /// The last line: what happened, why, and what it means.
    pub(super) fn end(&mut self, stack: &str, outcome: Outcome, cause: Option<&str>) -> io::Result<()> {
        let names = |wanted: fn(&Standing) -> bool| {
            let names: Vec<&str> = self
                .last
                .iter()
                .filter(|(_, now)| wanted(&now.standing))
                .map(|(name, _)| name.as_str())
                .collect();
            names.join(", ")
        };
        let because = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
        let text = match outcome {
            Outcome::Converged if self.last.is_empty() => return Ok(()),
            Outcome::Converged => {
                let unawaited = names(|standing| matches!(standing, Standing::Waiting(_)));
                let rest = if unawaited.is_empty() {
                    String::new()
                } else {
                    format!("; not waited for, still on the way: {unawaited}")
                };
                let count = self.last.len();
                let plural = if count == 1 { "" } else { "s" };
                format!("stack {stack} has converged: {count} service{plural}{rest}")
            }
            Outcome::RolledBack => {
                let on_the_way = names(|standing| matches!(standing, Standing::RollingBack(_)));
                if on_the_way.is_empty() {
                    let back = names(|standing| matches!(standing, Standing::RolledBack(_)));
                    format!(
                        "stack {stack}: Swarm rolled back {back}{because}; the former release goes on serving"
                    )
                } else {
                    format!(
                        "stack {stack}: Swarm rolls back {on_the_way}{because}; it had not ended when --timeout did: \
                         look whether the former release runs"
                    )
                }
            }
            Outcome::TimedOut => format!(
                "stack {stack} did not converge in time: {}{because}; Swarm goes on by itself, a longer wait is set with --timeout",
                names(|standing| *standing != Standing::Converged)
            ),
            Outcome::Interrupted => format!("interrupted; Swarm goes on with stack {stack} by itself"),
            // Nothing was followed: the cause is the whole story.
            Outcome::Failed | Outcome::Usage | Outcome::Unreachable if self.last.is_empty() => {
                cause.unwrap_or("no reason given").to_owned()
            }
            Outcome::Unreachable | Outcome::Usage => cause.unwrap_or("no reason given").to_owned(),
            Outcome::Failed => {
                let failed = names(|standing| matches!(standing, Standing::Failed(_)));
                format!("stack {stack} failed: {failed}{because}")
            }
        };
        match self.style {
            Style::Json => self.json(&json!({"event": "end", "outcome": format!("{outcome:?}"), "exit_code": outcome.exit_code(), "text": text})),
            _ if outcome == Outcome::Converged => writeln!(self.out, "\n{text}"),
            // In a job's log this becomes an annotation; a terminal shows it as it is.
            Style::Rows if std::env::var_os("GITHUB_ACTIONS").is_some() => writeln!(self.out, "\n::error::{}", clean(&text)),
            _ => writeln!(self.out, "\n{}", clean(&text)),
        }
    }
}
