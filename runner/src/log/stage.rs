//! What a step's lines do: workflow commands, annotations, problem matchers. Lines in, masked rows and findings out.
//!
//! One [`Stage`] serves both streams of one step handler, so `::add-mask::`, `::stop-commands::` and `::echo::` on one
//! stream count for the other from the next line on, as on GitHub. A command line is not shown, unless echo is on.
//! Text that is shown is masked before it is escaped and again afterwards.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use workflows::commands::{AnnotationLevel, Command, CommandReader, Line, Place, WorkflowCommand};

use super::{
    Added, Masker,
    matcher::{self, MatcherSet, Matching},
    rows::RowBuffer,
};

/// How bad an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Error,
    Warning,
    Notice,
}

impl Severity {
    /// `error`, `warning`, `notice`, in any case of letters.
    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Error, Self::Warning, Self::Notice]
            .into_iter()
            .find(|severity| severity.word().eq_ignore_ascii_case(word))
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// What decides how a step's commands are taken.
#[derive(Debug, Clone, Default)]
pub struct StepLogOptions {
    /// `ACTIONS_ALLOW_UNSECURE_COMMANDS` is `true`: `set-env` and `add-path` work.
    pub allow_unsecure_commands: bool,
    /// `ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS` is `true`: any token stops commands.
    pub allow_unsecure_stop_tokens: bool,
    /// Step debug is on: `::debug::` is shown, and so are commands themselves.
    pub debug: bool,
    /// The workspace inside; taken off the paths of annotations.
    pub workspace: String,
}

/// What a step's output has asked for, in the order of its lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepFindings {
    /// `set-output`.
    pub outputs: Vec<(String, String)>,
    /// `save-state`.
    pub state: Vec<(String, String)>,
    /// `set-env`, where it is allowed.
    pub env: Vec<(String, String)>,
    /// `add-path`, where it is allowed.
    pub paths: Vec<String>,
    /// The first command that could not be carried out: the step fails.
    pub failed: Option<String>,
    /// Annotations of each severity, those of problem matchers included.
    pub errors: u64,
    /// See `errors`.
    pub warnings: u64,
    /// See `errors`.
    pub notices: u64,
}

/// What the pipeline has to do before it goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Go,
    /// A matcher file has to be read; later lines are for it.
    LoadMatcher(String),
    /// The same, to take its matchers out.
    UnloadMatcher(String),
}

/// Commands that are shown when echo is on; the others show what they do.
const ECHOED: [&str; 7] =
    ["set-output", "save-state", "set-env", "add-path", "add-matcher", "remove-matcher", "stop-commands"];

/// One step handler's view of its lines.
#[derive(Debug)]
pub(super) struct Stage {
    options: StepLogOptions,
    masker: Masker,
    job_matchers: Arc<Mutex<MatcherSet>>,
    matching: Matching,
    reader: CommandReader,
    echo: bool,
    pub(super) findings: StepFindings,
}

impl Stage {
    pub(super) fn new(options: StepLogOptions, masker: Masker, job_matchers: Arc<Mutex<MatcherSet>>) -> Self {
        let mut stage = Self {
            echo: options.debug,
            options,
            masker,
            job_matchers,
            matching: Matching::default(),
            reader: CommandReader::new(),
            findings: StepFindings::default(),
        };
        stage.change_matchers(|_| {});
        stage
    }

    /// What hides this step's secrets.
    pub(super) const fn masker(&self) -> &Masker {
        &self.masker
    }

    /// Takes one whole line of one stream (0 or 1).
    pub(super) fn line(&mut self, stream: usize, line: &str, time: SystemTime, rows: &mut RowBuffer) -> Next {
        match self.reader.read(line) {
            Line::Text => {}
            Line::Resumed => {
                if self.echo {
                    rows.push(time, self.masker.mask(line));
                }
                return Next::Go;
            }
            Line::Command(command) => return self.command(&command, line, time, rows),
        }
        if !self.matching.is_empty() && self.matched(stream, line, time, rows) {
            return Next::Go;
        }
        rows.push(time, self.masker.mask(line));
        Next::Go
    }

    /// A command line that was too long to be kept. It is not shown either: it may hold a value that was to be masked.
    pub(super) fn oversize_command(&mut self, time: SystemTime, rows: &mut RowBuffer) {
        self.fail("A workflow command is longer than 16 MiB. The line was dropped.".to_owned(), time, rows);
    }

    /// A matcher file has been read, or could not be.
    pub(super) fn load_matcher(
        &mut self,
        path: &str,
        content: Result<&[u8], String>,
        time: SystemTime,
        rows: &mut RowBuffer,
    ) {
        match content.and_then(matcher::parse) {
            Ok(matchers) => self.change_matchers(|set| set.add(matchers)),
            Err(reason) => {
                self.annotate(
                    Severity::Warning,
                    &format!("Unable to add the problem matchers of '{path}': {reason}"),
                    time,
                    rows,
                );
            }
        }
    }

    fn change_matchers(&mut self, change: impl FnOnce(&mut MatcherSet)) {
        let mut set = self.job_matchers.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut set);
        self.matching.follow(&set);
    }

    fn matched(&mut self, stream: usize, line: &str, time: SystemTime, rows: &mut RowBuffer) -> bool {
        let (issue, given_up) = self.matching.line(stream, line);
        if let Some(owner) = given_up {
            let text = format!("The problem matcher '{owner}' takes too long and is not used any more.");
            self.annotate(Severity::Warning, &text, time, rows);
        }
        let Some(issue) = issue else { return false };
        match &issue.place {
            Some(place) => {
                let text = format!("{}: {}", self.in_workspace(place), line.trim());
                self.annotate(issue.severity, &text, time, rows);
            }
            None => self.annotate(issue.severity, line, time, rows),
        }
        true
    }

    fn command(
        &mut self,
        command: &WorkflowCommand,
        line: &str,
        time: SystemTime,
        rows: &mut RowBuffer,
    ) -> Next {
        let name = command.name.as_str();
        if self.echo && ECHOED.contains(&name) {
            rows.push(time, self.masker.mask(line));
        }
        let result = match command.interpret() {
            _ if matches!(name, "set-env" | "add-path") && !self.options.allow_unsecure_commands => {
                Err(format!(
                    "The `{name}` command is disabled. Please upgrade to using Environment Files or opt into unsecure command \
                 execution by setting the `ACTIONS_ALLOW_UNSECURE_COMMANDS` environment variable to `true`."
                ))
            }
            Err(reason) if name.ends_with("-matcher") => {
                self.annotate(Severity::Warning, &reason, time, rows);
                Ok(Next::Go)
            }
            Err(reason) => Err(reason),
            Ok(command) => self.obey(command, time, rows),
        };
        result.unwrap_or_else(|reason| {
            let text = format!("Unable to process command '{line}' successfully.");
            self.annotate(Severity::Error, &text, time, rows);
            self.fail(reason, time, rows);
            Next::Go
        })
    }

    fn obey(&mut self, command: Command, time: SystemTime, rows: &mut RowBuffer) -> Result<Next, String> {
        match command {
            Command::SetOutput { name, value } => self.findings.outputs.push((name, value)),
            Command::SaveState { name, value } => self.findings.state.push((name, value)),
            Command::SetEnv { name, .. } if name.eq_ignore_ascii_case("NODE_OPTIONS") => {
                let text = "Can't update NODE_OPTIONS environment variable using ::set-env:: command.";
                self.annotate(Severity::Error, text, time, rows);
            }
            Command::SetEnv { name, value } => self.findings.env.push((name, value)),
            Command::AddPath(path) => self.findings.paths.push(path),
            Command::AddMask(value) => self.add_mask(&value, time, rows)?,
            Command::Debug(text) if self.options.debug => self.tagged("debug", &text, time, rows),
            Command::Debug(_) | Command::Ignored => {}
            Command::Annotation { level, place, message } => {
                let severity = match level {
                    AnnotationLevel::Error => Severity::Error,
                    AnnotationLevel::Warning => Severity::Warning,
                    AnnotationLevel::Notice => Severity::Notice,
                };
                let text = self.folded(&place, &message);
                self.annotate(severity, &text, time, rows);
            }
            Command::Group(title) => self.tagged("group", &title, time, rows),
            Command::EndGroup => self.tagged("endgroup", "", time, rows),
            Command::Echo(on) => self.echo = on,
            Command::StopCommands(token) => {
                self.reader.stop(&token, self.options.allow_unsecure_stop_tokens)?;
                if token.chars().count() > 6 {
                    self.masker.add(&token);
                }
            }
            Command::AddMatcher(path) => return Ok(Next::LoadMatcher(path)),
            Command::RemoveMatcher { owner: Some(owner), .. } => {
                self.change_matchers(|set| set.remove(&owner));
            }
            // Its owners are not known without reading the file.
            Command::RemoveMatcher { owner: None, path } => {
                return Ok(Next::UnloadMatcher(path.unwrap_or_default()));
            }
        }
        Ok(Next::Go)
    }

    fn add_mask(&mut self, value: &str, time: SystemTime, rows: &mut RowBuffer) -> Result<(), String> {
        match self.masker.add(value) {
            Added::Yes => {}
            Added::OneCharacter => {
                let text =
                    "A value of one character is masked: every such character in this log is shown as ***.";
                self.annotate(Severity::Warning, text, time, rows);
            }
            Added::Empty => {
                let text = "Can't add secret mask for empty string in ##[add-mask] command.";
                self.annotate(Severity::Warning, text, time, rows);
            }
            Added::Full => {
                return Err(
                    "This job has added too many values to be masked; the last one is not masked.".to_owned()
                );
            }
        }
        Ok(())
    }

    /// The matchers of a file that were to be removed.
    pub(super) fn unload_matcher(
        &mut self,
        path: &str,
        content: Result<&[u8], String>,
        time: SystemTime,
        rows: &mut RowBuffer,
    ) {
        match content.and_then(matcher::parse) {
            Ok(matchers) => {
                self.change_matchers(|set| matchers.iter().for_each(|matcher| set.remove(&matcher.owner)));
            }
            Err(reason) => {
                self.annotate(
                    Severity::Warning,
                    &format!("Unable to remove the problem matchers of '{path}': {reason}"),
                    time,
                    rows,
                );
            }
        }
    }

    /// Place and title go in front of the message: a row is all that the web page has.
    fn folded(&self, place: &Place, message: &str) -> String {
        let mut text = String::new();
        if let Some(file) = &place.file {
            text.push_str(self.in_workspace(file));
            for number in [place.line, place.line.and(place.column)].into_iter().flatten() {
                text.push(':');
                text.push_str(&number.to_string());
            }
            text.push_str(": ");
        }
        if let Some(title) = &place.title {
            text.push_str(title);
            text.push_str(": ");
        }
        text.push_str(message);
        text
    }

    fn in_workspace<'p>(&self, path: &'p str) -> &'p str {
        let workspace = self.options.workspace.as_str();
        match path.strip_prefix(workspace).and_then(|rest| rest.strip_prefix('/')) {
            Some(relative) if !workspace.is_empty() => relative,
            _ => path,
        }
    }

    fn annotate(&mut self, severity: Severity, text: &str, time: SystemTime, rows: &mut RowBuffer) {
        match severity {
            Severity::Error => self.findings.errors += 1,
            Severity::Warning => self.findings.warnings += 1,
            Severity::Notice => self.findings.notices += 1,
        }
        self.tagged(severity.word(), text, time, rows);
    }

    fn fail(&mut self, reason: String, time: SystemTime, rows: &mut RowBuffer) {
        self.annotate(Severity::Error, &reason, time, rows);
        self.findings.failed.get_or_insert(reason);
    }

    /// A row that the web page shows in a colour of its own.
    fn tagged(&self, tag: &str, text: &str, time: SystemTime, rows: &mut RowBuffer) {
        let masked = self.masker.mask_str(text);
        rows.push(time, self.masker.mask_owned(format!("##[{tag}]{}", escape(&masked))));
    }
}

/// What the web page decodes behind a tag, and only that: text without such sequences stays readable everywhere.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['%', '\r', '\n']) {
        escaped.push_str(&rest[..at]);
        let decoded = ["%25", "%0D", "%0A", "%3B", "%5D"].iter().any(|code| {
            rest.as_bytes()[at..].get(..3).is_some_and(|found| found.eq_ignore_ascii_case(code.as_bytes()))
        });
        match rest.as_bytes()[at] {
            b'\r' => escaped.push_str("%0D"),
            b'\n' => escaped.push_str("%0A"),
            _ if decoded => escaped.push_str("%25"),
            _ => escaped.push('%'),
        }
        rest = &rest[at + 1..];
    }
    escaped.push_str(rest);
    escaped
}
