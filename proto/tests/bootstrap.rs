//! The generated code is what the `.proto` files say.
//!
//! With `UPDATE=1` the test writes it instead of comparing.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Folders below this crate that hold a package's `v1/*.proto`.
const PACKAGES: [&str; 3] = ["ping", "runner", "agent"];

/// Messages that carry secrets: their `Debug` is written by hand in `src/redact.rs`.
const WITHOUT_DEBUG: [&str; 10] = [
    ".runner.v1.RegisterRequest",
    ".runner.v1.Runner",
    ".runner.v1.Task",
    ".runner.v1.TaskNeed",
    ".runner.v1.UpdateTaskRequest",
    ".agent.v1.File",
    ".agent.v1.Output",
    ".agent.v1.Collected",
    ".agent.v1.Hello",
    ".agent.v1.Run",
];

#[test]
fn generated_code_is_what_the_proto_files_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = tempfile::tempdir().expect("a scratch folder");
    generate(root, scratch.path());
    let fresh = read_folder(scratch.path()).expect("what was generated");
    let folder = root.join("src/gen");
    if std::env::var_os("UPDATE").is_some() {
        fs::remove_dir_all(&folder).expect("the old code");
        fs::create_dir_all(&folder).expect("a folder for the new code");
        for (name, text) in &fresh {
            fs::write(folder.join(name), text).expect("the new code");
        }
        return;
    }
    let committed = read_folder(&folder).expect("the committed code");
    let names: Vec<_> = committed.keys().collect();
    assert_eq!(names, fresh.keys().collect::<Vec<_>>(), "run `UPDATE=1 cargo test -p proto --test main`");
    for (name, text) in &fresh {
        assert!(committed[name] == *text, "{name} is stale: run `UPDATE=1 cargo test -p proto --test main`");
    }
}

fn generate(root: &Path, out: &Path) {
    let mut files = Vec::new();
    for package in PACKAGES {
        let folder = root.join(package).join("v1");
        if let Ok(entries) = fs::read_dir(&folder) {
            files.extend(entries.map(|entry| entry.expect("a folder entry").path()));
        }
    }
    files.retain(|path: &PathBuf| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();
    let descriptors = protox::compile(&files, [root]).expect("the .proto files compile");
    let builder = tonic_prost_build::configure()
        .out_dir(out)
        .include_file("mod.rs")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .build_transport(false)
        .bytes(".agent.v1")
        .skip_debug(WITHOUT_DEBUG);
    builder.compile_fds(descriptors).expect("the code is generated");
}

fn read_folder(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?);
    }
    Ok(files)
}
