//! A git server on loopback: git's own upload-pack behind the smallest HTTP that a clone needs.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

/// Serves the repositories below a folder as long as it lives.
pub(crate) struct GitServer {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    port: u16,
}

impl GitServer {
    pub(crate) fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (root, log, stopped) = (root.to_owned(), asked.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (root, log) = (root.clone(), log.clone());
                std::thread::spawn(move || serve(stream, &root, &log));
            }
        });
        Self { url: format!("http://127.0.0.1:{port}"), asked, stop, port }
    }

    /// How often it was asked since the last time.
    pub(crate) fn count(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap()).len()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener; there may be nobody to wake.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Answers requests of one connection until it ends.
fn serve(stream: TcpStream, root: &Path, log: &Mutex<Vec<Asked>>) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let mut output = stream;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let (mut length, mut authorization) = (0, None);
        loop {
            let mut header = String::new();
            input.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "authorization" => authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body).ok()?;
        log.lock().unwrap().push(Asked { path: target.clone(), authorization });
        let (status, kind, answer) = answer(&method, &target, &body, root);
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", answer.len());
        output.write_all(head.as_bytes()).ok()?;
        output.write_all(&answer).ok()?;
    }
}

fn answer(method: &str, target: &str, body: &[u8], root: &Path) -> (&'static str, &'static str, Vec<u8>) {
    let path = target.split('?').next().unwrap_or_default();
    let repository = |suffix: &str| {
        let folder: PathBuf = root.join(path.strip_suffix(suffix)?.trim_start_matches('/'));
        folder.join(".git").is_dir().then_some(folder)
    };
    if let ("GET", Some(folder)) = (method, repository("/info/refs")) {
        let kind = "application/x-git-upload-pack-advertisement";
        return ("200 OK", kind, upload_pack(&["--advertise-refs"], &folder, &[]));
    }
    if let ("POST", Some(folder)) = (method, repository("/git-upload-pack")) {
        return ("200 OK", "application/x-git-upload-pack-result", upload_pack(&[], &folder, body));
    }
    ("404 Not Found", "text/plain", b"no\n".to_vec())
}

fn upload_pack(words: &[&str], folder: &Path, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(["upload-pack", "--stateless-rpc"])
        .args(words)
        .arg(folder)
        .env("GIT_PROTOCOL", "version=2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().stdout
}

/// Runs git in a folder; answers what it prints.
pub(crate) fn git(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"])
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes a repository with these files, a commit and a tag; answers the commit.
pub(crate) fn repository(folder: &Path, files: &[(&str, &str)], tag: &str) -> String {
    std::fs::create_dir_all(folder).unwrap();
    let git = |words: &[&str]| git(folder, words);
    if !folder.join(".git").exists() {
        git(&["init", "-q", "-b", "main"]);
    }
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    git(&["add", "-A"]);
    git(&["commit", "-q", "--allow-empty", "-m", "x"]);
    git(&["tag", "-f", "-a", tag, "-m", "tag"]);
    git(&["rev-parse", "HEAD"])
}
