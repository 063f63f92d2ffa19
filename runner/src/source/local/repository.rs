//! What the folder at hand tells about itself: commit, branch, remote.

use std::{path::Path, process::Command};

/// Facts of a local repository; what cannot be found out has a stand-in.
#[derive(Debug, Clone)]
pub struct Repository {
    /// `owner/name`.
    pub name: String,
    /// The commit that is checked out.
    pub sha: String,
    /// The full ref, `refs/heads/…` or `refs/tags/…`.
    pub git_ref: String,
    /// `https://host` of the remote, if it has one.
    pub server: Option<String>,
}

impl Repository {
    /// Looks at `root`.
    pub fn look(root: &Path) -> Self {
        let git = |words: &[&str]| {
            let output = Command::new("git").args(words).current_dir(root).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            (output.status.success() && !text.is_empty()).then_some(text)
        };
        let remote = git(&["config", "--get", "remote.origin.url"]);
        let (server, name) = remote.as_deref().map_or((None, None), split_remote);
        let git_ref = git(&["symbolic-ref", "-q", "HEAD"]).or_else(|| {
            git(&["describe", "--exact-match", "--tags", "HEAD"]).map(|tag| format!("refs/tags/{tag}"))
        });
        let folder = root
            .file_name()
            .map_or_else(|| "repository".to_owned(), |name| name.to_string_lossy().into_owned());
        Self {
            name: name.unwrap_or_else(|| format!("local/{folder}")),
            sha: git(&["rev-parse", "-q", "--verify", "HEAD"]).unwrap_or_else(|| "0".repeat(40)),
            git_ref: git_ref.unwrap_or_else(|| "refs/heads/main".to_owned()),
            server,
        }
    }

    /// Branch or tag without its prefix.
    pub fn ref_name(&self) -> &str {
        self.git_ref
            .strip_prefix("refs/heads/")
            .or_else(|| self.git_ref.strip_prefix("refs/tags/"))
            .unwrap_or(&self.git_ref)
    }

    /// `branch` or `tag`.
    pub fn ref_type(&self) -> &'static str {
        if self.git_ref.starts_with("refs/tags/") { "tag" } else { "branch" }
    }
}

/// Server and `owner/name` of a remote's URL, in the forms of https, ssh and scp.
fn split_remote(url: &str) -> (Option<String>, Option<String>) {
    let rest = match url.split_once("://") {
        Some(("http" | "https" | "ssh" | "git", rest)) => rest.to_owned(),
        Some(_) => return (None, None),
        None => match url.split_once(':') {
            Some((host, path)) if !host.contains('/') => format!("{host}/{path}"),
            _ => return (None, None),
        },
    };
    let Some((host, path)) = rest.split_once('/') else { return (None, None) };
    let host = host.rsplit('@').next().unwrap_or(host);
    let path = path.trim_matches('/').trim_end_matches(".git");
    let mut parts = path.rsplitn(3, '/');
    let name = match (parts.next(), parts.next()) {
        (Some(name), Some(owner)) if !name.is_empty() && !owner.is_empty() => Some(format!("{owner}/{name}")),
        _ => None,
    };
    let scheme = if url.starts_with("http://") { "http" } else { "https" };
    (Some(format!("{scheme}://{host}")), name)
}

#[cfg(test)]
mod tests {
    use super::split_remote;

    #[test]
    fn remotes_of_every_form() {
        for (url, server, name) in [
            ("https://github.com/o/r.git", Some("https://github.com"), Some("o/r")),
            ("http://user:pw@host:3000/sub/o/r", Some("http://host:3000"), Some("o/r")),
            ("git@gitea.example:o/r.git", Some("https://gitea.example"), Some("o/r")),
            ("ssh://git@host:22/o/r", Some("https://host:22"), Some("o/r")),
            ("/srv/git/r", None, None),
            ("file:///srv/r", None, None),
        ] {
            let found = split_remote(url);
            assert_eq!((found.0.as_deref(), found.1.as_deref()), (server, name), "{url}");
        }
    }
}
