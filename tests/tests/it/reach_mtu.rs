//! Narrow lines that swallow what is too long without a word: ten megabytes pass in every cell.
//!
//! ```text
//!   a ── line of this MTU ──┐            ┌── line of this MTU ── b       direct
//!                           ├─ Internet ─┤
//!   a ── line ──── (a and b cut off from each other) ──── line ── b      through p
//!                               │
//!                               p
//! ```
//! The lines become narrower under running nodes, which must notice by themselves. What carries a
//! link in each cell follows from the lengths of headers: UDP as long as two layers fit, UDP with a
//! stream for long parcels as long as one does, a stream below.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mesh_tests::home::links_between;
use mesh_tests::inside::shell;
use mesh_tests::lab::Lab;
use mesh_tests::line::Line;
use mesh_tests::link::{Habits, TooBig};
use mesh_tests::nat::NatKind;
use mesh_tests::runner::Place;
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;

use crate::reach_blocked::{carrier, load, order};

const SEED: u64 = 11;

/// How long a mesh may take to find its ways.
const SOON: Duration = Duration::from_secs(60);

/// From wide to narrow: what an Ethernet carries, then both sides of each threshold, then what IPv6
/// guarantees.
const MTUS: [usize; 6] = [1500, 1440, 1420, 1380, 1339, 1280];

/// How long ten megabytes may take in a cell, with what it takes to notice that it is narrower.
const CELL_MAX: Duration = Duration::from_secs(25);

const HOMES: [&str; 3] = ["a", "p", "b"];

/// IPv4 below.
pub fn ten_megabytes_pass_over_ipv4(place: &Place) -> anyhow::Result<()> {
    cells(place, 4)
}

/// IPv6 below.
pub fn ten_megabytes_pass_over_ipv6(place: &Place) -> anyhow::Result<()> {
    cells(place, 6)
}

fn cells(place: &Place, family: u8) -> anyhow::Result<()> {
    let lab = Lab::behind(
        &HOMES.map(|name| (name, NatKind::Open)),
        &place.folder,
        &place.programs,
    )?;
    let wide = narrow(1500);
    let mut lines = Vec::new();
    for name in ["a", "b"] {
        lines.push(Line::lay(lab.router(name)?, wide, wide, SEED)?);
    }
    if family == 6 {
        speak_ipv6(&lab)?;
    }
    let [a, p, b] = [lab.home("a")?, lab.home("p")?, lab.home("b")?];
    for home in [a, p] {
        home.configure("capacity.slots", 0)?;
    }
    found_org("mesh", p)?;
    join(p, a)?;
    join(p, b)?;
    until("b answers a directly", SOON, || {
        Ok(links_between(a, "b")?.filter(|links| *links == 1))
    })?;
    order(a)?;
    let url = a.url("crm-db")?;
    let mut worst = (Duration::ZERO, 0, "");
    for (way, other) in [("direct", "b"), ("through p", "p")] {
        if way != "direct" {
            lines.iter().for_each(|line| line.set(wide, wide));
            cut_off(&lab)?;
            until("b answers a through p", SOON, || {
                Ok(links_between(a, "b")?.filter(|links| *links == 2))
            })?;
        }
        for mtu in MTUS {
            for line in &lines {
                line.set(narrow(mtu), narrow(mtu));
            }
            let start = Instant::now();
            load(a, &url).with_context(|| format!("IPv{family}, {mtu} bytes, {way}"))?;
            let took = start.elapsed();
            ensure!(
                took <= CELL_MAX,
                "IPv{family}, {mtu} bytes, {way}: {took:?}"
            );
            worst = worst.max((took, mtu, way));
            let wanted = expected(mtu, family);
            until(&format!("{mtu} bytes {way}: {wanted}"), SOON, || {
                Ok((carrier(a, other)? == wanted).then_some(()))
            })?;
        }
    }
    let (took, mtu, way) = worst;
    println!(
        "measured: over IPv{family} in 12 cells, the slowest {mtu} bytes {way}: {:.1} s",
        took.as_secs_f64()
    );
    Ok(())
}

/// A router that has a narrow line and tells nobody, but may cut: UDP is kept.
pub fn router_that_cuts_datagrams_keeps_udp(place: &Place) -> anyhow::Result<()> {
    const MTU: usize = 1300;
    let homes = [("a", NatKind::PortRestricted), ("p", NatKind::Open)];
    let lab = Lab::behind(&homes, &place.folder, &place.programs)?;
    let router = lab.router("a")?;
    let (outermost, device) = router.outermost();
    let street = router.street();
    for (pid, device) in [(Some(outermost), device), (None, street.as_str())] {
        shell(
            pid,
            &format!(
                "ip link set {device} mtu {MTU}
                nft 'add table ip mute
                add chain ip mute say {{ type filter hook output priority 0; }}
                add rule ip mute say icmp type destination-unreachable drop'"
            ),
        )?;
    }
    let [a, p] = [lab.home("a")?, lab.home("p")?];
    found_org("mesh", p)?;
    join(p, a)?;
    until("p answers a directly", SOON, || {
        Ok(links_between(a, "p")?.filter(|links| *links == 1))
    })?;
    // As long as a trial takes, long packets go to and fro; one for each that is sent comes back.
    let to = p.overlay_address()?;
    let words = ["-n", "-q", "-c", "25", "-i", "0.2", "-s", "1200", &to];
    let said = a.quietly().run("ping", &words)?.ok()?.stdout;
    ensure!(said.contains(" 0% packet loss"), "{said}");
    let carrier = carrier(a, "p")?;
    ensure!(
        carrier == "udp",
        "cut datagrams pass, and it goes by {carrier}"
    );
    Ok(())
}

/// A line that carries packets up to a length and swallows others.
fn narrow(mtu: usize) -> Habits {
    Habits {
        mtu,
        too_big: TooBig::Silent,
        ..Habits::CLEAR
    }
}

/// Returns what must carry a link that is in use.
fn expected(mtu: usize, family: u8) -> &'static str {
    // A packet of 1280 bytes, a layer of 32, headers of IP and UDP; a parcel's headers and a second
    // layer.
    let one = 1280 + 32 + if family == 4 { 28 } else { 48 };
    let two = one + 48 + 32;
    if two <= mtu {
        "udp"
    } else if one <= mtu {
        "udp_and_stream"
    } else {
        "stream_udp_narrow"
    }
}

/// Gives all homes IPv6 and takes IPv4 from them.
fn speak_ipv6(lab: &Lab) -> anyhow::Result<()> {
    let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
    shell(None, forward)?;
    for (number, name) in (1..).zip(HOMES) {
        let router = lab.router(name)?;
        let (pid, device) = router.outermost();
        let street = router.street();
        shell(
            None,
            &format!("ip address add 2001:db8:{number}::1/64 dev {street} nodad"),
        )?;
        shell(
            Some(pid),
            &format!(
                "ip address flush dev {device}
                ip address add 2001:db8:{number}::2/64 dev {device} nodad
                ip route add default via 2001:db8:{number}::1 dev {device}"
            ),
        )?;
    }
    Ok(())
}

/// Lets nothing pass between a and b.
fn cut_off(lab: &Lab) -> anyhow::Result<()> {
    let (a, b) = (lab.router("a")?.street(), lab.router("b")?.street());
    shell(
        None,
        &format!(
            "nft 'add table inet apart
            add chain inet apart pass {{ type filter hook forward priority 0; }}
            add rule inet apart pass iifname {a} oifname {b} drop
            add rule inet apart pass iifname {b} oifname {a} drop'"
        ),
    )
}
