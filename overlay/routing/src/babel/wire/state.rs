//! The parser state (RFC 8966, §4.5): what one TLV leaves for those behind it.
//!
//! A TLV changes the state even if it is ignored itself, for sender and receiver must agree on it.
//! Where a TLV is damaged so that the new state cannot be told, that part of the state is unknown
//! afterwards: an update is rather ignored than believed about another router or prefix.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::body;
use super::cursor::Cursor;
use super::ignored::Ignored;
use super::tlv::{Centis, Tlv};
use super::{Encoding, FLAG_PREFIX, FLAG_ROUTER_ID, bytes_of, is_host, kind, last_half};
use crate::babel::words::{Metric, Prefix, RouterId, Seqno};

/// What the TLVs so far imply for the next one.
#[derive(Debug, Clone)]
pub struct State {
    source: Ipv6Addr,
    router_id: Option<RouterId>,
    next_hop: Option<Ipv6Addr>,
    default_v4: Option<[u8; 4]>,
    default_v6: Option<[u8; 16]>,
}

/// The fixed part of an update (§4.6.9).
struct Head {
    flags: u8,
    bits: u8,
    omitted: usize,
    interval: u16,
    seqno: Seqno,
    metric: Metric,
}

/// What an update is about.
enum About {
    Everything,
    V4(Ipv4Addr),
    V6(Prefix),
    LinkLocal([u8; 8]),
}

impl State {
    /// Returns the state at the start of a packet.
    pub fn new(source: Ipv6Addr) -> Self {
        Self {
            source,
            router_id: None,
            next_hop: Some(source),
            default_v4: None,
            default_v6: None,
        }
    }

    /// Reads one TLV. None are those that say nothing by themselves.
    pub fn handle_tlv(&mut self, kind: u8, body: &[u8]) -> Result<Option<Tlv>, Ignored> {
        match kind {
            // Those of RFC 8967 are for whoever opens the packet.
            kind::PADN | kind::MAC | kind::PC | kind::CHALLENGE_REQUEST | kind::CHALLENGE_REPLY => {
                Ok(None)
            }
            kind::ACK_REQUEST => body::ack_request(body).map(Some),
            kind::ACK => body::ack(body).map(Some),
            kind::HELLO => body::hello(body).map(Some),
            kind::IHU => body::ihu(body).map(Some),
            kind::ROUTER_ID => self.handle_router_id(body).map(|()| None),
            kind::NEXT_HOP => self.handle_next_hop(body).map(|()| None),
            kind::UPDATE => self.handle_update(body).map(Some),
            kind::ROUTE_REQUEST => body::route_request(body).map(Some),
            kind::SEQNO_REQUEST => body::seqno_request(body).map(Some),
            _ => Err(Ignored::Unknown),
        }
    }

    /// Router-Id (§4.6.7).
    fn handle_router_id(&mut self, body: &[u8]) -> Result<(), Ignored> {
        let mut unread = Cursor(body);
        let bytes = unread.number().and_then(|_reserved| unread.array());
        self.router_id = bytes.and_then(RouterId::from_bytes);
        if bytes.is_none() {
            return Err(Ignored::Short);
        }
        body::no_sub_tlvs(unread)?;
        self.router_id.map(|_| ()).ok_or(Ignored::RouterId)
    }

    /// Next Hop (§4.6.8).
    fn handle_next_hop(&mut self, body: &[u8]) -> Result<(), Ignored> {
        let mut unread = Cursor(body);
        let [encoding, _reserved] = unread.array().ok_or(Ignored::Short)?;
        let address = match Encoding::from_byte(encoding).ok_or(Ignored::Encoding)? {
            Encoding::Wildcard => return Err(Ignored::Encoding),
            Encoding::V4 => return Err(Ignored::Ipv4),
            Encoding::V6 => unread.address(),
            Encoding::LinkLocal => unread.link_local(),
        };
        self.next_hop = address.filter(|address| is_host(*address));
        if address.is_none() {
            return Err(Ignored::Short);
        }
        body::no_sub_tlvs(unread)?;
        self.next_hop.map(|_| ()).ok_or(Ignored::NextHop)
    }

    /// Update (§4.6.9).
    fn handle_update(&mut self, body: &[u8]) -> Result<Tlv, Ignored> {
        let mut unread = Cursor(body);
        let (encoding, head) = Head::take(&mut unread).ok_or(Ignored::Short)?;
        let encoding = Encoding::from_byte(encoding);
        let about = self.about(encoding, &head, &mut unread);
        self.follow(encoding, &head, about.as_ref().ok());
        let about = about?;
        body::no_sub_tlvs(unread)?;
        if head.interval == 0 {
            return Err(Ignored::Interval);
        }
        let prefix = match about {
            About::Everything if head.bits != 0 || head.omitted != 0 || head.metric.is_finite() => {
                return Err(Ignored::Wildcard);
            }
            About::Everything => None,
            About::V4(_) => return Err(Ignored::Ipv4),
            About::LinkLocal(_) => return Err(Ignored::LinkLocal),
            About::V6(prefix) => Some(prefix),
        };
        let (router_id, next_hop) = if head.metric.is_finite() {
            let router_id = self.router_id.ok_or(Ignored::RouterId)?;
            (Some(router_id), self.next_hop.ok_or(Ignored::NextHop)?)
        } else {
            // A retraction uses neither, whatever stands before it.
            (None, self.source)
        };
        Ok(Tlv::Update {
            prefix,
            router_id,
            next_hop,
            interval: Centis(head.interval),
            seqno: head.seqno,
            metric: head.metric,
        })
    }

    /// Reads the prefix of an update, with the bytes that are left out.
    fn about(
        &self,
        encoding: Option<Encoding>,
        head: &Head,
        unread: &mut Cursor<'_>,
    ) -> Result<About, Ignored> {
        let bits = head.bits;
        match encoding.ok_or(Ignored::Encoding)? {
            Encoding::Wildcard => Ok(About::Everything),
            Encoding::V4 => {
                let bytes = resolve(self.default_v4, head, unread)?;
                let ones = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Ok(About::V4((u32::from_be_bytes(bytes) & ones).into()))
            }
            Encoding::V6 => {
                let bytes: [u8; 16] = resolve(self.default_v6, head, unread)?;
                let prefix = Prefix::new(bytes.into(), bits).ok_or(Ignored::PrefixLength)?;
                Ok(About::V6(prefix))
            }
            Encoding::LinkLocal => {
                // Its first half is implied and is never a default prefix.
                let of_link = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).octets();
                if head.omitted != 0 {
                    return Err(Ignored::Omitted);
                }
                let implied = Head {
                    omitted: 8.min(bytes_of(bits)),
                    ..*head
                };
                let bytes: [u8; 16] = resolve(Some(of_link), &implied, unread)?;
                let prefix = Prefix::new(bytes.into(), bits).ok_or(Ignored::PrefixLength)?;
                Ok(About::LinkLocal(last_half(prefix.address())))
            }
        }
    }

    /// Does what the flags of an update say; `about` is none if its prefix cannot be told.
    fn follow(&mut self, encoding: Option<Encoding>, head: &Head, about: Option<&About>) {
        if head.flags & FLAG_PREFIX != 0 {
            match encoding {
                Some(Encoding::V4) => {
                    self.default_v4 = about.and_then(|about| match about {
                        About::V4(address) => Some(address.octets()),
                        _ => None,
                    });
                }
                Some(Encoding::V6) => {
                    self.default_v6 = about.and_then(|about| match about {
                        About::V6(prefix) => Some(prefix.address().octets()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        if head.flags & FLAG_ROUTER_ID != 0 {
            let bytes = match about {
                None | Some(About::Everything) => [0; 8],
                Some(About::V4(address)) => u64::from(u32::from(*address)).to_be_bytes(),
                Some(About::V6(prefix)) => last_half(prefix.address()),
                Some(About::LinkLocal(id)) => *id,
            };
            self.router_id = RouterId::from_bytes(bytes);
        }
    }
}

impl Head {
    fn take(unread: &mut Cursor<'_>) -> Option<(u8, Self)> {
        let [encoding, flags, bits, omitted] = unread.array()?;
        let head = Self {
            flags,
            bits,
            omitted: usize::from(omitted),
            interval: unread.number()?,
            seqno: Seqno(unread.number()?),
            metric: Metric(unread.number()?),
        };
        Some((encoding, head))
    }
}

/// Puts a prefix together from the default one and what stands in the update.
fn resolve<const N: usize>(
    default: Option<[u8; N]>,
    head: &Head,
    unread: &mut Cursor<'_>,
) -> Result<[u8; N], Ignored> {
    let len = bytes_of(head.bits);
    if N < len {
        return Err(Ignored::PrefixLength);
    }
    let carried = len.checked_sub(head.omitted).ok_or(Ignored::Omitted)?;
    let mut address = [0; N];
    if head.omitted != 0 {
        let default = default.ok_or(Ignored::Omitted)?;
        for (place, byte) in address.iter_mut().zip(default).take(head.omitted) {
            *place = byte;
        }
    }
    let bytes = unread.take(carried).ok_or(Ignored::Short)?;
    for (place, byte) in address.iter_mut().skip(head.omitted).zip(bytes) {
        *place = *byte;
    }
    Ok(address)
}
