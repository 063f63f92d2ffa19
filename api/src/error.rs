//! Every refusal a client can get: its code, and its text in both languages.
//!
//! A handler only says which one. `service` knows the client's language and writes the answer: the error travels in
//! the extensions of an empty response.

use http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use crate::language::Language;

/// A refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiError {
    /// POST without a title, or with an empty one.
    TitleRequired,
    /// A title that is empty after trimming, too long, or has control characters.
    TitleInvalid,
    /// Not a JSON object, or a wrong type in it.
    InvalidData,
    /// A query parameter that cannot be understood.
    InvalidParameter(&'static str),
    /// An `Idempotency-Key` that is empty, too long or not visible ASCII.
    InvalidKey,
    /// An HTTP/1.1 request names its host not at all, or twice.
    InvalidHost,
    /// The bearer token is missing or wrong.
    Unauthorized,
    /// No task has this id.
    TaskNotFound,
    /// No route has this path.
    RouteNotFound,
    /// The path exists, the method does not; these do.
    MethodNotAllowed(&'static str),
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body stopped before its end.
    BodyBroken,
    /// The key was used for another title.
    KeyReused,
    /// The body is larger than 64 KiB.
    TooLarge,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// The database does not answer.
    Unavailable,
    /// The process is about to end.
    Draining,
    /// A fault of ours; the log has the request id and the cause.
    Internal,
}

impl ApiError {
    /// The code of the answer.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TitleRequired
            | Self::TitleInvalid
            | Self::InvalidData
            | Self::InvalidParameter(_)
            | Self::InvalidKey
            | Self::InvalidHost
            | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::TaskNotFound | Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::KeyReused => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unavailable | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The text in Portuguese and in English.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::TitleRequired => ("O título é obrigatório", "The title is required"),
            Self::TitleInvalid => (
                "O título deve ter de 1 a 500 caracteres, sem caracteres de controle",
                "The title must have 1 to 500 characters and no control characters",
            ),
            Self::InvalidData => ("Dados inválidos", "Invalid data"),
            Self::InvalidParameter("done") => {
                ("O parâmetro done deve ser true ou false", "The parameter done must be true or false")
            }
            Self::InvalidParameter("limit") => (
                "O parâmetro limit deve ser um número de 1 a 1000",
                "The parameter limit must be a number from 1 to 1000",
            ),
            Self::InvalidParameter("after") => (
                "O parâmetro after deve ser o id de uma tarefa, ou 0",
                "The parameter after must be the id of a task, or 0",
            ),
            Self::InvalidParameter(_) => ("Parâmetros inválidos na URL", "Invalid parameters in the URL"),
            Self::InvalidKey => (
                "Idempotency-Key deve ter de 1 a 255 caracteres ASCII visíveis",
                "Idempotency-Key must have 1 to 255 visible ASCII characters",
            ),
            Self::InvalidHost => {
                ("A requisição deve ter um cabeçalho Host", "The request must have one Host header")
            }
            Self::Unauthorized => {
                ("Token de acesso ausente ou inválido", "The access token is missing or wrong")
            }
            Self::TaskNotFound => ("Tarefa não encontrada", "Task not found"),
            Self::RouteNotFound => ("Recurso não encontrado", "Resource not found"),
            Self::MethodNotAllowed(_) => ("Método não permitido", "Method not allowed"),
            Self::BodyTimeout => {
                ("O corpo da requisição não chegou a tempo", "The request body did not arrive in time")
            }
            Self::BodyBroken => {
                ("O corpo da requisição chegou incompleto", "The request body arrived incomplete")
            }
            Self::KeyReused => (
                "Esta Idempotency-Key já foi usada com outro título",
                "This Idempotency-Key was already used with another title",
            ),
            Self::TooLarge => {
                ("O corpo da requisição passa de 64 KiB", "The request body is larger than 64 KiB")
            }
            Self::UnsupportedMediaType => (
                "O corpo deve ser JSON (Content-Type: application/json)",
                "The body must be JSON (Content-Type: application/json)",
            ),
            Self::Unavailable => (
                "Serviço temporariamente indisponível; tente de novo",
                "Service temporarily unavailable; try again",
            ),
            Self::Draining => ("Serviço em encerramento", "The service is shutting down"),
            Self::Internal => ("Erro interno", "Internal error"),
        }
    }

    /// The text for a reader of `language`.
    pub(crate) fn text(self, language: Language) -> &'static str {
        let (portuguese, english) = self.texts();
        match language {
            Language::Portuguese => portuguese,
            Language::English => english,
        }
    }

    /// An empty response that carries this error to where it is written.
    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }

    /// The answer as the client sees it.
    pub(crate) fn render(self, language: Language) -> Response {
        let body = serde_json::json!({ "error": self.text(language) }).to_string();
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Language"));
        match self {
            Self::MethodNotAllowed(methods) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(methods));
            }
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Unavailable | Self::Draining => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // What is left of an unread body must not be taken for the next request.
            Self::TooLarge | Self::BodyTimeout | Self::BodyBroken => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_the_header_that_says_what_to_do() {
        let header_of = |error: ApiError, name: header::HeaderName| {
            error.render(Language::English).headers().get(name).cloned().expect("the header is there")
        };
        assert_eq!(header_of(ApiError::MethodNotAllowed("GET"), header::ALLOW), "GET");
        assert_eq!(header_of(ApiError::Unauthorized, header::WWW_AUTHENTICATE), "Bearer");
        assert_eq!(header_of(ApiError::Draining, header::RETRY_AFTER), "1");
        assert_eq!(header_of(ApiError::TooLarge, header::CONNECTION), "close");
        assert_eq!(header_of(ApiError::Internal, header::CONTENT_LANGUAGE), "en");
    }

    #[test]
    fn the_texts_differ_by_language() {
        for error in [
            ApiError::TitleRequired,
            ApiError::InvalidParameter("done"),
            ApiError::InvalidParameter("query"),
            ApiError::BodyBroken,
            ApiError::Internal,
        ] {
            assert_ne!(error.text(Language::Portuguese), error.text(Language::English));
        }
    }
}
