//! The workflow files of a repository.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A workflow file as it was found.
#[derive(Debug, Clone)]
pub struct FoundWorkflow {
    /// Its path, relative to the repository where it is inside.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Reads the file `path`, or all workflow files in the folder `path` (and, when asked, in those below), sorted by name.
/// The description of an action that lies there is none of them.
pub fn find(root: &Path, path: &Path, recurse: bool) -> io::Result<Vec<FoundWorkflow>> {
    let whole = root.join(path);
    let read = |file: PathBuf| {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        match fs::read_to_string(&file) {
            Ok(text) => Ok(FoundWorkflow { name, text }),
            Err(error) => Err(io::Error::new(error.kind(), format!("{name} cannot be read: {error}"))),
        }
    };
    if !fs::metadata(&whole)?.is_dir() {
        return Ok(vec![read(whole)?]);
    }
    let mut files = Vec::new();
    collect(&whole, recurse, &mut files)?;
    files.sort();
    let mut found = files.into_iter().map(read).collect::<io::Result<Vec<_>>>()?;
    found.retain(|file| !is_action(file));
    Ok(found)
}

/// Whether a file is called `action.yml` and says how to run, but no job.
fn is_action(file: &FoundWorkflow) -> bool {
    let stem = Path::new(&file.name).file_stem();
    let has = |key: &str| file.text.lines().any(|line| line.starts_with(key));
    stem.is_some_and(|stem| stem == "action") && has("runs:") && !has("jobs:")
}

fn collect(folder: &Path, recurse: bool, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if recurse {
                collect(&path, recurse, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}
