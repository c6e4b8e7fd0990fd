//! `meshctl`: what people and scripts type to order services and to look after them.
//!
//! Decides how a command line becomes a [`mesh_api::Request`] and how the answer looks. Leaves what
//! a request does to the node, and talks to it over its local socket only. Invariant: data goes to
//! stdout, talk to stderr, and every failure ends with a next step and the exit code of its kind.

mod amount;
mod client;
mod command;
mod confirm;
mod failure;
mod options;
mod output;
mod progress;
mod session;
mod suggest;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::failure::Failure;
use crate::options::Options;
use crate::session::Session;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let options = match Options::try_parse_from(&arguments) {
        Ok(options) => options,
        Err(problem) => return usage::report(&problem, &arguments),
    };
    let format = options.everywhere.format();
    let session = Session::new(&options.everywhere);
    match options.command.run(&session) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => Failure::report(&failure, format),
    }
}
