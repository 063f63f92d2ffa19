//! Actions that are an image, pulled or built from their Dockerfile.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use workflows::Runs;

use super::{Inputs, LoadedAction, Residence};
use crate::{
    backend::{ImageBuild, JobEnv},
    cancel::Cancel,
    job::{
        Stage,
        frame::{Frame, Planned},
        steps::JobRun,
    },
    log::StepLogOptions,
    report::Conclusion,
    step::{Attempt, Failed, Process, image::finished, shell},
};

impl<E: JobEnv> JobRun<'_, E> {
    /// Runs one stage of a docker action in a container of its own.
    #[expect(clippy::too_many_arguments, reason = "a stage is made of these, each used once")]
    pub(crate) async fn run_docker(
        &mut self,
        frame: &Frame,
        planned: &Planned,
        action: &Arc<LoadedAction>,
        stage: Stage,
        inputs: &Inputs,
        attempt: &mut Attempt<'_>,
        cancel: &Cancel,
    ) -> Result<Conclusion, Failed> {
        let Runs::Docker { image, entrypoint, pre_entrypoint, post_entrypoint, args, env, .. } =
            &action.definition.runs
        else {
            return Ok(Conclusion::Success);
        };
        let image = match image.strip_prefix("docker://") {
            Some(image) => image.to_owned(),
            None => self.build_action(action, image, cancel).await?,
        };
        let given = |key: &str| {
            inputs
                .0
                .iter()
                .find(|(name, value)| name.eq_ignore_ascii_case(key) && !value.is_empty())
                .map(|(_, v)| v.clone())
        };
        let words =
            |text: &str| shell::split(text).ok_or_else(|| Failed(format!("a quote is not closed: {text}")));
        let entrypoint = match stage {
            Stage::Pre => pre_entrypoint.clone(),
            Stage::Post => post_entrypoint.clone(),
            // The action's own entry point stands above the step's.
            Stage::Main => entrypoint.clone().or_else(|| given("entrypoint")),
        };
        let entrypoint = entrypoint.as_deref().map(words).transpose()?.unwrap_or_default();
        // The contexts of the action's own lines: its inputs, nothing of the step.
        let mut inside = attempt.contexts.clone();
        inside.set("inputs", inputs.to_value());
        let status = self.status(frame);
        let args = match args {
            Some(templates) => {
                let mut args = Vec::with_capacity(templates.len());
                for template in templates {
                    args.push(self.answered(&inside, &status, |scope| template.eval_string(scope)).await?);
                }
                Some(args)
            }
            None => given("args").as_deref().map(words).transpose()?,
        };
        let mut variables = self.image_env(attempt, &self.action_variables(planned, inputs));
        self.name_action(frame, action, &mut variables);
        if let Some(map) = env {
            for (name, value) in self.answered(&inside, &status, |scope| map.eval_strings(scope)).await? {
                variables.entry(name).or_insert(value);
            }
        }
        let run = crate::step::image::image_run(&image, variables, entrypoint, args, attempt);
        finished(self.run(planned, Process::Image(run), attempt, cancel).await?)
    }

    /// Builds the action's image from its Dockerfile, unless the same content was built before. Answers the tag.
    async fn build_action(
        &mut self,
        action: &Arc<LoadedAction>,
        dockerfile: &str,
        cancel: &Cancel,
    ) -> Result<String, Failed> {
        let place = self.place;
        let layout = place.layout();
        // It may lie beside the action's own folder, but in its repository.
        let folder = match &action.residence {
            Residence::Archive { path, .. } => path.as_str(),
            Residence::Workspace(folder) => {
                folder.strip_prefix(&*layout.workspace).unwrap_or_default().trim_start_matches('/')
            }
        };
        let dockerfile = super::reference::clean_path(&format!("{folder}/{dockerfile}"), &action.shown)
            .map_err(|error| Failed(error.to_string()))?;
        // The build's context is the folder of the Dockerfile.
        let (folder, file) = dockerfile.rsplit_once('/').unwrap_or(("", &dockerfile));
        let scratch = tempfile::tempdir()
            .map_err(|error| Failed(format!("cannot make a folder for the build: {error}")))?;
        let context = scratch.path().join("context.tar");
        match &action.residence {
            Residence::Archive { archive, .. } => {
                let prefix = folder.to_owned();
                let (from, to) = (archive.path().to_owned(), context.clone());
                tokio::task::spawn_blocking(move || subtree(&from, &prefix, &to))
                    .await
                    .map_err(|error| Failed(error.to_string()))?
                    .map_err(|error| {
                        Failed(format!("the build context of {} cannot be made: {error}", action.shown))
                    })?;
            }
            Residence::Workspace(_) => {
                let root = crate::step::join(&layout.workspace, folder);
                place.pack(&root, &context).await.map_err(|error| self.note_broken(&error))?;
            }
        }
        let context = without_ignored(context, file).await.map_err(|error| {
            Failed(format!("the build context of {} cannot be made: {error}", action.shown))
        })?;
        let digest =
            digest(&context).map_err(|error| Failed(format!("cannot read the build context: {error}")))?;
        let tag = format!("esteira-action/{}:{digest}", tag_name(&self.work.repository()));
        let force = self.work.runner.config.force_rebuild;
        let build = ImageBuild { context, dockerfile: file.to_owned(), tag: tag.clone(), force };
        let mut output = self.log.step(StepLogOptions {
            allow_unsecure_commands: false,
            allow_unsecure_stop_tokens: false,
            debug: self.debug,
            workspace: layout.workspace.clone(),
        });
        let built = place.build_image(build, &mut output, cancel).await;
        output.finish().await;
        built.map_err(|error| self.note_broken(&error))?;
        Ok(tag)
    }
}

/// The same context without what its `.dockerignore` names.
async fn without_ignored(context: PathBuf, dockerfile: &str) -> io::Result<PathBuf> {
    let (dockerfile, left) = (dockerfile.to_owned(), context.with_extension("left"));
    let applied = tokio::task::spawn_blocking(move || {
        let applied = super::ignore::apply(&context, &dockerfile, &left)?;
        Ok(if applied { left } else { context })
    });
    applied.await.map_err(io::Error::other)?
}

/// The part of a tag that tells people whose image it is.
fn tag_name(repository: &str) -> String {
    let name: String =
        repository.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-').to_owned();
    let mut clean = String::new();
    for c in name.chars() {
        if !(c == '-' && clean.ends_with('-')) {
            clean.push(c);
        }
    }
    if clean.is_empty() { "local".to_owned() } else { clean }
}

/// The hash of names, modes and contents: not of times, which differ between two checkouts of the same commit.
fn digest(archive: &Path) -> io::Result<String> {
    let mut entries: Vec<Vec<u8>> = Vec::new();
    let mut tar = tar::Archive::new(File::open(archive)?);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let mut hash = Sha256::new();
        hash.update(&*entry.path_bytes());
        hash.update([0]);
        hash.update((entry.header().mode()? & 0o111).to_be_bytes());
        hash.update(entry.link_name_bytes().unwrap_or_default());
        hash.update([0]);
        io::copy(&mut entry, &mut HashWriter(&mut hash))?;
        entries.push(hash.finalize().to_vec());
    }
    entries.sort();
    let mut whole = Sha256::new();
    for entry in entries {
        whole.update(entry);
    }
    Ok(whole.finalize().iter().take(10).map(|byte| format!("{byte:02x}")).collect())
}

struct HashWriter<'h>(&'h mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies the entries below `prefix` of one archive into another, without the prefix.
fn subtree(from: &Path, prefix: &str, to: &Path) -> io::Result<()> {
    let mut out = tar::Builder::new(io::BufWriter::new(File::create(to)?));
    let mut tar = tar::Archive::new(io::BufReader::new(File::open(from)?));
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(relative) = path.strip_prefix(prefix) else { continue };
        if relative.as_os_str().is_empty() {
            continue;
        }
        let relative = relative.to_owned();
        let mut header = entry.header().clone();
        match entry.link_name()? {
            Some(target) => {
                let target = target.into_owned();
                out.append_link(&mut header, &relative, target)?;
            }
            None => out.append_data(&mut header, &relative, &mut entry)?,
        }
    }
    out.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{digest, subtree, tag_name};

    fn archive(entries: &[(&str, &str)], time: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        for (path, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(time);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        tar.finish().unwrap();
        file
    }

    #[test]
    fn the_same_content_has_the_same_tag_whatever_its_time_and_order() {
        let one = archive(&[("a", "1"), ("b", "2")], 1);
        let two = archive(&[("b", "2"), ("a", "1")], 2);
        let other = archive(&[("a", "1"), ("b", "3")], 1);
        assert_eq!(digest(one.path()).unwrap(), digest(two.path()).unwrap());
        assert_ne!(digest(one.path()).unwrap(), digest(other.path()).unwrap());
    }

    #[test]
    fn a_subtree_loses_its_prefix() {
        let whole = archive(&[("x/Dockerfile", "FROM a"), ("xy/z", "no"), ("x/sub/f", "1")], 1);
        let out = tempfile::NamedTempFile::new().unwrap();
        subtree(whole.path(), "x", out.path()).unwrap();
        let expected = archive(&[("Dockerfile", "FROM a"), ("sub/f", "1")], 5);
        assert_eq!(digest(out.path()).unwrap(), digest(expected.path()).unwrap());
    }

    #[test]
    fn tags_have_only_what_tags_may_have() {
        assert_eq!(tag_name("Octo-Org/My__Repo"), "octo-org-my-repo");
        assert_eq!(tag_name("//"), "local");
    }
}
