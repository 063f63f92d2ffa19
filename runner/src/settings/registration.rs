//! The `.runner` file: who this runner is. The format is that of Gitea's own runner; act_runner's and Forgejo's older
//! ones are read as well. It holds the token, so it is only ever written with mode 0600, and in one step.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{label::Label, secret::Secret, server::Credentials};

const WARNING: &str = "This file is written by the runner. Do not edit it while the runner is on; register again to change \
                       the identity, and use the configuration to change labels.";

/// Why the registration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// There is none.
    #[error("{0} does not exist: register this runner first (`esteira register`)")]
    Missing(PathBuf),
    /// It is there, but unusable.
    #[error("{path}: {reason}")]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{0} is in use by another runner process: two with one identity would end each other's jobs")]
    InUse(PathBuf),
}

/// Who this runner is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The server's number.
    pub id: i64,
    /// The identity.
    pub uuid: String,
    /// As the server shows it.
    pub name: String,
    /// The runner's own token.
    pub token: Secret<String>,
    /// The instance, as it was typed.
    pub address: String,
    /// Full labels, with schema.
    pub labels: Vec<String>,
    /// One job only.
    pub ephemeral: bool,
}

/// The file as it is.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "WARNING", default)]
    warning: String,
    #[serde(default)]
    id: i64,
    uuid: String,
    #[serde(default)]
    name: String,
    token: String,
    address: String,
    #[serde(default)]
    labels: Option<Vec<String>>,
    #[serde(default)]
    ephemeral: bool,
}

impl Registration {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, RegistrationError> {
        let text = fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => RegistrationError::Missing(path.to_owned()),
            _ => RegistrationError::Io { path: path.to_owned(), source },
        })?;
        let broken = |reason: String| RegistrationError::Broken { path: path.to_owned(), reason };
        // The parser's own message could show a token.
        let stored: Stored = serde_json::from_str(&text).map_err(|error| {
            broken(format!(
                "this is no registration (line {}, column {}); register again",
                error.line(),
                error.column()
            ))
        })?;
        for (name, value) in [("uuid", &stored.uuid), ("token", &stored.token), ("address", &stored.address)]
        {
            if value.trim().is_empty() {
                return Err(broken(format!("'{name}' is empty; register again")));
            }
        }
        Ok(Self {
            id: stored.id,
            uuid: stored.uuid,
            name: stored.name,
            token: Secret::new(stored.token),
            address: stored.address,
            labels: stored.labels.unwrap_or_default(),
            ephemeral: stored.ephemeral,
        })
    }

    /// Writes the file: mode 0600, all or nothing.
    pub fn save(&self, path: &Path) -> Result<(), RegistrationError> {
        self.write(path).map_err(|source| RegistrationError::Io { path: path.to_owned(), source })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let stored = Stored {
            warning: WARNING.to_owned(),
            id: self.id,
            uuid: self.uuid.clone(),
            name: self.name.clone(),
            token: self.token.expose().clone(),
            address: self.address.clone(),
            labels: Some(self.labels.clone()),
            ephemeral: self.ephemeral,
        };
        let mut text = serde_json::to_string_pretty(&stored)?;
        text.push('\n');
        let folder = folder_of(path);
        fs::create_dir_all(&folder)?;
        let mut scratch = tempfile::Builder::new()
            .prefix(".runner-")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&folder)?;
        scratch.write_all(text.as_bytes())?;
        scratch.as_file().sync_all()?;
        match scratch.persist(path) {
            Ok(_) => {}
            // A file that is mounted into a container cannot be replaced, only written.
            Err(failed) if is_busy(&failed.error) => {
                let mut file = OpenOptions::new().write(true).truncate(true).mode(0o600).open(path)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
            }
            Err(failed) => return Err(failed.error),
        }
        File::open(&folder)?.sync_all()
    }

    /// What the client sends.
    pub fn credentials(&self) -> Credentials {
        Credentials { uuid: self.uuid.clone(), token: self.token.clone() }
    }

    /// The instance without slashes at its end.
    pub fn instance(&self) -> &str {
        self.address.trim().trim_end_matches('/')
    }

    /// Parses labels; what is wrong or says nothing about its place is a sentence for the log.
    pub fn parse_labels(texts: &[String]) -> (Vec<Label>, Vec<String>) {
        let mut labels: Vec<Label> = Vec::new();
        let mut sentences = Vec::new();
        for text in texts {
            match text.parse::<Label>() {
                Ok(label) if labels.iter().any(|other| other.name() == label.name()) => {
                    sentences
                        .push(format!("the label '{}' is there twice: the first one counts", label.name()));
                }
                Ok(label) => {
                    if !label.is_explicit() {
                        sentences.push(format!(
                            "the label '{label}' does not say where its jobs run, which means on this host itself: write \
                             '{label}:host' if that is meant, '{label}:docker://IMAGE' otherwise"
                        ));
                    }
                    labels.push(label);
                }
                Err(error) => sentences.push(format!("left out: {error}")),
            }
        }
        (labels, sentences)
    }
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(code) if code == rustix::io::Errno::BUSY.raw_os_error()
        || code == rustix::io::Errno::XDEV.raw_os_error())
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A lock that is held until it is dropped; the system gives it back when the process dies.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// Takes the lock beside the registration (`<file>.lock`), which Gitea's own runner takes as well.
pub fn lock_file(path: &Path) -> Result<FileLock, RegistrationError> {
    let mut name = path.to_owned().into_os_string();
    name.push(".lock");
    let name = PathBuf::from(name);
    let fail = |source| RegistrationError::Io { path: name.clone(), source };
    fs::create_dir_all(folder_of(path)).map_err(fail)?;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&name).map_err(fail)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(FileLock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RegistrationError::InUse(path.to_owned())),
        Err(error) => Err(fail(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::{Registration, RegistrationError, lock_file};
    use crate::secret::Secret;

    fn registration() -> Registration {
        Registration {
            id: 7,
            uuid: "6e9bb0cc-0000-4000-8000-000000000000".into(),
            name: "builder-1".into(),
            token: Secret::new("0123456789abcdef0123456789abcdef01234567".into()),
            address: "https://gitea.example.com/".into(),
            labels: vec!["linux:host".into()],
            ephemeral: false,
        }
    }

    #[test]
    fn it_is_written_as_the_official_runner_writes_it_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deeper/.runner");
        registration().save(&path).expect("it is written");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).expect("text");
        let keys: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
        assert_eq!(keys, ["WARNING", "id", "uuid", "name", "token", "address", "labels", "ephemeral"]);
        assert!(text.ends_with("}\n"));
        assert_eq!(Registration::load(&path).expect("it is read"), registration());
        assert_eq!(registration().instance(), "https://gitea.example.com");
    }

    #[test]
    fn older_and_foreign_files_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(".runner");
        fs::write(&path, r#"{"id":0,"uuid":"u","token":"t","address":"http://a","labels":null,"extra":1}"#)
            .expect("text");
        let read = Registration::load(&path).expect("it is enough");
        assert!(read.labels.is_empty() && !read.ephemeral);
    }

    #[test]
    fn broken_files_are_named_and_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(".runner");
        assert!(matches!(Registration::load(&path), Err(RegistrationError::Missing(_))));
        fs::write(&path, r#"{"uuid":"u","token":hunter2}"#).expect("text");
        let error = Registration::load(&path).expect_err("no JSON").to_string();
        assert!(error.contains("register again") && !error.contains("hunter2"), "{error}");
        fs::write(&path, r#"{"uuid":"u","token":"","address":"http://a"}"#).expect("text");
        assert!(Registration::load(&path).expect_err("no token").to_string().contains("'token' is empty"));
    }

    #[test]
    fn only_one_process_holds_an_identity() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(".runner");
        let held = lock_file(&path).expect("it is free");
        assert!(matches!(lock_file(&path), Err(RegistrationError::InUse(_))));
        drop(held);
        lock_file(&path).expect("it is free again");
    }

    #[test]
    fn labels_that_say_nothing_are_warned_about() {
        let texts = ["a:host", "b", "a:docker://x", "c:docker://"].map(str::to_owned);
        let (labels, sentences) = Registration::parse_labels(&texts);
        assert_eq!(labels.len(), 2);
        assert_eq!(sentences.len(), 3, "{sentences:?}");
    }
}
