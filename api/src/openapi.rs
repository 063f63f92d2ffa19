//! The contract for programs. The document is derived from these declarations; a test holds every answer of the
//! running service against it, and a property tester makes requests from it.

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use crate::model::Task;

/// The OpenAPI document as JSON.
pub fn document() -> String {
    // Serializing our own constant document cannot fail; an empty document would fail every test.
    Document::openapi().to_json().unwrap_or_default()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "task-api", description = "Tasks: list, add, change, delete. Errors are JSON, in Portuguese or in English by Accept-Language."),
    paths(list, create, get, change, remove, health, ready, metrics, page, openapi),
    components(schemas(Task, NewTask, TaskChange, Failure, Removed, HealthState)),
    modifiers(&Token)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        if let Some(components) = &mut document.components {
            let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
            components.add_security_scheme("token", scheme);
        }
    }
}

/// What POST takes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema is what it is for")]
struct NewTask {
    /// Trimmed before it is stored; control characters are refused.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f]*$"
    )]
    title: String,
}

/// What PUT takes: any of its members.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema is what it is for")]
struct TaskChange {
    /// Trimmed before it is stored; control characters are refused.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f]*$"
    )]
    title: Option<String>,
    /// Whether it is done.
    #[schema(nullable = false)]
    done: Option<bool>,
}

/// Every refusal.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema is what it is for")]
struct Failure {
    /// One sentence, in the client's language.
    error: String,
}

/// The answer to DELETE.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema is what it is for")]
struct Removed {
    result: bool,
}

/// The answer of a probe.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema is what it is for")]
struct HealthState {
    status: String,
}

#[utoipa::path(get, path = "/tasks", summary = "All tasks, or a page of them, by id", params(
    ("done" = Option<bool>, Query, description = "Only done, or only open tasks", nullable = false),
    ("limit" = Option<i64>, Query, description = "At most this many; without it, all", minimum = 1, maximum = 1000, nullable = false),
    ("after" = Option<i64>, Query, description = "Only ids above this one", minimum = 0, nullable = false),
), responses(
    (status = 200, description = "The tasks", body = [Task], headers(("X-Total-Count" = u64, description = "How many tasks the filter matches on all pages"))),
    (status = 400, description = "A parameter cannot be understood", body = Failure),
    (status = 503, description = "The database does not answer", body = Failure),
))]
#[expect(dead_code, reason = "the declaration is what it is for")]
fn list() {}

#[utoipa::path(post, path = "/tasks", summary = "Adds a task", request_body = NewTask, security((), ("token" = [])), params(
    ("Idempotency-Key" = Option<String>, Header, description = "The same key makes one task only, for 24 hours", min_length = 1, max_length = 255, pattern = "^[!-~]+$", nullable = false),
), responses(
    (status = 201, description = "The new task", body = Task, headers(("Location" = String, description = "Its path"))),
    (status = 400, description = "No title, or invalid data", body = Failure),
    (status = 401, description = "The token is missing or wrong", body = Failure),
    (status = 408, description = "The body did not arrive in time", body = Failure),
    (status = 409, description = "The key was used for another title", body = Failure),
    (status = 413, description = "The body is larger than 64 KiB", body = Failure),
    (status = 415, description = "The body is not JSON", body = Failure),
    (status = 503, description = "The database does not answer", body = Failure),
))]
#[expect(dead_code, reason = "the declaration is what it is for")]
fn create() {}

#[utoipa::path(get, path = "/tasks/{id}", summary = "One task", params(("id" = i64, Path, description = "Its id", minimum = 1)), responses(
    (status = 200, description = "The task", body = Task),
    (status = 404, description = "No such task", body = Failure),
    (status = 503, description = "The database does not answer", body = Failure),
))]
#[expect(dead_code, reason = "the declaration is what it is for")]
fn get() {}

#[utoipa::path(put, path = "/tasks/{id}", summary = "Changes a task", request_body = TaskChange, security((), ("token" = [])), params(("id" = i64, Path, description = "Its id", minimum = 1)), responses(
    (status = 200, description = "The changed task", body = Task),
    (status = 400, description = "Invalid data", body = Failure),
    (status = 401, description = "The token is missing or wrong", body = Failure),
    (status = 404, description = "No such task", body = Failure),
    (status = 408, description = "The body did not arrive in time", body = Failure),
    (status = 413, description = "The body is larger than 64 KiB", body = Failure),
    (status = 415, description = "The body is not JSON", body = Failure),
    (status = 503, description = "The database does not answer", body = Failure),
))]
#[expect(dead_code, reason = "the declaration is what it is for")]
fn change() {}

#[utoipa::path(delete, path = "/tasks/{id}", summary = "Deletes a task", security((), ("token" = [])), params(("id" = i64, Path, description = "Its id", minimum = 1)), responses(
    (status = 200, description = "It is gone", body = Removed),
    (status = 401, description = "The token is missing or wrong", body = Failure),
    (status = 404, description = "No such task", body = Failure),
    (status = 503, description = "The database does not answer", body = Failure),
))]
#[expect(dead_code, reason = "the declaration is what it is for")]
fn remove() {}

#[utoipa::path(get, path = "/health", summary = "Whether the process lives", responses((status = 200, description = "It does", body = HealthState)))]
#[expect(dead_code, reason = "the declaration is what it is for")]
fn health() {}

#[utoipa::path(get, path = "/ready", summary = "Whether requests may come", responses(
    (status = 200, description = "They may", body = HealthState),
    (status = 503, description = "The database does not answer, or the service is shutting down", body = Failure),
))]
#[expect(dead_code, reason = "the declaration is what it is for")]
fn ready() {}

#[utoipa::path(get, path = "/metrics", summary = "Numbers for Prometheus", responses((status = 200, description = "OpenMetrics", content_type = "application/openmetrics-text", body = String)))]
#[expect(dead_code, reason = "the declaration is what it is for")]
fn metrics() {}

#[utoipa::path(get, path = "/", summary = "The page for people", responses((status = 200, description = "HTML", content_type = "text/html", body = String)))]
#[expect(dead_code, reason = "the declaration is what it is for")]
fn page() {}

#[utoipa::path(get, path = "/openapi.json", summary = "This document", responses((status = 200, description = "OpenAPI", content_type = "application/json", body = Object)))]
#[expect(dead_code, reason = "the declaration is what it is for")]
fn openapi() {}
