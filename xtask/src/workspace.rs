//! Where things are: the checkout, the target folder, the built programs.
//!
//! Every chore asks here, so that `CARGO_TARGET_DIR` and a moved checkout are handled once.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use mesh_tests::ground::user_cache;
use serde_json::Value;

/// Profile of the programs that people and black-box tests run.
pub const PROGRAMS_PROFILE: &str = "release";

/// Returns the top of the checkout: the folder above this crate.
///
/// Asked when it runs: checkouts that share a target folder share this program, and the path of the
/// one that compiled it may be gone.
pub fn root() -> PathBuf {
    let now = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest = now.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    let manifest = manifest.as_path();
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Returns the hash of the commit that is checked out, if git knows one.
pub fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "HEAD"]).current_dir(root());
    let output = git.output().ok().filter(|output| output.status.success())?;
    let hash = String::from_utf8(output.stdout).ok()?;
    Some(hash.trim().to_owned())
}

/// Returns the folder that cargo builds into.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// Returns the folder that holds the measured figures, one file for each bar.
pub fn figures() -> PathBuf {
    match env::var_os("MESHSTEAD_BARS_DIR") {
        Some(folder) => root().join(folder),
        None => target().join("bars"),
    }
}

/// Returns a tool that `./mesh` installs into a folder of its own; elsewhere the one in `PATH`.
pub fn tool(name: &str) -> PathBuf {
    let tools = env::var_os("MESHSTEAD_TOOLS").map(PathBuf::from);
    let tools = tools.unwrap_or_else(|| user_cache().join("meshstead-tools"));
    let own = tools.join("bin").join(name);
    if own.exists() {
        own
    } else {
        PathBuf::from(name)
    }
}

/// Starts a cargo command in the checkout.
pub fn cargo(arguments: &[&str]) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root());
    command
}

/// Asks cargo for the crates of the workspace and what they need, with further arguments.
pub fn metadata(further: &[&str]) -> anyhow::Result<Value> {
    let output = cargo(&["metadata", "--format-version", "1", "--locked"])
        .args(further)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed");
    serde_json::from_slice(&output.stdout).context("cannot read cargo metadata")
}

/// Builds `meshnode` and `meshctl` as users run them and returns their folder.
pub fn build_programs() -> anyhow::Result<PathBuf> {
    let status = cargo(&programs_arguments())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("cannot build meshnode and meshctl");
    }
    Ok(programs())
}

/// Returns the arguments of the cargo command that builds the programs.
pub fn programs_arguments() -> [&'static str; 8] {
    [
        "build",
        "--locked",
        "--profile",
        PROGRAMS_PROFILE,
        "-p",
        "meshnode",
        "-p",
        "meshctl",
    ]
}

/// Returns the folder of the built programs.
pub fn programs() -> PathBuf {
    target().join(PROGRAMS_PROFILE)
}
