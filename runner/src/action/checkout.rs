//! `actions/checkout` of a repository that is a folder on this machine: its working tree, without network.

use workflows::TemplateMap;

use crate::{
    backend::JobEnv,
    job::{
        frame::{Frame, Planned},
        steps::JobRun,
    },
    report::Conclusion,
    step::{Attempt, Failed, join},
};

impl<E: JobEnv> JobRun<'_, E> {
    /// Unpacks the working tree into the workspace, or into the folder `path` of it.
    pub(crate) async fn run_checkout(
        &mut self,
        frame: &Frame,
        planned: &Planned,
        with: Option<&TemplateMap>,
        attempt: &mut Attempt<'_>,
    ) -> Result<Conclusion, Failed> {
        let status = self.status(frame);
        let with = match with {
            Some(map) => self.answered(attempt.contexts, &status, |scope| map.eval_strings(scope)).await?,
            None => Vec::new(),
        };
        self.uses_header(planned, attempt, &with).await;
        let Some(archive) = &self.work.working_tree else {
            return Err(Failed("there is no local working tree to check out".to_owned()));
        };
        let path = with
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("path"))
            .map_or("", |(_, path)| path.as_str());
        let path = super::reference::clean_path(path, "actions/checkout")
            .map_err(|error| Failed(error.to_string()))?;
        let into = join(&self.place.layout().workspace, &path);
        self.place.unpack(archive, &into).await.map_err(|error| self.note_broken(&error))?;
        self.log.row("The local working tree was copied.").await;
        for (output, key) in [("ref", "ref"), ("commit", "sha")] {
            let value = self.work.github.get(key).map(workflows::Value::to_text).unwrap_or_default();
            attempt.outputs.push((output.to_owned(), value));
        }
        Ok(Conclusion::Success)
    }
}
