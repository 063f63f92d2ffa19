//! Everything that can be said about a workflow file: a stable code, a severity, a place, one sentence,
//! and help when there is something to do.

use std::fmt;
use std::str::FromStr;

use crate::source::Span;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Works, but probably not as meant, or not everywhere.
    Warning,
    /// GitHub's parser refuses it, or no runner can run it.
    Error,
}

impl Severity {
    /// `error` or `warning`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

macro_rules! codes {
    ($($variant:ident $name:literal $about:literal,)*) => {
        /// Stable name of a kind of finding; what configuration silences.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $about] $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name, in words joined by hyphens.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One line on what it means.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }
        }
    };
}

codes! {
    YamlSyntax "yaml-syntax" "The file is no YAML document.",
    YamlLimit "yaml-limit" "The file is too large, too deep, or expands to too much.",
    YamlTag "yaml-tag" "A YAML tag is unknown or does not fit its value.",
    Anchor "anchor" "An anchor that nothing uses.",
    MergeKey "merge-key" "A merge key, which GitHub does not know.",
    DuplicateKey "duplicate-key" "A key is written twice in one mapping.",
    UnknownKey "unknown-key" "A key that is not known at this place.",
    MissingKey "missing-key" "A key that must be there is not.",
    WrongType "wrong-type" "A value of the wrong type.",
    WrongValue "wrong-value" "A value that is not one of those possible.",
    EmptyValue "empty-value" "A value that must not be empty is.",
    ConflictingKeys "conflicting-keys" "Keys that exclude each other.",
    Identifier "identifier" "An id that is not allowed or not unique.",
    Needs "needs" "A needed job that does not exist, or a circle of needs.",
    Expression "expression" "An expression that cannot be parsed.",
    ContextAvailability "context-availability" "A context or function that is not available at this place.",
    UndefinedReference "undefined-reference" "A property that no context of this file has.",
    ExpressionType "expression-type" "An expression of a type that does not fit.",
    FormatString "format-string" "A format string that does not fit its arguments.",
    Event "event" "An event, activity type or filter that does not exist.",
    Glob "glob" "A pattern that is no pattern.",
    Cron "cron" "A schedule that is no cron expression.",
    Shell "shell" "A shell that cannot run a script.",
    Uses "uses" "A reference to an action or workflow that has the wrong form.",
    WorkflowCall "workflow-call" "A call of a reusable workflow that does not fit it.",
    ActionInput "action-input" "An input that an action does not know or misses.",
    Permissions "permissions" "A permission that does not exist or exceeds what is allowed.",
    Matrix "matrix" "A matrix that gives no or impossible combinations.",
    RunnerLabel "runner-label" "Labels that no common runner has together.",
    Credentials "credentials" "A password written into the file.",
    DeprecatedCommand "deprecated-command" "A workflow command that runners refuse or will refuse.",
    OutdatedAction "outdated-action" "An action or runtime that no longer runs.",
    ScriptInjection "script-injection" "Text that strangers control becomes part of a script.",
    ConstantCondition "constant-condition" "An if that is always true or never.",
    EnvironmentVariable "environment-variable" "A name that is no environment variable.",
    UnpinnedAction "unpinned-action" "An action without a version.",
    ShellCheck "shellcheck" "A finding of shellcheck in a script.",
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = String;
    /// The code of that name; the error names the nearest one.
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name).ok_or_else(|| {
            let near = crate::suggest::nearest(name, Self::ALL.iter().map(|code| code.as_str()));
            let hint = near.map_or_else(String::new, |near| format!(", did you mean '{near}'?"));
            format!("unknown code '{name}'{hint}")
        })
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of finding.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// Where, in bytes of the source.
    pub span: Span,
    /// One sentence, without a full stop.
    pub message: String,
    /// What to do, when there is something.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, span, message: message.into(), help: None }
    }

    /// A warning.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_unique_names_that_parse() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(code.about().ends_with('.'));
        }
        assert_eq!(
            "unknwon-key".parse::<Code>().expect_err("typo"),
            "unknown code 'unknwon-key', did you mean 'unknown-key'?"
        );
    }
}
