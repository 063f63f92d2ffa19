//! `volumes`, `-v` and `--mount`: what may be mounted is what `container.valid_volumes` allows, after every `..` and
//! every link has been followed.
//!
//! What the engine mounts is the path that was checked, resolved: a link that is changed later leads nowhere else. Where
//! the engine has another file system than the runner, only the engine sees its links: a path that is not here has to be
//! allowed by its own name, since below a pattern a job could have left a link.

use std::path::{Component, Path, PathBuf};

use bollard::models::{Mount, MountTmpfsOptions, MountType};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// What the configuration allows.
#[derive(Debug, Clone)]
pub(super) struct Allowed {
    globs: GlobSet,
    /// The patterns as they are written: one without wildcards is the very path or name.
    written: Vec<String>,
}

impl Allowed {
    /// Reads `container.valid_volumes`; the error is a sentence.
    pub(super) fn new(patterns: &[String]) -> Result<Self, String> {
        let mut globs = GlobSetBuilder::new();
        for pattern in patterns {
            let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
            globs.add(
                glob.map_err(|error| {
                    format!("container.valid_volumes has the pattern '{pattern}': {error}")
                })?,
            );
        }
        let globs = globs.build().map_err(|error| format!("container.valid_volumes: {error}"))?;
        Ok(Self { globs, written: patterns.to_vec() })
    }

    /// One `source:target[:mode]`. `Ok(Err(row))`: not allowed, and the row that says so.
    pub(super) fn volume(&self, text: &str, base: &Path) -> Result<Result<Mount, String>, String> {
        let wrong = || format!("the volume '{text}' is not source:target[:mode]");
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match parts.as_slice() {
            [target] => ("", *target, ""),
            [source, target] => (*source, *target, ""),
            [source, target, mode] => (*source, *target, *mode),
            _ => return Err(wrong()),
        };
        if !target.starts_with('/') || (parts.len() > 1 && source.is_empty()) {
            return Err(wrong());
        }
        let mut read_only = false;
        for word in mode.split(',').filter(|word| !word.is_empty()) {
            match word {
                "ro" => read_only = true,
                // Labels for SELinux and copy modes change nothing here that a job could see.
                "rw" | "z" | "Z" | "nocopy" | "consistent" | "cached" | "delegated" => {}
                _ => {
                    return Err(format!("the volume '{text}' has the mode '{word}', which is not supported"));
                }
            }
        }
        Ok(self.mount(source, target, read_only, base))
    }

    /// One `--mount type=...,source=...,target=...`.
    pub(super) fn long(&self, text: &str, base: &Path) -> Result<Result<Mount, String>, String> {
        let (mut kind, mut source, mut target, mut read_only, mut size) = ("volume", "", "", false, None);
        for field in text.split(',') {
            let (name, value) = field.split_once('=').unwrap_or((field, "true"));
            match name.to_ascii_lowercase().as_str() {
                "type" => kind = value,
                "source" | "src" => source = value,
                "target" | "destination" | "dst" => target = value,
                "readonly" | "ro" => read_only = matches!(value, "true" | "1"),
                "tmpfs-size" => size = Some(super::units::bytes(value)?),
                "volume-nocopy" | "consistency" => {}
                _ => {
                    return Err(format!("the mount '{text}' has the field '{name}', which is not supported"));
                }
            }
        }
        if !target.starts_with('/') {
            return Err(format!("the mount '{text}' has no absolute target"));
        }
        match kind {
            "tmpfs" => Ok(Ok(Mount {
                typ: Some(MountType::TMPFS),
                target: Some(target.to_owned()),
                read_only: Some(read_only),
                tmpfs_options: Some(MountTmpfsOptions { size_bytes: size, ..MountTmpfsOptions::default() }),
                ..Mount::default()
            })),
            "bind" if !is_path(source) => Err(format!("the mount '{text}' binds no path")),
            "volume" if is_path(source) => Err(format!("the mount '{text}' names a volume with a path")),
            "bind" | "volume" => Ok(self.mount(source, target, read_only, base)),
            _ => Err(format!("the mount '{text}' has the type '{kind}', which is not supported")),
        }
    }

    fn mount(&self, source: &str, target: &str, read_only: bool, base: &Path) -> Result<Mount, String> {
        let mount = Mount {
            target: Some(target.to_owned()),
            typ: Some(MountType::VOLUME),
            read_only: Some(read_only),
            ..Mount::default()
        };
        if source.is_empty() {
            return Ok(mount);
        }
        if !is_path(source) {
            return if self.globs.is_match(source) {
                Ok(Mount { source: Some(source.to_owned()), ..mount })
            } else {
                Err(refused(source))
            };
        }
        let real = resolve(&base.join(source));
        if !self.globs.is_match(&real) {
            return Err(refused(source));
        }
        let named = |pattern: &String| matches!(pattern.as_str(), "**" | "/**") || real == Path::new(pattern);
        if !real.exists() && !self.written.iter().any(named) {
            return Err(format!(
                "The volume '{source}' is ignored: there is no such path where this runner runs, so that nobody can see \
                 whether a link leads out of what `container.valid_volumes` allows; list it there without a wildcard, \
                 or show it to the runner under the same path."
            ));
        }
        let source = real.to_str().ok_or_else(|| refused(source))?.to_owned();
        Ok(Mount { source: Some(source), typ: Some(MountType::BIND), ..mount })
    }
}

fn refused(source: &str) -> String {
    format!("The volume '{source}' is ignored: `container.valid_volumes` of this runner does not allow it.")
}

fn is_path(source: &str) -> bool {
    source.starts_with(['/', '.', '~']) || source.contains('/')
}

/// The path with every link followed and every `..` taken; what does not exist yet stays as it is written.
fn resolve(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::Normal(name) => {
                plain.push(name);
                // Link by link, so that a `..` behind a link leaves the place that the link leads to.
                if let Ok(real) = plain.canonicalize() {
                    plain = real;
                }
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use bollard::models::MountType;

    use super::Allowed;

    fn allowed(patterns: &[&str]) -> Allowed {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Allowed::new(&patterns).expect("globs")
    }

    fn takes(allowed: &Allowed, text: &str) -> bool {
        allowed.volume(text, Path::new("/base")).expect("well formed").is_ok()
    }

    #[test]
    fn nothing_is_allowed_unless_it_is_written() {
        let none = allowed(&[]);
        assert!(!takes(&none, "/etc:/x") && !takes(&none, "data:/x"));
        // What only the job itself will ever see needs no permission.
        assert!(takes(&none, "/x"));
        let all = allowed(&["**"]);
        assert!(takes(&all, "/etc:/x") && takes(&all, "data:/x:ro"));
    }

    #[test]
    fn dots_and_links_are_followed_before_the_check() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("real");
        let root = root.display();
        fs::create_dir(folder.path().join("data")).expect("a folder");
        symlink("/etc", folder.path().join("data/door")).expect("a link");
        let data = allowed(&[&format!("{root}/data"), &format!("{root}/data/**")]);
        assert!(takes(&data, &format!("{root}/data:/x")));
        fs::create_dir_all(folder.path().join("data/new/deep")).expect("a folder");
        assert!(takes(&data, &format!("{root}/data/new/deep:/x")));
        for trick in
            ["data/../../etc", "data/door", "data/door/../etc", "data/new/../../..", "other", "data2", ""]
        {
            assert!(!takes(&data, &format!("{root}/{trick}:/x")), "{trick}");
        }
        assert!(!takes(&data, "./data:/x") && !takes(&data, "~/data:/x") && !takes(&data, "../data:/x"));
    }

    #[test]
    fn what_is_mounted_is_what_was_checked() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("real");
        fs::create_dir(real.join("data")).expect("a folder");
        symlink("data", real.join("link")).expect("a link");
        let data = allowed(&[&format!("{}/data", real.display())]);
        let mount = data
            .volume(&format!("{}/link:/x:ro", real.display()), Path::new("/"))
            .expect("read")
            .expect("allowed");
        assert_eq!(mount.source, Some(real.join("data").display().to_string()));
        assert_eq!((mount.typ, mount.read_only), (Some(MountType::BIND), Some(true)));
    }

    #[test]
    fn a_star_stays_inside_its_folder() {
        let one = allowed(&["/usr/*", "cache-*"]);
        assert!(takes(&one, "/usr/bin:/x") && !takes(&one, "/usr/share/doc:/x") && !takes(&one, "/usr:/x"));
        assert!(
            takes(&one, "cache-a:/x")
                && !takes(&one, "cache-a/../../etc:/x")
                && !takes(&one, "my-cache-a:/x")
        );
    }

    #[test]
    fn where_links_cannot_be_seen_only_names_count() {
        let below = allowed(&["/not/here/**", "/not/here/named"]);
        assert!(takes(&below, "/not/here/named:/x"));
        let row =
            below.volume("/not/here/other:/x", Path::new("/")).expect("well formed").expect_err("unseen");
        assert!(row.contains("without a wildcard"), "{row}");
        assert!(takes(&allowed(&["**"]), "/not/here/other:/x"), "everything is everything, links too");
    }

    #[test]
    fn the_long_form_passes_the_same_check() {
        let none = allowed(&[]);
        let long = |text| none.long(text, Path::new("/"));
        assert!(long("type=bind,source=/etc,target=/x").expect("read").is_err());
        assert!(long("type=volume,src=data,dst=/x").expect("read").is_err());
        assert!(long("type=tmpfs,target=/x,tmpfs-size=1m").expect("read").is_ok());
        for text in [
            "type=volume,source=data,target=/x,volume-opt=device=/etc",
            "type=volume,source=/etc,target=/x",
            "type=npipe,source=a,target=/x",
            "type=bind,source=/etc",
        ] {
            assert!(long(text).is_err(), "{text}");
        }
    }

    #[test]
    fn malformed_ones_are_named() {
        for text in [":/x", "a:b", "a:/b:ro:more", "/a:/b:shared"] {
            let reason = allowed(&["**"]).volume(text, Path::new("/")).expect_err(text);
            assert!(reason.contains(text), "{reason}");
        }
    }
}
