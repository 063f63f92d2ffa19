//! The real `esteira` in a hermetic home: no inherited environment, its own folders, its output in files.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::gitea::FakeGitea;

/// The program under test: `ESTEIRA_BIN`, or what cargo builds in the profile of these tests.
///
/// # Panics
/// When there is none.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(named) = std::env::var_os("ESTEIRA_BIN") {
            let path = PathBuf::from(named);
            assert!(path.is_file(), "ESTEIRA_BIN names no file: {}", path.display());
            return path;
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "-p", "runner", "--bin", "esteira", "--message-format=json-render-diagnostics"])
            .current_dir(root())
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo can be started");
        assert!(built.status.success(), "cargo could not build esteira");
        let text = String::from_utf8_lossy(&built.stdout);
        let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut found = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
        found.rfind(|path| path.ends_with("esteira")).expect("cargo says where esteira is")
    })
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace")
}

/// A folder that is everything a runner knows of the machine.
#[derive(Debug)]
pub struct Home {
    folder: tempfile::TempDir,
    program: PathBuf,
    environment: Vec<(String, String)>,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// An empty home.
    ///
    /// # Panics
    /// When there is no temporary folder.
    pub fn new() -> Self {
        Self::of(program())
    }

    /// An empty home for another program with the same command line.
    ///
    /// # Panics
    /// When there is no temporary folder.
    pub fn of(program: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("story-").tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("tmp")).expect("a folder in the home");
        Self { folder, program: program.to_owned(), environment: Vec::new() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a variable to what its processes get.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes a file below the home.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("folders in the home");
        fs::write(path, text).expect("a file in the home");
    }

    /// Reads a file below the home; empty when it is not there.
    pub fn read(&self, name: &str) -> String {
        read(&self.path().join(name))
    }

    /// `esteira` with these arguments, in the home, with the home's environment only.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path())
            .env("TMPDIR", self.path().join("tmp"))
            .envs(self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let mut process = self.start("run", arguments);
        let status = process.wait(60);
        Ended { status, stdout: process.stdout(), stderr: process.stderr() }
    }

    /// Starts it; what it prints goes to `NAME.stdout` and `NAME.stderr` in the home.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Process {
        let open = |end: &str| {
            let path = self.path().join(format!("{name}.{end}"));
            File::options().append(true).create(true).open(path).expect("a file for the output")
        };
        let mut command = self.command(arguments);
        let child = command.stdout(open("stdout")).stderr(open("stderr")).spawn();
        Process {
            child: child.expect("esteira can be started"),
            stdout: self.path().join(format!("{name}.stdout")),
            stderr: self.path().join(format!("{name}.stderr")),
            status: None,
        }
    }

    /// Registers with `gitea`, with these labels.
    ///
    /// # Panics
    /// When it is refused.
    pub fn register(&self, gitea: &FakeGitea, labels: &str) {
        let (url, token) = (gitea.url(), gitea.registration_token());
        let arguments =
            ["register", "--no-interactive", "--instance", &url, "--token", &token, "--name", "story"];
        let ended = self.run(&[&arguments[..], &["--labels", labels]].concat());
        assert!(ended.status.success(), "register: {ended:?}");
    }

    /// Starts the daemon; it reads `config.yaml` if the story has written one.
    pub fn daemon(&self, more: &[&str]) -> Process {
        let mut arguments = vec!["daemon"];
        if self.path().join("config.yaml").exists() {
            arguments.extend(["--config", "config.yaml"]);
        }
        arguments.extend(more);
        self.start("daemon", &arguments)
    }

    /// The uuid and token of the registration file.
    ///
    /// # Panics
    /// When there is no such file, or it is not what it should be.
    pub fn registration(&self) -> (String, String) {
        let file: serde_json::Value =
            serde_json::from_str(&self.read(".runner")).expect("a registration file");
        let text = |key: &str| file[key].as_str().expect("a text in the registration file").to_owned();
        (text("uuid"), text("token"))
    }

    /// Every file below the home that is not a folder or a link, with its path relative to the home.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(path),
                    Ok(kind) if kind.is_file() => {
                        let bytes = fs::read(&path).unwrap_or_default();
                        found.push((path.strip_prefix(self.path()).unwrap_or(&path).to_owned(), bytes));
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// What a process that has ended leaves.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Both streams.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A running `esteira`; killed when the story drops it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Its process id.
    ///
    /// # Panics
    /// Never: a child has a process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has printed to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Both streams.
    pub fn text(&self) -> String {
        self.stdout() + &self.stderr()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there");
    }

    /// `kill -9`, and waits for its end.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        let status = self.child.wait().expect("a child can be waited for");
        assert_eq!(status.signal(), Some(9), "it had ended by itself: {status}\n{}", self.text());
        self.status = Some(status);
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be asked");
        }
        self.status
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `seconds`.
    pub fn wait(&mut self, seconds: u64) -> ExitStatus {
        let (stdout, stderr) = (self.stdout.clone(), self.stderr.clone());
        let text = || format!("{}{}", read(&stdout), read(&stderr));
        within(seconds, "esteira ends", || self.ended(), text)
    }

    /// Waits until it has printed `text`.
    ///
    /// # Panics
    /// When it has not within `seconds`.
    pub fn says(&self, seconds: u64, text: &str) {
        within(
            seconds,
            &format!("esteira says `{text}`"),
            || self.text().contains(text).then_some(()),
            || self.text(),
        );
    }

    /// Ends it as an operator does, and waits.
    ///
    /// # Panics
    /// When it does not end within 30 s.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(30)
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed story shows what its processes printed")]
    fn drop(&mut self) {
        if self.status.is_none() {
            // It may have ended meanwhile; there is nobody left to tell.
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.stderr.display(), self.text());
        }
    }
}

/// Looks every 20 ms until there is something to see.
///
/// # Panics
/// When there is nothing within `seconds`: with `what` and with what `story` tells.
pub fn within<T>(
    seconds: u64,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
    story: impl FnOnce() -> String,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}\n{}", story());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes of this machine whose environment or command line contains `mark`, as `pid command`.
pub fn processes_with(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let (environment, command) = (read("environ"), read("cmdline"));
        if [&environment, &command].iter().any(|text| text.windows(mark.len()).any(|w| w == mark.as_bytes()))
        {
            found.push(format!("{name} {}", String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}
