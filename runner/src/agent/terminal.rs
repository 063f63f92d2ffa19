//! A pseudo-terminal as the streams of a step (`runner.allocate_pty`).
//!
//! What is printed arrives as it was written: no newline is translated, nothing typed is echoed. Nobody types: the input
//! is at its end, and says so to everyone who reads it, as the empty input of a step without a terminal does.

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    pty::OpenptFlags,
    termios::{LocalModes, OptionalActions, OutputModes},
};

/// What a terminal takes as the end of its input.
const END: [u8; 1] = [4];

/// How many readers find the end at once; each later one waits for [`end_input`].
const READERS: usize = 16;

/// Both sides of a new terminal: the one to be read here, and the step's.
pub(super) fn open() -> Result<(OwnedFd, OwnedFd), String> {
    let pair = || {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&ours)?;
        rustix::pty::unlockpt(&ours)?;
        let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
        let mut modes = rustix::termios::tcgetattr(&theirs)?;
        modes.output_modes.remove(OutputModes::OPOST);
        modes.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
        rustix::termios::tcsetattr(&theirs, OptionalActions::Now, &modes)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok((ours, theirs))
    };
    let (ours, theirs) =
        pair().map_err(|error: Errno| format!("no terminal (`runner.allocate_pty`): {error}"))?;
    for _ in 0..READERS {
        end_input(&ours);
    }
    Ok((ours, theirs))
}

/// Ends the input for one more reader. Full of ends nobody has read, it takes no more: there is none to be told.
pub(super) fn end_input(ours: &OwnedFd) {
    let _ = rustix::io::write(ours, &END);
}
