//! The route table: for each prefix its routes, which is selected, and who was told.
//!
//! ```text
//!                 a feasible route comes
//!   ┌─► None ─────────────────────────────► Via(neighbour) ◄──┐ another is better (select)
//!   │    ▲  announce                             │   └────────┘
//!   │    └───────────► Own                       │ the last feasible route is lost
//!   │                                            ▼
//!   └── acknowledged by all, or in time ─── None, held: packets are dropped, for a covering
//!                                           route of another could lead back to us (§3.5.4)
//! ```
//! Routes of a neighbour are stored even if they are not feasible: they are whom to ask.
//! Invariant: a selected route is in the table, and its distance was feasible when it was stored.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::ops::Bound;

use mesh_base::time::Moment;

use crate::babel::neighbour::NeighbourId;
use crate::babel::source::{Distance, Sources};
use crate::babel::words::{Prefix, RouterId};

/// A way to a prefix through a neighbour.
#[derive(Debug, Clone)]
pub struct Route {
    /// Through whom.
    pub neighbour: NeighbourId,
    /// Who originates it.
    pub router_id: RouterId,
    /// How far the neighbour is from the origin, when it was last feasible or not selected.
    pub distance: Distance,
    /// What the neighbour says now: more than that, if the selected route grew longer. The old
    /// distance then carries the proof that there is no loop, until a newer number comes.
    pub claimed: Distance,
    /// Where to send packets, if not to the neighbour's own address.
    pub next_hop: Option<Box<Ipv6Addr>>,
    /// When it is forgotten unless it is heard again.
    pub expires: Moment,
}

impl Route {
    /// Returns whether the neighbour says that it grew longer than what is proven.
    pub fn is_stale(&self) -> bool {
        self.claimed != self.distance
    }
}

/// Which way is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Selected {
    /// There is none.
    #[default]
    None,
    /// It is ours.
    Own,
    /// Through a neighbour.
    Via(NeighbourId),
}

/// Why packets to a prefix without route are dropped rather than sent along a covering one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Then all who were told have forgotten it.
    pub until: Moment,
    /// Links where the retraction is not acknowledged.
    pub awaiting: u64,
}

/// What was last announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// The origin.
    pub router_id: RouterId,
    /// How far.
    pub distance: Distance,
}

/// Everything about one prefix.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// One for each neighbour that announces it.
    pub routes: Vec<Route>,
    /// Feasibility distances.
    pub sources: Sources,
    /// Which way is used.
    pub selected: Selected,
    /// Set after the last route was lost.
    pub hold: Option<Hold>,
    /// Links where it was announced and not retracted since.
    pub told: u64,
    /// Counts the announcements.
    pub version: u32,
    /// The last announcement; none if it was a retraction.
    pub announced: Option<Announced>,
    /// When a better route takes over, if it stays better.
    pub challenged: Option<Moment>,
    /// Before this nobody is asked to make a better route feasible.
    pub ask_again: Moment,
}

impl Entry {
    /// Returns the route through a neighbour.
    pub fn route(&self, neighbour: NeighbourId) -> Option<&Route> {
        self.routes.iter().find(|r| r.neighbour == neighbour)
    }

    /// Returns the route through a neighbour.
    pub fn route_mut(&mut self, neighbour: NeighbourId) -> Option<&mut Route> {
        self.routes.iter_mut().find(|r| r.neighbour == neighbour)
    }

    /// Returns the selected route.
    pub fn selected_route(&self) -> Option<&Route> {
        match self.selected {
            Selected::Via(neighbour) => self.route(neighbour),
            Selected::Own | Selected::None => None,
        }
    }

    /// Returns whether a route may be used.
    pub fn is_feasible(&self, route: &Route) -> bool {
        self.sources.is_feasible(route.router_id, route.distance)
    }

    /// Forgets old proofs of routes that are not selected: theirs is what their neighbours say.
    pub fn drop_old_proofs(&mut self) {
        let selected = self.selected;
        for route in &mut self.routes {
            if Selected::Via(route.neighbour) != selected {
                route.distance = route.claimed;
            }
        }
    }

    /// Forgets feasibility distances that no route names and that nobody may still rely on
    /// (§3.2.5). A route that is not feasible keeps its source: it may be a ghost that leads back
    /// to us, and would become feasible. Returns how many.
    pub fn forget_sources(&mut self, now: Moment) -> usize {
        if self.hold.is_some() {
            return 0;
        }
        let routes = &self.routes;
        let is_named = |id| routes.iter().any(|route| route.router_id == id);
        self.sources.forget(is_named, now)
    }

    /// Takes a route out. Returns whether there was one.
    pub fn remove(&mut self, neighbour: NeighbourId) -> bool {
        let before = self.routes.len();
        self.routes.retain(|route| route.neighbour != neighbour);
        self.routes.len() < before
    }

    /// Returns whether nothing about the prefix needs to be remembered.
    pub fn is_idle(&self) -> bool {
        self.routes.is_empty()
            && self.sources.is_empty()
            && self.selected == Selected::None
            && self.hold.is_none()
            && self.told == 0
    }
}

/// The entries of all prefixes.
#[derive(Debug, Clone, Default)]
pub struct Table {
    entries: BTreeMap<Prefix, Entry>,
    /// How many entries there are of each length, for lookups.
    lengths: BTreeMap<u8, usize>,
}

impl Table {
    /// Returns an entry.
    pub fn get(&self, prefix: Prefix) -> Option<&Entry> {
        self.entries.get(&prefix)
    }

    /// Returns an entry.
    pub fn get_mut(&mut self, prefix: Prefix) -> Option<&mut Entry> {
        self.entries.get_mut(&prefix)
    }

    /// Returns an entry, new if there was none.
    pub fn entry(&mut self, prefix: Prefix) -> &mut Entry {
        let lengths = &mut self.lengths;
        self.entries.entry(prefix).or_insert_with(|| {
            *lengths.entry(prefix.bits()).or_default() += 1;
            Entry::default()
        })
    }

    /// Forgets entries that are idle.
    pub fn forget_idle(&mut self) {
        let lengths = &mut self.lengths;
        self.entries.retain(|prefix, entry| {
            let kept = !entry.is_idle();
            if !kept && let Some(count) = lengths.get_mut(&prefix.bits()) {
                *count -= 1;
            }
            kept
        });
        lengths.retain(|_, count| *count != 0);
    }

    /// Returns the longest prefix that contains an address and satisfies `fits`.
    pub fn longest(
        &self,
        address: Ipv6Addr,
        fits: impl Fn(&Entry) -> bool,
    ) -> Option<(Prefix, &Entry)> {
        self.lengths.keys().rev().find_map(|bits| {
            let prefix = Prefix::new(address, *bits)?;
            let entry = self.entries.get(&prefix)?;
            fits(entry).then_some((prefix, entry))
        })
    }

    /// Returns entries in order, those behind `after`.
    pub fn after(&self, after: Option<Prefix>) -> impl Iterator<Item = (Prefix, &Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.entries.range((from, Bound::Unbounded));
        range.map(|(prefix, entry)| (*prefix, entry))
    }

    /// Returns every entry.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Prefix, &mut Entry)> {
        self.entries
            .iter_mut()
            .map(|(prefix, entry)| (*prefix, entry))
    }

    /// Returns the prefixes with a route through a neighbour.
    pub fn through(&self, neighbour: NeighbourId) -> Vec<Prefix> {
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| entry.route(neighbour).is_some())
            .map(|(prefix, _)| *prefix)
            .collect()
    }

    /// Returns how many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, bits) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap()
    }

    #[test]
    fn longest_prefix_that_fits_is_found() {
        let mut table = Table::default();
        for text in ["fd6d::/16", "fd6d:1::/64", "::/0"] {
            table.entry(prefix(text)).told = 1;
        }
        let find = |table: &Table, address: &str| {
            let found = table.longest(address.parse().unwrap(), |entry| entry.told == 1);
            found.map(|(prefix, _)| prefix)
        };
        assert_eq!(find(&table, "fd6d:1::5"), Some(prefix("fd6d:1::/64")));
        assert_eq!(find(&table, "fd6d:2::5"), Some(prefix("fd6d::/16")));
        assert_eq!(find(&table, "2001:db8::"), Some(prefix("::/0")));
        table.entry(prefix("::/0")).told = 0;
        table.forget_idle();
        assert_eq!(find(&table, "2001:db8::"), None);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn unfeasible_route_keeps_its_source_until_it_is_gone() {
        let id = RouterId::from_bytes([1; 8]).unwrap();
        let neighbour = NeighbourId(3);
        let far = |metric| Distance {
            seqno: crate::babel::words::Seqno(1),
            metric: crate::babel::words::Metric(metric),
        };
        let mut entry = Entry::default();
        entry.sources.note(id, far(100), Moment(0));
        entry.routes.push(Route {
            neighbour,
            router_id: id,
            distance: far(200),
            claimed: far(200),
            next_hop: None,
            expires: Moment(u64::MAX),
        });
        let late = Moment(0) + crate::babel::limits::SOURCE_KEPT;
        assert_eq!(entry.forget_sources(late), 0);
        assert!(!entry.routes.iter().any(|route| entry.is_feasible(route)));
        entry.remove(neighbour);
        assert_eq!(entry.forget_sources(late), 1);
    }

    #[test]
    fn route_is_small() {
        // Ten thousand prefixes from twenty neighbours must stay below ten megabytes.
        assert!(size_of::<Route>() <= 48);
    }
}
