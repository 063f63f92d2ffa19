//! Workspaces that are folders of this machine (`container.bind_workdir`): under the same path here and in the job, so
//! that a job which talks to the engine can mount parts of its workspace into containers of its own.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::backend::{BackendError, host::remove_tree};

/// How much of the owner's id is in a folder's name.
const OWNER: usize = 12;

/// The folder of one task: `<workdir_parent>/<task>-<owner>`.
#[derive(Debug)]
pub(super) struct Bound {
    path: String,
    task: i64,
}

fn suffix(owner: &str) -> String {
    owner.chars().filter(char::is_ascii_alphanumeric).take(OWNER).collect()
}

impl Bound {
    /// Names it; nothing is made.
    pub(super) fn new(workdir_parent: &str, owner: &str, task: i64) -> Self {
        let path = format!("{}/{task}-{}", workdir_parent.trim_end_matches('/'), suffix(owner));
        Self { path, task }
    }

    /// Those of `owner` that are there.
    pub(super) fn all(workdir_parent: &str, owner: &str) -> Vec<Self> {
        let owner = suffix(owner);
        let folders = fs::read_dir(workdir_parent).into_iter().flatten().flatten();
        folders
            .filter_map(|folder| {
                let name = folder.file_name().into_string().ok()?;
                let (task, of) = name.split_once('-')?;
                let task = (of == owner).then(|| task.parse().ok())??;
                Some(Self { path: folder.path().to_str()?.to_owned(), task })
            })
            .collect()
    }

    /// What takes the place of `workdir_parent` for this task.
    pub(super) fn parent(&self) -> &str {
        &self.path
    }

    pub(super) const fn task(&self) -> i64 {
        self.task
    }

    /// Removes it with all that the job has left in it; the error is a sentence.
    pub(super) async fn remove(self) -> Result<(), String> {
        let path = PathBuf::from(&self.path);
        let removed = tokio::task::spawn_blocking(move || remove_tree(&path)).await;
        removed
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| format!("the workspace {} cannot be removed: {error}", self.path))
    }
}

impl Bound {
    /// Makes the workspace inside of it. Whoever the job is may write to that (an engine may map its users to others of
    /// this machine); to get there one has to be this user, or the engine.
    pub(super) fn make(&self, workspace: &str) -> Result<(), BackendError> {
        let make = || -> io::Result<()> {
            fs::create_dir_all(&self.path)?;
            fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700))?;
            Path::new(workspace).parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::create_dir(workspace)?;
            fs::set_permissions(workspace, fs::Permissions::from_mode(0o777))
        };
        make().map_err(|error| {
            let what = format!("making the workspace {workspace} on this machine (`container.bind_workdir`)");
            BackendError::engine(what, error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Bound;

    #[tokio::test]
    async fn only_the_owners_folders_are_found_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path().to_str().unwrap();
        let owner = "0f3c9a52-7d11-4a2e-9d7e-1";
        for (owner, task) in [(owner, 7), ("99999999-7d11", 8)] {
            let bound = Bound::new(parent, owner, task);
            bound.make(&format!("{}/o/r", bound.parent())).unwrap();
        }
        std::fs::create_dir(folder.path().join("other")).unwrap();
        let found = Bound::all(parent, owner);
        assert_eq!(found.iter().map(Bound::task).collect::<Vec<_>>(), [7]);
        for bound in found {
            bound.remove().await.unwrap();
        }
        assert_eq!(std::fs::read_dir(parent).unwrap().count(), 2);
        let again = Bound::new(parent, "99999999-7d11", 8);
        assert!(again.make(&format!("{}/o/r", again.parent())).is_err(), "it is new");
    }
}
