//! Whether something listens: services are waited for from inside the job, where the steps will ask for them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proto::agent::v1::{Reach, Reached, event::Body};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// From one call to the next.
const AGAIN: Duration = Duration::from_millis(20);

/// A neighbour answers at once, if only to refuse: longer than this means that packets are lost on the way.
const SILENCE: Duration = Duration::from_secs(1);

/// What one call found.
enum Answer {
    Open,
    Closed,
    Nobody,
}

/// Calls until somebody answers, or the time is over.
pub(super) async fn reach(ask: Reach) -> Result<Body, String> {
    let address: IpAddr = ask.address.parse().map_err(|_| format!("{} is no address", ask.address))?;
    let deadline = Instant::now() + Duration::from_millis(ask.limit_ms);
    let mut closed = ask.ports;
    loop {
        let mut still = Vec::new();
        for port in closed {
            let Ok(number) = u16::try_from(port) else { continue };
            match call(SocketAddr::new(address, number)).await {
                Answer::Open if ask.any => return Ok(told(Vec::new(), false)),
                Answer::Open => {}
                Answer::Closed => still.push(port),
                Answer::Nobody => return Ok(told(Vec::new(), true)),
            }
        }
        closed = still;
        if closed.is_empty() || Instant::now() >= deadline {
            return Ok(told(closed, false));
        }
        sleep(AGAIN).await;
    }
}

fn told(closed: Vec<u32>, unreachable: bool) -> Body {
    Body::Reached(Reached { closed, unreachable })
}

async fn call(address: SocketAddr) -> Answer {
    match timeout(SILENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Answer::Open,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Answer::Closed,
        Ok(Err(_)) | Err(_) => Answer::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use proto::agent::v1::{Reach, Reached, event::Body};
    use tokio::net::TcpListener;

    use super::reach;

    async fn ask(ports: Vec<u16>, any: bool) -> Reached {
        let ports = ports.into_iter().map(u32::from).collect();
        let ask = Reach { address: "127.0.0.1".to_owned(), ports, any, limit_ms: 100 };
        match reach(ask).await {
            Ok(Body::Reached(reached)) => reached,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_named() {
        let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its number");
        assert_eq!(ask(vec![gone.port()], false).await.closed, [u32::from(gone.port())]);
    }

    #[tokio::test]
    async fn one_is_enough_where_one_is_asked_for() {
        let open = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let number = open.local_addr().expect("its number").port();
        let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its number");
        assert!(ask(vec![gone.port(), number], true).await.closed.is_empty());
        assert_eq!(ask(vec![gone.port(), number], false).await.closed, [u32::from(gone.port())]);
    }

    #[tokio::test]
    async fn one_that_opens_later_is_waited_for() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = taken.local_addr().expect("its number");
        drop(taken);
        let ports = vec![u32::from(address.port())];
        let ask = Reach { address: "127.0.0.1".to_owned(), ports, any: false, limit_ms: 60_000 };
        let open = async {
            tokio::task::yield_now().await;
            TcpListener::bind(address).await.expect("the port again")
        };
        let (reached, _open) = tokio::join!(reach(ask), open);
        let reached = reached.expect("an answer");
        assert!(
            matches!(reached, Body::Reached(Reached { closed, unreachable: false }) if closed.is_empty())
        );
    }
}
