//! `meshnode trace`: who is on the way to a node, and where the way ends.

use clap::Args;
use mesh_api::{ErrorKind, Reply, Request, chart, document};

use crate::ask::ask;
use crate::command::{other_answer, print};
use crate::failure::Failure;
use crate::home::Home;

/// Show the nodes on the way to a node, with the round trip to each
#[derive(Debug, Args)]
pub struct Trace {
    /// The node: its name, NAME.ORG or its address
    #[arg(value_name = "NODE")]
    to: String,
    /// Print JSON, one line for what was found and one if the node does not answer
    #[arg(long)]
    json: bool,
}

impl Trace {
    /// Asks the daemon and prints how far packets come; fails if they do not arrive.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let reply = ask(&home.socket(), &Request::Trace { to: self.to })?;
        let Reply::Trace(trace) = &reply else {
            return Err(other_answer("a trace"));
        };
        if self.json {
            print(&format!("{}\n", document::of_reply(&reply)))?;
        } else {
            print(&chart::trace(trace))?;
        }
        if trace.reached {
            return Ok(());
        }
        let last = trace.hops.iter().rev().find_map(|hop| hop.node.as_ref());
        let hint = match last {
            Some(last) => format!("look there: `meshnode routes {}` on {last}", trace.name),
            None => "see the neighbours: meshnode peers".to_owned(),
        };
        Err(Failure::new(format!("{} does not answer", trace.name))
            .hint(hint)
            .kind(ErrorKind::Timeout))
    }
}
