//! A place in memory. Scripts are lines of a tiny language, so that a test says what a process does:
//! `print TEXT`, `exit N`, `env|output|state|path|summary TEXT` (appends to the command file), `sleep SECONDS` (until
//! cancelled; a second word `stubborn` ignores the cancel), `show NAME` (prints a variable), `gone` (the place breaks).

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    backend::{
        Backend, BackendError, Collected, ExecOutcome, ExecSpec, Exit, FileOut, ImageBuild, ImageRun, JobEnv,
        JobSpec, Layout, Notes, Output, Stream, TeardownReport,
    },
    cancel::Cancel,
};

/// Makes fake places; remembers what happened in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Fake {
    /// Files that are in every place from the start.
    pub(super) files: Arc<Mutex<BTreeMap<String, String>>>,
    /// What was done, in order.
    pub(super) done: Arc<Mutex<Vec<String>>>,
    /// Programs that the place has not.
    pub(super) missing: Vec<String>,
    /// Whether steps run in a container.
    pub(super) in_container: bool,
    /// Addresses that answer inside.
    pub(super) open: Vec<String>,
}

#[derive(Debug)]
pub(super) struct FakeEnv {
    fake: Fake,
    layout: Layout,
}

impl Backend for Fake {
    type Env = FakeEnv;

    async fn prepare<N: Notes>(&self, _: JobSpec, _: &N, _: &Cancel) -> Result<FakeEnv, BackendError> {
        let layout = Layout {
            workspace: "/w/o/r".into(),
            temp: "/t".into(),
            tool_cache: "/tools".into(),
            actions: "/a".into(),
            home: "/h".into(),
            node: String::new(),
            environ: [("PATH".to_owned(), "/bin".to_owned())].into(),
            os: "Linux",
            arch: "X64",
            in_container: self.in_container,
            container_id: "c".into(),
            network: "n".into(),
            services: BTreeMap::new(),
        };
        Ok(FakeEnv { fake: self.clone(), layout })
    }
}

impl FakeEnv {
    fn note(&self, text: String) {
        self.fake.done.lock().unwrap().push(text);
    }
}

impl JobEnv for FakeEnv {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    async fn exec<O: Output>(
        &self,
        spec: ExecSpec,
        output: &mut O,
        cancel: &Cancel,
    ) -> Result<ExecOutcome, BackendError> {
        let mut files = self.fake.files.lock().unwrap().clone();
        for file in &spec.files {
            files.insert(file.path.clone(), String::from_utf8(file.bytes.to_vec()).unwrap());
        }
        let mut exit = Exit::Code(0);
        if self.fake.missing.contains(&spec.argv[0]) {
            exit = Exit::NotStarted(format!("{} was not found", spec.argv[0]));
        } else {
            let path =
                spec.argv.iter().rev().find(|word| files.contains_key(*word)).cloned().unwrap_or_default();
            self.note(format!("{} {path}", spec.argv[0]));
            let script = files.get(&path).cloned().unwrap_or_default();
            for line in script.lines() {
                let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
                match verb {
                    "print" => output.write(Stream::Stdout, format!("{rest}\n").as_bytes()).await,
                    "show" => {
                        let value = spec.env.get(rest).map_or("(unset)", String::as_str);
                        output.write(Stream::Stdout, format!("{rest}={value}\n").as_bytes()).await;
                    }
                    "pwd" => output.write(Stream::Stdout, format!("{}\n", spec.cwd).as_bytes()).await,
                    "env" | "output" | "state" | "path" | "summary" => {
                        let name = if verb == "summary" { "STEP_SUMMARY" } else { verb };
                        let file = spec.env[&format!("GITHUB_{}", name.to_uppercase())].clone();
                        let text = rest.replace("\\n", "\n");
                        files.entry(file).or_default().push_str(&format!("{text}\n"));
                    }
                    "sleep" => {
                        let (seconds, stubborn) = rest.split_once(' ').unwrap_or((rest, ""));
                        let nap = tokio::time::sleep(Duration::from_secs(seconds.parse().unwrap()));
                        tokio::select! {
                            () = nap => {}
                            _ = cancel.cancelled(), if stubborn.is_empty() => {
                                exit = Exit::Signal(2);
                                break;
                            }
                        }
                    }
                    "exit" => {
                        exit = Exit::Code(rest.parse().unwrap());
                        break;
                    }
                    "gone" => return Err(BackendError::Lost("the container died".into())),
                    _ => {}
                }
            }
        }
        let files = spec
            .collect
            .iter()
            .map(|file| match files.get(&file.path) {
                Some(text) if text.len() as u64 > file.limit => Collected::TooLarge(text.len() as u64),
                Some(text) => Collected::Content(Bytes::from(text.clone())),
                None => Collected::Missing,
            })
            .collect();
        Ok(ExecOutcome { exit, files, output_held: false, lost: Vec::new() })
    }

    async fn unpack(&self, _: &Path, into: &str) -> Result<(), BackendError> {
        self.note(format!("unpack {into}"));
        Ok(())
    }

    async fn pack(&self, folder: &str, _: &Path) -> Result<(), BackendError> {
        self.note(format!("pack {folder}"));
        Ok(())
    }

    async fn read(&self, file: FileOut) -> Result<Collected, BackendError> {
        let files = self.fake.files.lock().unwrap();
        Ok(files
            .get(&file.path)
            .map_or(Collected::Missing, |text| Collected::Content(Bytes::from(text.clone()))))
    }

    async fn hash_files(&self, patterns: Vec<String>, _: bool) -> Result<String, BackendError> {
        Ok(format!("hash of {}", patterns.join(" ")))
    }

    async fn reaches(&self, address: std::net::IpAddr, port: u16) -> Option<bool> {
        self.note(format!("call {address}:{port}"));
        Some(self.fake.open.contains(&address.to_string()))
    }

    async fn run_image<O: Output>(
        &self,
        run: ImageRun,
        output: &mut O,
        _: &Cancel,
    ) -> Result<ExecOutcome, BackendError> {
        let args = run.args.unwrap_or_default().join(" ");
        let text = format!("image {} [{}] {args}\n", run.container.image, run.entrypoint.join(" "));
        output.write(Stream::Stdout, text.as_bytes()).await;
        for (name, value) in run.container.env.iter().filter(|(name, _)| name.starts_with("INPUT_")) {
            output.write(Stream::Stdout, format!("{name}={value}\n").as_bytes()).await;
        }
        let files = run.collect.iter().map(|_| Collected::Missing).collect();
        Ok(ExecOutcome { exit: Exit::Code(0), files, output_held: false, lost: Vec::new() })
    }

    async fn build_image<O: Output>(
        &self,
        build: ImageBuild,
        _: &mut O,
        _: &Cancel,
    ) -> Result<(), BackendError> {
        self.note(format!("build {}", build.dockerfile));
        Ok(())
    }

    async fn teardown(self, _: Duration) -> TeardownReport {
        self.note("teardown".to_owned());
        TeardownReport::default()
    }
}
