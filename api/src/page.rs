//! The page for people at `/`: one document without external parts, in two languages. Its one script and its one
//! style are named by their digests in the content security policy, so nothing else runs in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};
use warp::reply::Response;

use crate::language::Language;

const TEMPLATE: &str = include_str!("page.html");

/// Each placeholder in Portuguese and in English.
const TEXTS: [(&str, &str, &str); 13] = [
    ("title", "Tarefas", "Tasks"),
    ("new_task", "Nova tarefa", "New task"),
    ("add", "Adicionar", "Add"),
    ("token", "Token de acesso", "Access token"),
    ("use_token", "Usar token", "Use token"),
    ("loading", "Carregando…", "Loading…"),
    ("more", "Mostrar mais", "Show more"),
    ("no_script", "Esta página precisa de JavaScript.", "This page needs JavaScript."),
    ("empty", "Nenhuma tarefa ainda.", "No tasks yet."),
    ("count", "# no total", "# in total"),
    ("remove", "Excluir", "Delete"),
    ("offline", "O serviço não respondeu. Tente de novo.", "The service did not answer. Try again."),
    ("tag", Language::Portuguese.tag(), Language::English.tag()),
];

/// The page in both languages, ready to be sent.
#[derive(Debug)]
pub(crate) struct Pages {
    portuguese: Page,
    english: Page,
}

#[derive(Debug)]
struct Page {
    text: Bytes,
    policy: HeaderValue,
    language: HeaderValue,
}

impl Pages {
    /// Fills the template in both languages.
    pub(crate) fn new() -> Self {
        Self { portuguese: Page::new(Language::Portuguese), english: Page::new(Language::English) }
    }

    /// The page in the client's language.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Response {
        let page = match Language::of(headers) {
            Language::Portuguese => &self.portuguese,
            Language::English => &self.english,
        };
        let mut response = Response::new(page.text.clone().into());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CONTENT_LANGUAGE, page.language.clone());
        headers.insert(header::CONTENT_SECURITY_POLICY, page.policy.clone());
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Language"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

impl Page {
    fn new(language: Language) -> Self {
        let mut text = TEMPLATE.to_owned();
        for (name, portuguese, english) in TEXTS {
            let value = if language == Language::Portuguese { portuguese } else { english };
            text = text.replace(&format!("{{{{{name}}}}}"), value);
        }
        let policy = format!(
            "default-src 'none'; connect-src 'self'; img-src data:; script-src '{}'; style-src '{}'; form-action 'none'; \
             base-uri 'none'; frame-ancestors 'none'",
            digest_between(&text, "<script>", "</script>"),
            digest_between(&text, "<style>", "</style>"),
        );
        // Base64 and plain words are always a header value; should they ever not be, nothing may run.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { text: text.into(), policy, language: HeaderValue::from_static(language.tag()) }
    }
}

/// The digest, as a policy names it, of what stands between two marks.
fn digest_between(text: &str, open: &str, close: &str) -> String {
    let inner =
        text.split_once(open).and_then(|(_, rest)| rest.split_once(close)).map_or("", |(inner, _)| inner);
    format!("sha256-{}", STANDARD.encode(Sha256::digest(inner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_filled() {
        for page in [Page::new(Language::Portuguese), Page::new(Language::English)] {
            let text = std::str::from_utf8(&page.text).expect("UTF-8");
            assert!(!text.contains("{{"));
            assert!(text.contains("</script>"));
            assert_eq!(page.policy.to_str().expect("ascii").matches("sha256-").count(), 2);
        }
    }
}
