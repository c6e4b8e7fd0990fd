//! `meshctl ps`.

use clap::Args;
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_api::screen;

use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// List services: what we ordered, and what runs here for others.
///
/// Examples:
///   meshctl ps
///   meshctl ls -o jsonl
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PsArguments {}

impl PsArguments {
    /// Lists services.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let reply = session.ask(&Request::Ps)?;
        let Reply::Services { ordered, held } = &reply else {
            return Err(unexpected(&reply));
        };
        session.show(&reply, || {
            let (ours, here) = (
                screen::services_ordered(ordered),
                screen::services_held(held),
            );
            if ours.is_empty() || here.is_empty() {
                return format!("{ours}{here}");
            }
            format!("{ours}\nrunning here for others and ourselves\n{here}")
        })?;
        if ordered.is_empty() && held.is_empty() {
            session.say("no services yet: `meshctl recipe ls` lists what can be ordered\n");
        }
        Ok(())
    }
}
