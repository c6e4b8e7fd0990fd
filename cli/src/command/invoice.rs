//! `meshctl invoice`.

use clap::Subcommand;
use mesh_api::error::{ApiError, ErrorKind};
use mesh_api::reply::{Reply, Verdict};
use mesh_api::request::Request;
use mesh_api::screen;
use mesh_api::trade::{Invoice, InvoiceRow};

use crate::failure::Failure;
use crate::session::{Session, unexpected};
use crate::suggest;

/// List, show and recompute invoices.
#[derive(Debug, Subcommand)]
pub enum InvoiceCommand {
    /// List invoices, sent and received, the newest first.
    #[command(verbatim_doc_comment)]
    Ls,
    /// Show one invoice with its lines; without a number, the only one.
    #[command(verbatim_doc_comment)]
    Show {
        /// Its number, as `meshctl invoice ls` shows it.
        number: Option<String>,
    },
    /// Recompute one invoice from the signed usage; without a number, the only one.
    #[command(verbatim_doc_comment)]
    Verify {
        /// Its number, as `meshctl invoice ls` shows it.
        number: Option<String>,
    },
}

impl InvoiceCommand {
    /// Lists, shows or verifies.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Ls => list(session),
            Self::Show { number } => {
                let number = number_of(session, number, "show")?;
                let reply = session.ask(&Request::InvoiceShow {
                    number: number.clone(),
                });
                let reply = reply.map_err(|failure| suggest_number(session, failure, &number))?;
                let Reply::Invoice(invoice) = &reply else {
                    return Err(unexpected(&reply));
                };
                session.show(&reply, || invoice_screen(invoice))
            }
            Self::Verify { number } => {
                let number = number_of(session, number, "verify")?;
                let reply = session.ask(&Request::InvoiceVerify {
                    number: number.clone(),
                });
                let reply = reply.map_err(|failure| suggest_number(session, failure, &number))?;
                let hint = format!("compare it with the usage: meshctl invoice show {number}");
                show_verdict(session, &reply, &hint)
            }
        }
    }
}

/// Writes a verdict; one that does not hold is a failure.
pub fn show_verdict(session: &Session, reply: &Reply, hint: &str) -> Result<(), Failure> {
    let Reply::Verdict(verdict) = reply else {
        return Err(unexpected(reply));
    };
    session.show(reply, || verdict_screen(verdict))?;
    if verdict.holds {
        return Ok(());
    }
    let wrong = verdict.lines.iter().filter(|line| !line.holds).count();
    Err(Failure::Verdict(ApiError::new(
        ErrorKind::Failure,
        format!(
            "{} does not hold: {wrong} of {} checks",
            verdict.subject,
            verdict.lines.len()
        ),
        hint,
    )))
}

fn verdict_screen(verdict: &Verdict) -> String {
    let sign = |holds: bool| if holds { "✔" } else { "✗" }.to_owned();
    let lines = verdict.lines.iter();
    let rows = lines.map(|line| vec![sign(line.holds), line.check.clone(), line.sentence.clone()]);
    let holds = if verdict.holds {
        "holds"
    } else {
        "does not hold"
    };
    let subject = screen::plain(&verdict.subject);
    format!(
        "{}{subject} {holds}\n",
        screen::columns(rows.collect(), "  ")
    )
}

fn invoices(session: &Session) -> Result<(Reply, Vec<InvoiceRow>), Failure> {
    let reply = session.ask(&Request::InvoiceLs)?;
    let Reply::Invoices { invoices } = &reply else {
        return Err(unexpected(&reply));
    };
    let rows = invoices.clone();
    Ok((reply, rows))
}

fn list(session: &Session) -> Result<(), Failure> {
    let (reply, invoices) = invoices(session)?;
    session.show(&reply, || {
        let rows = invoices.iter().map(|invoice| {
            vec![
                invoice.number.clone(),
                invoice.provider.clone(),
                invoice.customer.clone(),
                invoice.month.clone(),
                invoice.state.to_string(),
                invoice.line_count.to_string(),
                invoice.total.to_string(),
            ]
        });
        let heads = [
            "NUMBER", "PROVIDER", "CUSTOMER", "MONTH", "STATE", "LINES", "TOTAL",
        ];
        screen::table(&heads, rows.collect())
    })?;
    if invoices.is_empty() {
        session.say("no invoices yet: they are written from usage, see `meshctl usage --now`\n");
    }
    Ok(())
}

fn number_of(session: &Session, number: Option<String>, verb: &str) -> Result<String, Failure> {
    if let Some(number) = number {
        return Ok(number);
    }
    let (_, invoices) = invoices(session)?;
    match invoices.as_slice() {
        [only] => Ok(only.number.clone()),
        [] => Err(Failure::new(
            ErrorKind::NotFound,
            "there is no invoice yet",
            "they are written from usage, see `meshctl usage --now`",
        )),
        [newest, ..] => Err(Failure::new(
            ErrorKind::Usage,
            format!("there are {} invoices", invoices.len()),
            format!(
                "name one, for example: meshctl invoice {verb} {}",
                newest.number
            ),
        )),
    }
}

fn suggest_number(session: &Session, failure: Failure, number: &str) -> Failure {
    let Failure::Error(error) = &failure else {
        return failure;
    };
    if error.kind != ErrorKind::NotFound {
        return failure;
    }
    let Ok((_, invoices)) = invoices(session) else {
        return failure;
    };
    let known = invoices.iter().map(|invoice| invoice.number.as_str());
    match suggest::nearest(number, known) {
        Some(near) => ApiError {
            hint: format!("did you mean \"{near}\"? `meshctl invoice ls` lists all"),
            ..error.clone()
        }
        .into(),
        None => failure,
    }
}

fn invoice_screen(invoice: &Invoice) -> String {
    let fact = |name: &str, value: String| vec![name.to_owned(), value];
    let facts = vec![
        fact(
            "invoice",
            format!(
                "{} ({}, revision {})",
                invoice.number, invoice.state, invoice.revision
            ),
        ),
        fact("provider", invoice.provider.clone()),
        fact("customer", invoice.customer.clone()),
        fact("month", invoice.month.clone()),
        fact("issued", screen::time(invoice.issued_at)),
        fact("digest", invoice.digest.to_string()),
    ];
    let rows = invoice.lines.iter().map(|line| {
        vec![
            line.name.clone(),
            line.recipe.clone(),
            line.node.clone(),
            screen::time(line.from),
            screen::time(line.until),
            format!("{}..{}", line.seq_first, line.seq_last),
            line.price.to_string(),
            line.amount.to_string(),
        ]
    });
    let heads = [
        "NAME", "RECIPE", "NODE", "FROM", "UNTIL", "USAGE", "PRICE", "AMOUNT",
    ];
    format!(
        "{}\n{}\ntotal  {}\n",
        screen::columns(facts, ""),
        screen::table(&heads, rows.collect()),
        invoice.total
    )
}
