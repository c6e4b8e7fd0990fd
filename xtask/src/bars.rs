//! The scoreboard: one line for each bar, `name  figure  limit  ok|short`.
//!
//! Names and limits are data in `bars.toml`; figures are what tests and the simulator left in the
//! figures folder, one `<bar>.json` with `figure` and `ok`. A bar without a figure is short: what
//! was not measured is not promised.

use std::path::Path;

use anyhow::Context as _;

use crate::workspace;

const BARS: &str = include_str!("../bars.toml");

/// One bar: what must be reached.
#[derive(Debug)]
struct Bar {
    name: String,
    limit: String,
    /// Whether a landing needs it.
    gate: bool,
    /// Whether only root can measure it: from an ordinary user no landing asks for it.
    root: bool,
    /// What it is put together from, each measured by a test of its own; none if it is one figure.
    parts: Vec<String>,
}

/// What was measured for a bar.
#[derive(Debug)]
struct Figure {
    text: String,
    holds: bool,
}

/// Prints the scoreboard. With `gate`, returns false if a bar that guards a landing is short.
pub fn run(gate: bool) -> anyhow::Result<bool> {
    let bars = read_bars(BARS)?;
    let folder = workspace::figures();
    let is_root = nix::unistd::geteuid().is_root();
    let mut all_gates = true;
    for bar in &bars {
        let figure = figure_of(&folder, bar);
        println!("{}", line(bar, figure.as_ref()));
        all_gates &= !guards(bar, is_root) || figure.is_some_and(|figure| figure.holds);
    }
    if gate && !all_gates {
        println!("a bar that guards a landing is short");
    }
    Ok(!gate || all_gates)
}

/// Forgets the figures of earlier runs, so that each figure shown is of this one.
pub fn forget() -> anyhow::Result<()> {
    let folder = workspace::figures();
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Tells whether a landing by this user needs the bar.
fn guards(bar: &Bar, is_root: bool) -> bool {
    bar.gate && (is_root || !bar.root)
}

fn line(bar: &Bar, figure: Option<&Figure>) -> String {
    let (text, verdict) = match figure {
        Some(Figure { text, holds: true }) => (text.as_str(), "ok"),
        Some(Figure { text, holds: false }) => (text.as_str(), "short"),
        None => ("-", "short"),
    };
    format!("{:<24}  {:<44}  {}  {verdict}", bar.name, text, bar.limit)
}

fn read_bars(text: &str) -> anyhow::Result<Vec<Bar>> {
    let table: toml::Table = text.parse().context("cannot read bars.toml")?;
    let rows = table
        .get("bar")
        .and_then(toml::Value::as_array)
        .context("no bar in bars.toml")?;
    rows.iter()
        .map(|row| read_bar(row).context("a bar needs a name and a limit"))
        .collect()
}

fn read_bar(row: &toml::Value) -> Option<Bar> {
    let is_set = |name: &str| row.get(name).and_then(toml::Value::as_bool) == Some(true);
    Some(Bar {
        name: row.get("name")?.as_str()?.to_owned(),
        limit: row.get("limit")?.as_str()?.to_owned(),
        gate: is_set("gate"),
        root: is_set("root"),
        parts: row
            .get("parts")
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|part| part.as_str().map(str::to_owned))
            .collect(),
    })
}

/// Returns a bar's figure, or its parts' put together; a part that was not measured is short.
fn figure_of(folder: &Path, bar: &Bar) -> Option<Figure> {
    if bar.parts.is_empty() {
        return read_figure(folder, &bar.name);
    }
    let mut whole = Figure {
        text: String::new(),
        holds: true,
    };
    let mut any = false;
    for part in &bar.parts {
        let figure = read_figure(folder, &format!("{}@{part}", bar.name));
        any |= figure.is_some();
        let figure = figure.unwrap_or_else(|| Figure {
            text: format!("{part}: not measured"),
            holds: false,
        });
        let comma = if whole.text.is_empty() { "" } else { ", " };
        whole.text.push_str(comma);
        whole.text.push_str(&figure.text);
        whole.holds &= figure.holds;
    }
    any.then_some(whole)
}

fn read_figure(folder: &Path, name: &str) -> Option<Figure> {
    let text = std::fs::read(folder.join(format!("{name}.json"))).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let figure = value.get("figure")?;
    Some(Figure {
        text: figure
            .as_str()
            .map_or_else(|| figure.to_string(), str::to_owned),
        holds: value.get("ok")?.as_bool()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_has_a_name_of_its_own_and_a_limit() {
        let bars = read_bars(BARS).unwrap();
        let mut names: Vec<_> = bars.iter().map(|bar| bar.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), bars.len());
        assert!(bars.iter().all(|bar| !bar.limit.is_empty()));
    }

    #[test]
    fn bar_without_a_figure_is_short() {
        let bar = Bar {
            name: "a.b".into(),
            limit: "≤ 1 s".into(),
            gate: false,
            root: false,
            parts: Vec::new(),
        };
        assert!(line(&bar, None).ends_with("short"));
    }

    #[test]
    fn bar_of_root_guards_the_landings_of_root_only() {
        let bar = Bar {
            name: "a.b".into(),
            limit: "all".into(),
            gate: true,
            root: true,
            parts: Vec::new(),
        };
        assert!(guards(&bar, true));
        assert!(!guards(&bar, false));
        assert!(guards(&Bar { root: false, ..bar }, false));
    }

    #[test]
    fn figure_is_read_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.b.json");
        std::fs::write(path, r#"{"figure": "p95 0.4 s", "ok": true}"#).unwrap();
        let figure = read_figure(folder.path(), "a.b").unwrap();
        assert_eq!((figure.text.as_str(), figure.holds), ("p95 0.4 s", true));
        assert!(read_figure(folder.path(), "a.c").is_none());
    }

    #[test]
    fn bar_of_parts_needs_every_part() {
        let folder = tempfile::tempdir().unwrap();
        let bar = Bar {
            name: "a.b".into(),
            limit: "all".into(),
            gate: false,
            root: false,
            parts: vec!["one".into(), "two".into()],
        };
        assert!(figure_of(folder.path(), &bar).is_none());
        let write = |part: &str| {
            let path = folder.path().join(format!("a.b@{part}.json"));
            std::fs::write(path, format!(r#"{{"figure": "{part} done", "ok": true}}"#)).unwrap();
        };
        write("one");
        let figure = figure_of(folder.path(), &bar).unwrap();
        assert_eq!(figure.text, "one done, two: not measured");
        assert!(!figure.holds);
        write("two");
        assert!(figure_of(folder.path(), &bar).unwrap().holds);
    }
}
