//! `esteira register`: asks, or takes everything from flags and environment.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{ConfigFile, Exit, fail, logging, print, settings};
use crate::{
    label::{Label, LabelError},
    metrics::Metrics,
    secret::Secret,
    server::{
        Client,
        registrar::{Attempts, Wish, register},
    },
    settings::{Environment, Registration, Settings, lock_file},
};

/// Labels that are offered: what most workflows ask for.
pub(super) const DEFAULT_LABELS: &str = "ubuntu-latest:docker://docker.gitea.com/runner-images:ubuntu-latest,\
                                  ubuntu-24.04:docker://docker.gitea.com/runner-images:ubuntu-24.04,\
                                  ubuntu-22.04:docker://docker.gitea.com/runner-images:ubuntu-22.04";

/// Make this machine a runner of a Gitea instance, and write its identity to the registration file.
///
/// The token comes from --token-file, --token, GITEA_RUNNER_REGISTRATION_TOKEN or GITEA_RUNNER_REGISTRATION_TOKEN_FILE, in
/// this order.
#[derive(Debug, Args)]
pub(super) struct RegisterArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Ask nothing: fail when something is missing.
    #[arg(long)]
    no_interactive: bool,
    /// Address of the instance, e.g. `https://gitea.example.com/`; or GITEA_INSTANCE_URL.
    #[arg(long, value_name = "URL")]
    instance: Option<String>,
    /// Registration token. Other users of this machine can see it here while the command runs.
    #[arg(long, hide_env_values = true)]
    token: Option<String>,
    /// File with the registration token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Name of the runner; or GITEA_RUNNER_NAME; default: this machine's name.
    #[arg(long)]
    name: Option<String>,
    /// Labels, separated by commas, each NAME:host or NAME:docker://IMAGE; or GITEA_RUNNER_LABELS.
    #[arg(long)]
    labels: Option<String>,
    /// Let the server forget this runner after one job.
    #[arg(long)]
    ephemeral: bool,
}

/// Runs the subcommand.
pub(super) async fn run(args: RegisterArgs, outer: ConfigFile, environment: Environment) -> ExitCode {
    let mut args = args;
    let config = std::mem::take(&mut args.file).or(outer, &environment);
    let resolved = match settings(config.as_deref(), &environment) {
        Ok(resolved) => resolved,
        Err(exit) => return exit,
    };
    logging::start(&resolved.settings.log);
    let path = resolved.settings.runner.file.clone();
    let _lock = match lock_file(&path) {
        Ok(lock) => lock,
        Err(error) => return fail(Exit::Usage, format_args!("{error}; stop it first")),
    };
    let wish = if args.no_interactive {
        wish_from(&args, &resolved.settings, &environment)
    } else {
        ask_for(&args, &resolved.settings, &environment, &path)
    };
    let wish = match wish {
        Ok(Some(wish)) => wish,
        Ok(None) => return print("Nothing has been changed.\n"),
        Err(sentence) => return fail(Exit::Usage, format_args!("{sentence}")),
    };
    match enrol(&wish, &resolved.settings, &environment, false).await {
        Ok(registration) => print(&format!(
            "Registered as '{}' at {}; the identity is in {}.\n",
            registration.name,
            registration.address,
            path.display()
        )),
        Err((exit, sentence)) => fail(exit, format_args!("{sentence}")),
    }
}

/// Registers and saves. `patient` waits for a server that is only just starting.
pub(super) async fn enrol(
    wish: &Wish,
    settings: &Settings,
    environment: &Environment,
    patient: bool,
) -> Result<Registration, (Exit, String)> {
    let most = match environment.max_registration_attempts.as_deref().map(str::parse) {
        None => 10,
        Some(Ok(most)) if most > 0 => most,
        Some(_) => return Err((Exit::Usage, "GITEA_MAX_REG_ATTEMPTS is no number above 0".to_owned())),
    };
    let wait = Duration::from_secs(if patient { 5 } else { 1 });
    let options = settings.connect_options(environment);
    let client = Client::connect(&wish.address, &options, Metrics::default())
        .await
        .map_err(|error| (Exit::Usage, error.to_string()))?;
    let client = client.with_limit(Duration::from_secs(15));
    let attempts = Attempts { most, wait, patient };
    let registration =
        register(&client, wish, attempts).await.map_err(|sentence| (Exit::Failure, sentence))?;
    registration.save(&settings.runner.file).map_err(|error| {
        (
            Exit::Failure,
            format!("the server has registered this runner, but its identity cannot be kept: {error}"),
        )
    })?;
    Ok(registration)
}

/// Everything from flags, environment and configuration.
fn wish_from(
    args: &RegisterArgs,
    settings: &Settings,
    environment: &Environment,
) -> Result<Option<Wish>, String> {
    let address = args.instance.clone().or_else(|| environment.instance.clone());
    let address = address.filter(|address| !address.trim().is_empty());
    let token = token_from(args, environment)?;
    Ok(Some(Wish {
        address: address.ok_or("the instance is missing: give it with --instance or GITEA_INSTANCE_URL")?.trim().to_owned(),
        token: token.ok_or("the registration token is missing: give it with --token-file, --token or GITEA_RUNNER_REGISTRATION_TOKEN")?,
        name: name_from(args, environment),
        labels: labels(&label_text(args, settings, environment))?,
        ephemeral: args.ephemeral || environment.ephemeral,
    }))
}

/// What `daemon` registers with when there is no registration yet; `None` when the environment says nothing about it.
pub(super) fn wish_of_environment(
    settings: &Settings,
    environment: &Environment,
) -> Result<Option<Wish>, String> {
    if environment.instance.is_none() && !environment.has_token() {
        return Ok(None);
    }
    let args = RegisterArgs {
        file: ConfigFile::default(),
        no_interactive: true,
        instance: None,
        token: None,
        token_file: None,
        name: None,
        labels: None,
        ephemeral: false,
    };
    wish_from(&args, settings, environment)
}

fn name_from(args: &RegisterArgs, environment: &Environment) -> String {
    let given = args.name.clone().or_else(|| environment.runner_name.clone());
    given.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(host_name)
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "esteira".to_owned() } else { name }
}

fn token_from(args: &RegisterArgs, environment: &Environment) -> Result<Option<Secret<String>>, String> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("the token file {} cannot be read: {error}", path.display()))?;
        match text.trim() {
            "" => Err(format!("the token file {} is empty", path.display())),
            token => Ok(Some(Secret::new(token.to_owned()))),
        }
    };
    if let Some(path) = &args.token_file {
        return read(path);
    }
    let given = args.token.as_deref().map(str::trim).filter(|token| !token.is_empty());
    if let Some(token) = given {
        return Ok(Some(Secret::new(token.to_owned())));
    }
    match (&environment.registration_token, &environment.registration_token_file) {
        (Some(token), _) => Ok(Some(Secret::new(token.expose().trim().to_owned()))),
        (None, Some(path)) => read(path),
        (None, None) => Ok(None),
    }
}

/// The configuration's labels, else the flag's, else the environment's, else those that are offered.
fn label_text(args: &RegisterArgs, settings: &Settings, environment: &Environment) -> String {
    let given =
        args.labels.clone().or_else(|| environment.labels.clone()).filter(|text| !text.trim().is_empty());
    if settings.runner.labels.is_empty() {
        return given.unwrap_or_else(|| DEFAULT_LABELS.to_owned());
    }
    if given.is_some() {
        tracing::warn!("the configuration has runner.labels, so other labels are not used");
    }
    settings.runner.labels.join(",")
}

/// All labels, or why one of them is refused. Registration is the moment to say where jobs run.
fn labels(text: &str) -> Result<Vec<Label>, String> {
    let (labels, errors) = Label::parse_list(text);
    if let Some(error) = errors.first() {
        return Err(error.to_string());
    }
    if let Some(vague) = labels.iter().find(|label| !label.is_explicit()) {
        let (name, wrong) = match vague.name().split_once(':') {
            Some((name, rest)) => (name, format!(" ('{rest}' is neither host nor docker)")),
            None => (vague.name(), String::new()),
        };
        return Err(format!(
            "the label '{vague}' does not say where its jobs run{wrong}: write '{name}:host' for this machine itself, or \
             '{name}:docker://IMAGE' for containers"
        ));
    }
    if labels.is_empty() {
        return Err(LabelError::NoName(text.to_owned()).to_string());
    }
    Ok(labels)
}

/// Asks for what is missing; `None` when the person decides otherwise.
fn ask_for(
    args: &RegisterArgs,
    settings: &Settings,
    environment: &Environment,
    path: &Path,
) -> Result<Option<Wish>, String> {
    if path.exists() {
        let answer = ask(&format!("{} exists already. Replace that identity? (y/N)", path.display()), "")?;
        if !matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes") {
            return Ok(None);
        }
    }
    let address = args.instance.clone().or_else(|| environment.instance.clone());
    let address = match address {
        Some(address) => address.trim().to_owned(),
        None => ask_until("Address of the Gitea instance (e.g. https://gitea.example.com/)", "", |text| {
            if text.starts_with("http://") || text.starts_with("https://") {
                Ok(())
            } else {
                Err("it begins with http:// or https://".to_owned())
            }
        })?,
    };
    let token = match token_from(args, environment)? {
        Some(token) => token,
        None => Secret::new(ask_hidden("Registration token (from the page Actions → Runners)")?),
    };
    let name = match (&args.name, &environment.runner_name) {
        (None, None) => ask("Name of this runner", &host_name())?,
        _ => name_from(args, environment),
    };
    let known = !settings.runner.labels.is_empty() || args.labels.is_some() || environment.labels.is_some();
    let text = if known {
        label_text(args, settings, environment)
    } else {
        ask_until("Labels, separated by commas", DEFAULT_LABELS, |text| labels(text).map(|_| ()))?
    };
    let ephemeral = args.ephemeral || environment.ephemeral;
    Ok(Some(Wish { address, token, name, labels: labels(&text)?, ephemeral }))
}

/// Repeats a question until the answer is right.
fn ask_until(
    question: &str,
    default: &str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<String, String> {
    loop {
        let answer = ask(question, default)?;
        match check(&answer) {
            Ok(()) => return Ok(answer),
            Err(reason) => say(&format!("{reason}\n"))?,
        }
    }
}

fn ask(question: &str, default: &str) -> Result<String, String> {
    let hint = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    say(&format!("{question}{hint}: "))?;
    let mut answer = String::new();
    let read = io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| format!("cannot read the answer: {error}"))?;
    if read == 0 {
        return Err("there is nobody to answer: use --no-interactive with flags".to_owned());
    }
    let answer = answer.trim();
    Ok(if answer.is_empty() { default.to_owned() } else { answer.to_owned() })
}

/// Asks without showing the answer on a terminal.
fn ask_hidden(question: &str) -> Result<String, String> {
    let terminal = io::stdin();
    let shown = if terminal.is_terminal() { tcgetattr(&terminal).ok() } else { None };
    if let Some(mode) = &shown {
        let mut hidden = mode.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // A terminal that cannot hide is still a terminal.
        let _ = tcsetattr(&terminal, OptionalActions::Now, &hidden);
    }
    let answer = ask(question, "");
    if let Some(mode) = &shown {
        let _ = tcsetattr(&terminal, OptionalActions::Now, mode);
        say("\n")?;
    }
    match answer?.as_str() {
        "" => Err("the registration token is empty".to_owned()),
        token => Ok(token.to_owned()),
    }
}

fn say(text: &str) -> Result<(), String> {
    let mut terminal = io::stderr();
    terminal
        .write_all(text.as_bytes())
        .and_then(|()| terminal.flush())
        .map_err(|error| format!("cannot ask: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ConfigFile, RegisterArgs, labels, token_from, wish_of_environment};
    use crate::{
        secret::Secret,
        settings::{Environment, Settings},
    };

    fn nothing() -> RegisterArgs {
        RegisterArgs {
            file: ConfigFile::default(),
            no_interactive: true,
            instance: None,
            token: None,
            token_file: None,
            name: None,
            labels: None,
            ephemeral: false,
        }
    }

    #[test]
    fn the_token_file_wins_over_the_flag_and_the_flag_over_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        fs::write(&file, "  from-file\n").expect("a file");
        let environment = Environment {
            registration_token: Some(Secret::new("from-environment".into())),
            ..Environment::default()
        };
        let mut args = nothing();
        let token = |args: &RegisterArgs| {
            token_from(args, &environment).expect("a token").map(|token| token.expose().clone())
        };
        assert_eq!(token(&args).as_deref(), Some("from-environment"));
        args.token = Some("from-flag".into());
        assert_eq!(token(&args).as_deref(), Some("from-flag"));
        args.token_file = Some(file.clone());
        assert_eq!(token(&args).as_deref(), Some("from-file"));
        fs::write(&file, "\n").expect("a file");
        assert!(token_from(&args, &environment).expect_err("empty").contains("is empty"));
    }

    #[test]
    fn labels_have_to_say_where() {
        assert!(labels("a").expect_err("where?").contains("'a:host'"));
        assert!(labels("a:host,b:docker://").expect_err("no image").contains("names no image"));
        assert_eq!(labels("a:host,b:docker://x").expect("right").len(), 2);
    }

    #[test]
    fn the_environment_alone_is_enough_and_what_is_missing_is_named() {
        let settings = Settings::default();
        assert!(wish_of_environment(&settings, &Environment::default()).expect("nothing").is_none());
        let mut environment =
            Environment { instance: Some("http://gitea:3000".into()), ..Environment::default() };
        let missing = wish_of_environment(&settings, &environment).expect_err("no token");
        assert!(missing.contains("token is missing"), "{missing}");
        environment.registration_token = Some(Secret::new("t".into()));
        environment.runner_name = Some("builder".into());
        let wish = wish_of_environment(&settings, &environment).expect("enough").expect("a wish");
        assert_eq!((wish.name.as_str(), wish.labels.len()), ("builder", 3));
    }
}
