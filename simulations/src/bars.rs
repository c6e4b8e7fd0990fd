//! The files from which the scoreboard reads what a run has shown.

use std::fmt::Display;
use std::path::PathBuf;
use std::{env, fs};

use anyhow::Context;

use crate::canary::Report;
use crate::runner::{Plan, Summary};
use crate::scenario::Scenario;

/// Seeds that a bar asks for.
const SEEDS_NEEDED: u64 = 100;
/// Seeds within which each planted bug must be found.
const CANARY_SEEDS_MAX: u64 = 200;

/// Writes the bar of a run. A run of fewer seeds than the bar asks for leaves the file alone,
/// unless it shows that a promise is broken.
pub fn write(plan: &Plan, summary: &Summary) -> anyhow::Result<()> {
    let name = match plan.scenario {
        Scenario::First => "first.sim",
        Scenario::LastSlot => "first.last-slot.sim",
    };
    let ok = summary.is_good() && SEEDS_NEEDED <= plan.seeds;
    if plan.seeds < SEEDS_NEEDED && summary.failed().is_empty() {
        return Ok(());
    }
    put(name, &summary.figure(), ok)
}

/// Writes a bar of planted bugs; they must be found within [`CANARY_SEEDS_MAX`].
pub fn write_canary<B: Display>(name: &str, report: &Report<B>, seeds: u64) -> anyhow::Result<()> {
    let ok = report.is_good() && seeds <= CANARY_SEEDS_MAX;
    put(name, &report.figure(), ok)
}

/// Writes a figure.
pub fn put(name: &str, figure: &str, ok: bool) -> anyhow::Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("{name}.json"));
    let text = serde_json::json!({ "figure": figure, "ok": ok }).to_string();
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn folder() -> PathBuf {
    if let Some(folder) = env::var_os("MESHSTEAD_BARS_DIR") {
        return PathBuf::from(folder);
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    target.join("bars")
}
