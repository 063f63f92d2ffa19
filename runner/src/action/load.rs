//! Finding and reading the actions of a job before its first step: in parallel, nested ones too, each once.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use futures_util::future::join_all;
use workflows::{Action, Condition, Mode, Runs, SourceFile, StepKind, parse_action_with};

use super::{ActionStore, Archive, GitError, Reference, ReferenceError, Remote, RemoteReference};
use crate::{
    backend::Layout,
    job::{Stage, frame::is_checkout},
    log::JobLog,
    secret::Secret,
};

/// How deep actions may use actions, as on GitHub.
pub(super) const DEPTH: usize = 10;
/// The largest `action.yml` that is read, in bytes.
const DEFINITION_LIMIT: u64 = 1024 * 1024;

/// From where and with what an assignment takes actions.
#[derive(Debug, Clone, Default)]
pub struct ActionSource {
    /// Base of references without a host, without trailing slash.
    pub default_url: String,
    /// Base of the job's own server, without trailing slash.
    pub instance_url: String,
    /// The job's token, which only its own server gets.
    pub token: Option<Secret<String>>,
    /// Whether called workflows come from `default_url` too: for runs without a server.
    pub workflows_with_actions: bool,
    /// Whether stock actions are made to accept this server (`runner.patch_actions`).
    pub patch: bool,
    /// Folders that stand for repositories: `owner/name` or `owner/name@ref`.
    pub local: Vec<(String, PathBuf)>,
}

/// The repository and commit that a file came from: what `$/path` means in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// Base URL, without trailing slash; `None` for the instance.
    pub(crate) base: Option<String>,
    /// `owner/name`; empty when it is a folder of the workspace.
    pub(crate) repository: String,
    /// Branch, tag or commit.
    pub(crate) git_ref: String,
}

/// An action that has been read.
#[derive(Debug)]
pub(crate) struct LoadedAction {
    /// As the user wrote it.
    pub(crate) shown: String,
    /// Its `action.yml`.
    pub(crate) definition: Action,
    pub(crate) residence: Residence,
    pub(crate) origin: Origin,
}

/// Where an action's files are.
#[derive(Debug)]
pub(crate) enum Residence {
    /// In an archive of the store, to be unpacked into the place when it is first used.
    Archive {
        /// The repository's tree.
        archive: Arc<Archive>,
        /// Its folder in the place, below [`Layout::actions`].
        root: String,
        /// The action's folder inside the repository.
        path: String,
    },
    /// In the place already: an absolute folder below the workspace.
    Workspace(String),
}

impl LoadedAction {
    /// The folder that holds its `action.yml` inside the place.
    pub(crate) fn folder(&self, layout: &Layout) -> String {
        match &self.residence {
            Residence::Archive { root, path, .. } if path.is_empty() => format!("{}/{root}", layout.actions),
            Residence::Archive { root, path, .. } => format!("{}/{root}/{path}", layout.actions),
            Residence::Workspace(folder) => folder.clone(),
        }
    }

    /// Whether it came from another repository.
    pub(crate) const fn is_remote(&self) -> bool {
        matches!(self.residence, Residence::Archive { .. })
    }

    /// Repository and ref of a remote one: `github.action_repository` and `github.action_ref`.
    pub(crate) fn remote(&self) -> Option<(&str, &str)> {
        self.is_remote().then_some((self.origin.repository.as_str(), self.origin.git_ref.as_str()))
    }

    /// Whether it has the stage, and on what condition: `None` inside is "always".
    #[expect(clippy::option_option, reason = "no stage, a stage without a condition, a stage with one")]
    pub(crate) fn stage_condition(&self, stage: Stage) -> Option<Option<Condition>> {
        let condition = |has: bool, condition: &Option<Condition>| {
            has.then(|| condition.clone().map(Condition::verbatim))
        };
        match (&self.definition.runs, stage) {
            (_, Stage::Main) => Some(None),
            (Runs::Node { pre, pre_if, .. } | Runs::Go { pre, pre_if, .. }, Stage::Pre) => {
                condition(pre.is_some(), pre_if)
            }
            (Runs::Node { post, post_if, .. } | Runs::Go { post, post_if, .. }, Stage::Post) => {
                condition(post.is_some(), post_if)
            }
            (Runs::Docker { pre_entrypoint, pre_if, .. }, Stage::Pre) => {
                condition(pre_entrypoint.is_some(), pre_if)
            }
            (Runs::Docker { post_entrypoint, post_if, .. }, Stage::Post) => {
                condition(post_entrypoint.is_some(), post_if)
            }
            (Runs::Composite { steps }, _) => steps.iter().any(|step| step.uses().is_some()).then_some(None),
        }
    }
}

/// The remote actions of one job, read.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    loaded: HashMap<String, Result<Arc<LoadedAction>, ReferenceError>>,
    source: ActionSource,
    /// Whether `actions/checkout` without `repository` means the local working tree.
    pub(crate) working_tree: bool,
}

/// One repository that has to be had.
struct Wanted {
    key: String,
    reference: RemoteReference,
    origin: Origin,
}

impl Actions {
    /// Nothing yet.
    pub(crate) fn new(source: &ActionSource, working_tree: bool) -> Self {
        Self { loaded: HashMap::new(), source: source.clone(), working_tree }
    }

    /// Reads everything that `uses` names, and everything that these use. The first that cannot be had is the error.
    pub(crate) async fn add(
        &mut self,
        uses: &[Reference],
        origin: &Origin,
        store: &ActionStore,
        log: &JobLog,
    ) -> Result<(), GitError> {
        let mut wanted = self.wanted(uses.iter().map(|reference| (reference, origin)));
        if !wanted.is_empty() {
            log.row("Prepare all required actions").await;
        }
        for _ in 0..DEPTH {
            if wanted.is_empty() {
                return Ok(());
            }
            let mut fetches = Vec::with_capacity(wanted.len());
            for wanted in &wanted {
                fetches.push(self.fetch(wanted, store, log));
            }
            let fetched = join_all(fetches).await;
            let mut next: Vec<(Reference, Origin)> = Vec::new();
            let mut shown = HashSet::new();
            for (wanted, result) in wanted.into_iter().zip(fetched) {
                let action = result?;
                if let Residence::Archive { archive, .. } = &action.residence {
                    let name = format!("{}@{}", wanted.reference.name(), wanted.reference.git_ref);
                    if shown.insert(name.clone()) {
                        log.row(&format!("Download action repository '{name}' (SHA:{})", archive.commit))
                            .await;
                    }
                }
                if let Runs::Composite { steps } = &action.definition.runs {
                    for step in steps {
                        if let StepKind::Uses { uses, .. } = &step.kind
                            && let Ok(reference) = Reference::parse(uses.raw())
                            && !(self.working_tree && is_checkout(&reference, step))
                        {
                            next.push((reference, action.origin.clone()));
                        }
                    }
                }
                self.loaded.insert(wanted.key, Ok(Arc::new(action)));
            }
            wanted = self.wanted(next.iter().map(|(reference, origin)| (reference, origin)));
        }
        match wanted.first() {
            Some(wanted) => Err(GitError(format!(
                "actions use each other more than {DEPTH} deep, at {}",
                wanted.reference
            ))),
            None => Ok(()),
        }
    }

    /// The action behind a reference, which [`Self::resolve`] has read.
    pub(crate) fn get(
        &self,
        reference: &Reference,
        origin: &Origin,
    ) -> Result<Arc<LoadedAction>, ReferenceError> {
        let missing = || ReferenceError::new("the action was not prepared before the job's first step");
        let (key, _, _) = self.locate(reference, origin).ok_or_else(missing)?;
        self.loaded.get(&key).cloned().unwrap_or_else(|| Err(missing()))
    }

    /// What is not here yet, each once.
    fn wanted<'r>(&self, references: impl Iterator<Item = (&'r Reference, &'r Origin)>) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for (reference, origin) in references {
            let Some((key, reference, origin)) = self.locate(reference, origin) else { continue };
            if !self.loaded.contains_key(&key) && !wanted.iter().any(|other| other.key == key) {
                wanted.push(Wanted { key, reference, origin });
            }
        }
        wanted
    }

    /// The repository behind a reference; `None` for what is no repository.
    fn locate(&self, reference: &Reference, origin: &Origin) -> Option<(String, RemoteReference, Origin)> {
        let remote = match reference {
            Reference::Remote(remote) => remote.clone(),
            Reference::Own(path) => {
                let (owner, repository) = origin.repository.split_once('/')?;
                RemoteReference {
                    base: Some(origin.base.clone().unwrap_or_else(|| self.source.instance_url.clone())),
                    owner: owner.to_owned(),
                    repository: repository.to_owned(),
                    path: path.clone(),
                    git_ref: origin.git_ref.clone(),
                }
            }
            Reference::Docker(_) | Reference::Local(_) => return None,
        };
        let url = remote.clone_url(&self.source.default_url);
        let origin = Origin {
            base: Some(remote.base.clone().unwrap_or_else(|| self.source.default_url.clone())),
            repository: remote.name(),
            git_ref: remote.git_ref.clone(),
        };
        Some((format!("{url} {} {}", remote.path, remote.git_ref), remote, origin))
    }

    async fn fetch(
        &self,
        wanted: &Wanted,
        store: &ActionStore,
        log: &JobLog,
    ) -> Result<LoadedAction, GitError> {
        let reference = &wanted.reference;
        let archive = match self.source.stand_in(reference) {
            Some(folder) => store.pack_folder(folder).await?,
            None => store.obtain(&self.source.remote(reference), &reference.git_ref).await.map_err(
                |GitError(why)| GitError(format!("The action `{reference}` cannot be had: {why}.")),
            )?,
        };
        let host = reference.base.as_deref().and_then(|base| base.split("://").nth(1)).map_or_else(
            String::new,
            |host| {
                let host = host.rsplit('@').next().unwrap_or(host);
                format!("{}/", host.replace(':', "_"))
            },
        );
        let root = format!("{host}{}/{}", reference.name(), reference.git_ref);
        let definition = read_definition(&archive, reference).await?;
        let archive = self.patched(archive, reference, store, log).await;
        Ok(LoadedAction {
            shown: reference.to_string(),
            definition,
            residence: Residence::Archive { archive, root, path: reference.path.clone() },
            origin: wanted.origin.clone(),
        })
    }
}

impl Actions {
    /// The patched copy of an action that needs one. Without it the action does what it does on its own.
    async fn patched(
        &self,
        archive: Arc<Archive>,
        reference: &RemoteReference,
        store: &ActionStore,
        log: &JobLog,
    ) -> Arc<Archive> {
        if !self.source.patch || self.source.stand_in(reference).is_some() {
            return archive;
        }
        match store.patched(&archive).await {
            Ok(None) => archive,
            Ok(Some(copy)) => {
                let row = format!(
                    "Use a copy of {reference} that accepts this server (`runner.patch_actions: false` uses it as it is)"
                );
                log.row(&row).await;
                copy
            }
            Err(error) => {
                log.warning(&format!("{reference} cannot be patched and is used as it is: {error}")).await;
                archive
            }
        }
    }
}

impl ActionSource {
    /// Where called workflows without a host are: at the job's own server, or where `exec` takes everything from.
    pub(crate) fn workflow_url(&self) -> &str {
        if self.workflows_with_actions { &self.default_url } else { &self.instance_url }
    }

    /// The folder that stands for a repository, if one was named.
    pub(crate) fn stand_in(&self, reference: &RemoteReference) -> Option<&PathBuf> {
        let name = reference.name();
        let whole = format!("{name}@{}", reference.git_ref);
        self.local
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(&whole))
            .or_else(|| self.local.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name)))
            .map(|(_, folder)| folder)
    }

    /// Where to clone from. The token goes to the job's own server only, and never beside credentials of the URL.
    pub(crate) fn remote(&self, reference: &RemoteReference) -> Remote {
        let url = reference.clone_url(&self.default_url);
        let host = |url: &str| {
            url::Url::parse(url)
                .ok()
                .and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default())))
        };
        let own_server = host(&url).is_some_and(|found| host(&self.instance_url) == Some(found));
        Remote { url, token: self.token.clone().filter(|_| own_server), own_server }
    }
}

/// The names under which an action's definition may be found, best first.
pub(crate) fn definition_names(path: &str) -> Vec<String> {
    ["action.yml", "action.yaml", "Dockerfile", "dockerfile"]
        .iter()
        .map(|name| if path.is_empty() { (*name).to_owned() } else { format!("{path}/{name}") })
        .collect()
}

async fn read_definition(archive: &Arc<Archive>, reference: &RemoteReference) -> Result<Action, GitError> {
    let (reader, names) = (archive.clone(), definition_names(&reference.path));
    let found = tokio::task::spawn_blocking(move || reader.read_first(&names, DEFINITION_LIMIT))
        .await
        .map_err(|error| GitError(error.to_string()))?
        .map_err(|error| GitError(format!("The action `{reference}` cannot be read: {error}.")))?;
    let Some((name, content)) = found else {
        return Err(GitError(format!(
            "The action `{reference}` has no action.yml, action.yaml or Dockerfile in {}.",
            if reference.path.is_empty() { "its repository's root" } else { &reference.path }
        )));
    };
    parse_definition(&name, &content)
        .map_err(|why| GitError(format!("The action `{reference}` is broken: {why}")))
}

/// Reads an `action.yml`; a lone Dockerfile is an action without inputs.
pub(crate) fn parse_definition(name: &str, content: &[u8]) -> Result<Action, String> {
    let file = name.rsplit('/').next().unwrap_or(name);
    if file.eq_ignore_ascii_case("Dockerfile") {
        return Ok(Action {
            name: None,
            description: None,
            author: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            runs: Runs::Docker {
                image: file.to_owned(),
                entrypoint: None,
                pre_entrypoint: None,
                post_entrypoint: None,
                args: None,
                env: None,
                pre_if: None,
                post_if: None,
            },
            source: SourceFile::new(name, ""),
        });
    }
    let text = std::str::from_utf8(content).map_err(|_| format!("{name} is no UTF-8"))?;
    let source = SourceFile::new(name, text);
    parse_action_with(&source, Mode::Lenient).into_result().map_err(|diagnostics| {
        let lines: Vec<String> =
            diagnostics.iter().map(|diagnostic| workflows::render_line(diagnostic, &source)).collect();
        lines.join("\n")
    })
}
