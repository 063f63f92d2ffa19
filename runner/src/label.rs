//! Labels: what a job asks for in `runs-on`, and where this runner runs it.
//!
//! A label is written `name[:schema[:argument]]`. The server only ever sees the name; schema and argument stay here.

use std::{fmt, str::FromStr};

/// Where jobs of a label run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// As processes of this machine.
    Host,
    /// In a container made from this image.
    Docker(String),
}

/// One label, parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    name: String,
    placement: Placement,
    explicit: bool,
}

/// Why a text is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Nothing before the first colon.
    #[error("'{0}' has no name: a label is written NAME:host or NAME:docker://IMAGE")]
    NoName(String),
    /// `docker` without image.
    #[error("'{0}' names no image: write it as NAME:docker://IMAGE")]
    NoImage(String),
    /// `host` with something behind it.
    #[error("'{0}' has something behind ':host', which takes nothing: write it as NAME:host")]
    HostArgument(String),
    /// White space or a comma, which no `runs-on` can name.
    #[error("'{0}' holds white space or a comma, which a label cannot have")]
    Space(String),
}

impl Label {
    /// A label that says where its jobs run.
    pub fn new(name: &str, placement: Placement) -> Self {
        Self { name: name.to_owned(), placement, explicit: true }
    }

    /// Its name, as the server and `runs-on` know it. Comparison is exact.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its jobs run.
    pub const fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Whether it says where; otherwise it means the host because it always has.
    pub const fn is_explicit(&self) -> bool {
        self.explicit
    }

    /// The label that decides for a job: the first entry of `runs_on` that this runner has.
    pub fn pick<'a>(labels: &'a [Self], runs_on: &[String]) -> Option<&'a Self> {
        runs_on.iter().find_map(|wanted| labels.iter().find(|label| label.name == *wanted))
    }

    /// Parses a list separated by commas; entries that are wrong come back with their reasons.
    pub fn parse_list(text: &str) -> (Vec<Self>, Vec<LabelError>) {
        let mut labels = Vec::new();
        let mut errors = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry.parse() {
                Ok(label) => labels.push(label),
                Err(error) => errors.push(error),
            }
        }
        (labels, errors)
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let text = text.trim();
        if text.contains(|c: char| c.is_whitespace() || c == ',') {
            return Err(LabelError::Space(text.to_owned()));
        }
        let mut parts = text.splitn(3, ':');
        let (name, schema, argument) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if name.is_empty() {
            return Err(LabelError::NoName(text.to_owned()));
        }
        let label = |placement| Self { name: name.to_owned(), placement, explicit: true };
        match (schema, argument) {
            (Some("host"), None) => Ok(label(Placement::Host)),
            (Some("host"), Some(_)) => Err(LabelError::HostArgument(text.to_owned())),
            (Some("docker"), argument) => {
                let image =
                    argument.map(|image| image.strip_prefix("//").unwrap_or(image)).unwrap_or_default();
                if image.is_empty() {
                    return Err(LabelError::NoImage(text.to_owned()));
                }
                Ok(label(Placement::Docker(image.to_owned())))
            }
            // Any other schema: the colon belongs to the name.
            _ => Ok(Self { name: text.to_owned(), placement: Placement::Host, explicit: false }),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.placement {
            Placement::Docker(image) => write!(f, "{}:docker://{image}", self.name),
            Placement::Host if self.explicit => write!(f, "{}:host", self.name),
            Placement::Host => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Label, LabelError, Placement};

    fn parsed(text: &str) -> Label {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn schemas_say_where() {
        assert_eq!(*parsed("linux:host").placement(), Placement::Host);
        let image = Placement::Docker("node:20-bookworm".to_owned());
        assert_eq!(*parsed("ubuntu-latest:docker://node:20-bookworm").placement(), image);
        assert_eq!(*parsed("ubuntu-latest:docker:node:20-bookworm").placement(), image);
        assert_eq!(parsed("ubuntu-latest:docker://node:20-bookworm").name(), "ubuntu-latest");
    }

    #[test]
    fn a_bare_or_unknown_schema_means_the_host_and_is_known_as_such() {
        for text in ["ubuntu-latest", "gpu:a100", "a:b:c"] {
            let label = parsed(text);
            assert_eq!(
                (label.name(), label.placement(), label.is_explicit()),
                (text, &Placement::Host, false)
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(matches!(":host".parse::<Label>(), Err(LabelError::NoName(_))));
        assert!(matches!("".parse::<Label>(), Err(LabelError::NoName(_))));
        assert!(matches!("a:docker".parse::<Label>(), Err(LabelError::NoImage(_))));
        assert!(matches!("a:docker://".parse::<Label>(), Err(LabelError::NoImage(_))));
        assert!(matches!("a:host:b".parse::<Label>(), Err(LabelError::HostArgument(_))));
        assert!(matches!("a b:host".parse::<Label>(), Err(LabelError::Space(_))));
    }

    #[test]
    fn the_first_entry_of_runs_on_decides() {
        let (labels, errors) = Label::parse_list("a:host, b:docker://x ,c:docker://,");
        assert_eq!((labels.len(), errors.len()), (2, 1));
        let picked = Label::pick(&labels, &["z".into(), "b".into(), "a".into()]).map(Label::name);
        assert_eq!(picked, Some("b"));
        assert_eq!(Label::pick(&labels, &["B".into()]), None, "case counts");
    }

    #[test]
    fn it_prints_as_it_is_written() {
        for text in ["a:host", "a", "gpu:a100", "a:docker://x:1"] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }
}
