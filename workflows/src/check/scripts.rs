//! Scripts: commands that runners refuse or will refuse.

use super::Checker;
use crate::diagnostic::{Code, Diagnostic};
use crate::expr::Template;

/// Old commands and what to write instead.
const DEPRECATED: [(&str, &str); 4] = [
    ("set-output", "echo \"name=value\" >> \"$GITHUB_OUTPUT\""),
    ("save-state", "echo \"name=value\" >> \"$GITHUB_STATE\""),
    ("set-env", "echo \"NAME=value\" >> \"$GITHUB_ENV\""),
    ("add-path", "echo \"path\" >> \"$GITHUB_PATH\""),
];

pub(super) fn check(checker: &mut Checker<'_>, script: &Template) {
    let text = script.raw();
    if !text.contains("::") {
        return;
    }
    for (command, instead) in DEPRECATED {
        for (at, found) in text.match_indices(command) {
            let before = text[..at].ends_with("::");
            let after = &text[at + found.len()..];
            let ends = match command {
                "add-path" => after.starts_with("::"),
                _ => after.trim_start_matches(' ').starts_with("name=") && after.contains("::"),
            };
            if !before || !ends {
                continue;
            }
            let span = script.locate(checker.source, at - 2..at + found.len());
            let message = format!("the command '{command}' is deprecated and refused by many runners");
            checker.push(
                Diagnostic::warning(Code::DeprecatedCommand, span, message)
                    .with_help(format!("write: {instead}")),
            );
        }
    }
}
