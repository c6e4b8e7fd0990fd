//! Where other nodes see this one: its places on the outside of routers, told by those to whom it
//! speaks from the same socket.
//!
//! Several who see the same place speak of a mapping that does not depend on whom we speak to, so
//! that somebody else will find us there too; several who see one address with different ports
//! speak of one that does (RFC 4787, 4.1). What is told is a claim; the worst that a false one does
//! is that our peers knock at a wrong door some times. Invariants: at most [`TELLERS_MAX`] words;
//! each changes what is known [`NEWS_BURST`] times at once and then once each [`NEWS_INTERVAL`],
//! for each change makes us call every peer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;

use super::limits::{NEWS_BURST, NEWS_INTERVAL, SEEN_MAX, TELLERS_MAX, WORD_MAX};
use super::spend;

/// Which outside port there is for each destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mapping {
    /// Fewer than two have said where they see us.
    #[default]
    Unknown,
    /// The same for all: endpoint-independent.
    Same,
    /// One for each: symmetric.
    Differs,
}

/// What others said.
#[derive(Debug, Clone, Default)]
pub struct Outer {
    told: BTreeMap<NodeId, Word>,
}

/// One node's word.
#[derive(Debug, Clone, Copy)]
struct Word {
    at: SocketAddr,
    told: Moment,
    /// When it may change its mind as often as it likes again.
    calm: Moment,
}

impl Outer {
    /// Takes a node's word; returns whether we are seen at other places than before.
    pub fn handle_told(&mut self, by: NodeId, at: SocketAddr, now: Moment) -> bool {
        let before = self.places(now);
        self.told.retain(|_, word| now.since(word.told) <= WORD_MAX);
        if TELLERS_MAX <= self.told.len() && !self.told.contains_key(&by) {
            let oldest = self.told.iter().min_by_key(|(_, word)| word.told);
            if let Some(node) = oldest.map(|(node, _)| *node) {
                self.told.remove(&node);
            }
        }
        let known = self.told.get(&by);
        let mut calm = known.map_or(Moment::default(), |word| word.calm);
        let is_news = known.is_none_or(|word| word.at != at);
        if is_news && !spend(&mut calm, NEWS_INTERVAL, NEWS_BURST, now) {
            return false;
        }
        let told = now;
        self.told.insert(by, Word { at, told, calm });
        let mut after = self.places(now);
        // Who told last makes no difference.
        let mut before = before;
        before.sort_unstable();
        after.sort_unstable();
        before != after
    }

    /// Returns where we are seen, told last first; at most [`SEEN_MAX`].
    pub fn places(&self, now: Moment) -> Vec<SocketAddr> {
        let mut told: Vec<_> = self.fresh(now).collect();
        told.sort_by_key(|(at, told)| (std::cmp::Reverse(*told), *at));
        let mut places: Vec<SocketAddr> = Vec::new();
        for (at, _) in told {
            if !places.contains(&at) && places.len() < SEEN_MAX {
                places.push(at);
            }
        }
        places
    }

    /// Returns what they say about the mapping of IPv4 ports.
    pub fn mapping(&self, now: Moment) -> Mapping {
        let mut ports: BTreeMap<IpAddr, Vec<u16>> = BTreeMap::new();
        for (at, _) in self.fresh(now).filter(|(at, _)| at.is_ipv4()) {
            ports.entry(at.ip()).or_default().push(at.port());
        }
        let differs = |ports: &Vec<u16>| ports.iter().any(|port| Some(port) != ports.first());
        if ports.values().any(differs) {
            Mapping::Differs
        } else if ports.values().any(|ports| 1 < ports.len()) {
            Mapping::Same
        } else {
            Mapping::Unknown
        }
    }

    fn fresh(&self, now: Moment) -> impl Iterator<Item = (SocketAddr, Moment)> {
        let words = self.told.values().map(|word| (word.at, word.told));
        words.filter(move |(_, told)| now.since(*told) <= WORD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_base::identity::SecretKey;

    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId(SecretKey::from_seed([number; 32]).public())
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn two_who_see_the_same_tell_of_a_steady_mapping_and_others_of_a_wandering_one() {
        let (mut outer, now) = (Outer::default(), Moment(0));
        assert!(outer.handle_told(node(1), at("203.0.113.9:7"), now));
        assert_eq!(outer.mapping(now), Mapping::Unknown);
        assert!(!outer.handle_told(node(2), at("203.0.113.9:7"), now));
        assert_eq!(outer.mapping(now), Mapping::Same);
        assert_eq!(outer.places(now), [at("203.0.113.9:7")]);
        assert!(outer.handle_told(node(3), at("203.0.113.9:8"), now));
        assert_eq!(outer.mapping(now), Mapping::Differs);
    }

    #[test]
    fn neighbour_at_home_says_nothing_about_the_router() {
        let (mut outer, now) = (Outer::default(), Moment(0));
        outer.handle_told(node(1), at("203.0.113.9:7"), now);
        outer.handle_told(node(2), at("192.168.1.2:41641"), now);
        assert_eq!(outer.mapping(now), Mapping::Unknown);
    }

    #[test]
    fn old_words_are_forgotten_and_the_newest_comes_first() {
        let (mut outer, now) = (Outer::default(), Moment(0));
        outer.handle_told(node(1), at("203.0.113.9:7"), now);
        let later = now + Duration::from_secs(100);
        outer.handle_told(node(2), at("203.0.113.10:7"), later);
        assert_eq!(
            outer.places(later),
            [at("203.0.113.10:7"), at("203.0.113.9:7")]
        );
        let late = now + WORD_MAX + Duration::from_secs(1);
        assert_eq!(outer.places(late), [at("203.0.113.10:7")]);
    }

    #[test]
    fn who_changes_its_mind_too_often_is_not_heard_for_a_while() {
        let (mut outer, start) = (Outer::default(), Moment(0));
        let mut heard = 0;
        for port in 1..=1000 {
            let place = SocketAddr::from(([203, 0, 113, 9], port));
            let now = start + Duration::from_millis(u64::from(port));
            heard += u32::from(outer.handle_told(node(1), place, now));
        }
        assert_eq!(heard, NEWS_BURST);
        let later = start + Duration::from_secs(60);
        assert!(outer.handle_told(node(1), at("203.0.113.10:7"), later));
    }

    #[test]
    fn only_so_many_words_are_kept() {
        let mut outer = Outer::default();
        for number in 0..=u8::MAX {
            let now = Moment(u64::from(number));
            let port = 1 + u16::from(number);
            outer.handle_told(
                node(number),
                SocketAddr::from(([203, 0, 113, 9], port)),
                now,
            );
        }
        assert_eq!(outer.told.len(), TELLERS_MAX);
        assert_eq!(outer.places(Moment(300)).len(), SEEN_MAX);
    }
}
