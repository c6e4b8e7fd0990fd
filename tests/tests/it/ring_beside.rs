//! The same ring of eight with Debian's babeld, as it is shipped and with a hello each second: how
//! long it is broken by a pulled cable. What the mesh is measured against.
//!
//! ```text
//!   1 ── 2 ── 3 ── 4        pings go 1 → 4 over three cables; the other way round are five
//!   │              │
//!   8 ── 7 ── 6 ── 5
//! ```
//! babeld takes long to heal and long to find back, so each cut has a ring of its own and all rings
//! run at once. The short way round stands before the long one, which it would else take minutes to
//! leave. Each cut is the first that its ring sees.

use std::fs;
use std::time::{Duration, SystemTime};

use mesh_tests::figures::{Durations, Figure};
use mesh_tests::pulse::Pulse;
use mesh_tests::routers::Babeld;
use mesh_tests::runner::Place;
use mesh_tests::until::until;
use mesh_tests::yard::Yard;

const NAMES: [&str; 8] = ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"];

/// The cables of the best path from 1 to 4, as each end sees them: where, which, and the far end.
const CUTS: [(&str, &str, &str); 6] = [
    ("n1", "c1", "n2"),
    ("n2", "c1", "n1"),
    ("n2", "c2", "n3"),
    ("n3", "c2", "n2"),
    ("n3", "c3", "n4"),
    ("n4", "c3", "n3"),
];

/// How babeld is started: a name for people, and its words.
const PACES: [(&str, &str); 2] = [
    ("babeld as shipped", ""),
    ("babeld hello 1 s", "hello-interval 1"),
];

/// Hellos of four seconds and updates of sixteen must have gone around.
const WHOLE_MAX: Duration = Duration::from_secs(120);
/// A longer outage counts as this one.
const OUTAGE_MAX: Duration = Duration::from_secs(30);

/// A ring and its routers.
struct Ring {
    routers: Vec<Babeld>,
    yard: Yard,
    /// How the routers are started.
    words: &'static str,
}

/// Measures how long a ring of babeld is broken.
pub fn babeld_heals_a_ring(place: &Place) -> anyhow::Result<()> {
    let mut rings = Vec::new();
    for (number, (_, words)) in PACES.iter().enumerate() {
        for cut in 0..CUTS.len() {
            let folder = place.folder.join(format!("{number}-{cut}"));
            fs::create_dir(&folder)?;
            let programs = place.programs.clone();
            rings.push(Ring::lay(&Place { folder, programs }, words)?);
        }
    }
    let (short, long) = NAMES.split_at(4);
    for plots in [short, long] {
        for ring in &mut rings {
            ring.start(plots)?;
        }
        for ring in &rings {
            ring.find_best_path()?;
        }
    }
    for ring in &rings {
        ring.meet_all()?;
    }
    // Before there is a way, ping gives up at once.
    let mut pulses = Vec::new();
    for ring in &rings {
        let (from, to) = (ring.yard.home("n1")?, ring.yard.address("n4")?);
        pulses.push(Pulse::begin(&from, &to, WHOLE_MAX)?);
    }
    let mut cut_at = Vec::new();
    for (ring, (plot, cable, far)) in rings.iter().zip(CUTS.iter().cycle()) {
        cut_at.push(SystemTime::now());
        ring.yard.pull((plot, cable))?;
        // Linux tells the far end's programs up to a second late, but at once if somebody looks:
        // babeld is not to wait for that.
        ring.yard.shell(far, &format!("ip link show dev {cable}"))?;
    }
    let mut outages = Vec::new();
    for (pulse, since) in pulses.iter_mut().zip(cut_at) {
        // A longer one is no failure of ours.
        let outage = pulse.outage(since, OUTAGE_MAX).unwrap_or(OUTAGE_MAX);
        outages.push(outage.min(OUTAGE_MAX));
    }
    let texts = PACES.iter().zip(outages.chunks(CUTS.len()));
    let texts: Vec<_> = texts
        .map(|((name, _), outages)| format!("{name} {}", summary(outages)))
        .collect();
    Figure {
        bar: "routing.failover-down@babeld".to_owned(),
        text: texts.join(", "),
        // It is only to be printed.
        holds: true,
    }
    .tell();
    Ok(())
}

fn summary(outages: &[Duration]) -> String {
    let mut all = Durations::default();
    outages.iter().for_each(|outage| all.add(*outage));
    let more = if all.percentile(100) < OUTAGE_MAX {
        ""
    } else {
        " or more"
    };
    format!("{}{more}", all.summary())
}

impl Ring {
    /// Lays the cables.
    fn lay(place: &Place, words: &'static str) -> anyhow::Result<Self> {
        let yard = Yard::new(place, &NAMES)?;
        for ((_, near), (cable, far)) in sides() {
            yard.cable((near, &cable), (far, &cable))?;
        }
        Ok(Self {
            routers: Vec::new(),
            yard,
            words,
        })
    }

    /// Starts the routers of some plots.
    fn start(&mut self, plots: &[&str]) -> anyhow::Result<()> {
        for ((before, plot), (behind, _)) in sides() {
            if plots.contains(&plot) {
                let cables = [before.as_str(), behind.as_str()];
                let router = Babeld::start_as_shipped(&self.yard, plot, &cables, self.words)?;
                self.routers.push(router);
            }
        }
        Ok(())
    }

    /// Waits until everybody knows everybody.
    fn meet_all(&self) -> anyhow::Result<()> {
        for plot in NAMES {
            until(&format!("{plot} knows all"), WHOLE_MAX, || {
                let known = self.yard.route_count(plot, None)?;
                Ok((NAMES.len() - 1 <= known).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Waits until the pings would go the shortest way.
    fn find_best_path(&self) -> anyhow::Result<()> {
        for (plot, cable, far) in CUTS {
            // Towards the end that lies behind the cable, there and back.
            let to = self.yard.address(if plot < far { "n4" } else { "n1" })?;
            until(&format!("{plot} uses {cable}"), WHOLE_MAX, || {
                let way = self.yard.ask(plot, &format!("ip -6 route show {to}"))?;
                Ok(way.contains(&format!(" dev {cable} ")).then_some(()))
            })?;
        }
        Ok(())
    }
}

/// Returns each plot behind the cable before it, and the cable behind it before the next plot.
fn sides() -> impl Iterator<Item = ((String, &'static str), (String, &'static str))> {
    let count = NAMES.len();
    let plots = NAMES.iter().zip(NAMES.iter().cycle().skip(1));
    plots.enumerate().map(move |(at, (near, far))| {
        let before = format!("c{}", (at + count - 1) % count + 1);
        ((before, *near), (format!("c{}", at + 1), *far))
    })
}
