//! Which of the two languages a client reads: Portuguese unless `Accept-Language` prefers English.

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

    /// Reads `Accept-Language` (RFC 9110, 12.5.4). Portuguese wins ties, wildcards and nonsense.
    pub(crate) fn from_header(value: Option<&str>) -> Self {
        let mut portuguese = 0.0;
        let mut english = 0.0;
        let mut wildcard = 0.0;
        for part in value.unwrap_or_default().split(',') {
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
    use super::Language::{self, English, Portuguese};

    #[test]
    fn the_preferred_language_wins_and_portuguese_is_the_default() {
        for (header, expected) in [
            (None, Portuguese),
            (Some(""), Portuguese),
            (Some("en"), English),
            (Some("EN-us,en;q=0.9"), English),
            (Some("pt-BR,pt;q=0.9,en;q=0.8"), Portuguese),
            (Some("pt;q=0.3, en;q=0.7"), English),
            (Some("en;q=0.5, *"), Portuguese),
            (Some("de, en;q=0.5"), English),
            (Some("de-DE"), Portuguese),
            (Some("en;q=0"), Portuguese),
            (Some(";;;q=,,*;q=x"), Portuguese),
        ] {
            assert_eq!(Language::from_header(header), expected, "{header:?}");
        }
    }
}
