//! What is selected, who is told of it, and what is held (RFC 8966, §3.5.4, §3.6, §3.7.2).

use mesh_base::time::Moment;

use super::{Speaker, cost_to};
use crate::babel::count::Count;
use crate::babel::filter::LinkFilter;
use crate::babel::limits::{EXPIRY_HALVES, GATHER};
use crate::babel::link::LinkId;
use crate::babel::mail::{Mail, Put, Waiting};
use crate::babel::neighbour::NeighbourId;
use crate::babel::route::{Announced, Hold, Selected};
use crate::babel::select::{self, is_significant};
use crate::babel::source::Distance;
use crate::babel::words::Prefix;

/// How soon an announcement is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// It need not be: the next dump says it.
    None,
    /// With others.
    Gather,
    /// Now.
    Urgent,
}

impl Speaker {
    /// Looks again which route to a prefix to use, after anything about it changed.
    pub(super) fn reconsider(&mut self, prefix: Prefix, now: Moment) {
        let own = self.own.contains_key(&prefix);
        let Some(entry) = self.table.get_mut(prefix) else {
            return;
        };
        let cost = |neighbour| cost_to(&self.neighbours, &self.penalties, prefix, neighbour);
        let choice = if own {
            select::Choice {
                selected: Selected::Own,
                challenged: None,
            }
        } else {
            select::choose(entry, cost, now)
        };
        if entry.challenged != choice.challenged {
            if let Some(due) = entry.challenged {
                self.challenges.remove(&(due, prefix));
            }
            if let Some(due) = choice.challenged {
                self.challenges.insert((due, prefix));
            }
            entry.challenged = choice.challenged;
        }
        let before = entry.selected;
        if before != choice.selected {
            entry.selected = choice.selected;
            self.changed.insert(prefix);
            self.counters.add(match choice.selected {
                Selected::None => Count::Lost,
                Selected::Own | Selected::Via(_) => Count::Selected,
            });
        }
        entry.drop_old_proofs();
        let after = entry.selected;
        let lost = self.announce_change(prefix, now);
        if before != after {
            self.turn_horizon(prefix, before, after, now);
        }
        self.settle_requests(prefix, now);
        self.ask_for(prefix, lost, now);
    }

    /// Compares with what was announced last and tells what is new. Returns a route that was lost.
    fn announce_change(&mut self, prefix: Prefix, now: Moment) -> Option<Announced> {
        let current = self.announcement(prefix);
        let links = &self.links;
        let entry = self.table.get_mut(prefix)?;
        let before = entry.announced;
        let haste = haste(before, current);
        if haste == Haste::None {
            return None;
        }
        entry.announced = current;
        entry.version = entry.version.wrapping_add(1);
        let held = entry.hold.is_some();
        let mut lost = None;
        if current.is_some() {
            entry.hold = None;
        } else {
            lost = before;
            let told = links.values().filter(|link| link.bit() & entry.told != 0);
            let longest = told.map(|link| link.config.update_interval).max();
            entry.hold = longest.map(|interval| Hold {
                until: now + interval * EXPIRY_HALVES / 2,
                awaiting: entry.told,
            });
            if let Some(hold) = entry.hold {
                self.sweep_at = self.sweep_at.min(hold.until);
            }
        }
        if held != entry.hold.is_some() {
            self.changed.insert(prefix);
        }
        let at = match haste {
            Haste::Urgent => now,
            Haste::None | Haste::Gather => now + self.chance.between(GATHER.0, GATHER.1),
        };
        self.post(prefix, at);
        lost
    }

    /// Tells the neighbours on both sides of a turn: a route is not told to where it leads, so the
    /// one that it led to must hear of it now, and the one that it leads to must forget it.
    fn turn_horizon(&mut self, prefix: Prefix, before: Selected, after: Selected, now: Moment) {
        let at = now + self.chance.between(GATHER.0, GATHER.1);
        if let Some(entry) = self.table.get_mut(prefix) {
            entry.version = entry.version.wrapping_add(1);
        }
        for selected in [before, after] {
            let Selected::Via(id) = selected else {
                continue;
            };
            let Some(neighbour) = self.neighbours.get_mut(&id).filter(|n| n.greeted) else {
                continue;
            };
            let link = self.links.get(&neighbour.link);
            if link.is_some_and(|link| link.config.split_horizon && link.is_tunnel()) {
                neighbour.mail.update(prefix, Waiting::default(), at);
            }
        }
    }

    /// Returns what is true of a prefix now, as its origin and our distance.
    fn announcement(&self, prefix: Prefix) -> Option<Announced> {
        let entry = self.table.get(prefix)?;
        if let (Selected::Own, Some(metric)) = (entry.selected, self.own.get(&prefix)) {
            return Some(Announced {
                router_id: self.router_id,
                distance: Distance {
                    seqno: self.seqno,
                    metric: *metric,
                },
            });
        }
        let route = entry.selected_route()?;
        let cost = self.cost_to(prefix, route.neighbour);
        let metric = route.claimed.metric.plus(cost);
        Some(Announced {
            router_id: route.router_id,
            distance: Distance {
                seqno: route.distance.seqno,
                metric,
            },
        })
    }

    /// Lets an update wait for every neighbour.
    fn post(&mut self, prefix: Prefix, at: Moment) {
        let waiting = Waiting::default();
        for link in self.links.values_mut() {
            let mut puts = Vec::new();
            if link.is_tunnel() {
                for id in &link.neighbours {
                    let neighbour = self.neighbours.get_mut(id).filter(|n| n.greeted);
                    puts.extend(neighbour.map(|n| n.mail.update(prefix, waiting, at)));
                }
            } else if !link.neighbours.is_empty() {
                puts.push(link.mail.update(prefix, waiting, at));
            }
            for put in puts {
                match put {
                    Put::Kept => {}
                    Put::BecameDump => self.counters.add(Count::BecameDump),
                    Put::Refused => self.counters.add(Count::AnswersFull),
                }
            }
        }
    }

    /// Tells every neighbour of a prefix at once, although nothing but the number may be new.
    pub(super) fn tell_all(&mut self, prefix: Prefix, now: Moment) {
        let current = self.announcement(prefix);
        if let Some(entry) = self.table.get_mut(prefix) {
            entry.announced = current;
            entry.version = entry.version.wrapping_add(1);
        }
        self.post(prefix, now);
    }

    /// Notes that everybody on a link has a retraction.
    pub(super) fn handle_retraction_acked(&mut self, prefix: Prefix, version: u32, bit: u64) {
        let Some(entry) = self.table.get_mut(prefix) else {
            return;
        };
        if entry.version != version {
            return;
        }
        entry.told &= !bit;
        if let Some(hold) = &mut entry.hold {
            hold.awaiting &= !bit;
            if hold.awaiting == 0 {
                entry.hold = None;
                self.changed.insert(prefix);
            }
        }
    }

    /// Forgets what was told over a link that is down: nobody there uses us any more.
    pub(super) fn forget_told(&mut self, bit: u64, _now: Moment) {
        for (prefix, entry) in self.table.iter_mut() {
            entry.told &= !bit;
            if let Some(hold) = &mut entry.hold {
                hold.awaiting &= !bit;
                if hold.awaiting == 0 {
                    entry.hold = None;
                    self.changed.insert(prefix);
                }
            }
        }
    }

    /// Forgets what was told to a neighbour that is gone, but not what is held for its sake: it may
    /// still use us, if only one direction is cut. Should it come back, it is told afresh.
    pub(super) fn forget_told_only(&mut self, bit: u64) {
        for (_, entry) in self.table.iter_mut() {
            entry.told &= !bit;
        }
    }

    /// Begins to tell a neighbour the whole table.
    pub(super) fn begin_dump(&mut self, id: NeighbourId, now: Moment) {
        let Some(neighbour) = self.neighbours.get_mut(&id) else {
            return;
        };
        if let Some(link) = self.links.get(&neighbour.link) {
            dump(&mut neighbour.mail, &link.config.filter, now);
        }
    }

    /// Makes what leaves are told of everybody the last choice, because nobody but them is reached
    /// through us, or the first again. Who is stranded keeps no leaf from its other uplinks, and
    /// still carries between its own leaves.
    pub fn set_stranded(&mut self, stranded: bool, now: Moment) {
        if self.stranded == stranded {
            return;
        }
        self.stranded = stranded;
        let links = &self.links;
        for neighbour in self.neighbours.values_mut().filter(|n| n.greeted) {
            let filter = links.get(&neighbour.link).map(|link| &link.config.filter);
            if let Some(filter) = filter.filter(|filter| filter.is_native()) {
                tell_aggregates(&mut neighbour.mail, filter, now);
            }
        }
    }

    /// Begins to tell everybody on a link the whole table.
    pub(super) fn begin_link_dump(&mut self, id: LinkId, now: Moment) {
        if let Some(link) = self.links.get_mut(&id) {
            dump(&mut link.mail, &link.config.filter, now);
        }
    }
}

/// Begins a dump, with the aggregates that are in no table.
fn dump(mail: &mut Mail, filter: &LinkFilter, now: Moment) {
    mail.dump(now);
    tell_aggregates(mail, filter, now);
}

/// Lets the aggregates wait that a link's filter tells.
fn tell_aggregates(mail: &mut Mail, filter: &LinkFilter, now: Moment) {
    for aggregate in [Prefix::NODES, Prefix::SERVICES] {
        if filter.tells_aggregate(aggregate) {
            mail.update(aggregate, Waiting::default(), now);
        }
    }
}

fn haste(before: Option<Announced>, current: Option<Announced>) -> Haste {
    match (before, current) {
        (None, None) => Haste::None,
        (None, Some(_)) => Haste::Gather,
        (Some(_), None) => Haste::Urgent,
        (Some(before), Some(current)) if before.router_id != current.router_id => Haste::Urgent,
        (Some(before), Some(current)) => {
            let (old, new) = (before.distance.metric, current.distance.metric);
            if is_significant(old, new) {
                Haste::Gather
            } else {
                Haste::None
            }
        }
    }
}
