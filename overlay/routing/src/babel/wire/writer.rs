//! From what is to be said to the bytes of a packet (RFC 8966, §4), as short as the format allows.
//!
//! ```text
//!   Writer::new ─► push ─► Written
//!                  push ─► Full: finish, send, begin a new packet, push again
//!                  push ─► Refused          what every reader must ignore is not written
//!                  finish(now) ─► bytes     the time of sending goes into each hello that has one
//! ```
//! Leaves out what the parser state of the reader tells already: leading bytes of prefixes, the
//! router-id, the next hop. A router-id or next hop TLV goes with its update or not at all.
//! Invariant: the packet is never longer than its limit, and one that was just begun is never full.

use std::net::Ipv6Addr;

use super::tlv::{Cast, Stamp, Tlv};
use super::{
    Encoding, FLAG_PREFIX, FLAG_ROUTER_ID, FLAG_UNICAST, HEADER_LEN, MAGIC, VERSION, bytes_of,
    is_host, kind, last_half, sub,
};
use crate::babel::words::{Metric, Prefix, RouterId, Seqno};

/// The most that fits a packet of 1280 bytes behind the headers of IPv6 and UDP (RFC 8200, §5).
pub const PAYLOAD_MAX: usize = 1280 - 40 - 8;
/// The longest thing to say behind a header: a router-id, a next hop, and an update of a host.
pub const PAYLOAD_MIN: usize = HEADER_LEN + 12 + 20 + 28;

/// What became of something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what is not written must be said in another packet"]
pub enum Pushed {
    /// It is in the packet.
    Written,
    /// It does not fit any more; the packet is as before.
    Full,
    /// RFC 8966 asks every reader to ignore it; the packet is as before.
    Refused,
}

/// A packet that is being written.
#[derive(Debug, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
    limit: usize,
    /// Where the stamps of hellos stand.
    stamps: Vec<usize>,
    state: State,
}

/// What the reader will know at this point of the packet.
#[derive(Debug, Clone, Copy)]
struct State {
    router_id: Option<RouterId>,
    next_hop: Ipv6Addr,
    default: Option<[u8; 16]>,
}

impl Writer {
    /// Begins a packet of at most `limit` bytes of UDP payload, to be sent from `source`.
    ///
    /// A limit below [`PAYLOAD_MIN`] is taken as that. Who seals the packet afterwards
    /// (RFC 8967) subtracts what that adds.
    pub fn new(source: Ipv6Addr, limit: usize) -> Self {
        Self {
            bytes: vec![MAGIC, VERSION, 0, 0],
            limit: limit.clamp(PAYLOAD_MIN, HEADER_LEN + usize::from(u16::MAX)),
            stamps: Vec::new(),
            state: State {
                router_id: None,
                next_hop: source,
                default: None,
            },
        }
    }

    /// Says one more thing.
    pub fn push(&mut self, tlv: &Tlv) -> Pushed {
        if !is_lawful(tlv) {
            return Pushed::Refused;
        }
        let (len, state) = (self.bytes.len(), self.state);
        let stamp = self.append(tlv);
        if self.limit < self.bytes.len() {
            self.bytes.truncate(len);
            self.state = state;
            return Pushed::Full;
        }
        self.stamps.extend(stamp);
        Pushed::Written
    }

    /// Fills the packet with padding up to `len` bytes or its limit, to try a path (§4.6.2).
    pub fn pad_to(&mut self, len: usize) {
        let len = len.min(self.limit);
        while let Some(room @ 1..) = len.checked_sub(self.bytes.len()) {
            if room == 1 {
                self.bytes.push(kind::PAD1);
                continue;
            }
            // Proof: at most 255.
            let body_len = (room - 2).min(255) as u8;
            self.bytes.extend([kind::PADN, body_len]);
            let end = self.bytes.len() + usize::from(body_len);
            self.bytes.resize(end, 0);
        }
    }

    /// Ends the packet. Hellos that were pushed with a stamp get this one instead.
    pub fn finish(mut self, now: Option<Stamp>) -> Vec<u8> {
        // Proof: the limit keeps the body within 16 bits.
        let body_len = (self.bytes.len().saturating_sub(HEADER_LEN)) as u16;
        put(&mut self.bytes, 2, body_len.to_be_bytes());
        if let Some(Stamp(now)) = now {
            for at in &self.stamps {
                put(&mut self.bytes, *at, now.to_be_bytes());
            }
        }
        self.bytes
    }

    /// Returns whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() <= HEADER_LEN
    }

    /// Returns the length of the packet so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a TLV and returns where its stamp stands, if it is a hello that has one.
    fn append(&mut self, tlv: &Tlv) -> Option<usize> {
        match *tlv {
            Tlv::AckRequest { opaque, within } => {
                self.begin(kind::ACK_REQUEST, 6);
                self.numbers([0, opaque, within.0]);
            }
            Tlv::Ack { opaque } => {
                self.begin(kind::ACK, 2);
                self.numbers([opaque]);
            }
            Tlv::Hello {
                cast,
                seqno,
                interval,
                sent,
            } => {
                let flags = match cast {
                    Cast::Multicast => 0,
                    Cast::Unicast => FLAG_UNICAST,
                };
                self.begin(kind::HELLO, if sent.is_some() { 12 } else { 6 });
                self.numbers([flags, seqno.0, interval.0]);
                return sent.map(|stamp| self.stamp(stamp));
            }
            Tlv::Ihu { .. } => self.append_ihu(tlv),
            Tlv::Update { .. } => self.append_update(tlv),
            Tlv::RouteRequest { prefix: None } => {
                self.begin(kind::ROUTE_REQUEST, 2);
                self.bytes.extend([Encoding::Wildcard.to_byte(), 0]);
            }
            Tlv::RouteRequest {
                prefix: Some(prefix),
            } => {
                self.begin(kind::ROUTE_REQUEST, 2 + bytes_of(prefix.bits()));
                self.bytes.extend([Encoding::V6.to_byte(), prefix.bits()]);
                self.prefix(prefix, 0);
            }
            Tlv::SeqnoRequest {
                prefix,
                router_id,
                seqno: Seqno(seqno),
                hop_count,
            } => {
                self.begin(kind::SEQNO_REQUEST, 14 + bytes_of(prefix.bits()));
                self.bytes.extend([Encoding::V6.to_byte(), prefix.bits()]);
                self.numbers([seqno]);
                self.bytes.extend([hop_count, 0]);
                self.bytes.extend(router_id.to_bytes());
                self.prefix(prefix, 0);
            }
        }
        None
    }

    fn append_ihu(&mut self, tlv: &Tlv) {
        let Tlv::Ihu {
            address,
            rxcost: Metric(rxcost),
            interval,
            echo,
        } = *tlv
        else {
            return;
        };
        let encoding = address.map_or(Encoding::Wildcard, encoding_of);
        let stamps_len = if echo.is_some() { 10 } else { 0 };
        self.begin(kind::IHU, 6 + len_of(encoding) + stamps_len);
        self.bytes.extend([encoding.to_byte(), 0]);
        self.numbers([rxcost, interval.0]);
        if let Some(address) = address {
            self.address(address, encoding);
        }
        if let Some((Stamp(origin), Stamp(received))) = echo {
            self.bytes.extend([sub::TIMESTAMP, 8]);
            self.bytes.extend(origin.to_be_bytes());
            self.bytes.extend(received.to_be_bytes());
        }
    }

    fn append_update(&mut self, tlv: &Tlv) {
        let Tlv::Update {
            prefix,
            router_id,
            next_hop,
            interval,
            seqno,
            metric,
        } = *tlv
        else {
            return;
        };
        if metric.is_finite() && next_hop != self.state.next_hop {
            let encoding = encoding_of(next_hop);
            self.begin(kind::NEXT_HOP, 2 + len_of(encoding));
            self.bytes.extend([encoding.to_byte(), 0]);
            self.address(next_hop, encoding);
            self.state.next_hop = next_hop;
        }
        let news = router_id.filter(|id| self.state.router_id != Some(*id));
        self.state.router_id = news.or(self.state.router_id);
        let told_by_prefix = prefix.is_some_and(|prefix| {
            news.is_some_and(|id| id.to_bytes() == last_half(prefix.address()))
        });
        if let Some(id) = news.filter(|_| !told_by_prefix) {
            self.begin(kind::ROUTER_ID, 10);
            self.numbers([0]);
            self.bytes.extend(id.to_bytes());
        }
        let Some(prefix) = prefix else {
            self.begin(kind::UPDATE, 10);
            self.bytes.extend([Encoding::Wildcard.to_byte(), 0, 0, 0]);
            self.numbers([interval.0, seqno.0, metric.0]);
            return;
        };
        let omitted = self.omitted(prefix);
        self.state.default = Some(prefix.address().octets());
        let told = if told_by_prefix { FLAG_ROUTER_ID } else { 0 };
        let flags = FLAG_PREFIX | told;
        let carried = bytes_of(prefix.bits()).saturating_sub(usize::from(omitted));
        self.begin(kind::UPDATE, 10 + carried);
        self.bytes
            .extend([Encoding::V6.to_byte(), flags, prefix.bits(), omitted]);
        self.numbers([interval.0, seqno.0, metric.0]);
        self.prefix(prefix, omitted);
    }

    /// Returns how many leading bytes of a prefix the reader knows already.
    fn omitted(&self, prefix: Prefix) -> u8 {
        let Some(default) = self.state.default else {
            return 0;
        };
        let octets = prefix.address().octets();
        let pairs = octets.iter().zip(&default);
        let same = pairs
            .take(bytes_of(prefix.bits()))
            .take_while(|(a, b)| a == b);
        // Proof: at most sixteen.
        same.count() as u8
    }

    fn begin(&mut self, kind: u8, body_len: usize) {
        // Proof: every caller's length is a small constant plus at most 26.
        self.bytes.extend([kind, body_len as u8]);
    }

    fn numbers<const N: usize>(&mut self, numbers: [u16; N]) {
        self.bytes
            .extend(numbers.iter().flat_map(|n| n.to_be_bytes()));
    }

    fn address(&mut self, address: Ipv6Addr, encoding: Encoding) {
        match encoding {
            Encoding::LinkLocal => self.bytes.extend(last_half(address)),
            _ => self.bytes.extend(address.octets()),
        }
    }

    fn prefix(&mut self, prefix: Prefix, omitted: u8) {
        let octets = prefix.address().octets();
        let carried = octets.iter().take(bytes_of(prefix.bits()));
        self.bytes.extend(carried.skip(usize::from(omitted)));
    }

    fn stamp(&mut self, Stamp(stamp): Stamp) -> usize {
        self.bytes.extend([sub::TIMESTAMP, 4]);
        let at = self.bytes.len();
        self.bytes.extend(stamp.to_be_bytes());
        at
    }
}

/// Returns whether a reader may take it (the sections are those of RFC 8966).
fn is_lawful(tlv: &Tlv) -> bool {
    match *tlv {
        Tlv::AckRequest { within, .. } => within.0 != 0,
        Tlv::Ack { .. } | Tlv::Hello { .. } | Tlv::RouteRequest { .. } => true,
        Tlv::Ihu { interval, .. } => interval.0 != 0,
        Tlv::Update {
            prefix,
            router_id,
            next_hop,
            interval,
            metric,
            ..
        } => {
            let whole = prefix.is_some() && router_id.is_some() && is_host(next_hop);
            interval.0 != 0 && (whole || !metric.is_finite())
        }
        Tlv::SeqnoRequest { hop_count, .. } => hop_count != 0,
    }
}

fn encoding_of(address: Ipv6Addr) -> Encoding {
    if u128::from(address) >> 64 == 0xfe80 << 48 {
        return Encoding::LinkLocal;
    }
    Encoding::V6
}

fn len_of(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Wildcard => 0,
        Encoding::V4 => 4,
        Encoding::LinkLocal => 8,
        Encoding::V6 => 16,
    }
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, piece: [u8; N]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(piece) {
        *place = byte;
    }
}
