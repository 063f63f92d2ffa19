//! Who may import whom, by reading the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tests::runner::root;

/// Every source file below a folder: its path there, and its text up to the tests and without comments.
fn sources(folder: &str) -> Vec<(String, String)> {
    let top = root().join(folder);
    let (mut found, mut folders) = (Vec::new(), vec![top.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources").flatten() {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                let relative = path.strip_prefix(&top).expect("it is below").display().to_string();
                found.push((relative, lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(!found.is_empty(), "{} has sources", Path::new(folder).display());
    found
}

/// Whether the code names the crate or path `name` (as a whole word, followed by `::`).
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(place, _)| {
        let before = code[..place].chars().next_back();
        let free = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '.');
        free && code[place + name.len()..].starts_with("::")
    })
}

/// Files for which `breaks` holds.
fn breaking(breaks: impl Fn(&str, &str) -> bool) -> Vec<String> {
    sources("runner/src")
        .into_iter()
        .filter(|(path, code)| breaks(path, code))
        .map(|(path, _)| path)
        .collect()
}

fn below(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path == format!("{folder}.rs") || path.starts_with(&format!("{folder}/")))
}

/// What paths that begin with `from` (`crate::`, `proto::`) name: `server`, `settings::file`, …; groups in braces too.
fn modules(code: &str, from: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (place, _) in code.match_indices(from) {
        let rest = &code[place + from.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_i32;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut word)),
                    _ if depth == 0 && !c.is_whitespace() => word.push(c),
                    _ => {}
                }
            }
            found.push(word);
        } else {
            found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect());
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

fn imports(code: &str, module: &str) -> bool {
    modules(code, "crate::").iter().any(|path| path == module || path.starts_with(&format!("{module}::")))
}

/// Whether the code uses messages of this package of protobuf.
fn messages(code: &str, package: &str) -> bool {
    modules(code, "proto::").iter().any(|path| path == package || path.starts_with(&format!("{package}::")))
}

#[test]
fn messages_of_the_server_and_of_the_agent_stay_at_their_borders() {
    let of_the_server = breaking(|path, code| {
        let border = ["assignment", "source/gitea", "server", "report/gitea"];
        (messages(code, "runner") || messages(code, "ping")) && !below(path, &border)
    });
    assert_eq!(of_the_server, Vec::<String>::new());
    let of_the_agent = breaking(|path, code| messages(code, "agent") && !below(path, &["agent", "backend"]));
    assert_eq!(of_the_agent, Vec::<String>::new());
}

#[test]
fn a_backend_knows_no_workflows() {
    let broken = breaking(|path, code| below(path, &["backend", "agent"]) && names(code, "workflows"));
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn the_inside_of_a_job_sees_no_server_and_no_command_line() {
    let inside = ["job", "step", "action", "backend", "log", "agent"];
    let broken = breaking(|path, code| {
        below(path, &inside)
            && ["server", "settings::file", "cli", "daemon", "source"]
                .iter()
                .any(|module| imports(code, module))
    });
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn backends_and_logs_see_no_job() {
    let broken = breaking(|path, code| {
        below(path, &["backend", "log", "agent"])
            && ["job", "step", "action"].iter().any(|m| imports(code, m))
    });
    assert_eq!(broken, Vec::<String>::new());
}

/// Who else reads the environment: the agent, whose environment is the job's image; `deploy`, which runs in a step.
const OTHER_ENVIRONMENTS: [&str; 2] = ["agent", "deploy"];

#[test]
fn the_environment_is_read_in_one_place() {
    let broken = breaking(|path, code| {
        let reads = ["env::var(", "env::var_os(", "env::vars(", "env::vars_os("];
        path != "settings/env.rs"
            && !below(path, &OTHER_ENVIRONMENTS)
            && reads.iter().any(|call| code.contains(call))
    });
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn the_language_and_the_wire_know_nobody_and_nobody_knows_the_runner() {
    for (crate_name, allowed) in [
        ("workflows", &[][..]),
        ("proto", &[]),
        ("api", &[]),
        ("tests", &["proto"]),
        ("runner", &["workflows", "proto"]),
    ] {
        let manifest = fs::read_to_string(root().join(crate_name).join("Cargo.toml")).expect("a manifest");
        let ours: Vec<&str> = ["workflows", "proto", "runner", "api", "tests"]
            .into_iter()
            .filter(|name| *name != crate_name)
            .filter(|name| {
                manifest.lines().any(|line| {
                    line.starts_with(&format!("{name}.workspace"))
                        || line.starts_with(&format!("{name} = {{"))
                })
            })
            .collect();
        assert_eq!(ours, allowed, "{crate_name}/Cargo.toml");
    }
}

#[test]
fn a_file_fits_in_a_head() {
    for folder in ["runner/src", "workflows/src", "api/src", "tests/src", "tests/suite"] {
        for (path, _) in sources(folder) {
            let lines =
                fs::read_to_string(root().join(folder).join(&path)).expect("a source file").lines().count();
            assert!(lines <= 700, "{folder}/{path} has {lines} lines");
        }
    }
}
