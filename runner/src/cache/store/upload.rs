//! Archives on their way in. They live in memory and in a folder of this process, never in the index: an upload that its
//! process does not survive has never been.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

/// One archive on its way in.
#[derive(Debug)]
pub(in crate::cache) struct Upload {
    pub(in crate::cache) id: u64,
    pub(in crate::cache) repository: String,
    pub(in crate::cache) key: String,
    pub(in crate::cache) version: String,
    /// What the client has announced.
    pub(in crate::cache) size: Option<u64>,
    /// Where its bytes are.
    pub(super) path: PathBuf,
    progress: Mutex<Progress>,
    parts: AtomicU64,
    /// It was taken out: what is still written is written for nobody.
    closed: AtomicBool,
}

/// How far it is.
#[derive(Debug)]
struct Progress {
    /// What has arrived, `start..end`, sorted and without overlaps.
    ranges: Vec<(u64, u64)>,
    /// Blocks that wait for their list.
    blocks: HashMap<String, Block>,
    moved: Instant,
    /// Requests that write now.
    writers: usize,
    /// Grows with every write, over all uploads.
    turn: u64,
}

/// A block that waits for its list.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) path: PathBuf,
    pub(super) size: u64,
}

impl Upload {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file for a part of it, never used before.
    pub(super) fn part(&self) -> PathBuf {
        self.path.with_extension(self.parts.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Notes that `start..end` has arrived.
    pub(super) fn arrived(&self, start: u64, end: u64) {
        let mut progress = self.progress();
        progress.ranges.push((start, end));
        progress.ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(progress.ranges.len());
        for (start, end) in std::mem::take(&mut progress.ranges) {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        progress.ranges = merged;
    }

    /// Everything has arrived anew: `0..size`.
    pub(super) fn replaced(&self, size: u64) {
        self.progress().ranges = if size == 0 { Vec::new() } else { vec![(0, size)] };
    }

    /// Its size, when it is without gaps.
    pub(super) fn whole(&self) -> Option<u64> {
        match self.progress().ranges.as_slice() {
            [] => Some(0),
            [(0, end)] => Some(*end),
            _ => None,
        }
    }

    /// Keeps a block for its list; the older one of the same name, if there was one.
    pub(super) fn add_block(&self, name: String, block: Block) -> Option<Block> {
        self.progress().blocks.insert(name, block)
    }

    /// Takes the blocks out.
    pub(super) fn take_blocks(&self) -> HashMap<String, Block> {
        std::mem::take(&mut self.progress().blocks)
    }

    /// Puts blocks back that nothing came of.
    pub(super) fn give_back(&self, blocks: HashMap<String, Block>) {
        self.progress().blocks.extend(blocks);
    }

    /// Whether it was committed or dropped.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Bytes that have arrived.
    pub(super) fn arrived_bytes(&self) -> u64 {
        self.progress().ranges.iter().map(|(start, end)| end - start).sum()
    }
}

/// A request that writes. While there is one, its upload is not stalled.
#[derive(Debug)]
pub(super) struct Writing<'u>(&'u Upload);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut progress = self.0.progress();
        progress.writers -= 1;
        progress.moved = Instant::now();
    }
}

/// All uploads of this process, and its folder. The folder's lock is free as soon as the process is gone.
#[derive(Debug)]
pub(super) struct Uploads {
    folder: PathBuf,
    _lock: File,
    all: Mutex<HashMap<u64, Arc<Upload>>>,
    turns: AtomicU64,
}

impl Uploads {
    /// Makes a folder below `parent`, and removes those of processes that are gone.
    pub(super) fn open(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        // One at a time: a lock that somebody is only about to take must not look like one of the dead.
        let gate = OpenOptions::new().create(true).append(true).mode(0o600).open(parent.join("gate"))?;
        flock(&gate, FlockOperation::LockExclusive)?;
        remove_dead(parent);
        let name = uuid::Uuid::new_v4().simple().to_string();
        let lock = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(parent.join(format!("{name}.lock")))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let folder = parent.join(name);
        fs::create_dir(&folder)?;
        Ok(Self { folder, _lock: lock, all: Mutex::default(), turns: AtomicU64::new(1) })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Arc<Upload>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a place.
    pub(super) fn begin(&self, repository: &str, key: &str, version: &str, size: Option<u64>) -> Arc<Upload> {
        let id = fresh_id();
        let progress = Progress {
            ranges: Vec::new(),
            blocks: HashMap::new(),
            moved: Instant::now(),
            writers: 0,
            turn: self.turns.fetch_add(1, Ordering::Relaxed),
        };
        let upload = Arc::new(Upload {
            id,
            repository: repository.to_owned(),
            key: key.to_owned(),
            version: version.to_owned(),
            size,
            path: self.folder.join(id.to_string()),
            progress: Mutex::new(progress),
            parts: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        self.all().insert(id, upload.clone());
        upload
    }

    /// The upload with this id.
    pub(super) fn get(&self, id: u64) -> Option<Arc<Upload>> {
        self.all().get(&id).cloned()
    }

    /// Begins to write.
    pub(super) fn write<'u>(&self, upload: &'u Upload) -> Writing<'u> {
        let mut progress = upload.progress();
        progress.writers += 1;
        progress.turn = self.turns.fetch_add(1, Ordering::Relaxed);
        Writing(upload)
    }

    /// The upload of this name that was written to last.
    pub(super) fn newest(&self, repository: &str, key: &str, version: &str) -> Option<u64> {
        let all = self.all();
        let named = all.values().filter(|upload| {
            upload.repository == repository && upload.key == key && upload.version == version
        });
        named.max_by_key(|upload| upload.progress().turn).map(|upload| upload.id)
    }

    /// Takes it out: nobody can write to it any more.
    pub(super) fn take(&self, id: u64) -> Option<Arc<Upload>> {
        let upload = self.all().remove(&id)?;
        upload.closed.store(true, Ordering::Relaxed);
        Some(upload)
    }

    /// Takes out those that have not moved for `limit`.
    pub(super) fn take_stalled(&self, limit: Duration) -> Vec<Arc<Upload>> {
        let all = self.all();
        let stalled = |upload: &Upload| {
            let progress = upload.progress();
            progress.writers == 0 && progress.moved.elapsed() >= limit
        };
        let ids: Vec<u64> = all.values().filter(|upload| stalled(upload)).map(|upload| upload.id).collect();
        drop(all);
        ids.into_iter().filter_map(|id| self.take(id)).collect()
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next start.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(self.folder.with_extension("lock"));
    }
}

/// Removes what an upload has on disk.
pub(super) fn discard(upload: &Upload) {
    for path in upload.take_blocks().into_values().map(|block| block.path).chain([upload.path.clone()]) {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a part of an upload could not be removed");
        }
    }
}

/// Removes the folders whose processes are gone. What fails is tried again at the next start.
fn remove_dead(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(lock) = File::open(&path) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let folder = path.with_extension("");
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %folder.display(), %error, "what a run has left in the cache could not be removed");
                }
                _ => {
                    let _ = fs::remove_file(&path); // an empty lock harms nobody
                }
            }
        }
    }
}

/// An id that no other process gives, and that a JavaScript number can hold.
fn fresh_id() -> u64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    (high >> 16).max(1) // 48 random bits
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::Uploads;

    #[test]
    fn ranges_grow_together_in_any_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let uploads = Uploads::open(folder.path()).expect("a folder");
        let upload = uploads.begin("o/r", "k", "v", None);
        assert_eq!(upload.whole(), Some(0));
        upload.arrived(10, 20);
        assert_eq!(upload.whole(), None, "it begins late");
        upload.arrived(0, 5);
        assert_eq!(upload.whole(), None, "it has a gap");
        upload.arrived(3, 10);
        assert_eq!(upload.whole(), Some(20));
        upload.arrived(0, 5);
        assert_eq!((upload.whole(), upload.arrived_bytes()), (Some(20), 20), "sent again");
    }

    #[test]
    fn the_last_one_written_to_is_the_newest() {
        let folder = tempfile::tempdir().expect("a folder");
        let uploads = Uploads::open(folder.path()).expect("a folder");
        let (one, two) = (uploads.begin("o/r", "k", "v", None), uploads.begin("o/r", "k", "v", None));
        assert_eq!(uploads.newest("o/r", "k", "v"), Some(two.id));
        drop(uploads.write(&one));
        assert_eq!(uploads.newest("o/r", "k", "v"), Some(one.id));
        assert_eq!(uploads.newest("o/other", "k", "v"), None);
    }

    #[test]
    fn one_that_somebody_writes_to_is_not_stalled() {
        let folder = tempfile::tempdir().expect("a folder");
        let uploads = Uploads::open(folder.path()).expect("a folder");
        let (one, two) = (uploads.begin("o/r", "k", "v", None), uploads.begin("o/r", "k", "v", None));
        let writing = uploads.write(&one);
        let stalled = uploads.take_stalled(Duration::ZERO);
        assert_eq!(stalled.iter().map(|upload| upload.id).collect::<Vec<_>>(), [two.id]);
        drop(writing);
        assert_eq!(uploads.take_stalled(Duration::from_hours(1)).len(), 0);
        assert!(uploads.get(one.id).is_some() && uploads.get(two.id).is_none());
    }

    #[test]
    fn folders_of_the_dead_go_and_those_of_the_living_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let living = Uploads::open(folder.path()).expect("a folder");
        let dead = folder.path().join("dead");
        fs::create_dir(&dead).expect("a folder");
        fs::write(dead.join("7"), "half").expect("a file");
        fs::write(folder.path().join("dead.lock"), "").expect("a file");
        let upload = living.begin("o/r", "k", "v", None);
        fs::write(&upload.path, "on its way").expect("a file");
        let other = Uploads::open(folder.path()).expect("a folder");
        assert!(!dead.exists() && upload.path.exists());
        drop((living, other));
        let left: Vec<_> = fs::read_dir(folder.path()).expect("the parent").flatten().collect();
        assert!(matches!(left.as_slice(), [gate] if gate.file_name() == "gate"), "{left:?}");
    }
}
