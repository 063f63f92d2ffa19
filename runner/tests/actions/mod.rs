//! The action store against a real git server.

mod server;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use esteira::{
    action::{ActionStore, GitNetwork, Remote, StoreOptions},
    secret::Secret,
};
use server::{GitServer, git, repository};

fn open(root: &Path, options: StoreOptions) -> ActionStore {
    ActionStore::open(root.to_owned(), options, GitNetwork::default()).unwrap()
}

fn remote(server: &GitServer, token: Option<&str>) -> Remote {
    Remote {
        url: format!("{}/o/r", server.url),
        token: token.map(|token| Secret::new(token.to_owned())),
        own_server: true,
    }
}

#[tokio::test]
async fn a_commit_is_fetched_once_and_a_tag_is_followed_when_it_moves() {
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("git/o/r");
    let first = repository(&origin, &[("action.yml", "one"), ("deep/er/file", "x")], "v1");
    fs::set_permissions(origin.join("deep/er/file"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("deep/er/file", origin.join("link")).unwrap();
    let first_again = repository(&origin, &[], "v1");
    assert_ne!(first, first_again);
    let server = GitServer::start(&folder.path().join("git"));
    let store = open(&folder.path().join("store"), StoreOptions::default());
    let remote = remote(&server, None);

    let archive = store.obtain(&remote, "v1").await.unwrap();
    assert_eq!(archive.commit, first_again, "an annotated tag stands for its commit");
    assert_eq!(server.count(), 3, "advertisement, refs, pack");
    let mut tar = tar::Archive::new(fs::File::open(archive.path()).unwrap());
    let mut entries: Vec<(String, u32, Option<String>)> = tar
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap(), link)
        })
        .collect();
    entries.sort();
    assert_eq!(
        entries,
        [
            ("action.yml".to_owned(), 0o644, None),
            ("deep/".to_owned(), 0o755, None),
            ("deep/er/".to_owned(), 0o755, None),
            ("deep/er/file".to_owned(), 0o755, None),
            ("link".to_owned(), 0o777, Some("deep/er/file".to_owned())),
        ]
    );
    let names = ["missing".to_owned(), "action.yml".to_owned()];
    let (name, content) = archive.read_first(&names, 100).unwrap().unwrap();
    assert_eq!((name.as_str(), content.as_slice()), ("action.yml", b"one".as_slice()));

    store.obtain(&remote, "v1").await.unwrap();
    assert_eq!(server.count(), 2, "a tag is asked for, its commit is here");
    store.obtain(&remote, &first_again).await.unwrap();
    assert_eq!(server.count(), 0, "a full commit never changes");
    store.obtain(&remote, &first).await.unwrap();
    assert_eq!(server.count(), 2, "a commit needs no list of refs");
    let second = repository(&origin, &[("action.yml", "two")], "v1");
    assert_eq!(store.obtain(&remote, "v1").await.unwrap().commit, second);
    assert_eq!(store.obtain(&remote, "main").await.unwrap().commit, second);

    let offline = StoreOptions { offline: true, ..StoreOptions::default() };
    let offline = open(&folder.path().join("store"), offline);
    server.count();
    assert_eq!(offline.obtain(&remote, "v1").await.unwrap().commit, second);
    let error = offline.obtain(&remote, "v2").await.unwrap_err().to_string();
    assert!(error.contains("offline"), "{error}");
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn what_is_not_there_is_a_sentence_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let commit = repository(&folder.path().join("git/o/r"), &[("a", "1")], "v1");
    let server = GitServer::start(&folder.path().join("git"));
    let store = open(&folder.path().join("store"), StoreOptions::default());
    let remote = remote(&server, Some("hunter2"));
    let error = |result: Result<_, esteira::action::GitError>| {
        let error = result.map(|_: std::sync::Arc<esteira::action::Archive>| ()).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        error
    };
    let missing = error(store.obtain(&remote, "v9").await);
    assert!(missing.contains("no tag or branch `v9`"), "{missing}");
    let other = if commit.starts_with("00000000") { "11111111" } else { "00000000" };
    let short = error(store.obtain(&remote, other).await);
    assert!(short.contains("no tag, branch or commit `"), "{short}");
    let nowhere = Remote { url: format!("{}/o/none", server.url), ..remote.clone() };
    let nowhere = error(store.obtain(&nowhere, "v1").await);
    assert!(nowhere.contains("404"), "{nowhere}");
    let unknown = error(store.obtain(&remote, &"0".repeat(40)).await);
    assert!(unknown.contains("the server"), "{unknown}");
    let asked = server.asked.lock().unwrap();
    // base64 of token:hunter2
    assert!(
        asked.iter().all(|asked| asked.authorization.as_deref() == Some("Basic dG9rZW46aHVudGVyMg==")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn trees_that_mean_harm_are_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("git/o/r");
    repository(&origin, &[("action.yml", "x")], "v1");
    let blob = git(&origin, &["rev-parse", "HEAD:action.yml"]);
    let blob: Vec<u8> =
        (0..40).step_by(2).map(|at| u8::from_str_radix(&blob[at..at + 2], 16).unwrap()).collect();
    let server = GitServer::start(&folder.path().join("git"));
    let store = open(&folder.path().join("store"), StoreOptions::default());
    let remote = remote(&server, None);
    for (number, name) in ["..", ".", ".git", ".GIT", "a/b", "../../etc/passwd"].into_iter().enumerate() {
        let raw = folder.path().join("tree");
        fs::write(&raw, [format!("100644 {name}\0").as_bytes(), &blob].concat()).unwrap();
        let raw = raw.to_string_lossy();
        let tree = git(&origin, &["hash-object", "-t", "tree", "-w", "--literally", &raw]);
        let commit = git(&origin, &["commit-tree", &tree, "-m", "harm"]);
        git(&origin, &["branch", "-f", &format!("harm-{number}"), &commit]);
        let error = store.obtain(&remote, &commit).await.unwrap_err().to_string();
        assert!(error.contains("is called") || error.contains("broken"), "{name}: {error}");
    }
    assert!(fs::read_dir(folder.path().join("store/scratch")).unwrap().next().is_none());
}

#[tokio::test]
async fn a_small_pack_of_a_huge_file_is_refused_before_it_is_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("git/o/r");
    fs::create_dir_all(&origin).unwrap();
    fs::File::create(origin.join("huge")).unwrap().set_len(300 << 20).unwrap();
    repository(&origin, &[("action.yml", "x")], "v1");
    let server = GitServer::start(&folder.path().join("git"));
    let store = open(&folder.path().join("store"), StoreOptions::default());
    let error = store.obtain(&remote(&server, None), "v1").await.unwrap_err().to_string();
    assert!(error.contains("a file is larger than 256 MiB"), "{error}");
}

#[tokio::test]
async fn links_are_followed_inside_a_repository_and_not_out_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("git/o/r");
    repository(&origin, &[("real/action.yml", "here"), ("other/x", "")], "v0");
    for (target, link) in [
        ("real", "door"),
        ("../real/action.yml", "other/action.yml"),
        ("../../../../etc/passwd", "other/out.yml"),
        ("/etc/passwd", "absolute.yml"),
        ("circle.yml", "circle.yml"),
    ] {
        std::os::unix::fs::symlink(target, origin.join(link)).unwrap();
    }
    repository(&origin, &[], "v1");
    let server = GitServer::start(&folder.path().join("git"));
    let store = open(&folder.path().join("store"), StoreOptions::default());
    let archive = store.obtain(&remote(&server, None), "v1").await.unwrap();
    let read = |path: &str| archive.read_first(&["none".to_owned(), path.to_owned()], 100);
    for path in ["real/action.yml", "door/action.yml", "other/action.yml"] {
        assert_eq!(read(path).unwrap(), Some((path.to_owned(), b"here".to_vec())));
    }
    for path in ["other/out.yml", "absolute.yml", "circle.yml"] {
        let error = read(path).unwrap_err().to_string();
        assert!(error.contains("leads out of its repository") || error.contains("circle"), "{error}");
    }
    assert_eq!(read("door/none.yml").unwrap(), None);
}

#[tokio::test]
async fn an_abbreviated_commit_is_completed_once_and_stays_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("git/o/r");
    let first = repository(&origin, &[("action.yml", "one"), ("other", "x")], "v1");
    let tip = repository(&origin, &[("action.yml", "two")], "v2");
    // What is only in a pull request is not the repository's own.
    git(&origin, &["checkout", "-q", "-b", "foreign"]);
    let foreign = repository(&origin, &[("action.yml", "three")], "v3");
    git(&origin, &["update-ref", "refs/pull/1/head", &foreign]);
    git(&origin, &["checkout", "-q", "main"]);
    git(&origin, &["branch", "-D", "foreign"]);
    git(&origin, &["tag", "-d", "v3"]);
    let server = GitServer::start(&folder.path().join("git"));
    for filters in [false, true] {
        git(&origin, &["config", "uploadpack.allowFilter", &filters.to_string()]);
        let root = folder.path().join(format!("store-{filters}"));
        let store = open(&root, StoreOptions { shallow: filters, ..StoreOptions::default() });
        let remote = remote(&server, None);
        assert_eq!(store.obtain(&remote, &tip[..7]).await.unwrap().commit, tip);
        server.count();
        let archive = store.obtain(&remote, &first[..9].to_uppercase()).await.unwrap();
        assert_eq!(archive.commit, first);
        let names = ["action.yml".to_owned()];
        assert_eq!(archive.read_first(&names, 100).unwrap().unwrap().1, b"one");
        assert_eq!(server.count(), 5, "advertisement, the ref, all refs, the history, the commit");
        assert_eq!(store.obtain(&remote, &first[..9].to_uppercase()).await.unwrap().commit, first);
        assert_eq!(server.count(), 0, "it is certain now");
        let offline = open(&root, StoreOptions { offline: true, ..StoreOptions::default() });
        assert_eq!(offline.obtain(&remote, &tip[..7]).await.unwrap().commit, tip);
        let error = store.obtain(&remote, &foreign[..10]).await.unwrap_err().to_string();
        assert!(error.contains("no tag, branch or commit `"), "{error}");
        // A tag of that name comes too late for those who have used the commit, and first for all others.
        git(&origin, &["tag", "-f", &tip[..7], &first]);
        assert_eq!(store.obtain(&remote, &tip[..7]).await.unwrap().commit, tip);
        let fresh = open(&folder.path().join(format!("fresh-{filters}")), StoreOptions::default());
        assert_eq!(fresh.obtain(&remote, &tip[..7]).await.unwrap().commit, first);
        git(&origin, &["tag", "-d", &tip[..7]]);
    }
}

#[tokio::test]
async fn an_abbreviated_commit_that_fits_two_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("git/o/r");
    let tree = {
        repository(&origin, &[("a", "1")], "v1");
        git(&origin, &["write-tree"])
    };
    // Four characters are soon met again.
    let mut seen = std::collections::HashMap::new();
    let (one, other) = (0..5000)
        .find_map(|number| {
            let commit = git(&origin, &["commit-tree", &tree, "-m", &number.to_string()]);
            let earlier = seen.insert(commit[..4].to_owned(), commit.clone())?;
            Some((earlier, commit))
        })
        .expect("a pair among so many");
    git(&origin, &["branch", "one", &one]);
    git(&origin, &["branch", "other", &other]);
    let server = GitServer::start(&folder.path().join("git"));
    let store = open(&folder.path().join("store"), StoreOptions::default());
    let error = store.obtain(&remote(&server, None), &one[..4]).await.unwrap_err().to_string();
    for words in ["ambiguous", &one, &other] {
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn many_jobs_share_one_fetch_and_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let commit = repository(&folder.path().join("git/o/r"), &[("a", "1")], "v1");
    let server = GitServer::start(&folder.path().join("git"));
    let store = open(&folder.path().join("store"), StoreOptions::default());
    let other = open(&folder.path().join("store"), StoreOptions::default());
    let remote = remote(&server, None);
    let fetches = (0..8).map(|number| {
        let store = if number % 2 == 0 { &store } else { &other };
        store.obtain(&remote, &commit)
    });
    for archive in futures_util::future::join_all(fetches).await {
        assert_eq!(archive.unwrap().commit, commit);
    }
    assert!(server.count() <= 4, "one fetch for each of the two stores");
    let left: Vec<_> = fs::read_dir(folder.path().join("store/scratch")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_a_crash_left_goes_and_what_nobody_uses_gives_way() {
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("git/o/r");
    let old = repository(&origin, &[("a", &"1".repeat(4000))], "v1");
    let root = folder.path().join("store");
    fs::create_dir_all(root.join("scratch/fetch-dead")).unwrap();
    fs::write(root.join("scratch/fetch-dead/lock"), "").unwrap();
    fs::write(root.join("scratch/fetch-dead/tree.tar"), "half").unwrap();
    let server = GitServer::start(&folder.path().join("git"));
    let store = open(&root, StoreOptions { limit: 20_000, ..StoreOptions::default() });
    assert!(!root.join("scratch/fetch-dead").exists());
    let remote = remote(&server, None);
    let first = store.obtain(&remote, &old).await.unwrap();
    let path = first.path().to_owned();
    let next = repository(&origin, &[("b", &"2".repeat(20_000))], "v1");
    store.obtain(&remote, &next).await.unwrap();
    assert!(path.exists(), "it is in use");
    drop(first);
    let last = repository(&origin, &[("c", &"3".repeat(20_000))], "v1");
    let kept = store.obtain(&remote, &last).await.unwrap();
    assert!(!path.exists(), "nobody uses it");
    assert!(kept.path().exists());
}
