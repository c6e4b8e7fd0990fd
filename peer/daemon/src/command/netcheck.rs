//! `meshnode netcheck`: what this machine's network lets through, and what to do about it.

use clap::Args;
use mesh_api::{Reply, Request, document, netcheck};

use crate::ask::ask;
use crate::command::{other_answer, print};
use crate::failure::Failure;
use crate::home::Home;

/// Show what this network lets through: NAT, UDP, IPv6, the way to each node, what to do next
#[derive(Debug, Args)]
pub struct Netcheck {
    /// Print JSON, also for errors
    #[arg(long)]
    json: bool,
}

impl Netcheck {
    /// Asks the daemon and prints its answer.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let reply = ask(&home.socket(), &Request::Netcheck)?;
        if self.json {
            return print(&format!("{}\n", document::of_reply(&reply)));
        }
        match reply {
            Reply::Netcheck(check) => print(&netcheck::screen(&check)),
            _ => Err(other_answer("what its network lets through")),
        }
    }
}
