//! Version 2 of the protocol: three calls, in JSON or protobuf. The bytes travel by signed addresses (`blob`).

use http::{HeaderValue, StatusCode, header};
use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use warp::{Reply, reply::Response};

use super::{
    Body, Request, Shared, TEXT,
    answer::{Refusal, answer, identified},
    route::CacheCall,
    text,
};
use crate::cache::{
    sign::Grant,
    store::{StoreError, on_disk},
    tokens::JobFacts,
};

/// How a call is written; its answer comes likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Protobuf,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct Create {
    #[prost(string, tag = "2")]
    key: String,
    #[prost(string, tag = "3")]
    version: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct Created {
    #[prost(bool, tag = "1")]
    ok: bool,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    signed_upload_url: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct Finalize {
    #[prost(string, tag = "2")]
    key: String,
    #[prost(int64, tag = "3")]
    #[serde(alias = "sizeBytes", deserialize_with = "number")]
    size_bytes: i64,
    #[prost(string, tag = "4")]
    version: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct Finalized {
    #[prost(bool, tag = "1")]
    ok: bool,
    #[prost(int64, tag = "2")]
    #[serde(serialize_with = "as_text")]
    entry_id: i64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct Find {
    #[prost(string, tag = "2")]
    key: String,
    #[prost(string, repeated, tag = "3")]
    #[serde(alias = "restoreKeys")]
    restore_keys: Vec<String>,
    #[prost(string, tag = "4")]
    version: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct Found {
    #[prost(bool, tag = "1")]
    ok: bool,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    signed_download_url: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    matched_key: String,
}

/// Protobuf's JSON has large numbers as text; clients send both.
fn number<'de, D: Deserializer<'de>>(source: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(i64),
        Text(String),
    }
    match Number::deserialize(source)? {
        Number::Number(number) => Ok(number),
        Number::Text(text) => text.trim().parse().map_err(serde::de::Error::custom),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
fn as_text<S: Serializer>(number: &i64, target: S) -> Result<S::Ok, S::Error> {
    target.serialize_str(&number.to_string())
}

/// Answers one call.
pub(super) async fn call(
    shared: &Shared,
    job: JobFacts,
    call: CacheCall,
    request: Request,
) -> Result<Response, Refusal> {
    let kind = request.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let protobuf = kind.is_some_and(|kind| kind.trim_start().starts_with("application/protobuf"));
    let form = if protobuf { Form::Protobuf } else { Form::Json };
    let Request { headers, body, .. } = request;
    match call {
        CacheCall::Create => {
            let wanted: Create = read(form, body).await?;
            named(&wanted.key, &wanted.version)?;
            let (repository, Create { key, version }) = (job.repository.clone(), wanted);
            let upload = on_disk(&shared.store, move |store| {
                let there = store.has(&repository, &version, &key)?;
                Ok((!there).then(|| store.begin(&repository, &key, &version, None)))
            })
            .await?;
            let url = upload.map(|upload| shared.signed(&job, &headers, Grant::Upload, upload.id));
            let created = Created { ok: url.is_some(), signed_upload_url: url.unwrap_or_default() };
            Ok(written(form, &created))
        }
        CacheCall::Finalize => {
            let wanted: Finalize = read(form, body).await?;
            named(&wanted.key, &wanted.version)?;
            let id = finalize(shared, &job, wanted).await?;
            let entry_id = id.and_then(|id| i64::try_from(id).ok()).unwrap_or_default();
            Ok(written(form, &Finalized { ok: id.is_some(), entry_id }))
        }
        CacheCall::Find => {
            let wanted: Find = read(form, body).await?;
            named(&wanted.key, &wanted.version)?;
            let repository = job.repository.clone();
            let keys: Vec<String> = [wanted.key].into_iter().chain(wanted.restore_keys).collect();
            let version = wanted.version;
            let found = on_disk(&shared.store, move |store| store.find(&repository, &version, &keys)).await?;
            shared.metrics.cache_asked(found.is_some());
            let found = found.map_or_else(Found::default, |entry| Found {
                ok: true,
                signed_download_url: shared.signed(&job, &headers, Grant::Download, entry.id),
                matched_key: entry.key,
            });
            Ok(written(form, &found))
        }
    }
}

/// The id, unless nothing fits.
async fn finalize(shared: &Shared, job: &JobFacts, wanted: Finalize) -> Result<Option<u64>, Refusal> {
    let Ok(size) = u64::try_from(wanted.size_bytes) else { return Ok(None) };
    let Some(id) = shared.store.newest_upload(&job.repository, &wanted.key, &wanted.version) else {
        return Ok(None);
    };
    match on_disk(&shared.store, move |store| store.commit(id, Some(size))).await {
        Ok(_) => {
            shared.grown.notify_one();
            Ok(Some(id))
        }
        Err(error @ (StoreError::Size { .. } | StoreError::NotReserved(_))) => {
            tracing::warn!(%error, "an archive is not taken into the cache");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn named(key: &str, version: &str) -> Result<(), Refusal> {
    if key.is_empty() || version.is_empty() {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "key and version must not be empty"));
    }
    Ok(())
}

async fn read<T: Message + Default + DeserializeOwned>(form: Form, body: Body) -> Result<T, Refusal> {
    let bytes = text(body, TEXT).await?;
    let wrong = |error: &dyn std::fmt::Display| Refusal::bad(format!("the call is not understood: {error}"));
    match form {
        Form::Json => serde_json::from_slice(&bytes).map_err(|error| wrong(&error)),
        Form::Protobuf => T::decode(bytes.as_slice()).map_err(|error| wrong(&error)),
    }
}

fn written(form: Form, message: &(impl Message + Serialize)) -> Response {
    match form {
        Form::Json => answer(StatusCode::OK, message),
        Form::Protobuf => {
            let mut response = message.encode_to_vec().into_response();
            let kind = HeaderValue::from_static("application/protobuf");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            identified(&mut response);
            response
        }
    }
}
