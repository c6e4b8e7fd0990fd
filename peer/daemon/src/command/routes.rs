//! `meshnode routes`: the ways to other nodes, or everything about one of them.

use clap::Args;
use mesh_api::{Reply, Request, chart, document};

use crate::ask::ask;
use crate::command::{other_answer, print};
use crate::failure::Failure;
use crate::home::Home;

/// Show the way to every node, or everything about the way to one
#[derive(Debug, Args)]
pub struct Routes {
    /// A node's name, NAME.ORG or an overlay address: show all ways to it, and why one is used
    #[arg(value_name = "NODE")]
    to: Option<String>,
    /// Print JSON, also for errors
    #[arg(long)]
    json: bool,
}

impl Routes {
    /// Asks the daemon and prints its answer.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let one = self.to.is_some();
        let reply = ask(&home.socket(), &Request::Routes { to: self.to })?;
        if self.json {
            return print(&format!("{}\n", document::of_reply(&reply)));
        }
        match reply {
            Reply::Routes { routes } if one => {
                let screens: Vec<String> = routes.iter().map(chart::route).collect();
                print(&screens.concat())
            }
            Reply::Routes { routes } => print(&chart::routes(&routes)),
            _ => Err(other_answer("its routes")),
        }
    }
}
