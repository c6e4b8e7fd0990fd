//! Typed parameters of a recipe: what an order may say, what is filled in, what is generated.
//!
//! Decides which characters a value may hold. No format allows quotes, backslashes, dollar signs,
//! backticks, braces or control characters, so a value that passed can stand in an SQL string, a
//! URL or a configuration line without being read as anything else.

use std::collections::BTreeMap;

use mesh_base::name::Name;

use crate::template::{Template, TemplateError};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text of a [`Format`].
    Text(Format),
    /// A decimal number.
    Integer,
    /// Text that is never shown, logged or written to the ledger; letters and digits only.
    Secret,
}

/// Which characters a text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A lower-case letter or underscore, then lower-case letters, digits and underscores.
    Identifier,
    /// Letters, digits, `.`, `_`, `-`.
    Word,
    /// Printable ASCII without quotes, backslash, dollar, backtick and braces.
    Line,
}

/// One parameter of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// What it is, for people.
    pub title: String,
    /// What its values are.
    pub kind: Kind,
    /// Used when the order is silent; may name `{name}` and `{name_stem}`.
    pub default: Option<Template>,
    /// Least number, or fewest characters.
    pub min: i64,
    /// Greatest number, or most characters.
    pub max: i64,
    /// Values that the software keeps for itself; a final `*` stands for any ending.
    pub refused: Vec<String>,
    /// A secret of so many letters and digits is made when the order is silent.
    pub generate: Option<usize>,
}

/// Why the parameters of an order are not accepted. Values of secrets are never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// The recipe has no such parameter.
    #[error("\"{recipe}\" has no parameter \"{name}\"{}", hint(.nearest))]
    Unknown {
        /// The recipe.
        recipe: String,
        /// What the order said.
        name: String,
        /// The nearest name that exists.
        nearest: Option<String>,
    },
    /// The order must say it.
    #[error("parameter \"{name}\" has no default and must be given")]
    Missing {
        /// The parameter.
        name: String,
    },
    /// The value has another shape.
    #[error("parameter \"{name}\" must be {expected}")]
    Shape {
        /// The parameter.
        name: String,
        /// What is accepted, in words.
        expected: String,
    },
    /// The software keeps this value for itself.
    #[error("parameter \"{name}\" cannot be \"{value}\": the software keeps that for itself")]
    Kept {
        /// The parameter.
        name: String,
        /// What the order said.
        value: String,
    },
    /// The default could not be filled in.
    #[error("parameter \"{name}\" has a default that cannot be filled")]
    Default {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        source: TemplateError,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean \"{name}\"?"))
        .unwrap_or_default()
}

impl Parameter {
    /// Checks one value.
    pub fn check(&self, name: &str, value: &str) -> Result<(), ParameterError> {
        let shape = || ParameterError::Shape {
            name: name.to_owned(),
            expected: self.expected(),
        };
        let size = match self.kind {
            Kind::Integer => value.parse::<i64>().map_err(|_| shape())?,
            Kind::Text(format) if format.allows(value) => len(value),
            Kind::Secret if value.chars().all(|c| c.is_ascii_alphanumeric()) => len(value),
            Kind::Text(_) | Kind::Secret => return Err(shape()),
        };
        if size < self.min || self.max < size {
            return Err(shape());
        }
        if self.refused.iter().any(|pattern| matches(pattern, value)) {
            return Err(ParameterError::Kept {
                name: name.to_owned(),
                value: value.to_owned(),
            });
        }
        Ok(())
    }

    /// Returns what is accepted, in words.
    pub fn expected(&self) -> String {
        let (min, max) = (self.min, self.max);
        match self.kind {
            Kind::Integer => format!("a whole number from {min} to {max}"),
            Kind::Secret => format!("{min} to {max} letters and digits"),
            Kind::Text(Format::Identifier) => {
                format!("{min} to {max} lower-case letters, digits and underscores, no digit first")
            }
            Kind::Text(Format::Word) => {
                format!("{min} to {max} letters, digits, dots, hyphens and underscores")
            }
            Kind::Text(Format::Line) => {
                format!(
                    "{min} to {max} printable characters without quotes, backslash, $ and braces"
                )
            }
        }
    }
}

impl Format {
    fn allows(self, value: &str) -> bool {
        match self {
            Self::Identifier => {
                !value.starts_with(|first: char| first.is_ascii_digit())
                    && value
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            }
            Self::Word => value
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')),
            Self::Line => value.chars().all(|c| {
                matches!(c, ' '..='~') && !matches!(c, '\'' | '"' | '\\' | '$' | '`' | '{' | '}')
            }),
        }
    }
}

fn len(value: &str) -> i64 {
    i64::try_from(value.len()).unwrap_or(i64::MAX)
}

fn matches(pattern: &str, value: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => value.starts_with(start),
        None => pattern == value,
    }
}

/// Fills defaults in and checks everything; secrets that are to be generated stay absent.
pub fn check_all(
    recipe: &str,
    parameters: &BTreeMap<String, Parameter>,
    service: &Name,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ParameterError> {
    if let Some(name) = given.keys().find(|name| !parameters.contains_key(*name)) {
        return Err(ParameterError::Unknown {
            recipe: recipe.to_owned(),
            name: name.chars().take(60).collect(),
            nearest: nearest(name, parameters.keys()),
        });
    }
    let names = default_names(service);
    let mut values = BTreeMap::new();
    for (name, parameter) in parameters {
        let value = match (given.get(name), &parameter.default) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => {
                default
                    .fill(&names)
                    .map_err(|source| ParameterError::Default {
                        name: name.clone(),
                        source,
                    })?
            }
            (None, None) if parameter.generate.is_some() => continue,
            (None, None) => return Err(ParameterError::Missing { name: name.clone() }),
        };
        parameter.check(name, &value)?;
        values.insert(name.clone(), value);
    }
    Ok(values)
}

/// Returns what a default may refer to: the service's name and the part before its first hyphen.
pub fn default_names(service: &Name) -> BTreeMap<String, String> {
    let text = service.as_str();
    let stem = text.split('-').next().unwrap_or(text);
    BTreeMap::from([
        ("name".to_owned(), text.to_owned()),
        ("name_stem".to_owned(), stem.to_owned()),
    ])
}

/// Makes a secret of `len` letters and digits; `fill` supplies random bytes.
pub fn make_secret(len: usize, mut fill: impl FnMut(&mut [u8])) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut secret = String::with_capacity(len);
    while secret.len() < len {
        let mut byte = [0];
        fill(&mut byte);
        let [byte] = byte;
        // Bytes of 248 and more are thrown away: 248 = 4 * 62, so every letter is equally likely.
        if byte < 248
            && let Some(letter) = LETTERS.get(usize::from(byte % 62))
        {
            secret.push(char::from(*letter));
        }
    }
    secret
}

/// Returns the candidate that is fewest edits away, if it is at most two.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a String>) -> Option<String> {
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, candidate)| candidate.clone())
}

/// Counts insertions, deletions and replacements between two short texts (Levenshtein's distance).
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (line, a) in left.chars().take(64).enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, b) in row.iter_mut().skip(1).zip(right.chars()) {
            let best = (diagonal + usize::from(a != b))
                .min(*cell + 1)
                .min(before + 1);
            diagonal = *cell;
            *cell = best;
            before = best;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: Format) -> Parameter {
        Parameter {
            title: "x".into(),
            kind: Kind::Text(format),
            default: None,
            min: 1,
            max: 8,
            refused: vec!["root".into(), "pg_*".into()],
            generate: None,
        }
    }

    #[track_caller]
    fn check(format: Format, value: &str, accepted: bool) {
        assert_eq!(
            text(format).check("p", value).is_ok(),
            accepted,
            "{value:?}"
        );
    }

    #[test]
    fn identifiers_hold_nothing_that_sql_could_read() {
        check(Format::Identifier, "crm_2", true);
        for value in [
            "",
            "2crm",
            "Crm",
            "a b",
            "a\"b",
            "a'b",
            "a;b",
            "é",
            "toolongname",
        ] {
            check(Format::Identifier, value, false);
        }
    }

    #[test]
    fn no_format_allows_quotes_or_control_characters() {
        for format in [Format::Identifier, Format::Word, Format::Line] {
            for value in ["a'b", "a\"b", "a\\b", "a$b", "a`b", "a\nb", "a\0b", "{a}"] {
                check(format, value, false);
            }
        }
        check(Format::Line, "a b/c", true);
        check(Format::Word, "a-b.c", true);
    }

    #[test]
    fn default_that_names_what_there_is_not_cannot_be_filled() {
        let mut parameter = text(Format::Line);
        parameter.default = Some(Template::parse("{colour}").unwrap());
        let parameters = BTreeMap::from([("motto".to_owned(), parameter)]);
        let service = "crm-db".parse().unwrap();
        let error = check_all("wiki", &parameters, &service, &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, ParameterError::Default { .. }), "{error}");
    }

    #[test]
    fn kept_values_are_refused() {
        let kept = |value: &str| ParameterError::Kept {
            name: "p".into(),
            value: value.into(),
        };
        assert_eq!(
            text(Format::Identifier).check("p", "root"),
            Err(kept("root"))
        );
        assert_eq!(
            text(Format::Identifier).check("p", "pg_x"),
            Err(kept("pg_x"))
        );
    }

    #[test]
    fn nearest_name_is_found_within_two_edits() {
        let names = ["user".to_owned(), "database".to_owned()];
        assert_eq!(nearest("usr", names.iter()), Some("user".to_owned()));
        assert_eq!(
            nearest("databsae", names.iter()),
            Some("database".to_owned())
        );
        assert_eq!(nearest("colour", names.iter()), None);
    }

    #[test]
    fn secret_has_the_wanted_length_and_only_letters_and_digits() {
        let mut next = 0_u8;
        let secret = make_secret(24, |bytes| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_add(83);
            }
        });
        assert_eq!(secret.len(), 24);
        assert!(secret.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
