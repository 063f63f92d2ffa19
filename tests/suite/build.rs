//! What the program is made of.

use std::{fs, process::Command};

use tests::runner::{program, root};

#[test]
fn the_program_is_one_static_file() {
    let bytes = fs::read(program()).expect("the program can be read");
    assert_eq!(bytes.get(..5), Some(&b"\x7fELF\x02"[..]), "a 64-bit ELF file");
    let word = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0_usize, |value, byte| value << 8 | usize::from(*byte))
    };
    // Program headers: offset, size of one, how many; each begins with its type. 3 names a dynamic loader.
    let (offset, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    let kinds: Vec<usize> = (0..count).map(|n| word(offset + n * size, 4)).collect();
    assert!(!kinds.is_empty());
    assert!(!kinds.contains(&3), "it asks for a dynamic loader: was it built with another RUSTFLAGS?");
}

#[test]
fn no_other_tls_stack_and_no_system_library_is_in_the_tree() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is committed");
    let names: Vec<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(names.contains(&"tokio"), "the file is read");
    for banned in ["aws-lc-sys", "aws-lc-rs", "openssl-sys", "native-tls", "curl-sys"] {
        assert!(!names.contains(&banned), "{banned} is in the tree");
    }
}

#[test]
fn the_service_unit_and_the_image_let_jobs_end() {
    let service = root().join("runner/service");
    let told = Command::new(program())
        .args(["config", "get", "runner.shutdown_timeout", "--config"])
        .arg(service.join("config.yaml"))
        .output()
        .expect("the program starts");
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "3h", "{told:?}");
    let text = |path: &str| fs::read_to_string(root().join(path)).expect("the file is there");
    let unit = text("runner/service/esteira.service");
    for line in ["TimeoutStopSec=3h10min", "KillMode=mixed", "RestartPreventExitStatus=2 3"] {
        assert!(unit.lines().any(|found| found == line), "the unit has no line {line}");
    }
    let image = text("Dockerfile");
    assert!(image.contains("cp runner/service/config.yaml /image/etc/esteira/"));
    assert!(image.contains("CONFIG_FILE=/etc/esteira/config.yaml"));
}
