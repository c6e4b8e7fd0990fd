//! Names that people give to organisations, nodes and services: one DNS label each (RFC 1123, 2.1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// A lower-case DNS label: 1 to 40 letters, digits and inner hyphens, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// Longest name: leaves room for `-` and a counter inside the 63 octets of a label.
pub const NAME_LEN_MAX: usize = 40;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a name: use 1 to 40 lower-case letters, digits and inner hyphens, \
     a letter first"
)]
pub struct NotAName(pub String);

impl Name {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let lawful = !text.is_empty()
            && text.len() <= NAME_LEN_MAX
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('-')
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !lawful {
            return Err(NotAName(text.chars().take(60).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_a_name() {
        assert_eq!("crm-db".parse::<Name>().unwrap().as_str(), "crm-db");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "-a",
            "a-",
            "1a",
            "A",
            "a.b",
            "a b",
            "é",
            &"a".repeat(41),
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
