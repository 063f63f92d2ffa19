//! How the daemon is: what it knows about itself, told on a unix socket in the state folder.
//!
//! It is well as long as its poll loop turns or jobs run. That it fetches nothing at the moment (no engine, no space) is
//! told, but is no reason to restart it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::Instant,
};

/// The socket's name in the state folder.
const SOCKET: &str = "health.sock";

/// What the daemon says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it is well.
    pub healthy: bool,
    /// One sentence.
    pub text: String,
}

/// What the daemon knows about itself. Clones share it.
#[derive(Debug, Clone)]
pub struct Pulse {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    patience: Duration,
    jobs: AtomicUsize,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    turned: Instant,
    contact: Option<Instant>,
    started: Instant,
    trouble: Option<String>,
}

impl Pulse {
    /// A pulse that may be still for `patience`.
    pub fn new(patience: Duration) -> Self {
        let now = Instant::now();
        let seen = Seen { turned: now, contact: None, started: now, trouble: None };
        Self { inner: Arc::new(Inner { patience, jobs: AtomicUsize::new(0), seen: Mutex::new(seen) }) }
    }

    fn seen<T>(&self, with: impl FnOnce(&mut Seen) -> T) -> T {
        with(&mut self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The poll loop has turned once more.
    pub fn turned(&self) {
        self.seen(|seen| seen.turned = Instant::now());
    }

    /// The server has answered.
    pub fn contact(&self) {
        self.seen(|seen| seen.contact = Some(Instant::now()));
    }

    /// How many jobs run now.
    pub fn jobs(&self, count: usize) {
        self.inner.jobs.store(count, Ordering::Relaxed);
    }

    /// Why nothing is fetched, or `None` when that is over. Answers whether this is news.
    pub fn trouble(&self, why: Option<&str>) -> bool {
        self.seen(|seen| {
            let news = seen.trouble.as_deref() != why;
            seen.trouble = why.map(str::to_owned);
            news
        })
    }

    /// How it is.
    pub fn answer(&self) -> Answer {
        let jobs = self.inner.jobs.load(Ordering::Relaxed);
        self.seen(|seen| {
            let still = seen.turned.elapsed();
            if still > self.inner.patience && jobs == 0 {
                return Answer {
                    healthy: false,
                    text: format!("the poll loop has not turned for {} s", still.as_secs()),
                };
            }
            let doing = match (jobs, &seen.trouble) {
                (_, Some(trouble)) => format!("fetching no jobs: {trouble}"),
                (0, None) => "waiting for jobs".to_owned(),
                (1, None) => "running 1 job".to_owned(),
                (more, None) => format!("running {more} jobs"),
            };
            Answer { healthy: true, text: doing }
        })
    }

    /// Whether it can take jobs: it is well, in touch with the server within `grace`, and nothing is in the way.
    pub fn ready(&self, grace: Duration) -> Answer {
        let answer = self.answer();
        if !answer.healthy {
            return answer;
        }
        self.seen(|seen| {
            if let Some(trouble) = &seen.trouble {
                return Answer { healthy: false, text: format!("fetching no jobs: {trouble}") };
            }
            let silent = seen.contact.unwrap_or(seen.started).elapsed();
            if silent > grace {
                let text = format!("the server has not answered for {} s", silent.as_secs());
                return Answer { healthy: false, text };
            }
            answer
        })
    }
}

/// The socket, bound; removed when it is dropped.
#[derive(Debug)]
pub struct HealthSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl HealthSocket {
    /// Binds it in `state`, whose lock the caller holds: an old socket belongs to nobody.
    pub fn bind(state: &Path) -> io::Result<Self> {
        let path = state.join(SOCKET);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // A socket's path may have 107 bytes; the folder's own descriptor makes every path short.
        let folder = std::fs::File::open(state)?;
        let short = format!("/proc/self/fd/{}/{SOCKET}", std::os::fd::AsRawFd::as_raw_fd(&folder));
        let listener = UnixListener::bind(&path).or_else(|_| UnixListener::bind(short))?;
        Ok(Self { listener, path })
    }

    /// Answers everybody who asks, for ever.
    pub async fn serve(self, pulse: Pulse) {
        loop {
            match self.listener.accept().await {
                Ok((mut stream, _)) => {
                    let answer = serde_json::to_vec(&pulse.answer()).unwrap_or_default();
                    // One who asks and does not read has to do without.
                    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&answer)).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the health socket does not accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for HealthSocket {
    fn drop(&mut self) {
        // The next daemon removes it as well.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Asks the daemon whose state folder this is.
pub async fn ask(state: &Path, limit: Duration) -> io::Result<Answer> {
    let ask = async {
        let mut stream = match UnixStream::connect(state.join(SOCKET)).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let folder = std::fs::File::open(state)?;
                let short = format!("/proc/self/fd/{}/{SOCKET}", std::os::fd::AsRawFd::as_raw_fd(&folder));
                UnixStream::connect(short).await?
            }
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await?;
        Ok(serde_json::from_slice(&text)?)
    };
    tokio::time::timeout(limit, ask).await?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::task::TaskTracker;

    use super::{HealthSocket, Pulse, ask};

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_is_ill_unless_jobs_run() {
        let pulse = Pulse::new(Duration::from_secs(15));
        assert!(pulse.answer().healthy);
        tokio::time::advance(Duration::from_secs(16)).await;
        assert!(!pulse.answer().healthy);
        pulse.jobs(1);
        assert!(pulse.answer().healthy);
        pulse.jobs(0);
        pulse.turned();
        assert!(pulse.trouble(Some("no engine")) && !pulse.trouble(Some("no engine")), "news only once");
        assert!(pulse.answer().healthy && pulse.answer().text.contains("no engine"));
        assert!(!pulse.ready(Duration::from_secs(30)).healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_needs_the_server() {
        let pulse = Pulse::new(Duration::from_mins(10));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(!pulse.ready(Duration::from_secs(30)).healthy);
        pulse.contact();
        assert!(pulse.ready(Duration::from_secs(30)).healthy);
    }

    #[tokio::test]
    async fn the_socket_answers_even_below_a_long_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("x".repeat(120));
        std::fs::create_dir(&state).expect("a folder");
        let socket = HealthSocket::bind(&state).expect("it binds");
        let tracker = TaskTracker::new();
        let serving = tracker.spawn(socket.serve(Pulse::new(Duration::from_secs(15))));
        let answer = ask(&state, Duration::from_secs(5)).await.expect("an answer");
        assert!(answer.healthy, "{}", answer.text);
        serving.abort();
    }
}
