//! Workflow commands: the lines by which a step talks to its runner, `::name key=value::data` and the
//! older `##[name key=value]data`.
//!
//! Pure grammar, as GitHub's runner reads it. [`parse_line`] recognises one line; [`CommandReader`]
//! adds the memory that a step needs (`stop-commands`); [`WorkflowCommand::interpret`] gives the typed
//! [`Command`] or the sentence with which the step fails.

use std::borrow::Cow;

/// Names that are commands; anything else is plain output.
pub const NAMES: [&str; 16] = [
    "set-output",
    "save-state",
    "set-env",
    "add-path",
    "add-mask",
    "debug",
    "notice",
    "warning",
    "error",
    "group",
    "endgroup",
    "echo",
    "stop-commands",
    "add-matcher",
    "remove-matcher",
    "internal-set-repo-path",
];

/// A recognised line, not yet interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowCommand {
    /// The name in lower case, or the token that ends a `stop-commands`.
    pub name: String,
    /// Properties in order, values unescaped. Names are compared ignoring case.
    pub properties: Vec<(String, String)>,
    /// What follows the header, unescaped.
    pub data: String,
}

/// Severity of an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationLevel {
    /// `notice`
    Notice,
    /// `warning`
    Warning,
    /// `error`
    Error,
}

/// Where an annotation points; lines and columns as given, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// `file`
    pub file: Option<String>,
    /// `line`
    pub line: Option<u32>,
    /// `endLine`
    pub end_line: Option<u32>,
    /// `col`
    pub column: Option<u32>,
    /// `endColumn`
    pub end_column: Option<u32>,
    /// `title`
    pub title: Option<String>,
}

/// A command that means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `set-output`: an output of the step.
    SetOutput {
        /// Name of the output.
        name: String,
        /// Its value.
        value: String,
    },
    /// `save-state`: a value for the later stages of the action.
    SaveState {
        /// Name of the state.
        name: String,
        /// Its value.
        value: String,
    },
    /// `set-env`: refused unless the runner is told otherwise.
    SetEnv {
        /// Name of the variable.
        name: String,
        /// Its value.
        value: String,
    },
    /// `add-path`: refused unless the runner is told otherwise.
    AddPath(String),
    /// `add-mask`: a value to hide from now on; empty ones deserve a warning.
    AddMask(String),
    /// `debug`: shown only with step debugging.
    Debug(String),
    /// `notice`, `warning`, `error`
    Annotation {
        /// How severe.
        level: AnnotationLevel,
        /// Where.
        place: Place,
        /// What.
        message: String,
    },
    /// `group`: begins a folded part of the log.
    Group(String),
    /// `endgroup`
    EndGroup,
    /// `echo`: whether commands are shown in the log.
    Echo(bool),
    /// `stop-commands`: nothing is a command until the token comes as one.
    StopCommands(String),
    /// `add-matcher`: path of a file of problem matchers.
    AddMatcher(String),
    /// `remove-matcher`: by owner or by path.
    RemoveMatcher {
        /// `owner`
        owner: Option<String>,
        /// A path, as in `add-matcher`.
        path: Option<String>,
    },
    /// A name that runners know and that has no effect.
    Ignored,
}

impl WorkflowCommand {
    /// The property of that name, ignoring case; the last one given.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties
            .iter()
            .rev()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn required_name(&self) -> Result<String, String> {
        match self.property("name") {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err(format!("Required field 'name' is missing in ##[{}] command.", self.name)),
        }
    }

    /// What the command means.
    ///
    /// # Errors
    /// One sentence when it is held wrong; the runner prints it below
    /// `Unable to process command '…' successfully.` and fails the step.
    pub fn interpret(&self) -> Result<Command, String> {
        let data = || self.data.clone();
        Ok(match self.name.as_str() {
            "set-output" => Command::SetOutput { name: self.required_name()?, value: data() },
            "save-state" => Command::SaveState { name: self.required_name()?, value: data() },
            "set-env" => Command::SetEnv { name: self.required_name()?, value: data() },
            "add-path" if self.data.is_empty() => {
                return Err("add-path needs a path, found nothing".to_owned());
            }
            "add-path" => Command::AddPath(data()),
            "add-mask" => Command::AddMask(data()),
            "debug" => Command::Debug(data()),
            "notice" => self.annotation(AnnotationLevel::Notice),
            "warning" => self.annotation(AnnotationLevel::Warning),
            "error" => self.annotation(AnnotationLevel::Error),
            "group" => Command::Group(data()),
            "endgroup" => Command::EndGroup,
            "echo" => match self.data.trim().to_ascii_lowercase().as_str() {
                "on" => Command::Echo(true),
                "off" => Command::Echo(false),
                _ => {
                    return Err(format!(
                        "Invalid echo command value. Possible values can be: 'on', 'off'. Current value is: '{}'.",
                        self.data
                    ));
                }
            },
            "stop-commands" => Command::StopCommands(data()),
            "add-matcher" if self.data.is_empty() => {
                return Err("add-matcher needs the path of a file, found nothing".to_owned());
            }
            "add-matcher" => Command::AddMatcher(data()),
            "remove-matcher" => {
                let owner = self.property("owner").filter(|owner| !owner.is_empty()).map(str::to_owned);
                let path = (!self.data.is_empty()).then(data);
                match (&owner, &path) {
                    (None, None) => {
                        return Err(
                            "Either an owner or a file path must be specified in ##[remove-matcher] command."
                                .to_owned(),
                        );
                    }
                    (Some(_), Some(_)) => {
                        return Err("An owner and a file path cannot both be specified in ##[remove-matcher] command.".to_owned());
                    }
                    _ => Command::RemoveMatcher { owner, path },
                }
            }
            _ => Command::Ignored,
        })
    }

    /// Lines and columns that do not fit together are dropped, as on GitHub.
    fn annotation(&self, level: AnnotationLevel) -> Command {
        let number = |name: &str| self.property(name).and_then(|text| text.trim().parse::<u32>().ok());
        let text = |name: &str| self.property(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let mut place = Place {
            file: text("file"),
            line: number("line"),
            end_line: number("endLine"),
            column: number("col"),
            end_column: number("endColumn"),
            title: text("title"),
        };
        if place.line.is_none() && place.end_line.is_some() {
            place.line = place.end_line;
        }
        if place.column.is_none() && place.end_column.is_some() {
            place.column = place.end_column;
        }
        let several_lines = matches!((place.line, place.end_line), (Some(line), Some(end)) if line != end);
        if place.line.is_none() || several_lines {
            (place.column, place.end_column) = (None, None);
        }
        if matches!((place.line, place.end_line), (Some(line), Some(end)) if end < line) {
            (place.line, place.end_line) = (None, None);
        }
        if matches!((place.column, place.end_column), (Some(column), Some(end)) if end < column) {
            (place.column, place.end_column) = (None, None);
        }
        Command::Annotation { level, place, message: self.data.clone() }
    }
}

/// Recognises a command in one line (without its line break); `None` for plain output.
///
/// ```
/// use workflows::commands::parse_line;
/// let command = parse_line("  ::set-output name=a,x=1%2C2::b%0Ac::d").unwrap();
/// assert_eq!((command.name.as_str(), command.data.as_str()), ("set-output", "b\nc::d"));
/// assert_eq!(command.property("X"), Some("1,2"));
/// assert_eq!(parse_line("::unknown::x"), None);
/// ```
pub fn parse_line(line: &str) -> Option<WorkflowCommand> {
    parse_with_token(line, None)
}

/// Whether a line could be a command at all: cheap, for the many that are not.
fn may_be_command(line: &str) -> bool {
    line.contains("##[") || line.trim_start().starts_with("::")
}

fn parse_with_token(line: &str, token: Option<&str>) -> Option<WorkflowCommand> {
    if !may_be_command(line) {
        return None;
    }
    parse_current(line, token).or_else(|| parse_legacy(line, token))
}

/// The name in lower case, if it is registered.
fn registered(name: &str, token: Option<&str>) -> Option<String> {
    let known = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name)).map(str::to_owned);
    known.or_else(|| token.filter(|token| token.eq_ignore_ascii_case(name)).map(str::to_owned))
}

fn parse_current(line: &str, token: Option<&str>) -> Option<WorkflowCommand> {
    let rest = line.trim_start().strip_prefix("::")?;
    let (header, data) = rest.split_once("::")?;
    let (name, properties) = header.split_once(' ').unwrap_or((header, ""));
    let properties = properties
        .trim()
        .split(',')
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.to_owned(), unescape(value, PROPERTY).into_owned()))
        .collect();
    Some(WorkflowCommand {
        name: registered(name, token)?,
        properties,
        data: unescape(data, DATA).into_owned(),
    })
}

fn parse_legacy(line: &str, token: Option<&str>) -> Option<WorkflowCommand> {
    let (_, rest) = line.split_once("##[")?;
    let (header, data) = rest.split_once(']')?;
    let (name, properties) = header.split_once(' ').unwrap_or((header, ""));
    let properties = properties
        .trim()
        .split(';')
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.to_owned(), unescape(value, LEGACY).into_owned()))
        .collect();
    Some(WorkflowCommand {
        name: registered(name, token)?,
        properties,
        data: unescape(data, LEGACY).into_owned(),
    })
}

type Escapes = &'static [(&'static str, char)];
const DATA: Escapes = &[("%0D", '\r'), ("%0A", '\n'), ("%25", '%')];
const PROPERTY: Escapes = &[("%0D", '\r'), ("%0A", '\n'), ("%3A", ':'), ("%2C", ','), ("%25", '%')];
const LEGACY: Escapes = &[("%3B", ';'), ("%0D", '\r'), ("%0A", '\n'), ("%5D", ']'), ("%25", '%')];

fn unescape(text: &str, escapes: Escapes) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((escape, plain)) = escapes.iter().find(|(escape, _)| rest.starts_with(escape)) {
            out.push(*plain);
            rest = &rest[escape.len()..];
        } else {
            out.push('%');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Text as data of a `::` command.
pub fn escape_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Text as a property of a `::` command.
pub fn escape_property(text: &str) -> String {
    escape_data(text).replace(':', "%3A").replace(',', "%2C")
}

/// What a line turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Output to be shown.
    Text,
    /// A command to be carried out; the line is not shown, unless commands are echoed.
    Command(WorkflowCommand),
    /// The token that ends a `stop-commands`.
    Resumed,
}

/// Reads the lines of one step, remembering a `stop-commands` in force.
#[derive(Debug, Clone, Default)]
pub struct CommandReader {
    token: Option<String>,
}

impl CommandReader {
    /// A reader for a new step.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether commands are stopped.
    pub const fn is_stopped(&self) -> bool {
        self.token.is_some()
    }

    /// What a line is.
    pub fn read(&mut self, line: &str) -> Line {
        let Some(command) = parse_with_token(line, self.token.as_deref()) else {
            return Line::Text;
        };
        match &self.token {
            None => Line::Command(command),
            Some(token) if token.eq_ignore_ascii_case(&command.name) => {
                self.token = None;
                Line::Resumed
            }
            Some(_) => Line::Text,
        }
    }

    /// Stops commands until `token`. `any_token` is the setting
    /// `ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS`.
    ///
    /// # Errors
    /// A token that is empty or itself a command could never, or too easily, be met.
    pub fn stop(&mut self, token: &str, any_token: bool) -> Result<(), String> {
        let reserved = token.is_empty() || token == "pause-logging" || registered(token, None).is_some();
        if reserved && !any_token {
            return Err(format!(
                "stop-commands cannot take the token '{token}': it must not be empty, 'pause-logging' or the name of a command"
            ));
        }
        self.token = Some(token.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(line: &str) -> Option<String> {
        parse_line(line).map(|command| command.data)
    }

    #[test]
    fn headers_end_at_the_first_double_colon() {
        assert_eq!(data("::set-output name=a::b::c").as_deref(), Some("b::c"));
        assert_eq!(data("\t ::warning::x").as_deref(), Some("x"));
        assert_eq!(data("x ::warning::x"), None);
        assert_eq!(data("::warning"), None);
        assert_eq!(data("::wrong::x"), None);
    }

    #[test]
    fn the_older_form_may_stand_anywhere() {
        let command = parse_line("abc ##[warning file=a%3Bb;line=3]x%5Dy").expect("command");
        assert_eq!(command.property("FILE"), Some("a;b"));
        assert_eq!(command.data, "x]y");
        assert_eq!(data("##[unknown]x"), None);
        assert_eq!(data("##[warning x"), None);
    }

    #[test]
    fn properties_split_at_commas_and_the_first_equals_sign() {
        let command = parse_line("::set-output name=k=v,,odd,x=::1").expect("command");
        assert_eq!(command.property("name"), Some("k=v"));
        assert_eq!(command.property("odd"), None);
        assert_eq!(command.property("x"), Some(""));
        assert_eq!(
            command.interpret(),
            Ok(Command::SetOutput { name: "k=v".to_owned(), value: "1".to_owned() })
        );
        assert_eq!(parse_line("::SET-OUTPUT name=a::1").expect("any case").name, "set-output");
    }

    #[test]
    fn escapes_go_both_ways() {
        for text in ["a%0Ab", "x\r\ny%", "%25", "100%,:;]"] {
            let line = format!("::notice title={}::{}", escape_property(text), escape_data(text));
            let command = parse_line(&line).expect("command");
            assert_eq!((command.property("title"), command.data.as_str()), (Some(text), text));
        }
    }

    #[test]
    fn stopped_commands_are_text_until_the_token() {
        let mut reader = CommandReader::new();
        assert!(reader.stop("warning", false).is_err());
        assert!(reader.stop("", false).is_err());
        assert!(reader.stop("pause-logging", false).is_err());
        assert_eq!(reader.stop("warning", true), Ok(()));
        reader.stop("Tok", false).expect("fine");
        assert!(reader.is_stopped());
        assert_eq!(reader.read("::warning::x"), Line::Text);
        assert_eq!(reader.read("::tok::"), Line::Resumed);
        assert!(matches!(reader.read("::warning::x"), Line::Command(_)));
        assert_eq!(reader.read("::tok::"), Line::Text);
    }

    #[test]
    fn what_is_held_wrong_is_said() {
        let error = |line: &str| parse_line(line).expect("command").interpret().expect_err("wrong");
        assert_eq!(error("::set-output::1"), "Required field 'name' is missing in ##[set-output] command.");
        assert!(error("::echo::maybe").contains("'maybe'"));
        assert!(error("::add-path::").contains("path"));
        assert!(error("::add-matcher::").contains("file"));
        assert!(error("::remove-matcher::").contains("Either"));
        assert!(error("::remove-matcher owner=a::b").contains("both"));
    }

    #[test]
    fn every_command_has_a_meaning() {
        let meaning = |line: &str| parse_line(line).expect("command").interpret().expect("valid");
        assert_eq!(
            meaning("::save-state name=a::b"),
            Command::SaveState { name: "a".into(), value: "b".into() }
        );
        assert_eq!(meaning("::set-env name=a::b"), Command::SetEnv { name: "a".into(), value: "b".into() });
        assert_eq!(meaning("::add-path::/x"), Command::AddPath("/x".into()));
        assert_eq!(meaning("::add-mask::"), Command::AddMask(String::new()));
        assert_eq!(meaning("::debug::d"), Command::Debug("d".into()));
        assert_eq!(meaning("::group::t"), Command::Group("t".into()));
        assert_eq!(meaning("::endgroup::"), Command::EndGroup);
        assert_eq!(meaning("::echo::ON"), Command::Echo(true));
        assert_eq!(meaning("::echo::off"), Command::Echo(false));
        assert_eq!(meaning("::stop-commands::t"), Command::StopCommands("t".into()));
        assert_eq!(meaning("::add-matcher::m.json"), Command::AddMatcher("m.json".into()));
        assert_eq!(
            meaning("::remove-matcher owner=o::"),
            Command::RemoveMatcher { owner: Some("o".into()), path: None }
        );
        assert_eq!(meaning("::internal-set-repo-path::x"), Command::Ignored);
    }

    #[test]
    fn annotations_keep_only_places_that_make_sense() {
        let place = |line: &str| match parse_line(line).expect("command").interpret().expect("valid") {
            Command::Annotation { place, .. } => place,
            other => panic!("{other:?}"),
        };
        let full = place("::error file=a,line=1,endLine=1,col=2,endColumn=3,title=t::m");
        assert_eq!((full.line, full.column, full.end_column), (Some(1), Some(2), Some(3)));
        assert_eq!(full.title.as_deref(), Some("t"));
        let lines = place("::notice line=1,endLine=4,col=2::m");
        assert_eq!((lines.end_line, lines.column), (Some(4), None));
        let back = place("::warning line=4,endLine=1::m");
        assert_eq!((back.line, back.end_line), (None, None));
        let end_only = place("::warning endLine=3,endColumn=2::m");
        assert_eq!((end_only.line, end_only.column), (Some(3), Some(2)));
        assert_eq!(place("::warning line=1,col=5,endColumn=2::m").column, None);
        assert_eq!(place("::warning col=5,line=x::m").column, None);
    }
}
