//! The bodies of those TLVs that neither use nor change the parser state.

use super::cursor::Cursor;
use super::ignored::Ignored;
use super::tlv::{Cast, Centis, Stamp, Tlv};
use super::{Encoding, FLAG_UNICAST, bytes_of, sub};
use crate::babel::words::{Metric, Prefix, RouterId, Seqno};

/// Walks over the sub-TLVs of a TLV (RFC 8966, §4.4); `known` returns whether it took one.
pub fn sub_tlvs(
    mut unread: Cursor<'_>,
    mut known: impl FnMut(u8, &[u8]) -> bool,
) -> Result<(), Ignored> {
    while !unread.0.is_empty() {
        let framed = unread.framed().ok_or(Ignored::SubTlv)?;
        let Some((kind, body)) = framed else {
            continue;
        };
        if kind != sub::PADN && !known(kind, body) && kind & sub::MANDATORY != 0 {
            return Err(Ignored::Mandatory);
        }
    }
    Ok(())
}

/// Walks over sub-TLVs where none means anything to us.
pub fn no_sub_tlvs(unread: Cursor<'_>) -> Result<(), Ignored> {
    sub_tlvs(unread, |_, _| false)
}

/// Reads an Acknowledgment Request (§4.6.3).
pub fn ack_request(body: &[u8]) -> Result<Tlv, Ignored> {
    let mut unread = Cursor(body);
    let mut fixed = || Some((unread.number()?, unread.number()?, unread.number()?));
    let (_reserved, opaque, within) = fixed().ok_or(Ignored::Short)?;
    no_sub_tlvs(unread)?;
    if within == 0 {
        return Err(Ignored::Interval);
    }
    let within = Centis(within);
    Ok(Tlv::AckRequest { opaque, within })
}

/// Reads an Acknowledgment (§4.6.4).
pub fn ack(body: &[u8]) -> Result<Tlv, Ignored> {
    let mut unread = Cursor(body);
    let opaque = unread.number().ok_or(Ignored::Short)?;
    no_sub_tlvs(unread)?;
    Ok(Tlv::Ack { opaque })
}

/// Reads a Hello (§4.6.5) with its timestamp (RFC 9616, §5.1).
pub fn hello(body: &[u8]) -> Result<Tlv, Ignored> {
    let mut unread = Cursor(body);
    let mut fixed = || Some((unread.number()?, unread.number()?, unread.number()?));
    let (flags, seqno, interval) = fixed().ok_or(Ignored::Short)?;
    let mut sent = None;
    sub_tlvs(unread, |kind, body| {
        if kind != sub::TIMESTAMP {
            return false;
        }
        sent = Cursor(body).array().map(stamp).or(sent);
        true
    })?;
    let cast = if flags & FLAG_UNICAST == 0 {
        Cast::Multicast
    } else {
        Cast::Unicast
    };
    Ok(Tlv::Hello {
        cast,
        seqno: Seqno(seqno),
        interval: Centis(interval),
        sent,
    })
}

/// Reads an IHU (§4.6.6) with its timestamps (RFC 9616, §5.2).
pub fn ihu(body: &[u8]) -> Result<Tlv, Ignored> {
    let mut unread = Cursor(body);
    let mut fixed = || Some((unread.number()?, unread.number()?, unread.number()?));
    let (encoding, rxcost, interval) = fixed().ok_or(Ignored::Short)?;
    let [encoding, _reserved] = encoding.to_be_bytes();
    let address = match Encoding::from_byte(encoding).ok_or(Ignored::Encoding)? {
        Encoding::Wildcard => None,
        Encoding::V4 => return Err(Ignored::Ipv4),
        Encoding::V6 => Some(unread.address().ok_or(Ignored::Short)?),
        Encoding::LinkLocal => Some(unread.link_local().ok_or(Ignored::Short)?),
    };
    let mut echo = None;
    sub_tlvs(unread, |kind, body| {
        if kind != sub::TIMESTAMP {
            return false;
        }
        let mut body = Cursor(body);
        let stamps = body.array().map(stamp).zip(body.array().map(stamp));
        echo = stamps.or(echo);
        true
    })?;
    if interval == 0 {
        return Err(Ignored::Interval);
    }
    Ok(Tlv::Ihu {
        address,
        rxcost: Metric(rxcost),
        interval: Centis(interval),
        echo,
    })
}

/// Reads a Route Request (§4.6.10).
pub fn route_request(body: &[u8]) -> Result<Tlv, Ignored> {
    let mut unread = Cursor(body);
    let [encoding, bits] = unread.array().ok_or(Ignored::Short)?;
    let prefix = match Encoding::from_byte(encoding).ok_or(Ignored::Encoding)? {
        Encoding::Wildcard if bits == 0 => None,
        Encoding::Wildcard => return Err(Ignored::Wildcard),
        encoding => Some(whole_prefix(&mut unread, encoding, bits)?),
    };
    no_sub_tlvs(unread)?;
    Ok(Tlv::RouteRequest { prefix })
}

/// Reads a Seqno Request (§4.6.11).
pub fn seqno_request(body: &[u8]) -> Result<Tlv, Ignored> {
    let mut unread = Cursor(body);
    let mut fixed = || {
        let [encoding, bits] = unread.array()?;
        let seqno = Seqno(unread.number()?);
        let [hop_count, _reserved] = unread.array()?;
        Some((encoding, bits, seqno, hop_count, unread.array()?))
    };
    let (encoding, bits, seqno, hop_count, router_id) = fixed().ok_or(Ignored::Short)?;
    let encoding = Encoding::from_byte(encoding).ok_or(Ignored::Encoding)?;
    let prefix = whole_prefix(&mut unread, encoding, bits)?;
    no_sub_tlvs(unread)?;
    let router_id = RouterId::from_bytes(router_id).ok_or(Ignored::RouterId)?;
    if hop_count == 0 {
        return Err(Ignored::HopCount);
    }
    Ok(Tlv::SeqnoRequest {
        prefix,
        router_id,
        seqno,
        hop_count,
    })
}

/// Reads a prefix of which no byte is left out.
fn whole_prefix(unread: &mut Cursor<'_>, encoding: Encoding, bits: u8) -> Result<Prefix, Ignored> {
    match encoding {
        Encoding::Wildcard => Err(Ignored::Wildcard),
        Encoding::V4 => Err(Ignored::Ipv4),
        Encoding::LinkLocal => Err(Ignored::LinkLocal),
        Encoding::V6 => {
            if 128 < bits {
                return Err(Ignored::PrefixLength);
            }
            let bytes = unread.take(bytes_of(bits)).ok_or(Ignored::Short)?;
            let mut address = [0; 16];
            for (place, byte) in address.iter_mut().zip(bytes) {
                *place = *byte;
            }
            Prefix::new(address.into(), bits).ok_or(Ignored::PrefixLength)
        }
    }
}

fn stamp(bytes: [u8; 4]) -> Stamp {
    Stamp(u32::from_be_bytes(bytes))
}
