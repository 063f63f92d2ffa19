//! What a step leaves for the steps after it: command files and workflow commands, read and checked.
//!
//! GitHub processes the files one by one; a file with a mistake fails the step, what stood before the mistake in it
//! counts, and the next file is still read. Order: PATH, ENV, STEP_SUMMARY, STATE, OUTPUT.

use workflows::command_files::{self, Pairs};

use crate::{
    backend::{Collected, FileIn, FileOut},
    log::{JobLog, StepFindings},
};

/// The largest command file that is read, in bytes.
pub(crate) const FILE_LIMIT: u64 = 16 * 1024 * 1024;
/// The largest summary of a step, in bytes.
pub(crate) const SUMMARY_LIMIT: u64 = 1024 * 1024;

/// What a step asked for.
#[derive(Debug, Default)]
pub(crate) struct StepEffects {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) paths: Vec<String>,
    pub(crate) outputs: Vec<(String, String)>,
    pub(crate) state: Vec<(String, String)>,
    pub(crate) summary: String,
    /// Whether something of it was wrong, which fails the step.
    pub(crate) failed: bool,
}

/// The five files of one process.
#[derive(Debug, Clone)]
pub(crate) struct CommandFiles {
    folder: String,
    number: u64,
}

/// Kinds in the order in which they are processed; the word in the file's name and in the variable.
const KINDS: [(&str, &str); 5] =
    [("path", "PATH"), ("env", "ENV"), ("summary", "STEP_SUMMARY"), ("state", "STATE"), ("output", "OUTPUT")];

impl CommandFiles {
    /// Fresh files number `number` below the place's temporary folder.
    pub(crate) fn new(temp: &str, number: u64) -> Self {
        Self { folder: format!("{temp}/_runner_file_commands"), number }
    }

    fn path(&self, word: &str) -> String {
        format!("{}/{word}_{}", self.folder, self.number)
    }

    /// `GITHUB_ENV` and its like, with the paths, and Gitea's twins of them.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (String, String)> + '_ {
        KINDS.iter().flat_map(|(word, variable)| {
            ["GITHUB", "GITEA"].map(|prefix| (format!("{prefix}_{variable}"), self.path(word)))
        })
    }

    /// The keys of the `github` context that hold the paths.
    pub(crate) fn context(&self) -> [(&'static str, String); 5] {
        [
            ("path", self.path("path")),
            ("env", self.path("env")),
            ("step_summary", self.path("summary")),
            ("state", self.path("state")),
            ("output", self.path("output")),
        ]
    }

    /// The empty files to write first. Anybody may write them: a container may run as another user.
    pub(crate) fn files(&self) -> impl Iterator<Item = FileIn> + '_ {
        KINDS.iter().map(|(word, _)| FileIn {
            path: self.path(word),
            mode: 0o666,
            bytes: bytes::Bytes::new(),
        })
    }

    /// The files to read afterwards, in the order of processing.
    pub(crate) fn collect(&self) -> impl Iterator<Item = FileOut> + '_ {
        KINDS.iter().map(|(word, _)| FileOut {
            path: self.path(word),
            limit: if *word == "summary" { SUMMARY_LIMIT } else { FILE_LIMIT },
            within: None,
        })
    }
}

/// Reads what came back, `collected` being the answer to [`CommandFiles::collect`]; mistakes are told and remembered.
pub(crate) async fn read(findings: StepFindings, collected: &[Collected], log: &JobLog) -> StepEffects {
    let mut effects = StepEffects {
        env: findings.env,
        paths: findings.paths,
        outputs: findings.outputs,
        state: findings.state,
        summary: String::new(),
        failed: findings.failed.is_some(),
    };
    for ((word, variable), file) in KINDS.iter().zip(collected) {
        let content = match file {
            Collected::Content(content) => content,
            Collected::Missing => continue,
            Collected::TooLarge(size) => {
                let limit = if *word == "summary" { SUMMARY_LIMIT } else { FILE_LIMIT };
                let text = format!(
                    "$GITHUB_{variable} is {size} bytes long, at most {limit} are read: it was ignored"
                );
                log.error(&text).await;
                // GitHub does not fail a step for a summary that is too long.
                effects.failed |= *word != "summary";
                continue;
            }
            Collected::Refused(reason) => {
                log.error(&format!("$GITHUB_{variable} was not read: {reason}")).await;
                effects.failed = true;
                continue;
            }
        };
        if content.is_empty() {
            continue;
        }
        let error = match *word {
            "path" => match command_files::parse_path_file(content) {
                Ok(paths) => {
                    effects.paths.extend(paths);
                    None
                }
                Err(error) => Some(error),
            },
            "summary" => match command_files::decode(content) {
                Ok(text) => {
                    effects.summary = text;
                    None
                }
                Err(error) => Some(error),
            },
            kind => {
                let Pairs { pairs, error } = command_files::parse_env_file(content);
                match kind {
                    "state" => effects.state.extend(pairs),
                    "output" => effects.outputs.extend(pairs),
                    _ => set_variables(pairs, &mut effects, log).await,
                }
                error
            }
        };
        if let Some(error) = error {
            log.error(&format!("Unable to process file command '{word}' successfully.")).await;
            log.error(&error).await;
            effects.failed = true;
        }
    }
    effects
}

/// `NODE_OPTIONS` would change how every later action runs: GitHub refuses it, without failing the step.
async fn set_variables(pairs: Vec<(String, String)>, effects: &mut StepEffects, log: &JobLog) {
    for (name, value) in pairs {
        if name.eq_ignore_ascii_case("NODE_OPTIONS") {
            log.error("Can't store NODE_OPTIONS output parameter using '$GITHUB_ENV' command.").await;
        } else {
            effects.env.push((name, value));
        }
    }
}
