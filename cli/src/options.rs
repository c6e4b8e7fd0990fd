//! The command line: options that every command has, and the list of commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};

use crate::amount;
use crate::command::Command;
use crate::output::Format;

/// Order services from a mesh of neighbours and look after them.
///
/// Examples:
///   meshctl order postgres --name crm-db
///   psql "$(meshctl show crm-db --field url)"
///   meshctl ps --json
///
/// Exit codes: 0 done, 1 failure, 2 usage, 3 node unreachable, 4 not authorised, 5 not found,
/// 6 conflict or stale plan, 7 timeout, 8 degraded, 9 cannot place, 10 plan has changes.
#[derive(Debug, Parser)]
#[command(
    name = "meshctl",
    version,
    verbatim_doc_comment,
    arg_required_else_help = true
)]
#[command(
    max_term_width = 100,
    infer_long_args = false,
    disable_help_subcommand = true
)]
pub struct Options {
    /// What every command understands.
    #[command(flatten)]
    pub everywhere: Everywhere,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Everywhere {
    /// Home of the node to ask.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MESHSTEAD_HOME",
        hide_env_values = true
    )]
    pub home: Option<PathBuf>,
    /// How results are written.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value = "table"
    )]
    output: Format,
    /// Short for `--output json`.
    #[arg(long, global = true)]
    json: bool,
    /// Do dangerous things without a question.
    #[arg(
        long,
        short = 'y',
        global = true,
        env = "MESHSTEAD_YES",
        hide_env_values = true
    )]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub yes: bool,
    /// No talk on stderr but errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Longest wait for an answer, for example 90s or 10m.
    #[arg(long, global = true, value_name = "SPAN", value_parser = amount::span)]
    pub timeout: Option<Duration>,
}

impl Everywhere {
    /// Returns how results are written.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn json_is_short_for_the_output_format() {
        let options = Options::parse_from(["meshctl", "ps", "--json"]);
        assert_eq!(options.everywhere.format(), Format::Json);
        let options = Options::parse_from(["meshctl", "-o", "csv", "ls"]);
        assert_eq!(options.everywhere.format(), Format::Csv);
    }
}
