//! `esteira doctor`: looks at everything that a runner needs, and says what to do about what is missing.

use std::{
    fmt::Write,
    fs::File,
    io::{IsTerminal, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use clap::Args;

use super::{ConfigFile, Exit, print};
use crate::{
    daemon::{Engine, free_space},
    label::{Label, Placement},
    metrics::Metrics,
    server::{Client, ServerError, registrar::advise},
    settings::{Environment, Registration, RegistrationError, Resolved, Settings, load},
};

/// Check configuration, registration, server, clock, engine, disk and this program itself. Changes nothing; the server
/// notes that the runner was seen.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Only print what is not right.
    #[arg(short, long)]
    quiet: bool,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Warning,
    Wrong,
}

/// All that has been looked at.
#[derive(Debug, Default)]
struct Findings(Vec<(Verdict, String)>);

impl Findings {
    fn right(&mut self, text: impl Into<String>) {
        self.0.push((Verdict::Right, text.into()));
    }

    fn warning(&mut self, text: impl Into<String>) {
        self.0.push((Verdict::Warning, text.into()));
    }

    fn wrong(&mut self, text: impl Into<String>) {
        self.0.push((Verdict::Wrong, text.into()));
    }

    fn show(&self, quiet: bool, colour: bool) -> String {
        let mut text = String::new();
        for (verdict, sentence) in &self.0 {
            let (mark, code) = match verdict {
                Verdict::Right if quiet => continue,
                Verdict::Right => ("ok     ", "32"),
                Verdict::Warning => ("warning", "33"),
                Verdict::Wrong => ("wrong  ", "31"),
            };
            // Writing into a String cannot fail.
            let _ = if colour {
                writeln!(text, "\u{1b}[{code}m{mark}\u{1b}[0m {sentence}")
            } else {
                writeln!(text, "{mark} {sentence}")
            };
        }
        text
    }
}

/// Runs the subcommand.
pub(super) async fn run(args: DoctorArgs, outer: ConfigFile, environment: Environment) -> ExitCode {
    let config = args.file.or(outer, &environment);
    let mut findings = Findings::default();
    look_at_program(&mut findings);
    match load(config.as_deref(), &environment) {
        Ok(resolved) => look_at_rest(&resolved, &environment, &mut findings).await,
        Err(error) => findings.wrong(error.to_string()),
    }
    let exit = print(&findings.show(args.quiet, std::io::stdout().is_terminal()));
    if findings.0.iter().any(|(verdict, _)| *verdict == Verdict::Wrong) { Exit::Failure.into() } else { exit }
}

async fn look_at_rest(resolved: &Resolved, environment: &Environment, findings: &mut Findings) {
    let settings = &resolved.settings;
    match &resolved.file {
        Some(file) => {
            findings.right(format!("the configuration {} can be used", file.display()));
        }
        None => findings.right("there is no configuration file: every key has its default"),
    }
    for warning in &resolved.warnings {
        findings.warning(warning.clone());
    }
    look_at_disk(settings, findings);
    let labels = match Registration::load(&settings.runner.file) {
        Ok(registration) => {
            let labels = look_at_labels(settings, environment, &registration, findings);
            look_at_server(settings, environment, &registration, findings).await;
            labels
        }
        Err(error @ RegistrationError::Missing(_)) if environment.instance.is_some() => {
            findings.warning(format!(
                "{error}; `daemon` does that by itself with GITEA_INSTANCE_URL and a token"
            ));
            Vec::new()
        }
        Err(error) => {
            findings.wrong(error.to_string());
            Vec::new()
        }
    };
    look_at_engine(settings, environment, &labels, findings).await;
}

/// Static, or else it cannot be the agent of a job in another image.
fn look_at_program(findings: &mut Findings) {
    match interpreter() {
        Ok(None) => {
            findings.right(format!("esteira {} is a static program", crate::VERSION));
        }
        Ok(Some(interpreter)) => findings.wrong(format!(
            "this program needs {interpreter}, so that it cannot run inside jobs' images: build it without an outer \
             RUSTFLAGS, which switches crt-static off"
        )),
        Err(error) => findings.warning(format!("this program cannot be looked at: {error}")),
    }
}

/// The dynamic linker that an ELF program names.
fn interpreter() -> std::io::Result<Option<String>> {
    let mut program = File::open("/proc/self/exe")?;
    let mut header = [0; 64];
    program.read_exact(&mut header)?;
    let at = |offset: usize, length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(&header[offset..offset + length]);
        u64::from_le_bytes(bytes)
    };
    let (table, size, count) =
        if header[4] == 2 { (at(32, 8), at(54, 2), at(56, 2)) } else { (at(28, 4), at(42, 2), at(44, 2)) };
    for index in 0..count {
        program.seek(SeekFrom::Start(table + index * size))?;
        let mut entry = [0; 56];
        let wanted = usize::try_from(size).unwrap_or(56).min(56);
        program.read_exact(&mut entry[..wanted])?;
        if entry[..4] != 3_u32.to_le_bytes() {
            continue;
        }
        let number = |offset: usize, length: usize| {
            let mut bytes = [0; 8];
            bytes[..length].copy_from_slice(&entry[offset..offset + length]);
            u64::from_le_bytes(bytes)
        };
        let (offset, length) =
            if header[4] == 2 { (number(8, 8), number(32, 8)) } else { (number(4, 4), number(16, 4)) };
        program.seek(SeekFrom::Start(offset))?;
        let mut name = vec![0; usize::try_from(length).unwrap_or(0).min(4096)];
        program.read_exact(&mut name)?;
        return Ok(Some(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()));
    }
    Ok(None)
}

fn look_at_disk(settings: &Settings, findings: &mut Findings) {
    let least = settings.health_check.min_free_disk_space_mb;
    for folder in [&settings.runner.state_dir, &settings.host.workdir_parent] {
        match free_space(folder) {
            Ok(free) if free < least => {
                findings.warning(format!(
                    "only {free} MiB are free at {}: clean up, or give it more",
                    folder.display()
                ));
            }
            Ok(free) => {
                findings.right(format!("{free} MiB are free at {}", folder.display()));
            }
            Err(error) => {
                findings.wrong(format!("free space cannot be found out: {error}"));
            }
        }
    }
    let folder = existing(&settings.runner.state_dir);
    if let Err(error) = tempfile::tempfile_in(&folder) {
        findings.wrong(format!(
            "{} cannot be written to: {error}; runner.state_dir names another folder",
            folder.display()
        ));
    }
}

fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    if found.as_os_str().is_empty() { PathBuf::from(".") } else { found.to_owned() }
}

fn look_at_labels(
    settings: &Settings,
    environment: &Environment,
    registration: &Registration,
    findings: &mut Findings,
) -> Vec<Label> {
    findings.right(format!("registered as '{}' at {}", registration.name, registration.address));
    let texts = match &environment.labels {
        Some(text) => text.split(',').map(|label| label.trim().to_owned()).collect(),
        None if !settings.runner.labels.is_empty() => settings.runner.labels.clone(),
        None => registration.labels.clone(),
    };
    let (labels, sentences) = Registration::parse_labels(&texts);
    for sentence in sentences {
        findings.warning(sentence);
    }
    if labels.is_empty() {
        findings.wrong("there is no label that could be used: give some with runner.labels, each NAME:host or NAME:docker://IMAGE");
    } else {
        findings.right(format!(
            "labels: {}",
            labels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ));
    }
    labels
}

async fn look_at_server(
    settings: &Settings,
    environment: &Environment,
    registration: &Registration,
    findings: &mut Findings,
) {
    let options = settings.connect_options(environment);
    let client = match Client::connect(&registration.address, &options, Metrics::default()).await {
        Ok(client) => client.with_limit(Duration::from_secs(10)),
        Err(error) => return findings.wrong(error.to_string()),
    };
    let start = Instant::now();
    match client.ping(&registration.name).await {
        Ok((_, date)) => {
            let took = start.elapsed().as_millis();
            findings.right(format!("the server answers within {took} ms"));
            look_at_clock(date.as_deref(), findings);
        }
        Err(error) => return findings.wrong(advise(&error, &registration.address)),
    }
    let recognised = match client.with_credentials(&registration.credentials()) {
        Ok(client) => client.recognise().await,
        Err(error) => Err(error),
    };
    match recognised {
        Ok(()) => findings.right("the server knows this runner"),
        Err(error @ ServerError::Unregistered) => {
            findings.wrong(format!("{error}: register again with `esteira register`"));
        }
        Err(error) => findings.wrong(advise(&error, &registration.address)),
    }
}

/// Tokens and log times depend on both clocks going alike.
fn look_at_clock(date: Option<&str>, findings: &mut Findings) {
    let Some(theirs) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return };
    let Ok(ours) = jiff::Timestamp::try_from(SystemTime::now()) else { return };
    let apart = (ours.as_second() - theirs.timestamp().as_second()).abs();
    if apart > 30 {
        findings.warning(format!(
            "this clock and the server's are {apart} s apart: set both by NTP, tokens depend on it"
        ));
    } else {
        findings.right("this clock and the server's agree");
    }
}

async fn look_at_engine(
    settings: &Settings,
    environment: &Environment,
    labels: &[Label],
    findings: &mut Findings,
) {
    let wanted = settings.container.require_docker
        || !settings.runner.default_image.is_empty()
        || labels.iter().any(|label| matches!(label.placement(), Placement::Docker(_)));
    let scratch = match tempfile::tempdir() {
        Ok(scratch) => scratch,
        Err(error) => return findings.wrong(format!("no scratch folder can be made: {error}")),
    };
    let engine = Engine::new(settings, environment, scratch.path(), Path::new("/proc/self/exe"));
    match engine.look().await {
        Ok(sentence) => {
            findings.right(format!("the container engine answers: {sentence}"));
        }
        Err(reason) if wanted => {
            findings.wrong(format!("no container engine answers, and labels need one: {reason}"));
        }
        Err(reason) => {
            findings.right(format!("no container engine answers, and no label needs one ({reason})"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Findings, interpreter, look_at_clock};

    #[test]
    fn what_is_right_can_be_left_out() {
        let mut findings = Findings::default();
        findings.right("good");
        findings.wrong("bad");
        assert_eq!(findings.show(true, false), "wrong   bad\n");
        assert!(findings.show(false, false).contains("ok      good"));
    }

    #[test]
    fn this_program_is_static_when_it_is_built_as_it_ships() {
        let found = interpreter().expect("an ELF program");
        assert_eq!(found.is_none(), cfg!(target_feature = "crt-static"), "{found:?}");
    }

    #[test]
    fn a_clock_that_is_far_off_is_told() {
        let mut findings = Findings::default();
        look_at_clock(Some("Mon, 01 Jan 2001 00:00:00 GMT"), &mut findings);
        assert!(findings.show(false, false).contains("NTP"), "{findings:?}");
    }
}
