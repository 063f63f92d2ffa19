//! Flags of the official `exec` that mean something else here, or nothing: they are taken, so that command lines keep
//! working, and what they do not do is said.

use clap::Args;

/// The flags, with the words of the official runner.
#[derive(Debug, Default, Args)]
pub(super) struct OfficialFlags {
    /// The user namespace of job containers.
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// A capability that job containers get.
    #[arg(long, value_name = "CAPABILITY")]
    container_cap_add: Vec<String>,
    /// A capability that job containers lose.
    #[arg(long, value_name = "CAPABILITY")]
    container_cap_drop: Vec<String>,
    /// The architecture of job containers, such as `linux/arm64`.
    #[arg(long, value_name = "PLATFORM")]
    container_architecture: Option<String>,
    /// Debug messages of steps and of the runner.
    #[arg(short, long)]
    pub(super) debug: bool,
    /// Has no effect: secrets are always hidden.
    #[arg(long, hide = true)]
    insecure_secrets: bool,
    /// Has no effect unless `false`, which is not supported: ignored files are never copied.
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    use_gitignore: Option<bool>,
    /// Not supported: there is no artifact server.
    #[arg(long, hide = true)]
    artifact_server_path: Option<String>,
    /// Not supported: there is no artifact server.
    #[arg(long, hide = true)]
    artifact_server_addr: Option<String>,
    /// Not supported: there is no artifact server.
    #[arg(long, hide = true)]
    artifact_server_port: Option<String>,
    /// Not supported but for `none`: each run has a tool cache of its own.
    #[arg(long, hide = true)]
    tool_cache_mode: Option<String>,
}

impl OfficialFlags {
    /// What stands behind `--container-opts`.
    pub(super) fn container_options(&self) -> Vec<String> {
        let adds = self.container_cap_add.iter().map(|capability| format!("--cap-add={capability}"));
        let drops = self.container_cap_drop.iter().map(|capability| format!("--cap-drop={capability}"));
        let userns = self.userns.iter().map(|mode| format!("--userns={mode}"));
        let platform = self.container_architecture.iter().map(|platform| format!("--platform={platform}"));
        adds.chain(drops).chain(userns).chain(platform).collect()
    }

    /// A sentence for each flag that does not do what it does elsewhere.
    pub(super) fn without_effect(&self) -> Vec<&'static str> {
        let artifacts = [&self.artifact_server_path, &self.artifact_server_addr, &self.artifact_server_port];
        [
            (self.insecure_secrets, "--insecure-secrets has no effect: secrets are always hidden"),
            (
                self.use_gitignore == Some(false),
                "--use-gitignore=false is not supported: files that git ignores are not copied",
            ),
            (
                artifacts.iter().any(|flag| flag.is_some()),
                "--artifact-server-* are not supported: exec has no artifact server",
            ),
            (
                self.tool_cache_mode.as_deref().is_some_and(|mode| mode != "none"),
                "--tool-cache-mode is not supported: each run has a tool cache of its own",
            ),
        ]
        .into_iter()
        .filter_map(|(given, sentence)| given.then_some(sentence))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::OfficialFlags;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: OfficialFlags,
    }

    fn flags(line: &str) -> Result<OfficialFlags, ErrorKind> {
        let words = std::iter::once("exec").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.flags).map_err(|error| error.kind())
    }

    #[test]
    fn flags_of_containers_become_their_options() {
        let flags = flags("--userns host --container-cap-add A --container-cap-add B --container-cap-drop C --container-architecture linux/arm64").unwrap();
        let expected =
            ["--cap-add=A", "--cap-add=B", "--cap-drop=C", "--userns=host", "--platform=linux/arm64"];
        assert_eq!(flags.container_options(), expected);
        assert!(flags.without_effect().is_empty());
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let flags = flags("--insecure-secrets --use-gitignore=false --artifact-server-port 1 --artifact-server-path x --tool-cache-mode volume").unwrap();
        assert_eq!(flags.without_effect().len(), 4);
    }

    #[test]
    fn defaults_of_the_official_runner_change_nothing() {
        let flags = flags("--use-gitignore --tool-cache-mode none -d").unwrap();
        assert!(flags.debug && flags.without_effect().is_empty() && flags.container_options().is_empty());
    }
}
