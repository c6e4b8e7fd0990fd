//! Where nodes are, how long packets take between them, and whom they choose as neighbours.
//!
//! A node lives in a city with an access line of its own; a packet takes both access lines and the
//! way between the cities at two thirds of light's speed, a third longer than the great circle.
//! Decides the graph of wires; what happens on them is [`weather`](super::wire).

use std::collections::BTreeSet;
use std::time::Duration;

use super::arena::{Arena, NodeAt};
use crate::chance::Chance;

/// Degrees north and east, and how many of a hundred nodes live there.
const CITIES: &[(f64, f64, u64)] = &[
    (48.9, 2.4, 12),
    (50.1, 8.7, 12),
    (51.5, -0.1, 8),
    (52.4, 4.9, 6),
    (43.3, 5.4, 4),
    (41.4, 2.2, 4),
    (52.2, 21.0, 5),
    (59.3, 18.1, 3),
    (44.4, 26.1, 3),
    (40.7, -74.0, 9),
    (37.8, -122.4, 6),
    (45.5, -73.6, 4),
    (-23.5, -46.6, 5),
    (35.7, 139.7, 7),
    (1.35, 103.8, 4),
    (19.1, 72.9, 4),
    (-33.9, 151.2, 2),
    (6.5, 3.4, 2),
];

/// Kilometres that light travels in a millisecond, in glass and with detours.
const KM_PER_MS: f64 = 150.0;
const EARTH_KM: f64 = 6371.0;

/// What a node chooses from, and how many of them: the plan of the overlay.
const SAMPLED: usize = 64;
const NEAREST: usize = 4;
const BY_CHANCE: usize = 6;
/// Links that others opened to a node, at most.
const INBOUND_MAX: usize = 20;

/// A node's place.
#[derive(Debug, Clone, Copy)]
struct Home {
    north: f64,
    east: f64,
    access: Duration,
}

/// All places.
#[derive(Debug)]
pub struct Atlas(Arena<NodeAt, Home>);

impl Atlas {
    /// Draws where nodes live.
    pub fn draw(count: usize, chance: &mut Chance) -> Self {
        let all: u64 = CITIES.iter().map(|(.., share)| share).sum();
        let mut homes = Arena::new();
        for _ in 0..count {
            let mut lot = chance.below(all);
            let city = CITIES.iter().find(|(.., share)| {
                let found = lot < *share;
                lot = lot.saturating_sub(*share);
                found
            });
            let (north, east, _) = city.copied().unwrap_or_default();
            // Fibre, cable, DSL and radio: most are short, some are long.
            let longest = *chance
                .pick(&[2000, 8000, 8000, 15_000, 30_000])
                .unwrap_or(&8000);
            let access = Duration::from_micros(chance.between(300, longest));
            homes.push(Home {
                north: north.to_radians(),
                east: east.to_radians(),
                access,
            });
        }
        Self(homes)
    }

    /// Returns how long a packet takes from one to another when nothing is in its way.
    pub fn delay(&self, a: NodeAt, b: NodeAt) -> Duration {
        let (a, b) = (self.0[a], self.0[b]);
        let (high, wide) = ((b.north - a.north) / 2.0, (b.east - a.east) / 2.0);
        let half = high.sin().powi(2) + a.north.cos() * b.north.cos() * wide.sin().powi(2);
        let km = 2.0 * EARTH_KM * half.sqrt().min(1.0).asin();
        // Whole microseconds, so that no machine rounds otherwise.
        let micros = (km / KM_PER_MS * 1000.0).round();
        Duration::from_micros(micros as u64) + a.access + b.access
    }

    /// Draws neighbours as nodes choose them: near ones of a sample, and some by chance.
    pub fn chosen(&self, chance: &mut Chance) -> Vec<(NodeAt, NodeAt)> {
        let count = self.0.len() as u64;
        let mut inbound: Arena<NodeAt, usize> = Arena::filled(0, self.0.len());
        let mut pairs = BTreeSet::new();
        for node in self.0.numbers() {
            let mut sample = |many: usize| -> BTreeSet<NodeAt> {
                let drawn = (0..many).map(|_| NodeAt(chance.below(count) as u32));
                drawn.filter(|other| *other != node).collect()
            };
            let mut near: Vec<_> = sample(SAMPLED).into_iter().collect();
            near.sort_by_key(|other| (self.delay(node, *other), *other));
            let any = sample(3 * BY_CHANCE);
            for (wanted, most) in [(near, NEAREST), (any.into_iter().collect(), BY_CHANCE)] {
                let mut got = 0;
                for other in wanted {
                    let pair = (node.min(other), node.max(other));
                    let full = INBOUND_MAX <= inbound[other] || pairs.contains(&pair);
                    if got < most && !full {
                        pairs.insert(pair);
                        inbound[other] += 1;
                        got += 1;
                    }
                }
            }
        }
        pairs.into_iter().collect()
    }

    /// Draws a connected graph of so many wires: a random tree, and random wires more.
    pub fn tangled(&self, wires: usize, chance: &mut Chance) -> Vec<(NodeAt, NodeAt)> {
        let count = self.0.len() as u64;
        let mut pairs: BTreeSet<(NodeAt, NodeAt)> = (1..self.0.len() as u64)
            .map(|node| (NodeAt(chance.below(node) as u32), NodeAt(node as u32)))
            .collect();
        let most = self.0.len() * (self.0.len() - 1) / 2;
        while pairs.len() < wires.min(most) {
            let (a, b) = (
                NodeAt(chance.below(count) as u32),
                NodeAt(chance.below(count) as u32),
            );
            if a != b {
                pairs.insert((a.min(b), a.max(b)));
            }
        }
        pairs.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_those_of_the_world() {
        let mut chance = Chance::new(1, "atlas");
        let atlas = Atlas::draw(200, &mut chance);
        let longest = atlas
            .0
            .numbers()
            .map(|node| atlas.delay(NodeAt(0), node))
            .max();
        let longest = longest.unwrap();
        assert!(Duration::from_millis(60) < longest && longest < Duration::from_millis(200));
        assert_eq!(
            atlas.delay(NodeAt(3), NodeAt(9)),
            atlas.delay(NodeAt(9), NodeAt(3))
        );
    }

    #[test]
    fn chosen_neighbours_are_twenty_on_average() {
        let mut chance = Chance::new(1, "atlas");
        let atlas = Atlas::draw(300, &mut chance);
        let pairs = atlas.chosen(&mut chance);
        assert!((2800..=3000).contains(&pairs.len()), "{}", pairs.len());
    }

    #[test]
    fn tangled_graph_is_connected() {
        let mut chance = Chance::new(1, "atlas");
        let atlas = Atlas::draw(30, &mut chance);
        let pairs = atlas.tangled(45, &mut chance);
        assert_eq!(pairs.len(), 45);
        let mut seen = BTreeSet::from([NodeAt(0)]);
        for _ in 0..30 {
            for (a, b) in &pairs {
                if seen.contains(a) || seen.contains(b) {
                    seen.extend([*a, *b]);
                }
            }
        }
        assert_eq!(seen.len(), 30);
    }
}
