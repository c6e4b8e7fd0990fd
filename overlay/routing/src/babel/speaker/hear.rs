//! Packets, hellos, IHUs and acknowledgements: who is a neighbour and what the way to it costs.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use mesh_base::time::Moment;

use super::Speaker;
use crate::babel::cost::Quality;
use crate::babel::count::Count;
use crate::babel::event::{Event, Parting};
use crate::babel::history::Heard;
use crate::babel::limits::{FAREWELLS, NEIGHBOURS_MAX, TABLE_SILENCE, TABLE_TRIES};
use crate::babel::link::{LinkId, duration};
use crate::babel::mail::{Put, Waiting};
use crate::babel::neighbour::{Neighbour, NeighbourId};
use crate::babel::route::Selected;
use crate::babel::rtt::Trip;
use crate::babel::wire::reader;
use crate::babel::wire::tlv::{Cast, Stamp, Tlv};
use crate::babel::words::{Metric, Seqno};

/// More than the sixteen that could be missed, and not half of the circle.
const HELLO_LEAP: u16 = 0x1000;

/// A packet while it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter {
    pub link: LinkId,
    pub source: Ipv6Addr,
    pub cast: Cast,
    /// Who sent it, once it is known.
    pub from: Option<NeighbourId>,
    /// The stamp of its hello.
    answered: Option<Stamp>,
    /// What it echoes.
    echo: Option<(Stamp, Stamp)>,
}

/// Returns the time as a stamp (RFC 9616, §3.1).
pub(super) fn stamp(now: Moment) -> Stamp {
    // Proof: the low 32 bits are meant.
    Stamp(now.0 as u32)
}

impl Speaker {
    /// Takes a packet that came to port 6696 over a link.
    pub fn handle_packet(
        &mut self,
        link: LinkId,
        source: Ipv6Addr,
        cast: Cast,
        bytes: &[u8],
        now: Moment,
    ) {
        self.count(Count::PacketHeard);
        self.counters
            .add_many(Count::BytesHeard, bytes.len() as u64);
        let Some(mut letter) = self.open(link, source, cast, now) else {
            return;
        };
        let Ok(mut reader) = reader::read(bytes, source) else {
            self.count(Count::BadPacket);
            return;
        };
        for tlv in reader.by_ref() {
            self.handle_tlv(&mut letter, tlv, now);
        }
        let ignored = reader.ignored();
        self.counters.add_many(Count::TlvIgnored, ignored.total());
        self.ignored.add_all(ignored);
        self.close(letter, now);
    }

    /// Takes what a packet says, for callers that have no bytes.
    pub fn handle_tlvs(
        &mut self,
        link: LinkId,
        source: Ipv6Addr,
        cast: Cast,
        tlvs: &[Tlv],
        now: Moment,
    ) {
        let Some(mut letter) = self.open(link, source, cast, now) else {
            return;
        };
        for tlv in tlvs {
            self.handle_tlv(&mut letter, *tlv, now);
        }
        self.close(letter, now);
    }

    fn open(&mut self, id: LinkId, source: Ipv6Addr, cast: Cast, now: Moment) -> Option<Letter> {
        let Some(link) = self.links.get(&id) else {
            self.count(Count::UnknownLink);
            return None;
        };
        if source == link.config.address {
            return None;
        }
        let is_from = |id: &&NeighbourId| {
            let neighbour = self.neighbours.get(id);
            neighbour.is_some_and(|neighbour| neighbour.address == source)
        };
        let from = link.neighbours.iter().find(is_from).copied();
        if let Some(neighbour) = from.and_then(|id| self.neighbours.get_mut(&id)) {
            neighbour.handle_life(now);
        }
        Some(Letter {
            link: id,
            source,
            cast,
            from,
            answered: None,
            echo: None,
        })
    }

    /// Takes the round trip that a packet ended (RFC 9616, §3.2).
    fn close(&mut self, letter: Letter, now: Moment) {
        let Letter {
            from: Some(from),
            answered: Some(answered),
            echo: Some((sent, arrived)),
            ..
        } = letter
        else {
            return;
        };
        let trip = Trip {
            sent,
            arrived,
            answered,
            back: stamp(now),
        };
        let Some(time) = trip.time() else {
            self.count(Count::ImplausibleRtt);
            return;
        };
        let config = self.links.get(&letter.link).map(|link| &link.config);
        let neighbour = self.neighbours.get_mut(&from);
        if let (Some(config), Some(neighbour)) = (config, neighbour) {
            let base = neighbour.txcost.map_or(Metric::ZERO, |(cost, _)| cost);
            neighbour.rtt.handle_sample(time, base, &config.rtt);
        }
        self.refresh(from, Parting::Unheard, now);
    }

    fn handle_tlv(&mut self, letter: &mut Letter, tlv: Tlv, now: Moment) {
        if let Tlv::Hello { sent, .. } = tlv {
            letter.answered = sent.or(letter.answered);
            letter.from = self.handle_hello(letter, tlv, now);
            return;
        }
        let Some(from) = letter.from else {
            self.count(Count::Stranger);
            return;
        };
        match tlv {
            Tlv::Hello { .. } => {}
            Tlv::Ihu { .. } => self.handle_ihu(letter, from, tlv, now),
            Tlv::AckRequest { opaque, .. } => {
                let put = self.mail_of(from).map(|mail| mail.ack(opaque, now));
                if put == Some(Put::Refused) {
                    self.count(Count::AnswersFull);
                }
            }
            Tlv::Ack { opaque } => self.handle_ack(letter.link, from, opaque, now),
            Tlv::Update { .. } => self.handle_update(letter, from, tlv, now),
            Tlv::RouteRequest { prefix } => self.handle_route_request(from, prefix, now),
            Tlv::SeqnoRequest {
                prefix,
                router_id,
                seqno,
                hop_count,
            } => self.handle_seqno_request(from, (prefix, router_id), seqno, hop_count, now),
        }
    }

    /// Notes a hello (RFC 8966, §3.4.1 and appendix A.1) and returns whose.
    fn handle_hello(&mut self, letter: &Letter, hello: Tlv, now: Moment) -> Option<NeighbourId> {
        let Tlv::Hello {
            cast,
            seqno,
            interval,
            sent,
        } = hello
        else {
            return letter.from;
        };
        let mut from = match letter.from {
            Some(from) => from,
            None => self.meet(letter, now)?,
        };
        if self.hear(from, cast, seqno, interval, now) == Heard::Restarted {
            self.count(Count::Restarted);
            self.drop_neighbour(from, Parting::Restarted, now);
            from = self.meet(letter, now)?;
            self.hear(from, cast, seqno, interval, now);
        }
        if let Some(neighbour) = self.neighbours.get_mut(&from)
            && let Some(sent) = sent
        {
            neighbour.stamp = Some((sent, now));
        }
        self.refresh(from, Parting::HellosMissed, now);
        Some(from)
    }

    fn hear(
        &mut self,
        from: NeighbourId,
        cast: Cast,
        seqno: Seqno,
        interval: crate::babel::wire::tlv::Centis,
        now: Moment,
    ) -> Heard {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return Heard::Continued;
        };
        let history = match cast {
            Cast::Multicast => &mut neighbour.heard.multicast,
            Cast::Unicast => &mut neighbour.heard.unicast,
        };
        history.handle_hello(seqno, duration(interval), now)
    }

    /// Makes somebody who said hello a neighbour, if there is room.
    fn meet(&mut self, letter: &Letter, now: Moment) -> Option<NeighbourId> {
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

    /// Notes how a neighbour hears us (RFC 8966, §3.4.2).
    fn handle_ihu(&mut self, letter: &mut Letter, from: NeighbourId, ihu: Tlv, now: Moment) {
        let Tlv::Ihu {
            address,
            rxcost,
            interval,
            echo,
        } = ihu
        else {
            return;
        };
        let own = self.links.get(&letter.link).map(|link| link.config.address);
        let for_us = match address {
            None => letter.cast == Cast::Unicast,
            Some(address) => own == Some(address),
        };
        if !for_us {
            return;
        }
        letter.echo = echo;
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.handle_ihu(rxcost, duration(interval), now);
        }
        // The cost is taken when the packet ends, with the round trip that it may tell.
        if echo.is_none() || letter.answered.is_none() {
            self.refresh(from, Parting::Unheard, now);
        }
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
            if link.is_tunnel() && why != Parting::LinkDown {
                if why != Parting::Restarted {
                    // It may never have lost us: what it knows of us is no longer what we think
                    // that we told it. A number far away makes it begin anew as well (appendix
                    // A.1). Who restarted knows nothing of us, and would answer with a leap.
                    link.hello_seqno = Seqno(link.hello_seqno.0.wrapping_add(HELLO_LEAP));
                }
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

    /// Notes that a packet of ours arrived; a retraction that all have is no longer held (§3.5.4).
    fn handle_ack(&mut self, id: LinkId, from: NeighbourId, opaque: u16, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let bit = link.bit();
        let ours = |packet: &crate::babel::mail::Unacked| {
            packet.opaque == Some(opaque) && packet.awaiting.contains(&from)
        };
        let Some(at) = link.unacked.iter().position(ours) else {
            return;
        };
        let Some(packet) = link.unacked.get_mut(at) else {
            return;
        };
        packet.awaiting.remove(&from);
        if !packet.awaiting.is_empty() {
            return;
        }
        let said = link.unacked.remove(at).map(|packet| packet.said);
        let in_flight: BTreeSet<_> = link
            .unacked
            .iter()
            .flat_map(|packet| packet.said.iter().map(|said| (said.prefix, said.version)))
            .collect();
        for said in said.into_iter().flatten() {
            let Some(entry) = self.table.get(said.prefix) else {
                continue;
            };
            let (version, lost) = (entry.version, entry.selected == Selected::None);
            if said.version == version {
                if said.retraction {
                    self.handle_retraction_acked(said.prefix, version, bit);
                }
            } else if !in_flight.contains(&(said.prefix, version)) {
                // Packets may have changed places, and the older one overwritten the newer.
                let waiting = Waiting {
                    tries: 0,
                    forced: lost,
                };
                if let Some(mail) = self.mail_of(from) {
                    mail.update(said.prefix, waiting, now);
                }
            }
        }
    }
}
