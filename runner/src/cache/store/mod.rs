//! Archives on disk: whole ones in `blobs/` and in the index, those on their way in below `uploads/`.
//!
//! An archive becomes visible by two steps that can each be the last one of a process: its file is renamed into `blobs/`,
//! then its row is written. A file without row is removed by a later start, a row without file by whoever meets it first.
//! Bytes go straight from the connection to the disk, so memory does not grow with archives.
//!
//! All methods that are not `async` wait for the disk and belong on a thread that may; `on_disk` is the way there.

mod evict;
mod index;
mod upload;

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

pub use self::evict::Limits;
pub(super) use self::{index::Entry, upload::Upload};
use self::{
    index::Index,
    upload::{Block, Uploads, discard},
};
use super::now;

/// How exact the time of the last use is kept: a lookup that comes sooner writes nothing.
const TOUCH: u64 = 60;

/// A file in `blobs/` without a row that is older than this was left by a process that is gone.
const ORPHAN: Duration = Duration::from_hours(1);

/// How many bytes an upload may write before it looks again whether the disk has room.
const LOOK: u64 = 64 << 20;

/// What the store cannot do.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// A file.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The index.
    #[error("the cache's index: {0}")]
    Index(#[from] Box<redb::Error>),
    /// There is no such upload.
    #[error("cache {0}: not reserved")]
    NotReserved(u64),
    /// It is whole already.
    #[error("cache {0}: already complete")]
    Complete(u64),
    /// It is another repository's.
    #[error("cache {0}: forbidden")]
    Foreign(u64),
    /// The request is not what its header says.
    #[error("{0}")]
    Malformed(String),
    /// What has arrived is not what was announced.
    #[error("cache {id}: {arrived} bytes have arrived, and {announced} were announced")]
    Size {
        /// The upload.
        id: u64,
        /// What has arrived.
        arrived: u64,
        /// What should have.
        announced: String,
    },
    /// The disk has no room.
    #[error("the disk of the cache has less than {0} bytes left")]
    Full(u64),
    /// The client has gone away, or sends nothing any more.
    #[error("the upload broke off: {0}")]
    BrokenOff(String),
    /// A thread has died. Its panic is in the log.
    #[error("the cache failed inside")]
    Inside,
}

type Result<T> = std::result::Result<T, StoreError>;

/// Where a request's bytes go.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// From this byte on, and this many of them.
    Range {
        /// The first byte.
        start: u64,
        /// How many.
        length: u64,
    },
    /// They are the whole archive.
    Whole,
    /// They are a block that a list will name.
    Block(String),
}

/// A cache folder, opened.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    index: Index,
    uploads: Uploads,
    limits: Limits,
}

fn failed(what: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> StoreError {
    |source| StoreError::Io { what: what(), source }
}

/// Runs what waits for the disk where that delays nobody.
pub(super) async fn on_disk<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
) -> Result<T> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || work(&store)).await.unwrap_or(Err(StoreError::Inside))
}

impl Store {
    /// Opens the folder, and makes it when it is not there.
    pub(super) fn open(folder: &Path, limits: Limits) -> Result<Self> {
        let io = |source| StoreError::Io { what: format!("the cache folder {}", folder.display()), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
        let folder = fs::canonicalize(folder).map_err(io)?;
        let uploads = Uploads::open(&folder.join("uploads")).map_err(io)?;
        let index = Index::open(&folder.join("index.redb"))?;
        let store = Self { folder, index, uploads, limits };
        store.remove_orphans();
        Ok(store)
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// How often to [`Store::sweep`].
    pub(super) const fn interval(&self) -> Duration {
        self.limits.interval
    }

    /// The newest entry for the first of `keys` that has one: by the whole key, else by its beginning. Counts as a use.
    pub(super) fn find(&self, repository: &str, version: &str, keys: &[String]) -> Result<Option<Entry>> {
        while let Some(entry) = self.index.find(repository, version, keys)? {
            if self.is_there(&entry) {
                self.touch(&entry)?;
                return Ok(Some(entry));
            }
            tracing::warn!(id = entry.id, "an archive of the cache is gone from the disk");
            self.index.remove(&[entry.id])?;
        }
        Ok(None)
    }

    /// Opens a whole archive for reading. Counts as a use.
    pub(super) fn read(&self, id: u64) -> Result<Option<(File, Entry)>> {
        let Some(entry) = self.index.get(id)?.filter(|entry| self.is_there(entry)) else { return Ok(None) };
        self.touch(&entry)?;
        let path = self.blob(id);
        match File::open(&path) {
            Ok(file) => Ok(Some((file, entry))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(|| path.display().to_string())(error)),
        }
    }

    /// Whether there is a whole archive of exactly this key and version.
    pub(super) fn has(&self, repository: &str, version: &str, key: &str) -> Result<bool> {
        Ok(self.index.has(repository, version, key)?)
    }

    /// Reserves a place for an archive of `size` bytes, if that is known.
    pub(super) fn begin(&self, repository: &str, key: &str, version: &str, size: Option<u64>) -> Arc<Upload> {
        self.uploads.begin(repository, key, version, size)
    }

    /// The upload with this id, as far as `repository` may see it.
    pub(super) fn upload(&self, id: u64, repository: Option<&str>) -> Result<Arc<Upload>> {
        let foreign = |of: &str| repository.is_some_and(|repository| repository != of);
        match self.uploads.get(id) {
            Some(upload) if foreign(&upload.repository) => Err(StoreError::Foreign(id)),
            Some(upload) => Ok(upload),
            None => match self.index.get(id)? {
                Some(entry) if foreign(&entry.repository) => Err(StoreError::Foreign(id)),
                Some(_) => Err(StoreError::Complete(id)),
                None => Err(StoreError::NotReserved(id)),
            },
        }
    }

    /// The upload of this name that was written to last.
    pub(super) fn newest_upload(&self, repository: &str, key: &str, version: &str) -> Option<u64> {
        self.uploads.newest(repository, key, version)
    }

    /// Takes bytes from a connection to the disk. How many.
    pub(super) async fn receive<B, E>(&self, upload: &Upload, place: Place, body: B) -> Result<u64>
    where
        B: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let _writing = self.uploads.write(upload);
        let (path, start) = match &place {
            Place::Range { start, .. } => (upload.path.clone(), *start),
            Place::Whole | Place::Block(_) => (upload.part(), 0),
        };
        let limit = if let Place::Range { length, .. } = &place { *length } else { u64::MAX };
        let written = self.write(upload, &path, start, limit, body).await;
        let result = match (&place, written) {
            (Place::Range { length, .. }, Ok(bytes)) if bytes != *length => {
                Err(StoreError::Malformed(format!("the request has {bytes} bytes, and its range {length}")))
            }
            (_, written) => written,
        };
        let bytes = match (result, &place) {
            (Err(error), Place::Range { .. }) => return Err(error),
            (Err(error), _) => {
                // Nobody knows of this file.
                let _ = tokio::fs::remove_file(&path).await;
                return Err(error);
            }
            (Ok(bytes), _) => bytes,
        };
        match place {
            Place::Range { start, length } => upload.arrived(start, start.saturating_add(length)),
            Place::Whole => {
                tokio::fs::rename(&path, &upload.path).await.map_err(failed(|| "an upload".to_owned()))?;
                upload.replaced(bytes);
            }
            Place::Block(name) => {
                if let Some(older) = upload.add_block(name, Block { path, size: bytes }) {
                    let _ = tokio::fs::remove_file(older.path).await; // gone with its upload at the latest
                }
            }
        }
        Ok(bytes)
    }

    async fn write<B, E>(
        &self,
        upload: &Upload,
        path: &Path,
        start: u64,
        limit: u64,
        mut body: B,
    ) -> Result<u64>
    where
        B: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let io = |source| StoreError::Io { what: format!("writing {}", path.display()), source };
        self.check_room()?;
        let mut file = tokio::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .await
            .map_err(io)?;
        if start > 0 {
            file.seek(io::SeekFrom::Start(start)).await.map_err(io)?;
        }
        let (mut written, mut looked) = (0_u64, 0);
        loop {
            let frame = match tokio::time::timeout(self.limits.stalled, body.next()).await {
                Err(_) => return Err(StoreError::BrokenOff("nothing came for a long time".to_owned())),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(StoreError::BrokenOff(error.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            written = written.saturating_add(frame.len() as u64);
            if written > limit {
                return Err(StoreError::Malformed(format!(
                    "the request has more bytes than its range ({limit})"
                )));
            }
            if written - looked > LOOK {
                looked = written;
                self.check_room()?;
            }
            if upload.is_closed() {
                return Err(StoreError::NotReserved(upload.id));
            }
            file.write_all(&frame).await.map_err(io)?;
        }
        file.flush().await.map_err(io)?;
        Ok(written)
    }

    /// Puts an archive together from its blocks, in this order; what is not named is dropped.
    pub(super) fn assemble(upload: &Upload, names: &[String]) -> Result<()> {
        let io = |source| StoreError::Io { what: format!("cache {}", upload.id), source };
        let mut blocks = upload.take_blocks();
        let missing = names.iter().find(|name| !blocks.contains_key(*name));
        if let Some(name) = missing {
            let text = format!("block {name} was not uploaded");
            upload.give_back(blocks);
            return Err(StoreError::Malformed(text));
        }
        // A list may name a block twice; each goes with its last use, so that the disk never holds everything twice.
        let mut uses: HashMap<&str, usize> = HashMap::new();
        for name in names {
            *uses.entry(name).or_default() += 1;
        }
        let path = upload.part();
        let mut whole = File::options().create_new(true).write(true).open(&path).map_err(io)?;
        let mut size = 0_u64;
        for name in names {
            let Some(block) = blocks.get(name) else { continue };
            let mut part = File::open(&block.path).map_err(io)?;
            io::copy(&mut part, &mut whole).map_err(io)?;
            size = size.saturating_add(block.size);
            let left = uses.entry(name).or_default();
            *left -= 1;
            if *left == 0 {
                fs::remove_file(&block.path).map_err(io)?;
                blocks.remove(name);
            }
        }
        for block in blocks.into_values() {
            fs::remove_file(&block.path).map_err(io)?;
        }
        fs::rename(&path, &upload.path).map_err(io)?;
        upload.replaced(size);
        Ok(())
    }

    /// Makes an upload a whole archive, which every job of its repository sees from now on. Its size.
    pub(super) fn commit(&self, id: u64, announced: Option<u64>) -> Result<u64> {
        let Some(upload) = self.uploads.take(id) else { return Err(StoreError::NotReserved(id)) };
        let stored = self.store(&upload, announced.or(upload.size));
        if stored.is_err() {
            discard(&upload);
        }
        stored
    }

    fn store(&self, upload: &Upload, announced: Option<u64>) -> Result<u64> {
        let io = |source| StoreError::Io { what: format!("storing cache {}", upload.id), source };
        let wrong = |announced: String| StoreError::Size {
            id: upload.id,
            arrived: upload.arrived_bytes(),
            announced,
        };
        let Some(size) = upload.whole() else { return Err(wrong("more, without gaps,".to_owned())) };
        if let Some(announced) = announced.filter(|announced| *announced != size) {
            return Err(wrong(announced.to_string()));
        }
        let file = File::options().create(true).truncate(false).write(true).open(&upload.path).map_err(io)?;
        // A row must never promise bytes that a power cut takes away.
        file.sync_data().map_err(io)?;
        let blob = self.blob(upload.id);
        let folder = blob.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(io)?;
        fs::rename(&upload.path, &blob).map_err(io)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let entry = Entry {
            id: upload.id,
            repository: upload.repository.clone(),
            key: upload.key.clone(),
            version: upload.version.clone(),
            size,
            created: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            used: since.as_secs(),
        };
        if let Err(error) = self.index.insert(entry) {
            let _ = fs::remove_file(&blob); // without a row it is an orphan anyway
            return Err(error.into());
        }
        discard(upload); // blocks that no list has named
        Ok(size)
    }

    /// Drops what has to go. How many archives, and their bytes.
    pub(super) fn sweep(&self) -> Result<(usize, u64)> {
        for upload in self.uploads.take_stalled(self.limits.stalled) {
            tracing::info!(id = upload.id, "an upload to the cache has stalled and is dropped");
            discard(&upload);
        }
        let entries = self.index.all()?;
        let victims = evict::victims(&entries, &self.limits, now(), self.free());
        let (mut gone, mut bytes) = (Vec::new(), 0_u64);
        for entry in victims {
            let path = self.blob(entry.id);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // The row stays, so that the next sweep tries again.
                    tracing::warn!(path = %path.display(), %error, "an archive of the cache could not be removed");
                }
                _ => {
                    gone.push(entry.id);
                    bytes = bytes.saturating_add(entry.size);
                }
            }
        }
        if !gone.is_empty() {
            self.index.remove(&gone)?;
        }
        Ok((gone.len(), bytes))
    }

    fn touch(&self, entry: &Entry) -> Result<()> {
        let now = now();
        if now.saturating_sub(entry.used) < TOUCH {
            return Ok(());
        }
        Ok(self.index.touch(entry.id, now)?)
    }

    fn blob(&self, id: u64) -> PathBuf {
        self.folder.join("blobs").join(format!("{:02x}", id & 0xff)).join(id.to_string())
    }

    fn is_there(&self, entry: &Entry) -> bool {
        fs::metadata(self.blob(entry.id)).is_ok_and(|facts| facts.len() == entry.size)
    }

    /// Bytes that the disk has left; `None` when it does not tell.
    fn free(&self) -> Option<u64> {
        let space = rustix::fs::statvfs(&self.folder).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn check_room(&self) -> Result<()> {
        let floor = self.limits.free_space;
        if self.free().is_some_and(|free| free < floor) { Err(StoreError::Full(floor)) } else { Ok(()) }
    }

    /// Removes files that a process has renamed into `blobs/` without living to write the row.
    fn remove_orphans(&self) {
        let folders = fs::read_dir(self.folder.join("blobs")).into_iter().flatten().flatten();
        for file in folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten()) {
            let id = file.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            let known = id.map(|id| self.index.get(id));
            let changed = file.metadata().map_or(0, |facts| u64::try_from(facts.ctime()).unwrap_or(0));
            let old = now().saturating_sub(changed) >= ORPHAN.as_secs();
            if matches!(known, None | Some(Ok(None)))
                && old
                && let Err(error) = fs::remove_file(file.path())
            {
                tracing::warn!(path = %file.path().display(), %error, "a file without an entry could not be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests;
