//! A machine loses power under a running service: everything on it dies at once, its disk stays.
//! Started again by the unit's own command line, the node is back by itself with all it held.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mesh_tests::home::{Home, sees};
use mesh_tests::lab::Lab;
use mesh_tests::runner::Place;
use mesh_tests::said::Asked;
use mesh_tests::transcript::Cast;
use mesh_tests::until::until;
use serde_json::Value;

use crate::street::Street;

/// How long a node may take to be back with its service.
const SOON: Duration = Duration::from_secs(60);

const UNIT: &str = include_str!("../../../packaging/meshnode.service");

/// So many letters of this length are written to the service before the power fails, and as many
/// after: far more than all the talk around them.
const LETTER_COUNT: usize = 10;
const LETTER_LEN: usize = 100_000;
const LETTERS_LEN: u64 = 1_000_000;

/// Pulls the plug of the provider, again while it starts, and of the customer.
pub fn node_and_service_are_back_after_a_reboot(place: &Place) -> anyhow::Result<()> {
    let lab = Lab::of_machines(&Cast::NAMES, &place.folder, &place.programs)?;
    let configure = |home: &Home| home.configure("metering.period", "1s");
    let Street { mut lab, cast } = Street::raise_on(lab, configure)?;
    let (customer, provider) = (&cast.bakery, &cast.library);
    let start = Instant::now();
    let url = order(customer, provider)?;
    let address = field(customer, "address")?;
    customer
        .psql(&url, "create table t as select 7 as i")?
        .ok()?;
    let began = customer.psql(&url, BEGAN)?.value()?;
    write_letters(customer, &url)?;
    let before = metered(customer, 0)?;

    lab.pull(&provider.name)?;
    ensure!(
        customer.psql(&url, "select 1")?.code != 0,
        "a service on a machine without power answers"
    );
    // The second cut comes while the node is coming up.
    lab.boot(&provider.name)?;
    let half_up = begin(provider)?;
    until("the node has opened its journal", SOON, || {
        Ok(provider.daemon().is_ok().then_some(()))
    })?;
    lab.pull(&provider.name)?;
    drop(half_up);

    lab.boot(&provider.name)?;
    let node = begin(provider)?;
    let (again, _node) = answer_of(customer, &url, "select i from t", node)?;
    ensure!(again == "7", "the table has {again}, not 7");
    let began_again = customer.psql(&url, BEGAN)?.value()?;
    ensure!(began_again != began, "the database cannot have gone on");
    ensure!(field(customer, "address")? == address, "the address moved");
    is_there_once(&cast)?;

    // Whoever ordered is back too, and what runs for them did not notice.
    lab.pull(&customer.name)?;
    lab.boot(&customer.name)?;
    let orderer = begin(customer)?;
    let (still, _orderer) = answer_of(customer, &url, BEGAN, orderer)?;
    ensure!(still == began_again, "the service was started once more");
    is_there_once(&cast)?;

    sees(customer, &[&provider.name], SOON)?;
    write_letters(customer, &url)?;
    let after = metered(customer, before.received_bytes)?;
    agree(&before, &after, start.elapsed())?;
    customer.meshctl(&["ledger", "verify"])?.ok()?;
    let listed = customer.meshctl(&["invoice", "ls", "--json"])?.json()?;
    let number = listed.pointer("/invoices/0/number").and_then(Value::as_str);
    let number = number.context("the customer sees no invoice")?;
    customer.meshctl(&["invoice", "verify", number])?.ok()?;
    customer.meshctl(&["destroy", "crm-db", "--yes"])?.ok()?;
    until("the instance is gone", SOON, || {
        Ok((instances(provider)? == 0).then_some(()))
    })
}

/// Tells when the database was started.
const BEGAN: &str = "select pg_postmaster_start_time()";

fn order(customer: &Home, provider: &Home) -> anyhow::Result<String> {
    let order = ["order", "postgres", "--name", "crm-db", "--node"];
    customer
        .meshctl(&[&order[..], &[&provider.name]].concat())?
        .ok()?;
    customer.url("crm-db")
}

fn write_letters(customer: &Home, url: &str) -> anyhow::Result<()> {
    let letter = format!("select length('{}')", "x".repeat(LETTER_LEN));
    for _ in 0..LETTER_COUNT {
        customer.psql(url, &letter)?.ok()?;
    }
    Ok(())
}

/// Starts a node as systemd does, by the line in its unit.
fn begin(home: &Home) -> anyhow::Result<Asked> {
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/bin/meshnode "));
    let line = line.context("the unit starts no meshnode")?;
    let words: Vec<&str> = line.split(' ').collect();
    home.meshnode_begin(&words)
}

/// Waits until the service answers; shows what the node said if it does not.
fn answer_of(
    home: &Home,
    url: &str,
    question: &str,
    node: Asked,
) -> anyhow::Result<(String, Asked)> {
    let answer = until("the service answers after a reboot", SOON, || {
        let said = home.psql(url, question)?;
        Ok((said.code == 0).then(|| said.stdout.trim_end().to_owned()))
    });
    match answer {
        Ok(answer) => Ok((answer, node)),
        Err(error) => Err(error.context(node.answer(Duration::ZERO)?)),
    }
}

/// Checks that the service runs once, on one node, for one order.
fn is_there_once(cast: &Cast) -> anyhow::Result<()> {
    for (home, count) in [(&cast.library, 1), (&cast.library_2, 0)] {
        ensure!(
            instances(home)? == count,
            "{} runs {} instances, not {count}",
            home.name,
            instances(home)?
        );
        let status = home.status()?;
        let held = status.get("held").and_then(Value::as_array);
        let held = held.context("no held")?.len();
        ensure!(held == count, "{} holds {held}, not {count}", home.name);
    }
    let listed = cast.bakery.meshctl(&["ps", "--json"])?.json()?;
    let services = listed.get("ordered").and_then(Value::as_array);
    let count = services
        .with_context(|| format!("no services: {listed}"))?
        .len();
    ensure!(count == 1, "{count} services were ordered, not 1");
    Ok(())
}

/// Counts the instances that run on a machine, by their first processes.
fn instances(home: &Home) -> anyhow::Result<usize> {
    let listed = home.run("ps", &["-e", "-o", "comm="])?.value()?;
    let is_first = |name: &&str| name.trim() == "mesh-inside";
    Ok(listed.lines().filter(is_first).count())
}

fn field(home: &Home, name: &str) -> anyhow::Result<String> {
    home.meshctl(&["show", "crm-db", "--field", name])?.value()
}

/// What the last statement says.
#[derive(Debug)]
struct Usage {
    item: String,
    seq: u64,
    from: u64,
    until: u64,
    cpu_ms: u64,
    received_bytes: u64,
}

/// Asks for a fresh statement, and reads the only one there is.
fn usage(customer: &Home) -> anyhow::Result<Usage> {
    let listed = customer.meshctl(&["usage", "--now", "--json"])?.json()?;
    let rows = listed.get("usage").and_then(Value::as_array);
    let rows = rows.with_context(|| format!("no usage: {listed}"))?;
    ensure!(
        rows.len() == 1,
        "not one statement of one service: {listed}"
    );
    let row = rows.first().context("no row")?;
    let number = |name: &str| {
        let value = row.get(name).and_then(Value::as_u64);
        value.with_context(|| format!("no {name}: {row}"))
    };
    let item = row.get("item").and_then(Value::as_str);
    Ok(Usage {
        item: item.context("no item")?.to_owned(),
        seq: number("seq")?,
        from: number("from")?,
        until: number("until")?,
        cpu_ms: number("cpu_ms")?,
        received_bytes: number("received_bytes")?,
    })
}

/// Waits for a statement that has the letters too which came after so many bytes.
fn metered(customer: &Home, known: u64) -> anyhow::Result<Usage> {
    until("the letters are metered", SOON, || {
        let stated = usage(customer)?;
        Ok((known + LETTERS_LEN <= stated.received_bytes).then_some(stated))
    })
}

/// Checks that usage went on where it was: nothing lost that was stated, nothing counted twice.
fn agree(before: &Usage, after: &Usage, passed: Duration) -> anyhow::Result<()> {
    let both = format!("{before:?}, {after:?}");
    ensure!(before.item == after.item, "another item: {both}");
    ensure!(before.from == after.from, "it begins anew: {both}");
    ensure!(before.seq < after.seq, "statements went back: {both}");
    ensure!(before.until < after.until, "time went back: {both}");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu_ms_max = passed.as_millis() * cores as u128;
    ensure!(
        before.cpu_ms <= after.cpu_ms && u128::from(after.cpu_ms) <= cpu_ms_max,
        "processor time is lost, or there is more than there was: {both}"
    );
    let written = after.received_bytes - before.received_bytes;
    ensure!(
        written < LETTERS_LEN * 3 / 2 && before.received_bytes < LETTERS_LEN * 3 / 2,
        "bytes are counted twice: {both}"
    );
    println!("{both}");
    Ok(())
}
