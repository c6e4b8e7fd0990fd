//! What waits to be said: to everybody on a link, or to one neighbour.
//!
//! ```text
//!   announcement ─► updates ─┐
//!   route request ─► dump ───┤ flush_at        a packet is written when that time has come, with
//!   requests, acks, probe ───┴─────────► all that fits; what does not fit stays for the next
//!
//!   sent ─► Unacked ─┬─ acknowledged by all ─► done
//!                    └─ due ─► updates again, until they are acknowledged or replaced
//! ```
//! Only prefixes wait, never values: what is said is what is true when the packet is written.
//! Invariant: all rooms are bounded; updates that are too many become one dump, which has no size.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesh_base::time::Moment;

use crate::babel::limits::{ANSWERS_WAITING_MAX, DUMP_BURST, UPDATES_WAITING_MAX};
use crate::babel::neighbour::NeighbourId;
use crate::babel::words::{Prefix, RouterId, Seqno};

/// An update that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// How often it was sent without an acknowledgement.
    pub tries: u8,
    /// Whether a retraction is said even to who was never told of the prefix.
    pub forced: bool,
}

/// The whole table, said in the order of prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dump {
    /// The last prefix said.
    pub after: Option<Prefix>,
    /// When it goes on.
    pub next_at: Moment,
    /// Packets until it pauses.
    pub burst: u8,
}

/// A seqno request that waits to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asking {
    /// The number wanted.
    pub seqno: Seqno,
    /// Hops that it may travel.
    pub hop_count: u8,
}

/// Everything that waits for one destination.
#[derive(Debug, Clone, Default)]
pub struct Mail {
    /// Updates, by prefix.
    pub updates: BTreeMap<Prefix, Waiting>,
    /// A dump that is under way.
    pub dump: Option<Dump>,
    /// Seqno requests.
    pub requests: BTreeMap<(Prefix, RouterId), Asking>,
    /// Whether to ask for the neighbour's whole table.
    pub table_request: bool,
    /// Prefixes to ask about.
    pub route_requests: BTreeSet<Prefix>,
    /// Acknowledgements to give.
    pub acks: BTreeSet<u16>,
    /// Whether to ask for a sign of life.
    pub probe: bool,
    /// When it is written; none while nothing waits but a dump.
    pub flush_at: Option<Moment>,
}

/// Whether there was room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// There was.
    Kept,
    /// There was not, and the updates became a dump.
    BecameDump,
    /// There was not.
    Refused,
}

impl Mail {
    /// Lets an update about a prefix wait until `at`, or shorter if something is due earlier.
    pub fn update(&mut self, prefix: Prefix, waiting: Waiting, at: Moment) -> Put {
        self.hurry(at);
        if let Some(known) = self.updates.get_mut(&prefix) {
            known.tries = known.tries.min(waiting.tries);
            known.forced |= waiting.forced;
            return Put::Kept;
        }
        if self.updates.len() == UPDATES_WAITING_MAX {
            // Retractions stay: a dump repeats only what there is.
            self.updates.retain(|_, waiting| waiting.forced);
            self.dump(at);
            if self.updates.len() == UPDATES_WAITING_MAX {
                return Put::Refused;
            }
            self.updates.insert(prefix, waiting);
            return Put::BecameDump;
        }
        self.updates.insert(prefix, waiting);
        Put::Kept
    }

    /// Begins a dump, again from the start if one is under way.
    pub fn dump(&mut self, at: Moment) {
        self.dump = Some(Dump {
            after: None,
            next_at: at,
            burst: DUMP_BURST.0,
        });
    }

    /// Lets a seqno request wait.
    pub fn request(&mut self, about: (Prefix, RouterId), asking: Asking, at: Moment) -> Put {
        let full = ANSWERS_WAITING_MAX <= self.requests.len();
        if full && !self.requests.contains_key(&about) {
            return Put::Refused;
        }
        let newest = self.requests.entry(about).or_insert(asking);
        if newest.seqno.is_before(asking.seqno) {
            *newest = asking;
        }
        self.hurry(at);
        Put::Kept
    }

    /// Lets a question about a prefix wait.
    pub fn route_request(&mut self, prefix: Prefix, at: Moment) -> Put {
        if ANSWERS_WAITING_MAX <= self.route_requests.len() {
            return Put::Refused;
        }
        self.route_requests.insert(prefix);
        self.hurry(at);
        Put::Kept
    }

    /// Lets an acknowledgement wait.
    pub fn ack(&mut self, opaque: u16, at: Moment) -> Put {
        if ANSWERS_WAITING_MAX <= self.acks.len() {
            return Put::Refused;
        }
        self.acks.insert(opaque);
        self.hurry(at);
        Put::Kept
    }

    /// Lets everything go at `at` at the latest.
    pub fn hurry(&mut self, at: Moment) {
        self.flush_at = Some(self.flush_at.map_or(at, |flush_at| flush_at.min(at)));
    }

    /// Returns when something is to be said.
    pub fn due(&self) -> Option<Moment> {
        let dump = self.dump.map(|dump| dump.next_at);
        [self.flush_at, dump].into_iter().flatten().min()
    }

    /// Returns whether nothing waits but a dump.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty()
            && self.requests.is_empty()
            && self.acks.is_empty()
            && self.route_requests.is_empty()
            && !self.table_request
            && !self.probe
    }
}

/// One update of a packet that waits for its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// About which prefix.
    pub prefix: Prefix,
    /// The announcement's number, so that an acknowledgement of an older one means nothing.
    pub version: u32,
    /// Whether it was a retraction.
    pub retraction: bool,
    /// How often it was sent before.
    pub tries: u8,
    /// Whether something older was on its way and may arrive behind it: an acknowledgement does not
    /// tell that the neighbour has no route of ours.
    pub doubtful: bool,
}

/// A packet that waits for its acknowledgement, or to be said once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unacked {
    /// What the acknowledgement will say; none if nobody was asked for one.
    pub opaque: Option<u16>,
    /// To whom it went, if not to everybody on the link.
    pub to: Option<NeighbourId>,
    /// Who has not acknowledged it.
    pub awaiting: BTreeSet<NeighbourId>,
    /// What it said.
    pub said: Vec<Said>,
    /// Whether it asked for the neighbour's whole table.
    pub table_request: bool,
    /// When it is said again.
    pub due: Moment,
}

/// The packets of one link that wait; the oldest first.
pub type UnackedQueue = VecDeque<Unacked>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn prefix(number: usize) -> Prefix {
        let number = u128::try_from(number).unwrap();
        Prefix::new(Ipv6Addr::from(number << 64), 64).unwrap()
    }

    #[test]
    fn updates_that_are_too_many_become_a_dump_and_retractions_stay() {
        let mut mail = Mail::default();
        let forced = Waiting {
            tries: 0,
            forced: true,
        };
        assert_eq!(mail.update(prefix(0), forced, Moment(5)), Put::Kept);
        for number in 1..UPDATES_WAITING_MAX {
            mail.update(prefix(number), Waiting::default(), Moment(5));
        }
        assert_eq!(mail.dump, None);
        let put = mail.update(prefix(5000), Waiting::default(), Moment(5));
        assert_eq!(put, Put::BecameDump);
        assert_eq!(mail.updates.len(), 2);
        assert!(mail.updates.contains_key(&prefix(0)));
        assert_eq!(mail.due(), Some(Moment(5)));
    }

    #[test]
    fn answers_are_bounded() {
        let mut mail = Mail::default();
        for opaque in 0..300 {
            mail.ack(opaque, Moment(0));
        }
        assert_eq!(mail.acks.len(), ANSWERS_WAITING_MAX);
        let id = RouterId::from_bytes([1; 8]).unwrap();
        let asking = Asking {
            seqno: Seqno(1),
            hop_count: 64,
        };
        let puts: Vec<_> = (0..300)
            .map(|number| mail.request((prefix(number), id), asking, Moment(0)))
            .collect();
        let refused = puts.iter().filter(|put| **put == Put::Refused).count();
        assert_eq!(refused, 300 - ANSWERS_WAITING_MAX);
    }

    #[test]
    fn newest_number_is_asked_for() {
        let mut mail = Mail::default();
        let id = RouterId::from_bytes([1; 8]).unwrap();
        for number in [4, 6, 5] {
            let asking = Asking {
                seqno: Seqno(number),
                hop_count: 64,
            };
            mail.request((prefix(1), id), asking, Moment(0));
        }
        let asked: Vec<_> = mail.requests.values().map(|asking| asking.seqno).collect();
        assert_eq!(asked, [Seqno(6)]);
    }
}
