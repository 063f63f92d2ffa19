//! `Debug` by hand for the messages that carry secrets: a derived one would put tokens and secrets into any log line
//! that prints a message. The generator is told to skip them (`WITHOUT_DEBUG` in `tests/main.rs`), so a message that is
//! listed there and not here does not compile where it is printed.

use std::fmt;

use crate::{
    agent::v1::{Collected, File, Hello, Output, Run, collected::End},
    runner::v1::{RegisterRequest, Runner, Task, TaskNeed, UpdateTaskRequest},
};

/// Stands for a value that is not shown.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Names without values, sorted: a map's order would differ from run to run.
struct Names<'a>(Vec<&'a str>);

impl<'a> Names<'a> {
    fn of<V>(map: &'a std::collections::HashMap<String, V>) -> Self {
        let mut names: Vec<_> = map.keys().map(String::as_str).collect();
        names.sort_unstable();
        Self(names)
    }
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|name| (name, Hidden))).finish()
    }
}

impl fmt::Debug for RegisterRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterRequest")
            .field("name", &self.name)
            .field("token", &Hidden)
            .field("version", &self.version)
            .field("labels", &self.labels)
            .field("ephemeral", &self.ephemeral)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("id", &self.id)
            .field("uuid", &self.uuid)
            .field("token", &Hidden)
            .field("name", &self.name)
            .field("status", &self.status)
            .field("version", &self.version)
            .field("labels", &self.labels)
            .field("ephemeral", &self.ephemeral)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("workflow_payload_bytes", &self.workflow_payload.as_ref().map(Vec::len))
            .field("secrets", &Names::of(&self.secrets))
            .field("needs", &self.needs)
            .field("vars", &Names::of(&self.vars))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TaskNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskNeed")
            .field("outputs", &Names::of(&self.outputs))
            .field("result", &self.result)
            .finish()
    }
}

impl fmt::Debug for UpdateTaskRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateTaskRequest")
            .field("state", &self.state)
            .field("outputs", &Names::of(&self.outputs))
            .finish()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .field("mode", &self.mode)
            .field("bytes", &self.content.len())
            .finish()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("stderr", &self.stderr).field("bytes", &self.bytes.len()).finish()
    }
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Collected").field(&self.end).finish()
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(content) => f.debug_struct("Content").field("bytes", &content.len()).finish(),
            Self::Missing(_) => f.write_str("Missing"),
            Self::TooLarge(length) => f.debug_tuple("TooLarge").field(length).finish(),
            Self::Refused(reason) => f.debug_tuple("Refused").field(reason).finish(),
        }
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("executable", &self.executable)
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .field("pid", &self.pid)
            .field("environ", &self.environ.len())
            .field("machine", &self.machine)
            .field("unwritable", &self.unwritable)
            .finish()
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("argv", &self.argv)
            .field("environ", &self.environ.len())
            .field("cwd", &self.cwd)
            .field("files", &self.files)
            .field("collect", &self.collect)
            .field("delivery", &self.delivery)
            .field("terminal", &self.terminal)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::runner::v1::{RegisterRequest, RegisterResponse, Runner, Task, TaskNeed, UpdateTaskRequest};

    const SECRET: &str = "hunter2-hunter2";

    fn map() -> HashMap<String, String> {
        HashMap::from([("NAME".to_owned(), SECRET.to_owned())])
    }

    #[test]
    fn no_message_prints_a_secret() {
        let runner = Runner { token: SECRET.into(), name: "builder".into(), ..Runner::default() };
        let task = Task {
            id: 7,
            workflow_payload: Some(SECRET.into()),
            secrets: map(),
            vars: map(),
            needs: HashMap::from([("a".to_owned(), TaskNeed { outputs: map(), result: 1 })]),
            context: Some(prost_types::Struct {
                fields: std::iter::once((
                    "token".to_owned(),
                    prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(SECRET.into())) },
                ))
                .collect(),
            }),
            ..Task::default()
        };
        let printed = format!(
            "{:?}{:?}{:?}{:?}",
            RegisterRequest { token: SECRET.into(), name: "builder".into(), ..RegisterRequest::default() },
            RegisterResponse { runner: Some(runner) },
            UpdateTaskRequest { state: None, outputs: map() },
            task,
        );
        assert!(!printed.contains(SECRET), "{printed}");
        assert!(printed.contains("builder") && printed.contains("NAME"), "the rest is there: {printed}");
    }
}
