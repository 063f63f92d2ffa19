//! Connections: accepted up to a bound, watched by their clocks, drained on SIGTERM.
//!
//! The order of an orderly end: `/ready` says 503 and answers carry `Connection: close`, while the listener goes on
//! for the drain delay, so that every load balancer has noticed; then the port closes, running requests end, and
//! the process exits within the shutdown bound. A second signal ends it at once.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use crate::settings::Settings;
use crate::{App, RunError, patience, routes, service};

/// Room for a request head. A connection has its buffer only once bytes arrive.
const HEAD_BYTES: usize = 32 * 1024;
/// Connections that the system completes before we accept them.
const BACKLOG: u32 = 4096;
/// How long to rest when the system refuses to accept, for example without free descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// Descriptors kept for the database, the log and the listener.
const RESERVED_DESCRIPTORS: u64 = 64;

/// The signals that end the service.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// Which signal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// SIGTERM: an orchestrator; drain.
    Terminate,
    /// SIGINT: a person at a terminal; no drain delay.
    Interrupt,
}

impl Signals {
    /// Takes over both signals; to be called before anything can take long.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => Ending::Terminate,
            _ = self.interrupt.recv() => Ending::Interrupt,
        }
    }
}

/// Serves until a signal comes and the drain is over.
pub(crate) async fn serve(settings: &Settings, app: Arc<App>, mut signals: Signals) -> Result<(), RunError> {
    let address = format!("{}:{}", settings.host, settings.port);
    let listener = listen(&settings.host, settings.port)
        .await
        .map_err(|source| RunError::Listen { address: address.clone(), source })?;
    let bound = listener.local_addr().map_or(address, |bound| bound.to_string());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "listening on http://{bound}");

    let slots = Arc::new(Semaphore::new(connection_slots(settings.max_connections)));
    let connections = TaskTracker::new();
    let graceful = GracefulShutdown::new();
    let filters = warp::service(routes::routes(Arc::clone(&app)));
    let ids = Arc::new(service::RequestIds::new());
    let start = |stream: TcpStream, slot: OwnedSemaphorePermit| {
        let (app, ids, filters) = (Arc::clone(&app), Arc::clone(&ids), filters.clone());
        app.metrics.connections.inc();
        let gauge = app.metrics.connections.clone();
        let (stream, clock) = patience::watch(stream);
        // Boxed, so that an idle connection does not keep room for a whole request.
        let answer = service_fn(move |request: Request<Incoming>| {
            Box::pin(service::answer(Arc::clone(&app), Arc::clone(&ids), filters.clone(), request))
        });
        let connection = http1::Builder::new()
            .timer(clock)
            .header_read_timeout(patience::IDLE)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), answer);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("connection ended: {error}");
            }
            gauge.dec();
            drop(slot);
        });
    };

    let mut ending = None;
    {
        let mut over = pin!(stop(&mut signals, &app, settings.drain_delay, &mut ending));
        loop {
            tokio::select! {
                () = &mut over => break,
                (stream, slot) = accept(&listener, &slots) => start(stream, slot),
            }
        }
    }
    for stream in waiting(listener) {
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { break };
        start(stream, slot);
    }
    let bound = ending.unwrap_or_else(Instant::now) + settings.shutdown_timeout;
    connections.close();
    let ended = async {
        graceful.shutdown().await;
        connections.wait().await;
    };
    tokio::select! {
        () = ended => tracing::info!("all requests ended; bye"),
        () = sleep_until(bound) => tracing::warn!(open = connections.len(), "shutdown bound reached"),
        _ = signals.next() => tracing::warn!(open = connections.len(), "second signal; ending at once"),
    }
    Ok(())
}

/// Waits for the signal, then for the drain delay. Notes when the signal came.
async fn stop(signals: &mut Signals, app: &App, delay: Duration, ending: &mut Option<Instant>) {
    let signal = signals.next().await;
    app.draining.store(true, Ordering::Relaxed);
    *ending = Some(Instant::now());
    if signal == Ending::Terminate {
        tracing::info!(seconds = delay.as_secs_f64(), "SIGTERM: draining");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = signals.next() => {}
        }
    }
}

async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let address = tokio::net::lookup_host((host, port)).await?.next();
    let address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
    let socket =
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Waits for a free slot first: a connection beyond the bound stays in the system's queue.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            // The semaphore is never closed; if it were, nothing more could be accepted.
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!("cannot set TCP_NODELAY: {error}");
                }
                return (stream, slot);
            }
            Err(error) => {
                tracing::warn!("cannot accept: {error}");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Closes the port. Gives the connections that the system had completed and nobody had accepted yet: closing the port
/// would reset them.
fn waiting(listener: TcpListener) -> Vec<TcpStream> {
    let listener = match listener.into_std() {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!("the last connections cannot be accepted: {error}");
            return Vec::new();
        }
    };
    // Not blocking, so that it ends with the first error, which is usually that nobody waits.
    let accept = || {
        let (stream, _) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        TcpStream::from_std(stream).ok()
    };
    std::iter::from_fn(accept).take(BACKLOG as usize).collect()
}

/// Raises the limit on open descriptors as far as allowed, and fits the connections into it.
fn connection_slots(wanted: u32) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    let needed = u64::from(wanted) + RESERVED_DESCRIPTORS;
    let mut current = limits.current.unwrap_or(u64::MAX);
    if current < needed {
        let raised = needed.min(limits.maximum.unwrap_or(u64::MAX));
        if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limits }).is_ok() {
            current = raised;
        }
    }
    let fitting = current.saturating_sub(RESERVED_DESCRIPTORS).clamp(1, u64::from(wanted));
    if fitting < u64::from(wanted) {
        tracing::warn!(
            wanted,
            fitting,
            "fewer connections than TASKS_MAX_CONNECTIONS: the limit on open files is low"
        );
    }
    usize::try_from(fitting).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closing_port_takes_in_who_was_already_connected() {
        let listener = listen("127.0.0.1", 0).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.expect("the system connects"));
        }
        let waiting = waiting(listener);
        assert_eq!(waiting.len(), clients.len());
        for stream in waiting {
            stream.writable().await.expect("open");
            assert_eq!(stream.try_write(b"x").expect("open"), 1);
        }
        assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    }
}
