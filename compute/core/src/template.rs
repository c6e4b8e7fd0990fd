//! Text with `{name}` holes: parsed once, checked against the names that may fill it, filled
//! strictly.
//!
//! Decides what a hole is (`{name}`; `{{` and `}}` are braces). Leaves what a value may contain to
//! [`crate::parameter`]: a value is inserted as it is, once, and never read again for holes.

use std::collections::{BTreeMap, BTreeSet};

/// A parsed text with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Hole(String),
}

/// Why a text with holes cannot be read or filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A brace has no partner.
    #[error("a brace is not closed or not opened; write {{{{ or }}}} for the character itself")]
    Brace,
    /// What stands between braces is not a name.
    #[error("\"{0}\" between braces is not a name")]
    NotAName(String),
    /// No value of this name was given.
    #[error("no value for \"{0}\"")]
    Missing(String),
}

impl Template {
    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            // Proof: `find` returned a boundary of a one-byte character.
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some(after) = brace.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or(TemplateError::Brace)?;
                if !is_value_name(name) {
                    return Err(TemplateError::NotAName(name.chars().take(60).collect()));
                }
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Hole(name.to_owned()));
                rest = after;
            } else {
                return Err(TemplateError::Brace);
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// Returns the names of the holes.
    pub fn names(&self) -> BTreeSet<&str> {
        self.parts
            .iter()
            .filter_map(|part| match part {
                Part::Hole(name) => Some(name.as_str()),
                Part::Text(_) => None,
            })
            .collect()
    }

    /// Fills every hole; a hole without a value is an error.
    pub fn fill(&self, values: &BTreeMap<String, String>) -> Result<String, TemplateError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Hole(name) => {
                    let value = values
                        .get(name)
                        .ok_or_else(|| TemplateError::Missing(name.clone()))?;
                    text.push_str(value);
                }
            }
        }
        Ok(text)
    }
}

/// Returns whether a text can name a value: a lower-case letter, then letters, digits, underscores.
pub fn is_value_name(text: &str) -> bool {
    text.len() <= 40
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

impl std::fmt::Display for Template {
    /// Writes the text that was parsed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Part::Hole(name) => write!(f, "{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<&str, TemplateError>) {
        let values = BTreeMap::from([("user".to_owned(), "{x}".to_owned())]);
        let got = Template::parse(text).and_then(|template| template.fill(&values));
        assert_eq!(got, expect.map(str::to_owned));
    }

    #[test]
    fn hole_is_filled_once() {
        check("a{user}b", Ok("a{x}b"));
    }

    #[test]
    fn doubled_braces_are_braces() {
        check("{{user}} {user}", Ok("{user} {x}"));
    }

    #[test]
    fn missing_value_is_an_error() {
        check("{other}", Err(TemplateError::Missing("other".into())));
    }

    #[test]
    fn lone_braces_are_refused() {
        check("a{user", Err(TemplateError::Brace));
        check("a}b", Err(TemplateError::Brace));
    }

    #[test]
    fn only_names_stand_between_braces() {
        check("{a b}", Err(TemplateError::NotAName("a b".into())));
        check("{}", Err(TemplateError::NotAName(String::new())));
    }
}
