//! What is in the cache: one row for each whole archive, in an embedded database.
//!
//! Several processes may have the same cache folder (two runners of one user, an `exec` beside them), so the database is
//! opened for many writers. Every change is one transaction, on disk when it returns.

use std::{fs, io, path::Path};

use redb::{
    Builder, ConcurrencyMode, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};

/// id → repository, key, version, size, created, used
const ENTRIES: TableDefinition<'_, u64, (&str, &str, &str, u64, u64, u64)> = TableDefinition::new("entries");

/// repository, version, key, created → id
const KEYS: TableDefinition<'_, (&str, &str, &str, u64), u64> = TableDefinition::new("keys");

/// Bytes of the database that are kept in memory. An idle runner must stay small, and lookups touch a few pages.
const MEMORY: usize = 1 << 20;

/// One whole archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cache) struct Entry {
    pub(in crate::cache) id: u64,
    pub(in crate::cache) repository: String,
    pub(in crate::cache) key: String,
    pub(in crate::cache) version: String,
    /// Bytes.
    pub(in crate::cache) size: u64,
    /// Nanoseconds since 1970; among entries of one key and version no two are equal.
    pub(in crate::cache) created: u64,
    /// Seconds since 1970.
    pub(in crate::cache) used: u64,
}

/// The database. Its calls wait for the disk.
pub(in crate::cache) struct Index {
    database: Database,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

type Result<T> = std::result::Result<T, Box<redb::Error>>;

/// Turns any of the database's errors into its one type.
#[expect(clippy::unnecessary_box_returns, reason = "it is only ever an `Err`, which has to be small")]
fn wrong(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}

/// Whether the file is no database, or no longer one.
fn is_damage(error: &redb::DatabaseError) -> bool {
    match error {
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(_)) => true,
        redb::DatabaseError::Storage(redb::StorageError::Io(error)) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

impl Index {
    /// Opens the database, and makes it when it is not there. One that is damaged is put aside: a cache may be lost.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = || {
            Builder::new()
                .set_cache_size(MEMORY)
                .set_concurrency_mode(ConcurrencyMode::MultiWriter)
                .create(path)
        };
        let database = match open() {
            Err(error) if is_damage(&error) => {
                let aside = path.with_extension("damaged");
                tracing::warn!(%error, kept = %aside.display(), "the cache's index is damaged; the cache begins empty");
                fs::rename(path, &aside).map_err(wrong)?;
                open().map_err(wrong)?
            }
            database => database.map_err(wrong)?,
        };
        let index = Self { database };
        index.change(|_, _| Ok(()))?; // both tables are there from now on
        Ok(index)
    }

    /// For each key in order: the newest entry of exactly this key, else the newest whose key begins with it.
    pub(super) fn find(&self, repository: &str, version: &str, keys: &[String]) -> Result<Option<Entry>> {
        let read = self.database.begin_read().map_err(wrong)?;
        let by_key = read.open_table(KEYS).map_err(wrong)?;
        for wanted in keys.iter().map(String::as_str).filter(|key| !key.is_empty()) {
            let exact = (repository, version, wanted, 0)..=(repository, version, wanted, u64::MAX);
            let mut found = by_key.range(exact).map_err(wrong)?.next_back().transpose().map_err(wrong)?;
            if found.is_none() {
                let mut newest = 0;
                for row in by_key.range((repository, version, wanted, 0)..).map_err(wrong)? {
                    let row = row.map_err(wrong)?;
                    let (of, in_version, key, created) = row.0.value();
                    if of != repository || in_version != version || !key.starts_with(wanted) {
                        break;
                    }
                    if created >= newest {
                        newest = created;
                        found = Some(row);
                    }
                }
            }
            let Some((_, id)) = found else { continue };
            if let Some(entry) = entry(&read.open_table(ENTRIES).map_err(wrong)?, id.value())? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The entry with this id.
    pub(super) fn get(&self, id: u64) -> Result<Option<Entry>> {
        let read = self.database.begin_read().map_err(wrong)?;
        entry(&read.open_table(ENTRIES).map_err(wrong)?, id)
    }

    /// Whether there is an entry of exactly this key and version.
    pub(super) fn has(&self, repository: &str, version: &str, key: &str) -> Result<bool> {
        let read = self.database.begin_read().map_err(wrong)?;
        let by_key = read.open_table(KEYS).map_err(wrong)?;
        let exact = (repository, version, key, 0)..=(repository, version, key, u64::MAX);
        Ok(by_key.range(exact).map_err(wrong)?.next().transpose().map_err(wrong)?.is_some())
    }

    /// Every entry.
    pub(super) fn all(&self) -> Result<Vec<Entry>> {
        let read = self.database.begin_read().map_err(wrong)?;
        let entries = read.open_table(ENTRIES).map_err(wrong)?;
        let rows = entries.iter().map_err(wrong)?;
        rows.map(|row| row.map(|(id, row)| of(id.value(), row.value())).map_err(wrong)).collect()
    }

    /// Adds an entry as the newest of its key, whatever its `created` says.
    pub(super) fn insert(&self, entry: Entry) -> Result<()> {
        self.change(|entries, keys| {
            let Entry { repository, key, version, .. } = &entry;
            let mut created = entry.created;
            let (repository, key, version) = (repository.as_str(), key.as_str(), version.as_str());
            let exact = (repository, version, key, 0)..=(repository, version, key, u64::MAX);
            let newest = keys.range(exact).map_err(wrong)?.next_back().transpose().map_err(wrong)?;
            let newest = newest.map(|(row, _)| row.value().3);
            if let Some(newest) = newest {
                created = created.max(newest.saturating_add(1));
            }
            keys.insert((repository, version, key, created), entry.id).map_err(wrong)?;
            let row = (repository, key, version, entry.size, created, entry.used);
            entries.insert(entry.id, row).map_err(wrong)?;
            Ok(())
        })
    }

    /// Notes that an entry was used.
    pub(super) fn touch(&self, id: u64, now: u64) -> Result<()> {
        self.change(|entries, _| {
            let Some(mut entry) = entry(entries, id)? else { return Ok(()) };
            entry.used = now;
            let Entry { repository, key, version, size, created, used, .. } = &entry;
            let row = (repository.as_str(), key.as_str(), version.as_str(), *size, *created, *used);
            entries.insert(id, row).map_err(wrong)?;
            Ok(())
        })
    }

    /// Removes entries; those that are not there are no error.
    pub(super) fn remove(&self, ids: &[u64]) -> Result<()> {
        self.change(|entries, keys| {
            for id in ids {
                let Some(entry) = entry(entries, *id)? else { continue };
                entries.remove(*id).map_err(wrong)?;
                let Entry { repository, key, version, created, .. } = &entry;
                keys.remove((repository.as_str(), version.as_str(), key.as_str(), *created))
                    .map_err(wrong)?;
            }
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut Entries<'_>, &mut Keys<'_>) -> Result<()>) -> Result<()> {
        let write = self.database.begin_write().map_err(wrong)?;
        {
            let open = |error: TableError| wrong(error);
            let mut entries = write.open_table(ENTRIES).map_err(open)?;
            let mut keys = write.open_table(KEYS).map_err(open)?;
            change(&mut entries, &mut keys)?;
        }
        write.commit().map_err(wrong)
    }
}

type Entries<'t> = redb::Table<'t, u64, (&'static str, &'static str, &'static str, u64, u64, u64)>;
type Keys<'t> = redb::Table<'t, (&'static str, &'static str, &'static str, u64), u64>;

fn entry(
    entries: &impl ReadableTable<u64, (&'static str, &'static str, &'static str, u64, u64, u64)>,
    id: u64,
) -> Result<Option<Entry>> {
    Ok(entries.get(id).map_err(wrong)?.map(|row| of(id, row.value())))
}

fn of(id: u64, (repository, key, version, size, created, used): (&str, &str, &str, u64, u64, u64)) -> Entry {
    Entry {
        id,
        repository: repository.to_owned(),
        key: key.to_owned(),
        version: version.to_owned(),
        size,
        created,
        used,
    }
}
