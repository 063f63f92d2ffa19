//! References to reusable workflows.

use std::fmt;

/// What `uses` of a job names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WorkflowReference {
    /// `./path`: in the repository, and at the commit, of the file that says it.
    Local {
        /// Path from the root of the repository.
        path: String,
    },
    /// `owner/repo/path@ref`, on Gitea also with the address of a server before it.
    Remote(RemoteWorkflow),
}

/// A workflow file in another repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RemoteWorkflow {
    /// Address of the server, such as `https://gitea.com`; `None` for the default one.
    pub server: Option<String>,
    /// Owner of the repository.
    pub owner: String,
    /// Name of the repository.
    pub repository: String,
    /// Path from the root of the repository.
    pub path: String,
    /// Branch, tag or commit.
    pub reference: String,
}

impl WorkflowReference {
    /// Reads the value of `uses`.
    ///
    /// # Errors
    /// One sentence on what the form should be.
    pub fn parse(uses: &str) -> Result<Self, String> {
        if let Some(path) = uses.strip_prefix("./").or_else(|| uses.strip_prefix("$/")) {
            if path.contains('@') {
                return Err(format!("a workflow of the same repository takes no @ref: {uses}"));
            }
            if !is_yaml(path) {
                return Err(format!("a reusable workflow must be a .yml or .yaml file: {uses}"));
            }
            return Ok(Self::Local { path: path.to_owned() });
        }
        let (server, rest) = match uses.split_once("://") {
            Some((scheme, rest)) => match rest.split_once('/') {
                Some((host, rest)) => (Some(format!("{scheme}://{host}")), rest),
                None => (None, uses),
            },
            None => (None, uses),
        };
        let expected = || {
            format!("expected ./path/to/workflow.yml or owner/repo/path/to/workflow.yml@ref, found '{uses}'")
        };
        let (whole, reference) = rest.split_once('@').ok_or_else(expected)?;
        let mut parts = whole.splitn(3, '/');
        let (Some(owner), Some(repository), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(expected());
        };
        let plain = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
        if !plain(owner)
            || !plain(repository)
            || !plain(path)
            || !plain(reference)
            || !is_yaml(path)
            || owner.starts_with('.')
        {
            return Err(expected());
        }
        Ok(Self::Remote(RemoteWorkflow {
            server,
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            path: path.to_owned(),
            reference: reference.to_owned(),
        }))
    }
}

fn is_yaml(path: &str) -> bool {
    let extension = std::path::Path::new(path).extension();
    extension.is_some_and(|extension| {
        extension.eq_ignore_ascii_case("yml") || extension.eq_ignore_ascii_case("yaml")
    })
}

impl fmt::Display for WorkflowReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { path } => write!(formatter, "./{path}"),
            Self::Remote(remote) => remote.fmt(formatter),
        }
    }
}

impl fmt::Display for RemoteWorkflow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            write!(formatter, "{server}/")?;
        }
        write!(formatter, "{}/{}/{}@{}", self.owner, self.repository, self.path, self.reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_printed() {
        for uses in [
            "./.github/workflows/a.yml",
            "o/r/.gitea/workflows/a.yaml@v1",
            "https://gitea.com/o/r/a.yml@main",
        ] {
            assert_eq!(WorkflowReference::parse(uses).expect("valid").to_string(), uses);
        }
    }

    #[test]
    fn wrong_forms_are_refused() {
        for uses in [
            "./a.yml@v1",
            "./a.txt",
            "o/r@v1",
            "o/r/a.yml",
            "o/r/a.sh@v1",
            "o//a.yml@v1",
            "o/r/a.yml@",
            "x",
            "../o/r/a.yml@v1",
        ] {
            assert!(WorkflowReference::parse(uses).is_err(), "{uses}");
        }
    }
}
