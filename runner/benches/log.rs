//! How fast a job's output goes through splitter, commands and masker, and whether memory stays flat.
//!
//! `cargo bench -p runner --bench log` prints one line for each case: lines and bytes a second, and how much the
//! resident memory has grown from the first tenth of the run to its peak. Fifty secrets of usual length are masked.

use std::{
    fmt::Write as _,
    io::Write as _,
    time::{Duration, Instant},
};

use esteira::{
    backend::{Output as _, Stream},
    cancel::Cancel,
    log::{JobLog, Masker, StepLogOptions},
    report::{
        Conclusion, JobEvent, JobReport, Sink,
        gitea::{CallError, ReportLimits, Reporter, Server, SummaryTarget},
    },
};
use proto::runner::v1::{UpdateLogRequest, UpdateLogResponse, UpdateTaskRequest, UpdateTaskResponse};
use tokio_util::sync::CancellationToken;

/// Pieces in which the agent hands output over.
const PIECE: usize = 32 << 10;

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lines = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(2_000_000);
    for (name, text) in [
        ("plain lines of 80 bytes", plain()),
        ("one line in twenty with a secret", with_secrets()),
        ("one line in ten a command", with_commands()),
    ] {
        let measured = runtime.block_on(pipeline(&text, lines));
        tell(name, &measured)?;
    }
    tell("one line of 1 GiB", &runtime.block_on(endless()))?;
    tell("plain lines, by journal and reporter", &runtime.block_on(reported(&plain(), lines))?)
}

struct Measured {
    lines: usize,
    bytes: usize,
    took: Duration,
    grown: u64,
}

fn tell(name: &str, measured: &Measured) -> std::io::Result<()> {
    let seconds = measured.took.as_secs_f64();
    writeln!(
        std::io::stdout(),
        "{name:<40} {:>10.0} lines/s {:>7.0} MB/s {:>6} KiB more memory",
        count(measured.lines) / seconds,
        count(measured.bytes) / seconds / 1e6,
        measured.grown
    )
}

#[expect(clippy::cast_precision_loss, reason = "shown with no more than a few digits")]
fn count(number: usize) -> f64 {
    number as f64
}

fn secret(number: usize) -> String {
    format!("s3cr3t-{number:02}-{:016x}", (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn masker() -> Masker {
    let masker = Masker::new();
    for number in 0..50 {
        masker.add(&secret(number));
    }
    masker
}

fn block(line: impl Fn(usize) -> String) -> String {
    (0..1000).fold(String::new(), |mut text, number| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}", line(number));
        text
    })
}

fn plain() -> String {
    block(|number| {
        format!("{number:06} the quick brown fox jumps over the lazy dog and compiles one more crate: ok")
    })
}

fn with_secrets() -> String {
    block(|number| match number % 20 {
        7 => format!("Authorization: Bearer {} for the request number {number}", secret(number % 50)),
        _ => {
            format!("{number:06} the quick brown fox jumps over the lazy dog and compiles one more crate: ok")
        }
    })
}

fn with_commands() -> String {
    block(|number| match number % 10 {
        3 => format!("::warning file=src/main.rs,line={number}::this could be better"),
        _ => {
            format!("{number:06} the quick brown fox jumps over the lazy dog and compiles one more crate: ok")
        }
    })
}

async fn pipeline(block: &str, lines: usize) -> Measured {
    let (sink, mut events) = Sink::new(Cancel::new());
    let log = JobLog::open(sink, masker());
    let print = async move {
        let mut step = log.step(StepLogOptions::default());
        let begun = Instant::now();
        let mut memory = Memory::default();
        let blocks = lines / 1000;
        for number in 0..blocks {
            for piece in block.as_bytes().chunks(PIECE) {
                step.write(Stream::Stdout, piece).await;
            }
            memory.look(number * 10 / blocks.max(1));
        }
        step.finish().await;
        Measured {
            lines: blocks * 1000,
            bytes: blocks * block.len(),
            took: begun.elapsed(),
            grown: memory.grown(),
        }
    };
    let take = async move { while events.recv().await.is_some() {} };
    tokio::join!(print, take).0
}

async fn endless() -> Measured {
    let (sink, mut events) = Sink::new(Cancel::new());
    let log = JobLog::open(sink, masker());
    let print = async move {
        let mut step = log.step(StepLogOptions::default());
        let piece = b"0123456789abcdef".repeat(PIECE / 16);
        let begun = Instant::now();
        let mut memory = Memory::default();
        let pieces = (1 << 30) / piece.len();
        for number in 0..pieces {
            step.write(Stream::Stdout, &piece).await;
            memory.look(number * 10 / pieces);
        }
        step.finish().await;
        Measured { lines: 1, bytes: 1 << 30, took: begun.elapsed(), grown: memory.grown() }
    };
    let take = async move { while events.recv().await.is_some() {} };
    tokio::join!(print, take).0
}

/// A server that takes everything at once.
#[derive(Clone)]
struct Generous;

impl Server for Generous {
    async fn update_log(&self, request: UpdateLogRequest) -> Result<UpdateLogResponse, CallError> {
        let ack_index = request.index + i64::try_from(request.rows.len()).unwrap_or(i64::MAX);
        Ok(UpdateLogResponse { ack_index })
    }

    async fn update_task(&self, _: UpdateTaskRequest) -> Result<UpdateTaskResponse, CallError> {
        Ok(UpdateTaskResponse::default())
    }

    async fn put_summary(&self, _: &SummaryTarget, _: usize, _: &str) -> Result<(), CallError> {
        Ok(())
    }
}

async fn reported(block: &str, lines: usize) -> std::io::Result<Measured> {
    let folder = tempfile::tempdir()?;
    let cancel = Cancel::new();
    let (sink, events) = Sink::new(cancel.clone());
    let jobs = folder.path().join("jobs");
    let limits = ReportLimits::default();
    let reporter = Reporter::start(Generous, 1, &jobs, limits, events, cancel, CancellationToken::new())
        .map_err(std::io::Error::other)?;
    let log = JobLog::open(sink, masker());
    let print = async move {
        let begun = Instant::now();
        log.emit(JobEvent::Started { at: std::time::SystemTime::now(), steps: Vec::new() }).await;
        let mut step = log.step(StepLogOptions::default());
        let mut memory = Memory::default();
        let blocks = lines / 1000;
        for number in 0..blocks {
            for piece in block.as_bytes().chunks(PIECE) {
                step.write(Stream::Stdout, piece).await;
            }
            memory.look(number * 10 / blocks.max(1));
        }
        step.finish().await;
        let report = JobReport {
            conclusion: Conclusion::Success,
            outputs: std::collections::BTreeMap::new(),
            at: std::time::SystemTime::now(),
        };
        log.emit(JobEvent::Finished(report)).await;
        (begun, blocks, memory)
    };
    let ((begun, blocks, mut memory), _) = tokio::join!(print, reporter.run());
    memory.look(9);
    Ok(Measured {
        lines: blocks * 1000,
        bytes: blocks * block.len(),
        took: begun.elapsed(),
        grown: memory.grown(),
    })
}

/// Resident memory after the first tenth, and its peak afterwards, in KiB.
#[derive(Default)]
struct Memory {
    early: u64,
    peak: u64,
    looks: u32,
}

impl Memory {
    fn look(&mut self, tenth: usize) {
        self.looks += 1;
        if self.looks % 64 != 1 && tenth < 9 {
            return;
        }
        let now = resident();
        if tenth == 0 {
            self.early = self.early.max(now);
        }
        self.peak = self.peak.max(now);
    }

    const fn grown(&self) -> u64 {
        self.peak.saturating_sub(self.early)
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4
}
