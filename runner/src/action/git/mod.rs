//! Fetches one commit of a git repository over smart HTTP, and nothing else: no work tree, no git program.
//!
//! The wire is Git's protocol version 2 (`ls-refs`, then `fetch` with depth 1). The pack that comes back is
//! verified and indexed by the `gix` crates, and the commit's tree is written as one tar archive, which is the form in
//! which a place takes it. Nothing touches the destination until it is whole.
//!
//! The protocol knows no abbreviated commits. One is completed from the history of all branches and tags, of which a
//! server that can filter sends the commits alone. Other refs do not count: on some servers anybody can make a pull
//! request whose commit begins as somebody else's.

mod http;
mod pack;
mod pkt;
mod sizes;

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
use super::reference::{is_abbreviated_commit, is_full_commit, without_credentials};
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
    /// What the server's `fetch` can beyond the ground rules: `shallow`, `filter`.
    abilities: Vec<String>,
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
            let (mut version, mut abilities) = (false, Vec::new());
            while let Some(packet) =
                body.packet().await.map_err(|error| GitError(format!("{shown}: {error}")))?
            {
                match packet.text() {
                    Some("version 2") => version = true,
                    Some(line) if line.starts_with("# service=") => {}
                    Some(line) if version => {
                        if let Some(words) = line.strip_prefix("fetch=") {
                            abilities = words.split(' ').map(str::to_owned).collect();
                        }
                    }
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
            return Ok(Self { connection, base: plain, headers, abilities });
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
    pub(super) async fn resolve(&mut self, git_ref: &str) -> Result<Option<String>, GitError> {
        if is_full_commit(git_ref) {
            return Ok(Some(git_ref.to_ascii_lowercase()));
        }
        let candidates = if git_ref.starts_with("refs/") || git_ref == "HEAD" {
            vec![git_ref.to_owned()]
        } else {
            vec![format!("refs/tags/{git_ref}"), format!("refs/heads/{git_ref}")]
        };
        let found = self.list(&candidates).await?;
        let commit = |name: &String| found.iter().find(|(known, _)| known == name);
        Ok(candidates.iter().find_map(commit).map(|(_, commit)| commit.clone()))
    }

    /// The one commit of any branch or tag that begins with `prefix`, using `scratch` for the history.
    pub(super) async fn complete(&mut self, prefix: &str, scratch: &Path) -> Result<String, GitError> {
        let mut tips: Vec<String> = self
            .list(&["refs/heads/".to_owned(), "refs/tags/".to_owned()])
            .await?
            .into_iter()
            .map(|(_, tip)| tip)
            .collect();
        tips.sort_unstable();
        tips.dedup();
        if tips.is_empty() {
            return Err(self.no_such_ref(prefix));
        }
        let pack = scratch.join("history.pack");
        let whole = Want { commits: &tips, depth: None, filter: None };
        let filtered = Want { filter: Some("tree:0"), ..whole };
        // A server may offer filters and refuse this one.
        if !self.can("filter") || self.receive(&filtered, &pack).await.is_err() {
            self.receive(&whole, &pack).await?;
        }
        let (scratch, wanted) = (scratch.to_owned(), prefix.to_ascii_lowercase());
        let found = tokio::task::spawn_blocking(move || pack::commits_with(&pack, &scratch, &wanted))
            .await
            .map_err(|error| self.wrong(error))?
            .map_err(|error| self.wrong(error))?;
        match found.as_slice() {
            [] => Err(self.no_such_ref(prefix)),
            [commit] => Ok(commit.clone()),
            [first, second, ..] => Err(GitError(format!(
                "`{prefix}` is ambiguous in {}: {} commits begin so, {first} and {second} among them",
                self.base,
                found.len()
            ))),
        }
    }

    /// The sentence about a ref that is not there.
    pub(super) fn no_such_ref(&self, git_ref: &str) -> GitError {
        let kinds = if is_abbreviated_commit(git_ref) { "tag, branch or commit" } else { "tag or branch" };
        GitError(format!("{} has no {kinds} `{git_ref}`", self.base))
    }

    fn can(&self, ability: &str) -> bool {
        self.abilities.iter().any(|known| known == ability)
    }

    fn wrong(&self, what: impl std::fmt::Display) -> GitError {
        GitError(format!("{}: {what}", self.base))
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

    /// Writes the tree of `commit` as a tar archive to `archive`, using `scratch` for the pack. Unless it is to be
    /// `shallow`, the commit's history comes along, as it does from a server that cannot leave it out.
    pub(super) async fn fetch(
        &mut self,
        commit: &str,
        shallow: bool,
        scratch: &Path,
        archive: &Path,
    ) -> Result<(), GitError> {
        let path = scratch.join("incoming.pack");
        let depth = (shallow && self.can("shallow")).then_some(1);
        let commits = [commit.to_owned()];
        self.receive(&Want { commits: &commits, depth, filter: None }, &path).await?;
        let (scratch, archive, commit) = (scratch.to_owned(), archive.to_owned(), commit.to_owned());
        tokio::task::spawn_blocking(move || pack::to_archive(&path, &scratch, &commit, &archive))
            .await
            .map_err(|error| self.wrong(error))?
            .map_err(|error| self.wrong(error))
    }

    /// Asks for objects and writes the pack that comes to `path`.
    async fn receive(&mut self, want: &Want<'_>, path: &Path) -> Result<(), GitError> {
        let mut body = self.command(want.request()).await?;
        let unwritable = |error| GitError(format!("{}: cannot write a pack: {error}", self.base));
        let refused = |words: &[u8]| {
            GitError(format!("{}: the server says: {}", self.base, String::from_utf8_lossy(words).trim()))
        };
        let mut file = tokio::fs::File::create(path).await.map_err(unwritable)?;
        let (mut in_pack, mut written) = (false, 0u64);
        while let Some(packet) = body.packet().await.map_err(|error| self.wrong(error))? {
            let Packet::Data(line) = packet else { continue };
            if !in_pack {
                if line.starts_with(b"packfile") {
                    in_pack = true;
                } else if let Some(message) = line.strip_prefix(b"ERR ") {
                    return Err(refused(message));
                }
                continue;
            }
            match line.split_first() {
                Some((1, data)) => {
                    written += data.len() as u64;
                    if written > PACK_LIMIT {
                        return Err(
                            self.wrong(format!("the repository is larger than {} MiB", PACK_LIMIT >> 20))
                        );
                    }
                    file.write_all(data).await.map_err(unwritable)?;
                }
                Some((3, message)) => return Err(refused(message)),
                _ => {}
            }
        }
        file.flush().await.map_err(unwritable)?;
        if written == 0 {
            return Err(self.wrong(format!("the server has no commit {}", want.commits.join(", "))));
        }
        Ok(())
    }
}

/// What is asked of a server's `fetch`.
#[derive(Debug, Clone, Copy)]
struct Want<'w> {
    commits: &'w [String],
    /// How many commits of history; `None` for all.
    depth: Option<u32>,
    /// What is left out.
    filter: Option<&'w str>,
}

impl Want<'_> {
    fn request(&self) -> Bytes {
        let mut request = Request::default()
            .line("command=fetch")
            .line(concat!("agent=esteira/", env!("CARGO_PKG_VERSION")))
            .line("object-format=sha1")
            .delimiter()
            .line("no-progress")
            .line("ofs-delta");
        if let Some(depth) = self.depth {
            request = request.line(&format!("deepen {depth}"));
        }
        if let Some(filter) = self.filter {
            request = request.line(&format!("filter {filter}"));
        }
        for commit in self.commits {
            request = request.line(&format!("want {commit}"));
        }
        request.line("done").flush()
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
