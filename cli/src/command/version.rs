//! `meshctl version`.

use clap::Args;
use mesh_api::document;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Format};
use crate::session::Session;

/// The schema of the version.
const SCHEMA: &str = "meshstead.version/1";

/// Print the version of this program; the daemon's is in `meshctl status`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct VersionArguments {}

/// What programs read.
#[derive(Serialize)]
struct Version {
    program: &'static str,
    version: &'static str,
}

impl VersionArguments {
    /// Prints the version.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let version = Version {
            program: "meshctl",
            version: env!("CARGO_PKG_VERSION"),
        };
        let document = document::of_struct(SCHEMA, &version);
        match session.format {
            Format::Table => output::data(&format!("{} {}\n", version.program, version.version)),
            Format::Json => output::data(&format!("{document:#}\n")),
            Format::Jsonl => output::data(&format!("{document}\n")),
            Format::Csv => output::data(&output::csv(&[document])),
        }
    }
}
