//! The container's health check: the same program asks the running one, so the image needs no other tool.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long connecting, asking and reading may take, each.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the service counts as unhealthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Nobody answers there.
    #[error("unhealthy: cannot ask {address}: {source}")]
    Unreachable {
        /// Where we asked.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody answered, but not "healthy".
    #[error("unhealthy: {address} answered {answer:?}")]
    Refused {
        /// Where we asked.
        address: String,
        /// The first line of the answer.
        answer: String,
    },
}

/// Asks `/health` of the service that listens on `host` and `port`.
///
/// `/health` and not `/ready`: a lost database must not make the orchestrator kill every replica. The port opens
/// only after the database was usable once, so a misconfigured new replica still never becomes healthy.
///
/// # Errors
/// When nobody answers within two seconds, or the answer is not 200.
pub fn check(host: &str, port: u16) -> Result<(), HealthError> {
    let address = format!("{host}:{port}");
    let unreachable = |source| HealthError::Unreachable { address: address.clone(), source };
    let answer = resolve(host, port).and_then(ask).map_err(unreachable)?;
    if answer.starts_with("HTTP/1.1 200 ") {
        Ok(())
    } else {
        let answer = answer.lines().next().unwrap_or_default().to_owned();
        Err(HealthError::Refused { address, answer })
    }
}

/// An address that stands for all interfaces is asked on loopback.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let address = (host, port).to_socket_addrs()?.next();
    let mut address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(address)
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_interfaces_is_asked_on_loopback() {
        assert_eq!(resolve("0.0.0.0", 5000).expect("resolves").to_string(), "127.0.0.1:5000");
        assert_eq!(resolve("::", 5000).expect("resolves").to_string(), "[::1]:5000");
        assert_eq!(resolve("127.0.0.2", 1).expect("resolves").to_string(), "127.0.0.2:1");
    }

    #[test]
    fn another_answer_than_200_is_unhealthy_and_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            let read = stream.read(&mut request).expect("a request");
            assert!(request[..read].starts_with(b"GET /health "));
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").expect("answered");
        });
        let error = check("127.0.0.1", port).expect_err("unhealthy").to_string();
        assert!(error.contains("HTTP/1.1 503 Service Unavailable"), "{error}");
        server.join().expect("served");
        let error = check("127.0.0.1", port).expect_err("nobody there").to_string();
        assert!(error.contains("cannot ask"), "{error}");
    }
}
