//! The log of one process: bytes in, rows out at once, findings at the end.
//!
//! Each [`Output::write`] hands over what it has completed before it returns, so a row waits for nobody, and a slow far
//! side slows the process down instead of filling memory. `::add-matcher::` needs a file of the job's place, which only
//! the job can read: it is asked through [`StepLog::matcher_requests`], and until it answers later lines are held,
//! for at most [`MATCHER_PATIENCE`] and [`HELD_LIMIT`] bytes.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Mutex, Notify, mpsc},
    time::Instant,
};

use super::{
    JobLog, StepFindings, StepLogOptions,
    lines::{LineSplitter, Piece, begins_like_a_command},
    masker::LongLine,
    rows::RowBuffer,
    stage::{Next, Stage},
};
use crate::backend::{Output, Stream};

/// How long lines wait for the file of a problem matcher.
const MATCHER_PATIENCE: Duration = Duration::from_secs(2);

/// How many bytes of lines may wait for it.
const HELD_LIMIT: usize = 4 << 20;

/// Bytes that are taken between two hand-overs.
const SLICE: usize = 64 << 10;

/// Takes what one process prints. See the module.
#[derive(Debug)]
pub struct StepLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    job: JobLog,
    pipeline: Mutex<Pipeline>,
    loaded: Notify,
}

/// Asks the job for the content of a problem matcher file inside the place.
#[derive(Debug)]
pub struct MatcherRequest {
    /// The path as the command had it: absolute, or relative to the workspace.
    pub path: String,
    remove: bool,
    shared: Arc<Shared>,
}

impl MatcherRequest {
    /// The file's content, or why it cannot be had, as half a sentence.
    pub async fn answer(self, content: Result<&[u8], String>) {
        let mut pipeline = self.shared.pipeline.lock().await;
        let time = SystemTime::now();
        let Pipeline { stage, rows, .. } = &mut *pipeline;
        if self.remove {
            stage.unload_matcher(&self.path, content, time, rows);
        } else {
            stage.load_matcher(&self.path, content, time, rows);
        }
        pipeline.release(time);
        self.shared.send(&mut pipeline).await;
        drop(pipeline);
        self.shared.loaded.notify_waiters();
    }
}

#[derive(Debug)]
struct Pipeline {
    stage: Stage,
    streams: [StreamState; 2],
    rows: RowBuffer,
    requests: Option<mpsc::Sender<(String, bool)>>,
    held: Option<Held>,
}

#[derive(Debug, Default)]
struct StreamState {
    splitter: LineSplitter,
    decoding: Decoding,
}

/// What a long line needs besides its splitter.
#[derive(Debug, Default)]
struct Decoding {
    long: LongLine,
    /// The begin of a character whose rest has not come.
    tail: Vec<u8>,
    /// The long line is a command: nothing of it may be shown.
    dropping: bool,
    /// Whether anything of the long line has been taken.
    open: bool,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    bytes: usize,
    lines: VecDeque<(usize, Kind, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Line,
    Part,
    Last,
}

impl StepLog {
    pub(super) fn new(job: JobLog, options: StepLogOptions) -> Self {
        let stage = Stage::new(options, job.masker().clone(), Arc::clone(job.matchers()));
        let pipeline = Pipeline {
            stage,
            streams: Default::default(),
            rows: RowBuffer::default(),
            requests: None,
            held: None,
        };
        Self { shared: Arc::new(Shared { job, pipeline: Mutex::new(pipeline), loaded: Notify::new() }) }
    }

    /// Where `::add-matcher::` and `::remove-matcher::` with a file ask for it. To be served beside the process, each
    /// request by [`MatcherRequest::answer`]; it ends with this log. Without a taker such commands warn.
    pub async fn matcher_requests(&mut self) -> MatcherRequests {
        let (sender, receiver) = mpsc::channel(16);
        self.shared.pipeline.lock().await.requests = Some(sender);
        MatcherRequests { receiver, shared: Arc::downgrade(&self.shared) }
    }

    /// The process is over: shows what has no line end and answers what the output has asked for.
    pub async fn finish(self) -> StepFindings {
        let deadline = Instant::now() + MATCHER_PATIENCE;
        loop {
            let loaded = self.shared.loaded.notified();
            if self.shared.pipeline.lock().await.held.is_none()
                || tokio::time::timeout_at(deadline, loaded).await.is_err()
            {
                break;
            }
        }
        let mut pipeline = self.shared.pipeline.lock().await;
        let time = SystemTime::now();
        pipeline.give_up_holding(time);
        for stream in 0..2 {
            pipeline.finish(stream, time);
            // A command without a line end may have asked for a matcher; nothing follows that it could match.
            pipeline.release(time);
        }
        self.shared.send(&mut pipeline).await;
        pipeline.requests = None;
        std::mem::take(&mut pipeline.stage.findings)
    }
}

/// The queue of [`MatcherRequest`]s of one step.
#[derive(Debug)]
pub struct MatcherRequests {
    receiver: mpsc::Receiver<(String, bool)>,
    shared: std::sync::Weak<Shared>,
}

impl MatcherRequests {
    /// The next request; `None` when the step's log has ended.
    pub async fn next(&mut self) -> Option<MatcherRequest> {
        let (path, remove) = self.receiver.recv().await?;
        Some(MatcherRequest { path, remove, shared: self.shared.upgrade()? })
    }
}

impl Output for StepLog {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut pipeline = self.shared.pipeline.lock().await;
        for slice in bytes.chunks(SLICE) {
            pipeline.push(stream, slice, SystemTime::now());
            self.shared.send(&mut pipeline).await;
        }
    }
}

impl Shared {
    async fn send(&self, pipeline: &mut Pipeline) {
        if let Some(rows) = pipeline.rows.take() {
            self.job.rows(rows).await;
        }
    }
}

impl Pipeline {
    fn push(&mut self, stream: Stream, bytes: &[u8], time: SystemTime) {
        if self
            .held
            .as_ref()
            .is_some_and(|held| held.bytes > HELD_LIMIT || held.since.elapsed() > MATCHER_PATIENCE)
        {
            self.give_up_holding(time);
        }
        let stream = usize::from(stream == Stream::Stderr);
        let mut splitter = std::mem::take(&mut self.streams[stream].splitter);
        splitter.push(bytes, &mut |piece| self.piece(stream, piece, time));
        self.streams[stream].splitter = splitter;
    }

    fn finish(&mut self, stream: usize, time: SystemTime) {
        let mut splitter = std::mem::take(&mut self.streams[stream].splitter);
        splitter.finish(&mut |piece| self.piece(stream, piece, time));
    }

    fn piece(&mut self, stream: usize, piece: Piece<'_>, time: SystemTime) {
        let (kind, bytes) = match piece {
            Piece::Line(bytes) => (Kind::Line, bytes),
            Piece::Part(bytes) => (Kind::Part, bytes),
            Piece::Last(bytes) => (Kind::Last, bytes),
        };
        if let Some(held) = &mut self.held {
            held.bytes += bytes.len() + 1;
            held.lines.push_back((stream, kind, bytes.to_vec()));
            return;
        }
        match kind {
            Kind::Line => self.line(stream, bytes, time),
            Kind::Part => self.part(stream, bytes, false, time),
            Kind::Last => self.part(stream, bytes, true, time),
        }
    }

    fn line(&mut self, stream: usize, bytes: &[u8], time: SystemTime) {
        // The standard library's replacement character stands for what is not UTF-8.
        let text = String::from_utf8_lossy(bytes);
        let (path, remove) = match self.stage.line(stream, &text, time, &mut self.rows) {
            Next::Go => return,
            Next::LoadMatcher(path) => (path, false),
            Next::UnloadMatcher(path) => (path, true),
        };
        let asked =
            self.requests.as_ref().is_some_and(|requests| requests.try_send((path.clone(), remove)).is_ok());
        if asked {
            self.held = Some(Held { since: Instant::now(), bytes: 0, lines: VecDeque::new() });
        } else {
            let reason = Err("files cannot be read at this point".to_owned());
            self.stage.load_matcher(&path, reason, time, &mut self.rows);
        }
    }

    fn part(&mut self, stream: usize, bytes: &[u8], last: bool, time: SystemTime) {
        let decoding = &mut self.streams[stream].decoding;
        if !decoding.open {
            decoding.open = true;
            decoding.dropping = begins_like_a_command(bytes);
        }
        if !decoding.dropping {
            decoding.tail.extend_from_slice(bytes);
            let cut = if last { decoding.tail.len() } else { whole_characters(&decoding.tail) };
            decoding.long.text.push_str(&String::from_utf8_lossy(&decoding.tail[..cut]));
            decoding.tail.drain(..cut);
            if let Some(text) = self.stage.masker().mask_front(&mut decoding.long, last) {
                self.rows.push(time, text);
            }
        } else if last {
            self.stage.oversize_command(time, &mut self.rows);
        }
        if last {
            self.streams[stream].decoding = Decoding::default();
        }
    }

    /// Lets the held lines go; one of them may hold the rest again.
    fn release(&mut self, time: SystemTime) {
        let Some(held) = self.held.take() else { return };
        let mut lines = held.lines;
        while let Some((stream, kind, bytes)) = lines.pop_front() {
            let piece = match kind {
                Kind::Line => Piece::Line(&bytes),
                Kind::Part => Piece::Part(&bytes),
                Kind::Last => Piece::Last(&bytes),
            };
            self.piece(stream, piece, time);
        }
    }

    fn give_up_holding(&mut self, time: SystemTime) {
        while self.held.is_some() {
            let reason = Err("it could not be read in time".to_owned());
            self.stage.load_matcher("of this step", reason, time, &mut self.rows);
            self.release(time);
        }
    }
}

/// How many bytes of `bytes` are whole characters or certainly none: all but the begin of one at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    let length = bytes.len();
    for back in 1..=length.min(3) {
        let byte = bytes[length - back];
        let needs = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => 1,
        };
        return if needs > back { length - back } else { length };
    }
    length
}
