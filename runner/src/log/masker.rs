//! Masking as a type: text that may leave the runner is [`Masked`], and only a [`Masker`] makes it.

use std::fmt;

/// Text in which no known secret is left. There is no way to make one but through [`Masker::mask`] (and its like).
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Masked(String);

impl Masked {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, by value.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
