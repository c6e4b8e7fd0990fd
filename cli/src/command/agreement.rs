//! `meshctl agreement`.

use clap::Subcommand;
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_api::screen;
use mesh_api::trade::AgreementRow;

use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// List agreements.
#[derive(Debug, Subcommand)]
pub enum AgreementCommand {
    /// List the agreements in force, as buyer and as seller.
    #[command(verbatim_doc_comment)]
    Ls,
}

impl AgreementCommand {
    /// Lists agreements.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let Self::Ls = self;
        let reply = session.ask(&Request::AgreementLs)?;
        let Reply::Agreements { agreements } = &reply else {
            return Err(unexpected(&reply));
        };
        session.show(&reply, || agreements_screen(agreements))?;
        if agreements.is_empty() {
            session.say(
                "no agreements yet: `meshctl org invite` offers one, \
                 `meshctl org accept` takes one\n",
            );
        }
        Ok(())
    }
}

/// Returns agreements as a table.
pub fn agreements_screen(agreements: &[AgreementRow]) -> String {
    let rows = agreements.iter().map(|agreement| {
        let sells = agreement.sells.iter();
        let sells: Vec<String> = sells
            .map(|sale| format!("{} {}", sale.recipe, sale.price))
            .collect();
        vec![
            agreement.seller.clone(),
            agreement.buyer.clone(),
            if sells.is_empty() {
                screen::NONE.to_owned()
            } else {
                sells.join(", ")
            },
            agreement.credit.to_string(),
            agreement.owed.to_string(),
            format!("{} d", agreement.settlement_days),
            screen::time(agreement.since),
        ]
    });
    let heads = [
        "SELLER",
        "BUYER",
        "SELLS",
        "CREDIT",
        "OWED",
        "SETTLED IN",
        "SINCE",
    ];
    screen::table(&heads, rows.collect())
}
