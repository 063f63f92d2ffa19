//! Jobs on a person's terminal: headings, folded groups as headings, colours, a table at the end. Plain text when the
//! output is no terminal.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;

use super::{Conclusion, JobEvent};

/// How the console looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// For a terminal.
    Coloured,
    /// For a pipe or a file.
    Plain,
    /// One JSON object a line.
    Json,
}

/// Where jobs are told. Clones share it; each line is written whole.
#[derive(Debug, Clone)]
pub struct Console {
    look: Look,
    /// Lines of two jobs do not mix.
    line: Arc<Mutex<()>>,
}

/// One line of the table at the end.
#[derive(Debug, Clone)]
pub struct JobLine {
    /// The job's display name.
    pub name: String,
    /// How it ended.
    pub conclusion: Conclusion,
    /// How long it ran.
    pub duration: Duration,
}

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const GREEN: &str = "\u{1b}[32m";
const BOLD: &str = "\u{1b}[1m";
const FAINT: &str = "\u{1b}[2m";
const RESET: &str = "\u{1b}[0m";

impl Console {
    /// A console that looks as told.
    pub fn new(look: Look) -> Self {
        Self { look, line: Arc::default() }
    }

    /// A line that belongs to no job.
    pub fn note(&self, text: &str) {
        self.write("", "", text);
    }

    /// A line about something wrong.
    pub fn error(&self, text: &str) {
        self.write("", RED, &format!("error: {text}"));
    }

    /// Tells a job's story as it comes, to its end.
    pub async fn follow(&self, job: &str, mut events: mpsc::Receiver<JobEvent>) {
        let mut names = Vec::new();
        let mut begun = SystemTime::now();
        while let Some(event) = events.recv().await {
            match event {
                JobEvent::Started { steps, .. } => names = steps,
                JobEvent::StepStarted { index, at } => {
                    begun = at;
                    let name = names.get(index).map_or("", |name| name.as_str());
                    self.write(job, BOLD, &format!("▶ {name}"));
                }
                JobEvent::Rows(rows) => {
                    for row in rows {
                        self.row(job, row.text.as_str());
                    }
                }
                JobEvent::StepFinished { index, conclusion, at } => {
                    let name = names.get(index).map_or("", |name| name.as_str());
                    let took = at.duration_since(begun).unwrap_or_default();
                    let text = match conclusion {
                        Conclusion::Skipped => format!("- {name} (skipped)"),
                        other => format!("{} {name} ({})", mark(other), seconds(took)),
                    };
                    self.write(job, colour(conclusion), &text);
                }
                JobEvent::Summary { .. } => {}
                JobEvent::Finished(report) => {
                    for (name, value) in &report.outputs {
                        self.write(job, FAINT, &format!("output {name}={value}"));
                    }
                    let text = format!("{} {}", mark(report.conclusion), report.conclusion.as_str());
                    self.write(job, colour(report.conclusion), &text);
                }
            }
        }
    }

    /// The table at the end.
    pub fn table(&self, lines: &[JobLine]) {
        if self.look == Look::Json || lines.is_empty() {
            return;
        }
        let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        self.write("", "", "");
        for line in lines {
            let padding = " ".repeat(width - line.name.chars().count());
            let text = format!(
                "{} {}{padding}  {:<9} {:>8}",
                mark(line.conclusion),
                line.name,
                line.conclusion.as_str(),
                seconds(line.duration)
            );
            self.write("", colour(line.conclusion), &text);
        }
    }

    fn row(&self, job: &str, text: &str) {
        let tags = [
            ("##[group]", BOLD, "▸ "),
            ("##[error]", RED, "error: "),
            ("##[warning]", YELLOW, "warning: "),
            ("##[notice]", "", "notice: "),
            ("##[debug]", FAINT, "debug: "),
        ];
        if text == "##[endgroup]" {
            return;
        }
        for (tag, colour, word) in tags {
            if let Some(rest) = text.strip_prefix(tag) {
                return self.write(job, colour, &format!("{word}{rest}"));
            }
        }
        self.write(job, "", text);
    }

    fn write(&self, job: &str, colour: &str, text: &str) {
        let line = match self.look {
            Look::Json => serde_json::json!({ "job": job, "message": text }).to_string(),
            Look::Plain if job.is_empty() => text.to_owned(),
            Look::Plain => format!("[{job}] {text}"),
            Look::Coloured => {
                let prefix = if job.is_empty() { String::new() } else { format!("{FAINT}[{job}]{RESET} ") };
                if colour.is_empty() {
                    format!("{prefix}{text}")
                } else {
                    format!("{prefix}{colour}{text}{RESET}")
                }
            }
        };
        let _line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that has gone away (`| head`) is no reason to stop the jobs.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

const fn mark(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Success => "✓",
        Conclusion::Failure => "✗",
        Conclusion::Cancelled => "⊘",
        Conclusion::Skipped => "-",
    }
}

const fn colour(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Success => GREEN,
        Conclusion::Failure => RED,
        Conclusion::Cancelled => YELLOW,
        Conclusion::Skipped => FAINT,
    }
}

/// A duration as people read it.
fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.2}s")
    } else {
        format!("{}m{:02}s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}
