//! What the service manager and people want: INT and TERM, each counted; HUP, which changes nothing.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals, listened to.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Begins to listen; from now on none of them ends the process by itself.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Completes at the next INT or TERM. Cancel-safe.
    pub async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP changes nothing: restart the daemon to read its configuration again");
                }
            }
        }
    }
}
