//! The commands of `meshnode`, one file each: this machine's side of the mesh.
//!
//! Decides which command runs and where its home is. Results go to stdout, talk to stderr; every
//! failure ends with a next step and an exit code.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use mesh_api::usage;

use crate::failure::Failure;
use crate::home::Home;

mod completions;
mod config;
mod init;
mod join;
mod keys;
mod man;
mod netcheck;
mod peers;
mod ping;
mod resolve;
mod routes;
mod shell;
pub mod start;
mod status;
mod stop;
mod trace;
mod version;
mod wg;

const PROGRAM: &str = "meshnode";

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
    Resolve(resolve::Resolve),
    Peers(peers::Peers),
    Routes(routes::Routes),
    Ping(ping::Ping),
    Trace(trace::Trace),
    Netcheck(netcheck::Netcheck),
    Shell(shell::Shell),
    #[command(subcommand)]
    Wg(wg::Wg),
    #[command(subcommand)]
    Config(config::Config),
    #[command(subcommand)]
    Keys(keys::Keys),
    Completions(completions::Completions),
    #[command(hide = true)]
    Man(man::Man),
    Version(version::Version),
}

/// Runs what the command line says.
pub fn run() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // Known before the line is read: a line that cannot be read wants its failure in JSON too.
    let json = words.iter().any(|word| word == "--json");
    match Arguments::try_parse_from(&words) {
        Ok(arguments) => match perform(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(json),
        },
        Err(problem) => unread(&problem, &words, json),
    }
}

fn perform(arguments: Arguments) -> Result<(), Failure> {
    let home = Home::locate(arguments.home);
    match arguments.command {
        Command::Init(init) => init.run(&home),
        Command::Join(join) => join.run(&home),
        Command::Start(start) => start.run(&home),
        Command::Stop(stop) => stop.run(&home),
        Command::Status(status) => status.run(&home),
        Command::Resolve(resolve) => resolve.run(&home),
        Command::Peers(peers) => peers.run(&home),
        Command::Routes(routes) => routes.run(&home),
        Command::Ping(ping) => ping.run(&home),
        Command::Trace(trace) => trace.run(&home),
        Command::Netcheck(netcheck) => netcheck.run(&home),
        Command::Wg(wg) => wg.run(&home),
        Command::Shell(shell) => shell.run(&home),
        Command::Config(config) => config.run(&home),
        Command::Keys(keys) => keys.run(&home),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
        Command::Version(version) => version.run(),
    }
}

/// Tells what is wrong with a command line, or prints the help that it asked for.
fn unread(problem: &clap::Error, words: &[OsString], json: bool) -> ExitCode {
    let legible = words
        .iter()
        .map(|word| usage::legible(&word.to_string_lossy()));
    let again = Arguments::try_parse_from(legible).err();
    let problem = again.as_ref().unwrap_or(problem);
    let text = problem.render().to_string();
    let program = Arguments::command();
    let known = words
        .iter()
        .skip(1)
        .find_map(|word| program.find_subcommand(word));
    let command = known.map(clap::Command::get_name);
    let error = match problem.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
            return match print(&text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => failure.report(json),
            };
        }
        clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            say(&format!("{text}\n"));
            usage::unfinished(PROGRAM, command)
        }
        _ => usage::fold(PROGRAM, &text, command),
    };
    Failure::from(error).report(json)
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

/// Returns the failure of a daemon that answers something else than was asked.
fn other_answer(wanted: &str) -> Failure {
    Failure::new(format!("the node answered something else than {wanted}"))
        .hint("use the same version of program and daemon: `meshnode version`")
}

/// Says something to people; nothing is lost if nobody listens.
pub fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Prints to stdout; a closed pipe is the reader's wish, not an error.
pub fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::caused("cannot write to stdout", &error)
                .hint("check where the output goes: a full disk, or a closed file"))
        }
        _ => Ok(()),
    }
}
