//! The commands of `meshnode`, one file each: this machine's side of the mesh.
//!
//! Decides which command runs and where its home is. Results go to stdout, talk to stderr; every
//! failure ends with a next step and an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::home::Home;

mod config;
mod init;
mod join;
mod keys;
pub mod start;
mod status;
mod stop;
mod version;

/// A machine's place in the mesh: networks, services and books without a centre.
#[derive(Debug, Parser)]
#[command(name = "meshnode", version, disable_help_subcommand = true)]
#[command(after_help = "First node of a new organisation:\n  \
    meshnode init --org bakery && meshnode start\n\
    Another machine of it, with an invite from `meshctl member invite`:\n  \
    meshnode join INVITE && meshnode start")]
pub struct Arguments {
    /// The node's folder: configuration, keys, state and socket
    #[arg(long, global = true, value_name = "DIR", env = "MESHSTEAD_HOME")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Join(join::Join),
    Start(start::Start),
    Stop(stop::Stop),
    Status(status::Status),
    #[command(subcommand)]
    Config(config::Config),
    #[command(subcommand)]
    Keys(keys::Keys),
    Version(version::Version),
}

/// Runs what the command line says.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let home = Home::locate(arguments.home);
    let done = match arguments.command {
        Command::Init(init) => init.run(&home),
        Command::Join(join) => join.run(&home),
        Command::Start(start) => start.run(&home),
        Command::Stop(stop) => stop.run(&home),
        Command::Status(status) => status.run(&home),
        Command::Config(config) => config.run(&home),
        Command::Keys(keys) => keys.run(&home),
        Command::Version(version) => version.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Returns the words that make a printed command reach the same home.
fn home_flag(home: &Home) -> String {
    let usual = Home::locate(None);
    let named = std::env::var_os("MESHSTEAD_HOME").is_some();
    if home.path() == usual.path() || named {
        return String::new();
    }
    format!(" --home {}", home.path().display())
}

/// Prints to stdout; a closed pipe is the reader's wish, not an error.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::caused("cannot write to stdout", &error))
        }
        _ => Ok(()),
    }
}
