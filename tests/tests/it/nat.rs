//! The routers of the lab are what they say, seen from both sides of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mesh_tests::lab::Lab;
use mesh_tests::nat::{Filtering, Mapping, NatKind, Traits};
use mesh_tests::nat_look::{Look, Udp, Witnesses, client, look, meet};
use mesh_tests::nat_router::AT_HOME;
use mesh_tests::runner::Place;
use mesh_tests::until::{rest, until};

/// What must be seen of each kind. No two are alike, so each kind fails where another is expected.
fn expected(kind: NatKind) -> Look {
    let port_restricted = Udp {
        mapping: Mapping::EndpointIndependent,
        filtering: Filtering::AddressAndPortDependent,
        keeps_port: true,
        hairpin: false,
        boxes: 1,
    };
    let udp = match kind {
        NatKind::Open => Some(Udp {
            filtering: Filtering::EndpointIndependent,
            hairpin: true,
            boxes: 0,
            ..port_restricted
        }),
        NatKind::FullCone => Some(Udp {
            filtering: Filtering::EndpointIndependent,
            hairpin: true,
            ..port_restricted
        }),
        NatKind::Restricted => Some(Udp {
            filtering: Filtering::AddressDependent,
            ..port_restricted
        }),
        NatKind::PortRestricted => Some(port_restricted),
        NatKind::Symmetric => Some(Udp {
            mapping: Mapping::AddressAndPortDependent,
            keeps_port: false,
            ..port_restricted
        }),
        NatKind::Double => Some(Udp {
            boxes: 2,
            ..port_restricted
        }),
        NatKind::Cgnat => Some(Udp {
            keeps_port: false,
            hairpin: true,
            boxes: 2,
            ..port_restricted
        }),
        NatKind::UdpBlocked | NatKind::TcpOnePort => None,
    };
    Look {
        udp,
        tcp: kind != NatKind::TcpOnePort,
        tcp_443: true,
        tcp_in: kind == NatKind::Open,
    }
}

/// Looks at each kind.
pub fn routers_are_what_they_say(place: &Place) -> anyhow::Result<()> {
    let looks: BTreeSet<Look> = NatKind::ALL.map(expected).into_iter().collect();
    ensure!(looks.len() == NatKind::ALL.len(), "two kinds look the same");
    let lab = lab(place, 1)?;
    at_once(&NatKind::ALL, |kind| {
        let name = name(kind, 0);
        let seen = look(lab.holder(&name)?, lab.router(&name)?);
        let seen = seen.with_context(|| format!("cannot look at {kind}"))?;
        let expected = expected(kind);
        ensure!(seen == expected, "{kind} is {seen:?}, not {expected:?}");
        Ok(())
    })
}

/// Lets sockets behind each two kinds look for each other.
pub fn homes_meet_where_theory_says(place: &Place) -> anyhow::Result<()> {
    let lab = lab(place, 2)?;
    let met = AtomicUsize::new(0);
    at_once(&NatKind::ALL, |a| {
        let witnesses = Witnesses::new()?;
        for b in NatKind::ALL.into_iter().filter(|b| a <= *b) {
            let one = client(lab.holder(&name(a, 0))?)?;
            let other = client(lab.holder(&name(b, 1))?)?;
            let seen = meet(&witnesses, &one, &other)?;
            ensure!(seen == a.meets(b), "{a} and {b}: met is {seen}");
            met.fetch_add(usize::from(seen), Ordering::Relaxed);
        }
        Ok(())
    })?;
    println!(
        "measured: {} of 45 pairs of kinds meet directly",
        met.into_inner()
    );
    Ok(())
}

/// Does work for all kinds at once: most of it is waiting.
fn at_once(
    kinds: &[NatKind],
    work: impl Fn(NatKind) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let work = &work;
    thread::scope(|scope| {
        let all: Vec<_> = kinds
            .iter()
            .map(|kind| scope.spawn(move || work(*kind)))
            .collect();
        let mut ends = all.into_iter().map(|one| one.join());
        ends.try_for_each(|end| end.unwrap_or_else(|_| bail!("the work panicked")))
    })
}

/// A packet that comes too early does not spoil the port that it was meant for.
pub fn early_packet_is_forgotten(place: &Place) -> anyhow::Result<()> {
    let lab = lab(place, 1)?;
    let kinds = [NatKind::PortRestricted, NatKind::Double, NatKind::Cgnat];
    at_once(&kinds, |kind| {
        let witnesses = Witnesses::new()?;
        let holder = lab.holder(&name(kind, 0))?;
        let (home, stranger) = (client(holder)?, Witnesses::new()?);
        let before = witnesses.place_of(&home)?.context("nothing goes out")?;
        ensure!(
            !stranger.reaches(&home, before)?,
            "{kind} lets strangers in"
        );
        let after = stranger.place_of(&home)?.context("nothing goes out")?;
        ensure!(before == after, "{kind} moved from {before} to {after}");
        ensure!(stranger.reaches(&home, before)?, "{kind} is deaf");
        Ok(())
    })
}

/// How long a kernel may take to notice that a cable is in.
const SOON: Duration = Duration::from_secs(20);

/// How long mappings live where they are seen to end.
const SHORT: Duration = Duration::from_secs(2);

/// A mapping lives as long as it says without packets from inside, and no longer.
pub fn mapping_is_forgotten(place: &Place) -> anyhow::Result<()> {
    let short_lived = |filtering| {
        let one = Traits {
            filtering,
            lifetime: SHORT,
            ..Traits::HOME
        };
        vec![one]
    };
    let homes = [
        ("kind", short_lived(Filtering::EndpointIndependent)),
        ("strict", short_lived(Filtering::AddressAndPortDependent)),
        ("long", vec![Traits::HOME]),
    ];
    let lab = Lab::behind_boxes(&homes, &place.folder, &place.programs)?;
    let witnesses = Witnesses::new()?;
    let mut clients = Vec::new();
    for (name, _) in &homes {
        let client = client(lab.holder(name)?)?;
        let at = witnesses.place_of(&client)?.context("nothing goes out")?;
        ensure!(witnesses.reaches(&client, at)?, "{name} is deaf");
        clients.push((name, client, at));
    }
    // A mapping's life is over.
    rest(SHORT * 3 / 2)?;
    for (name, client, at) in &clients {
        let lives = witnesses.reaches(client, *at)?;
        ensure!(lives == (**name == "long"), "{name}: lives is {lives}");
    }
    Ok(())
}

/// A home that is cut off, or gets another address, is seen as such; machines of one home have one
/// address on the Internet and two at home.
pub fn homes_move_and_have_neighbours(place: &Place) -> anyhow::Result<()> {
    let mut lab = lab(place, 1)?;
    let witnesses = Witnesses::new()?;
    for kind in NatKind::ALL.into_iter().filter(|kind| kind.passes_udp()) {
        let name = name(kind, 0);
        let client = client(lab.holder(&name)?)?;
        let before = witnesses.place_of(&client)?.context("nothing goes out")?;
        if kind == NatKind::Double {
            lab.cut(&name)?;
            ensure!(witnesses.place_of(&client)?.is_none(), "{kind} is not cut");
            lab.heal(&name)?;
            until("a home is back", SOON, || witnesses.place_of(&client))?;
        }
        let address = lab.renumber(&name)?;
        ensure!(lab.address(&name)? == address, "{kind} has two addresses");
        ensure!(address != before.ip(), "{kind} has the address it had");
        let after = witnesses.place_of(&client)?.context("nothing goes out")?;
        ensure!(after.ip() == address, "{kind} is seen as {after}");
        ensure!(witnesses.reaches(&client, after)?, "{kind} is deaf");
        ensure!(
            !witnesses.reaches(&client, before)?,
            "{kind} is at {before} too"
        );
    }
    let name = name(NatKind::Cgnat, 0);
    lab.add_beside(&name, "beside", &place.folder, &place.programs)?;
    let (one, other) = (client(lab.holder(&name)?)?, client(lab.holder("beside")?)?);
    let public = lab.address(&name)?;
    for client in [&one, &other] {
        let at = witnesses.place_of(client)?.context("nothing goes out")?;
        ensure!(at.ip() == public, "a machine is seen as {at}");
    }
    let there = (AT_HOME, one.local_addr()?.port());
    let (_, from) = until("a neighbour is heard", SOON, || {
        other.send_to(b"hello, neighbour", there)?;
        Ok(one.recv_from(&mut [0; 64]).ok())
    })?;
    ensure!(from.ip() != AT_HOME, "a neighbour is no other machine");
    Ok(())
}

/// So many homes of each kind.
fn lab(place: &Place, count: usize) -> anyhow::Result<Lab> {
    let kinds = NatKind::ALL.into_iter();
    let homes: Vec<(String, NatKind)> = kinds
        .flat_map(|kind| (0..count).map(move |at| (name(kind, at), kind)))
        .collect();
    let homes: Vec<(&str, NatKind)> = homes.iter().map(|(name, kind)| (&**name, *kind)).collect();
    Lab::behind(&homes, &place.folder, &place.programs)
}

fn name(kind: NatKind, at: usize) -> String {
    format!("{kind}-{at}")
}
