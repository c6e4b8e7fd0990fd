//! `meshnode completions`: a script that completes our commands in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::command::{Arguments, print};
use crate::failure::Failure;

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        let mut program = Arguments::command();
        clap_complete::generate(self.shell, &mut program, "meshnode", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
