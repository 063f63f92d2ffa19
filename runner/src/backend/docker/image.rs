//! Images: pulled when they are missing or when that is asked for, with rows while it takes its time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bollard::{auth::DockerCredentials, errors::Error, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt;

use super::{Shared, auth, engine, options::Pull};
use crate::backend::{BackendError, Credentials, Notes};

/// How often a pull is tried when the registry or the way to it fails.
const TRIES: u32 = 3;

/// How often a long pull says where it is.
const EVERY: Duration = Duration::from_secs(5);

/// What is wanted of an image.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    pub(super) image: &'a str,
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) platform: Option<&'a str>,
    pub(super) pull: Option<Pull>,
}

impl Wanted<'_> {
    /// Whether it is pulled before anything else, though it may be there. What is pinned by digest cannot change.
    pub(super) fn always(&self, force: bool) -> bool {
        let pinned = self.image.contains("@sha256:");
        match self.pull {
            Some(pull) => pull == Pull::Always && !pinned,
            None => force && !pinned,
        }
    }
}

/// Pulls. Errors are sentences for the user.
pub(super) async fn pull<N: Notes>(
    shared: &Shared,
    wanted: &Wanted<'_>,
    notes: &N,
) -> Result<(), BackendError> {
    let image = wanted.image;
    if wanted.pull == Some(Pull::Never) {
        return Err(BackendError::Image(format!(
            "the image {image} is not there, and the options say --pull=never"
        )));
    }
    let mut credentials = auth::for_image(image, wanted.credentials, &shared.config.environ).await;
    let mut attempt = 1;
    loop {
        notes.note(&format!("Pulling {image}")).await;
        let Err(error) = once(shared, wanted, credentials.clone(), notes).await else { return Ok(()) };
        let reason = engine::message(&error);
        if is_denied(&reason) && credentials.take().is_some() {
            notes
                .note(&format!(
                    "The registry refuses the credentials for {image} ({reason}); trying without them."
                ))
                .await;
            continue;
        }
        if attempt == TRIES || !is_temporary(&error, &reason) {
            return Err(BackendError::Image(format!("the image {image} cannot be pulled: {reason}")));
        }
        let pause = Duration::from_secs(u64::from(attempt) * 3);
        notes.note(&format!("{reason}; trying again in {} s.", pause.as_secs())).await;
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

async fn once<N: Notes>(
    shared: &Shared,
    wanted: &Wanted<'_>,
    credentials: Option<DockerCredentials>,
    notes: &N,
) -> Result<(), Error> {
    let (name, tag) = split(wanted.image);
    let options = CreateImageOptionsBuilder::default()
        .from_image(name)
        .tag(tag)
        .platform(wanted.platform.unwrap_or_default())
        .build();
    let mut stream = std::pin::pin!(shared.engine.docker.create_image(Some(options), None, credentials));
    let began = Instant::now();
    let mut told = began;
    let mut layers: HashMap<String, (i64, i64)> = HashMap::new();
    let mut last = String::new();
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        if let Some(error) = piece.error_detail.and_then(|detail| detail.message) {
            return Err(Error::DockerStreamError { error });
        }
        if let Some((id, progress)) = piece.id.zip(piece.progress_detail) {
            layers.insert(id, (progress.current.unwrap_or(0), progress.total.unwrap_or(0)));
        } else if let Some(status) = piece.status {
            last = status;
        }
        if told.elapsed() >= EVERY {
            told = Instant::now();
            let (done, all) = layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
            let row = format!(
                "Pulling {}: {} of {} MB in {} layers after {} s",
                wanted.image,
                done / 1_000_000,
                all / 1_000_000,
                layers.len(),
                began.elapsed().as_secs()
            );
            notes.note(&row).await;
        }
    }
    notes.note(&format!("Pulled {} in {:.1} s ({last})", wanted.image, began.elapsed().as_secs_f64())).await;
    Ok(())
}

/// Name and tag (or digest) of a reference; without either, `latest` is meant, and never "all of them".
fn split(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

fn is_denied(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["unauthorized", "denied", "authentication required", "no basic auth"]
        .iter()
        .any(|word| reason.contains(word))
}

fn is_temporary(error: &Error, reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    let final_words = [
        "not found",
        "manifest unknown",
        "no such",
        "does not exist",
        "invalid reference",
        "no matching manifest",
    ];
    if is_denied(&reason) || final_words.iter().any(|word| reason.contains(word)) {
        return false;
    }
    !matches!(engine::status(error), Some(400 | 404))
}

/// Whether a request failed because the image is not there.
pub(super) fn is_missing(error: &Error) -> bool {
    let reason = engine::message(error).to_ascii_lowercase();
    engine::status(error) == Some(404)
        && (reason.contains("no such image")
            || reason.contains("image not known")
            || reason.contains("image"))
}

#[cfg(test)]
mod tests {
    use super::{Pull, Wanted, split};

    #[test]
    fn a_reference_without_a_tag_means_latest() {
        assert_eq!(split("alpine"), ("alpine", "latest"));
        assert_eq!(split("registry:5000/a/b"), ("registry:5000/a/b", "latest"));
        assert_eq!(split("registry:5000/a/b:3"), ("registry:5000/a/b", "3"));
        assert_eq!(split("a@sha256:00"), ("a", "sha256:00"));
    }

    #[test]
    fn what_is_pinned_is_never_pulled_again() {
        let wanted = |image, pull| Wanted { image, credentials: None, platform: None, pull };
        assert!(wanted("a", None).always(true) && !wanted("a", None).always(false));
        assert!(!wanted("a@sha256:00", None).always(true));
        assert!(
            !wanted("a", Some(Pull::Missing)).always(true) && wanted("a", Some(Pull::Always)).always(false)
        );
    }
}
