//! The text of a settings file as values by dotted key.
//!
//! Decides what a value of each TOML kind is as text: a list is joined by commas. Which keys there
//! are and what their values must be is the shell's. Invariant: a text is refused before it takes
//! more memory than its length allows.

use std::collections::BTreeMap;

use crate::sparing::{self, Fault};

/// Longest settings file; all keys with their sentences are a twentieth of it.
pub const SETTINGS_LEN_MAX: usize = 64 * 1024;

/// Why a text is not a settings file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Not TOML.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What the reader said.
        message: String,
    },
    /// Longer than any settings file.
    #[error("it has {len} bytes, at most {SETTINGS_LEN_MAX} are read")]
    Long {
        /// Its length.
        len: usize,
    },
    /// Hardly anything but marks.
    #[error("its {len} bytes are {pieces} pieces: too many to be settings")]
    Dense {
        /// Its length.
        len: usize,
        /// How many there are.
        pieces: usize,
    },
}

/// Reads the values of a settings file by dotted key.
pub fn read(text: &str) -> Result<BTreeMap<String, String>, SettingsError> {
    let len = text.len();
    if SETTINGS_LEN_MAX < len {
        return Err(SettingsError::Long { len });
    }
    let table = sparing::read(text).map_err(|fault| match fault {
        Fault::Syntax { line, message } => SettingsError::Syntax { line, message },
        Fault::Dense { pieces } => SettingsError::Dense { len, pieces },
    })?;
    let mut values = BTreeMap::new();
    flatten("", table, &mut values);
    Ok(values)
}

fn flatten(prefix: &str, table: toml::Table, into: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let name = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, into),
            toml::Value::String(text) => {
                into.insert(name, text);
            }
            toml::Value::Array(items) => {
                let items: Vec<String> = items.into_iter().map(item).collect();
                into.insert(name, items.join(","));
            }
            other => {
                into.insert(name, other.to_string());
            }
        }
    }
}

fn item(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[(&str, &str)]) {
        let expect = expect
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        assert_eq!(read(text), Ok(expect.collect()));
    }

    #[test]
    fn keys_are_dotted_and_lists_are_joined() {
        check("", &[]);
        check(
            "metering.period = \"1s\"\n[capacity]\nslots = 3\n",
            &[("capacity.slots", "3"), ("metering.period", "1s")],
        );
        check(
            "[network]\nlisten = [\"[::]:1\", \"0.0.0.0:2\"]\n",
            &[("network.listen", "[::]:1,0.0.0.0:2")],
        );
    }

    #[test]
    fn fault_is_named_by_its_line() {
        let error = read("[metering]\nperiod = \"1s\"\nperiod = \"2s\"").unwrap_err();
        assert!(
            matches!(error, SettingsError::Syntax { line: 3, .. }),
            "{error}"
        );
        let error = read("a = 1\nb").unwrap_err();
        assert!(
            matches!(error, SettingsError::Syntax { line: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn long_and_dense_texts_are_refused_before_they_are_read() {
        let long = "#".repeat(SETTINGS_LEN_MAX + 1);
        let error = read(&long).unwrap_err();
        assert!(matches!(error, SettingsError::Long { .. }), "{error}");
        let dense = format!("a = [{}]", "{},".repeat(10_000));
        let error = read(&dense).unwrap_err();
        assert!(matches!(error, SettingsError::Dense { .. }), "{error}");
    }

    #[test]
    fn keys_of_many_dots_under_keys_of_many_dots_are_refused() {
        let key = vec!["abcdefghijklmnopqrst"; 30].join(".");
        let deep = |levels: usize| {
            format!(
                "{}1{}",
                format!("{key} = {{ ").repeat(levels) + &key + " = ",
                " }".repeat(levels)
            )
        };
        assert!(read(&deep(1)).is_ok());
        let error = read(&deep(3)).unwrap_err();
        assert!(matches!(error, SettingsError::Dense { .. }), "{error}");
        let hidden = format!("x = [0, {{ {key} = [0, {{ {key} = [0, {{ {key}.b = 1 }}] }}] }}]");
        assert!(read(&hidden).is_err(), "lists hide nothing");
        let wide = format!(
            "x = {{ {} }}",
            (0..100)
                .map(|n| format!("abcdefghijklmnopqrst{n}.b = 1, "))
                .collect::<String>()
                + "c = 1"
        );
        assert!(read(&wide).is_ok(), "side by side is not deep");
    }
}
