//! The real `meshnode` on real folders: what a person sees of one machine's daemon.
//!
//! Needs no root. Where the system gives no network interface (no /dev/net/tun, no user namespaces)
//! a daemon cannot start, and the tests fail saying so.

// Helpers of tests may stop the test: outside `#[test]` functions the lints do not know that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod daemon;
mod malformed;
mod node;
mod wg;

/// Tells the scoreboard, if there is one, that a part of the bar of screens holds.
fn screens_told(part: &str, figure: &str) {
    let Some(folder) = std::env::var_os("MESHSTEAD_BARS_DIR") else {
        return;
    };
    let path = std::path::Path::new(&folder).join(format!("first.screens@{part}.json"));
    let text = serde_json::json!({ "figure": figure, "ok": true }).to_string();
    std::fs::write(path, text).unwrap();
}
