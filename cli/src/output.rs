//! The two streams and the four formats: data on stdout, talk on stderr.
//!
//! Invariant: a reader that goes away ends the program quietly, never with a panic.

use std::collections::BTreeSet;
use std::io::{ErrorKind as IoKind, IsTerminal, Write};

use clap::ValueEnum;
use mesh_api::document;
use mesh_api::error::ErrorKind;
use mesh_api::reply::Reply;
use serde_json::Value;

use crate::failure::Failure;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a heading.
    Csv,
}

/// Writes to stdout.
pub fn data(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|problem| match problem.kind() {
        IoKind::BrokenPipe => Failure::Hangup,
        _ => Failure::new(
            ErrorKind::Failure,
            format!("cannot write the result: {problem}"),
            "check where the output goes: a full disk, or a closed file",
        ),
    })
}

/// Writes to stderr. Whether anybody listens does not matter.
pub fn talk(text: &str) {
    let mut stderr = std::io::stderr().lock();
    drop(
        stderr
            .write_all(text.as_bytes())
            .and_then(|()| stderr.flush()),
    );
}

/// Returns whether talk may be coloured.
pub fn talk_in_colour() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stderr().is_terminal() && !unwanted && !dumb
}

/// Writes a reply in a format; `screen` is what people see.
pub fn reply(
    format: Format,
    reply: &Reply,
    screen: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => data(&screen()),
        Format::Json => data(&format!("{:#}\n", document::of_reply(reply))),
        Format::Jsonl => {
            let rows = document::rows(reply);
            data(
                &rows
                    .iter()
                    .map(|row| format!("{row}\n"))
                    .collect::<String>(),
            )
        }
        Format::Csv => data(&csv(&document::rows(reply))),
    }
}

/// Returns rows as comma-separated values (RFC 4180, with plain line feeds).
///
/// A field inside a field is named with a dot; a list is one cell of JSON.
pub fn csv(rows: &[Value]) -> String {
    let rows: Vec<Vec<(String, String)>> = rows
        .iter()
        .map(|row| {
            let mut cells = Vec::new();
            flatten("", row, &mut cells);
            cells.retain(|(name, _)| name != "schema");
            cells
        })
        .collect();
    let (mut heads, mut known) = (Vec::new(), BTreeSet::new());
    for (name, _) in rows.iter().flatten() {
        if known.insert(name) {
            heads.push(name);
        }
    }
    if heads.is_empty() {
        return String::new();
    }
    let mut text = line(heads.iter().map(|head| head.as_str()));
    for row in &rows {
        let cell = |head: &&String| row.iter().find(|(name, _)| name == *head);
        text.push_str(&line(
            heads
                .iter()
                .map(|head| cell(head).map_or("", |(_, cell)| cell)),
        ));
    }
    text
}

fn flatten(prefix: &str, value: &Value, cells: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{name}"), field, cells);
            }
        }
        Value::Null => cells.push((prefix.to_owned(), String::new())),
        Value::String(text) => cells.push((prefix.to_owned(), text.clone())),
        other => cells.push((prefix.to_owned(), other.to_string())),
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let quoted = cells.map(|cell| {
        if cell.contains([',', '"', '\n', '\r']) {
            return format!("\"{}\"", cell.replace('"', "\"\""));
        }
        cell.to_owned()
    });
    format!("{}\n", quoted.collect::<Vec<String>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_become_lines_under_the_names_of_all_fields() {
        let rows = [
            json!({"schema": "x/1", "a": 1, "m": {"micros": 5, "currency": "EUR"}}),
            json!({"schema": "x/1", "a": "x,\"y\"", "b": null, "l": [1, 2]}),
        ];
        assert_eq!(
            csv(&rows),
            "a,m.micros,m.currency,b,l\n1,5,EUR,,\n\"x,\"\"y\"\"\",,,,\"[1,2]\"\n"
        );
        assert_eq!(csv(&[]), "");
    }
}
