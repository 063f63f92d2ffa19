//! A real PostgreSQL server in a scratch folder, on loopback, as a user that is not root.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{free_port, skip};

/// Debian's user without rights.
const NOBODY: u32 = 65534;

/// A server. Its janitor stops it and removes its folder when this process ends, however that happens.
#[derive(Debug)]
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// A shell that waits for the end of its input, which is our end.
    _janitor: Child,
}

impl Postgres {
    /// The server that tests share, each with a database of its own.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        let server = SHARED.get_or_init(Self::launch).as_ref();
        if server.is_none() {
            skip("PostgreSQL's server programs are missing (Debian: postgresql)");
        }
        server
    }

    /// A server for one test, which may stop it.
    pub(crate) fn own() -> Option<Self> {
        let server = Self::launch();
        if server.is_none() {
            skip("PostgreSQL's server programs are missing (Debian: postgresql)");
        }
        server
    }

    fn launch() -> Option<Self> {
        let programs = programs()?;
        let folder =
            tempfile::Builder::new().prefix("task-api-pg").tempdir().expect("a scratch folder").keep();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let data = folder.join("data");
        std::fs::create_dir(&data).expect("a data folder");
        if is_root() {
            chown(&data, Some(NOBODY), Some(NOBODY)).expect("its owner");
        }
        let janitor = Command::new("sh")
            .arg("-c")
            .arg("cat >/dev/null; kill -QUIT \"$(head -n1 \"$0/data/postmaster.pid\")\" 2>/dev/null; sleep 0.3; rm -rf \"$0\"")
            .arg(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let server =
            Self { programs, folder, port: free_port(), databases: AtomicU32::new(0), _janitor: janitor };
        server.run(
            "initdb",
            &["-D", &server.data(), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
        );
        server.start();
        Some(server)
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off",
            self.port
        );
        self.run(
            "pg_ctl",
            &[
                "-D",
                &self.data(),
                "-w",
                "-t",
                "60",
                "-l",
                &format!("{}/log", self.data()),
                "-o",
                &options,
                "start",
            ],
        );
    }

    /// Takes the server away as a crash would.
    pub(crate) fn stop(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://tester:not-a-secret@127.0.0.1:{}/{database}", self.port)
    }

    /// A fresh database; its URL.
    pub(crate) fn create_database(&self) -> String {
        self.create_database_with(&[])
    }

    /// A fresh database made with these flags of `createdb`; its URL.
    pub(crate) fn create_database_with(&self, flags: &[&str]) -> String {
        let name = format!("tasks{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let port = self.port.to_string();
        let mut arguments = vec!["-h", "127.0.0.1", "-p", &port, "-U", "tester"];
        arguments.extend_from_slice(flags);
        arguments.push(&name);
        self.run("createdb", &arguments);
        self.url(&name)
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // A server that goes on must not hold a pipe of ours.
        let log = self.folder.join("commands.log");
        let output = std::fs::File::options().create(true).append(true).open(&log).expect("a log");
        let errors = output.try_clone().expect("a second handle");
        let status = command
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .status();
        let status = status.expect("the program starts");
        assert!(status.success(), "{arguments:?}: {}", std::fs::read_to_string(log).unwrap_or_default());
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The newest installed server's programs.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|folder| Path::new(folder).join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}
