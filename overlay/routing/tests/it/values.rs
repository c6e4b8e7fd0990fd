//! Values that the tests speak about, and how they are drawn at random.

use std::net::Ipv6Addr;

use mesh_routing::babel::wire::tlv::{Cast, Centis, Stamp, Tlv};
use mesh_routing::babel::words::{Metric, Prefix, RouterId, Seqno};
use proptest::prelude::{Just, Strategy, any, prop_oneof};

pub fn source() -> Ipv6Addr {
    address("fe80::1")
}

pub fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub fn prefix(text: &str) -> Prefix {
    let (address_text, bits) = text.split_once('/').unwrap();
    Prefix::new(address(address_text), bits.parse().unwrap()).unwrap()
}

pub fn router_id(number: u64) -> RouterId {
    RouterId::from_bytes(number.to_be_bytes()).unwrap()
}

/// Returns a body with its header.
pub fn packet(body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap();
    [&[42, 2][..], &len.to_be_bytes(), body].concat()
}

pub fn update(prefix_text: &str, id: u64, next_hop: &str) -> Tlv {
    Tlv::Update {
        prefix: Some(prefix(prefix_text)),
        router_id: Some(router_id(id)),
        next_hop: address(next_hop),
        interval: Centis(100),
        seqno: Seqno(7),
        metric: Metric(96),
    }
}

pub fn retraction(prefix: Option<Prefix>) -> Tlv {
    Tlv::Update {
        prefix,
        router_id: None,
        next_hop: source(),
        interval: Centis(100),
        seqno: Seqno(7),
        metric: Metric::INFINITY,
    }
}

/// Addresses of which many share a start, an end or both.
fn addresses() -> impl Strategy<Value = Ipv6Addr> {
    let half = || {
        prop_oneof![
            0_u64..4,
            Just(0xfe80 << 48),
            (0_u64..3).prop_map(|n| (0xfd6d << 48) | n),
            any::<u64>()
        ]
    };
    (half(), half())
        .prop_map(|(high, low)| Ipv6Addr::from((u128::from(high) << 64) | u128::from(low)))
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    let bits = prop_oneof![Just(64_u8), Just(128_u8), 0_u8..=128];
    (addresses(), bits).prop_map(|(address, bits)| Prefix::new(address, bits).unwrap())
}

fn router_ids() -> impl Strategy<Value = RouterId> {
    prop_oneof![1_u64..4, 1_u64..u64::MAX].prop_map(router_id)
}

fn hosts() -> impl Strategy<Value = Ipv6Addr> {
    let host = |address: &Ipv6Addr| {
        !address.is_multicast() && !address.is_unspecified() && !address.is_loopback()
    };
    prop_oneof![Just(source()), addresses().prop_filter("sent to", host)]
}

fn updates() -> impl Strategy<Value = Tlv> {
    let metric = prop_oneof![0_u16..0xffff];
    let place = (prefixes(), router_ids(), hosts());
    let finite = (place, any::<[u16; 2]>(), metric).prop_map(
        |((prefix, router_id, next_hop), [interval, seqno], metric)| Tlv::Update {
            prefix: Some(prefix),
            router_id: Some(router_id),
            next_hop,
            interval: Centis(interval.max(1)),
            seqno: Seqno(seqno),
            metric: Metric(metric),
        },
    );
    let gone = proptest::option::weighted(0.9, prefixes()).prop_map(retraction);
    prop_oneof![4 => finite, 1 => gone]
}

/// Anything that may be said.
pub fn tlvs() -> impl Strategy<Value = Tlv> {
    let stamps = || proptest::option::of(any::<u32>().prop_map(Stamp));
    let hello = (any::<bool>(), any::<[u16; 2]>(), stamps()).prop_map(
        |(unicast, [seqno, interval], sent)| Tlv::Hello {
            cast: if unicast {
                Cast::Unicast
            } else {
                Cast::Multicast
            },
            seqno: Seqno(seqno),
            interval: Centis(interval),
            sent,
        },
    );
    let ihu = (
        proptest::option::of(addresses()),
        any::<[u16; 2]>(),
        stamps(),
        any::<u32>(),
    )
        .prop_map(|(address, [rxcost, interval], origin, received)| Tlv::Ihu {
            address,
            rxcost: Metric(rxcost),
            interval: Centis(interval.max(1)),
            echo: origin.map(|origin| (origin, Stamp(received))),
        });
    let seqno_request = (prefixes(), router_ids(), any::<u16>(), 1_u8..).prop_map(
        |(prefix, router_id, seqno, hop_count)| Tlv::SeqnoRequest {
            prefix,
            router_id,
            seqno: Seqno(seqno),
            hop_count,
        },
    );
    prop_oneof![
        2 => hello,
        2 => ihu,
        8 => updates(),
        1 => any::<[u16; 2]>().prop_map(|[opaque, within]| Tlv::AckRequest {
            opaque,
            within: Centis(within.max(1)),
        }),
        1 => any::<u16>().prop_map(|opaque| Tlv::Ack { opaque }),
        1 => proptest::option::of(prefixes()).prop_map(|prefix| Tlv::RouteRequest { prefix }),
        1 => seqno_request,
    ]
}
