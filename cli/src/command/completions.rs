//! `meshctl completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::options::Options;
use crate::output;

/// Print a completion script for a shell.
///
/// Examples:
///   source <(meshctl completions bash)
///   meshctl completions fish > ~/.config/fish/completions/meshctl.fish
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct CompletionsArguments {
    /// The shell.
    shell: Shell,
}

impl CompletionsArguments {
    /// Prints the script.
    pub fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Options::command(), "meshctl", &mut script);
        output::data(&String::from_utf8_lossy(&script))
    }
}
