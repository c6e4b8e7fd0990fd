//! A second reader: whole lists and plain positions instead of a cursor, no counting, slow.
//!
//! Written from the same sections of RFC 8966 so that a slip in one of the two shows.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use mesh_routing::babel::wire::tlv::{Cast, Centis, Stamp, Tlv};
use mesh_routing::babel::words::{Metric, Prefix, RouterId, Seqno};

type Framed = Vec<(u8, Vec<u8>)>;

/// Returns what a lawful packet says.
pub fn read(packet: &[u8], source: Ipv6Addr) -> Vec<Tlv> {
    let len = usize::from(packet[2]) * 256 + usize::from(packet[3]);
    let (tlvs, _) = frames(&packet[4..4 + len]);
    let mut next_hop = Some(source);
    let mut id = None;
    let mut defaults: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let mut says = Vec::new();
    for (kind, body) in tlvs {
        match kind {
            6 => {
                id = body.get(2..10).map(<[u8]>::to_vec);
            }
            7 if body.len() >= 2 => match body[0] {
                2 => next_hop = body.get(2..18).map(|b| sixteen(b, &[])).filter(sent_to),
                3 => next_hop = body.get(2..10).map(local),
                _ => {}
            },
            8 if body.len() >= 10 => {
                says.extend(update(&body, source, next_hop, &mut id, &mut defaults));
            }
            _ => says.extend(stateless(kind, &body)),
        }
    }
    says
}

/// Splits into TLVs or sub-TLVs; false if the last one is longer than the bytes.
fn frames(bytes: &[u8]) -> (Framed, bool) {
    let mut all = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == 0 {
            at += 1;
            continue;
        }
        if at + 1 == bytes.len() || at + 2 + usize::from(bytes[at + 1]) > bytes.len() {
            return (all, false);
        }
        let end = at + 2 + usize::from(bytes[at + 1]);
        all.push((bytes[at], bytes[at + 2..end].to_vec()));
        at = end;
    }
    (all, true)
}

/// Returns the last timestamp long enough; none at all if the TLV must be ignored.
fn sub_tlvs(bytes: &[u8], stamp_len: usize) -> Option<Option<Vec<u8>>> {
    let (all, whole) = frames(bytes);
    if !whole || all.iter().any(|(kind, _)| *kind >= 0x80) {
        return None;
    }
    let stamps = all.into_iter().rev();
    let found = stamps.map(|(kind, body)| (kind == 3 && stamp_len <= body.len()).then_some(body));
    Some(found.flatten().next().filter(|_| stamp_len != 0))
}

fn update(
    body: &[u8],
    source: Ipv6Addr,
    next_hop: Option<Ipv6Addr>,
    id: &mut Option<Vec<u8>>,
    defaults: &mut BTreeMap<u8, Vec<u8>>,
) -> Option<Tlv> {
    let (encoding, flags, bits, omitted) = (body[0], body[1], body[2], usize::from(body[3]));
    // Both encodings of IPv4 share one default prefix.
    let family = if encoding == 4 { 1 } else { encoding };
    let len = usize::from(bits).div_ceil(8);
    let (width, start) = match family {
        0 => (0, Some(Vec::new())),
        1 => (4, defaults.get(&1).cloned()),
        2 => (16, defaults.get(&2).cloned()),
        3 => (16, Some(vec![0xfe, 0x80, 0, 0, 0, 0, 0, 0])),
        _ => (0, None),
    };
    let skipped = if family == 3 { len.min(8) } else { omitted };
    let known = match family {
        0 => Some((Vec::new(), 10)),
        1..=3 if len <= width && skipped <= len && !(family == 3 && omitted != 0) => {
            let end = 10 + len - skipped;
            let head = if skipped == 0 {
                Some(Vec::new())
            } else {
                start
            };
            head.zip(body.get(10..end)).map(|(head, tail)| {
                let mut all = [&head[..skipped], tail].concat();
                all.resize(width, 0);
                for at in usize::from(bits)..width * 8 {
                    all[at / 8] &= !(0x80 >> (at % 8));
                }
                (all, end)
            })
        }
        _ => None,
    };
    if flags & 0x80 != 0 && (family == 1 || family == 2) {
        match &known {
            Some((all, _)) => drop(defaults.insert(family, all.clone())),
            None => drop(defaults.remove(&family)),
        }
    }
    if flags & 0x40 != 0 {
        *id = known.as_ref().map(|(all, _)| {
            let padded = [&[0; 8][..], all].concat();
            padded[padded.len() - 8..].to_vec()
        });
    }
    let (all, end) = known?;
    sub_tlvs(&body[end..], 0)?;
    let metric = number(body, 8);
    if number(body, 4) == 0 || family == 1 || family == 3 {
        return None;
    }
    if family == 0 && (metric != 0xffff || bits != 0 || omitted != 0) {
        return None;
    }
    let finite = metric != 0xffff;
    let router_id = id.as_ref().and_then(|id| eight(id)).filter(|_| finite);
    if finite && (router_id.is_none() || next_hop.is_none()) {
        return None;
    }
    Some(Tlv::Update {
        prefix: (family == 2).then(|| Prefix::new(sixteen(&all, &[]), bits).unwrap()),
        router_id,
        next_hop: if finite { next_hop.unwrap() } else { source },
        interval: Centis(number(body, 4)),
        seqno: Seqno(number(body, 6)),
        metric: Metric(metric),
    })
}

/// Reads those that neither use nor change the state.
fn stateless(kind: u8, body: &[u8]) -> Option<Tlv> {
    let fixed_len = match kind {
        2 | 4 | 5 => 6,
        3 | 9 => 2,
        10 => 14,
        _ => return None,
    };
    if body.len() < fixed_len {
        return None;
    }
    let address_len = match (kind, body[0]) {
        (2..=4, _) | (5 | 9 | 10, 0) => 0,
        (5, 2) => 16,
        (5, 3) => 8,
        (9 | 10, 2) => usize::from(body[1]).div_ceil(8),
        _ => return None,
    };
    let bytes = body.get(fixed_len..fixed_len + address_len)?;
    let stamp_len = match kind {
        4 => 4,
        5 => 8,
        _ => 0,
    };
    let stamps = sub_tlvs(&body[fixed_len + address_len..], stamp_len)?;
    let stamp = |at: usize| {
        let four = stamps.as_ref()?.get(at..at + 4)?;
        Some(Stamp(
            four.iter().fold(0, |sum, b| sum * 256 + u32::from(*b)),
        ))
    };
    let prefix = || Prefix::new(sixteen(&bytes[..address_len.min(16)], &[]), body[1]);
    match kind {
        2 if number(body, 4) != 0 => Some(Tlv::AckRequest {
            opaque: number(body, 2),
            within: Centis(number(body, 4)),
        }),
        3 => Some(Tlv::Ack {
            opaque: number(body, 0),
        }),
        4 => Some(Tlv::Hello {
            cast: if body[0] < 0x80 {
                Cast::Multicast
            } else {
                Cast::Unicast
            },
            seqno: Seqno(number(body, 2)),
            interval: Centis(number(body, 4)),
            sent: stamp(0),
        }),
        5 if number(body, 4) != 0 => Some(Tlv::Ihu {
            address: match address_len {
                0 => None,
                8 => Some(local(bytes)),
                _ => Some(sixteen(bytes, &[])),
            },
            rxcost: Metric(number(body, 2)),
            interval: Centis(number(body, 4)),
            echo: stamp(0).zip(stamp(4)),
        }),
        9 if body[0] == 0 => (body[1] == 0).then_some(Tlv::RouteRequest { prefix: None }),
        9 => Some(Tlv::RouteRequest {
            prefix: Some(prefix()?),
        }),
        10 if body[0] == 2 && body[4] != 0 => Some(Tlv::SeqnoRequest {
            prefix: prefix()?,
            router_id: eight(&body[6..14])?,
            seqno: Seqno(number(body, 2)),
            hop_count: body[4],
        }),
        _ => None,
    }
}

fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from(bytes[at]) * 256 + u16::from(bytes[at + 1])
}

fn eight(bytes: &[u8]) -> Option<RouterId> {
    RouterId::from_bytes(bytes.try_into().unwrap())
}

/// Returns an address that begins with these bytes.
fn sixteen(start: &[u8], then: &[u8]) -> Ipv6Addr {
    let mut all = [start, then].concat();
    all.resize(16, 0);
    Ipv6Addr::from(<[u8; 16]>::try_from(all).unwrap())
}

fn local(bytes: &[u8]) -> Ipv6Addr {
    sixteen(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0], bytes)
}

fn sent_to(address: &Ipv6Addr) -> bool {
    address.octets()[0] != 0xff && u128::from(*address) > 1
}
