//! The operator's scripts around each job: `runner.hooks.job_started` and `runner.hooks.job_completed`.
//!
//! They run in the job's place, with the job's environment, and may write to `GITHUB_ENV` and `GITHUB_PATH`. A hook that
//! fails makes the job fail.

use workflows::{Condition, Step, StepKind};

use super::{
    effects::CommandFiles,
    frame::{Frame, Planned},
    state::EnvMap,
    steps::JobRun,
};
use crate::{
    backend::{ExecSpec, Exit, FileIn, JobEnv, Ladder},
    report::Conclusion,
    step::{Attempt, Failed, Process},
};

impl<E: JobEnv> JobRun<'_, E> {
    /// Runs a hook if there is one: 0 is "started", 1 is "completed". Answers whether the job may go on.
    pub(super) async fn run_hook(&mut self, which: usize) -> bool {
        let Some(path) = self.work.runner.config.hooks.get(which).cloned().flatten() else { return true };
        if self.state.lost {
            return false;
        }
        self.log.group(&format!("Run '{}'", path.display())).await;
        let result = match tokio::fs::read(&path).await {
            Ok(content) => self.exec_hook(&path, content).await,
            Err(error) => Err(Failed(format!("The hook {} cannot be read: {error}", path.display()))),
        };
        self.log.end_group().await;
        match result {
            Ok(Exit::Code(0)) => true,
            Ok(exit) => {
                let how = match exit {
                    Exit::Code(code) => format!("ended with exit code {code}"),
                    Exit::Signal(signal) => format!("was ended by signal {signal}"),
                    Exit::NotStarted(reason) => format!("did not start: {reason}"),
                };
                self.log.error(&format!("The hook {} {how}.", path.display())).await;
                self.state.count(Conclusion::Failure);
                false
            }
            Err(Failed(error)) => {
                self.log.error(&error).await;
                self.state.count(Conclusion::Failure);
                false
            }
        }
    }

    async fn exec_hook(&mut self, path: &std::path::Path, content: Vec<u8>) -> Result<Exit, Failed> {
        let place = self.place;
        let layout = place.layout();
        let files = CommandFiles::new(&layout.temp, self.state.next_file());
        let frame = Frame::default();
        let planned = Planned {
            key: "hook".to_owned(),
            index: 0,
            step: Step {
                span: workflows::Span::default(),
                id: None,
                name: None,
                condition: Some(Condition::parse("always()")),
                env: None,
                continue_on_error: None,
                timeout_minutes: None,
                background: false,
                kind: StepKind::Empty,
            },
            context_name: "__hook".to_owned(),
            uses: None,
        };
        let env = self.state.env.clone();
        let contexts = self.contexts(&frame, &env, Some((&planned, &files)));
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        let script = format!("{}/_runner_scripts/hook_{}.{extension}", layout.temp, self.state.next_file());
        let program = match extension {
            "sh" => vec!["sh".to_owned(), "-e".to_owned()],
            "ps1" => vec!["pwsh".to_owned(), "-File".to_owned()],
            _ => Vec::new(),
        };
        let mut spec = ExecSpec {
            argv: program.into_iter().chain([script.clone()]).collect(),
            env: self.process_env(&contexts, &env, &[], &files),
            cwd: layout.workspace.clone(),
            files: files.files().collect(),
            collect: files.collect().collect(),
            ladder: Ladder::default(),
        };
        spec.files.push(FileIn { path: script, mode: 0o755, bytes: content.into() });
        let none = EnvMap::default();
        let mut attempt =
            Attempt { contexts: &contexts, env: &env, step_env: &none, files: &files, outputs: Vec::new() };
        let cancel = crate::cancel::Cancel::new();
        self.run(&planned, Process::Exec(spec), &mut attempt, &cancel).await
    }
}
