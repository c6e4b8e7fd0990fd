//! The chores of the repository: everything that the machine can judge, and the demo.
//!
//! `cargo xtask ci` is the gate; each of its steps can be run alone. Decides nothing about the
//! product: it runs programs, reads sources and adds up what they say.

mod bars;
mod ci;
mod demo;
mod package;
mod step;
mod tidy;
mod unit;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Repository chores.
#[derive(Debug, Parser)]
#[command(name = "xtask", about = "The chores of this repository")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Run everything that the machine can judge, in order
    #[command(alias = "test")]
    Ci {
        /// Run only the steps whose name contains this
        #[arg(long)]
        only: Option<String>,
    },
    /// Run what takes longer than a gate may: two thousand seeds of routing, a thousand nodes
    Long {
        /// Run only the steps whose name contains this
        #[arg(long)]
        only: Option<String>,
    },
    /// Check style: import arrows, banned names, sizes, module documents
    Tidy,
    /// Play the first order on this machine: four nodes, two organisations, a real PostgreSQL
    Demo,
    /// Print the scoreboard: one line for each bar
    Bars {
        /// Fail if a bar that guards a landing is short
        #[arg(long)]
        gate: bool,
    },
    /// Build the two programs as users run them and print where they are
    Build,
    /// Build the Debian package and judge it
    Package {
        /// Install and start it in this bare Debian tree, which is changed; in one made for it
        /// if none is named
        #[arg(long, value_name = "TREE")]
        check: Option<Option<PathBuf>>,
    },
    /// Print how exposed the systemd unit is
    Unit,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.chore {
        Chore::Ci { only } => ci::run(only.as_deref()),
        Chore::Long { only } => Ok(ci::run_long(only.as_deref())),
        Chore::Tidy => tidy::run(),
        Chore::Demo => demo::run(),
        Chore::Bars { gate } => bars::run(gate),
        Chore::Package { check } => package::run(match &check {
            None => package::Place::Nowhere,
            Some(None) => package::Place::Fresh,
            Some(Some(tree)) => package::Place::In(tree),
        }),
        Chore::Unit => unit::run(),
        Chore::Build => workspace::build_programs().map(|folder| {
            println!("{}", folder.display());
            true
        }),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
