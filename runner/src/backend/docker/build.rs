//! Images of actions that bring a Dockerfile: built by the engine's own builder from a tar stream, and kept under a tag
//! that is made from their content.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use bollard::{body_try_stream, query_parameters::BuildImageOptionsBuilder};
use futures_util::StreamExt;

use super::{Shared, auth, engine};
use crate::{
    backend::{BackendError, ImageBuild, Output, Stream},
    cancel::Cancel,
};

/// Builds unless the tag is there.
pub(super) async fn build<O: Output>(
    shared: &Shared,
    build: ImageBuild,
    proxies: &BTreeMap<String, String>,
    output: &mut O,
    cancel: &Cancel,
) -> Result<(), BackendError> {
    if !build.force {
        match shared.engine.docker.inspect_image(&build.tag).await {
            Ok(_) => return Ok(()),
            Err(error) if engine::status(&error) == Some(404) => {}
            Err(error) => return Err(engine::failed(format!("looking for the image {}", build.tag))(error)),
        }
    }
    tokio::select! {
        biased;
        // Dropping the request ends the build.
        _ = cancel.cancelled() => Err(BackendError::Cancelled),
        built = run(shared, &build, proxies, output) => built,
    }
}

async fn run<O: Output>(
    shared: &Shared,
    build: &ImageBuild,
    proxies: &BTreeMap<String, String>,
    output: &mut O,
) -> Result<(), BackendError> {
    let context: &Path = &build.context;
    let file = tokio::fs::File::open(context).await.map_err(|error| {
        BackendError::engine(format!("reading the build context {}", context.display()), error)
    })?;
    let body = body_try_stream(tokio_util::io::ReaderStream::with_capacity(file, 256 << 10));
    let arguments: HashMap<String, String> = proxies.clone().into_iter().collect();
    let options = BuildImageOptionsBuilder::default()
        .dockerfile(&build.dockerfile)
        .t(&build.tag)
        .rm(true)
        .forcerm(true)
        .nocache(build.force)
        .buildargs(&arguments)
        .build();
    let credentials = auth::all(&shared.config.environ);
    let failed = |reason: String| {
        BackendError::Image(format!("the image of {} cannot be built: {reason}", build.dockerfile))
    };
    let mut progress =
        std::pin::pin!(shared.engine.docker.build_image(options, Some(credentials), Some(body)));
    while let Some(piece) = progress.next().await {
        let piece = piece.map_err(|error| failed(engine::message(&error)))?;
        if let Some(reason) = piece.error_detail.and_then(|detail| detail.message) {
            return Err(failed(reason.trim().to_owned()));
        }
        if let Some(text) = piece.stream {
            output.write(Stream::Stdout, text.as_bytes()).await;
        } else if let (None, Some(status)) = (piece.id, piece.status) {
            output.write(Stream::Stdout, format!("{status}\n").as_bytes()).await;
        }
    }
    Ok(())
}
