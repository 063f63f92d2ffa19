//! `.dockerignore`: an engine that is sent a build context takes all of it; what the file names is left out before, as
//! the command line client does.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use globset::{GlobBuilder, GlobMatcher};

/// The longest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// The lines of a `.dockerignore`, in order.
struct Ignored(Vec<(GlobMatcher, bool)>);

impl Ignored {
    fn parse(text: &str) -> io::Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let patterns = lines.map(|line| {
            let (pattern, kept) = line.strip_prefix('!').map_or((line, false), |rest| (rest.trim(), true));
            let clean = super::reference::clean_path(pattern, line).map_err(io::Error::other)?;
            let glob = GlobBuilder::new(&clean).literal_separator(true).backslash_escape(true).build();
            let glob = glob.map_err(|error| io::Error::other(format!(".dockerignore: {line}: {error}")))?;
            Ok((glob.compile_matcher(), kept))
        });
        patterns.collect::<io::Result<_>>().map(Self)
    }

    /// The last line that names the path, or a folder above it, decides.
    fn leaves_out(&self, path: &Path) -> bool {
        let names = |glob: &GlobMatcher| path.ancestors().any(|part| glob.is_match(part));
        self.0.iter().rev().find(|(glob, _)| names(glob)).is_some_and(|(_, kept)| !kept)
    }
}

/// Writes what is left of the context `from` to `to`; answers `false`, and writes nothing, when all of it is.
/// The file itself and the Dockerfile stay in any case.
pub(super) fn apply(from: &Path, dockerfile: &str, to: &Path) -> io::Result<bool> {
    const NAME: &str = ".dockerignore";
    let mut text = None;
    for entry in tar::Archive::new(File::open(from)?).entries_with_seek()? {
        let entry = entry?;
        if entry.header().entry_type().is_file() && *entry.path()? == *Path::new(NAME) {
            let mut content = String::new();
            entry.take(LIMIT).read_to_string(&mut content)?;
            text = Some(content);
            break;
        }
    }
    let Some(text) = text else { return Ok(false) };
    let ignored = Ignored::parse(&text)?;
    let mut out = tar::Builder::new(io::BufWriter::new(File::create(to)?));
    for entry in tar::Archive::new(io::BufReader::new(File::open(from)?)).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let needed = path == Path::new(NAME) || path == Path::new(dockerfile);
        if !needed && ignored.leaves_out(&path) {
            continue;
        }
        let mut header = entry.header().clone();
        match entry.link_name()?.map(std::borrow::Cow::into_owned) {
            Some(target) => out.append_link(&mut header, &path, target)?,
            None => out.append_data(&mut header, &path, &mut entry)?,
        }
    }
    out.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, path::Path};

    use super::{Ignored, apply};

    #[test]
    fn the_last_line_that_names_a_path_decides() {
        let text = "# big\n.git\n**/*.log\n/target/\nfolder/*\n!folder/kept\n!kept.log\n";
        let ignored = Ignored::parse(text).unwrap();
        for path in [".git", ".git/config", "a.log", "deep/er/b.log", "target/x/y", "folder/one"] {
            assert!(ignored.leaves_out(Path::new(path)), "{path}");
        }
        for path in ["Dockerfile", "folder", "folder/kept", "kept.log", "src/target", "gitx"] {
            assert!(!ignored.leaves_out(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn what_the_build_needs_stays() {
        let from = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(from.reopen().unwrap());
        for (path, content) in [(".dockerignore", "*"), ("Dockerfile", "FROM x"), ("secret", "s")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        tar.finish().unwrap();
        let to = tempfile::NamedTempFile::new().unwrap();
        assert!(apply(from.path(), "Dockerfile", to.path()).unwrap());
        let mut left = tar::Archive::new(File::open(to.path()).unwrap());
        let names: Vec<_> = left
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, [".dockerignore", "Dockerfile"]);
    }
}
