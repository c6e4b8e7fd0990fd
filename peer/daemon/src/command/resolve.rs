//! `meshnode resolve`: what a name of the mesh means on this node, and who holds it.

use clap::Args;
use mesh_api::{Reply, Request, document, screen};

use crate::ask::ask;
use crate::command::print;
use crate::failure::Failure;
use crate::home::Home;

/// Show the overlay address of a name, and the node that holds it
#[derive(Debug, Args)]
#[command(
    after_help = "A name is SERVICE.ORG.mesh.internal or NODE.ORG.mesh.internal; \
    .mesh.internal may be left out,\nand so may our own organisation. An address gives its name."
)]
pub struct Resolve {
    /// The name, or an overlay address
    name: String,
    /// Print JSON, also for errors
    #[arg(long)]
    json: bool,
}

impl Resolve {
    /// Asks the daemon and prints its answer.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let reply = ask(&home.socket(), &Request::Resolve { name: self.name })?;
        if self.json {
            return print(&format!("{}\n", document::of_reply(&reply)));
        }
        let Reply::Resolved(resolved) = reply else {
            return Err(
                Failure::new("the node answered something else than an address")
                    .hint("use the same version of program and daemon: `meshnode version`"),
            );
        };
        let fact = |name: &str, text: String| vec![name.to_owned(), text];
        let rows = vec![
            fact("name", resolved.name),
            fact("address", resolved.address.to_string()),
            fact(
                "means",
                format!("a {} of {}", resolved.bearer.word(), resolved.owner),
            ),
            fact("held by", format!("{} ({})", resolved.node, resolved.org)),
        ];
        print(&screen::columns(rows, ""))
    }
}
