//! `esteira config`: look into a configuration file and change it without an editor.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::{ConfigFile, Exit, fail, print, settings};
use crate::settings::{Change, Environment, documented_example, edit, keys};

/// Print, create and check configuration files.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// Configuration file; or CONFIG_FILE; without one, every key has its default. May stand behind the key, too.
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a configuration file in which every key is explained.
    Generate,
    /// Write such a file.
    Init {
        /// Where; default: `config.yaml`, or what --config says.
        file: Option<PathBuf>,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Check the file given by --config: everything that is wrong, with its place.
    Check,
    /// Print the value of a key, as the file given by --config and the defaults have it.
    Get {
        /// Dotted path, e.g. `runner.capacity`.
        key: String,
    },
    /// Change the value of a key in the file given by --config; comments and order stay.
    Set {
        /// Dotted path.
        key: String,
        /// The value; a list takes several.
        #[arg(required = true, allow_hyphen_values = true)]
        values: Vec<String>,
    },
    /// Add values to a list in the file given by --config.
    Add {
        /// Dotted path.
        key: String,
        /// What to add.
        #[arg(required = true, allow_hyphen_values = true)]
        values: Vec<String>,
    },
    /// Take values out of a list in the file given by --config.
    Remove {
        /// Dotted path.
        key: String,
        /// What to take out.
        #[arg(required = true, allow_hyphen_values = true)]
        values: Vec<String>,
    },
}

/// Runs the subcommand.
pub(super) fn run(args: ConfigArgs, outer: ConfigFile, environment: &Environment) -> ExitCode {
    let config = ConfigFile { config: args.config }.or(outer, environment);
    let config = config.as_deref();
    match args.command {
        ConfigCommand::Generate => print(&documented_example()),
        ConfigCommand::Init { file, force } => {
            let path =
                file.or_else(|| config.map(Path::to_owned)).unwrap_or_else(|| PathBuf::from("config.yaml"));
            init(&path, force)
        }
        ConfigCommand::Check => match settings(config, environment) {
            Ok(resolved) => {
                let mut text: String =
                    resolved.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
                text.push_str("The configuration can be used.\n");
                print(&text)
            }
            Err(exit) => exit,
        },
        ConfigCommand::Get { key } => get(&key, config, environment),
        ConfigCommand::Set { key, values } => change(config, &key, Change::Set(&values)),
        ConfigCommand::Add { key, values } => change(config, &key, Change::Add(&values)),
        ConfigCommand::Remove { key, values } => change(config, &key, Change::Remove(&values)),
    }
}

fn init(path: &Path, force: bool) -> ExitCode {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).create_new(!force);
    match options.open(path).and_then(|mut file| file.write_all(documented_example().as_bytes())) {
        Ok(()) => print(&format!("{} is written.\n", path.display())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fail(Exit::Usage, format_args!("{} is there already; --force replaces it", path.display()))
        }
        Err(error) => fail(Exit::Failure, format_args!("{} cannot be written: {error}", path.display())),
    }
}

/// Changes the file as one step; its owner and mode stay.
fn change(config: Option<&Path>, path: &str, change: Change<'_>) -> ExitCode {
    let file = config.map_or_else(|| PathBuf::from("config.yaml"), Path::to_owned);
    let Some(key) = keys::find(path) else {
        let hint = keys::nearest(path).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        return fail(Exit::Usage, format_args!("there is no key {path}{hint}"));
    };
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fail(
                Exit::Usage,
                format_args!("{} does not exist: `esteira config init` writes it", file.display()),
            );
        }
        Err(error) => return fail(Exit::Failure, format_args!("{}: {error}", file.display())),
    };
    let changed = match edit(&text, key, change) {
        Ok(changed) => changed,
        Err(sentence) => return fail(Exit::Usage, format_args!("{}: {sentence}", file.display())),
    };
    match replace(&file, &changed) {
        Ok(()) => Exit::Success.into(),
        Err(error) => fail(Exit::Failure, format_args!("{} cannot be written: {error}", file.display())),
    }
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    use std::{
        io::Write,
        os::unix::fs::{MetadataExt, fchown},
    };
    // A link stays a link.
    let file = &fs::canonicalize(file)?;
    let facts = fs::metadata(file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut scratch = tempfile::NamedTempFile::new_in(folder)?;
    scratch.write_all(text.as_bytes())?;
    scratch.as_file().set_permissions(facts.permissions())?;
    // Only root may give files away; then there is nothing to keep.
    let _ = fchown(scratch.as_file(), Some(facts.uid()), Some(facts.gid()));
    scratch.as_file().sync_all()?;
    scratch.persist(file).map_err(|failed| failed.error)?;
    Ok(())
}

/// The key's text in the file, or its default.
fn get(path: &str, config: Option<&Path>, environment: &Environment) -> ExitCode {
    let Some(key) = keys::find(path) else {
        let hint = keys::nearest(path).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        return fail(Exit::Usage, format_args!("there is no key {path}{hint}"));
    };
    if let Err(exit) = settings(config, environment) {
        return exit;
    }
    let written = config.and_then(|file| fs::read_to_string(file).ok()).and_then(|text| {
        let tree: serde_yaml::Value = serde_yaml::from_str(&text).ok()?;
        let value = path.split('.').try_fold(&tree, |node, part| node.get(part))?;
        (!value.is_null()).then(|| value.clone())
    });
    match written {
        Some(serde_yaml::Value::String(text)) => print(&format!("{text}\n")),
        Some(serde_yaml::Value::Sequence(items)) => {
            print(&format!("{}\n", items.iter().map(plain).collect::<Vec<_>>().join("\n")))
        }
        Some(value) => print(&format!("{}\n", plain(&value))),
        None => print(&format!("{}\n", key.default.trim_matches('"'))),
    }
}

fn plain(value: &serde_yaml::Value) -> String {
    match value {
        serde_yaml::Value::String(text) => text.clone(),
        other => serde_yaml::to_string(other).unwrap_or_default().trim_end().to_owned(),
    }
}
