//! Starts processes. The one file of the program with `unsafe`: between fork and exec a child has to become the leader
//! of a session of its own, and the standard library offers that only through `pre_exec`.
#![expect(unsafe_code, reason = "CommandExt::pre_exec; what runs there is one system call or two")]

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{fs::Access, process::Pid};

/// What a process reads from and writes to.
#[derive(Debug)]
pub(super) enum Streams {
    /// Nothing on its input.
    Pipes {
        /// Its output.
        stdout: OwnedFd,
        /// Its errors.
        stderr: OwnedFd,
    },
    /// A terminal that becomes its session's own.
    Terminal(OwnedFd),
}

/// Starts `argv` as the leader of its own session. Errors are sentences for the user.
pub(super) fn spawn(
    argv: &[String],
    environ: &[bytes::Bytes],
    cwd: &str,
    streams: Streams,
) -> Result<Pid, String> {
    let (program, arguments) = argv.split_first().ok_or("there is no program to run")?;
    let folder = Path::new(cwd);
    if !folder.is_dir() {
        return Err(format!("the working directory {cwd} does not exist"));
    }
    let path = find(program, environ, folder)?;
    let mut command = Command::new(&path);
    command.arg0(program).args(arguments).env_clear().current_dir(folder);
    for entry in environ {
        // A name may begin with '=', as the shells' own `=C:` of other systems does; the search starts behind it.
        if let Some(at) = entry.iter().skip(1).position(|byte| *byte == b'=') {
            command.env(OsStr::from_bytes(&entry[..=at]), OsStr::from_bytes(&entry[at + 2..]));
        }
    }
    let has_terminal = matches!(streams, Streams::Terminal(_));
    match streams {
        Streams::Pipes { stdout, stderr } => command.stdin(Stdio::null()).stdout(stdout).stderr(stderr),
        Streams::Terminal(terminal) => {
            let copy = || terminal.try_clone().map_err(|error| format!("no terminal: {error}"));
            command.stdin(copy()?).stdout(copy()?).stderr(terminal)
        }
    };
    let lead = move || {
        rustix::process::setsid()?;
        if has_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        Ok(())
    };
    // SAFETY: both are system calls, async-signal-safe, and touch no memory of the parent.
    unsafe {
        command.pre_exec(lead);
    }
    let child = command.spawn().map_err(|error| explain(program, &path, &error))?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| format!("{program}: the system gave no process id"))
}

fn explain(program: &str, path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOENT) => {
            format!("{program}: cannot run {path}: its interpreter or loader is missing here")
        }
        Some(rustix::io::Errno::NOEXEC) => {
            format!("{program}: {path} is no program for this machine, and has no #! line")
        }
        Some(rustix::io::Errno::TOOBIG) => {
            format!("{program}: the environment and arguments are larger than the system allows")
        }
        _ => format!("{program}: cannot run {path}: {error}"),
    }
}

/// Looks `program` up in the `PATH` of `environ`, as a shell would.
fn find(program: &str, environ: &[bytes::Bytes], cwd: &Path) -> Result<PathBuf, String> {
    if program.contains('/') {
        let path = cwd.join(program);
        return if path.exists() { Ok(path) } else { Err(format!("{program}: there is no such file")) };
    }
    let search = environ
        .iter()
        .find_map(|entry| entry.strip_prefix(b"PATH="))
        .map_or_else(|| OsString::from(super::DEFAULT_PATH), |value| OsStr::from_bytes(value).to_owned());
    let mut forbidden = None;
    for folder in std::env::split_paths(&search) {
        let path = cwd.join(folder).join(program);
        if path.is_file() {
            if rustix::fs::access(&path, Access::EXEC_OK).is_ok() {
                return Ok(path);
            }
            forbidden = Some(path);
        }
    }
    match forbidden {
        Some(path) => Err(format!("{program}: {} may not be executed", path.display())),
        None => Err(format!("{program}: not found in PATH ({})", search.to_string_lossy())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::find;

    fn path(value: &str) -> Vec<bytes::Bytes> {
        vec![bytes::Bytes::from(format!("PATH={value}"))]
    }

    #[test]
    fn a_program_is_looked_up_in_the_path_of_its_own_environment() {
        let found = find("sh", &path("/nowhere:/bin"), Path::new("/")).expect("every machine has one");
        assert_eq!(found, Path::new("/bin/sh"));
    }

    #[test]
    fn a_missing_program_is_named_with_the_path_that_was_searched() {
        let reason = find("sh", &path("/nowhere"), Path::new("/")).expect_err("not there");
        assert_eq!(reason, "sh: not found in PATH (/nowhere)");
    }

    #[test]
    fn a_file_that_may_not_run_is_told_apart_from_a_missing_one() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("tool"), "").expect("a file");
        let reason =
            find("tool", &path(&folder.path().display().to_string()), Path::new("/")).expect_err("no x bit");
        assert!(reason.ends_with("may not be executed"), "{reason}");
    }
}
