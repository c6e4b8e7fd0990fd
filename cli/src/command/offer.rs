//! `meshctl offer`.

use clap::Subcommand;
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_api::screen;

use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// List offers.
#[derive(Debug, Subcommand)]
pub enum OfferCommand {
    /// List who sells what, at which price, with what room.
    #[command(verbatim_doc_comment)]
    Ls,
}

impl OfferCommand {
    /// Lists offers.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let Self::Ls = self;
        let reply = session.ask(&Request::OfferLs)?;
        let Reply::Offers { offers } = &reply else {
            return Err(unexpected(&reply));
        };
        session.show(&reply, || {
            let rows = offers.iter().map(|offer| {
                vec![
                    offer.recipe.clone(),
                    offer.node.clone(),
                    offer.org.clone(),
                    screen::or_none(offer.price),
                    screen::mebibytes(offer.memory_free_mib),
                    cores(offer.cpu_free_millis),
                    screen::mebibytes(offer.disk_free_mib),
                    screen::yes(offer.connected).to_owned(),
                ]
            });
            let heads = [
                "RECIPE",
                "NODE",
                "ORG",
                "PRICE",
                "MEMORY FREE",
                "CORES FREE",
                "DISK FREE",
                "CONNECTED",
            ];
            screen::table(&heads, rows.collect())
        })?;
        if offers.is_empty() {
            session.say("no offers yet: `meshctl agreement ls` shows who may sell to us\n");
        }
        Ok(())
    }
}

/// Returns thousandths of a core as cores.
pub fn cores(millis: u64) -> String {
    format!("{}.{}", millis / 1000, millis % 1000 / 100)
}
