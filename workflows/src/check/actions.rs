//! References to actions, and what is known about often used ones: inputs, outputs, and which versions
//! still run.

use super::Checker;
use super::contexts::any_outputs;
use super::types::Type;
use crate::diagnostic::{Code, Diagnostic};
use crate::expr::{Template, TemplateMap};
use crate::model::{Step, StepKind};
use crate::suggest;

/// An action whose interface is known from its documentation.
struct KnownAction {
    name: &'static str,
    /// First major version that runs on a Node that runners still have.
    runs_from: u32,
    /// Inputs of the versions that run, `!` before required ones; empty when they are not known.
    inputs: &'static [&'static str],
    /// Outputs; `None` when they are not known.
    outputs: Option<&'static [&'static str]>,
    /// Inputs that were renamed, and their new names.
    renamed: &'static [(&'static str, &'static str)],
}

const fn known(
    name: &'static str,
    runs_from: u32,
    inputs: &'static [&'static str],
    outputs: Option<&'static [&'static str]>,
) -> KnownAction {
    KnownAction { name, runs_from, inputs, outputs, renamed: &[] }
}

/// An action of which only the age is known.
const fn aged(name: &'static str, runs_from: u32) -> KnownAction {
    known(name, runs_from, &[], None)
}

const KNOWN: &[KnownAction] = &[
    known(
        "actions/checkout",
        4,
        &[
            "repository",
            "ref",
            "token",
            "ssh-key",
            "ssh-known-hosts",
            "ssh-strict",
            "ssh-user",
            "persist-credentials",
            "path",
            "clean",
            "filter",
            "sparse-checkout",
            "sparse-checkout-cone-mode",
            "fetch-depth",
            "fetch-tags",
            "show-progress",
            "lfs",
            "submodules",
            "set-safe-directory",
            "github-server-url",
            "allow-unsafe-pr-checkout",
        ],
        Some(&["ref", "commit"]),
    ),
    known(
        "actions/cache",
        4,
        &[
            "!path",
            "!key",
            "restore-keys",
            "upload-chunk-size",
            "enableCrossOsArchive",
            "fail-on-cache-miss",
            "lookup-only",
            "save-always",
        ],
        Some(&["cache-hit"]),
    ),
    known(
        "actions/cache/restore",
        4,
        &["!path", "!key", "restore-keys", "enableCrossOsArchive", "fail-on-cache-miss", "lookup-only"],
        Some(&["cache-hit", "cache-primary-key", "cache-matched-key"]),
    ),
    known(
        "actions/cache/save",
        4,
        &["!path", "!key", "upload-chunk-size", "enableCrossOsArchive"],
        Some(&[]),
    ),
    known(
        "actions/setup-node",
        4,
        &[
            "always-auth",
            "node-version",
            "node-version-file",
            "architecture",
            "check-latest",
            "registry-url",
            "scope",
            "token",
            "cache",
            "cache-dependency-path",
            "package-manager-cache",
            "mirror",
            "mirror-token",
        ],
        Some(&["cache-hit", "node-version"]),
    ),
    known(
        "actions/setup-go",
        5,
        &[
            "go-version",
            "go-version-file",
            "check-latest",
            "token",
            "cache",
            "cache-dependency-path",
            "architecture",
            "go-download-base-url",
        ],
        Some(&["go-version", "cache-hit"]),
    ),
    known(
        "actions/setup-python",
        5,
        &[
            "python-version",
            "python-version-file",
            "cache",
            "architecture",
            "check-latest",
            "token",
            "cache-dependency-path",
            "update-environment",
            "allow-prereleases",
            "freethreaded",
            "pip-version",
            "pip-install",
        ],
        Some(&["python-version", "cache-hit", "python-path"]),
    ),
    known(
        "actions/setup-java",
        4,
        &[
            "java-version",
            "java-version-file",
            "!distribution",
            "java-package",
            "architecture",
            "jdkFile",
            "check-latest",
            "server-id",
            "server-username",
            "server-password",
            "settings-path",
            "overwrite-settings",
            "gpg-private-key",
            "gpg-passphrase",
            "cache",
            "cache-dependency-path",
            "job-status",
            "token",
            "mvn-toolchain-id",
            "mvn-toolchain-vendor",
        ],
        Some(&["distribution", "version", "path", "cache-hit"]),
    ),
    // Gitea's artifact service speaks the protocol of version 3 as well, which its users rely on.
    known(
        "actions/upload-artifact",
        3,
        &[
            "name",
            "!path",
            "if-no-files-found",
            "retention-days",
            "compression-level",
            "overwrite",
            "include-hidden-files",
            "archive",
        ],
        Some(&["artifact-id", "artifact-url", "artifact-digest"]),
    ),
    known(
        "actions/download-artifact",
        3,
        &[
            "name",
            "artifact-ids",
            "path",
            "pattern",
            "merge-multiple",
            "github-token",
            "repository",
            "run-id",
            "skip-decompress",
            "digest-mismatch",
        ],
        Some(&["download-path"]),
    ),
    known(
        "actions/github-script",
        7,
        &[
            "!script",
            "github-token",
            "debug",
            "user-agent",
            "previews",
            "result-encoding",
            "retries",
            "retry-exempt-status-codes",
            "base-url",
        ],
        // Scripts set outputs of their own beside the result.
        None,
    ),
    known(
        "rhysd/action-setup-vim",
        0,
        &["version", "neovim", "configure-args", "token"],
        Some(&["executable", "actual-version", "vim-dir"]),
    ),
    known("octokit/request-action", 2, &[], Some(&["data", "headers", "status"])),
    KnownAction {
        name: "pypa/gh-action-pypi-publish",
        runs_from: 0,
        inputs: &[],
        outputs: None,
        renamed: &[
            ("repository_url", "repository-url"),
            ("packages_dir", "packages-dir"),
            ("verify_metadata", "verify-metadata"),
            ("skip_existing", "skip-existing"),
            ("print_hash", "print-hash"),
        ],
    },
    KnownAction {
        name: "reviewdog/action-actionlint",
        runs_from: 0,
        inputs: &[],
        outputs: None,
        renamed: &[("fail_on_error", "fail_level")],
    },
    aged("actions/stale", 9),
    aged("actions/labeler", 5),
    aged("actions/setup-dotnet", 4),
    aged("actions/configure-pages", 4),
    aged("actions/deploy-pages", 4),
    aged("actions/create-release", u32::MAX),
    aged("actions/upload-release-asset", u32::MAX),
    aged("actions-rs/toolchain", u32::MAX),
    aged("actions-rs/cargo", u32::MAX),
    aged("actions-rs/clippy-check", u32::MAX),
    aged("docker/build-push-action", 5),
    aged("docker/login-action", 3),
    aged("docker/metadata-action", 5),
    aged("docker/setup-buildx-action", 3),
    aged("docker/setup-qemu-action", 3),
    aged("docker/bake-action", 4),
    aged("codecov/codecov-action", 4),
    aged("softprops/action-gh-release", 2),
    aged("peter-evans/create-pull-request", 6),
    aged("golangci/golangci-lint-action", 4),
    aged("peaceiris/actions-gh-pages", 4),
    aged("aws-actions/configure-aws-credentials", 4),
    aged("azure/login", 2),
    aged("pnpm/action-setup", 3),
    aged("gradle/gradle-build-action", 3),
    aged("ruby/setup-ruby", 1),
];

/// The form of a reference. What no runner can resolve by its letters alone is an error.
pub(super) fn check_reference(checker: &mut Checker<'_>, uses: &Template) {
    let text = uses.raw();
    let span = uses.span();
    if text.trim().is_empty() {
        return checker.error(Code::EmptyValue, span, "'uses' must not be empty");
    }
    if let Some(image) = text.strip_prefix("docker://") {
        if image.is_empty() {
            checker.error(Code::Uses, span, "'docker://' names no image");
        } else if !has_tag(image) {
            checker.push(
                Diagnostic::warning(
                    Code::UnpinnedAction,
                    span,
                    format!("the image '{image}' has no tag, so it changes without notice"),
                )
                .with_help("add a tag or a digest"),
            );
        }
        return;
    }
    if text.starts_with("./") || text.starts_with(".\\") || text.starts_with("$/") {
        return;
    }
    if text.contains("://") {
        if !text.contains('@') {
            checker.warn(Code::Uses, span, format!("the address '{text}' has no @ref"));
        }
        return;
    }
    let expected = "expected owner/repository[/path]@ref, ./path or docker://image:tag";
    let (path, reference) = match text.split_once('@') {
        Some((path, reference)) => (path, Some(reference)),
        None => (text, None),
    };
    if path.contains(['$', ':', '\\']) || path.starts_with("..") {
        let message = format!("{expected}, found '{text}'");
        return checker.error(Code::Uses, span, message);
    }
    let mut parts = path.split('/');
    let owned = [parts.next(), parts.next()].iter().all(|part| part.is_some_and(|part| !part.is_empty()));
    if !owned {
        checker.push(
            Diagnostic::warning(Code::Uses, span, format!("the action '{text}' has no owner"))
                .with_help(expected),
        );
    } else if reference.is_none_or(str::is_empty) {
        let help = if path.starts_with('.') {
            format!("for an action of this repository write ./{path}")
        } else {
            format!("add a version: {path}@v1")
        };
        checker.push(
            Diagnostic::warning(Code::Uses, span, format!("the action '{text}' has no @ref")).with_help(help),
        );
    }
}

/// Whether an image has a tag or a digest.
fn has_tag(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    image.contains('@') || last.split_once(':').is_some_and(|(_, tag)| !tag.is_empty())
}

/// An often used action: its age, its inputs; returns the type of its outputs.
pub(super) fn check_known(checker: &mut Checker<'_>, step: &Step, uses: &Template) -> Type {
    let StepKind::Uses { with, .. } = &step.kind else { return any_outputs() };
    let Some((path, reference)) = uses.raw().split_once('@') else { return any_outputs() };
    let Some(action) = KNOWN.iter().find(|action| action.name.eq_ignore_ascii_case(path)) else {
        return any_outputs();
    };
    for (old, new) in action.renamed {
        for (key, _) in
            with.iter().flat_map(TemplateMap::entries).filter(|(key, _)| key.raw().eq_ignore_ascii_case(old))
        {
            checker.push(
                Diagnostic::warning(
                    Code::ActionInput,
                    key.span(),
                    format!("the input '{old}' of {path} is deprecated"),
                )
                .with_help(format!("write '{new}'")),
            );
        }
    }
    let major = major(reference);
    if let Some(major) = major.filter(|major| *major < action.runs_from) {
        let message = format!("{path}@{reference} is made for a Node that runners no longer have");
        let help = if action.runs_from == u32::MAX {
            "it is not maintained any more: use another action".to_owned()
        } else {
            format!("use {path}@v{} or newer", action.runs_from)
        };
        checker.push(Diagnostic::warning(Code::OutdatedAction, uses.span(), message).with_help(help));
        // What an old version took and gave is not written here.
        return if major == 0 { any_outputs() } else { known_outputs(action, false) };
    }
    if major.is_some() && !action.inputs.is_empty() {
        let inputs: Vec<(&str, bool)> = action
            .inputs
            .iter()
            .map(|input| input.strip_prefix('!').map_or((*input, false), |name| (name, true)))
            .collect();
        check_inputs(checker, uses, with.as_ref(), &inputs);
    }
    known_outputs(action, major.is_some())
}

fn known_outputs(action: &KnownAction, current: bool) -> Type {
    match action.outputs {
        Some(names) if current => Type::strings(names),
        _ => any_outputs(),
    }
}

/// The major version of `v4`, `v4.1.0` or `4`; branches and commits have none.
fn major(reference: &str) -> Option<u32> {
    let digits = reference.strip_prefix('v').unwrap_or(reference);
    let first = digits.split('.').next()?;
    // A commit may consist of digits, too.
    (first.len() <= 3 && (reference.starts_with('v') || digits.contains('.') || first.len() == digits.len()))
        .then(|| first.parse().ok())
        .flatten()
}

/// Inputs that are given against those that exist, and required ones that are not given.
pub(super) fn check_inputs(
    checker: &mut Checker<'_>,
    uses: &Template,
    with: Option<&TemplateMap>,
    inputs: &[(&str, bool)],
) {
    let name = uses.raw();
    if with.is_some_and(|with| {
        with.whole().is_some() || with.entries().iter().any(|(key, _)| key.has_expression())
    }) {
        return;
    }
    let given = || with.iter().flat_map(|with| with.entries()).map(|(key, _)| key).collect::<Vec<_>>();
    for key in given() {
        if inputs.iter().any(|(input, _)| input.eq_ignore_ascii_case(key.raw())) {
            continue;
        }
        let help = suggest::nearest(key.raw(), inputs.iter().map(|(input, _)| *input)).map_or_else(
            || {
                let names: Vec<&str> = inputs.iter().map(|(input, _)| *input).collect();
                if names.is_empty() {
                    "it has no inputs".to_owned()
                } else {
                    format!("its inputs: {}", names.join(", "))
                }
            },
            |near| format!("did you mean '{near}'?"),
        );
        let message = format!("{name} has no input '{}'", key.raw());
        checker.push(Diagnostic::warning(Code::ActionInput, key.span(), message).with_help(help));
    }
    for (input, required) in inputs {
        if *required && !given().iter().any(|key| key.raw().eq_ignore_ascii_case(input)) {
            let message = format!("{name} needs the input '{input}'");
            checker.warn(Code::ActionInput, uses.span(), message);
        }
    }
}
