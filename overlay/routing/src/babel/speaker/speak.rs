//! What waits becomes packets: as few as possible, retractions first.
//!
//! ```text
//!   beacon   hello, IHUs                                              to everybody
//!   mail     ack request, acks, retractions, updates, requests, dump  to one (tunnels), or to all
//! ```
//! Values are taken when the packet is written, never before ([`super::saying`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_base::time::Moment;

use super::page::Page;
use super::saying::Saying;
use super::{Speaker, hear};
use crate::babel::count::Count;
use crate::babel::event::{To, Transmit};
use crate::babel::limits::{
    ACK_DOUBLINGS, ACK_SLACK, ACK_WITHIN, BLIND_REPEAT, DUMP_BURST, RETRACTION_QUICK, RTT_UNKNOWN,
    UNACKED_MAX,
};
use crate::babel::link::{LinkId, centis};
use crate::babel::mail::{Dump, Mail, Said, Unacked, Waiting};
use crate::babel::neighbour::NeighbourId;
use crate::babel::route::Selected;
use crate::babel::wire::tlv::{Cast, Tlv};
use crate::babel::wire::writer::{Pushed, Writer};
use crate::babel::words::{Metric, Prefix};

/// A stamp older than this is not echoed: the round trip would mean nothing.
const ECHO_AGE_MAX: Duration = Duration::from_secs(60);

impl Speaker {
    /// Returns the next packet to send.
    pub fn poll_transmit(&mut self, now: Moment) -> Option<Transmit> {
        if !self.has_something_to_say(now) {
            return None;
        }
        let mut next = self.links.keys().next().copied();
        while let Some(id) = next {
            if let Some(transmit) = self.write_for(id, now) {
                self.count(Count::PacketSent);
                let len = transmit.bytes.len() as u64;
                self.counters.add_many(Count::BytesSent, len);
                return Some(transmit);
            }
            let behind = (std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded);
            next = self.links.range(behind).next().map(|(id, _)| *id);
        }
        None
    }

    /// Returns whether anything waits whose time has come; without looking for where.
    fn has_something_to_say(&self, now: Moment) -> bool {
        let is_due = |mail: &Mail| mail.due().is_some_and(|due| due <= now);
        let mut neighbours = self.neighbours.values();
        let mut links = self.links.values();
        neighbours.any(|neighbour| neighbour.hello || is_due(&neighbour.mail))
            || links.any(|link| link.beacon.hello || is_due(&link.mail))
    }

    fn write_for(&mut self, id: LinkId, now: Moment) -> Option<Transmit> {
        if self.links.get(&id)?.beacon.hello {
            return self.write_beacon(id, now);
        }
        let is_due = |mail: &Mail| mail.due().is_some_and(|due| due <= now);
        let link = self.links.get(&id)?;
        if is_due(&link.mail) {
            let written = self.write_mail(id, None, now);
            if written.is_some() {
                return written;
            }
        }
        loop {
            let link = self.links.get(&id)?;
            let due = link.neighbours.iter().copied().find(|neighbour| {
                let neighbour = self.neighbours.get(neighbour);
                neighbour.is_some_and(|n| n.hello || is_due(&n.mail))
            })?;
            let written = self.write_mail(id, Some(due), now);
            if written.is_some() {
                return written;
            }
        }
    }

    /// Writes a hello and what goes with it.
    fn write_beacon(&mut self, id: LinkId, now: Moment) -> Option<Transmit> {
        let link = self.links.get_mut(&id)?;
        link.beacon.hello = false;
        let config = &link.config;
        let mut writer = Writer::new(config.address, config.payload_max);
        let seqno = link.hello_seqno;
        link.hello_seqno = seqno.next();
        let _ = writer.push(&Tlv::Hello {
            cast: Cast::Multicast,
            seqno,
            interval: centis(config.hello_interval),
            sent: Some(hear::stamp(now)),
        });
        let interval = config.ihu_interval();
        while let Some(to) = link.beacon.ihus.pop_first() {
            let Some(neighbour) = self.neighbours.get(&to) else {
                continue;
            };
            let fresh = neighbour
                .stamp
                .filter(|(_, at)| now.since(*at) < ECHO_AGE_MAX);
            let pushed = writer.push(&Tlv::Ihu {
                address: Some(neighbour.address),
                rxcost: neighbour.told_rxcost,
                interval,
                echo: fresh.map(|(sent, at)| (sent, hear::stamp(at))),
            });
            if pushed == Pushed::Full {
                link.beacon.ihus.insert(to);
                link.beacon.hello = true;
                break;
            }
        }
        for address in link.beacon.farewells.keys() {
            let _ = writer.push(&Tlv::Ihu {
                address: Some(*address),
                rxcost: Metric::INFINITY,
                interval,
                echo: None,
            });
        }
        link.beacon.farewells.retain(|_, left| {
            *left -= 1;
            *left != 0
        });
        Some(Transmit {
            link: id,
            to: To::Multicast,
            bytes: writer.finish(Some(hear::stamp(now))),
        })
    }

    /// Writes what waits for one neighbour, or for all on a link. None if nothing was to be said.
    fn write_mail(&mut self, id: LinkId, to: Option<NeighbourId>, now: Moment) -> Option<Transmit> {
        let mut mail = match to {
            Some(to) => std::mem::take(&mut self.neighbours.get_mut(&to)?.mail),
            None => std::mem::take(&mut self.links.get_mut(&id)?.mail),
        };
        mail.flush_at = None;
        // What is already as they know it needs no packet, and no acknowledgement.
        while let Some(first) = mail.updates.first_entry()
            && self.saying(id, *first.key(), first.get().forced) == Saying::Nothing
        {
            first.remove();
        }
        let mut page = self.begin_page(id, to, &mail, now)?;
        page.small(&mut mail);
        let mut said = self.write_updates(id, &mut page, &mut mail, now);
        let asks_table = page.requests(&mut mail);
        said.extend(self.write_dump(id, &mut page, &mut mail, now));
        if page.is_full && !mail.is_empty() {
            mail.flush_at = Some(now);
        } else if !mail.updates.is_empty() {
            mail.hurry(now + DUMP_BURST.1);
        }
        match to {
            Some(to) => self.neighbours.get_mut(&to)?.mail = mail,
            None => self.links.get_mut(&id)?.mail = mail,
        }
        if page.is_idle {
            return None;
        }
        self.counters.add_many(Count::UpdateSent, said.len() as u64);
        let address = to.and_then(|to| Some(self.neighbours.get(&to)?.address));
        let sent = Sent {
            opaque: page.opaque,
            said,
            asks_table,
        };
        self.expect_acks(id, to, sent, now);
        Some(Transmit {
            link: id,
            to: address.map_or(To::Multicast, To::Unicast),
            bytes: page.writer.finish(Some(hear::stamp(now))),
        })
    }

    /// Begins a packet with what goes first.
    fn begin_page(
        &mut self,
        id: LinkId,
        to: Option<NeighbourId>,
        mail: &Mail,
        now: Moment,
    ) -> Option<Page> {
        let opaque = self.chance.bits() as u16;
        let link = self.links.get(&id)?;
        let room = link.unacked.len() < UNACKED_MAX;
        let says_updates = !mail.updates.is_empty() || mail.dump.is_some();
        let wants_ack = link.config.acked && room && (says_updates || mail.table_request);
        let mut page = Page {
            writer: Writer::new(link.config.address, link.config.payload_max),
            opaque: wants_ack.then_some(opaque),
            is_full: false,
            is_idle: true,
        };
        if wants_ack || mail.probe {
            let _ = page.writer.push(&Tlv::AckRequest {
                opaque,
                within: centis(ACK_WITHIN),
            });
            page.is_idle = !mail.probe;
        }
        if let Some(neighbour) = to.and_then(|to| self.neighbours.get_mut(&to))
            && std::mem::take(&mut neighbour.hello)
        {
            let seqno = neighbour.hello_seqno;
            neighbour.hello_seqno = seqno.next();
            let _ = page.push(&Tlv::Hello {
                cast: Cast::Unicast,
                seqno,
                interval: centis(link.config.hello_interval),
                sent: Some(hear::stamp(now)),
            });
        }
        Some(page)
    }

    /// Writes the updates that wait: first retractions and answers, then the others.
    fn write_updates(
        &mut self,
        id: LinkId,
        page: &mut Page,
        mail: &mut Mail,
        now: Moment,
    ) -> Vec<Said> {
        if self.is_acked(id) && page.opaque.is_none() {
            // As many packets as may be wait for acknowledgements: what is said without one could
            // be lost for good. What waits here goes together when the first of them comes.
            return Vec::new();
        }
        let mut said = Vec::new();
        let lost = |prefix: &Prefix, waiting: &mut Waiting| {
            let entry = self.table.get(*prefix);
            waiting.forced || entry.is_none_or(|entry| entry.selected == Selected::None)
        };
        let first: Vec<_> = mail.updates.extract_if(.., lost).collect();
        let mut first = first.into_iter();
        while !page.is_full
            && let Some(next) = first.next()
        {
            self.write_update(id, page, mail, next, &mut said, now);
        }
        mail.updates.extend(first);
        while !page.is_full
            && let Some(next) = mail.updates.pop_first()
        {
            self.write_update(id, page, mail, next, &mut said, now);
        }
        said
    }

    fn write_update(
        &mut self,
        id: LinkId,
        page: &mut Page,
        mail: &mut Mail,
        (prefix, waiting): (Prefix, Waiting),
        said: &mut Vec<Said>,
        now: Moment,
    ) {
        let saying = self.saying(id, prefix, waiting.forced);
        match self.write_saying(id, page, prefix, saying, now) {
            Pushed::Written => said.push(self.note_said(prefix, saying, waiting.tries)),
            Pushed::Full => {
                mail.updates.insert(prefix, waiting);
            }
            Pushed::Refused => {}
        }
    }

    fn is_acked(&self, id: LinkId) -> bool {
        self.links.get(&id).is_some_and(|link| link.config.acked)
    }

    /// Goes on with a dump.
    fn write_dump(
        &mut self,
        id: LinkId,
        page: &mut Page,
        mail: &mut Mail,
        now: Moment,
    ) -> Vec<Said> {
        let Some(mut dump) = mail.dump.filter(|dump| dump.next_at <= now) else {
            return Vec::new();
        };
        if self.is_acked(id) && page.opaque.is_none() {
            dump.next_at = now + DUMP_BURST.1;
            mail.dump = Some(dump);
            return Vec::new();
        }
        let mut said = Vec::new();
        let mut done = false;
        while !page.is_full {
            let next = self.table.after(dump.after).next();
            let Some(prefix) = next.map(|(prefix, _)| prefix) else {
                done = true;
                break;
            };
            let saying = self.saying(id, prefix, false);
            if saying == Saying::Nothing {
                dump.after = Some(prefix);
                continue;
            }
            match self.write_saying(id, page, prefix, saying, now) {
                Pushed::Written => said.push(self.note_said(prefix, saying, 0)),
                Pushed::Full => break,
                Pushed::Refused => {}
            }
            dump.after = Some(prefix);
        }
        dump.burst = dump.burst.saturating_sub(1);
        dump.next_at = now;
        if dump.burst == 0 {
            dump = Dump {
                next_at: now + DUMP_BURST.1,
                burst: DUMP_BURST.0,
                ..dump
            };
        }
        mail.dump = (!done).then_some(dump);
        said
    }

    /// Notes what waits for acknowledgements; where nobody is asked for one, retractions are said
    /// once more.
    fn expect_acks(&mut self, id: LinkId, to: Option<NeighbourId>, sent: Sent, now: Moment) {
        let Sent {
            opaque,
            mut said,
            asks_table,
        } = sent;
        let table_request = asks_table && opaque.is_some();
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if opaque.is_none() {
            said.retain(|said| said.retraction && said.tries == 0);
        }
        if (said.is_empty() && !table_request) || UNACKED_MAX <= link.unacked.len() {
            return;
        }
        let awaiting: BTreeSet<_> = match to {
            Some(to) => BTreeSet::from([to]),
            None => usable(&self.neighbours, &link.neighbours),
        };
        if awaiting.is_empty() {
            return;
        }
        let patience = awaiting
            .iter()
            .filter_map(|id| self.neighbours.get(id))
            .map(|neighbour| neighbour.patience());
        let patience = patience.max().unwrap_or(RTT_UNKNOWN);
        let tries = said.iter().map(|said| said.tries).max().unwrap_or_default();
        let tries = if said.iter().any(|said| said.retraction) {
            tries.saturating_sub(RETRACTION_QUICK)
        } else {
            tries
        };
        let pause = match opaque {
            None => BLIND_REPEAT,
            Some(_) => {
                let promised = if link.asks_for_table() {
                    Duration::ZERO
                } else {
                    ACK_WITHIN
                };
                (promised + ACK_SLACK + 2 * patience)
                    * 2_u32.pow(u32::from(tries.min(ACK_DOUBLINGS)))
            }
        };
        let due = now + pause;
        link.resend_at = Some(link.resend_at.map_or(due, |known| known.min(due)));
        link.unacked.push_back(Unacked {
            opaque,
            to,
            awaiting,
            said,
            table_request,
            due,
        });
    }
}

fn usable(
    neighbours: &BTreeMap<NeighbourId, crate::babel::neighbour::Neighbour>,
    ids: &BTreeSet<NeighbourId>,
) -> BTreeSet<NeighbourId> {
    let is_usable = |id: &&NeighbourId| neighbours.get(id).is_some_and(|n| n.is_usable());
    ids.iter().filter(is_usable).copied().collect()
}

/// A packet that was written.
struct Sent {
    opaque: Option<u16>,
    said: Vec<Said>,
    asks_table: bool,
}
