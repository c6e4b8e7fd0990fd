//! Connections between hosts: each has two ends that may learn of its end at different times.
//!
//! A host may hold several connections to one peer (both dialled at once); the daemon reports the
//! first and the last of them, and so does this. Invariant: an end that is shut never opens again.

use std::collections::{BTreeMap, BTreeSet};

use crate::network::HostId;

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    host: HostId,
    open: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Links {
    links: BTreeMap<LinkId, [End; 2]>,
    /// Open ends, by the host that holds them and its peer.
    open: BTreeMap<(HostId, HostId), BTreeSet<LinkId>>,
    made: u64,
}

/// What became of a host's standing with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The last connection ended.
    Lost,
    /// Another one is there, or none was.
    Same,
}

impl Links {
    /// Opens a connection; both ends are open.
    pub fn open(&mut self, a: HostId, b: HostId) -> LinkId {
        self.made += 1;
        let id = LinkId(self.made);
        self.links
            .insert(id, [a, b].map(|host| End { host, open: true }));
        for pair in [(a, b), (b, a)] {
            self.open.entry(pair).or_default().insert(id);
        }
        id
    }

    /// Returns how many open ends `host` has towards `peer`.
    pub fn count(&self, host: HostId, peer: HostId) -> usize {
        self.of(host, peer).count()
    }

    /// Returns the connections whose end at `host`, towards `peer`, is open.
    pub fn between(&self, host: HostId, peer: HostId) -> Vec<LinkId> {
        self.of(host, peer).collect()
    }

    /// Returns every connection with an open end at `host`, with its peer.
    pub fn at(&self, host: HostId) -> Vec<(LinkId, HostId)> {
        let pairs = self
            .open
            .range((host, HostId(0))..=(host, HostId(u16::MAX)));
        pairs
            .flat_map(|((_, peer), ids)| ids.iter().map(|id| (*id, *peer)))
            .collect()
    }

    /// Returns both ends' hosts of a connection that has an open end.
    pub fn ends(&self, link: LinkId) -> Option<(HostId, HostId)> {
        self.links.get(&link).map(|[a, b]| (a.host, b.host))
    }

    /// Shuts the end at `host`; the other end does not know yet.
    pub fn shut(&mut self, link: LinkId, host: HostId) -> Standing {
        let Some(ends) = self.links.get_mut(&link) else {
            return Standing::Same;
        };
        let mut peer = None;
        let [a, b] = ends;
        let others = [b.host, a.host];
        for (end, other) in [&mut *a, &mut *b].into_iter().zip(others) {
            if end.host == host && end.open {
                end.open = false;
                peer = Some(other);
            }
        }
        if !a.open && !b.open {
            self.links.remove(&link);
        }
        if let Some(ids) = peer.and_then(|peer| self.open.get_mut(&(host, peer))) {
            ids.remove(&link);
        }
        match peer {
            Some(peer) if self.count(host, peer) == 0 => Standing::Lost,
            _ => Standing::Same,
        }
    }

    fn of(&self, host: HostId, peer: HostId) -> impl Iterator<Item = LinkId> {
        self.open.get(&(host, peer)).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HostId = HostId(0);
    const B: HostId = HostId(1);

    #[test]
    fn one_shut_end_stops_messages_but_the_other_does_not_know() {
        let mut links = Links::default();
        let link = links.open(A, B);
        assert_eq!(
            (links.between(A, B), links.between(B, A)),
            (vec![link], vec![link])
        );
        assert_eq!(links.shut(link, A), Standing::Lost);
        assert_eq!((links.count(A, B), links.count(B, A)), (0, 1));
        assert_eq!(links.shut(link, B), Standing::Lost);
        assert_eq!(links.ends(link), None);
    }

    #[test]
    fn second_connection_keeps_the_peer() {
        let mut links = Links::default();
        let (first, second) = (links.open(A, B), links.open(B, A));
        assert_eq!(links.shut(first, A), Standing::Same);
        assert_eq!(links.between(A, B), [second]);
        assert_eq!(links.shut(second, A), Standing::Lost);
        assert_eq!(links.shut(second, A), Standing::Same);
    }
}
