//! The actions on the runner's disk: one tar archive per commit, shared by all jobs.
//!
//! # Layout
//!
//! ```text
//! <root>/archives/<repository key>/<commit>.tar   the tree of a commit, complete or absent
//! <root>/archives/<repository key>/<commit>.N     its patched copy (`patch`); empty where there is nothing to patch
//! <root>/refs/<key of repository and ref>         the commit that a tag or branch stood for when last asked
//! <root>/refs/<key of repository and its start>   the commit that an abbreviated one has turned out to be
//! <root>/scratch/                                 unfinished work, of no meaning after a crash
//! ```
//!
//! An archive appears by a rename and never changes, so readers need no lock and a `kill -9` at any instant leaves the
//! store whole. Whoever uses an archive holds a shared lock on it; eviction takes only what it can lock alone. A full
//! commit that is here is never fetched again; a tag or branch is asked for each time (that is one small request),
//! unless the store is offline. An abbreviated commit that was completed once stands for that commit ever after, even
//! when a later one, a tag or a branch begins in the same way.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::git::{GitError, GitNetwork, Remote, Session};
use super::reference::{clean_path, is_abbreviated_commit, is_full_commit};

/// How the store behaves.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Ask no server: what is not here cannot be had (`runner.offline`, `exec --offline`).
    pub offline: bool,
    /// The size in bytes above which unused archives are removed, oldest use first.
    pub limit: u64,
    /// Fetch no more than the commit itself (`runner.action_shallow_clone`).
    pub shallow: bool,
}

impl Default for StoreOptions {
    /// Online, 4 GiB, no history.
    fn default() -> Self {
        Self { offline: false, limit: 4 * 1024 * 1024 * 1024, shallow: true }
    }
}

/// The suffix of patched copies: another one when what is patched changes.
const PATCHED: &str = "1";

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct ActionStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    options: StoreOptions,
    network: GitNetwork,
    /// One fetch at a time for each repository and ref.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A folder for unfinished work, removed when it is dropped.
struct Scratch {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// An archive in use; it cannot be evicted while this lives.
#[derive(Debug)]
pub struct Archive {
    /// The commit whose tree it holds.
    pub commit: String,
    path: PathBuf,
    _lock: File,
    /// Removes what belongs to nobody else.
    _temporary: Option<tempfile::TempPath>,
}

impl ActionStore {
    /// Opens the store under `root`, makes its folders and removes what a crash has left half done.
    pub fn open(root: PathBuf, options: StoreOptions, network: GitNetwork) -> io::Result<Self> {
        for folder in ["archives", "refs", "scratch"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let store = Self { inner: Arc::new(Inner { root, options, network, turns: Mutex::default() }) };
        store.remove_abandoned();
        Ok(store)
    }

    /// The tree of `git_ref` of `remote`: from the disk where that is certain, otherwise from the server.
    pub async fn obtain(&self, remote: &Remote, git_ref: &str) -> Result<Arc<Archive>, GitError> {
        let repository = key(&[&super::reference::without_credentials(&remote.url)]);
        let turn = self.turn(&format!("{repository}@{git_ref}"));
        let _turn = turn.lock().await;
        let shown = super::reference::without_credentials(&remote.url);
        let note = |words: &[&str]| self.inner.root.join("refs").join(key(words));
        let completed = is_abbreviated_commit(git_ref).then(|| note(&[&shown, git_ref, "completed"]));
        let certain = match &completed {
            Some(completed) => noted(completed),
            None => is_full_commit(git_ref).then(|| git_ref.to_ascii_lowercase()),
        };
        if let Some(archive) = certain.as_ref().and_then(|commit| self.lookup(&repository, commit)) {
            return Ok(archive);
        }
        let known = note(&[&shown, git_ref]);
        if self.inner.options.offline {
            return noted(&known).and_then(|commit| self.lookup(&repository, &commit)).ok_or_else(|| {
                GitError(format!(
                    "{shown} at `{git_ref}` is not in the action store, and the runner is offline"
                ))
            });
        }
        let mut session = Session::open(&self.inner.network, remote).await?;
        let (commit, note) = match (session.resolve(certain.as_deref().unwrap_or(git_ref)).await?, completed)
        {
            (Some(commit), _) => (commit, known),
            (None, Some(completed)) => {
                let scratch = self.scratch(&shown)?;
                (session.complete(git_ref, scratch.path()).await?, completed)
            }
            (None, None) => return Err(session.no_such_ref(git_ref)),
        };
        let archive = match self.lookup(&repository, &commit) {
            Some(archive) => archive,
            None => self.fetch(&mut session, &repository, &commit, &shown).await?,
        };
        // It saves work and serves the offline mode: not being able to write it is no reason to fail a job.
        if let Err(error) = write_atomically(&note, commit.as_bytes()) {
            tracing::warn!(%error, "cannot note the commit of a ref in the action store");
        }
        Ok(archive)
    }

    /// A folder for unfinished work that says by its lock that somebody is at it.
    fn scratch(&self, shown: &str) -> Result<Scratch, GitError> {
        let make = || {
            let folder =
                tempfile::Builder::new().prefix("fetch-").tempdir_in(self.inner.root.join("scratch"))?;
            let lock = File::create(folder.path().join("lock"))?;
            flock(&lock, FlockOperation::LockShared)?;
            Ok(Scratch { folder, _lock: lock })
        };
        make().map_err(|error: io::Error| cannot_keep(shown, &error))
    }

    async fn fetch(
        &self,
        session: &mut Session,
        repository: &str,
        commit: &str,
        shown: &str,
    ) -> Result<Arc<Archive>, GitError> {
        let failed = |error: io::Error| cannot_keep(shown, &error);
        let scratch = self.scratch(shown)?;
        let unfinished = scratch.path().join("tree.tar");
        session.fetch(commit, self.inner.options.shallow, scratch.path(), &unfinished).await?;
        let path = self.archive_path(repository, commit);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::rename(&unfinished, &path).map_err(failed)?;
        let archive = self
            .lookup(repository, commit)
            .ok_or_else(|| GitError(format!("{shown} vanished from the action store while it was stored")))?;
        self.evict();
        Ok(archive)
    }

    /// The same archive with its scripts patched for servers that are not github.com; `None` where they need none.
    pub(crate) async fn patched(&self, archive: &Arc<Archive>) -> io::Result<Option<Arc<Archive>>> {
        let turn = self.turn(&archive.path.to_string_lossy());
        let _turn = turn.lock().await;
        let path = archive.path.with_extension(PATCHED);
        if let Some(copy) = hold(&archive.commit, path.clone()) {
            return Ok((copy.path.metadata()?.len() > 0).then_some(copy));
        }
        let (from, scratch) = (archive.clone(), self.inner.root.join("scratch"));
        let making = tokio::task::spawn_blocking(move || -> io::Result<()> {
            let copy = tempfile::NamedTempFile::new_in(scratch)?;
            super::patch::patch(&from.path, copy.path())?;
            copy.persist(path).map_err(|error| error.error)?;
            Ok(())
        });
        making.await.map_err(io::Error::other)??;
        let copy = hold(&archive.commit, archive.path.with_extension(PATCHED));
        Ok(copy.filter(|copy| copy.path.metadata().is_ok_and(|facts| facts.len() > 0)))
    }

    /// A local folder as an archive, for an action that stands in for a repository.
    pub(crate) async fn pack_folder(&self, folder: &Path) -> Result<Arc<Archive>, GitError> {
        let (folder, scratch) = (folder.to_owned(), self.inner.root.join("scratch"));
        let failed = |error: &dyn std::fmt::Display| {
            GitError(format!("The folder {} cannot be read: {error}.", folder.display()))
        };
        let from = folder.clone();
        let packed = tokio::task::spawn_blocking(move || -> io::Result<Archive> {
            let file = tempfile::Builder::new().prefix("local-").suffix(".tar").tempfile_in(scratch)?;
            let mut tar = tar::Builder::new(io::BufWriter::new(file.reopen()?));
            tar.follow_symlinks(false);
            tar.append_dir_all("", &from)?;
            tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
            let (file, path) = file.into_parts();
            Ok(Archive {
                commit: "local".to_owned(),
                path: path.to_path_buf(),
                _lock: file,
                _temporary: Some(path),
            })
        });
        packed.await.map_err(|error| failed(&error))?.map(Arc::new).map_err(|error| failed(&error))
    }

    /// An archive that is here, marked as used now.
    fn lookup(&self, repository: &str, commit: &str) -> Option<Arc<Archive>> {
        hold(commit, self.archive_path(repository, commit))
    }

    fn archive_path(&self, repository: &str, commit: &str) -> PathBuf {
        self.inner.root.join("archives").join(repository).join(format!("{commit}.tar"))
    }

    fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.inner.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(name.to_owned()).or_default().clone()
    }

    /// Removes archives that nobody uses until the store fits its limit, the longest unused first.
    fn evict(&self) {
        let mut archives: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for folder in entries(&self.inner.root.join("archives")) {
            for path in entries(&folder) {
                if let Ok(facts) = fs::metadata(&path) {
                    archives.push((facts.modified().unwrap_or(SystemTime::UNIX_EPOCH), facts.len(), path));
                }
            }
        }
        let mut total: u64 = archives.iter().map(|(_, size, _)| size).sum();
        archives.sort();
        for (_, size, path) in archives {
            if total <= self.inner.options.limit {
                break;
            }
            let Ok(file) = File::open(&path) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && fs::remove_file(&path).is_ok()
            {
                total -= size;
            }
        }
    }

    /// Removes scratch folders whose maker is gone: their lock is free. Files in it, and beside the notes of refs, have
    /// no lock of their own; only their age can tell.
    fn remove_abandoned(&self) {
        let old = |path: &Path| {
            fs::metadata(path)
                .and_then(|facts| facts.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 3600))
        };
        let unnamed = entries(&self.inner.root.join("refs"))
            .into_iter()
            .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tmp")));
        for path in entries(&self.inner.root.join("scratch")).into_iter().chain(unnamed) {
            let free = match File::open(path.join("lock")) {
                Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
                // A file, or just being made, or dead before it had a lock.
                Err(_) => old(&path),
            };
            let remove = || if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if free && let Err(error) = remove() {
                tracing::warn!(%error, path = %path.display(), "cannot remove unfinished work of the action store");
            }
        }
    }
}

/// An archive that is here, held against eviction and marked as used now.
fn hold(commit: &str, path: PathBuf) -> Option<Arc<Archive>> {
    let file = File::open(&path).ok()?;
    flock(&file, FlockOperation::LockShared).ok()?;
    // Eviction may have unlinked it between the two calls.
    if !path.exists() {
        return None;
    }
    // The time of last use; a store that cannot be written still serves.
    let _ = file.set_modified(SystemTime::now());
    Some(Arc::new(Archive { commit: commit.to_owned(), path, _lock: file, _temporary: None }))
}

impl Archive {
    /// Where the archive is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first of `names` that is a file in it, and its content; links are followed inside the archive, one that leads
    /// out of it is an error, and so is a file longer than `limit` bytes.
    pub fn read_first(&self, names: &[String], limit: u64) -> io::Result<Option<(String, Vec<u8>)>> {
        let mut wanted: Vec<(&String, String)> = names.iter().map(|name| (name, name.clone())).collect();
        for _ in 0..LINKS {
            let mut links = HashMap::new();
            let paths: Vec<&str> = wanted.iter().map(|(_, path)| path.as_str()).collect();
            if let Some((at, content)) = self.scan(&paths, limit, &mut links)? {
                return Ok(wanted.get(at).map(|(name, _)| ((*name).clone(), content)));
            }
            let mut followed = false;
            for (_, path) in &mut wanted {
                if let Some(real) = follow(path, &links)? {
                    (*path, followed) = (real, true);
                }
            }
            if !followed {
                return Ok(None);
            }
        }
        Err(io::Error::other("its links lead in a circle"))
    }

    /// The first of `paths` that is a regular file; without one, all links are in `links`.
    fn scan(
        &self,
        paths: &[&str],
        limit: u64,
        links: &mut HashMap<String, String>,
    ) -> io::Result<Option<(usize, Vec<u8>)>> {
        let mut found: Option<(usize, Vec<u8>)> = None;
        let mut tar = tar::Archive::new(File::open(&self.path)?);
        for entry in tar.entries_with_seek()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            if entry.header().entry_type().is_symlink()
                && let Some(target) = entry.link_name()?
            {
                links.insert(path, target.to_string_lossy().into_owned());
                continue;
            }
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let Some(rank) = paths.iter().position(|wanted| *wanted == path) else { continue };
            if found.as_ref().is_some_and(|(best, _)| *best <= rank) {
                continue;
            }
            if entry.size() > limit {
                return Err(io::Error::other(format!("{path} is longer than {limit} bytes")));
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            found = Some((rank, content));
            if rank == 0 {
                break;
            }
        }
        Ok(found)
    }
}

/// How many links may lead from one to the next.
const LINKS: usize = 16;

/// The path behind the first link on the way of `path`; `None` when there is none.
fn follow(path: &str, links: &HashMap<String, String>) -> io::Result<Option<String>> {
    let mut ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let Some((link, rest)) = ends.find_map(|end| {
        let (link, rest) = path.split_at(end);
        links.contains_key(link).then_some((link, rest))
    }) else {
        return Ok(None);
    };
    let target = links.get(link).map_or("", String::as_str);
    let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
    let leaves = || io::Error::other(format!("{link} is a link that leads out of its repository"));
    if target.starts_with('/') {
        return Err(leaves());
    }
    clean_path(&format!("{folder}/{target}{rest}"), link).map(Some).map_err(|_| leaves())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|list| list.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

fn cannot_keep(shown: &str, error: &io::Error) -> GitError {
    GitError(format!("cannot keep {shown} in the action store: {error}"))
}

/// The commit that a file under `refs` names.
fn noted(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().filter(|commit| is_full_commit(commit))
}

fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, content)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A file name for any texts: part of their hash.
fn key(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
