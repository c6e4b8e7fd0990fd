//! One speaker, and neighbours that say exactly what a test wants: rules of RFC 8966 one by one.

use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_base::time::Moment;
use mesh_routing::babel::event::{Event, To};
use mesh_routing::babel::filter::Lawful;
use mesh_routing::babel::link::{LinkConfig, LinkId};
use mesh_routing::babel::neighbour::NeighbourId;
use mesh_routing::babel::speaker::{Config, Speaker};
use mesh_routing::babel::wire::reader;
use mesh_routing::babel::wire::tlv::{Cast, Centis, Tlv};
use mesh_routing::babel::words::{Metric, Prefix, RouterId, Seqno};

use crate::net::{id_of, prefix_of};

/// What the speaker said: where, to whom, what.
pub type Said = (LinkId, To, Vec<Tlv>);

/// A speaker that is node 0, and its time.
pub struct Desk {
    pub speaker: Speaker,
    pub now: Moment,
    hello: u16,
}

/// Our own address on a link.
pub fn own(link: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, link as u16, 0)
}

/// A neighbour's address on a link.
pub fn theirs(link: u32, number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, link as u16, number)
}

/// An announcement of a node's prefix by its owner's number and the neighbour's metric.
pub fn update(node: usize, seqno: u16, metric: u16) -> Tlv {
    update_as(prefix_of(node), id_of(node), seqno, metric)
}

/// An announcement of any prefix.
pub fn update_as(prefix: Prefix, router_id: RouterId, seqno: u16, metric: u16) -> Tlv {
    Tlv::Update {
        prefix: Some(prefix),
        router_id: Some(router_id),
        next_hop: theirs(1, 1),
        interval: Centis(30_000),
        seqno: Seqno(seqno),
        metric: Metric(metric),
    }
}

/// A retraction of a node's prefix.
pub fn retraction(node: usize) -> Tlv {
    update(node, 0, 0xffff)
}

/// A seqno request for a node's prefix.
pub fn request(node: usize, seqno: u16, hop_count: u8) -> Tlv {
    Tlv::SeqnoRequest {
        prefix: prefix_of(node),
        router_id: id_of(node),
        seqno: Seqno(seqno),
        hop_count,
    }
}

impl Desk {
    /// Returns a speaker without links that announces its prefix; nodes 0 to 99 are members.
    pub fn new() -> Self {
        let now = Moment(5_000_000_000);
        let config = Config {
            router_id: id_of(0),
            seqno: Seqno(7),
            seed: 1,
        };
        let mut speaker = Speaker::new(config, now);
        let lawful = Lawful {
            members: (0..100).map(id_of).collect(),
        };
        speaker.set_lawful(lawful, now);
        speaker.announce(prefix_of(0), Metric::ZERO, now);
        Self {
            speaker,
            now,
            hello: 0,
        }
    }

    /// Returns a speaker with tunnels 1 to `count`, a usable neighbour on each.
    pub fn with_tunnels(count: u32) -> Self {
        let mut desk = Self::new();
        for link in 1..=count {
            desk.link(link, LinkConfig::tunnel(own(link)));
            desk.meet(link, 1);
        }
        desk
    }

    /// Brings a link up.
    pub fn link(&mut self, link: u32, config: LinkConfig) {
        assert!(self.speaker.handle_link_up(LinkId(link), config, self.now));
    }

    /// Makes a neighbour usable that has our table; what is said for that is thrown away.
    pub fn meet(&mut self, link: u32, number: u16) {
        for _ in 0..2 {
            self.hello(link, number);
        }
        self.hear(link, number, &[Tlv::RouteRequest { prefix: None }]);
        self.settle();
    }

    /// Lets a neighbour say that it is there and hears us.
    pub fn hello(&mut self, link: u32, number: u16) {
        self.hello += 1;
        let hello = Tlv::Hello {
            cast: Cast::Multicast,
            seqno: Seqno(self.hello),
            interval: Centis(10_000),
            sent: None,
        };
        let ihu = Tlv::Ihu {
            address: Some(own(link)),
            rxcost: Metric(96),
            interval: Centis(60_000),
            echo: None,
        };
        self.hear(link, number, &[hello, ihu]);
    }

    /// Lets a neighbour say something.
    pub fn hear(&mut self, link: u32, number: u16, tlvs: &[Tlv]) {
        let source = theirs(link, number);
        let tlvs: Vec<_> = tlvs.iter().map(|tlv| from_address(*tlv, source)).collect();
        let cast = Cast::Multicast;
        self.speaker
            .handle_tlvs(LinkId(link), source, cast, &tlvs, self.now);
    }

    /// Returns what the speaker wants said now.
    pub fn said(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        while let Some(transmit) = self.speaker.poll_transmit(self.now) {
            let source = own(transmit.link.0);
            let tlvs = reader::read(&transmit.bytes, source).unwrap().collect();
            said.push((transmit.link, transmit.to, tlvs));
        }
        said
    }

    /// Returns what the speaker wants said over one link now, without hellos and acknowledgements.
    pub fn said_on(&mut self, link: u32) -> Vec<Tlv> {
        let said = self.said().into_iter();
        let tlvs = said.filter(|(on, ..)| *on == LinkId(link));
        let is_news = |tlv: &Tlv| {
            matches!(
                tlv,
                Tlv::Update { .. } | Tlv::RouteRequest { .. } | Tlv::SeqnoRequest { .. }
            )
        };
        tlvs.flat_map(|(.., tlvs)| tlvs).filter(is_news).collect()
    }

    /// Lets time pass while every neighbour on a tunnel is alive, and throws away what is said.
    pub fn settle(&mut self) {
        self.pass(Duration::from_millis(100));
        while self.speaker.poll_event().is_some() {}
    }

    /// Lets time pass; everything asked for is acknowledged, neighbours stay alive.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            for (link, _, tlvs) in self.said() {
                for tlv in tlvs {
                    if let Tlv::AckRequest { opaque, .. } = tlv {
                        self.hear(link.0, 1, &[Tlv::Ack { opaque }]);
                    }
                }
            }
            let next = self.speaker.poll_timeout().filter(|next| *next <= end);
            let Some(next) = next else {
                break;
            };
            self.now = self.now.max(next);
            for link in 0..10 {
                self.speaker.handle_traffic(LinkId(link), self.now);
            }
            self.speaker.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// Lets time pass while nobody says anything. Returns what is said.
    pub fn silence(&mut self, time: Duration) -> Vec<(Moment, Said)> {
        let end = self.now + time;
        let mut all = Vec::new();
        loop {
            let now = self.now;
            all.extend(self.said().into_iter().map(|said| (now, said)));
            let next = self.speaker.poll_timeout().filter(|next| *next <= end);
            let Some(next) = next else {
                break;
            };
            self.now = self.now.max(next);
            self.speaker.handle_timeout(self.now);
        }
        self.now = end;
        all
    }

    /// Returns all events.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.speaker.poll_event()).collect()
    }

    /// Returns over which link a node is reached.
    pub fn link_to(&self, node: usize) -> Option<u32> {
        use mesh_routing::babel::event::Reach;
        match self.speaker.reach(prefix_of(node)) {
            Reach::Via(hop) => Some(hop.link.0),
            Reach::Held | Reach::Gone => None,
        }
    }

    /// Returns the neighbour on a link.
    pub fn neighbour(&self, link: u32) -> NeighbourId {
        let all = self.speaker.neighbours(self.now);
        let found = all.iter().find(|n| n.link == LinkId(link));
        found.unwrap().neighbour
    }
}

/// Puts the sender's own address in as next hop.
fn from_address(tlv: Tlv, source: Ipv6Addr) -> Tlv {
    match tlv {
        Tlv::Update {
            prefix,
            router_id,
            interval,
            seqno,
            metric,
            ..
        } => Tlv::Update {
            prefix,
            router_id,
            next_hop: source,
            interval,
            seqno,
            metric,
        },
        other => other,
    }
}
