//! `meshnode man`: the manual pages, for packagers.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::command::Arguments;
use crate::failure::Failure;

/// Write the manual pages into a folder
#[derive(Debug, Args)]
pub struct Man {
    /// The folder; made if it lacks
    folder: PathBuf,
}

impl Man {
    /// Writes a page for the program and one for each command.
    pub fn run(self) -> Result<(), Failure> {
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| clap_mangen::generate_to(Arguments::command(), &self.folder));
        written.map_err(|error| {
            let folder = self.folder.display();
            Failure::caused(format!("cannot write manual pages into {folder}"), &error)
                .hint("name a folder that you may write to")
        })
    }
}
