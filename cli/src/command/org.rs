//! `meshctl org`.

use std::io::Read;
use std::time::Duration;

use clap::Subcommand;
use mesh_api::error::ErrorKind;
use mesh_api::reply::{Relation, Reply};
use mesh_api::request::{Request, Sale};
use mesh_api::screen;
use mesh_base::money::{Currency, Money, Price};
use mesh_base::name::Name;

use crate::amount;
use crate::command::agreement::agreements_screen;
use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// Longest agreement text that is read from stdin.
const AGREEMENT_LEN_MAX: u64 = 64 * 1024;

/// Agree with other organisations on who may order what.
#[derive(Debug, Subcommand)]
pub enum OrgCommand {
    /// Offer another organisation an agreement: what it may order, prices, credit.
    ///
    /// Examples:
    ///   meshctl org invite --sell postgres=0.12EUR/month --credit 10EUR
    ///   meshctl org invite            admits it to the mesh and sells nothing yet
    #[command(verbatim_doc_comment)]
    Invite {
        /// What may be ordered at which price; may be given again.
        #[arg(long, value_name = "RECIPE=PRICE", value_parser = sale)]
        sell: Vec<Sale>,
        /// How much it may owe before orders are refused; 0 of the currency if not given.
        #[arg(long, value_name = "AMOUNT")]
        credit: Option<Money>,
        /// How long the offer can be accepted, for example 24h or 7d.
        #[arg(long, value_name = "SPAN", default_value = "7d", value_parser = amount::span)]
        valid: Duration,
        /// Days between an invoice and its payment.
        #[arg(long, value_name = "DAYS", default_value_t = 14)]
        settlement_days: u32,
    },
    /// Accept an agreement that another organisation offers.
    ///
    /// Examples:
    ///   meshctl org accept AGREEMENT
    ///   meshctl org accept - < agreement.txt
    #[command(verbatim_doc_comment)]
    Accept {
        /// The text that `meshctl org invite` printed there; `-` reads it from stdin.
        agreement: String,
    },
    /// List the organisations we know.
    #[command(verbatim_doc_comment)]
    Ls,
}

impl OrgCommand {
    /// Invites, accepts or lists.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Invite {
                sell,
                credit,
                valid,
                settlement_days,
            } => {
                let credit = credit_of(&sell, credit)?;
                let valid_s = valid.as_secs();
                invite(
                    session,
                    &Request::OrgInvite {
                        sell,
                        credit,
                        valid_s,
                        settlement_days,
                    },
                )
            }
            Self::Accept { agreement } => accept(session, agreement),
            Self::Ls => list(session),
        }
    }
}

/// Reads `postgres=0.12EUR/month`.
fn sale(text: &str) -> Result<Sale, String> {
    let wrong = "write RECIPE=PRICE, for example postgres=0.12EUR/month";
    let (recipe, price) = text.split_once('=').ok_or(wrong)?;
    let recipe: Name = recipe.parse().map_err(|_| wrong)?;
    let price: Price = price.parse().map_err(|_| wrong)?;
    Ok(Sale { recipe, price })
}

/// All prices and the credit of one agreement have one currency.
fn credit_of(sell: &[Sale], credit: Option<Money>) -> Result<Money, Failure> {
    let priced = sell.first().map(|sale| sale.price.per_month.currency);
    let currency = credit
        .map(|credit| credit.currency)
        .or(priced)
        .unwrap_or(Currency::EUR);
    for sale in sell {
        let other = sale.price.per_month.currency;
        if other != currency {
            return Err(Failure::new(
                ErrorKind::Usage,
                format!(
                    "{} is priced in {other}, but the agreement is in {currency}",
                    sale.recipe
                ),
                "use one currency for all prices and the credit of an agreement",
            ));
        }
    }
    Ok(credit.unwrap_or(Money::zero(currency)))
}

fn invite(session: &Session, request: &Request) -> Result<(), Failure> {
    let reply = session.ask(request)?;
    let Reply::OrgInvite {
        agreement,
        expires_at,
    } = &reply
    else {
        return Err(unexpected(&reply));
    };
    session.show(&reply, || format!("{}\n", screen::plain(agreement)))?;
    session.say(&format!(
        "hint: at the other organisation: meshctl org accept AGREEMENT   (until {})\n",
        screen::time(*expires_at)
    ));
    Ok(())
}

fn accept(session: &Session, agreement: String) -> Result<(), Failure> {
    let agreement = if agreement == "-" {
        read_stdin()?
    } else {
        agreement
    };
    let request = Request::OrgAccept {
        agreement: agreement.trim().to_owned(),
    };
    let (reply, mut progress) = session.work(&request)?;
    progress.give_up();
    let Reply::OrgAccept(row) = &reply else {
        return Err(unexpected(&reply));
    };
    session.show(&reply, || agreements_screen(std::slice::from_ref(&**row)))?;
    if let Some(sale) = row.sells.first() {
        session.say(&format!("hint: try: meshctl order {}\n", sale.recipe));
    }
    Ok(())
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin()
        .take(AGREEMENT_LEN_MAX)
        .read_to_string(&mut text);
    read.map(|_| text).map_err(|problem| {
        Failure::new(
            ErrorKind::Usage,
            format!("cannot read the agreement from stdin: {problem}"),
            "pass it as an argument: meshctl org accept AGREEMENT",
        )
    })
}

fn list(session: &Session) -> Result<(), Failure> {
    let reply = session.ask(&Request::OrgLs)?;
    let Reply::Orgs { orgs } = &reply else {
        return Err(unexpected(&reply));
    };
    session.show(&reply, || {
        let rows = orgs.iter().map(|org| {
            let relation = match org.relation {
                Relation::Own => "ours",
                Relation::Seller => "sells to us",
                Relation::Buyer => "buys from us",
                Relation::Both => "sells and buys",
            };
            vec![
                org.name.clone(),
                relation.to_owned(),
                org.nodes.to_string(),
                org.org.to_string(),
            ]
        });
        screen::table(&["NAME", "RELATION", "NODES", "KEY"], rows.collect())
    })
}
