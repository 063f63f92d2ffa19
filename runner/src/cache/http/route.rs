//! Which request is which.

use http::Method;

/// Where both versions of the protocol have their addresses.
pub(super) const BASE: &str = "/_apis/artifactcache";
const CACHE_SERVICE: &str = "/twirp/github.actions.results.api.v1.CacheService/";
const ARTIFACT_SERVICE: &str = "/twirp/github.actions.results.api.v1.ArtifactService/";

/// A request that somebody answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// Version 1: look up.
    Find,
    /// Version 1: reserve.
    Reserve,
    /// Version 1: a chunk of an archive.
    Chunk(u64),
    /// Version 1: the archive is whole.
    Commit(u64),
    /// Version 1: does nothing.
    Clean,
    /// A number that is none.
    NoNumber(String),
    /// A signed address for reading.
    Download(u64),
    /// A signed address for writing.
    Upload(u64),
    /// Version 2.
    Cache(CacheCall),
    /// The instance's own.
    Artifacts,
    /// Another runner's job begins.
    Register,
    /// It ends.
    Revoke,
}

/// A method of version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheCall {
    Create,
    Finalize,
    Find,
}

/// `None`: nothing is here.
pub(super) fn route(method: &Method, path: &str) -> Option<Route> {
    if let Some(call) = path.strip_prefix(CACHE_SERVICE) {
        let call = match call {
            "CreateCacheEntry" => CacheCall::Create,
            "FinalizeCacheEntryUpload" => CacheCall::Finalize,
            "GetCacheEntryDownloadURL" => CacheCall::Find,
            _ => return None,
        };
        return (method == Method::POST).then_some(Route::Cache(call));
    }
    if path.starts_with(ARTIFACT_SERVICE) {
        return Some(Route::Artifacts);
    }
    match (method.as_str(), path) {
        ("POST", "/_internal/register") => return Some(Route::Register),
        ("POST", "/_internal/revoke") => return Some(Route::Revoke),
        _ => {}
    }
    let rest = path.strip_prefix(BASE)?;
    match (method.as_str(), rest) {
        ("GET", "/cache") => return Some(Route::Find),
        ("POST", "/caches") => return Some(Route::Reserve),
        ("POST", "/clean") => return Some(Route::Clean),
        _ => {}
    }
    let (kind, id) = rest.strip_prefix('/')?.split_once('/')?;
    let make: fn(u64) -> Route = match (method.as_str(), kind) {
        ("PATCH", "caches") => Route::Chunk,
        ("POST", "caches") => Route::Commit,
        ("GET" | "HEAD", "artifacts") => Route::Download,
        ("PUT", "blobs") => Route::Upload,
        _ => return None,
    };
    if id.contains('/') {
        return None;
    }
    Some(id.parse().map_or_else(|_| Route::NoNumber(id.to_owned()), make))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{CacheCall, Route, route};

    #[test]
    fn every_address_of_the_protocol_is_known_and_no_other() {
        let twirp = "/twirp/github.actions.results.api.v1";
        for (method, path, wanted) in [
            (Method::GET, "/_apis/artifactcache/cache", Route::Find),
            (Method::POST, "/_apis/artifactcache/caches", Route::Reserve),
            (Method::PATCH, "/_apis/artifactcache/caches/7", Route::Chunk(7)),
            (Method::POST, "/_apis/artifactcache/caches/7", Route::Commit(7)),
            (Method::POST, "/_apis/artifactcache/caches/x", Route::NoNumber("x".into())),
            (Method::POST, "/_apis/artifactcache/clean", Route::Clean),
            (Method::GET, "/_apis/artifactcache/artifacts/7", Route::Download(7)),
            (Method::HEAD, "/_apis/artifactcache/artifacts/7", Route::Download(7)),
            (Method::PUT, "/_apis/artifactcache/blobs/7", Route::Upload(7)),
            (
                Method::POST,
                &format!("{twirp}.CacheService/CreateCacheEntry"),
                Route::Cache(CacheCall::Create),
            ),
            (Method::POST, &format!("{twirp}.ArtifactService/CreateArtifact"), Route::Artifacts),
            (Method::POST, "/_internal/register", Route::Register),
            (Method::POST, "/_internal/revoke", Route::Revoke),
        ] {
            assert_eq!(route(&method, path), Some(wanted), "{method} {path}");
        }
        for (method, path) in [
            (Method::GET, "/"),
            (Method::GET, "/_apis/artifactcache"),
            (Method::GET, "/_apis/artifactcachex/cache"),
            (Method::GET, "/_apis/artifactcache/caches/7"),
            (Method::GET, "/_apis/artifactcache/artifacts/7/8"),
            (Method::GET, "/_internal/register"),
            (Method::POST, "/twirp/github.actions.results.api.v1.CacheService/DeleteCacheEntry"),
            (Method::POST, "/twirp/github.actions.results.api.v1.Other/CreateArtifact"),
        ] {
            assert_eq!(route(&method, path), None, "{method} {path}");
        }
    }
}
