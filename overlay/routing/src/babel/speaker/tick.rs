//! What time alone changes: hellos, dumps, silence, resending, expiry.

use std::collections::BTreeSet;

use mesh_base::time::Moment;

use super::Speaker;
use crate::babel::count::Count;
use crate::babel::event::Parting;
use crate::babel::limits::{
    PROBE_STEP, PROBES_MAX, REQUEST_PAUSE_MAX, SILENCE_MAX, SWEEP_STEP, TABLE_SILENCE,
};
use crate::babel::link::LinkId;
use crate::babel::mail::{Unacked, UnackedQueue, Waiting};
use crate::babel::neighbour::{Neighbour, NeighbourId};
use crate::babel::request::Need;
use crate::babel::route::Selected;
use crate::babel::words::Prefix;

/// Sources are looked at this often.
const SWEEP_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// Hellos between two with IHUs (RFC 8966, appendix B).
const HELLOS_PER_IHU: u8 = 3;

impl Speaker {
    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        let is_due = |due| due <= now;
        let links = self.links.iter();
        let links = links.filter(|(_, link)| link.deadlines().any(is_due));
        for id in links.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.tick_link(id, now);
        }
        let neighbours = self.neighbours.iter();
        let neighbours = neighbours.filter(|(_, it)| self.deadlines_of(it).any(is_due));
        for id in neighbours.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.tick_neighbour(id, now);
        }
        self.tick_requests(now);
        while let Some(prefix) = pop_due(&mut self.challenges, now) {
            self.reconsider(prefix, now);
        }
        while let Some(prefix) = pop_due(&mut self.wishes, now) {
            self.reconsider(prefix, now);
        }
        if self.sweep_at <= now {
            self.sweep(now);
        }
    }

    fn tick_requests(&mut self, now: Moment) {
        for about in self.requests.due(now) {
            let request = self.requests.get(about);
            if request.is_some_and(|request| !request.is_over()) {
                self.send_request(about, now);
            } else if let Some(request) = self.requests.remove(about)
                && request.need != Need::None
            {
                self.count(Count::RequestGivenUp);
                // Whoever has a route that is not feasible is asked anew after a pause.
                self.wishes.insert((now + REQUEST_PAUSE_MAX, about.0));
            }
        }
        self.requests.handle_done(now);
    }

    pub(super) fn next_timeout(&self) -> Option<Moment> {
        let links = self.links.values().flat_map(|link| {
            let beacon = link.beacon.hello.then_some(Moment(0));
            link.deadlines().chain(beacon).chain(link.mail.due())
        });
        let neighbours = self.neighbours.values();
        let neighbours = neighbours.flat_map(|it| self.deadlines_of(it).chain(it.mail.due()));
        let others = [
            self.requests.quiet_until(),
            self.challenges.first().map(|(due, _)| *due),
            self.wishes.first().map(|(due, _)| *due),
            (!self.table.is_empty()).then_some(self.sweep_at),
        ];
        links
            .chain(neighbours)
            .chain(others.into_iter().flatten())
            .min()
    }

    /// Returns when [`Self::tick_neighbour`] has something to do.
    fn deadlines_of(&self, neighbour: &Neighbour) -> impl Iterator<Item = Moment> {
        neighbour.deadlines().chain(self.silence_at(neighbour))
    }

    fn tick_link(&mut self, id: LinkId, now: Moment) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        if link.hello_at <= now {
            self.tick_hello(id, now);
        }
        let Some(link) = self.links.get(&id) else {
            return;
        };
        if link.dump_at <= now {
            let pause = link.config.update_interval;
            let pause = self.early(pause);
            self.tick_dump(id, now);
            if let Some(link) = self.links.get_mut(&id) {
                link.dump_at = now + pause;
            }
        }
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.resend_at.is_some_and(|due| due <= now) {
            let all = std::mem::take(&mut link.unacked);
            let (due, waiting): (UnackedQueue, UnackedQueue) =
                all.into_iter().partition(|packet| packet.due <= now);
            link.resend_at = waiting.iter().map(|packet| packet.due).min();
            link.unacked = waiting;
            for packet in due {
                self.resend(id, &packet, now);
            }
        }
    }

    fn tick_hello(&mut self, id: LinkId, now: Moment) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let pause = link.config.hello_interval;
        let pause = self.early(pause);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.hello_at = now + pause;
        link.beacon.hello = true;
        if link.hellos_until_ihu == 0 {
            link.hellos_until_ihu = HELLOS_PER_IHU;
            link.beacon.ihus.extend(&link.neighbours);
        }
        link.hellos_until_ihu -= 1;
        if link.config.unicast_hellos {
            for id in &link.neighbours {
                if let Some(neighbour) = self.neighbours.get_mut(id) {
                    neighbour.hello = true;
                    neighbour.mail.hurry(now);
                }
            }
        }
    }

    fn tick_dump(&mut self, id: LinkId, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let neighbours = link.neighbours.clone();
        if !link.is_tunnel() {
            if !neighbours.is_empty() {
                self.begin_link_dump(id, now);
            }
            return;
        }
        for neighbour in neighbours {
            let greeted = self.neighbours.get(&neighbour).is_some_and(|n| n.greeted);
            if greeted {
                self.begin_dump(neighbour, now);
            }
        }
    }

    /// Says again what was not acknowledged, as it is now.
    fn resend(&mut self, id: LinkId, packet: &Unacked, now: Moment) {
        if packet.table_request {
            for neighbour in &packet.awaiting {
                if let Some(neighbour) = self.neighbours.get_mut(neighbour) {
                    neighbour.mail.table_request = true;
                    neighbour.mail.hurry(now);
                }
            }
        }
        for said in &packet.said {
            let waiting = Waiting {
                tries: said.tries.saturating_add(1),
                forced: said.retraction,
            };
            let Some(link) = self.links.get_mut(&id) else {
                return;
            };
            if packet.opaque.is_none() && packet.to.is_none() {
                link.mail.update(said.prefix, waiting, now);
                continue;
            }
            for neighbour in &packet.awaiting {
                if let Some(neighbour) = self.neighbours.get_mut(neighbour) {
                    neighbour.mail.update(said.prefix, waiting, now);
                }
            }
        }
        self.count(Count::Resent);
    }

    fn tick_neighbour(&mut self, id: NeighbourId, now: Moment) {
        let Some(neighbour) = self.neighbours.get_mut(&id) else {
            return;
        };
        let expired = neighbour.txcost.is_some_and(|(_, until)| until <= now);
        if neighbour.handle_timeout(now) {
            let why = if expired {
                Parting::Unheard
            } else {
                Parting::HellosMissed
            };
            self.refresh(id, why, now);
        }
        let Some(neighbour) = self.neighbours.get(&id) else {
            return;
        };
        if self.silence_at(neighbour).is_some_and(|due| due <= now) {
            self.probe(id, now);
        }
        let Some(neighbour) = self.neighbours.get_mut(&id) else {
            return;
        };
        if neighbour.table_at.is_some_and(|due| due <= now) {
            let tries = neighbour.table_tries.saturating_sub(1);
            let pause = TABLE_SILENCE * 2_u32.pow(u32::from(8_u8.saturating_sub(tries)));
            neighbour.table_tries = tries;
            neighbour.table_at = (tries != 0).then(|| now + pause);
            neighbour.mail.table_request = true;
            neighbour.mail.hurry(now);
        }
    }

    /// Asks a silent tunnel for a sign of life, or gives it up.
    fn probe(&mut self, id: NeighbourId, now: Moment) {
        let Some(neighbour) = self.neighbours.get_mut(&id) else {
            return;
        };
        if neighbour.probes == PROBES_MAX {
            self.count(Count::ProbedDown);
            self.drop_neighbour(id, Parting::Silent, now);
            return;
        }
        // After a long sleep of ours the first probe counts from now.
        let late = SILENCE_MAX + PROBE_STEP * u32::from(neighbour.probes);
        if late + PROBE_STEP < now.since(neighbour.alive_at) {
            let spent = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            neighbour.alive_at = Moment(now.0.saturating_sub(spent));
        }
        neighbour.probes += 1;
        neighbour.mail.probe = true;
        neighbour.mail.hurry(now);
    }

    /// Returns when a silent tunnel is probed next.
    fn silence_at(&self, neighbour: &Neighbour) -> Option<Moment> {
        let link = self.links.get(&neighbour.link)?;
        let probed = link.is_tunnel() && link.config.probed;
        let silence = SILENCE_MAX + PROBE_STEP * u32::from(neighbour.probes);
        probed.then(|| neighbour.alive_at + silence)
    }

    /// Forgets what has expired (RFC 8966, §3.5.3, §3.2.5).
    fn sweep(&mut self, now: Moment) {
        let mut next = now + SWEEP_MAX;
        let mut lost = Vec::new();
        let (mut expired, mut forgotten) = (0, 0);
        for (prefix, entry) in self.table.iter_mut() {
            let before = entry.routes.len();
            entry.routes.retain(|route| now < route.expires);
            if entry.routes.len() < before {
                expired += before - entry.routes.len();
                lost.push(prefix);
            }
            if entry.hold.is_some_and(|hold| hold.until <= now) {
                entry.hold = None;
                self.changed.insert(prefix);
            }
            forgotten += entry.forget_sources(now);
            let routes = entry.routes.iter().map(|route| route.expires);
            let hold = entry.hold.map(|hold| hold.until);
            next = routes.chain(hold).fold(next, Moment::min);
        }
        self.counters.add_many(Count::Expired, expired as u64);
        self.counters
            .add_many(Count::SourceForgotten, forgotten as u64);
        for prefix in lost {
            self.reconsider(prefix, now);
        }
        // A distance that was forgotten may have made a route feasible again.
        let starved: Vec<_> = self
            .table
            .after(None)
            .filter(|(_, entry)| entry.selected == Selected::None && !entry.routes.is_empty())
            .map(|(prefix, _)| prefix)
            .collect();
        for prefix in starved {
            self.reconsider(prefix, now);
        }
        self.table.forget_idle();
        self.sweep_at = next.max(now + SWEEP_STEP);
    }
}

fn pop_due(queue: &mut BTreeSet<(Moment, Prefix)>, now: Moment) -> Option<Prefix> {
    let (due, prefix) = *queue.first()?;
    if now < due {
        return None;
    }
    queue.pop_first();
    Some(prefix)
}
