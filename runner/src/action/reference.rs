//! What a `uses:` says, before anything is fetched.
//!
//! The forms are those of GitHub (`owner/repo/path@ref`, `./path`, `docker://image`) and Gitea's additions (an absolute
//! URL, `$/path` for the repository that the running file came from).

use std::fmt;

/// One parsed `uses:`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `docker://image`: a container of its own.
    Docker(String),
    /// `./path`: a folder of the workspace, read when the step is reached.
    Local(String),
    /// `$/path`: a folder of the repository that holds the file in which this stands.
    Own(String),
    /// A repository somewhere else.
    Remote(RemoteReference),
}

/// A folder or file in another repository at some ref.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RemoteReference {
    /// `scheme://host[:port]` when the reference is absolute; otherwise the default actions URL applies.
    pub base: Option<String>,
    /// The owner.
    pub owner: String,
    /// The repository, without `.git`.
    pub repository: String,
    /// The path inside the repository, without leading slash; empty for its root.
    pub path: String,
    /// Branch, tag or commit.
    pub git_ref: String,
}

/// A `uses:` that nobody can follow. One sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReferenceError(String);

impl ReferenceError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Reference {
    /// Reads the text of a step's `uses:`.
    ///
    /// ```
    /// use esteira::action::Reference;
    /// assert_eq!(Reference::parse("./tool")?, Reference::Local("tool".into()));
    /// assert!(Reference::parse("actions/checkout").is_err());
    /// # Ok::<(), esteira::action::ReferenceError>(())
    /// ```
    pub fn parse(uses: &str) -> Result<Self, ReferenceError> {
        let uses = uses.trim();
        if uses.is_empty() {
            return Err(ReferenceError("`uses` is empty".to_owned()));
        }
        if let Some(image) = uses.strip_prefix("docker://") {
            return match image.trim() {
                "" => Err(ReferenceError(format!("`uses: {uses}` names no image"))),
                image => Ok(Self::Docker(image.to_owned())),
            };
        }
        if uses == "." || uses.starts_with("./") || uses.starts_with(".\\") {
            return Ok(Self::Local(clean_path(uses.get(1..).unwrap_or(""), uses)?));
        }
        if let Some(path) = uses.strip_prefix("$/") {
            return Ok(Self::Own(clean_path(path, uses)?));
        }
        RemoteReference::parse(uses).map(Self::Remote)
    }
}

impl RemoteReference {
    /// Reads `[scheme://host/]owner/repo[/path]@ref`.
    pub fn parse(uses: &str) -> Result<Self, ReferenceError> {
        let (base, rest) = split_base(uses)?;
        let Some((place, git_ref)) = rest.rsplit_once('@') else {
            return Err(ReferenceError(format!(
                "`uses: {uses}` has no ref: write {uses}@<tag, branch or commit>"
            )));
        };
        if git_ref.is_empty()
            || git_ref.starts_with('-')
            || git_ref.chars().any(|c| c.is_whitespace() || c.is_control())
        {
            return Err(ReferenceError(format!("`uses: {uses}` has no valid ref after the @")));
        }
        let mut parts = place.splitn(3, '/');
        let (owner, repository) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let repository = repository.strip_suffix(".git").unwrap_or(repository);
        if !is_name(owner) || !is_name(repository) {
            return Err(ReferenceError(format!(
                "`uses: {uses}` is not owner/repository@ref; an action of this repository is written ./path, an image docker://image"
            )));
        }
        let path = clean_path(parts.next().unwrap_or(""), uses)?;
        Ok(Self {
            base,
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            path,
            git_ref: git_ref.to_owned(),
        })
    }

    /// `owner/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.owner, self.repository)
    }

    /// The URL to clone from, with `default_base` for references without a host.
    pub fn clone_url(&self, default_base: &str) -> String {
        let base = self.base.as_deref().unwrap_or(default_base).trim_end_matches('/');
        format!("{base}/{}/{}", self.owner, self.repository)
    }

    /// Whether the ref is a full commit and can therefore never move.
    pub fn is_commit(&self) -> bool {
        is_full_commit(&self.git_ref)
    }
}

impl fmt::Display for RemoteReference {
    /// As the user would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(base) = &self.base {
            write!(f, "{}/", without_credentials(base))?;
        }
        write!(f, "{}/{}", self.owner, self.repository)?;
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        write!(f, "@{}", self.git_ref)
    }
}

/// Whether `text` is a whole SHA-1 in hexadecimal.
pub(crate) fn is_full_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether `text` may be the beginning of a SHA-1: as few characters as git itself takes, and as it writes them.
pub(crate) fn is_abbreviated_commit(text: &str) -> bool {
    (4..40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A URL without `user:password@`, for people to read.
pub(crate) fn without_credentials(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => text.to_owned(),
    }
}

/// Splits an absolute URL into `scheme://authority` and the rest; relative ones have no base.
fn split_base(uses: &str) -> Result<(Option<String>, &str), ReferenceError> {
    let Some((scheme, rest)) = uses.split_once("://") else { return Ok((None, uses)) };
    if !matches!(scheme, "http" | "https") {
        return Err(ReferenceError(format!(
            "`uses: {}` has the scheme {scheme}://, which this runner does not clone from; http and https work",
            without_credentials(uses)
        )));
    }
    let Some((authority, path)) = rest.split_once('/') else {
        return Err(ReferenceError(format!("`uses: {}` names no repository", without_credentials(uses))));
    };
    Ok((Some(format!("{scheme}://{authority}")), path))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// A relative path in normal form; one that leaves its root is refused.
pub(crate) fn clean_path(path: &str, uses: &str) -> Result<String, ReferenceError> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err(ReferenceError(format!("`uses: {uses}` leaves its repository")));
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{Reference, RemoteReference, without_credentials};

    fn remote(uses: &str) -> RemoteReference {
        match Reference::parse(uses).unwrap() {
            Reference::Remote(remote) => remote,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(Reference::parse("docker://alpine:3").unwrap(), Reference::Docker("alpine:3".into()));
        assert_eq!(Reference::parse("./").unwrap(), Reference::Local(String::new()));
        assert_eq!(Reference::parse("./a//b/../c").unwrap(), Reference::Local("a/c".into()));
        assert_eq!(Reference::parse("$/tools/x").unwrap(), Reference::Own("tools/x".into()));
        let checkout = remote("actions/checkout@v4");
        assert_eq!(
            (checkout.name().as_str(), checkout.path.as_str(), checkout.git_ref.as_str()),
            ("actions/checkout", "", "v4")
        );
        assert_eq!(checkout.clone_url("https://github.com/"), "https://github.com/actions/checkout");
        let nested = remote("o/r/a/b@feature/x");
        assert_eq!((nested.path.as_str(), nested.git_ref.as_str()), ("a/b", "feature/x"));
        let absolute = remote("https://gitea.example:3000/o/r.git/sub@main");
        assert_eq!(absolute.clone_url("https://github.com"), "https://gitea.example:3000/o/r");
        assert_eq!(absolute.path, "sub");
    }

    #[test]
    fn what_cannot_be_followed_is_a_sentence() {
        for (uses, words) in [
            ("", "empty"),
            ("actions/checkout", "no ref"),
            ("actions/checkout@", "valid ref"),
            ("actions@v1", "owner/repository"),
            ("docker://", "no image"),
            ("./../x", "leaves"),
            ("o/r/../../x@v1", "leaves"),
            ("../x@v1", "owner/repository"),
            ("ssh://git@host/o/r@v1", "ssh://"),
            ("o/r@--upload-pack=x", "valid ref"),
        ] {
            let error = Reference::parse(uses).unwrap_err().to_string();
            assert!(error.contains(words), "{uses}: {error}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        assert_eq!(without_credentials("https://u:p@host/o/r@v1"), "https://host/o/r@v1");
        assert_eq!(remote("https://u:p@host/o/r@v1").to_string(), "https://host/o/r@v1");
    }
}
