//! `meshctl ledger`.

use clap::Subcommand;
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_api::screen;

use crate::command::invoice::show_verdict;
use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// Look at the ledger documents held here.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// List the last change of each document.
    #[command(verbatim_doc_comment)]
    Heads,
    /// Check every signature and sequence of each document.
    #[command(verbatim_doc_comment)]
    Verify,
}

impl LedgerCommand {
    /// Lists heads or verifies.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Heads => heads(session),
            Self::Verify => {
                let (reply, mut progress) = session.work(&Request::LedgerVerify)?;
                progress.give_up();
                show_verdict(
                    session,
                    &reply,
                    "keep the node's home as it is and ask its operator",
                )
            }
        }
    }
}

fn heads(session: &Session) -> Result<(), Failure> {
    let reply = session.ask(&Request::LedgerHeads)?;
    let Reply::Heads { heads } = &reply else {
        return Err(unexpected(&reply));
    };
    session.show(&reply, || {
        let rows = heads.iter().map(|head| {
            vec![
                head.document.clone(),
                head.seq.to_string(),
                head.records.to_string(),
                head.head.clone(),
            ]
        });
        screen::table(&["DOCUMENT", "SEQ", "RECORDS", "HEAD"], rows.collect())
    })
}
