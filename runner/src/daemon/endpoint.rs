//! `/metrics`, `/healthz` and `/readyz`, where the configuration wants them.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http::StatusCode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use warp::{Filter, Reply, reply};

use super::health::{Answer, Pulse};
use crate::metrics::Metrics;

/// A store and its folder.
#[derive(Debug, Clone)]
pub(super) struct Store {
    /// As the counter calls it.
    pub(super) name: &'static str,
    /// Where it is.
    pub(super) folder: PathBuf,
}

/// Binds `address`, which is host and port.
pub(super) async fn bind(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    pulse: Pulse,
    grace: Duration,
    stores: Vec<Store>,
    stop: CancellationToken,
) {
    let seen = pulse.clone();
    let counted = warp::path!("metrics").map(move || {
        metrics.healthy(seen.ready(grace).healthy);
        for store in &stores {
            metrics.store(store.name, size_of(&store.folder));
        }
        metrics.encode()
    });
    let counted = counted.map(|text| match text {
        Ok(text) => reply::with_header(
            text,
            "content-type",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )
        .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    });
    let alive = pulse.clone();
    let alive = warp::path!("healthz").map(move || shown(&alive.answer()));
    let ready = warp::path!("readyz").map(move || shown(&pulse.ready(grace)));
    let routes = warp::get().and(counted.or(alive).or(ready));
    warp::serve(routes).incoming(listener).graceful(stop.cancelled_owned()).run().await;
}

/// Bytes of the files in a folder and those below it, one level deep: stores are flat.
fn size_of(folder: &Path) -> u64 {
    let sizes = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).collect::<Vec<_>>()
    };
    let mut total: u64 = 0;
    for (path, facts) in sizes(folder) {
        if facts.is_dir() {
            let inner = sizes(&path).iter().map(|(_, facts)| facts.len()).sum::<u64>();
            total = total.saturating_add(inner);
        } else {
            total = total.saturating_add(facts.len());
        }
    }
    total
}

fn shown(answer: &Answer) -> reply::Response {
    let status = if answer.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::with_status(format!("{}\n", answer.text), status).into_response()
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };
    use tokio_util::sync::CancellationToken;

    use super::{Store, bind, serve};
    use crate::{daemon::health::Pulse, metrics::Metrics};

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it answers");
        text
    }

    #[tokio::test]
    async fn three_paths_answer_and_no_others() {
        let listener = bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let pulse = Pulse::new(Duration::from_mins(1));
        pulse.trouble(Some("no engine"));
        let stop = CancellationToken::new();
        let serving = serve(
            listener,
            Metrics::default(),
            pulse,
            Duration::from_secs(30),
            vec![Store { name: "journal", folder: PathBuf::from("/nowhere") }],
            stop.clone(),
        );
        let asking = async {
            assert!(get(address, "/metrics").await.contains("gitea_runner_capacity"));
            assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
            let ready = get(address, "/readyz").await;
            assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("no engine"), "{ready}");
            assert!(get(address, "/other").await.starts_with("HTTP/1.1 404"));
            stop.cancel();
        };
        tokio::join!(serving, asking);
    }
}
