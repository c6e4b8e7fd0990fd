//! `meshctl man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use mesh_api::error::ErrorKind;

use crate::failure::Failure;
use crate::options::Options;

/// Write the manual pages into a folder, for packagers.
///
/// Examples:
///   meshctl man ~/.local/share/man/man1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ManArguments {
    /// The folder; made if it lacks.
    folder: PathBuf,
}

impl ManArguments {
    /// Writes a page for the program and one for each command.
    pub fn run(self) -> Result<(), Failure> {
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| clap_mangen::generate_to(Options::command(), &self.folder));
        written.map_err(|problem| {
            Failure::new(
                ErrorKind::Failure,
                format!(
                    "cannot write manual pages into {}: {problem}",
                    self.folder.display()
                ),
                "name a folder that you may write to",
            )
        })
    }
}
