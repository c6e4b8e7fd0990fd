//! The files from which the scoreboard reads what a run has shown.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use mesh_fuzz::TARGETS;

use crate::run::{FACTOR_MAX, Plan, Report};

/// Inputs of each target that the bars ask for.
const INPUTS_NEEDED: u64 = 1_000_000;
/// Each bar with how the names of its targets begin.
const BARS: [(&str, &str); 2] = [("first.fuzz", ""), ("routing.fuzz", "babel")];

/// Writes the bars. A run of fewer inputs or targets than a bar asks for leaves its file alone,
/// unless it shows that the promise is broken.
pub fn write(plan: Plan, reports: &[Report]) {
    for (bar, start) in BARS {
        let is_part = |name: &str| name.starts_with(start);
        let needed = TARGETS.iter().filter(|target| is_part(target.name)).count();
        let part = reports.iter().filter(|report| is_part(report.name));
        write_one(bar, plan, needed, &part.collect::<Vec<_>>());
    }
}

fn write_one(bar: &str, plan: Plan, needed: usize, reports: &[&Report]) {
    let failed = reports.iter().filter(|report| !report.holds()).count();
    let is_enough = reports.len() == needed && INPUTS_NEEDED <= plan.inputs;
    if !is_enough && failed == 0 {
        return;
    }
    let tried: u64 = reports.iter().map(|report| report.tried).sum();
    let factors = reports.iter().map(|report| report.factor);
    let factor = factors.max().unwrap_or(0);
    let figure = format!(
        "{} decoders, {} million inputs, {failed} failed, ≤ {factor} × (of {FACTOR_MAX})",
        reports.len(),
        tried / 1_000_000
    );
    let text = serde_json::json!({ "figure": figure, "ok": failed == 0 && is_enough }).to_string();
    let folder = folder();
    let path = folder.join(format!("{bar}.json"));
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
