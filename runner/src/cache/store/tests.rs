//! The store on a real folder.

use std::{convert::Infallible, fs, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;

use super::{Entry, Limits, Place, Store, StoreError, Upload};

fn limits() -> Limits {
    Limits { free_space: 0, ..Limits::default() }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), limits()).expect("a store");
    (folder, store)
}

/// Sends `text` in two frames.
async fn send(store: &Store, upload: &Upload, place: Place, text: &str) -> Result<u64, StoreError> {
    let (one, two) = text.split_at(text.len() / 2);
    let frames = [one, two].map(|part| Ok::<_, Infallible>(Bytes::copy_from_slice(part.as_bytes())));
    store.receive(upload, place, stream::iter(frames)).await
}

fn range(start: u64, text: &str) -> Place {
    Place::Range { start, length: text.len() as u64 }
}

/// Saves `text` under `key`.
async fn save(store: &Store, repository: &str, key: &str, text: &str) -> u64 {
    let upload = store.begin(repository, key, "v", Some(text.len() as u64));
    send(store, &upload, range(0, text), text).await.expect("sent");
    store.commit(upload.id, None).expect("committed");
    upload.id
}

fn find(store: &Store, repository: &str, keys: &[&str]) -> Option<Entry> {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    store.find(repository, "v", &keys).expect("looked up")
}

fn text(store: &Store, id: u64) -> String {
    let (file, entry) = store.read(id).expect("read").expect("it is there");
    let text = std::io::read_to_string(file).expect("text");
    assert_eq!(entry.size, text.len() as u64);
    text
}

#[tokio::test]
async fn what_is_saved_is_found_by_its_key_then_by_its_beginning_newest_first() {
    let (_folder, store) = store();
    let old = save(&store, "o/r", "linux-a", "old").await;
    let new = save(&store, "o/r", "linux-a", "new").await;
    let longer = save(&store, "o/r", "linux-abc", "longer").await;
    let id = |keys: &[&str]| find(&store, "o/r", keys).map(|entry| entry.id);
    assert_eq!(id(&["linux-a"]), Some(new), "exact comes before the beginning, and the newest first");
    assert_eq!(id(&["linux-"]), Some(longer), "the newest of all that begin so");
    assert_eq!(id(&["nothing", "linux-ab"]), Some(longer));
    assert_eq!(id(&["Linux-a"]), None, "case counts");
    assert_eq!(id(&["", "b"]), None);
    assert_eq!((text(&store, old), text(&store, new)), ("old".into(), "new".into()));
}

#[tokio::test]
async fn two_repositories_never_see_each_other() {
    let (_folder, store) = store();
    let id = save(&store, "o/one", "k", "one").await;
    assert_eq!(find(&store, "o/two", &["k", ""]), None);
    assert_eq!(find(&store, "o/on", &["k"]), None);
    assert!(matches!(store.upload(id, Some("o/two")), Err(StoreError::Foreign(_))));
    assert!(matches!(store.upload(id, Some("o/one")), Err(StoreError::Complete(_))));
    assert!(matches!(store.upload(1, Some("o/one")), Err(StoreError::NotReserved(1))));
    let upload = store.begin("o/one", "k2", "v", None);
    assert!(matches!(store.upload(upload.id, Some("o/two")), Err(StoreError::Foreign(_))));
    assert_eq!(store.newest_upload("o/two", "k2", "v"), None);
}

#[tokio::test]
async fn chunks_come_in_any_order_and_more_than_once() {
    let (_folder, store) = store();
    let upload = store.begin("o/r", "k", "v", Some(11));
    send(&store, &upload, range(6, "world"), "world").await.expect("sent");
    send(&store, &upload, range(0, "hello "), "hello ").await.expect("sent");
    send(&store, &upload, range(6, "world"), "world").await.expect("sent again");
    assert_eq!(find(&store, "o/r", &["k"]), None, "it is not whole yet");
    assert_eq!(store.commit(upload.id, None).expect("whole"), 11);
    assert_eq!(text(&store, upload.id), "hello world");
}

#[tokio::test]
async fn what_is_not_what_was_announced_is_refused_and_gone() {
    let (folder, store) = store();
    let gap = store.begin("o/r", "gap", "v", None);
    send(&store, &gap, range(5, "late"), "late").await.expect("sent");
    assert!(matches!(store.commit(gap.id, None), Err(StoreError::Size { .. })));
    let short = store.begin("o/r", "short", "v", Some(9));
    send(&store, &short, range(0, "short"), "short").await.expect("sent");
    assert!(matches!(store.commit(short.id, None), Err(StoreError::Size { arrived: 5, .. })));
    assert!(matches!(store.commit(short.id, None), Err(StoreError::NotReserved(_))));
    let lying = store.begin("o/r", "lying", "v", None);
    let place = Place::Range { start: 0, length: 2 };
    assert!(matches!(send(&store, &lying, place, "longer").await, Err(StoreError::Malformed(_))));
    let place = Place::Range { start: 0, length: 20 };
    assert!(matches!(send(&store, &lying, place, "shorter").await, Err(StoreError::Malformed(_))));
    assert!(matches!(store.commit(lying.id, Some(6)), Err(StoreError::Size { .. })));
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn blocks_are_put_together_in_the_order_of_their_list() {
    let (folder, store) = store();
    let upload = store.begin("o/r", "k", "v", None);
    for (name, text) in [("b2", "two "), ("b1", "one "), ("unused", "xxx"), ("b1", "ONE ")] {
        send(&store, &upload, Place::Block(name.into()), text).await.expect("sent");
    }
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let missing = Store::assemble(&upload, &list(&["b1", "b9"])).expect_err("b9 is missing");
    assert!(matches!(missing, StoreError::Malformed(_)));
    Store::assemble(&upload, &list(&["b1", "b2", "b1"])).expect("put together");
    store.commit(upload.id, Some(12)).expect("whole");
    assert_eq!(text(&store, upload.id), "ONE two ONE ");
    assert_eq!(files(folder.path()).len(), 1, "blocks are gone");
}

#[tokio::test]
async fn a_whole_body_replaces_what_came_before_and_an_empty_archive_is_one() {
    let (_folder, store) = store();
    let upload = store.begin("o/r", "k", "v", None);
    send(&store, &upload, Place::Whole, "a longer first try").await.expect("sent");
    send(&store, &upload, Place::Whole, "second").await.expect("sent");
    store.commit(upload.id, Some(6)).expect("whole");
    assert_eq!(text(&store, upload.id), "second");
    let empty = store.begin("o/r", "empty", "v", None);
    store.commit(empty.id, Some(0)).expect("whole");
    assert_eq!(text(&store, empty.id), "");
}

#[tokio::test]
async fn an_upload_that_its_process_does_not_survive_has_never_been() {
    let (folder, store) = store();
    let kept = save(&store, "o/r", "kept", "kept").await;
    let half = store.begin("o/r", "half", "v", None);
    send(&store, &half, range(0, "half"), "half").await.expect("sent");
    // A process that is killed drops nothing, and its lock is free.
    let half = half.id;
    drop(store);
    let store = Store::open(folder.path(), limits()).expect("a store");
    assert_eq!(find(&store, "o/r", &["half"]), None);
    assert!(matches!(store.commit(half, None), Err(StoreError::NotReserved(_))));
    assert_eq!(text(&store, kept), "kept");
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn two_processes_share_a_folder() {
    let (folder, one) = store();
    let other = Store::open(folder.path(), limits()).expect("a second one");
    let (of_one, of_other) = (save(&one, "o/r", "one", "1").await, save(&other, "o/r", "other", "2").await);
    assert_eq!(find(&other, "o/r", &["one"]).map(|entry| entry.id), Some(of_one));
    assert_eq!(find(&one, "o/r", &["other"]).map(|entry| entry.id), Some(of_other));
    drop(one);
    assert_eq!(text(&other, of_one), "1");
}

#[tokio::test]
async fn a_row_without_its_file_is_no_hit() {
    let (_folder, store) = store();
    let id = save(&store, "o/r", "k-1", "older").await;
    let lost = save(&store, "o/r", "k-2", "newer").await;
    fs::remove_file(store.blob(lost)).expect("removed");
    assert_eq!(find(&store, "o/r", &["k-"]).map(|entry| entry.id), Some(id));
    assert!(store.read(lost).expect("asked").is_none());
}

#[tokio::test]
async fn a_sweep_removes_row_and_file_and_what_has_stalled() {
    let folder = tempfile::tempdir().expect("a folder");
    let tight =
        Limits { repository: 10, spared: Duration::ZERO, stalled: Duration::from_secs(60), ..limits() };
    let store = Store::open(folder.path(), Limits { ..tight }).expect("a store");
    save(&store, "o/r", "one", "123456").await;
    save(&store, "o/r", "two", "123456").await;
    let upload = store.begin("o/r", "busy", "v", None);
    send(&store, &upload, range(0, "x"), "x").await.expect("sent");
    assert_eq!(store.sweep().expect("swept"), (1, 6));
    assert_eq!(find(&store, "o/r", &["one"]), None);
    assert!(find(&store, "o/r", &["two"]).is_some());
    assert!(store.upload(upload.id, None).is_ok(), "it has moved a moment ago");
    assert_eq!(store.sweep().expect("swept"), (0, 0));
    let impatient =
        Store::open(folder.path(), Limits { stalled: Duration::ZERO, ..limits() }).expect("a store");
    let stalled = impatient.begin("o/r", "stalled", "v", None);
    impatient.sweep().expect("swept");
    assert!(matches!(impatient.upload(stalled.id, None), Err(StoreError::NotReserved(_))));
}

#[tokio::test]
async fn a_full_disk_refuses_uploads() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), Limits { free_space: u64::MAX, ..limits() }).expect("a store");
    let upload = store.begin("o/r", "k", "v", None);
    assert!(matches!(send(&store, &upload, Place::Whole, "x").await, Err(StoreError::Full(_))));
}

#[test]
fn a_damaged_index_is_put_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Store::open(folder.path(), limits()).expect("a store"));
    let path = folder.path().join("index.redb");
    let mut bytes = fs::read(&path).expect("the index");
    bytes[..64].fill(0x55);
    fs::write(&path, bytes).expect("damaged");
    match Store::open(folder.path(), limits()) {
        Ok(_) => assert!(folder.path().join("index.damaged").exists()),
        Err(error) => panic!("{error}"),
    }
}

/// Files of archives, whole or not, below the folder.
fn files(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.join("blobs"), folder.join("uploads")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if name != "gate" && entry.path().extension().is_none_or(|end| end != "lock") {
                found.push(name);
            }
        }
    }
    found
}

/// `Store` is used from many tasks at once.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Arc<Store>>();
};
