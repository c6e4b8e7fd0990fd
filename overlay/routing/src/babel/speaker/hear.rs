//! Packets, hellos, IHUs and acknowledgements: who is a neighbour and what the way to it costs.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use mesh_base::time::Moment;

use super::Speaker;
use crate::babel::count::Count;
use crate::babel::event::Parting;
use crate::babel::history::Heard;
use crate::babel::link::{LinkId, duration};
use crate::babel::mail::{Put, Said, Unacked, UnackedQueue, Waiting};
use crate::babel::neighbour::NeighbourId;
use crate::babel::route::Selected;
use crate::babel::rtt::Trip;
use crate::babel::wire::reader;
use crate::babel::wire::tlv::{Cast, Stamp, Tlv};
use crate::babel::words::{Metric, Prefix, Seqno};

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
            let greeted = self.neighbours.get(&from).is_some_and(|n| n.greeted);
            self.drop_neighbour(from, Parting::Restarted, now);
            from = self.meet(letter, now)?;
            self.hear(from, cast, seqno, interval, now);
            if greeted {
                self.greet_again(from, now);
            }
        }
        if let Some(neighbour) = self.neighbours.get_mut(&from)
            && let Some(sent) = sent
        {
            neighbour.stamp = Some((sent, now));
        }
        self.refresh(from, Parting::HellosMissed, now);
        Some(from)
    }

    /// Goes on telling a neighbour that began anew what changes. The question for our table with
    /// which it began may have come before the hello by which we know, and will not come again.
    fn greet_again(&mut self, id: NeighbourId, now: Moment) {
        if let Some(neighbour) = self.neighbours.get_mut(&id) {
            neighbour.greeted = true;
            self.begin_dump(id, now);
        }
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

    /// Notes that a packet of ours arrived; a retraction that all have is no longer held (§3.5.4).
    fn handle_ack(&mut self, id: LinkId, from: NeighbourId, opaque: u16, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let bit = link.bit();
        let ours =
            |packet: &Unacked| packet.opaque == Some(opaque) && packet.awaiting.contains(&from);
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
        let Some(packet) = link.unacked.remove(at) else {
            return;
        };
        let in_flight = retracted_in_flight(&packet, &link.unacked);
        for said in packet.said {
            self.handle_said_acked((id, from), bit, said, &in_flight, now);
        }
    }

    /// Packets may have changed places, and acknowledgements as well: what is acknowledged while
    /// something newer is on its way may have overwritten that.
    fn handle_said_acked(
        &mut self,
        (id, from): (LinkId, NeighbourId),
        bit: u64,
        said: Said,
        in_flight: &BTreeSet<Prefix>,
        now: Moment,
    ) {
        let Some(entry) = self.table.get(said.prefix) else {
            return;
        };
        let (version, lost) = (entry.version, entry.selected == Selected::None);
        let is_newest = said.version == version;
        if is_newest && !said.doubtful {
            // Something older may still come behind it: that is told until it is acknowledged.
            if said.retraction && !in_flight.contains(&said.prefix) {
                self.handle_retraction_acked(said.prefix, version, bit);
            }
            return;
        }
        let mail = self.mail_of(from);
        let waits = mail.is_some_and(|mail| mail.updates.contains_key(&said.prefix));
        if !is_newest && !waits && self.doubt(id, said.prefix, version) {
            return;
        }
        let waiting = Waiting {
            tries: 0,
            forced: lost,
        };
        if let Some(mail) = self.mail_of(from) {
            mail.update(said.prefix, waiting, now);
        }
    }

    /// Returns whether a version of an announcement waits for acknowledgements on a link; if it is
    /// a retraction it is said again then.
    fn doubt(&mut self, id: LinkId, prefix: Prefix, version: u32) -> bool {
        let link = self.links.get_mut(&id).into_iter();
        let unacked = link.flat_map(|link| link.unacked.iter_mut().rev());
        let mut said = unacked.flat_map(|packet| &mut packet.said);
        let newest = said.find(|said| said.prefix == prefix && said.version == version);
        newest.is_some_and(|said| {
            said.doubtful = said.retraction;
            true
        })
    }
}

/// Returns which prefixes that a packet retracted are in others that wait for acknowledgements.
fn retracted_in_flight(packet: &Unacked, others: &UnackedQueue) -> BTreeSet<Prefix> {
    let retracted = packet.said.iter().filter(|said| said.retraction);
    let retracted: BTreeSet<Prefix> = retracted.map(|said| said.prefix).collect();
    if retracted.is_empty() {
        return retracted;
    }
    let said = others.iter().flat_map(|packet| &packet.said);
    said.map(|said| said.prefix)
        .filter(|prefix| retracted.contains(prefix))
        .collect()
}
