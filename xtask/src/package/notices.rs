//! The notices of others that our programs carry: which crates are in them, under which licence,
//! with the texts that came with them.
//!
//! Licences want their notice in every copy. Crates are those that cargo links into `meshnode` and
//! `meshctl` on this platform; equal texts are printed once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::workspace;

/// What files with a notice are called.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// Returns the notices of everything in the programs.
pub fn of_programs() -> anyhow::Result<String> {
    let metadata = workspace::metadata(&["--filter-platform", &platform()?])?;
    let linked = linked(&metadata, &["meshnode", "meshctl"])?;
    let mut crates = Vec::new();
    // From each text to the crates that came with it.
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in array(&metadata, "packages")? {
        let is_ours = package.get("source").is_none_or(Value::is_null);
        if is_ours || !linked.contains(text(package, "id")?) {
            continue;
        }
        let name = format!("{} {}", text(package, "name")?, text(package, "version")?);
        let licence = text(package, "license").unwrap_or("see its text");
        crates.push(format!("{name}: {licence}\n"));
        let folder = Path::new(text(package, "manifest_path")?).parent();
        for notice in notices_in(folder.context("a crate has a folder")?)? {
            texts.entry(notice).or_default().insert(name.clone());
        }
    }
    crates.sort();
    let mut all = "The programs of Meshstead contain these crates, and Rust's standard library \
                   (MIT OR Apache-2.0).\n\n"
        .to_owned();
    all.extend(crates);
    for (notice, names) in &texts {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        all.push_str(&format!(
            "\n──── {}\n\n{}\n",
            names.join(", "),
            notice.trim()
        ));
    }
    Ok(all)
}

/// Returns the platform that we build for.
fn platform() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(rustc)
        .args(["--print", "host-tuple"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run rustc")?;
    ensure!(told.status.success(), "rustc tells no platform");
    let name = String::from_utf8(told.stdout).context("rustc names no platform")?;
    Ok(name.trim().to_owned())
}

/// Returns the ids of the packages that are linked into programs.
fn linked<'a>(metadata: &'a Value, programs: &[&str]) -> anyhow::Result<BTreeSet<&'a str>> {
    let mut links: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let resolve = metadata.get("resolve").context("cargo resolves nothing")?;
    for node in array(resolve, "nodes")? {
        let normal = array(node, "deps")?.iter().filter(|dep| {
            let kinds = dep.get("dep_kinds").and_then(Value::as_array);
            // Without a kind: neither for builds nor for tests only.
            kinds.is_some_and(|kinds| {
                kinds
                    .iter()
                    .any(|kind| kind.get("kind").is_none_or(Value::is_null))
            })
        });
        let deps: anyhow::Result<Vec<&str>> = normal.map(|dep| text(dep, "pkg")).collect();
        links.insert(text(node, "id")?, deps?);
    }
    let mut open = Vec::new();
    for package in array(metadata, "packages")? {
        if programs.contains(&text(package, "name")?) {
            open.push(text(package, "id")?);
        }
    }
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(links.get(id).into_iter().flatten());
        }
    }
    Ok(seen)
}

/// Returns the texts of the notices that lie in a crate's folder.
fn notices_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut notices = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry.context("cannot list a crate")?.path();
        let name = path.file_name().map(|name| name.to_string_lossy());
        let name = name.unwrap_or_default().to_uppercase();
        if path.is_file() && NAMES.iter().any(|known| name.starts_with(known)) {
            let bytes = fs::read(&path).with_context(|| format!("no {}", path.display()))?;
            notices.push(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"));
        }
    }
    Ok(notices)
}

fn array<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a Vec<Value>> {
    let field = value.get(name).and_then(Value::as_array);
    field.with_context(|| format!("cargo's metadata has no {name}"))
}

fn text<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    let field = value.get(name).and_then(Value::as_str);
    field.with_context(|| format!("cargo's metadata has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_name_what_is_linked_and_nothing_that_only_tests_use() {
        let notices = of_programs().unwrap();
        assert!(notices.contains("\nboringtun "), "a library is missing");
        assert!(
            !notices.contains("\nproptest "),
            "a test's library is there"
        );
        assert!(!notices.contains("\nmesh-base "), "our own crate is there");
        assert!(notices.contains("Permission is hereby granted"));
    }
}
