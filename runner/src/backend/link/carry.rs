//! The two tasks that carry frames: events in and to whoever waits for them, requests and acknowledgements out.

use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};

use futures_util::StreamExt;
use proto::agent::v1::{self as wire, Event, Request, event::Body as Told, request::Body as Asked};
use tokio::{
    io::AsyncWriteExt,
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use super::{Answer, Routes, lock};
use crate::agent::{
    channel,
    frame::{self, Decoder},
};

/// How often an agent that cannot see its runner go away is told that it is there.
const PING: Duration = Duration::from_secs(2);

/// Hands an event to whoever waits for it.
async fn dispatch(
    routes: &Routes,
    last: &mut u64,
    taken: &watch::Sender<u64>,
    event: Event,
    fds: Vec<OwnedFd>,
) {
    if event.number != 0 {
        if event.number <= *last {
            return;
        }
        *last = event.number;
    }
    let route = lock(&routes.waiting).get(&event.id).cloned();
    if let (Some(route), Some(body)) = (route, event.body) {
        // Whoever asked does not want the answer any more.
        let _ = route.send(Answer { body, fds }).await;
    }
    taken.send_if_modified(|number| std::mem::replace(number, *last) != *last);
}

fn close(routes: &Routes, reason: String) {
    // The first reason is the true one.
    let _ = routes.lost.set(reason);
    lock(&routes.waiting).clear();
}

pub(super) async fn receive_socket(
    mut receiver: channel::Receiver,
    routes: Arc<Routes>,
    taken: watch::Sender<u64>,
) {
    let mut last = 0;
    let reason = loop {
        match receiver.next::<Event>().await {
            Ok(Some(event)) => {
                let mut fds = Vec::new();
                if matches!(event.body, Some(Told::Started(_))) {
                    fds.extend([receiver.passed(), receiver.passed()].into_iter().flatten());
                }
                dispatch(&routes, &mut last, &taken, event, fds).await;
            }
            Ok(None) => break "the agent has closed the connection".to_owned(),
            Err(error) => break format!("the connection to the agent broke: {error}"),
        }
    };
    close(&routes, reason);
}

type Attached = std::pin::Pin<
    Box<
        dyn futures_util::Stream<Item = Result<bollard::container::LogOutput, bollard::errors::Error>> + Send,
    >,
>;

pub(super) async fn receive_attached(mut output: Attached, routes: Arc<Routes>, taken: watch::Sender<u64>) {
    let mut decoder = Decoder::default();
    let mut last = 0;
    // What the agent says about itself when it cannot go on.
    let mut words = String::new();
    let reason = 'reason: loop {
        match output.next().await {
            Some(Ok(bollard::container::LogOutput::StdErr { message })) => {
                if words.len() < 4096 {
                    words.push_str(&String::from_utf8_lossy(&message));
                }
            }
            Some(Ok(piece)) => decoder.space().extend_from_slice(piece.as_ref()),
            Some(Err(error)) => break format!("the connection to the agent broke: {error}"),
            None if words.is_empty() => break "the agent has closed the connection".to_owned(),
            None => break words.trim().to_owned(),
        }
        loop {
            match decoder.next::<Event>() {
                Ok(Some(event)) => dispatch(&routes, &mut last, &taken, event, Vec::new()).await,
                Ok(None) => break,
                Err(error) => break 'reason format!("the connection to the agent broke: {error}"),
            }
        }
    };
    close(&routes, reason);
}

/// The next frame to send: a request, or what has been taken when nothing else is to be said.
async fn next_request(
    queue: &mut mpsc::Receiver<Request>,
    taken: &mut watch::Receiver<u64>,
) -> Option<Request> {
    tokio::select! {
        biased;
        request = queue.recv() => request,
        Ok(()) = taken.changed() => Some(Request::default()),
    }
}

fn with_acknowledgement(mut request: Request, taken: &mut watch::Receiver<u64>) -> Request {
    request.acknowledged = *taken.borrow_and_update();
    request
}

pub(super) async fn send_socket(
    sender: channel::Sender,
    mut queue: mpsc::Receiver<Request>,
    mut taken: watch::Receiver<u64>,
    routes: Arc<Routes>,
) {
    while let Some(request) = next_request(&mut queue, &mut taken).await {
        let result = match frame::encode(&with_acknowledgement(request, &mut taken)) {
            Ok(bytes) => sender.send_all(&bytes, &[]).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = result {
            return close(&routes, format!("cannot write to the agent: {error}"));
        }
    }
}

pub(super) async fn send_attached(
    mut input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
    mut queue: mpsc::Receiver<Request>,
    mut taken: watch::Receiver<u64>,
    routes: Arc<Routes>,
) {
    let mut clock = tokio::time::interval(PING);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let request = tokio::select! {
            biased;
            request = next_request(&mut queue, &mut taken) => match request {
                Some(request) => request,
                None => return,
            },
            _ = clock.tick() => Request { body: Some(Asked::Ping(wire::Ping {})), ..Request::default() },
        };
        let request = with_acknowledgement(request, &mut taken);
        let result = async {
            let bytes = frame::encode(&request).map_err(io::Error::other)?;
            input.write_all(&bytes).await?;
            input.flush().await
        };
        if let Err(error) = result.await {
            return close(&routes, format!("cannot write to the agent: {error}"));
        }
    }
}
