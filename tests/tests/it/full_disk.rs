//! The customer's disk is full, twenty times: it takes nothing new on and says so, what runs goes
//! on, and it takes orders again as soon as there is room. Nothing that was acknowledged is lost.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mesh_tests::figures::Figure;
use mesh_tests::home::{Home, sees};
use mesh_tests::runner::Place;
use mesh_tests::said::{array, at};
use mesh_tests::until::until;
use nix::mount::{MsFlags, mount};

use crate::street::Street;

/// How often the disk is filled.
const CYCLES: u32 = 20;

/// The customer's whole disk.
const SIZE: &str = "size=64m";

/// How long the node may take to see that the disk is full, or is no longer.
const SOON: Duration = Duration::from_secs(20);

/// Fills and frees the disk under a node that orders.
pub fn node_on_a_full_disk_takes_nothing_new_on(place: &Place) -> anyhow::Result<()> {
    let disk = RefCell::new(None);
    let street = Street::raise(place, |home| {
        if home.name != "bakery-1" {
            return Ok(());
        }
        disk.replace(Some(home.folder.clone()));
        on_small_disk(home)
    })?;
    let (customer, provider) = (&street.cast.bakery, &street.cast.library);
    ensure!(
        disk.take() == Some(customer.folder.clone()),
        "the customer stands on no small disk"
    );
    let order = ["order", "postgres", "--node", &provider.name, "--name"];
    customer
        .meshctl(&[&order[..], &["crm-db"]].concat())?
        .ok()?;
    let url = customer.url("crm-db")?;
    customer.psql(&url, "create table t(i int)")?.ok()?;

    let mut position = 0;
    for cycle in 1..=CYCLES {
        let ballast = fill(&customer.folder)?;
        verdict(customer, "warn")?;
        let name = format!("late-{cycle}");
        customer
            .meshctl(&[&order[..], &[name.as_str()]].concat())?
            .refused(1, "disk is full")?;
        customer
            .meshctl(&["member", "invite", "--role", "node"])?
            .refused(1, "disk is full")?;
        customer
            .psql(&url, &format!("insert into t values ({cycle})"))?
            .ok()?;
        if cycle == CYCLES / 2 {
            // Also a node that is started on a full disk.
            customer.kill_daemon()?;
            customer.start()?;
            sees(customer, &[&provider.name], SOON)?;
            verdict(customer, "warn")?;
        }
        fs::remove_file(ballast).context("cannot free the disk")?;
        verdict(customer, "ok")?;
        customer
            .meshctl(&["member", "invite", "--role", "node"])?
            .ok()?;
        position = customer.journal_position()?;
    }
    // What ends something needs no room.
    let ballast = fill(&customer.folder)?;
    verdict(customer, "warn")?;
    customer.meshctl(&["destroy", "crm-db", "--yes"])?.ok()?;
    until("the database is gone", SOON, || {
        Ok((customer.psql(&url, "select 1")?.code != 0).then_some(()))
    })?;
    customer.kill_daemon()?;
    fs::remove_file(ballast).context("cannot free the disk")?;
    customer.start()?;
    let after = customer.journal_position()?;
    ensure!(
        position <= after,
        "{position} entries were acknowledged, {after} are there"
    );
    Figure {
        bar: "ledger.io-errors@full".to_owned(),
        text: format!(
            "{CYCLES} times full: orders refused with a hint, the database answered, room was seen \
             again; 0 of {position} entries lost"
        ),
        holds: true,
    }
    .tell();
    Ok(())
}

/// Puts a home on a disk of its own.
fn on_small_disk(home: &Home) -> anyhow::Result<()> {
    let none: Option<&Path> = None;
    mount(
        none,
        &home.folder,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(SIZE),
    )
    .context("cannot mount a small disk")?;
    // What the home was told before lies under it.
    home.configure("capacity.slots", 0)
}

/// Fills the disk to its last byte. Returns the file that does.
fn fill(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let path = folder.join("ballast");
    File::create(&path).context("cannot begin to fill the disk")?;
    // A megabyte at a time, then a byte: the last room counts.
    for step in [1 << 20, 4096, 1] {
        let bytes = vec![0xee; step];
        let mut file = OpenOptions::new().append(true).open(&path)?;
        loop {
            match file.write_all(&bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => bail!("cannot fill the disk: {error}"),
            }
        }
    }
    Ok(path)
}

/// Waits until the node says this of its journal.
fn verdict(home: &Home, expect: &str) -> anyhow::Result<()> {
    until(&format!("the journal's health is {expect}"), SOON, || {
        let status = home.quietly().status()?;
        let rows = array(&status, "health").iter();
        let mut of_journal = rows.filter(|row| at(row, "check") == "journal");
        Ok(of_journal
            .any(|row| at(row, "verdict") == expect)
            .then_some(()))
    })
}
