//! Which of the two languages a client reads: Portuguese unless `Accept-Language` prefers English.

use http::{HeaderMap, header};

/// A language of messages and of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Portuguese,
    English,
}

impl Language {
    /// The language tag for `Content-Language` and `<html lang>`.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::Portuguese => "pt-BR",
            Self::English => "en",
        }
    }

    /// Reads `Accept-Language` (RFC 9110, 12.5.4), which may come in several lines. Portuguese wins ties, wildcards and
    /// nonsense.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut portuguese = 0.0;
        let mut english = 0.0;
        let mut wildcard = 0.0;
        let lines = headers.get_all(header::ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        for part in lines.flat_map(|line| line.split(',')) {
            let mut pieces = part.split(';');
            let tag = pieces.next().unwrap_or_default().trim();
            let quality = pieces
                .find_map(|piece| piece.trim().strip_prefix("q=")?.trim().parse::<f32>().ok())
                .unwrap_or(1.0);
            let primary = tag.split('-').next().unwrap_or_default();
            let place = match primary {
                "*" => &mut wildcard,
                _ if primary.eq_ignore_ascii_case("pt") => &mut portuguese,
                _ if primary.eq_ignore_ascii_case("en") => &mut english,
                _ => continue,
            };
            *place = f32::max(*place, quality);
        }
        if english > f32::max(portuguese, wildcard) { Self::English } else { Self::Portuguese }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::Language::{self, English, Portuguese};

    #[test]
    fn the_preferred_language_wins_and_portuguese_is_the_default() {
        for (lines, expected) in [
            (&[][..], Portuguese),
            (&[""], Portuguese),
            (&["en"], English),
            (&["EN-us,en;q=0.9"], English),
            (&["pt-BR,pt;q=0.9,en;q=0.8"], Portuguese),
            (&["pt;q=0.3, en;q=0.7"], English),
            (&["en;q=0.5, *"], Portuguese),
            (&["de, en;q=0.5"], English),
            (&["de-DE"], Portuguese),
            (&["en;q=0"], Portuguese),
            (&["en;q=NaN, pt;q=-1"], Portuguese),
            (&[";;;q=,,*;q=x"], Portuguese),
            (&["de", "en"], English),
            (&["en;q=0.5", "pt"], Portuguese),
            (&["español", "en"], English),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT_LANGUAGE, line.parse().expect("a header value"));
            }
            assert_eq!(Language::of(&headers), expected, "{lines:?}");
        }
    }
}
