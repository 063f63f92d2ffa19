//! Tells how a deployment goes: a live table in a terminal, plain rows in a job's log, JSON lines for programs.

mod ending;
mod lines;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::Duration,
};

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
    /// The services as they were last told.
    last: BTreeMap<String, Progress>,
    /// How many services a dry run would change, and of how many.
    compared: Option<(usize, usize)>,
    out: Box<dyn Write + Send>,
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

/// The text as a job's error: `%` begins an escape there, and line breaks are gone already.
fn annotation(text: &str) -> String {
    format!("::error::{}", clean(text).replace('%', "%25"))
}

const fn why(standing: &Standing) -> &str {
    match standing {
        Standing::Converged => "",
        Standing::Waiting(why)
        | Standing::RollingBack(why)
        | Standing::RolledBack(why)
        | Standing::Failed(why) => why.as_str(),
    }
}

fn row(name: &str, width: usize, now: &Progress) -> String {
    let standing = now.standing.as_str().replace('_', " ");
    let text = format!("{name:width$}  {}/{} {standing}", now.ready, now.wanted);
    let reason = clean(why(&now.standing));
    if reason.is_empty() { text } else { format!("{text}: {reason}") }
}

impl Show {
    pub(super) fn new(format: Format) -> Self {
        let out = io::stdout();
        let style = match format {
            Format::Json => Style::Json,
            Format::Text if out.is_terminal() => Style::Table { drawn: 0 },
            Format::Text => Style::Rows,
        };
        Self { style, last: BTreeMap::new(), compared: None, out: Box::new(out) }
    }

    const fn is_json(&self) -> bool {
        matches!(self.style, Style::Json)
    }

    /// A remark of the docker command line, such as an option that Swarm ignores.
    pub(super) fn note(&mut self, note: &str) -> io::Result<()> {
        if self.is_json() {
            writeln!(self.out, "{}", lines::note(note))
        } else {
            writeln!(self.out, "note: {}", clean(note))
        }
    }

    /// The services as they stand; rows only for those that have changed.
    pub(super) fn progress(
        &mut self,
        progress: &BTreeMap<String, Progress>,
        elapsed: Duration,
    ) -> io::Result<()> {
        match self.style {
            Style::Table { drawn } => {
                self.table(progress, elapsed, drawn)?;
                self.style = Style::Table { drawn: progress.len() };
            }
            Style::Rows | Style::Json => {
                let width = progress.keys().map(String::len).max().unwrap_or(0);
                for (name, now) in progress.iter().filter(|(name, now)| self.last.get(*name) != Some(now)) {
                    if self.is_json() {
                        writeln!(self.out, "{}", lines::progress(name, now, elapsed))?;
                    } else {
                        writeln!(self.out, "{:>4} s  {}", elapsed.as_secs(), row(name, width, now))?;
                    }
                }
            }
        }
        self.out.flush()?;
        self.last.clone_from(progress);
        Ok(())
    }

    fn table(
        &mut self,
        progress: &BTreeMap<String, Progress>,
        elapsed: Duration,
        drawn: usize,
    ) -> io::Result<()> {
        let width = progress.keys().map(String::len).max().unwrap_or(0);
        if drawn > 0 {
            write!(self.out, "\x1b[{drawn}A")?;
        }
        // A row that is too long is cut by the terminal: a wrapped one would be two to the way back up.
        write!(self.out, "{WRAP_OFF}")?;
        for (name, now) in progress {
            writeln!(self.out, "\x1b[2K{}", row(name, width, now))?;
        }
        write!(self.out, "\x1b[2K{} s\r{WRAP_ON}", elapsed.as_secs())
    }

    /// What a dry run has found.
    pub(super) fn differences(&mut self, differences: &BTreeMap<String, Difference>) -> io::Result<()> {
        let changed = differences.values().filter(|difference| difference.is_change()).count();
        self.compared = Some((changed, differences.len()));
        for (name, difference) in differences {
            if self.is_json() {
                writeln!(self.out, "{}", lines::difference(name, difference))?;
            } else {
                self.difference(name, difference)?;
            }
        }
        Ok(())
    }

    fn difference(&mut self, name: &str, difference: &Difference) -> io::Result<()> {
        match difference {
            Difference::Created => writeln!(self.out, "+ {name}: would be created"),
            Difference::Unnamed { removed: true } => writeln!(self.out, "- {name}: would be removed"),
            Difference::Unnamed { removed: false } => {
                writeln!(self.out, "  {name}: not in the file, stays (--prune removes it)")
            }
            Difference::Same => writeln!(self.out, "  {name}: unchanged"),
            Difference::NoneFound => writeln!(
                self.out,
                "  {name}: no difference in what is compared (it was not deployed by this program)"
            ),
            Difference::Changed(changes) => {
                writeln!(self.out, "~ {name}:")?;
                for (key, old, new) in changes {
                    writeln!(self.out, "    {key}: {} -> {}", clean(old), clean(new))?;
                }
                Ok(())
            }
        }
    }

    /// What a service that did not converge has to say.
    pub(super) fn postmortem(&mut self, report: &Postmortem) -> io::Result<()> {
        if self.is_json() {
            return writeln!(self.out, "{}", lines::postmortem(report));
        }
        writeln!(self.out, "\n{}: {}", report.service, clean(&report.why))?;
        for task in &report.tasks {
            writeln!(self.out, "  {}: {}", task.name, clean(&task.error))?;
            match &task.log {
                Ok(printed) => {
                    for line in printed {
                        writeln!(self.out, "    | {}", clean(line))?;
                    }
                }
                Err(reason) => writeln!(self.out, "    its log could not be read: {}", clean(reason))?,
            }
        }
        Ok(())
    }

    /// The last line: what happened, why, and what it means.
    pub(super) fn end(&mut self, stack: &str, outcome: Outcome, cause: Option<&str>) -> io::Result<()> {
        let text = match self.compared {
            Some((changed, count)) if outcome == Outcome::Converged => ending::dry_run(stack, changed, count),
            _ => ending::sentence(stack, outcome, cause, &self.last),
        };
        match self.style {
            Style::Json => writeln!(self.out, "{}", lines::end(stack, outcome, &text)),
            _ if outcome == Outcome::Converged => writeln!(self.out, "\n{text}"),
            // In a job's log this becomes an annotation; a terminal shows it as it is.
            Style::Rows if std::env::var_os("GITHUB_ACTIONS").is_some() => {
                writeln!(self.out, "\n{}", annotation(&text))
            }
            _ => writeln!(self.out, "\n{}", clean(&text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::annotation;

    #[test]
    fn an_annotation_shows_what_was_said() {
        assert_eq!(annotation("50%0A\nused"), "::error::50%250A\u{fffd}used");
    }
}
