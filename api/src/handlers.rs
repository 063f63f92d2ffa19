//! What each route does: read, ask the store, answer. Refusals are values.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use warp::Reply;
use warp::reply::Response;

use crate::App;
use crate::error::ApiError;
use crate::metrics;
use crate::model::{self, ListQuery};
use crate::request;
use crate::store::{Created, Page, STREAM_PAGE};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `GET /tasks`
///
/// With `limit`, one page. Without, all of them: the store is asked for one page after the other as the client takes
/// them, so memory does not grow with the table; tasks that come and go meanwhile may or may not appear.
pub(crate) async fn list(query: String, app: Arc<App>) -> Result<Response, ApiError> {
    let query = ListQuery::parse(&query)?;
    let first = app.store.list(query, true).await?;
    let total = first.total.ok_or(ApiError::Internal)?;
    let mut response = if query.limit.is_some() || !first.is_full(STREAM_PAGE) {
        Response::new(first.json.into())
    } else {
        warp::reply::stream(stream_from(app, query, first)).into_response()
    };
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert("x-total-count", HeaderValue::from(total));
    Ok(response)
}

/// A list page after page. An error in the middle breaks the connection: the client sees an incomplete answer
/// instead of a shorter list.
fn stream_from(
    app: Arc<App>,
    query: ListQuery,
    first: Page,
) -> impl Stream<Item = Result<Bytes, ListBroken>> + Send + Sync {
    let opening = first.rows_with(b'[');
    let rest = stream::try_unfold((app, first.last), move |(app, last)| async move {
        let Some(after) = last else { return Ok(None) };
        let page = app.store.list(ListQuery { after, ..query }, false).await.map_err(|_| ListBroken)?;
        let (chunk, last) = match page.last {
            Some(last) => (page.rows_with(b','), Some(last)),
            None => (Bytes::from_static(b"]"), None),
        };
        Ok(Some((chunk, (app, last))))
    });
    stream::iter([Ok(opening)]).chain(rest)
}

/// A streamed list that could not be read to its end; the cause is in the log.
#[derive(Debug, thiserror::Error)]
#[error("the list could not be read to its end")]
struct ListBroken;

/// `POST /tasks`
pub(crate) async fn create<S, B>(headers: HeaderMap, body: S, app: Arc<App>) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>> + Send,
    B: Buf,
{
    request::authorize(app.token.as_ref(), &headers)?;
    let key = request::idempotency_key(&headers)?;
    let body = request::read_json(&headers, body).await?;
    let title = model::parse_new_task(&body)?;
    match app.store.create(title, key).await? {
        Created::Task(task) => {
            let location = HeaderValue::try_from(format!("/tasks/{}", task.id));
            let mut response = json(StatusCode::CREATED, &task)?;
            response.headers_mut().insert(header::LOCATION, location.map_err(|_| ApiError::Internal)?);
            Ok(response)
        }
        Created::KeyReused => Err(ApiError::KeyReused),
    }
}

/// `GET /tasks/{id}`
pub(crate) async fn get(id: String, app: Arc<App>) -> Result<Response, ApiError> {
    let task = app.store.get(request::parse_id(&id)?).await?.ok_or(ApiError::TaskNotFound)?;
    json(StatusCode::OK, &task)
}

/// `PUT /tasks/{id}`
///
/// An unknown id is 404 also when the data is wrong, as the original has it.
pub(crate) async fn change<S, B>(
    id: String,
    headers: HeaderMap,
    body: S,
    app: Arc<App>,
) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>> + Send,
    B: Buf,
{
    request::authorize(app.token.as_ref(), &headers)?;
    let body = request::read_json(&headers, body).await?;
    let id = request::parse_id(&id)?;
    let task = match model::parse_change(&body) {
        Ok(change) => app.store.change(id, change).await?,
        Err(error) => app.store.get(id).await?.map(|_| Err(error)).transpose()?,
    };
    json(StatusCode::OK, &task.ok_or(ApiError::TaskNotFound)?)
}

/// `DELETE /tasks/{id}`
pub(crate) async fn remove(id: String, headers: HeaderMap, app: Arc<App>) -> Result<Response, ApiError> {
    request::authorize(app.token.as_ref(), &headers)?;
    if app.store.remove(request::parse_id(&id)?).await? {
        json(StatusCode::OK, &serde_json::json!({ "result": true }))
    } else {
        Err(ApiError::TaskNotFound)
    }
}

/// `GET /health`: the process lives. Asks nobody.
pub(crate) async fn health() -> Result<Response, ApiError> {
    json(StatusCode::OK, &serde_json::json!({ "status": "healthy" }))
}

/// `GET /ready`: requests may come. Asks the database.
pub(crate) async fn ready(app: Arc<App>) -> Result<Response, ApiError> {
    if app.is_draining() {
        return Err(ApiError::Draining);
    }
    app.store.ready().await?;
    json(StatusCode::OK, &serde_json::json!({ "status": "ready" }))
}

/// `GET /metrics`
pub(crate) async fn metrics(app: Arc<App>) -> Result<Response, ApiError> {
    let text = app.metrics.render(&app.store).map_err(|_| ApiError::Internal)?;
    Ok(warp::reply::with_header(text, header::CONTENT_TYPE, metrics::CONTENT_TYPE).into_response())
}

fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(value).map_err(|_| ApiError::Internal)?;
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    Ok(response)
}
