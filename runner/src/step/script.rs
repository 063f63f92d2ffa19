//! `run:` steps.

use workflows::{Contexts, Template};

use super::{Attempt, Failed, Process, shell};
use crate::{
    backend::{ExecSpec, Exit, FileIn, JobEnv, Ladder},
    cancel::Cancel,
    job::{
        effects::CommandFiles,
        frame::{Frame, Planned},
        state::EnvMap,
        steps::JobRun,
    },
    report::Conclusion,
};

/// What a `run:` step says.
pub(crate) struct Script<'a> {
    pub(crate) text: &'a Template,
    pub(crate) shell: Option<&'a Template>,
    pub(crate) working_directory: Option<&'a Template>,
}

impl<E: JobEnv> JobRun<'_, E> {
    /// Runs a script in the job's place.
    pub(crate) async fn run_script(
        &mut self,
        frame: &Frame,
        planned: &Planned,
        script: Script<'_>,
        attempt: &mut Attempt<'_>,
        cancel: &Cancel,
    ) -> Result<Conclusion, Failed> {
        let contexts = attempt.contexts;
        let status = self.status(frame);
        let text = self.answered(contexts, &status, |scope| script.text.eval_string(scope)).await?;
        let shell_text = self.text_or_default(frame, contexts, script.shell, |defaults| defaults.0).await?;
        let directory =
            self.text_or_default(frame, contexts, script.working_directory, |defaults| defaults.1).await?;
        let place = self.place;
        let layout = place.layout();
        let cwd = join(&layout.workspace, directory.as_deref().unwrap_or(""));
        let own_choice = shell_text.as_deref().is_some_and(|text| !text.trim().is_empty());
        // Inside a composite action without `shell` Gitea runs bash; GitHub demands the key.
        let shell_text = if own_choice || frame.is_job() { shell_text } else { Some("bash".to_owned()) };
        self.script_header(&text, shell_text.as_deref(), attempt.step_env).await;
        loop {
            let shell = shell::choose(shell_text.as_deref(), self.default_shell, self.state.without_bash)
                .map_err(Failed)?;
            let path =
                format!("{}/_runner_scripts/{}{}", layout.temp, self.state.next_file(), shell.extension);
            let mut files: Vec<FileIn> = attempt.files.files().collect();
            files.push(FileIn {
                path: path.clone(),
                mode: 0o755,
                bytes: shell.prepare_script(&text).into_bytes().into(),
            });
            let spec = ExecSpec {
                argv: shell.argv(&path),
                env: self.process_env(contexts, attempt.env, &[], attempt.files),
                cwd: cwd.clone(),
                files,
                collect: attempt.files.collect().collect(),
                ladder: Ladder::default(),
            };
            let bash_by_default = !own_choice && shell.program == "bash";
            match self.run(planned, Process::Exec(spec), attempt, cancel).await? {
                Exit::Code(0) => return Ok(Conclusion::Success),
                Exit::NotStarted(_) if bash_by_default && !self.state.without_bash => {
                    self.state.without_bash = true;
                }
                Exit::Code(code) => return Err(Failed(format!("Process completed with exit code {code}."))),
                Exit::Signal(signal) => return Err(Failed(format!("Process was ended by signal {signal}."))),
                Exit::NotStarted(reason) => return Err(Failed(reason)),
            }
        }
    }

    /// The step's own text, else that of `defaults.run` (which composite actions do not see).
    async fn text_or_default(
        &self,
        frame: &Frame,
        contexts: &Contexts,
        own: Option<&Template>,
        pick: impl Fn((Option<String>, Option<String>)) -> Option<String>,
    ) -> Result<Option<String>, Failed> {
        let status = self.status(frame);
        match own {
            Some(template) => {
                Ok(Some(self.answered(contexts, &status, |scope| template.eval_string(scope)).await?))
            }
            None if frame.is_job() => Ok(pick(self.run_defaults.clone())),
            None => Ok(None),
        }
    }

    async fn script_header(&self, text: &str, shell: Option<&str>, env: &EnvMap) {
        let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
        let title = format!("Run {first}");
        let shown = shell::choose(shell, self.default_shell, self.state.without_bash)
            .map_or_else(|_| shell.unwrap_or_default().to_owned(), |shell| shell.argv("{0}").join(" "));
        let mut rows = String::new();
        for line in text.trim_end_matches('\n').split('\n') {
            rows.push_str(&format!("\u{1b}[36;1m{line}\u{1b}[0m\n"));
        }
        rows.push_str(&format!("shell: {shown}"));
        self.header(&title, &rows, env).await;
    }

    /// A folded group that says what is about to run. Variables that the runner sets for everybody are left out.
    pub(crate) async fn header(&self, title: &str, rows: &str, env: &EnvMap) {
        let text = header_text(title, rows, env);
        self.log.row(&text).await;
    }

    /// The environment of a process of this step.
    pub(crate) fn process_env(
        &self,
        contexts: &Contexts,
        env: &EnvMap,
        action: &[(String, String)],
        files: &CommandFiles,
    ) -> std::collections::BTreeMap<String, String> {
        let mut whole = crate::job::env::process(&self.env_parts(contexts, env, action));
        whole.extend(files.variables());
        whole
    }
}

fn header_text(title: &str, rows: &str, env: &EnvMap) -> String {
    let mut text = format!("##[group]{title}");
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(rows);
    }
    let mut shown = env.iter().filter(|(name, _)| !is_usual(name)).peekable();
    if shown.peek().is_some() {
        text.push_str("\nenv:");
    }
    for (name, value) in shown {
        text.push_str(&format!("\n  {name}: {value}"));
    }
    text.push_str("\n##[endgroup]");
    text
}

fn is_usual(name: &str) -> bool {
    matches!(name, "PATH" | "HOME" | "CI")
        || ["GITHUB_", "GITEA_", "RUNNER_", "INPUT_"].iter().any(|prefix| name.starts_with(prefix))
}

/// `path` seen from `base`.
pub(crate) fn join(base: &str, path: &str) -> String {
    let path = path.trim_end_matches('/');
    let path = path.strip_prefix("./").unwrap_or(path);
    if path.starts_with('/') {
        path.to_owned()
    } else if path.is_empty() || path == "." {
        base.to_owned()
    } else {
        format!("{base}/{path}")
    }
}
