//! `actions/checkout` of a repository that is a folder on this machine: its working tree, without network.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempPath;
use tokio::sync::OnceCell;
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

/// A local repository: what is tracked, and what is not but git does not ignore either. Packed when it is first wanted.
#[derive(Debug)]
pub struct WorkingTree {
    root: PathBuf,
    archive: OnceCell<TempPath>,
}

impl WorkingTree {
    /// The working tree with this root folder.
    pub fn new(root: PathBuf) -> Self {
        Self { root, archive: OnceCell::new() }
    }

    /// A tar archive of it.
    pub(crate) async fn archive(&self) -> io::Result<&Path> {
        let archive = self
            .archive
            .get_or_try_init(|| async {
                let root = self.root.clone();
                tokio::task::spawn_blocking(move || pack(&root)).await.map_err(io::Error::other)?
            })
            .await?;
        Ok(archive)
    }
}

fn pack(root: &Path) -> io::Result<TempPath> {
    let file = tempfile::Builder::new().prefix("esteira-tree-").suffix(".tar").tempfile()?;
    let mut tar = tar::Builder::new(io::BufWriter::new(file.reopen()?));
    tar.follow_symlinks(false);
    match listed_by_git(root) {
        Some(paths) => {
            for path in paths {
                // A tracked file may have been deleted since.
                if root.join(&path).symlink_metadata().is_ok_and(|facts| !facts.is_dir()) {
                    tar.append_path_with_name(root.join(&path), &path)?;
                }
            }
            if root.join(".git").is_dir() {
                tar.append_dir_all(".git", root.join(".git"))?;
            }
        }
        None => tar.append_dir_all("", root)?,
    }
    tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(file.into_temp_path())
}

/// Paths that belong to the tree; `None` where git or a repository is missing, then everything belongs to it.
fn listed_by_git(root: &Path) -> Option<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStringExt;
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let mut paths: Vec<PathBuf> = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty())
        .map(|path| PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())))
        .collect();
    paths.sort();
    paths.dedup();
    Some(paths)
}

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
        let Some(tree) = &self.work.working_tree else {
            return Err(Failed("There is no local working tree to check out.".to_owned()));
        };
        let archive = tree
            .archive()
            .await
            .map_err(|error| Failed(format!("The working tree cannot be packed: {error}.")))?;
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

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::pack;

    #[test]
    fn ignored_files_stay_behind() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (path, text) in [(".gitignore", "*.log\n"), ("kept", "1"), ("new file", "2"), ("x.log", "3")] {
            fs::write(root.join(path), text).unwrap();
        }
        let git = |words: &[&str]| {
            let done = Command::new("git").args(words).current_dir(root).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        git(&["init", "-q"]);
        git(&["add", "kept", ".gitignore"]);
        let archive = pack(root).unwrap();
        let mut tar = tar::Archive::new(fs::File::open(&archive).unwrap());
        let names: Vec<String> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert!(
            ["kept", "new file", ".gitignore"].iter().all(|name| names.iter().any(|found| found == name))
        );
        assert!(names.iter().any(|name| name.starts_with(".git/")));
        assert!(!names.iter().any(|name| name == "x.log"));
    }
}
