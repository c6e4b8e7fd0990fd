//! The first order from end to end, as the README tells it: two organisations of two nodes each, an
//! agreement, a PostgreSQL on the neighbour's machine, its use, its invoice on both sides.
//!
//! Played by the demo for people and by the tests for proof: one text for both. Each step checks
//! what its user would look at.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::home::{Home, sees};
use crate::until::until;

/// How long nodes may take to find each other or to pass a record on.
const SOON: Duration = Duration::from_secs(30);

/// Who plays: two nodes of the customer, two of the provider.
#[derive(Debug)]
pub struct Cast {
    /// The customer's first node: it orders.
    pub bakery: Home,
    /// The customer's second node.
    pub bakery_2: Home,
    /// The provider's first node: it sells.
    pub library: Home,
    /// The provider's second node.
    pub library_2: Home,
}

impl Cast {
    /// The cast's names, in the order in which they stand on a street.
    pub const NAMES: [&str; 4] = ["bakery-1", "bakery-2", "library-1", "library-2"];

    /// Casts homes by name. The customer's own machines have no room for anything, so that what is
    /// ordered goes to the neighbour.
    ///
    /// # Errors
    /// A home cannot be made or configured.
    pub fn of(home: impl Fn(&str) -> anyhow::Result<Home>) -> anyhow::Result<Self> {
        let [bakery, bakery_2, library, library_2] = Self::NAMES.map(home);
        let (bakery, bakery_2) = (bakery?, bakery_2?);
        bakery.configure("capacity.slots", 0)?;
        bakery_2.configure("capacity.slots", 0)?;
        Ok(Self {
            bakery,
            bakery_2,
            library: library?,
            library_2: library_2?,
        })
    }

    /// Returns the provider's node that runs the service.
    ///
    /// # Errors
    /// It is on no node that plays.
    pub fn provider(&self) -> anyhow::Result<&Home> {
        let shown = self
            .bakery
            .quietly()
            .meshctl(&["show", "crm-db", "--json"])?
            .json()?;
        let node = shown
            .get("node")
            .and_then(|node| node.as_str())
            .context("crm-db is nowhere")?;
        let home = self.all().into_iter().find(|home| home.name == node);
        home.context("crm-db is on a node that nobody plays")
    }

    /// Returns all four homes.
    pub fn all(&self) -> [&Home; 4] {
        [&self.bakery, &self.bakery_2, &self.library, &self.library_2]
    }
}

/// What the play took, for its last line.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// From nothing to two organisations of two running nodes with an agreement.
    pub mesh: Duration,
    /// From the order to the first answer of the database.
    pub order: Duration,
    /// All of it.
    pub whole: Duration,
}

/// Plays the whole transcript.
///
/// # Errors
/// A step failed; the error shows its screen.
pub fn play(cast: &Cast) -> anyhow::Result<Timings> {
    let start = Instant::now();
    raise_mesh(cast)?;
    let mesh = start.elapsed();
    let order = play_raised(cast, || Ok(()))?;
    Ok(Timings {
        mesh,
        order,
        whole: start.elapsed(),
    })
}

/// Plays what comes after the mesh is raised; `look` is done while the service stands. Returns how
/// long the first answer took.
///
/// # Errors
/// A step failed.
pub fn play_raised(
    cast: &Cast,
    look: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let order = use_service(cast)?;
    look()?;
    check_books(cast)?;
    part(cast)?;
    Ok(order)
}

/// Makes two organisations of two nodes each that have an agreement.
///
/// # Errors
/// A step failed.
pub fn raise_mesh(cast: &Cast) -> anyhow::Result<()> {
    raise_org("bakery", &cast.bakery, &cast.bakery_2)?;
    raise_org("library", &cast.library, &cast.library_2)?;
    agree(&cast.library, &cast.bakery, &TERMS)?;
    sees(
        &cast.bakery,
        &[&cast.library.name, &cast.library_2.name],
        SOON,
    )
}

/// Makes an organisation of two running nodes.
fn raise_org(org: &str, first: &Home, second: &Home) -> anyhow::Result<()> {
    found_org(org, first)?;
    join(first, second)?;
    sees(first, &[&second.name], SOON)
}

/// Makes an organisation of one running node.
///
/// # Errors
/// A step failed.
pub fn found_org(org: &str, first: &Home) -> anyhow::Result<()> {
    first
        .meshnode(&["init", "--org", org, "--name", &first.name])?
        .ok()?;
    first.start()
}

/// Makes a machine a member of the organisation that `first` leads, and starts its node. Returns
/// the invite, which is used now.
///
/// # Errors
/// A step failed.
pub fn join(first: &Home, home: &Home) -> anyhow::Result<String> {
    let invite = first
        .meshctl(&["member", "invite", "--role", "node"])?
        .value()?;
    home.meshnode(&["join", &invite, "--name", &home.name, "--yes"])?
        .ok()?;
    home.start()?;
    Ok(invite)
}

/// What the library sells.
pub const TERMS: [&str; 4] = ["--sell", "postgres=0.12EUR/month", "--credit", "10EUR"];

/// Makes two organisations sign an agreement with these terms.
///
/// # Errors
/// A step failed.
pub fn agree(seller: &Home, buyer: &Home, terms: &[&str]) -> anyhow::Result<()> {
    let agreement = seller
        .meshctl(&[&["org", "invite"], terms].concat())?
        .value()?;
    buyer
        .meshctl(&["org", "accept", &agreement])?
        .ok()
        .map(drop)
}

/// Orders a database and uses it. Returns how long the first answer took.
fn use_service(cast: &Cast) -> anyhow::Result<Duration> {
    let Cast { bakery, .. } = cast;
    let start = Instant::now();
    let ordered = bakery
        .meshctl(&["order", "postgres", "--name", "crm-db"])?
        .ok()?;
    let url = bakery.url("crm-db")?;
    let one = bakery.psql(&url, "select 1")?.value()?;
    let first_answer = start.elapsed();
    ensure!(one == "1", "the database answered {one}");
    ensure!(
        ordered.stdout.contains("postgresql://"),
        "no connection string:\n{ordered}"
    );

    bakery.psql(&url, "create table t(i int)")?.ok()?;
    bakery.psql(&url, "insert into t values (1), (2)")?.ok()?;
    let listed = bakery.meshctl(&["ps"])?.value()?;
    ensure!(
        listed.contains("crm-db"),
        "ps does not list crm-db:\n{listed}"
    );
    bakery.meshctl(&["show", "crm-db"])?.ok()?;

    bakery.meshctl(&["stop", "crm-db"])?.ok()?;
    await_state(bakery, "stopped")?;
    let stopped = bakery.psql(&url, "select 1")?;
    ensure!(stopped.code != 0, "a stopped service answers:\n{stopped}");
    bakery.meshctl(&["start", "crm-db"])?.ok()?;
    await_state(bakery, "ready")?;
    let count = bakery
        .psql(&bakery.url("crm-db")?, "select count(*) from t")?
        .value()?;
    ensure!(
        count == "2",
        "after a stop and a start the table has {count} rows, not 2"
    );

    let log = bakery.meshctl(&["logs", "crm-db"])?.value()?;
    ensure!(
        log.contains("ready to accept connections"),
        "not the log of PostgreSQL:\n{log}"
    );
    follow_log(bakery)?;
    Ok(first_answer)
}

/// Follows the log until a line comes that was caused only after following began.
fn follow_log(home: &Home) -> anyhow::Result<()> {
    let mut follower = home.meshctl_begin(&["logs", "-f", "crm-db"])?;
    let url = home.url("crm-db")?;
    home.psql(&url, "select 1/0")?;
    until("the log shows a new line", SOON, || {
        Ok(follower
            .so_far()?
            .contains("division by zero")
            .then_some(()))
    })?;
    follower.answer(Duration::ZERO).map(drop)
}

/// Waits until the ordered service is in a state.
fn await_state(home: &Home, state: &str) -> anyhow::Result<()> {
    let home = home.quietly();
    until(&format!("crm-db is {state}"), SOON, || {
        let shown = home.meshctl(&["show", "crm-db", "--json"])?.json()?;
        let is_now = shown.get("state").and_then(serde_json::Value::as_str) == Some(state);
        Ok(is_now.then_some(()))
    })
}

/// Compares the invoice on both sides.
fn check_books(cast: &Cast) -> anyhow::Result<()> {
    let (here, there) = (cast.bakery.quietly(), cast.library.quietly());
    let used = cast.provider()?.meshctl(&["usage", "--now"])?.ok()?;
    ensure!(
        used.stdout.contains("crm-db"),
        "no usage of crm-db:\n{used}"
    );
    let number = until("an invoice at the provider", SOON, || {
        invoice_number(&there)
    })?;
    cast.library.meshctl(&["invoice", "ls"])?.ok()?;
    let show = ["invoice", "show", &number, "--json"];
    until("both sides see the same invoice", SOON, || {
        let theirs = there.meshctl(&show)?.json()?;
        let ours = here.meshctl(&show)?;
        Ok((ours.code == 0 && ours.json()? == theirs).then_some(()))
    })?;
    cast.bakery.meshctl(&["invoice", "show", &number])?.ok()?;
    let verified = cast.bakery.meshctl(&["invoice", "verify", &number])?;
    verified.ok().map(drop)
}

/// Returns the number of the first invoice, if there is one.
fn invoice_number(home: &Home) -> anyhow::Result<Option<String>> {
    let list = home.meshctl(&["invoice", "ls", "--json"])?.json()?;
    let rows = list.get("invoices").and_then(|rows| rows.as_array());
    let first = rows.context("no invoices in the answer")?.first();
    let number = first.and_then(|row| row.get("number")?.as_str());
    Ok(number.map(str::to_owned))
}

/// Looks around, destroys the service and stops the nodes.
fn part(cast: &Cast) -> anyhow::Result<()> {
    cast.library.meshnode(&["status"])?.ok()?;
    let there = cast.provider()?.quietly();
    cast.bakery.meshctl(&["destroy", "crm-db", "--yes"])?.ok()?;
    until("crm-db is gone", SOON, || {
        let listed = there.status()?;
        let held = listed
            .get("held")
            .and_then(|held| held.as_array())
            .context("no held")?;
        Ok(held.is_empty().then_some(()))
    })?;
    for home in cast.all() {
        home.stop()?;
    }
    Ok(())
}
