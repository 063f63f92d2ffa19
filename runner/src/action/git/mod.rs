//! Fetches one commit of a git repository over smart HTTP, and nothing else: no history, no work tree, no git program.
//!
//! The wire is Git's protocol version 2 (`ls-refs`, then `fetch` with depth 1). The pack that comes back is
//! verified and indexed by the `gix` crates, and the commit's tree is written as one tar archive, which is the form in
//! which a place takes it. Nothing touches the destination until it is whole.

mod http;
mod pack;
mod pkt;

use std::{path::Path, time::Duration};

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{io::AsyncWriteExt, time::timeout};

pub use self::http::{GitNetwork, default_tls};
use self::{
    http::{Connection, HttpError},
    pkt::{Packet, Request, decode},
};
use super::reference::{is_full_commit, without_credentials};
use crate::secret::Secret;

/// The longest silence in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// The largest pack that is taken: beyond it the disk is in danger and the action is none.
const PACK_LIMIT: u64 = 2 * 1024 * 1024 * 1024;
/// The longest list of refs that is read for a hint.
const ADVERTISEMENT_LIMIT: usize = 32 * 1024 * 1024;

/// A repository to fetch from.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The clone URL; `user:password@` in it is used and never shown.
    pub url: String,
    /// HTTP basic password for user `token`: the job's token, and only for the job's own server.
    pub token: Option<Secret<String>>,
    /// Whether this is the job's own server, with its own trust.
    pub own_server: bool,
}

/// Why a commit could not be had: one sentence without credentials.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct GitError(pub(super) String);

/// A conversation with one repository.
pub(super) struct Session {
    connection: Connection,
    base: String,
    headers: HeaderMap,
}

impl Session {
    /// Connects and makes sure that a git server of version 2 answers there.
    pub(super) async fn open(network: &GitNetwork, remote: &Remote) -> Result<Self, GitError> {
        let shown = without_credentials(&remote.url);
        let mut base = remote.url.trim_end_matches('/').to_owned();
        for _ in 0..5 {
            let headers = headers(&base, remote);
            let plain = without_credentials(&base);
            let url: Uri = format!("{plain}/info/refs?service=git-upload-pack")
                .parse()
                .map_err(|_| GitError(format!("{shown} is no URL")))?;
            let failed = |error: HttpError| GitError(explain(&shown, &error, remote.token.is_some()));
            let mut connection = network.connect(&url, remote.own_server).await.map_err(failed)?;
            let response =
                connection.send(Method::GET, &url, headers.clone(), Bytes::new()).await.map_err(failed)?;
            if response.status().is_redirection() {
                base = redirected(&url, response.headers())
                    .ok_or_else(|| GitError(format!("{shown} redirects to nowhere")))?;
                continue;
            }
            let mut body = Body::new(response.into_body());
            let mut version = false;
            while let Some(packet) =
                body.packet().await.map_err(|error| GitError(format!("{shown}: {error}")))?
            {
                match packet.text() {
                    Some("version 2") => version = true,
                    Some(line) if line.starts_with("# service=") => {}
                    _ if version => {}
                    Some(_) => {
                        return Err(GitError(format!(
                            "{shown} speaks only an old version of git's protocol; version 2 is needed"
                        )));
                    }
                    None => {}
                }
            }
            if !version {
                return Err(GitError(format!("{shown} is no git repository that can be cloned over http")));
            }
            return Ok(Self { connection, base: plain, headers });
        }
        Err(GitError(format!("{shown} redirects too often")))
    }

    async fn command(&mut self, body: Bytes) -> Result<Body, GitError> {
        let url: Uri = format!("{}/git-upload-pack", self.base)
            .parse()
            .map_err(|_| GitError(format!("{} is no URL", self.base)))?;
        let mut headers = self.headers.clone();
        headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-git-upload-pack-request"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/x-git-upload-pack-result"));
        let response = self
            .connection
            .send(Method::POST, &url, headers, body)
            .await
            .map_err(|error| GitError(explain(&self.base, &error, false)))?;
        if response.status() != StatusCode::OK {
            return Err(GitError(format!("{} answered {}", self.base, response.status())));
        }
        Ok(Body::new(response.into_body()))
    }

    /// The commit that a tag, branch or full ref name stands for; tags before branches, as git itself looks.
    pub(super) async fn resolve(&mut self, git_ref: &str) -> Result<String, GitError> {
        if is_full_commit(git_ref) {
            return Ok(git_ref.to_ascii_lowercase());
        }
        let candidates = if git_ref.starts_with("refs/") || git_ref == "HEAD" {
            vec![git_ref.to_owned()]
        } else {
            vec![format!("refs/tags/{git_ref}"), format!("refs/heads/{git_ref}")]
        };
        let found = self.list(&candidates).await?;
        for name in &candidates {
            if let Some((_, commit)) = found.iter().find(|(known, _)| known == name) {
                return Ok(commit.clone());
            }
        }
        Err(GitError(self.no_such_ref(git_ref).await))
    }

    /// A sentence about a ref that is not there, with the full commit for an abbreviated one.
    async fn no_such_ref(&mut self, git_ref: &str) -> String {
        let looks_short =
            (4..40).contains(&git_ref.len()) && git_ref.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !looks_short {
            return format!("{} has no tag or branch `{git_ref}`", self.base);
        }
        let full = match self.list(&[]).await {
            Ok(refs) => refs.into_iter().map(|(_, commit)| commit).find(|commit| commit.starts_with(git_ref)),
            Err(_) => None,
        };
        let hint = full.map_or_else(String::new, |commit| format!(": {commit}"));
        format!(
            "{} has no tag or branch `{git_ref}`; an abbreviated commit is not accepted, write all 40 characters{hint}",
            self.base
        )
    }

    async fn list(&mut self, prefixes: &[String]) -> Result<Vec<(String, String)>, GitError> {
        let mut request = Request::default()
            .line("command=ls-refs")
            .line(concat!("agent=esteira/", env!("CARGO_PKG_VERSION")))
            .line("object-format=sha1")
            .delimiter()
            .line("peel");
        for prefix in prefixes {
            request = request.line(&format!("ref-prefix {prefix}"));
        }
        let mut body = self.command(request.flush()).await?;
        let mut refs = Vec::new();
        let mut read = 0;
        while let Some(packet) =
            body.packet().await.map_err(|error| GitError(format!("{}: {error}", self.base)))?
        {
            let Some(line) = packet.text() else { continue };
            read += line.len();
            if read > ADVERTISEMENT_LIMIT {
                return Err(GitError(format!("{} has too many refs", self.base)));
            }
            let mut words = line.split(' ');
            let (Some(id), Some(name)) = (words.next(), words.next()) else { continue };
            if !is_full_commit(id) {
                continue;
            }
            let peeled = words.find_map(|word| word.strip_prefix("peeled:")).unwrap_or(id);
            refs.push((name.to_owned(), peeled.to_owned()));
        }
        Ok(refs)
    }

    /// Writes the tree of `commit` as a tar archive to `archive`, using `scratch` for the pack.
    pub(super) async fn fetch(
        &mut self,
        commit: &str,
        scratch: &Path,
        archive: &Path,
    ) -> Result<(), GitError> {
        let request = Request::default()
            .line("command=fetch")
            .line(concat!("agent=esteira/", env!("CARGO_PKG_VERSION")))
            .line("object-format=sha1")
            .delimiter()
            .line("no-progress")
            .line("ofs-delta")
            .line("deepen 1")
            .line(&format!("want {commit}"))
            .line("done")
            .flush();
        let mut body = self.command(request).await?;
        let path = scratch.join("incoming.pack");
        let wrong = |what: String| GitError(format!("{}: {what}", self.base));
        let mut file = tokio::fs::File::create(&path)
            .await
            .map_err(|error| wrong(format!("cannot write a pack: {error}")))?;
        let (mut in_pack, mut written) = (false, 0u64);
        while let Some(packet) = body.packet().await.map_err(|error| wrong(error.to_string()))? {
            let Packet::Data(line) = packet else { continue };
            if !in_pack {
                if line.starts_with(b"packfile") {
                    in_pack = true;
                } else if let Some(message) = line.strip_prefix(b"ERR ") {
                    return Err(wrong(format!(
                        "the server says: {}",
                        String::from_utf8_lossy(message).trim()
                    )));
                }
                continue;
            }
            match line.split_first() {
                Some((1, data)) => {
                    written += data.len() as u64;
                    if written > PACK_LIMIT {
                        return Err(wrong(format!("the repository is larger than {} MiB", PACK_LIMIT >> 20)));
                    }
                    file.write_all(data)
                        .await
                        .map_err(|error| wrong(format!("cannot write a pack: {error}")))?;
                }
                Some((3, message)) => {
                    return Err(wrong(format!(
                        "the server says: {}",
                        String::from_utf8_lossy(message).trim()
                    )));
                }
                _ => {}
            }
        }
        file.flush().await.map_err(|error| wrong(format!("cannot write a pack: {error}")))?;
        if written == 0 {
            return Err(wrong(format!("the server has no commit {commit}")));
        }
        let (scratch, archive, commit) = (scratch.to_owned(), archive.to_owned(), commit.to_owned());
        tokio::task::spawn_blocking(move || pack::to_archive(&path, &scratch, &commit, &archive))
            .await
            .map_err(|error| wrong(error.to_string()))?
            .map_err(|error| wrong(error.to_string()))
    }
}

/// A response body, packet by packet.
struct Body {
    body: Incoming,
    buffer: BytesMut,
}

impl Body {
    fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next packet; `None` at the end of the body.
    async fn packet(&mut self) -> Result<Option<Packet>, HttpError> {
        loop {
            if let Some(packet) =
                decode(&mut self.buffer).map_err(|error| HttpError::Transfer(error.to_string()))?
            {
                return Ok(Some(packet));
            }
            let frame = timeout(SILENCE, self.body.frame())
                .await
                .map_err(|_| HttpError::Transfer(format!("nothing came for {} s", SILENCE.as_secs())))?;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    return Err(HttpError::Transfer(format!("the connection broke: {error}")));
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(HttpError::Transfer("the answer ended too early".to_owned())),
            }
        }
    }
}

fn headers(base: &str, remote: &Remote) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Git-Protocol", HeaderValue::from_static("version=2"));
    let own = authority(base).is_some_and(|(credentials, _)| credentials.is_some());
    let credentials = match (authority(base), &remote.token) {
        (Some((Some(credentials), _)), _) => Some(credentials),
        // A redirect to another host does not get the token.
        (Some((None, host)), Some(token))
            if authority(&remote.url).is_some_and(|(_, first)| first == host) =>
        {
            Some(format!("token:{}", token.expose()))
        }
        _ => None,
    };
    debug_assert!(!own || credentials.is_some(), "credentials of the URL are used");
    if let Some(credentials) = credentials {
        let value = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials));
        if let Ok(mut value) = HeaderValue::from_str(&value) {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
    }
    headers
}

/// `user:password` (decoded) and `host[:port]` of a URL.
fn authority(url: &str) -> Option<(Option<String>, String)> {
    let url = url::Url::parse(url).ok()?;
    let host = url.host_str()?;
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let credentials = (!url.username().is_empty() || url.password().is_some())
        .then(|| format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or(""))));
    Some((credentials, host))
}

/// The repository's new address out of a redirected `info/refs`.
fn redirected(from: &Uri, headers: &HeaderMap) -> Option<String> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let url = url::Url::parse(&from.to_string()).ok()?.join(location).ok()?;
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    let text = url.as_str().split('?').next()?.strip_suffix("/info/refs")?;
    Some(text.to_owned())
}

fn explain(url: &str, error: &HttpError, with_token: bool) -> String {
    match error {
        HttpError::Status(StatusCode::NOT_FOUND) => {
            format!("{url} does not exist, or may not be read without credentials (404)")
        }
        HttpError::Status(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => {
            let who = if with_token { "with the job's token" } else { "without credentials" };
            format!("{url} does not exist or may not be read {who} ({})", status.as_u16())
        }
        other => format!("{url}: {other}"),
    }
}
