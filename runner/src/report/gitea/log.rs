//! Rows to the server, from the journal, until the log is sealed.

use std::time::{Duration, SystemTime};

use proto::runner::v1::{LogRow, UpdateLogRequest};
use tokio::time::Instant;

use super::{CallError, Reporter, Server, Verdict, pace::Pace};
use crate::report::journal::{Record, RowReader};

/// A call carries about this much at first, counted as the memory that its rows take.
const BATCH_BYTES: usize = 512 << 10;

/// A call carries up to this much while the server is behind and takes it.
const BEHIND_BYTES: usize = 1 << 20;

/// A call carries at least this much, however often larger ones fail.
const SMALL_BYTES: usize = 32 << 10;

/// While the state is heard and the log is not, the closing log is given up after this time.
const LOG_PATIENCE: Duration = Duration::from_mins(1);

/// How long a daemon that goes down waits for a server that does not answer.
const HURRY_PATIENCE: Duration = Duration::from_secs(30);

/// How often rows are sent again to a server that has lost them, or stands still, before it is given up.
const REPEATS: u32 = 8;

/// How the log ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogEnd {
    /// The server has all rows and no more will come.
    Sealed,
    /// The server takes no more rows of this task; the state still counts.
    Closed(String),
    /// The server does not answer.
    Unreachable(String),
}

/// One call's rows.
struct Batch {
    index: u64,
    rows: Vec<(SystemTime, String)>,
    last: bool,
}

/// How calls have gone.
struct Going {
    failures: u32,
    repeats: u32,
    limit: usize,
    closing_since: Option<Instant>,
    hurried_since: Option<Instant>,
    last_success: Instant,
}

enum Look {
    Wait,
    Send,
    Close,
    Over(LogEnd),
}

impl<S: Server> Reporter<S> {
    pub(super) async fn ship_log(&self) -> LogEnd {
        let mut pace = Pace::new(&self.limits);
        let mut reader = self.desk.core().journal.reader();
        let mut going = Going {
            failures: 0,
            repeats: 0,
            limit: BATCH_BYTES,
            closing_since: None,
            hurried_since: None,
            last_success: Instant::now(),
        };
        loop {
            match self.look() {
                Look::Over(end) => return end,
                Look::Wait => {
                    self.desk.log_wake.notified().await;
                    continue;
                }
                Look::Send => self.wait_until_due(&mut pace).await,
                Look::Close => {
                    going.closing_since.get_or_insert_with(Instant::now);
                }
            }
            let batch = match self.next_batch(&mut reader, going.limit).await {
                Ok(batch) => batch,
                Err(reason) => return LogEnd::Closed(reason),
            };
            pace.called(Instant::now());
            if let Some(end) = self.send(batch, &mut going).await {
                return end;
            }
        }
    }

    fn look(&self) -> Look {
        let core = self.desk.core();
        match &core.verdict {
            Some(Verdict::Gone(reason)) if core.progress.finished.is_some() => {
                return Look::Over(LogEnd::Closed(reason.clone()));
            }
            Some(Verdict::Unregistered) if core.progress.finished.is_some() => {
                return Look::Over(LogEnd::Closed("the runner is not registered any more".to_owned()));
            }
            // Nothing to be sent until the job has ended, but its events have to be taken.
            Some(Verdict::Gone(_) | Verdict::Unregistered) => return Look::Wait,
            _ => {}
        }
        if core.progress.finished.is_some() {
            Look::Close
        } else if core.progress.rows > core.progress.acked {
            Look::Send
        } else {
            Look::Wait
        }
    }

    /// Waits until the next call is due, at most until the job ends.
    async fn wait_until_due(&self, pace: &mut Pace) {
        let due = pace.due(Instant::now());
        let soonest = pace.soonest(Instant::now());
        loop {
            let due = {
                let core = self.desk.core();
                let waiting = core.progress.rows - core.progress.acked;
                let many = self.limits.log_rows.is_some_and(|rows| waiting >= rows);
                let due = if many { due.min(soonest) } else { due };
                if core.progress.finished.is_some() || Instant::now() >= due {
                    return;
                }
                due
            };
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.desk.log_wake.notified() => {}
            }
        }
    }

    /// The next rows. With none left it is the closing row: a call without rows would seal nothing.
    async fn next_batch(&self, reader: &mut RowReader, limit: usize) -> Result<Batch, String> {
        let (plan, index, until, finished) = {
            let core = self.desk.core();
            let (index, until) = (core.progress.acked, core.progress.rows);
            (core.journal.plan(index, until), index, until, core.progress.finished.is_some())
        };
        if index == until {
            return Ok(Batch { index, rows: vec![(SystemTime::now(), String::new())], last: finished });
        }
        let Some(plan) = plan else {
            return Err("the rows that the server wants again are not kept any more".to_owned());
        };
        for attempt in 0..2 {
            let mut taken = std::mem::replace(reader, self.desk.core().journal.reader());
            // The page cache answers within microseconds, but a disk under load does not.
            let read = tokio::task::spawn_blocking(move || {
                let rows = taken.read(plan, limit);
                (taken, rows)
            });
            let (taken, rows) = read.await.map_err(|error| error.to_string())?;
            let rows = rows.map_err(|error| format!("the job's journal cannot be read: {error}"))?;
            if rows.is_empty() && attempt == 0 {
                // The reader looked at a frame that was taken back: begin anew.
                continue;
            }
            *reader = taken;
            if rows.is_empty() {
                break;
            }
            let last = finished && index + rows.len() as u64 == until;
            return Ok(Batch { index, rows, last });
        }
        Err("the job's journal lacks rows that were written to it".to_owned())
    }

    async fn send(&self, batch: Batch, going: &mut Going) -> Option<LogEnd> {
        let count = batch.rows.len() as u64;
        let (index, last) = (batch.index, batch.last);
        let request = UpdateLogRequest {
            task_id: self.desk.task(),
            index: i64::try_from(index).unwrap_or(i64::MAX),
            rows: batch
                .rows
                .into_iter()
                .map(|(time, content)| LogRow { time: Some(time.into()), content })
                .collect(),
            no_more: last,
        };
        let answer = if going.closing_since.is_some() {
            match tokio::time::timeout(self.attempt_limit(going), self.server.update_log(request)).await {
                Ok(answer) => answer,
                Err(_) => Err(CallError::Transient("no answer in time".to_owned())),
            }
        } else {
            self.server.update_log(request).await
        };
        match answer {
            Ok(answer) => {
                let now = Instant::now();
                going.last_success = now;
                going.failures = 0;
                self.acknowledged(u64::try_from(answer.ack_index).unwrap_or(0), index, count, last, going)
            }
            Err(error) => self.failed(error, going).await,
        }
    }

    /// Takes in how many rows the server says it has.
    fn acknowledged(
        &self,
        ack: u64,
        index: u64,
        count: u64,
        last: bool,
        going: &mut Going,
    ) -> Option<LogEnd> {
        let rows = {
            let mut core = self.desk.core();
            core.contact = Instant::now();
            core.progress.rows
        };
        // A server cannot have what was never sent.
        let ack = ack.min(index + count);
        if ack > index {
            going.repeats = 0;
            if going.limit < BEHIND_BYTES {
                going.limit = (going.limit * 2).min(BEHIND_BYTES);
            }
        } else {
            going.repeats += 1;
            if going.repeats > REPEATS {
                return Some(LogEnd::Closed(format!(
                    "the server has {ack} rows and does not take those from {index} on"
                )));
            }
            if ack < index {
                tracing::warn!(
                    task = self.desk.task(),
                    index,
                    ack,
                    "the server has lost rows of a log; they are sent again"
                );
            }
        }
        self.desk.record(Record::Acked { rows: ack.min(rows) });
        self.desk.room.notify_one();
        if self.desk.core().progress.has_begun_steps() {
            self.desk.state_wake.notify_one();
        }
        (last && ack == index + count).then_some(LogEnd::Sealed)
    }

    async fn failed(&self, error: CallError, going: &mut Going) -> Option<LogEnd> {
        let reason = error.to_string();
        match error {
            CallError::LogArchived => return Some(LogEnd::Closed(reason)),
            CallError::Unregistered => {
                self.desk.conclude(Verdict::Unregistered);
                return None;
            }
            CallError::TaskGone(reason) => {
                self.desk.conclude(Verdict::Gone(reason));
                return None;
            }
            CallError::Refused(_) | CallError::Transient(_) => {}
        }
        going.failures += 1;
        // It may be the size: proxies have limits of their own.
        going.limit = (going.limit / 2).max(SMALL_BYTES);
        if going.failures == 1 {
            tracing::warn!(
                task = self.desk.task(),
                reason,
                "the server does not take log rows; they are kept and sent again"
            );
        }
        if let Some(end) = self.out_of_patience(going, &reason) {
            return Some(end);
        }
        let pause = backoff(going.failures);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.hurry.cancelled(), if going.hurried_since.is_none() => {}
        }
        if self.hurry.is_cancelled() {
            going.hurried_since.get_or_insert_with(Instant::now);
        }
        None
    }

    fn out_of_patience(&self, going: &Going, reason: &str) -> Option<LogEnd> {
        let closing = going.closing_since?;
        let now = Instant::now();
        let contact = self.desk.core().contact.max(closing);
        if contact > going.last_success
            && now - going.last_success.max(closing) > LOG_PATIENCE
            && now - contact < LOG_PATIENCE / 2
        {
            return Some(LogEnd::Closed(format!(
                "the server hears the state of the task but not its log: {reason}"
            )));
        }
        let hurried = going.hurried_since.is_some_and(|since| now - since > HURRY_PATIENCE);
        (now - contact > self.limits.patience || hurried).then(|| LogEnd::Unreachable(reason.to_owned()))
    }

    fn attempt_limit(&self, going: &Going) -> Duration {
        // A large batch over a slow line must have a chance: each failure makes the next attempt longer, within reason.
        self.limits.close_timeout * (going.failures + 1).min(6)
    }
}

/// Between two attempts: a quarter of a second, then longer, up to four.
pub(super) fn backoff(failures: u32) -> Duration {
    Duration::from_millis(250 << failures.saturating_sub(1).min(4))
}
