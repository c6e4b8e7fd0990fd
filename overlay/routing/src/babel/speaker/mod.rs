//! The speaker: all of RFC 8966 for IPv6, and RFC 9616, as one machine without clock and sockets.
//!
//! ```text
//!  handle_packet ─► hear ──┬─► learn ──► decide ──► announcements ──► speak ─► poll_transmit
//!  handle_link_* ──────────┤              │  ▲
//!  handle_traffic          │              ▼  │
//!  handle_timeout ─► tick ─┘             ask ┘                                poll_event
//! ```
//! | room | idea |
//! |---|---|
//! | `hear` | packets, hellos, IHUs, acknowledgements |
//! | `adjacency` | who is a neighbour, and at which cost |
//! | `learn` | updates: what neighbours can reach |
//! | `decide` | what is selected, who is told, what is held |
//! | `ask` | route and seqno requests |
//! | `speak`, `page` | what waits becomes packets |
//! | `saying` | what is true of a prefix over a link |
//! | `tick` | what time alone changes |
//!
//! The caller drains [`Speaker::poll_transmit`] and [`Speaker::poll_event`] after each `handle_*`
//! and each command, then asks [`Speaker::poll_timeout`].
//! Invariant: at every moment the selected next hops of all speakers of a mesh make no loop,
//! whatever packets are lost, late or repeated, if nobody lies.

mod adjacency;
mod ask;
mod decide;
mod hear;
mod learn;
mod page;
mod saying;
mod speak;
mod tick;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;

use mesh_base::time::Moment;

use crate::babel::count::{Count, Counters};
use crate::babel::event::{Event, NextHop, Parting, Reach};
use crate::babel::filter::Lawful;
use crate::babel::limits::{EVENTS_MAX, LINKS_MAX, OWN_MAX, PENALTIES_MAX, SWEEP_STEP};
use crate::babel::link::{Beacon, Link, LinkConfig, LinkId};
use crate::babel::mail::{Mail, UnackedQueue};
use crate::babel::neighbour::{Neighbour, NeighbourId};
use crate::babel::pace::{self, Bucket};
use crate::babel::request::Requests;
use crate::babel::route::{Entry, Selected, Table};
use crate::babel::wire::ignored::IgnoredCounts;
use crate::babel::words::{Metric, Prefix, RouterId, Seqno};
use mesh_base::chance::Chance;

/// Who a speaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The name of its routes' origin; a node's /64.
    pub router_id: RouterId,
    /// Above the one of its life before, if that is known.
    pub seqno: Seqno,
    /// For jitter and numbers that need not be secret.
    pub seed: u64,
}

/// A Babel speaker.
///
/// The caller drains `poll_*` after each `handle_*`.
#[derive(Debug, Clone)]
pub struct Speaker {
    router_id: RouterId,
    seqno: Seqno,
    started_at: Moment,
    recoveries: u8,
    growth: Bucket,
    chance: Chance,
    links: BTreeMap<LinkId, Link>,
    neighbours: BTreeMap<NeighbourId, Neighbour>,
    next_neighbour: u32,
    table: Table,
    own: BTreeMap<Prefix, Metric>,
    penalties: BTreeMap<(Prefix, NeighbourId), Metric>,
    lawful: Lawful,
    /// Whether leaves find nobody through us.
    stranded: bool,
    /// Prefixes refused for want of their origin's certificate, to ask for when it comes.
    missed: BTreeSet<(Prefix, RouterId)>,
    requests: Requests,
    /// When something better than what is selected takes over.
    challenges: BTreeSet<(Moment, Prefix)>,
    /// When to look whether a better route is still not feasible; at most one for each prefix.
    wishes: BTreeSet<(Moment, Prefix)>,
    sweep_at: Moment,
    changed: BTreeSet<Prefix>,
    events: VecDeque<Event>,
    counters: Counters,
    ignored: IgnoredCounts,
}

impl Speaker {
    /// Returns a speaker without links.
    pub fn new(config: Config, now: Moment) -> Self {
        Self {
            router_id: config.router_id,
            seqno: config.seqno,
            started_at: now,
            recoveries: 0,
            growth: Bucket::new(pace::GROWTH, now),
            chance: Chance::new(config.seed),
            links: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            next_neighbour: 0,
            table: Table::default(),
            own: BTreeMap::new(),
            penalties: BTreeMap::new(),
            lawful: Lawful::default(),
            stranded: false,
            missed: BTreeSet::new(),
            requests: Requests::default(),
            challenges: BTreeSet::new(),
            wishes: BTreeSet::new(),
            sweep_at: now + SWEEP_STEP,
            changed: BTreeSet::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            ignored: IgnoredCounts::default(),
        }
    }

    /// Notes that a link is up; one that was up under this name is down first. Returns false if
    /// there are too many.
    pub fn handle_link_up(&mut self, id: LinkId, config: LinkConfig, now: Moment) -> bool {
        self.handle_link_down(id, now);
        let taken = self.links.values().fold(0, |bits, link| bits | link.bit());
        let slot = (!taken).trailing_zeros();
        if LINKS_MAX <= self.links.len() {
            return false;
        }
        // A number of our life before would look as if hellos had been missed.
        let hello_seqno = self.seqno_by_chance();
        let dump_at = now + self.early(config.update_interval);
        let link = Link {
            slot,
            hello_seqno,
            hello_at: now,
            hellos_until_ihu: 0,
            dump_at,
            beacon: Beacon::default(),
            mail: Mail::default(),
            unacked: UnackedQueue::new(),
            resend_at: None,
            neighbours: BTreeSet::new(),
            config,
        };
        self.links.insert(id, link);
        self.handle_timeout(now);
        true
    }

    /// Notes that a link is down: its routes are lost at once.
    pub fn handle_link_down(&mut self, id: LinkId, now: Moment) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let (bit, neighbours) = (link.bit(), link.neighbours.clone());
        self.forget_told(bit, now);
        for neighbour in neighbours {
            self.drop_neighbour(neighbour, Parting::LinkDown, now);
        }
        self.links.remove(&id);
    }

    /// Notes that something authentic came over a tunnel from its neighbour's own underlay address.
    pub fn handle_traffic(&mut self, id: LinkId, now: Moment) {
        let Some(link) = self.links.get(&id).filter(|link| link.is_tunnel()) else {
            return;
        };
        for neighbour in &link.neighbours {
            if let Some(neighbour) = self.neighbours.get_mut(neighbour) {
                neighbour.handle_life(now);
            }
        }
    }

    /// Announces a prefix of ours. Returns false if there are too many.
    pub fn announce(&mut self, prefix: Prefix, metric: Metric, now: Moment) -> bool {
        if OWN_MAX <= self.own.len() && !self.own.contains_key(&prefix) {
            return false;
        }
        let before = self.own.insert(prefix, metric);
        if before.is_some_and(|before| before < metric) {
            // With the old number a longer route would not be feasible for anybody.
            self.seqno = self.seqno.next();
        }
        self.table.entry(prefix);
        self.reconsider(prefix, now);
        true
    }

    /// Makes a neighbour's route to a prefix longer, because packets do not arrive; zero ends it.
    /// Returns false if there are too many.
    pub fn set_penalty(
        &mut self,
        prefix: Prefix,
        neighbour: NeighbourId,
        penalty: Metric,
        now: Moment,
    ) -> bool {
        let key = (prefix, neighbour);
        if penalty == Metric::ZERO {
            self.penalties.remove(&key);
        } else {
            let full = PENALTIES_MAX <= self.penalties.len();
            if (full && !self.penalties.contains_key(&key))
                || !self.neighbours.contains_key(&neighbour)
            {
                return false;
            }
            self.penalties.insert(key, penalty);
        }
        self.reconsider(prefix, now);
        true
    }

    /// Replaces who may announce what. Routes that are no longer lawful are lost at once; those
    /// that were refused before are asked for.
    pub fn set_lawful(&mut self, lawful: Lawful, now: Moment) {
        self.lawful = lawful;
        let links = &self.links;
        let neighbours = &self.neighbours;
        let lawful = &self.lawful;
        let mut lost = Vec::new();
        for (prefix, entry) in self.table.iter_mut() {
            let before = entry.routes.len();
            entry.routes.retain(|route| {
                let link = neighbours.get(&route.neighbour).map(|n| n.link);
                let link = link.and_then(|id| links.get(&id));
                link.is_some_and(|link| {
                    let filter = &link.config.filter;
                    filter.judge(prefix, route.router_id, lawful).is_ok()
                })
            });
            if entry.routes.len() < before {
                lost.push(prefix);
            }
        }
        for prefix in lost {
            self.reconsider(prefix, now);
        }
        self.ask_for_missed(now);
    }

    /// Returns the next event, the changes of routes first.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(prefix) = self.changed.pop_first() {
            let reach = self.reach(prefix);
            return Some(Event::RouteChanged { prefix, reach });
        }
        self.events.pop_front()
    }

    /// Returns when [`Speaker::handle_timeout`] or [`Speaker::poll_transmit`] has something to do.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.next_timeout()
    }

    /// Returns our own number, to be kept for the next life.
    pub fn seqno(&self) -> Seqno {
        self.seqno
    }

    /// Returns our own name.
    pub fn router_id(&self) -> RouterId {
        self.router_id
    }

    /// Returns what was done and refused.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns why TLVs were ignored.
    pub fn ignored(&self) -> &IgnoredCounts {
        &self.ignored
    }

    /// Returns the way to a prefix.
    pub fn reach(&self, prefix: Prefix) -> Reach {
        let Some(entry) = self.table.get(prefix) else {
            return Reach::Gone;
        };
        if let Some(hop) = self.next_hop(prefix, entry) {
            return Reach::Via(hop);
        }
        if entry.hold.is_some() {
            return Reach::Held;
        }
        Reach::Gone
    }

    /// Returns whether packets of others may come in over a link. A neighbour that has not begun
    /// anew with us may still send by what our life before told it, and we no longer know what that
    /// was.
    pub fn takes_transit(&self, id: LinkId) -> bool {
        let Some(link) = self.links.get(&id) else {
            return false;
        };
        let mut neighbours = link.neighbours.iter();
        neighbours.any(|id| self.neighbours.get(id).is_some_and(|n| n.greeted))
    }

    /// Returns the neighbour at the other end of a tunnel.
    pub fn neighbour_over(&self, link: LinkId) -> Option<NeighbourId> {
        self.links.get(&link)?.neighbours.first().copied()
    }

    /// Returns the way to an address by the longest prefix, with that prefix. None if the address
    /// is ours or there is no way.
    pub fn lookup(&self, address: Ipv6Addr) -> Option<(Prefix, Reach)> {
        let in_use = |entry: &Entry| entry.selected != Selected::None || entry.hold.is_some();
        let (prefix, entry) = self.table.longest(address, in_use)?;
        if entry.selected == Selected::Own {
            return None;
        }
        Some((prefix, self.reach(prefix)))
    }

    /// Returns the table, for who explains it.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Returns a neighbour, for who explains it.
    pub(super) fn neighbour(&self, id: NeighbourId) -> Option<&Neighbour> {
        self.neighbours.get(&id)
    }

    /// Returns every neighbour, for who explains them.
    pub(super) fn all_neighbours(&self) -> impl Iterator<Item = (NeighbourId, &Neighbour)> {
        self.neighbours
            .iter()
            .map(|(id, neighbour)| (*id, neighbour))
    }

    /// Returns how many seqno requests wait for an answer.
    pub(super) fn requests_len(&self) -> usize {
        self.requests.len()
    }

    /// Returns how many penalties there are.
    pub(super) fn penalties_len(&self) -> usize {
        self.penalties.len()
    }

    /// Returns the penalty of a neighbour's route to a prefix.
    pub(super) fn penalty(&self, prefix: Prefix, neighbour: NeighbourId) -> Metric {
        let penalty = self.penalties.get(&(prefix, neighbour));
        penalty.copied().unwrap_or(Metric::ZERO)
    }

    fn next_hop(&self, prefix: Prefix, entry: &Entry) -> Option<NextHop> {
        let route = entry.selected_route()?;
        let neighbour = self.neighbours.get(&route.neighbour)?;
        let address = route.next_hop.as_deref().copied();
        Some(NextHop {
            link: neighbour.link,
            neighbour: route.neighbour,
            address: address.unwrap_or(neighbour.address),
            metric: route
                .claimed
                .metric
                .plus(self.cost_to(prefix, route.neighbour)),
            router_id: route.router_id,
        })
    }

    /// Returns what the way to a neighbour costs for a prefix.
    fn cost_to(&self, prefix: Prefix, neighbour: NeighbourId) -> Metric {
        cost_to(&self.neighbours, &self.penalties, prefix, neighbour)
    }

    /// Returns where things for a neighbour wait. On a tunnel that is everything.
    fn mail_of(&mut self, neighbour: NeighbourId) -> Option<&mut Mail> {
        self.neighbours.get_mut(&neighbour).map(|n| &mut n.mail)
    }

    fn event(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn count(&mut self, what: Count) {
        self.counters.add(what);
    }

    fn seqno_by_chance(&mut self) -> Seqno {
        // Proof: a remainder below 2¹⁶.
        Seqno(self.chance.below(1 << 16) as u16)
    }

    /// Returns a pause that keeps the promise of an interval: its last quarter, by chance.
    fn early(&mut self, interval: std::time::Duration) -> std::time::Duration {
        self.chance.between(interval * 3 / 4, interval)
    }
}

/// Returns what the way to a neighbour costs for a prefix; apart, so that the table may be
/// borrowed.
fn cost_to(
    neighbours: &BTreeMap<NeighbourId, Neighbour>,
    penalties: &BTreeMap<(Prefix, NeighbourId), Metric>,
    prefix: Prefix,
    neighbour: NeighbourId,
) -> Metric {
    let cost = neighbours
        .get(&neighbour)
        .map_or(Metric::INFINITY, |neighbour| neighbour.cost);
    match penalties.get(&(prefix, neighbour)) {
        Some(penalty) => cost.plus(*penalty),
        None => cost,
    }
}
