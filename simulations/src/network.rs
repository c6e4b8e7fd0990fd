//! The virtual network: which messages arrive, when, how often, and who cannot reach whom.
//!
//! A message between two hosts takes a drawn time of its own, so a later one may overtake it.
//! Connections are another room ([`links`](crate::links)): here is only what happens to bytes on
//! the way. Invariant: a pair is blocked exactly while at least one open cut names it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_base::time::Moment;

use crate::chance::Chance;
use crate::tally::{Fault, Tally};
use crate::weather::{LATE_MAX, Shape, Weather};

/// A simulated machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u16);

/// An open partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CutId(pub u64);

/// Ways that are cut: from the first to the second.
pub type Ways = BTreeSet<(HostId, HostId)>;

/// The network between all hosts.
#[derive(Debug, Default)]
pub struct Network {
    cuts: BTreeMap<CutId, Ways>,
    cuts_made: u64,
    newest_arrival: BTreeMap<(HostId, HostId), Moment>,
}

impl Network {
    /// Draws the ways that a partition of this shape cuts.
    pub fn draw_ways(shape: Shape, hosts: &[HostId], chance: &mut Chance) -> Ways {
        let mut groups: [Vec<HostId>; 3] = Default::default();
        match shape {
            Shape::Single => {
                let alone = chance.index(hosts.len());
                for (index, host) in hosts.iter().enumerate() {
                    push(&mut groups, usize::from(index != alone), *host);
                }
            }
            Shape::Partial => {
                hosts
                    .iter()
                    .for_each(|host| push(&mut groups, chance.index(3), *host));
            }
            Shape::Full | Shape::OneWay => {
                hosts
                    .iter()
                    .for_each(|host| push(&mut groups, chance.index(2), *host));
            }
        }
        let [first, second, _] = &groups;
        let mut ways = Ways::new();
        for a in first {
            for b in second {
                ways.insert((*a, *b));
                if shape != Shape::OneWay {
                    ways.insert((*b, *a));
                }
            }
        }
        ways
    }

    /// Opens a cut.
    pub fn cut(&mut self, ways: Ways) -> CutId {
        self.cuts_made += 1;
        let id = CutId(self.cuts_made);
        self.cuts.insert(id, ways);
        id
    }

    /// Closes a cut.
    pub fn heal(&mut self, cut: CutId) {
        self.cuts.remove(&cut);
    }

    /// Closes every cut.
    pub fn heal_all(&mut self) {
        self.cuts.clear();
    }

    /// Returns whether nothing gets from one host to another now.
    pub fn blocked(&self, from: HostId, to: HostId) -> bool {
        self.cuts.values().any(|ways| ways.contains(&(from, to)))
    }

    /// Returns whether one of the two directions is cut.
    pub fn broken(&self, a: HostId, b: HostId) -> bool {
        self.blocked(a, b) || self.blocked(b, a)
    }

    /// Sends one message: returns the moments at which copies of it arrive; none if it is lost.
    pub fn carry(
        &mut self,
        way: (HostId, HostId),
        now: Moment,
        weather: &Weather,
        chance: &mut Chance,
        tally: &mut Tally,
    ) -> Vec<Moment> {
        if self.blocked(way.0, way.1) || chance.permille(weather.loss_permille) {
            tally.fault(Fault::Loss);
            return Vec::new();
        }
        let copies = if chance.permille(weather.duplicate_permille) {
            tally.fault(Fault::Duplication);
            2
        } else {
            1
        };
        (0..copies)
            .map(|_| self.arrival(way, now, weather, chance, tally))
            .collect()
    }

    fn arrival(
        &mut self,
        way: (HostId, HostId),
        now: Moment,
        weather: &Weather,
        chance: &mut Chance,
        tally: &mut Tally,
    ) -> Moment {
        let late = chance.permille(weather.late_permille);
        let longest = if late { LATE_MAX } else { weather.delay_max };
        let delay = chance.span(weather.delay_min, longest);
        if Duration::from_millis(200) < delay {
            tally.fault(Fault::Delay);
        }
        let arrival = now + delay;
        let newest = self.newest_arrival.entry(way).or_default();
        if arrival < *newest {
            tally.fault(Fault::Reorder);
        }
        *newest = arrival.max(*newest);
        arrival
    }
}

fn push(groups: &mut [Vec<HostId>; 3], index: usize, host: HostId) {
    if let Some(group) = groups.get_mut(index) {
        group.push(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: u16) -> Vec<HostId> {
        (0..count).map(HostId).collect()
    }

    /// Cuts a network of six hosts by `shape` and hands over how many hosts reach nobody, and
    /// whether some pair is cut in one direction only.
    fn cut(shape: Shape, seed: u64) -> (usize, bool) {
        let (hosts, mut network) = (hosts(6), Network::default());
        let ways = Network::draw_ways(shape, &hosts, &mut Chance::new(seed, "cut"));
        network.cut(ways);
        let others = |host: &HostId| hosts.iter().filter(|other| *other != host).count();
        let cut_off = |host: &HostId| {
            hosts
                .iter()
                .filter(|other| network.blocked(*host, **other))
                .count()
                == others(host)
        };
        let one_way = hosts.iter().any(|a| {
            hosts
                .iter()
                .any(|b| network.blocked(*a, *b) && !network.blocked(*b, *a))
        });
        (hosts.iter().filter(|host| cut_off(host)).count(), one_way)
    }

    #[test]
    fn single_cut_leaves_one_host_alone() {
        assert_eq!(cut(Shape::Single, 3), (1, false));
    }

    #[test]
    fn one_way_cut_blocks_one_direction() {
        assert!((0..8).any(|seed| cut(Shape::OneWay, seed).1));
        assert!((0..8).all(|seed| !cut(Shape::Full, seed).1));
    }

    #[test]
    fn overlapping_cuts_block_until_both_heal() {
        let mut network = Network::default();
        let way = (HostId(0), HostId(1));
        let (first, second) = (
            network.cut(Ways::from([way])),
            network.cut(Ways::from([way])),
        );
        network.heal(first);
        assert!(network.blocked(way.0, way.1));
        network.heal(second);
        assert!(!network.blocked(way.0, way.1));
    }

    #[test]
    fn fair_weather_carries_each_message_once_within_its_limit() {
        let (mut network, mut tally) = (Network::default(), Tally::default());
        let (weather, mut chance) = (Weather::fair(), Chance::new(1, "net"));
        for _ in 0..200 {
            let way = (HostId(0), HostId(1));
            let got = network.carry(way, Moment(10), &weather, &mut chance, &mut tally);
            assert!(matches!(got.as_slice(), [at] if *at <= Moment(10) + weather.delay_max));
        }
        assert_eq!(tally.faults.of(Fault::Loss), 0);
    }

    #[test]
    fn foul_weather_loses_doubles_and_reorders() {
        let (mut network, mut tally) = (Network::default(), Tally::default());
        let weather = Weather {
            loss_permille: 300,
            duplicate_permille: 200,
            late_permille: 100,
            ..Weather::fair()
        };
        let mut chance = Chance::new(1, "net");
        let arrived: usize = (0..1000)
            .map(|_| (HostId(0), HostId(1)))
            .map(|way| {
                network
                    .carry(way, Moment(0), &weather, &mut chance, &mut tally)
                    .len()
            })
            .sum();
        assert!((750..950).contains(&arrived), "{arrived}");
        for kind in [
            Fault::Loss,
            Fault::Duplication,
            Fault::Reorder,
            Fault::Delay,
        ] {
            assert_ne!(tally.faults.of(kind), 0, "{kind}");
        }
    }
}
