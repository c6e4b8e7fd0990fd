//! Updates: what neighbours say that they can reach (RFC 8966, §3.5).
//!
//! ```text
//!   ours? ── echo, alarm           retraction ─► the route is gone
//!   lawful for the link? ── refused and counted
//!   feasible ──────────────────────────────────► stored
//!   not feasible, the selected route grew ─────► old proof kept, length noted, number asked for
//!   not feasible otherwise ────────────────────► stored, not selectable
//! ```

use std::net::Ipv6Addr;

use mesh_base::time::Moment;

use super::Speaker;
use super::hear::Letter;
use crate::babel::count::Count;
use crate::babel::event::{Alarm, Event};
use crate::babel::filter::Disbelief;
use crate::babel::limits::{
    EXPIRY_HALVES, PREFIXES_MAX, RECOVERIES_MAX, RECOVERY, ROUTES_PER_PREFIX_MAX, SWEEP_STEP,
    UPDATES_WAITING_MAX,
};
use crate::babel::link::duration;
use crate::babel::neighbour::NeighbourId;
use crate::babel::route::{Entry, Route, Selected};
use crate::babel::source::Distance;
use crate::babel::wire::tlv::{Centis, Tlv};
use crate::babel::words::{Prefix, RouterId, Seqno};

/// An announcement with all that it must have.
#[derive(Debug, Clone, Copy)]
struct News {
    prefix: Prefix,
    router_id: RouterId,
    distance: Distance,
    /// None for the neighbour's own address.
    next_hop: Option<Ipv6Addr>,
    interval: Centis,
}

impl Speaker {
    /// Takes an update.
    pub(super) fn handle_update(
        &mut self,
        letter: &Letter,
        from: NeighbourId,
        update: Tlv,
        now: Moment,
    ) {
        let Tlv::Update {
            prefix,
            router_id,
            next_hop,
            interval,
            seqno,
            metric,
        } = update
        else {
            return;
        };
        self.count(Count::UpdateHeard);
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.table_at = None;
        }
        if !metric.is_finite() {
            self.handle_retraction(from, prefix, now);
            return;
        }
        let (Some(prefix), Some(router_id)) = (prefix, router_id) else {
            return;
        };
        let news = News {
            prefix,
            router_id,
            distance: Distance { seqno, metric },
            next_hop: (next_hop != letter.source).then_some(next_hop),
            interval,
        };
        if self.is_welcome(letter, from, &news, now) {
            self.learn(from, &news, now);
        }
    }

    fn handle_retraction(&mut self, from: NeighbourId, prefix: Option<Prefix>, now: Moment) {
        let about = match prefix {
            Some(prefix) => vec![prefix],
            None => self.table.through(from),
        };
        for prefix in about {
            let entry = self.table.get_mut(prefix);
            if entry.is_some_and(|entry| entry.remove(from)) {
                self.reconsider(prefix, now);
            }
        }
    }

    /// Judges whether an announcement may be believed at all.
    fn is_welcome(&mut self, letter: &Letter, from: NeighbourId, news: &News, now: Moment) -> bool {
        if news.router_id == self.router_id {
            self.count(Count::Echo);
            if self.own.contains_key(&news.prefix) {
                self.recover(news.distance.seqno, now);
            }
            return false;
        }
        let Some(link) = self.links.get(&letter.link) else {
            return false;
        };
        let filter = &link.config.filter;
        if filter.is_native() && self.own.contains_key(&news.prefix) {
            self.count(Count::SecondClaimant);
            self.event(Event::Alarm(Alarm::SecondClaimant {
                prefix: news.prefix,
                router_id: news.router_id,
                neighbour: from,
            }));
            return false;
        }
        let judged = filter.judge(news.prefix, news.router_id, &self.lawful);
        match judged {
            Ok(()) => return true,
            Err(Disbelief::Filtered) => self.count(Count::Filtered),
            Err(Disbelief::Forged) => self.count(Count::Forged),
            Err(Disbelief::Uncertified) => {
                self.count(Count::Uncertified);
                if self.missed.len() < UPDATES_WAITING_MAX {
                    self.missed.insert((news.prefix, news.router_id));
                }
            }
        }
        // What was believed before is not what the neighbour says now.
        self.handle_retraction(from, Some(news.prefix), now);
        false
    }

    /// Learns our own number from what an earlier life of ours announced. A speaker that lost its
    /// number would else be unfeasible for everybody until they forget it.
    pub(super) fn recover(&mut self, seen: Seqno, now: Moment) -> bool {
        let early = now.since(self.started_at) < RECOVERY;
        if !self.seqno.is_before(seen) || !early || RECOVERIES_MAX <= self.recoveries {
            return false;
        }
        self.recoveries += 1;
        self.seqno = seen.next();
        self.count(Count::SeqnoRecovered);
        for prefix in self.own.keys().copied().collect::<Vec<_>>() {
            self.tell_all(prefix, now);
        }
        true
    }

    /// Stores an announcement (§3.5.3).
    fn learn(&mut self, from: NeighbourId, news: &News, now: Moment) {
        let expires = now + duration(news.interval) * EXPIRY_HALVES / 2;
        let known = self.table.get(news.prefix);
        let Some(entry) = known.filter(|entry| entry.route(from).is_some()) else {
            self.learn_new(from, news, expires, now);
            return;
        };
        let feasible = entry.sources.is_feasible(news.router_id, news.distance);
        if !feasible {
            self.count(Count::Unfeasible);
        }
        let Some(entry) = self.table.get(news.prefix) else {
            return;
        };
        let Some(route) = entry.route(from) else {
            return;
        };
        if !is_change(route, news) {
            // What lives on an old proof is not made younger by what it does not prove.
            if feasible || entry.selected != Selected::Via(from) {
                self.prolong(from, news, expires);
            }
            if !feasible && entry_needs(self.table.get(news.prefix)) {
                self.reconsider(news.prefix, now);
            }
            return;
        }
        if !self.may_change(from, now) {
            return;
        }
        self.sweep_at = self.sweep_at.min(expires.max(now + SWEEP_STEP));
        let Some(entry) = self.table.get_mut(news.prefix) else {
            return;
        };
        let selected = entry.selected == Selected::Via(from);
        let Some(route) = entry.route_mut(from) else {
            return;
        };
        if selected && !feasible && route.router_id == news.router_id {
            // What is announced has the number of the proof: an older claim that comes late must
            // not lend it a shorter way.
            let metric = news.distance.metric.max(route.distance.metric);
            let seqno = news.distance.seqno;
            route.claimed = Distance { seqno, metric };
        } else {
            let moved = route.router_id != news.router_id
                || route.next_hop.as_deref() != news.next_hop.as_ref();
            *route = news.route(from, expires);
            if selected && moved {
                self.changed.insert(news.prefix);
            }
        }
        self.reconsider(news.prefix, now);
        self.ask_also(from, (news.prefix, news.router_id), now);
    }

    fn learn_new(&mut self, from: NeighbourId, news: &News, expires: Moment, now: Moment) {
        let known = self.table.get(news.prefix);
        let full = match known {
            None => PREFIXES_MAX <= self.table.len(),
            Some(entry) => ROUTES_PER_PREFIX_MAX <= entry.routes.len(),
        };
        if full {
            if known.is_none() && self.counters.of(Count::TableFull) == 0 {
                self.event(Event::Alarm(Alarm::TableFull));
            }
            self.count(Count::TableFull);
            return;
        }
        if !self.may_change(from, now) {
            return;
        }
        self.sweep_at = self.sweep_at.min(expires.max(now + SWEEP_STEP));
        let entry = self.table.entry(news.prefix);
        let feasible = entry.sources.is_feasible(news.router_id, news.distance);
        entry.routes.push(news.route(from, expires));
        if !feasible {
            self.count(Count::Unfeasible);
        }
        self.reconsider(news.prefix, now);
        self.ask_also(from, (news.prefix, news.router_id), now);
    }

    fn prolong(&mut self, from: NeighbourId, news: &News, expires: Moment) {
        let entry = self.table.get_mut(news.prefix);
        if let Some(route) = entry.and_then(|entry| entry.route_mut(from)) {
            route.expires = expires;
        }
    }

    fn may_change(&mut self, from: NeighbourId, now: Moment) -> bool {
        let neighbour = self.neighbours.get_mut(&from);
        let may = neighbour.is_some_and(|n| n.buckets.changes.take(1, now));
        if !may {
            self.count(Count::TooManyChanges);
        }
        may
    }
}

impl News {
    fn route(&self, neighbour: NeighbourId, expires: Moment) -> Route {
        Route {
            neighbour,
            router_id: self.router_id,
            distance: self.distance,
            claimed: self.distance,
            next_hop: self.next_hop.map(Box::new),
            expires,
        }
    }
}

fn is_change(route: &Route, news: &News) -> bool {
    route.router_id != news.router_id
        || route.claimed != news.distance
        || route.next_hop.as_deref() != news.next_hop.as_ref()
}

/// Returns whether an unfeasible route is worth another look even though it did not change.
fn entry_needs(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| {
        entry.selected == Selected::None || entry.selected_route().is_some_and(Route::is_stale)
    })
}
