//! A customer and a provider of two nodes, with a book of what they said.
//!
//! Several lanes stand beside each other on one street: while one waits, others work.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use mesh_tests::home::{Home, sees};
use mesh_tests::lab::Lab;
use mesh_tests::transcript::{agree, found_org, join};
use mesh_tests::until::until;

use super::book::{Book, number, rows, text};

/// How long nodes may take to find each other, and records to spread.
pub const SOON: Duration = Duration::from_secs(60);

/// What the provider sells: to a customer with enough credit for all lives.
const TERMS: [&str; 4] = ["--sell", "postgres=0.12EUR/month", "--credit", "100EUR"];

/// Reasons for which honest nodes never refuse each other: each would be a broken promise.
const NEVER: [&str; 9] = [
    "wrong-author",
    "bad-change",
    "two-histories",
    "unreadable",
    "not-entitled",
    "own-record",
    "clone",
    "second-key",
    "limit",
];

/// One lane.
#[derive(Debug)]
pub struct Lane {
    /// Which one.
    pub number: usize,
    /// Who orders.
    pub customer: Home,
    /// Who sells, the leader first.
    pub providers: [Home; 2],
    /// What they said.
    pub book: Book,
}

/// Names of the homes on a lane.
fn names(lane: usize) -> [String; 3] {
    [
        format!("bakery-{lane}"),
        format!("library-{lane}-1"),
        format!("library-{lane}-2"),
    ]
}

impl Lane {
    /// Returns the names of all homes of so many lanes.
    pub fn names(lanes: usize) -> Vec<String> {
        (0..lanes).flat_map(names).collect()
    }

    /// Raises the mesh of one lane.
    ///
    /// # Errors
    /// A step failed.
    pub fn raise(number: usize, lab: &Lab) -> anyhow::Result<Self> {
        let [customer, first, second] = names(number);
        let home = |name: &str| lab.home(name).cloned();
        let (customer, first, second) = (home(&customer)?, home(&first)?, home(&second)?);
        customer.configure("capacity.slots", 0)?;
        for home in [&customer, &first, &second] {
            home.configure("metering.period", "1s")?;
        }
        found_org(&format!("bakery-{number}"), &customer)?;
        found_org(&format!("library-{number}"), &first)?;
        join(&first, &second)?;
        agree(&first, &customer, &TERMS)?;
        let lane = Self {
            number,
            customer,
            providers: [first, second],
            book: Book::default(),
        };
        lane.settle()?;
        Ok(lane)
    }

    /// Returns all homes, the customer's first.
    pub fn homes(&self) -> [&Home; 3] {
        let [first, second] = &self.providers;
        [&self.customer, first, second]
    }

    /// Waits until the customer and the provider's nodes see each other.
    ///
    /// # Errors
    /// They do not.
    pub fn settle(&self) -> anyhow::Result<()> {
        let [first, second] = &self.providers;
        sees(&self.customer, &[&first.name, &second.name], SOON)?;
        sees(first, &[&second.name], SOON)
    }

    /// Compares what all nodes say with what they said before.
    ///
    /// # Errors
    /// Something is lost.
    pub fn note(&mut self) -> anyhow::Result<()> {
        let [first, second] = &self.providers;
        for home in [&self.customer, first, second] {
            self.book.note(home)?;
        }
        Ok(())
    }

    /// Checks everything that must hold when all orders are gone.
    ///
    /// # Errors
    /// It does not.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.settle()?;
        self.note()?;
        for home in self.homes() {
            let home = home.quietly();
            home.meshctl(&["ledger", "verify"])?.ok()?;
            let status = home.status()?;
            let refusals = status.get("refusals").context("no refusals")?;
            for word in NEVER {
                ensure!(
                    refusals.get(word).is_none(),
                    "{} refused something for {word}: {refusals}",
                    home.name
                );
            }
            ensure!(
                rows(&status, "held")?.next().is_none(),
                "{} holds something still: {status}",
                home.name
            );
        }
        self.check_invoice()
    }

    /// Compares the invoice on both sides, and with every statement.
    fn check_invoice(&self) -> anyhow::Result<()> {
        let ([seller, _], buyer) = (&self.providers, &self.customer);
        let invoices = seller.meshctl(&["invoice", "ls", "--json"])?.json()?;
        let invoice = rows(&invoices, "invoices")?.next();
        let invoice = text(invoice.context("no invoice")?, "number")?;
        let show = ["invoice", "show", &invoice, "--json"];
        // The last draft comes a moment after the last statement.
        until("both sides have one invoice, whole", SOON, || {
            let (theirs, ours) = (seller.meshctl(&show)?, buyer.meshctl(&show)?);
            let theirs = theirs.json()?;
            if ours.code != 0 || ours.json()? != theirs {
                return Ok(None);
            }
            self.is_whole(&theirs)
        })?;
        for home in [seller, buyer] {
            home.meshctl(&["invoice", "verify", &invoice])?.ok()?;
        }
        Ok(())
    }

    /// Tells whether an invoice bills every statement of every order once.
    fn is_whole(&self, invoice: &serde_json::Value) -> anyhow::Result<Option<()>> {
        let [first, second] = &self.providers;
        for (name, item) in self.book.orders() {
            let mut next = 1;
            for line in rows(invoice, "lines")? {
                if text(line, "item")? == item {
                    let (from, to) = (number(line, "seq_first")?, number(line, "seq_last")?);
                    ensure!(
                        from == next,
                        "{name}: statements {next} to {from} are not billed"
                    );
                    next = to + 1;
                }
            }
            let told = [&self.customer, first, second]
                .iter()
                .filter_map(|home| self.book.last_statement(&home.name, item))
                .max();
            let last = told.with_context(|| format!("{name} has no usage"))?;
            if next <= last {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }
}
