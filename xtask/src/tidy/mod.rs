//! Style as a test: what the house style asks for and a machine can see.
//!
//! [`source`] splits a file into code and comments and finds functions and test code, [`rules`]
//! holds the rules as data and judges one file, [`arrows`] judges the graph of crates. A finding
//! says where, what, why, and how to mend it.

mod arrows;
mod rules;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::workspace;

/// One breach of the house style.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// File, from the top of the checkout.
    pub file: PathBuf,
    /// Line, counted from one.
    pub line: usize,
    /// What was found.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// How to mend it.
    pub mend: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            what,
            why,
            mend,
        } = self;
        write!(f, "{}:{line}: {what}; {why}; {mend}", file.display())
    }
}

/// Checks the whole checkout and prints the findings. Returns true if there is none.
pub fn run() -> anyhow::Result<bool> {
    let root = workspace::root();
    let mut files = Vec::new();
    walk(&root, &mut files)?;
    files.sort();
    let mut findings = arrows::check(&arrows::read()?);
    for path in &files {
        let Ok(text) = std::fs::read_to_string(path) else {
            continue; // A picture or another file that is no text has no style to check.
        };
        let file = path.strip_prefix(&root).unwrap_or(path);
        findings.extend(rules::check_text(file, &text, &root));
        if file.extension().is_some_and(|extension| extension == "rs") {
            findings.extend(rules::check_source(file, &text));
        }
    }
    for finding in &findings {
        println!("{finding}");
    }
    println!("{} files, {} findings", files.len(), findings.len());
    Ok(findings.is_empty())
}

/// Collects the files of the checkout, without what git and cargo keep for themselves.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let kind = entry
            .file_type()
            .context("cannot tell a file from a folder")?;
        let name = entry.file_name();
        if kind.is_dir() && name != ".git" && name != "target" {
            walk(&entry.path(), files)?;
        } else if kind.is_file() && name != "Cargo.lock" {
            files.push(entry.path());
        }
    }
    Ok(())
}
