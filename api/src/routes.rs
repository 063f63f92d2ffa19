//! The routes as warp's filters. Paths come first, then methods, so that an unknown path is 404 and a known path with
//! another method is 405 with what it allows.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use warp::reply::Response;
use warp::{Filter, Rejection};

use crate::App;
use crate::error::ApiError;
use crate::handlers;
use crate::openapi;
use crate::page::Pages;
use crate::service::Route;

/// All routes. Nothing falls through: what no filter takes becomes the error it is.
pub(crate) fn routes(
    app: Arc<App>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    tasks(Arc::clone(&app))
        .or(task(Arc::clone(&app)))
        .unify()
        .or(probes(app))
        .unify()
        .or(documents())
        .unify()
        .recover(async |rejection: Rejection| {
            let error =
                if rejection.is_not_found() { ApiError::RouteNotFound } else { ApiError::InvalidData };
            Ok::<_, Infallible>(error.into_response())
        })
        .unify()
}

/// `/tasks`
fn tasks(app: Arc<App>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let with_app = with(app);
    let list = reading().and(query()).and(with_app.clone()).then(handlers::list);
    let create = warp::post()
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .and(with_app)
        .then(async |headers, body, app| handlers::create(headers, body, app).await);
    let answer = answered(list).or(answered(create)).unify().or(refused("GET, HEAD, OPTIONS, POST")).unify();
    warp::path("tasks").and(warp::path::end()).and(answer).map(labelled("/tasks"))
}

/// `/tasks/{id}`
fn task(app: Arc<App>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let with_app = with(app);
    let segment = warp::path::param::<String>().and(warp::path::end());
    let get = segment.and(reading()).and(with_app.clone()).then(handlers::get);
    let change = segment
        .and(warp::put())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .and(with_app.clone())
        .then(async |id, headers, body, app| handlers::change(id, headers, body, app).await);
    let remove =
        segment.and(warp::delete()).and(warp::header::headers_cloned()).and(with_app).then(handlers::remove);
    let other = segment.map(|_| ()).untuple_one().and(refused("GET, HEAD, OPTIONS, PUT, DELETE"));
    let answer = answered(get).or(answered(change)).unify().or(answered(remove)).unify().or(other).unify();
    warp::path("tasks").and(answer).map(labelled("/tasks/{id}"))
}

/// What orchestrators and Prometheus ask.
fn probes(app: Arc<App>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let with_app = with(app);
    let health = answered(reading().then(handlers::health)).or(refused("GET, HEAD, OPTIONS")).unify();
    let ready = answered(reading().and(with_app.clone()).then(handlers::ready))
        .or(refused("GET, HEAD, OPTIONS"))
        .unify();
    let metrics =
        answered(reading().and(with_app).then(handlers::metrics)).or(refused("GET, HEAD, OPTIONS")).unify();
    let health = warp::path("health").and(warp::path::end()).and(health).map(labelled("/health"));
    let ready = warp::path("ready").and(warp::path::end()).and(ready).map(labelled("/ready"));
    let metrics = warp::path("metrics").and(warp::path::end()).and(metrics).map(labelled("/metrics"));
    health.or(ready).unify().or(metrics).unify()
}

/// The page and the OpenAPI document.
fn documents() -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let pages = Arc::new(Pages::new());
    let page = reading().and(warp::header::headers_cloned()).map(move |headers| pages.answer(&headers));
    let page = page.or(refused("GET, HEAD, OPTIONS")).unify();
    // The filters are cloned for every request: what they carry must be cheap to clone.
    let document = Bytes::from(openapi::document());
    let document = reading().map(move || {
        let mut response = Response::new(document.clone().into());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    });
    let document = document.or(refused("GET, HEAD, OPTIONS")).unify();
    let page = warp::path::end().and(page).map(labelled("/"));
    let document =
        warp::path("openapi.json").and(warp::path::end()).and(document).map(labelled("/openapi.json"));
    page.or(document).unify()
}

fn with(app: Arc<App>) -> impl Filter<Extract = (Arc<App>,), Error = Infallible> + Clone {
    warp::any().map(move || Arc::clone(&app))
}

/// GET, and HEAD, whose body hyper keeps back.
fn reading() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::get().or(warp::head()).unify()
}

/// The query part of the URL, empty if there is none.
fn query() -> impl Filter<Extract = (String,), Error = Infallible> + Copy {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// What a handler returns, refusals too, becomes a response.
fn answered<F>(filter: F) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone
where
    F: Filter<Extract = (Result<Response, ApiError>,), Error = Rejection> + Clone + Send,
{
    filter.map(|outcome: Result<Response, ApiError>| outcome.unwrap_or_else(ApiError::into_response))
}

/// The known path with another method. OPTIONS asks for just what is allowed.
fn refused(methods: &'static str) -> impl Filter<Extract = (Response,), Error = Infallible> + Copy {
    warp::method().map(move |method: Method| {
        if method != Method::OPTIONS {
            return ApiError::MethodNotAllowed(methods).into_response();
        }
        let mut response = Response::default();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
        response
    })
}

/// Names the route for the counters.
fn labelled(route: &'static str) -> impl Fn(Response) -> Response + Copy {
    move |mut response| {
        response.extensions_mut().insert(Route(route));
        response
    }
}
