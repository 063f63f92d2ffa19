//! From a pack to a tar archive of one commit's tree, or to the names of its commits.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write},
    path::Path,
    sync::atomic::AtomicBool,
};

use gix_hash::{ObjectId, Prefix};
use gix_object::{CommitRefIter, Kind, TagRefIter, TreeRefIter, tree::EntryKind};
use gix_pack::Bundle;
use tar::{Builder, EntryType, Header};

/// The deepest folder that is followed, and the most entries that are taken: more is an attack or no action.
const DEPTH: usize = 256;
const ENTRIES: usize = 500_000;
/// The largest tree that is written, in bytes.
const TREE_LIMIT: u64 = 4 * 1024 * 1024 * 1024;

/// Why a pack is of no use. One fragment.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackError {
    /// The disk.
    #[error("cannot write the action's files: {0}")]
    Io(#[from] std::io::Error),
    /// What came is not what a repository is.
    #[error("what the server sent is broken: {0}")]
    Broken(String),
}

/// Verifies and indexes the pack `path` in `scratch`, then writes the tree of `commit` to `archive`.
pub(super) fn to_archive(path: &Path, scratch: &Path, commit: &str, archive: &Path) -> Result<(), PackError> {
    let mut objects = Objects::index(path, scratch)?;
    let id = ObjectId::from_hex(commit.as_bytes()).map_err(broken)?;
    let (tree, time) = objects.tree_of(id)?;
    let mut writer =
        Writer { tar: Builder::new(BufWriter::new(File::create(archive)?)), time, entries: 0, bytes: 0 };
    writer.folder(&mut objects, tree, "", 0)?;
    let file = writer.tar.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(())
}

/// Verifies and indexes the pack `path` in `scratch`, then answers with the commits in it that begin with `prefix`.
pub(super) fn commits_with(path: &Path, scratch: &Path, prefix: &str) -> Result<Vec<String>, PackError> {
    let mut objects = Objects::index(path, scratch)?;
    let prefix = Prefix::from_hex(prefix).map_err(broken)?;
    let mut candidates = 0..0;
    // One or many: the range tells.
    let _ = objects.bundle.index.lookup_prefix(prefix, Some(&mut candidates));
    let mut commits = Vec::new();
    for at in candidates {
        let id = objects.bundle.index.oid_at_index(at).to_owned();
        if objects.read(id)?.0 == Kind::Commit {
            commits.push(id.to_string());
        }
    }
    Ok(commits)
}

fn broken(error: impl std::fmt::Display) -> PackError {
    PackError::Broken(error.to_string())
}

struct Objects {
    bundle: Bundle,
    inflate: gix_zlib::Inflate,
}

impl Objects {
    fn index(path: &Path, scratch: &Path) -> Result<Self, PackError> {
        super::sizes::check(path)?;
        let outcome = Bundle::write_to_directory(
            &mut BufReader::new(File::open(path)?),
            Some(scratch),
            &mut gix_utils::progress::Discard,
            &AtomicBool::new(false),
            None::<gix_object::find::Never>,
            gix_hash::Kind::Sha1,
            gix_pack::bundle::write::Options { thread_limit: Some(2), ..Default::default() },
        )
        .map_err(broken)?;
        let bundle = outcome
            .to_bundle()
            .ok_or_else(|| PackError::Broken("an empty pack".to_owned()))?
            .map_err(broken)?;
        Ok(Self { bundle, inflate: gix_zlib::Inflate::default() })
    }

    fn read(&mut self, id: ObjectId) -> Result<(Kind, Vec<u8>), PackError> {
        let mut buffer = Vec::new();
        let found = self
            .bundle
            .find(&id, &mut buffer, &mut self.inflate, &mut gix_pack::cache::Never)
            .map_err(broken)?
            .map(|(data, _)| data.kind);
        match found {
            Some(kind) => Ok((kind, buffer)),
            None => Err(PackError::Broken(format!("object {id} is missing"))),
        }
    }

    /// The tree and the time of a commit, or of the commit that an annotated tag names.
    fn tree_of(&mut self, id: ObjectId) -> Result<(ObjectId, u64), PackError> {
        let mut id = id;
        for _ in 0..8 {
            let (kind, data) = self.read(id)?;
            match kind {
                Kind::Commit => {
                    let mut commit = CommitRefIter::from_bytes(&data, gix_hash::Kind::Sha1);
                    let tree = commit.tree_id().map_err(broken)?;
                    let time = CommitRefIter::from_bytes(&data, gix_hash::Kind::Sha1)
                        .committer()
                        .ok()
                        .and_then(|who| who.time().ok())
                        .and_then(|time| u64::try_from(time.seconds).ok());
                    return Ok((tree, time.unwrap_or(0)));
                }
                Kind::Tag => {
                    id = TagRefIter::from_bytes(&data, gix_hash::Kind::Sha1).target_id().map_err(broken)?;
                }
                other => return Err(PackError::Broken(format!("{id} is a {other}, not a commit"))),
            }
        }
        Err(PackError::Broken("a tag of a tag of a tag".to_owned()))
    }
}

struct Writer<W: Write> {
    tar: Builder<W>,
    time: u64,
    entries: usize,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    fn folder(
        &mut self,
        objects: &mut Objects,
        tree: ObjectId,
        prefix: &str,
        depth: usize,
    ) -> Result<(), PackError> {
        if depth > DEPTH {
            return Err(PackError::Broken(format!("folders are nested deeper than {DEPTH}")));
        }
        let (kind, data) = objects.read(tree)?;
        if kind != Kind::Tree {
            return Err(PackError::Broken(format!("{tree} is a {kind}, not a tree")));
        }
        for entry in TreeRefIter::from_bytes(&data, gix_hash::Kind::Sha1) {
            let entry = entry.map_err(broken)?;
            self.entries += 1;
            if self.entries > ENTRIES {
                return Err(PackError::Broken(format!("there are more than {ENTRIES} files")));
            }
            let name = std::str::from_utf8(entry.filename)
                .map_err(|_| PackError::Broken("a file name is no UTF-8".to_owned()))?;
            if name.is_empty()
                || name == "."
                || name == ".."
                || name.eq_ignore_ascii_case(".git")
                || name.contains('/')
            {
                return Err(PackError::Broken(format!("a file is called `{name}`")));
            }
            let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            match entry.mode.kind() {
                EntryKind::Tree => {
                    self.append(&format!("{path}/"), EntryType::Directory, 0o755, &[])?;
                    self.folder(objects, entry.oid.to_owned(), &path, depth + 1)?;
                }
                EntryKind::Blob | EntryKind::BlobExecutable => {
                    let mode = if entry.mode.kind() == EntryKind::Blob { 0o644 } else { 0o755 };
                    let (_, content) = objects.read(entry.oid.to_owned())?;
                    self.append(&path, EntryType::Regular, mode, &content)?;
                }
                EntryKind::Link => {
                    let (_, target) = objects.read(entry.oid.to_owned())?;
                    let target = String::from_utf8_lossy(&target).into_owned();
                    let mut header = self.header(EntryType::Symlink, 0o777, 0);
                    self.tar.append_link(&mut header, &path, target)?;
                }
                // A submodule: another repository, which a shallow fetch of this one does not have.
                EntryKind::Commit => {}
            }
        }
        Ok(())
    }

    fn append(&mut self, path: &str, kind: EntryType, mode: u32, content: &[u8]) -> Result<(), PackError> {
        self.bytes += content.len() as u64;
        if self.bytes > TREE_LIMIT {
            return Err(PackError::Broken(format!(
                "its files are larger than {} MiB together",
                TREE_LIMIT >> 20
            )));
        }
        let mut header = self.header(kind, mode, content.len() as u64);
        self.tar.append_data(&mut header, path, content)?;
        Ok(())
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(self.time);
        header.set_uid(0);
        header.set_gid(0);
        header
    }
}
