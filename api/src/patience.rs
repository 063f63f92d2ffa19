//! How long one connection may keep us waiting.
//!
//! hyper knows one clock for "the next request head": it starts when a connection opens and again when it falls
//! idle. One number cannot serve both: a proxy's idle connection deserves minutes, a slowly dripped head seconds. So
//! hyper is handed a [`HeadClock`] that looks at what the connection does: the first head, and any head that has
//! begun, must be complete within [`HEAD`]; between requests a connection may idle for [`IDLE`]. Both clocks are
//! one sleeping timer a connection. [`PatientStream`] tells the clock about arriving bytes, and gives up on a client
//! that does not take its answer for [`STALL`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A request head must be complete this long after the connection opened, or after its first byte.
pub(crate) const HEAD: Duration = Duration::from_secs(10);
/// A connection may be silent this long between requests; longer than the idle time of common proxies (90 s), so
/// that it is they who close.
pub(crate) const IDLE: Duration = Duration::from_mins(2);
/// A client must take some bytes of its answer within this time.
const STALL: Duration = Duration::from_secs(30);

/// When the head that is being waited for began to arrive: for the first one when the connection opened, else with
/// its first byte. The lock is held for a copy, by two parties of one task.
#[derive(Clone, Debug)]
struct HeadStart(Arc<Mutex<Option<Instant>>>);

impl HeadStart {
    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A connection's bytes, with the clocks.
#[derive(Debug)]
pub(crate) struct PatientStream<S> {
    stream: S,
    start: HeadStart,
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// The timer for hyper's header time-out of the same connection.
#[derive(Debug)]
pub(crate) struct HeadClock {
    start: HeadStart,
    is_first: AtomicBool,
}

/// Wraps a fresh connection.
pub(crate) fn watch<S>(stream: S) -> (PatientStream<S>, HeadClock) {
    let start = HeadStart(Arc::new(Mutex::new(Some(Instant::now()))));
    let clock = HeadClock { start: start.clone(), is_first: AtomicBool::new(true) };
    (PatientStream { stream, start, stalled: None }, clock)
}

impl Timer for HeadClock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    /// hyper asks for this when it starts to wait for a head, with the deadline that an idle connection has.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        if !self.is_first.swap(false, Ordering::Relaxed) {
            self.start.clear();
        }
        let sleep = Box::pin(tokio::time::sleep_until(deadline.into()));
        Box::pin(HeadSleep { start: self.start.clone(), deadline, sleep })
    }
}

#[derive(Debug)]
struct HeadSleep {
    start: HeadStart,
    deadline: Instant,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let begun = self.start.get().map(|start| start + HEAD);
        if let Some(earlier) = begun.filter(|begun| *begun < self.deadline) {
            self.deadline = earlier;
            self.sleep.as_mut().reset(earlier.into());
        }
        self.sleep.as_mut().poll(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.start.mark();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> PatientStream<S> {
    /// Runs one write step; while the client takes nothing, the stall clock runs.
    fn write_patiently<T>(
        &mut self,
        context: &mut Context<'_>,
        step: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let outcome = step(Pin::new(&mut self.stream), context);
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_patiently(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_patiently(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_patiently(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_patiently(context, AsyncWrite::poll_shutdown)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
        let (near, far) = tokio::io::duplex(16);
        let (mut stream, _clock) = watch(near);
        let started = tokio::time::Instant::now();
        let error = stream.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((STALL..STALL * 2).contains(&started.elapsed()));
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_answer_slowly_gets_all_of_it() {
        let (near, mut far) = tokio::io::duplex(16);
        let (mut stream, _clock) = watch(near);
        let sending = async {
            stream.write_all(&[7; 160]).await.expect("taken bit by bit");
            stream.flush().await.expect("flushed");
            stream.shutdown().await.expect("ended");
        };
        let taking = async {
            let mut taken = Vec::new();
            let mut some = [0; 16];
            loop {
                tokio::time::sleep(STALL / 2).await;
                match far.read(&mut some).await.expect("open") {
                    0 => return taken,
                    length => taken.extend_from_slice(&some[..length]),
                }
            }
        };
        let ((), taken) = futures_util::join!(sending, taking);
        assert_eq!(taken, [7; 160]);
    }
}
