//! Stock artifact and cache actions refuse every server that is not github.com; a copy of them that does not.
//!
//! Their toolkit asks whether the server's host is `GITHUB.COM`, ends with `.GHE.COM` or with `.LOCALHOST`, and takes
//! any other for an enterprise server that has neither the newer artifacts nor the newer cache. In the copy the last
//! question is whether the host ends with nothing, which every host does. The newer cache is then asked for at the
//! cache's own address before the results service. Nothing else is touched, and no script that speaks to neither.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Longer files are no bundles that anybody wrote this for.
const LONGEST: u64 = 64 << 20;

/// What is replaced, and by what. Bundlers keep the quotes of their sources, or choose their own.
const REPLACED: [(&str, &str); 4] = [
    (".endsWith('.LOCALHOST')", ".endsWith('')"),
    (".endsWith(\".LOCALHOST\")", ".endsWith(\"\")"),
    (
        "case 'v2':\n            return process.env['ACTIONS_RESULTS_URL'] || ''",
        "case 'v2':\n            return process.env['ACTIONS_CACHE_URL'] || process.env['ACTIONS_RESULTS_URL'] || ''",
    ),
    (
        "case \"v2\":\n            return process.env[\"ACTIONS_RESULTS_URL\"] || \"\"",
        "case \"v2\":\n            return process.env[\"ACTIONS_CACHE_URL\"] || process.env[\"ACTIONS_RESULTS_URL\"] || \"\"",
    ),
];

/// Only scripts with one of these speak to artifacts or a cache. Others (checkout) ask the same question for other ends.
const SERVICES: [&str; 2] = ["ACTIONS_RESULTS_URL", "ACTIONS_CACHE_URL"];

/// Writes the patched copy of an archive; answers whether there was anything to patch. If not, `to` stays empty.
pub(super) fn patch(from: &Path, to: &Path) -> io::Result<bool> {
    if !wants_patch(from)? {
        return Ok(false);
    }
    let mut out = tar::Builder::new(io::BufWriter::new(File::options().write(true).truncate(true).open(to)?));
    let mut archive = tar::Archive::new(io::BufReader::new(File::open(from)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut header = entry.header().clone();
        if let Some(target) = entry.link_name()? {
            let target = target.into_owned();
            out.append_link(&mut header, &path, target)?;
        } else if is_bundle(&entry)? {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            let content = if is_concerned(&content) { patched(&content) } else { content.into() };
            header.set_size(content.len() as u64);
            out.append_data(&mut header, &path, &*content)?;
        } else {
            out.append_data(&mut header, &path, &mut entry)?;
        }
    }
    out.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(true)
}

fn wants_patch(archive: &Path) -> io::Result<bool> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        if !is_bundle(&entry)? {
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if is_concerned(&content) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_concerned(content: &[u8]) -> bool {
    let has = |words: &str| memchr::memmem::find(content, words.as_bytes()).is_some();
    REPLACED[..2].iter().any(|(old, _)| has(old)) && SERVICES.iter().any(|service| has(service))
}

fn is_bundle<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<bool> {
    let path = entry.path()?;
    let extension = path.extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    let is_script = matches!(extension, "js" | "cjs" | "mjs");
    Ok(is_script && entry.header().entry_type().is_file() && entry.size() <= LONGEST)
}

fn patched(content: &[u8]) -> Cow<'_, [u8]> {
    let mut content = Cow::Borrowed(content);
    for (old, new) in REPLACED {
        let places: Vec<usize> = memchr::memmem::find_iter(&content, old.as_bytes()).collect();
        if places.is_empty() {
            continue;
        }
        let mut changed = Vec::with_capacity(content.len() + places.len() * new.len());
        let mut at = 0;
        for place in places {
            changed.extend_from_slice(&content[at..place]);
            changed.extend_from_slice(new.as_bytes());
            at = place + old.len();
        }
        changed.extend_from_slice(&content[at..]);
        content = Cow::Owned(changed);
    }
    content
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use super::patch;

    fn archive(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "link.js", "dist/index.js").unwrap();
        tar.finish().unwrap();
        file
    }

    #[test]
    fn the_question_for_the_host_is_answered_and_all_else_stays() {
        let bundle = "const l = hostname.endsWith('.LOCALHOST');\nswitch (v) {\n        case 'v2':\n            return process.env['ACTIONS_RESULTS_URL'] || '';\n}";
        let from = archive(&[("dist/index.js", bundle), ("README.md", ".endsWith('.LOCALHOST')")]);
        let to = tempfile::NamedTempFile::new().unwrap();
        assert!(patch(from.path(), to.path()).unwrap());
        let mut tar = tar::Archive::new(File::open(to.path()).unwrap());
        let mut found = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            found.push((path, content, entry.link_name().unwrap().map(|link| link.display().to_string())));
        }
        assert_eq!(
            found[0].1,
            "const l = hostname.endsWith('');\nswitch (v) {\n        case 'v2':\n            return process.env['ACTIONS_CACHE_URL'] || process.env['ACTIONS_RESULTS_URL'] || '';\n}"
        );
        assert_eq!(found[1].1, ".endsWith('.LOCALHOST')", "it is no script");
        assert_eq!((found[2].0.as_str(), found[2].2.as_deref()), ("link.js", Some("dist/index.js")));
    }

    #[test]
    fn what_asks_no_such_question_or_for_another_end_has_no_copy() {
        let other = "const l = hostname.endsWith('.LOCALHOST'); // for the address of the api";
        let service = "return process.env['ACTIONS_RESULTS_URL'] || ''";
        let from = archive(&[("dist/index.js", other), ("dist/other.js", service)]);
        let to = tempfile::NamedTempFile::new().unwrap();
        assert!(!patch(from.path(), to.path()).unwrap());
        assert_eq!(to.path().metadata().unwrap().len(), 0);
    }
}
