//! A job without an agent: every command is an exec of the engine, with its files sent before and fetched after.
//!
//! For engines of another architecture and images in which no program of ours may run. It needs `sh`, costs the engine
//! about five requests a step, and cannot take from a process what the container's own environment gives it.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bollard::{
    Docker, body_full, body_try_stream,
    container::LogOutput,
    exec::{StartExecOptions, StartExecResults},
    models::ExecConfig,
    query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder},
};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

use super::{engine, setup::ROOT};
use crate::{
    agent::{archive, hash},
    backend::{
        BackendError, Collected, ExecOutcome, ExecSpec, Exit, FileIn, FileOut, Ladder, Output, Stream,
    },
    cancel::Cancel,
};

/// Signals a process and all that descends from it: `sh -c KILL sh SIGNAL PIDFILE`.
const KILL: &str = "tree() { for child in $(cat /proc/\"$1\"/task/*/children 2>/dev/null); do tree \"$child\"; done; \
                    kill -\"$signal\" \"$1\" 2>/dev/null; }; signal=$1; tree \"$(cat \"$2\")\"";

/// The commands of one job.
#[derive(Debug)]
pub(super) struct Batched {
    docker: Docker,
    id: String,
    environ: BTreeMap<String, String>,
    next: AtomicU64,
}

impl Batched {
    /// What keeps the container: it does nothing until it is removed.
    pub(super) fn entrypoint() -> Vec<String> {
        ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"]
            .map(str::to_owned)
            .to_vec()
    }

    /// Learns the environment and makes the job's folders.
    pub(super) async fn begin(docker: Docker, id: &str, folders: &[String]) -> Result<Self, BackendError> {
        let mut batched =
            Self { docker, id: id.to_owned(), environ: BTreeMap::new(), next: AtomicU64::new(1) };
        let (code, out) = batched.shell(None, "id -u; id -g; cat /proc/self/environ", &[]).await?;
        let mut parts = out.splitn(3, |byte| *byte == b'\n').map(String::from_utf8_lossy);
        let (Some(uid), Some(gid), Some(environ)) = (parts.next(), parts.next(), parts.next()) else {
            let words = String::from_utf8_lossy(&out).trim().to_owned();
            return Err(BackendError::Lost(format!(
                "the image has no usable shell (exit code {code}): {words}"
            )));
        };
        batched.environ = environ
            .split('\0')
            .filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let owner = format!("{uid}:{gid}");
        let mut words = vec![owner.as_str()];
        words.extend(folders.iter().map(String::as_str));
        let make = "owner=$1; shift; mkdir -p \"$@\" && chown \"$owner\" \"$@\"";
        let (code, out) = batched.shell(Some("0:0"), make, &words).await?;
        if code != 0 {
            let words = String::from_utf8_lossy(&out).trim().to_owned();
            return Err(BackendError::Lost(format!("the job's folders cannot be made: {words}")));
        }
        Ok(batched)
    }

    pub(super) fn environ(&self) -> BTreeMap<String, String> {
        self.environ.clone()
    }

    /// A small script of our own: its exit code and what it printed.
    async fn shell(
        &self,
        user: Option<&str>,
        script: &str,
        words: &[&str],
    ) -> Result<(i64, Vec<u8>), BackendError> {
        let mut command = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), "sh".to_owned()];
        command.extend(words.iter().map(|&word| word.to_owned()));
        let config = ExecConfig { cmd: Some(command), user: user.map(str::to_owned), ..attached() };
        let exec = self.create(config).await?;
        let mut output = self.start(&exec).await?;
        let mut printed = Vec::new();
        while let Some(piece) = output.next().await {
            printed.extend_from_slice(piece.map_err(engine::failed("reading a command's output"))?.as_ref());
        }
        Ok((self.code(&exec).await?, printed))
    }

    async fn create(&self, config: ExecConfig) -> Result<String, BackendError> {
        let created = self.docker.create_exec(&self.id, config).await;
        Ok(created.map_err(|error| lost(&error))?.id)
    }

    async fn start(
        &self,
        exec: &str,
    ) -> Result<
        impl futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
        BackendError,
    > {
        match self.docker.start_exec(exec, None::<StartExecOptions>).await.map_err(|error| lost(&error))? {
            StartExecResults::Attached { output, .. } => Ok(output),
            StartExecResults::Detached => {
                Err(BackendError::Lost("the engine did not attach to a command".to_owned()))
            }
        }
    }

    async fn code(&self, exec: &str) -> Result<i64, BackendError> {
        let inspected = self.docker.inspect_exec(exec).await.map_err(|error| lost(&error))?;
        Ok(inspected.exit_code.unwrap_or(-1))
    }

    pub(super) async fn exec<O: Output>(
        &self,
        spec: ExecSpec,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<ExecOutcome, BackendError> {
        self.write(&spec.files).await?;
        let pid_file = format!("{ROOT}/home/.pid-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let script = "echo $$ > \"$1\"; shift; exec \"$@\"";
        let mut command = ["sh", "-c", script, "sh", &pid_file].map(str::to_owned).to_vec();
        command.extend(spec.argv.iter().cloned());
        let environ = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let config = ExecConfig {
            cmd: Some(command),
            env: Some(environ),
            working_dir: Some(spec.cwd.clone()),
            ..attached()
        };
        let exec = self.create(config).await?;
        let mut printed = self.start(&exec).await?;
        let process = async {
            let mut first = Vec::new();
            while let Some(piece) = printed.next().await {
                let (stream, bytes) = match piece.map_err(engine::failed("reading a step's output"))? {
                    LogOutput::StdErr { message } => (Stream::Stderr, message),
                    other => (Stream::Stdout, other.into_bytes()),
                };
                if first.len() < 512 {
                    first.extend_from_slice(&bytes[..bytes.len().min(512)]);
                }
                output.write(stream, &bytes).await;
            }
            Ok::<_, BackendError>(first)
        };
        let killer = async {
            cancel.cancelled().await;
            self.climb(&pid_file, spec.ladder).await;
            std::future::pending::<()>().await;
        };
        let first = tokio::select! {
            ended = process => ended?,
            () = killer => Vec::new(),
        };
        let code = self.code(&exec).await?;
        let words = String::from_utf8_lossy(&first);
        let exit = if matches!(code, 126 | 127) && words.contains("OCI runtime exec failed") {
            Exit::NotStarted(words.trim().to_owned())
        } else if code > 128 && code < 160 && cancel.is_cancelled() {
            Exit::Signal(i32::try_from(code - 128).unwrap_or(9))
        } else {
            Exit::Code(i32::try_from(code).unwrap_or(-1))
        };
        let mut files = Vec::new();
        for file in &spec.collect {
            files.push(self.read(file).await?);
        }
        Ok(ExecOutcome { exit, files, output_held: false, lost: Vec::new() })
    }

    async fn climb(&self, pid_file: &str, ladder: Ladder) {
        for (signal, pause) in
            [("INT", ladder.interrupt), ("TERM", ladder.terminate), ("KILL", Duration::ZERO)]
        {
            if let Err(error) = self.shell(None, KILL, &[signal, pid_file]).await {
                tracing::warn!(%error, "a step's processes could not be signalled");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends files as one archive, into the job's volume where that is enough: the root may be read-only.
    pub(super) async fn write(&self, files: &[FileIn]) -> Result<(), BackendError> {
        if files.is_empty() {
            return Ok(());
        }
        let base =
            if files.iter().all(|file| file.path.starts_with(&format!("{ROOT}/"))) { ROOT } else { "/" };
        let fail = |error: io::Error| BackendError::engine("sending files into the container", error);
        let mut builder = tar::Builder::new(Vec::new());
        for file in files {
            let name = file.path.strip_prefix(base).unwrap_or(&file.path).trim_start_matches('/');
            let mut header = tar::Header::new_gnu();
            header.set_size(file.bytes.len() as u64);
            header.set_mode(file.mode);
            builder.append_data(&mut header, name, file.bytes.as_ref()).map_err(fail)?;
        }
        let archive = builder.into_inner().map_err(fail)?;
        let options = UploadToContainerOptionsBuilder::default().path(base).build();
        let sent = self.docker.upload_to_container(&self.id, Some(options), body_full(archive.into())).await;
        sent.map_err(|error| lost(&error))
    }

    pub(super) async fn read(&self, file: &FileOut) -> Result<Collected, BackendError> {
        let options = DownloadFromContainerOptionsBuilder::default().path(&file.path).build();
        let mut stream = std::pin::pin!(self.docker.download_from_container(&self.id, Some(options)));
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(error) if engine::status(&error) == Some(404) => return Ok(Collected::Missing),
                Err(error) => return Err(lost(&error)),
            }
            // One head, the content, the padding.
            if bytes.len() as u64 > file.limit.saturating_add(4096) {
                break;
            }
        }
        Ok(first_file(&bytes, file)
            .unwrap_or_else(|error| Collected::Refused(format!("cannot read {}: {error}", file.path))))
    }

    pub(super) async fn unpack(&self, archive: &Path, into: &str) -> Result<(), BackendError> {
        let fail = |error: io::Error| BackendError::engine(format!("reading {}", archive.display()), error);
        let checked = archive.to_owned();
        let check = tokio::task::spawn_blocking(move || leaving(&checked)).await;
        if let Some(name) =
            check.map_err(|error| BackendError::engine("reading an archive", error))?.map_err(fail)?
        {
            return Err(BackendError::Refused(format!("the archive's entry {name} would leave {into}")));
        }
        let (code, out) = self.shell(None, "mkdir -p \"$1\"", &[into]).await?;
        if code != 0 {
            return Err(BackendError::Refused(String::from_utf8_lossy(&out).trim().to_owned()));
        }
        let file = tokio::fs::File::open(archive).await.map_err(fail)?;
        let body = body_try_stream(tokio_util::io::ReaderStream::with_capacity(file, 256 << 10));
        let options = UploadToContainerOptionsBuilder::default().path(into).build();
        self.docker.upload_to_container(&self.id, Some(options), body).await.map_err(|error| lost(&error))
    }

    /// Fetches a folder into a folder of this machine.
    async fn fetch(&self, folder: &str, into: &Path) -> Result<(), BackendError> {
        let fail = |error: io::Error| BackendError::engine(format!("fetching {folder}"), error);
        let options = DownloadFromContainerOptionsBuilder::default().path(folder).build();
        let mut stream =
            self.docker.download_from_container(&self.id, Some(options)).map_err(io::Error::other);
        let mut stream = std::pin::pin!(stream.by_ref());
        let spool = tempfile::NamedTempFile::new().map_err(fail)?;
        let mut file = tokio::fs::File::from_std(spool.reopen().map_err(fail)?);
        while let Some(piece) = stream.next().await {
            let piece =
                piece.map_err(|error| BackendError::Refused(format!("cannot pack {folder}: {error}")))?;
            file.write_all(&piece).await.map_err(fail)?;
        }
        file.flush().await.map_err(fail)?;
        let into = into.to_owned();
        let unpacked = tokio::task::spawn_blocking(move || tar::Archive::new(spool.reopen()?).unpack(into));
        unpacked.await.map_err(|error| BackendError::engine("unpacking", error))?.map_err(fail)
    }

    pub(super) async fn pack(&self, folder: &str, into: &Path) -> Result<(), BackendError> {
        let fail = |error: io::Error| BackendError::engine(format!("writing {}", into.display()), error);
        let scratch = tempfile::tempdir().map_err(fail)?;
        self.fetch(folder, scratch.path()).await?;
        let inner = scratch.path().join(Path::new(folder).file_name().unwrap_or_default());
        let file = std::fs::File::create(into).map_err(fail)?;
        archive::pack(&inner, file).map_err(BackendError::Refused)
    }

    pub(super) async fn hash_files(
        &self,
        workspace: &str,
        patterns: Vec<String>,
        follow_links: bool,
    ) -> Result<String, BackendError> {
        let fail = |error: io::Error| BackendError::engine("hashing files", error);
        let scratch = tempfile::tempdir().map_err(fail)?;
        self.fetch(workspace, scratch.path()).await?;
        let inner = scratch.path().join(Path::new(workspace).file_name().unwrap_or_default());
        let inner = inner.to_string_lossy().into_owned();
        let patterns: Vec<String> =
            patterns.iter().map(|pattern| pattern.replace(workspace, &inner)).collect();
        let hashed = tokio::task::spawn_blocking(move || hash::hash(&inner, &patterns, follow_links)).await;
        hashed.map_err(|error| BackendError::engine("hashing files", error))?.map_err(BackendError::Refused)
    }
}

fn attached() -> ExecConfig {
    ExecConfig { attach_stdout: Some(true), attach_stderr: Some(true), ..ExecConfig::default() }
}

fn lost(error: &bollard::errors::Error) -> BackendError {
    BackendError::Lost(format!("the job's environment is lost: the engine says: {}", engine::message(error)))
}

/// The first entry of an archive, whose end may be missing.
fn first_file(bytes: &[u8], file: &FileOut) -> io::Result<Collected> {
    let mut archive = tar::Archive::new(bytes);
    let Some(entry) = archive.entries()?.next() else { return Ok(Collected::Missing) };
    let mut entry = entry?;
    if entry.header().entry_type() != tar::EntryType::Regular {
        return Ok(Collected::Refused(format!("{} is no regular file", file.path)));
    }
    if entry.size() > file.limit {
        return Ok(Collected::TooLarge(entry.size()));
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    Ok(Collected::Content(content.into()))
}

/// The first entry that would land outside of its folder.
fn leaving(archive: &Path) -> io::Result<Option<String>> {
    let mut archive = tar::Archive::new(std::fs::File::open(archive)?);
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?;
        if path.components().any(|part| matches!(part, std::path::Component::ParentDir)) {
            return Ok(Some(path.display().to_string()));
        }
    }
    Ok(None)
}
