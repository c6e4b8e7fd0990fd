//! Command lines that cannot be read: the same two lines and formats as every other failure.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind as ClapKind;
use clap::{CommandFactory, Parser};
use mesh_api::usage;

use crate::failure::Failure;
use crate::options::Options;
use crate::output::{self, Format};

const PROGRAM: &str = "meshctl";

/// Tells what is wrong with a command line, or prints the help that it asked for.
pub fn report(problem: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let legible = arguments
        .iter()
        .map(|word| usage::legible(&word.to_string_lossy()));
    let again = Options::try_parse_from(legible).err();
    let problem = again.as_ref().unwrap_or(problem);
    let text = problem.render().to_string();
    let command = command_of(arguments);
    let command = command.as_deref();
    match problem.kind() {
        ClapKind::DisplayHelp | ClapKind::DisplayVersion => {
            drop(output::data(&text));
            ExitCode::SUCCESS
        }
        ClapKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::talk(&format!("{text}\n"));
            Failure::Error(usage::unfinished(PROGRAM, command)).report(wanted(arguments))
        }
        _ => Failure::Error(usage::fold(PROGRAM, &text, command)).report(wanted(arguments)),
    }
}

/// Finds the command on a command line that cannot be read.
fn command_of(arguments: &[OsString]) -> Option<String> {
    let program = Options::command();
    let known = arguments
        .iter()
        .skip(1)
        .find_map(|word| program.find_subcommand(word));
    known.map(|command| command.get_name().to_owned())
}

/// Finds out which format was asked for on a command line that cannot be read.
fn wanted(arguments: &[OsString]) -> Format {
    let mut words = arguments.iter().filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        let value = match word {
            "--json" => return Format::Json,
            "-o" | "--output" => words.next(),
            _ => word
                .strip_prefix("--output=")
                .or_else(|| word.strip_prefix("-o")),
        };
        match value {
            Some("json") => return Format::Json,
            Some("jsonl") => return Format::Jsonl,
            _ => {}
        }
    }
    Format::Table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_format_is_found_on_any_line() {
        let check = |line: &str, expect: Format| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(wanted(&words), expect, "{line}");
        };
        check("meshctl ordre --json", Format::Json);
        check("meshctl -o jsonl ordre", Format::Jsonl);
        check("meshctl -ojson ordre", Format::Json);
        check("meshctl --output=json ordre", Format::Json);
        check("meshctl -o csv ordre", Format::Table);
    }
}
