//! Homes behind routers of all kinds find straight ways to each other, as far as theory allows.
//!
//! Two meshes hold all pairs: in each a public node, and homes that join it one after the other.
//! Whoever joins is timed until it answers those that are there already, on any way and straight.
//! Decides nothing about routers: what theory allows is [`NatKind::meets`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use mesh_tests::figures::{Durations, Figure};
use mesh_tests::home::{Home, links_between};
use mesh_tests::lab::Lab;
use mesh_tests::nat::NatKind;
use mesh_tests::nat_mesh;
use mesh_tests::pulse::answered;
use mesh_tests::runner::Place;
use mesh_tests::said::Asked;
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;

/// How long two homes may take at most.
const SOON: Duration = Duration::from_secs(30);

/// The bar's limits for 19 of 20 pairs.
const STRAIGHT_MAX: Duration = Duration::from_secs(3);
const ANY_MAX: Duration = Duration::from_secs(1);

/// How often a home is pinged until it answers first.
const PING_INTERVAL: &str = "0.02";

/// Names the file that the table is written to, if it is wanted.
const TABLE: &str = "MESHSTEAD_NAT_TABLE";

/// Homes of the two meshes; the first of each founds it and invites. Those who pass no UDP come
/// with the way that needs none.
const FIRST: &[(&str, NatKind)] = &[
    ("public-1", NatKind::Open),
    ("port-restricted-1", NatKind::PortRestricted),
    ("port-restricted-2", NatKind::PortRestricted),
    ("symmetric-1", NatKind::Symmetric),
    ("symmetric-2", NatKind::Symmetric),
    ("double-1", NatKind::Double),
    ("double-2", NatKind::Double),
    ("cgnat-1", NatKind::Cgnat),
    ("cgnat-2", NatKind::Cgnat),
    ("udp-blocked-1", NatKind::UdpBlocked),
    ("udp-blocked-2", NatKind::UdpBlocked),
];
const SECOND: &[(&str, NatKind)] = &[
    ("public-2", NatKind::Open),
    ("full-cone-1", NatKind::FullCone),
    ("full-cone-2", NatKind::FullCone),
    ("restricted-1", NatKind::Restricted),
    ("restricted-2", NatKind::Restricted),
    ("port-restricted-3", NatKind::PortRestricted),
    ("symmetric-3", NatKind::Symmetric),
    ("double-3", NatKind::Double),
    ("cgnat-3", NatKind::Cgnat),
    ("udp-blocked-3", NatKind::UdpBlocked),
    ("open", NatKind::Open),
];

/// Two usual homes, of which no packet of the other gets in unasked, reach each other straight.
pub fn two_homes_meet(place: &Place) -> anyhow::Result<()> {
    let homes = [
        ("one", NatKind::PortRestricted),
        ("other", NatKind::PortRestricted),
    ];
    let lab = nat_mesh::raise(place, &homes)?;
    for (from, to) in [("one", "other"), ("other", "one")] {
        straight(lab.home(from)?, to)?;
    }
    Ok(())
}

/// Every two kinds reach each other, straight wherever theory allows, and soon.
pub fn all_kinds_meet(place: &Place) -> anyhow::Result<()> {
    let mut table = Table::default();
    let all = [FIRST, SECOND].concat();
    let lab = Lab::behind(&all, &place.folder, &place.programs)?;
    for homes in [FIRST, SECOND] {
        table.add_mesh(&lab, homes)?;
    }
    let count = NatKind::ALL
        .iter()
        .filter(|kind| **kind != NatKind::TcpOnePort)
        .count();
    ensure!(
        table.pairs.len() == count * (count + 1) / 2,
        "{} pairs of kinds",
        table.pairs.len()
    );
    if let Some(file) = std::env::var_os(TABLE) {
        fs::write(&file, table.text()).context("cannot write the table")?;
    }
    println!("{}", table.text());
    let (mut any, mut straight) = (Durations::default(), Durations::default());
    for seen in table.pairs.values().flatten() {
        any.add(seen.any);
        if let Some(took) = seen.straight {
            straight.add(took);
        }
    }
    let holds = straight.percentile(95) <= STRAIGHT_MAX && any.percentile(95) <= ANY_MAX;
    let figure = Figure {
        bar: "reach.nat".to_owned(),
        text: format!(
            "{} of {} pairs of kinds; straight {}; any way {}",
            table.pairs.len(),
            count * (count + 1) / 2,
            straight.summary(),
            any.summary()
        ),
        holds,
    };
    figure.hold()
}

/// What was seen of two homes.
#[derive(Debug, Clone, Copy)]
struct Seen {
    any: Duration,
    /// None if theory does not allow it.
    straight: Option<Duration>,
}

#[derive(Debug, Default)]
struct Table {
    pairs: BTreeMap<(NatKind, NatKind), Vec<Seen>>,
}

impl Table {
    fn add_mesh(&mut self, lab: &Lab, homes: &[(&str, NatKind)]) -> anyhow::Result<()> {
        let ((first, _), _) = homes.split_first().context("a mesh has a first")?;
        let first = lab.home(first)?.quietly();
        found_org("mesh", &first)?;
        for (at, (name, kind)) in homes.iter().enumerate().skip(1) {
            let home = lab.home(name)?.quietly();
            join(&first, &home)?;
            let there = homes.get(..at).unwrap_or_default();
            for ((_, other), seen) in there.iter().zip(meet(lab, &home, *kind, there)?) {
                let pair = (*kind.min(other), *kind.max(other));
                self.pairs.entry(pair).or_default().push(seen);
            }
        }
        for (name, _) in homes {
            lab.home(name)?.quietly().stop()?;
        }
        Ok(())
    }

    /// Returns the table for people.
    fn text(&self) -> String {
        let kinds: Vec<NatKind> = NatKind::ALL
            .into_iter()
            .filter(|kind| self.pairs.contains_key(&(*kind, *kind)))
            .collect();
        let mut text = String::from("| |");
        for kind in &kinds {
            let _ = write!(text, " {kind} |");
        }
        text += "\n|---|";
        text += &"---|".repeat(kinds.len());
        for a in &kinds {
            let _ = write!(text, "\n| {a} |");
            for b in &kinds {
                let seen = self.pairs.get(&(*a.min(b), *a.max(b)));
                let worst =
                    seen.and_then(|seen| seen.iter().max_by_key(|seen| (seen.straight, seen.any)));
                let cell = match worst.map(|seen| (seen.straight, seen.any)) {
                    Some((Some(took), _)) => format!("straight, {:.1} s", took.as_secs_f64()),
                    Some((None, any)) => format!("relayed, {:.1} s", any.as_secs_f64()),
                    None => "–".to_owned(),
                };
                let _ = write!(text, " {cell} |");
            }
        }
        text + "\n"
    }
}

/// Times a home that has just started until it reaches those that are there.
fn meet(
    lab: &Lab,
    home: &Home,
    kind: NatKind,
    there: &[(&str, NatKind)],
) -> anyhow::Result<Vec<Seen>> {
    let (start, since) = (
        Instant::now(),
        SystemTime::now().duration_since(UNIX_EPOCH)?,
    );
    let mut asked: Vec<Asked> = Vec::new();
    for (name, _) in there {
        let to = lab.home(name)?.quietly().overlay_address()?;
        let words = ["-D", "-n", "-i", PING_INTERVAL, "-W", "1", "-s", "16", &to];
        asked.push(home.ask("ping", &words)?);
    }
    let mut took: Vec<Option<Duration>> = vec![None; there.len()];
    let theory = |other: NatKind| kind.meets(other);
    until(&format!("{} reaches all straight", home.name), SOON, || {
        let mut missing = false;
        for (at, (name, other)) in there.iter().enumerate() {
            let slot = took.get_mut(at).context("each has a place")?;
            if slot.is_none() && theory(*other) {
                let straight = links_between(home, name)? == Some(1);
                *slot = straight.then(|| start.elapsed());
                missing |= slot.is_none();
            }
        }
        Ok((!missing).then_some(()))
    })?;
    let mut seen = Vec::new();
    for (((name, other), pings), straight) in there.iter().zip(&mut asked).zip(took) {
        let what = format!("{} is answered by {name}", home.name);
        let first = until(&what, SOON, || Ok(answered(&pings.so_far()?).next()))?;
        ensure!(
            theory(*other) || !by_udp(kind, *other) || links_between(home, name)? != Some(1),
            "{} and {name} meet against theory",
            home.name
        );
        let any = first.saturating_sub(since);
        seen.push(Seen { any, straight });
    }
    Ok(seen)
}

/// Returns whether both send UDP: who does not may have a stream, which is no straight way.
fn by_udp(a: NatKind, b: NatKind) -> bool {
    a.passes_udp() && b.passes_udp()
}

fn straight(home: &Home, to: &str) -> anyhow::Result<()> {
    until(
        &format!("{} reaches {to} straight", home.name),
        SOON,
        || {
            Ok(links_between(home, to)?
                .filter(|links| *links == 1)
                .map(drop))
        },
    )
}
