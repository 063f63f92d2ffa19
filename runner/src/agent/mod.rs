//! The agent: this program inside a job, as process 1 of its container or as a child of the runner on the host.
//!
//! It starts the processes of the steps, writes and reads the files around them, computes `hashFiles`, and ends process
//! trees, so that a step costs the engine nothing. It is driven over one connection in the frames of `agent.v1`:
//!
//! - `esteira agent listen PATH`: a unix socket on which the runner calls; output is passed on as pipes;
//! - `esteira agent socket`: standard input is a connected unix socket (the host);
//! - `esteira agent stdio`: frames over standard input and output (an engine's attach);
//! - `esteira agent own UID GID PATH...`: gives folders to a user and ends (asked once for images that are not root's).
//!
//! It has one thread, one loop, and one place where children are waited for, because whoever is process 1 is also
//! parent to every orphan.

pub(crate) mod archive;
pub(crate) mod channel;
mod files;
pub(crate) mod frame;
mod glob;
pub(crate) mod hash;
mod ladder;
mod outbox;
mod reach;
mod requests;
mod serve;
mod spares;
mod spawn;
mod step;
mod terminal;
pub(crate) mod tree;

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
};

use sha2::{Digest, Sha256};

/// Where programs are looked for when an environment has no `PATH`.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How the agent is reached.
#[derive(Debug)]
enum Mode {
    Listen(PathBuf),
    Socket,
    Stdio,
}

/// Runs the agent with the words behind `agent`; returns when the job is over or its runner is gone.
pub fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["listen", path] => serve(Mode::Listen(PathBuf::from(path))),
        ["socket"] => serve(Mode::Socket),
        ["stdio"] => serve(Mode::Stdio),
        ["own", uid, gid, folders @ ..] => own(uid, gid, folders),
        _ => Err("the agent is started by the runner, never by hand".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Nobody else listens: the engine keeps it as the container's last words.
            let _ = writeln!(io::stderr(), "esteira agent: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mode: Mode) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(|error| format!("no event loop: {error}"))?;
    let result = runtime.block_on(serve::run(mode)).map_err(|error| error.to_string());
    runtime.shutdown_background();
    result
}

/// Makes `folders` and gives them to a user: they come from the engine as root's.
fn own(uid: &str, gid: &str, folders: &[&str]) -> Result<(), String> {
    let uid = uid.parse().map_err(|_| format!("{uid} is no user id"))?;
    let gid = gid.parse().map_err(|_| format!("{gid} is no group id"))?;
    for folder in folders {
        let path = Path::new(folder);
        files::make_folder(path).map_err(|error| format!("cannot make {folder}: {error}"))?;
        std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .map_err(|error| format!("cannot give {folder} to {uid}:{gid}: {error}"))?;
    }
    Ok(())
}

/// Names a build of this program: the SHA-256 over its length, its first and its last 64 KiB (headers, build id and
/// section tables), because hashing all of it would cost every job more than starting it.
pub(crate) fn fingerprint(executable: &Path) -> io::Result<String> {
    const END: usize = 64 << 10;
    let mut file = File::open(executable)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(2 * END);
    Read::by_ref(&mut file).take(END as u64).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(length.saturating_sub(END as u64)))?;
    file.take(END as u64).read_to_end(&mut bytes)?;
    let mut digest = Sha256::new();
    digest.update(length.to_be_bytes());
    digest.update(&bytes);
    Ok(hash::hex(&digest.finalize()))
}

/// A copy of a standard stream that can be owned.
fn own_stream(stream: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(stream, 3)?)
}
