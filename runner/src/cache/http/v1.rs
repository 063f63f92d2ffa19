//! Version 1 of the protocol: look up, reserve, chunks, commit.

use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use warp::reply::Response;

use super::{
    Request, Shared,
    answer::{Refusal, answer, bare, empty},
    json, parameter,
};
use crate::cache::{
    sign::Grant,
    store::{Place, on_disk},
    tokens::JobFacts,
};

/// `GET cache?keys=a,b&version=v`
pub(super) async fn find(shared: &Shared, job: JobFacts, request: Request) -> Result<Response, Refusal> {
    let keys: Vec<String> =
        parameter(&request.query, "keys").unwrap_or_default().split(',').map(str::to_owned).collect();
    let version = parameter(&request.query, "version").unwrap_or_default();
    let repository = job.repository.clone();
    let found = on_disk(&shared.store, move |store| store.find(&repository, &version, &keys)).await?;
    shared.metrics.cache_asked(found.is_some());
    Ok(match found {
        Some(entry) => answer(
            StatusCode::OK,
            &json!({
                "result": "hit",
                "archiveLocation": shared.signed(&job, &request.headers, Grant::Download, entry.id),
                "cacheKey": entry.key,
            }),
        ),
        None => bare(StatusCode::NO_CONTENT),
    })
}

#[derive(Debug, Deserialize)]
struct Reservation {
    key: String,
    version: String,
    #[serde(default, rename = "cacheSize")]
    size: Option<i64>,
}

/// `POST caches`
pub(super) async fn reserve(shared: &Shared, job: JobFacts, request: Request) -> Result<Response, Refusal> {
    let wanted: Reservation = json(request.body).await?;
    if wanted.key.is_empty() {
        return Err(Refusal::bad("a cache needs a key".to_owned()));
    }
    let size = wanted.size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
    let upload = shared.store.begin(&job.repository, &wanted.key, &wanted.version, size);
    Ok(answer(StatusCode::OK, &json!({"cacheId": upload.id})))
}

/// `PATCH caches/ID`
pub(super) async fn chunk(
    shared: &Shared,
    job: JobFacts,
    id: u64,
    request: Request,
) -> Result<Response, Refusal> {
    let upload = on_disk(&shared.store, move |store| store.upload(id, Some(&job.repository))).await?;
    let range = request.headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let place = range
        .and_then(content_range)
        .ok_or_else(|| Refusal::bad(format!("'{}' is no Content-Range", range.unwrap_or_default())))?;
    let bytes = shared.store.receive(&upload, place, request.body).await?;
    shared.metrics.cache_moved("in", bytes);
    Ok(empty())
}

/// `bytes START-END/*`
fn content_range(text: &str) -> Option<Place> {
    let range = text.trim().strip_prefix("bytes")?.trim_start();
    let (range, _total) = range.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (start.trim().parse::<u64>().ok()?, end.trim().parse::<u64>().ok()?);
    // What lies behind the end of any file would only be refused later.
    (end >= start && end < i64::MAX.unsigned_abs()).then(|| Place::Range { start, length: end - start + 1 })
}

/// `POST caches/ID`
pub(super) async fn commit(shared: &Shared, job: JobFacts, id: u64) -> Result<Response, Refusal> {
    on_disk(&shared.store, move |store| {
        store.upload(id, Some(&job.repository))?;
        store.commit(id, None)
    })
    .await?;
    shared.grown.notify_one();
    Ok(empty())
}

#[cfg(test)]
mod tests {
    use super::{Place, content_range};

    #[test]
    fn a_range_has_both_ends() {
        assert!(matches!(content_range("bytes 0-0/*"), Some(Place::Range { start: 0, length: 1 })));
        assert!(matches!(content_range("bytes 32-63/1000"), Some(Place::Range { start: 32, length: 32 })));
        for wrong in
            ["", "bytes", "bytes */*", "bytes 5-4/*", "bytes 1-/*", "0-4/*", "bytes 0-18446744073709551615/*"]
        {
            assert!(content_range(wrong).is_none(), "{wrong}");
        }
    }
}
