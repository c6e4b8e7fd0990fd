//! The file from which the scoreboard reads what a run has shown.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{FACTOR_MAX, Plan, Report};

/// Inputs of each target that the bar asks for.
const INPUTS_NEEDED: u64 = 1_000_000;
const BAR: &str = "first.fuzz";

/// Writes the bar. A run of fewer inputs or targets than it asks for leaves the file alone, unless
/// it shows that a promise is broken.
pub fn write(plan: Plan, is_complete: bool, reports: &[Report]) {
    let failed = reports.iter().filter(|report| !report.holds()).count();
    let is_enough = is_complete && INPUTS_NEEDED <= plan.inputs;
    if !is_enough && failed == 0 {
        return;
    }
    let tried: u64 = reports.iter().map(|report| report.tried).sum();
    let factor = reports
        .iter()
        .map(|report| report.factor)
        .max()
        .unwrap_or(0);
    let figure = format!(
        "{} decoders, {} million inputs, {failed} failed, ≤ {factor} × (of {FACTOR_MAX})",
        reports.len(),
        tried / 1_000_000
    );
    let text = serde_json::json!({ "figure": figure, "ok": failed == 0 && is_enough }).to_string();
    let folder = folder();
    let path = folder.join(format!("{BAR}.json"));
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text));
    if let Err(error) = written {
        println!("cannot write {}: {error}", path.display());
    }
}

fn folder() -> PathBuf {
    match env::var_os("MESHSTEAD_BARS_DIR") {
        Some(folder) => PathBuf::from(folder),
        // The folder for tests' files is `tmp` in the target folder.
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bars"),
    }
}
