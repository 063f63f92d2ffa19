//! A unix socket before the engine's that counts the requests which go through it and changes nothing.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::SystemTime,
};

/// One request to the engine.
#[derive(Debug, Clone)]
pub struct EngineRequest {
    /// When it went through.
    pub at: SystemTime,
    /// Method and path, without the API version and the query.
    pub line: String,
}

impl EngineRequest {
    /// Whether it only asks whether there is an engine, and which: once per process, and not counted.
    pub fn is_greeting(&self) -> bool {
        ["/_ping", "/version", "/info"].iter().any(|path| self.line.ends_with(path))
    }
}

/// The socket, as long as this lives.
#[derive(Debug)]
pub struct CountingProxy {
    path: PathBuf,
    requests: Arc<Mutex<Vec<EngineRequest>>>,
}

impl CountingProxy {
    /// Listens at `path`, before the engine of `DOCKER_HOST` or of the usual socket.
    ///
    /// # Panics
    /// When it cannot listen there, or the engine is not on a unix socket.
    pub fn start(path: &Path) -> Self {
        let engine =
            std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let engine = PathBuf::from(engine.strip_prefix("unix://").expect("the engine is on a unix socket"));
        let listener = UnixListener::bind(path).expect("a socket in the home");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (engine, seen) = (engine.clone(), Arc::clone(&seen));
                // A broken connection is for its client to notice: it is closed on both sides.
                thread::spawn(move || drop(forward(client, &engine, &seen)));
            }
        });
        Self { path: path.to_owned(), requests }
    }

    /// The value for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// What has gone through so far.
    ///
    /// # Panics
    /// Never: the list is only pushed to.
    pub fn requests(&self) -> Vec<EngineRequest> {
        self.requests.lock().expect("the list is only pushed to").clone()
    }
}

/// Both directions of one connection, until both ends are closed.
fn forward(client: UnixStream, engine: &Path, seen: &Mutex<Vec<EngineRequest>>) -> io::Result<()> {
    let mut engine = UnixStream::connect(engine)?;
    let (mut answers, mut back) = (engine.try_clone()?, client.try_clone()?);
    let answering = thread::spawn(move || {
        drop(io::copy(&mut answers, &mut back));
        drop(back.shutdown(Shutdown::Write));
    });
    let asked = ask(&mut BufReader::new(client), &mut engine, seen);
    drop(engine.shutdown(Shutdown::Write));
    drop(answering.join());
    asked
}

/// Passes requests on, one after the other, and notes each; after an upgrade only bytes are left.
fn ask(
    client: &mut impl BufRead,
    engine: &mut impl Write,
    seen: &Mutex<Vec<EngineRequest>>,
) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if client.read_until(b'\n', &mut head)? == 0 {
                return Ok(());
            }
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let line = short(text.lines().next().unwrap_or_default());
        seen.lock().expect("the list is only pushed to").push(EngineRequest { at: SystemTime::now(), line });
        engine.write_all(&head)?;
        let header = |name: &str| {
            text.lines().filter_map(|line| line.split_once(':')).find_map(|(key, value)| {
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
            })
        };
        if header("upgrade").is_some() {
            return io::copy(client, engine).map(drop);
        }
        if header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            pass_chunks(client, engine)?;
        } else if let Some(length) = header("content-length").and_then(|value| value.parse().ok()) {
            io::copy(&mut client.take(length), engine)?;
        }
    }
}

fn pass_chunks(client: &mut impl BufRead, engine: &mut impl Write) -> io::Result<()> {
    loop {
        let mut size = Vec::new();
        client.read_until(b'\n', &mut size)?;
        engine.write_all(&size)?;
        let text = String::from_utf8_lossy(&size);
        let digits = text.trim().split(';').next().unwrap_or_default().to_owned();
        let length = u64::from_str_radix(&digits, 16).map_err(io::Error::other)?;
        // The chunk and the line end behind it; the last one is empty.
        io::copy(&mut client.take(length + 2), engine)?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// `POST /v1.41/containers/create?name=x HTTP/1.1` is `POST /containers/create`.
fn short(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let version = path.strip_prefix("/v").and_then(|rest| rest.split_once('/'));
    match version {
        Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            format!("{method} /{rest}")
        }
        _ => format!("{method} {path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_whatever_their_bodies_look_like() {
        let text = "POST /v1.41/containers/create?name=x HTTP/1.1\r\nContent-Length: 22\r\n\r\nGET /not/a HTTP/1.1\r\n\r\
                    GET /_ping HTTP/1.1\r\n\r\n\
                    PUT /v1.41/containers/a/archive HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                    POST /v1.41/containers/a/attach HTTP/1.1\r\nUpgrade: tcp\r\n\r\nGET /raw HTTP/1.1\r\n\r\n";
        let (seen, mut out) = (Mutex::new(Vec::new()), Vec::new());
        ask(&mut text.as_bytes(), &mut out, &seen).expect("memory can be read");
        let requests = seen.into_inner().expect("nobody panicked");
        let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
        assert_eq!(
            lines,
            [
                "POST /containers/create",
                "GET /_ping",
                "PUT /containers/a/archive",
                "POST /containers/a/attach"
            ]
        );
        assert!(requests[1].is_greeting() && !requests[0].is_greeting());
        assert_eq!(out, text.as_bytes(), "every byte is passed on");
    }
}
