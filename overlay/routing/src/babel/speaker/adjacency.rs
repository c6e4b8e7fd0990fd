//! Neighbours come, change their cost, and go.
//!
//! ```text
//!   hello of a stranger ─► meet ─► asked for its table (tunnels)
//!   anything about it ───► refresh ─► another cost? ─► its routes are looked at again
//!   silence, restart ────► drop ─► told that it is no longer heard; its routes are lost
//! ```

use mesh_base::time::Moment;

use super::Speaker;
use super::hear::Letter;
use crate::babel::cost::Quality;
use crate::babel::count::Count;
use crate::babel::event::{Event, Parting};
use crate::babel::limits::{FAREWELLS, NEIGHBOURS_MAX, TABLE_SILENCE, TABLE_TRIES};
use crate::babel::neighbour::{Neighbour, NeighbourId};
use crate::babel::words::Seqno;

/// More than the sixteen that could be missed, and less than half of the circle.
const HELLO_LEAP: u16 = 0x1000;

impl Speaker {
    /// Makes somebody who said hello a neighbour, if there is room.
    pub(super) fn meet(&mut self, letter: &Letter, now: Moment) -> Option<NeighbourId> {
        let link = self.links.get(&letter.link)?;
        if link.is_tunnel() {
            // Who speaks on a tunnel is authentic: another address is the same neighbour anew.
            for other in link.neighbours.clone() {
                self.drop_neighbour(other, Parting::Restarted, now);
            }
        }
        if NEIGHBOURS_MAX <= self.neighbours.len() {
            self.count(Count::NeighboursFull);
            return None;
        }
        let id = NeighbourId(self.next_neighbour);
        self.next_neighbour = self.next_neighbour.wrapping_add(1);
        let hello_seqno = self.seqno_by_chance();
        let neighbour = Neighbour::new(letter.link, letter.source, hello_seqno, now);
        self.neighbours.insert(id, neighbour);
        let link = self.links.get_mut(&letter.link)?;
        link.neighbours.insert(id);
        link.beacon.farewells.remove(&letter.source);
        link.beacon.hello = true;
        link.beacon.ihus.insert(id);
        if link.asks_for_table()
            && let Some(neighbour) = self.neighbours.get_mut(&id)
        {
            neighbour.mail.table_request = true;
            neighbour.mail.hurry(now);
        }
        Some(id)
    }

    /// Takes what changed about a neighbour into its cost, and the cost into the routes.
    pub(super) fn refresh(&mut self, id: NeighbourId, why: Parting, now: Moment) {
        let Some(neighbour) = self.neighbours.get_mut(&id) else {
            return;
        };
        let Some(link) = self.links.get_mut(&neighbour.link) else {
            return;
        };
        if neighbour.heard.is_silent() {
            self.drop_neighbour(id, Parting::HellosMissed, now);
            return;
        }
        if link.is_tunnel() {
            neighbour.quality = neighbour.quality.after(&neighbour.heard.multicast);
        } else {
            neighbour.quality = Quality::Good;
        }
        let rxcost = neighbour.rxcost(&link.config);
        if rxcost != neighbour.told_rxcost {
            neighbour.told_rxcost = rxcost;
            link.beacon.hello = true;
            link.beacon.ihus.insert(id);
        }
        let (before, cost) = (neighbour.cost, neighbour.measure(&link.config));
        if cost == before {
            return;
        }
        neighbour.cost = cost;
        let asks = link.asks_for_table();
        let (link, address) = (neighbour.link, neighbour.address);
        if !before.is_finite() {
            if !asks {
                neighbour.greeted = true;
                neighbour.table_at = Some(now + TABLE_SILENCE + 2 * neighbour.patience());
                neighbour.table_tries = TABLE_TRIES;
            }
            self.event(Event::NeighbourUp {
                neighbour: id,
                link,
                address,
            });
            if !asks {
                self.begin_dump(id, now);
            }
        } else if !cost.is_finite() {
            neighbour.table_at = None;
            self.event(Event::NeighbourDown {
                neighbour: id,
                link,
                address,
                why,
            });
        }
        for prefix in self.table.through(id) {
            self.reconsider(prefix, now);
        }
    }

    /// Forgets a neighbour and its routes.
    pub(super) fn drop_neighbour(&mut self, id: NeighbourId, why: Parting, now: Moment) {
        let Some(neighbour) = self.neighbours.remove(&id) else {
            return;
        };
        self.requests.forget(id);
        self.penalties.retain(|(_, other), _| *other != id);
        if let Some(link) = self.links.get_mut(&neighbour.link) {
            link.neighbours.remove(&id);
            link.beacon.ihus.remove(&id);
            for packet in &mut link.unacked {
                packet.awaiting.remove(&id);
            }
            // Nobody acknowledged for it: what is held stays held for its time.
            link.unacked.retain(|packet| !packet.awaiting.is_empty());
            if why != Parting::LinkDown {
                link.beacon.farewells.insert(neighbour.address, FAREWELLS);
                link.beacon.hello = true;
            }
            // Who restarted knows nothing of us, and would answer with a leap. But what we said
            // until we heard of that may have come behind it: that is retracted still.
            if link.is_tunnel() && !matches!(why, Parting::LinkDown | Parting::Restarted) {
                // It may never have lost us: what it knows of us is no longer what we think
                // that we told it. A number far away makes it begin anew as well (appendix A.1).
                link.hello_seqno = Seqno(link.hello_seqno.0.wrapping_add(HELLO_LEAP));
                let bit = link.bit();
                self.forget_told_only(bit);
            }
        }
        if neighbour.is_usable() {
            self.event(Event::NeighbourDown {
                neighbour: id,
                link: neighbour.link,
                address: neighbour.address,
                why,
            });
        }
        for prefix in self.table.through(id) {
            if let Some(entry) = self.table.get_mut(prefix) {
                entry.remove(id);
            }
            self.reconsider(prefix, now);
        }
    }
}
