//! `meshnode status`: how this node is; health comes last.

use clap::Args;
use mesh_api::{Reply, Request, document, screen};

use crate::ask::ask;
use crate::command::{other_answer, print};
use crate::failure::Failure;
use crate::home::Home;

/// Show how this node is: address, peers, links, ledger, services, health last
#[derive(Debug, Args)]
pub struct Status {
    /// Print JSON, also for errors
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Asks the daemon and prints its answer.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let reply = ask(&home.socket(), &Request::Status)?;
        if self.json {
            return print(&format!("{}\n", document::of_reply(&reply)));
        }
        match reply {
            Reply::Status(status) => print(&screen::status(&status)),
            _ => Err(other_answer("its status")),
        }
    }
}
