//! The real `meshctl` against a node that is played by the test: screens, formats, exit codes.
//!
//! One binary for all of them. The played node speaks the types of `mesh_api` over a real socket,
//! so what is tested here is everything but the node's decisions.
// The lints know tests by their attribute; in the helpers of a test a failure is a panic too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod failures;
mod formats;
mod malformed;
mod node;
mod screens;
mod words;

/// Tells the scoreboard, if there is one, that a part of the bar of screens holds.
fn screens_told(part: &str, figure: &str) {
    let Some(folder) = std::env::var_os("MESHSTEAD_BARS_DIR") else {
        return;
    };
    let path = std::path::Path::new(&folder).join(format!("first.screens@{part}.json"));
    let text = serde_json::json!({ "figure": figure, "ok": true }).to_string();
    std::fs::write(path, text).unwrap();
}
