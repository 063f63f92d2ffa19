//! `hashFiles`: SHA-256 over the SHA-256 of each file that the patterns match, in the order of a sorted walk.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::glob::{Match, Pattern};

/// The digest in hex, empty when no file matches. Errors are sentences.
pub(crate) fn hash(workspace: &str, patterns: &[String], follow_links: bool) -> Result<String, String> {
    let mut all = Vec::new();
    for line in patterns.iter().flat_map(|pattern| pattern.lines()) {
        if let Some(pattern) = Pattern::parse(line, workspace)? {
            let descendants = pattern.descendants();
            all.push(pattern);
            all.extend(descendants);
        }
    }
    let mut walk = Walk {
        patterns: all,
        follow_links,
        workspace: PathBuf::from(workspace),
        digest: Sha256::new(),
        matched: false,
    };
    for start in walk.starts() {
        walk.visit(&start, &mut Vec::new())?;
    }
    Ok(if walk.matched { hex(&walk.digest.finalize()) } else { String::new() })
}

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

struct Walk {
    patterns: Vec<Pattern>,
    follow_links: bool,
    workspace: PathBuf,
    digest: Sha256,
    matched: bool,
}

impl Walk {
    /// Where to begin: the plain beginnings of the patterns, without those that lie below another.
    fn starts(&self) -> Vec<PathBuf> {
        let paths: Vec<PathBuf> = self
            .patterns
            .iter()
            .filter(|pattern| !pattern.negated)
            .map(|pattern| PathBuf::from(pattern.search_path()))
            .collect();
        let mut starts: Vec<PathBuf> = Vec::new();
        for path in &paths {
            let below_another = paths.iter().any(|other| other != path && path.starts_with(other));
            if !below_another && !starts.contains(path) {
                starts.push(path.clone());
            }
        }
        starts
    }

    fn visit(&mut self, path: &Path, above: &mut Vec<PathBuf>) -> Result<(), String> {
        let fail = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let text = path.to_string_lossy();
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        let mut hit = Match::default();
        for pattern in &self.patterns {
            let one = pattern.matches(&parts);
            if pattern.negated {
                hit = Match { folder: hit.folder && !one.folder, file: hit.file && !one.file };
            } else {
                hit = Match { folder: hit.folder || one.folder, file: hit.file || one.file };
            }
        }
        let descend =
            self.patterns.iter().any(|pattern| !pattern.negated && pattern.could_match_below(&parts));
        if !hit.folder && !hit.file && !descend {
            return Ok(());
        }
        let metadata = if self.follow_links { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fail(error)),
        };
        if metadata.is_dir() {
            if !descend {
                return Ok(());
            }
            let real = fs::canonicalize(path).map_err(fail)?;
            if above.contains(&real) {
                return Ok(());
            }
            above.push(real);
            let mut names = fs::read_dir(path)
                .map_err(fail)?
                .map(|entry| Ok(entry?.file_name()))
                .collect::<io::Result<Vec<_>>>()
                .map_err(fail)?;
            names.sort();
            for name in names {
                self.visit(&path.join(name), above)?;
            }
            above.pop();
        } else if hit.file && path.starts_with(&self.workspace) {
            self.add(path).map_err(fail)?;
        }
        Ok(())
    }

    /// Adds one file, through a link too; what is no regular file is left out.
    fn add(&mut self, path: &Path) -> io::Result<()> {
        if !fs::metadata(path)?.is_file() {
            return Ok(());
        }
        let mut one = Sha256::new();
        io::copy(&mut fs::File::open(path)?, &mut Feed(&mut one))?;
        self.digest.update(one.finalize());
        self.matched = true;
        Ok(())
    }
}

/// A digest as a writer.
pub(crate) struct Feed<'a>(pub(crate) &'a mut Sha256);

impl io::Write for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use sha2::{Digest, Sha256};

    use super::{hash, hex};

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in
            [("a.txt", "A"), ("b/c.txt", "C"), ("b/d.md", "D"), ("b/.e.txt", "E"), ("z.txt", "Z")]
        {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, content).expect("a file");
        }
        folder
    }

    fn expected(contents: &[&str]) -> String {
        let mut all = Sha256::new();
        for content in contents {
            all.update(Sha256::digest(content));
        }
        hex(&all.finalize())
    }

    fn run(folder: &Path, patterns: &[&str]) -> String {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        hash(&folder.display().to_string(), &patterns, false).expect("hashed")
    }

    #[test]
    fn files_count_in_the_order_of_a_sorted_walk_and_once_each() {
        let folder = tree();
        assert_eq!(run(folder.path(), &["z.txt", "**/*.txt", "a.txt"]), expected(&["A", "E", "C", "Z"]));
    }

    #[test]
    fn later_patterns_win() {
        let folder = tree();
        assert_eq!(run(folder.path(), &["**/*.txt", "!b/**"]), expected(&["A", "Z"]));
        assert_eq!(run(folder.path(), &["**/*.txt\n!b/**\nb/c.txt"]), expected(&["A", "C", "Z"]));
    }

    #[test]
    fn a_folder_means_what_is_in_it() {
        let folder = tree();
        assert_eq!(run(folder.path(), &["b"]), expected(&["E", "C", "D"]));
    }

    #[test]
    fn nothing_matched_is_empty_and_outside_does_not_count() {
        let folder = tree();
        assert_eq!(run(folder.path(), &["*.none"]), "");
        assert_eq!(run(folder.path(), &["/etc/hostname"]), "");
    }

    #[test]
    fn links_to_files_count_and_links_to_folders_only_when_followed() {
        let folder = tree();
        symlink("../a.txt", folder.path().join("b/link.md")).expect("a link");
        symlink("b", folder.path().join("y")).expect("a link");
        symlink(".", folder.path().join("b/loop")).expect("a link");
        assert_eq!(run(folder.path(), &["b/*.md"]), expected(&["D", "A"]));
        let follow =
            |patterns: &str| hash(&folder.path().display().to_string(), &[patterns.to_owned()], true);
        assert_eq!(run(folder.path(), &["y/*.md"]), expected(&[]).replace(&expected(&[]), ""));
        assert_eq!(follow("y/*.md").expect("hashed"), expected(&["D", "A"]));
    }
}
