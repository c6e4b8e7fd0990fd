//! `meshnode peers`: the neighbours, and the sessions that go over them.

use clap::Args;
use mesh_api::{Reply, Request, chart, document};

use crate::ask::ask;
use crate::command::{other_answer, print};
use crate::failure::Failure;
use crate::home::Home;

/// Show the neighbours: round trip, costs, hellos, bytes, and how far nodes are reached
#[derive(Debug, Args)]
pub struct Peers {
    /// Print JSON, also for errors
    #[arg(long)]
    json: bool,
}

impl Peers {
    /// Asks the daemon and prints its answer.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let reply = ask(&home.socket(), &Request::Links)?;
        if self.json {
            return print(&format!("{}\n", document::of_reply(&reply)));
        }
        match reply {
            Reply::Links { links } => print(&chart::links(&links)),
            _ => Err(other_answer("its links")),
        }
    }
}
