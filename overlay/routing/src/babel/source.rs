//! Feasibility distances of one prefix: the reason why there is never a loop (RFC 8966, §2.4,
//! §3.5.1).
//!
//! For each source (a prefix and its origin) the best distance that we ever announced is kept. A
//! route is feasible only if its neighbour is strictly nearer than that: then it cannot go through
//! us. A distance is better with a newer sequence number, or with the same and a smaller metric.
//! Invariant: a source that a route names, or that was told to anybody who may still use it, is
//! not forgotten.

use mesh_base::time::Moment;

use crate::babel::limits::{SOURCE_KEPT, SOURCES_PER_PREFIX_MAX};
use crate::babel::words::{Metric, RouterId, Seqno};

/// How far an origin is, as somebody announced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distance {
    /// The origin's number.
    pub seqno: Seqno,
    /// Of the path.
    pub metric: Metric,
}

impl Distance {
    /// Returns whether this is strictly better than another.
    pub fn is_better(self, other: Self) -> bool {
        other.seqno.is_before(self.seqno)
            || (self.seqno == other.seqno && self.metric < other.metric)
    }
}

/// A source and its feasibility distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The origin.
    pub router_id: RouterId,
    /// The best that we announced.
    pub distance: Distance,
    /// When we last announced it.
    pub told_at: Moment,
}

/// The sources of one prefix.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Returns whether a route may be used: its neighbour is nearer than we ever were.
    pub fn is_feasible(&self, router_id: RouterId, distance: Distance) -> bool {
        self.of(router_id)
            .is_none_or(|source| distance.is_better(source.distance))
    }

    /// Returns whether the distance of an origin could be kept.
    pub fn admits(&self, router_id: RouterId) -> bool {
        self.0.len() < SOURCES_PER_PREFIX_MAX || self.of(router_id).is_some()
    }

    /// Notes what is about to be announced (§3.7.3). Must come before the bytes leave.
    pub fn note(&mut self, router_id: RouterId, distance: Distance, now: Moment) {
        let known = self.0.iter_mut().find(|s| s.router_id == router_id);
        let Some(source) = known else {
            self.0.push(Source {
                router_id,
                distance,
                told_at: now,
            });
            return;
        };
        source.told_at = now;
        if distance.is_better(source.distance) {
            source.distance = distance;
        }
    }

    /// Notes that a retraction is about to be announced: what was told before lives on for a while
    /// with those who do not get it.
    pub fn handle_retraction(&mut self, now: Moment) {
        for source in &mut self.0 {
            source.told_at = now;
        }
    }

    /// Returns the number to ask an origin for, so that any route of it becomes feasible.
    pub fn wanted(&self, router_id: RouterId) -> Option<Seqno> {
        self.of(router_id)
            .map(|source| source.distance.seqno.next())
    }

    /// Returns the least number that makes a route of such a metric feasible: the one that is kept
    /// suffices if the route is shorter. Saves the origin a new number.
    pub fn needed(&self, router_id: RouterId, metric: Metric) -> Option<Seqno> {
        let Distance {
            seqno,
            metric: best,
        } = self.of(router_id)?.distance;
        Some(if metric < best { seqno } else { seqno.next() })
    }

    /// Returns what is kept of an origin.
    pub fn of(&self, router_id: RouterId) -> Option<&Source> {
        self.0.iter().find(|source| source.router_id == router_id)
    }

    /// Forgets what was not told for a while and is not in use (§3.2.5). Returns how much.
    pub fn forget(&mut self, in_use: impl Fn(RouterId) -> bool, now: Moment) -> usize {
        let before = self.0.len();
        self.0
            .retain(|s| in_use(s.router_id) || now < s.told_at + SOURCE_KEPT);
        let forgotten = before - self.0.len();
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        forgotten
    }

    /// Returns every source.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(last: u8) -> RouterId {
        RouterId::from_bytes([0, 0, 0, 0, 0, 0, 0, last]).unwrap()
    }

    fn far(seqno: u16, metric: u16) -> Distance {
        Distance {
            seqno: Seqno(seqno),
            metric: Metric(metric),
        }
    }

    #[track_caller]
    fn check(told: &[(u16, u16)], heard: (u16, u16), expect: bool) {
        let mut sources = Sources::default();
        for (seqno, metric) in told {
            sources.note(id(1), far(*seqno, *metric), Moment(0));
        }
        let feasible = sources.is_feasible(id(1), far(heard.0, heard.1));
        assert_eq!(feasible, expect, "told {told:?}, heard {heard:?}");
    }

    #[test]
    fn only_what_is_strictly_better_than_all_that_was_told_is_feasible() {
        check(&[], (9, 0xfffe), true);
        check(&[(5, 100)], (5, 99), true);
        check(&[(5, 100)], (5, 100), false);
        check(&[(5, 100)], (6, 9999), true);
        check(&[(5, 100)], (4, 0), false);
        check(&[(5, 100), (5, 300)], (5, 200), false);
        check(&[(5, 100), (6, 300)], (5, 50), false);
        check(&[(5, 100), (6, 300)], (6, 299), true);
        check(&[(0xffff, 100)], (0, 900), true);
    }

    #[test]
    fn shorter_route_needs_the_number_we_have_and_a_longer_one_the_next() {
        let mut sources = Sources::default();
        sources.note(id(1), far(5, 100), Moment(0));
        assert_eq!(sources.needed(id(1), Metric(99)), Some(Seqno(5)));
        assert_eq!(sources.needed(id(1), Metric(100)), Some(Seqno(6)));
        assert_eq!(sources.needed(id(2), Metric(1)), None);
    }

    #[test]
    fn sources_of_one_prefix_are_bounded() {
        let mut sources = Sources::default();
        for last in 1..=8 {
            assert!(sources.admits(id(last)));
            sources.note(id(last), far(0, 1), Moment(0));
        }
        assert!(!sources.admits(id(9)));
        assert!(sources.admits(id(8)));
    }

    #[test]
    fn source_in_use_is_kept_and_another_forgotten_after_three_minutes() {
        let mut sources = Sources::default();
        sources.note(id(1), far(0, 1), Moment(0));
        sources.note(id(2), far(0, 1), Moment(0));
        sources.forget(|router_id| router_id == id(1), Moment(179_999_999));
        assert_eq!(sources.iter().count(), 2);
        sources.forget(|router_id| router_id == id(1), Moment(180_000_000));
        assert_eq!(sources.wanted(id(1)), Some(Seqno(1)));
        assert_eq!(sources.wanted(id(2)), None);
    }
}
