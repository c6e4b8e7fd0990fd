//! Command lines that cannot be read: the same two lines and formats as every other failure.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind as ClapKind;
use mesh_api::error::{ApiError, ErrorKind};

use crate::failure::Failure;
use crate::options::Options;
use crate::output::{self, Format};

/// Tells what is wrong with a command line, or prints the help that it asked for.
pub fn report(problem: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let text = problem.render().to_string();
    match problem.kind() {
        ClapKind::DisplayHelp | ClapKind::DisplayVersion => {
            drop(output::data(&text));
            ExitCode::SUCCESS
        }
        ClapKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::talk(&text);
            ExitCode::from(ErrorKind::Usage.exit_code())
        }
        _ => Failure::Error(error_of(&text, command_of(arguments))).report(wanted(arguments)),
    }
}

/// Folds the parser's paragraphs into a cause and a hint.
fn error_of(text: &str, command: Option<String>) -> ApiError {
    let mut cause = Vec::new();
    let mut hint = None;
    let mut usage = None;
    let mut open = true;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(tip) = trimmed.strip_prefix("tip: ") {
            hint.get_or_insert(tip);
        } else if let Some(line) = trimmed.strip_prefix("Usage: ") {
            usage = Some(line);
        } else if trimmed.is_empty() {
            open = false;
        } else if open {
            cause.push(trimmed);
        } else if let Some(values) = trimmed.strip_prefix('[')
            && values.ends_with(']')
        {
            cause.push(trimmed);
        }
    }
    let cause = cause.join(" ");
    let cause = cause.strip_prefix("error: ").unwrap_or(&cause).to_owned();
    let hint = match (hint, usage, command) {
        (Some(tip), ..) => tip.to_owned(),
        (None, Some(usage), _) => format!("write: {usage}"),
        (None, None, Some(command)) => format!("see `meshctl {command} --help`"),
        (None, None, None) => "see `meshctl --help`".to_owned(),
    };
    ApiError::new(ErrorKind::Usage, cause, hint)
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
    fn paragraphs_become_cause_and_hint() {
        let text = "error: unrecognized subcommand 'ordre'\n\n  tip: a similar subcommand exists: \
                    'order'\n\nUsage: meshctl <COMMAND>\n\nFor more information, try '--help'.\n";
        let error = error_of(text, None);
        assert_eq!(error.cause, "unrecognized subcommand 'ordre'");
        assert_eq!(error.hint, "a similar subcommand exists: 'order'");
    }

    #[test]
    fn missing_arguments_show_what_to_write() {
        let text = "error: the following required arguments were not provided:\n  <RECIPE>\n\n\
                    Usage: meshctl order <RECIPE>\n\nFor more information, try '--help'.\n";
        let error = error_of(text, None);
        assert_eq!(
            error.cause,
            "the following required arguments were not provided: <RECIPE>"
        );
        assert_eq!(error.hint, "write: meshctl order <RECIPE>");
    }

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
