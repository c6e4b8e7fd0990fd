//! What a Babel speaker says: one packet of each kind, their bodies, and what authentication adds.

use std::net::Ipv6Addr;

use mesh_routing::babel::wire::HEADER_LEN;
use mesh_routing::babel::wire::tlv::{Cast, Centis, Stamp, Tlv};
use mesh_routing::babel::wire::writer::{PAYLOAD_MAX, Writer};
use mesh_routing::babel::words::{Metric, Prefix, RouterId, Seqno};

type Inputs = Vec<(&'static str, Vec<u8>)>;

const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xa);
const NEIGHBOUR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xb);

/// Returns whole packets.
pub fn packets() -> Inputs {
    let hello = Tlv::Hello {
        cast: Cast::Multicast,
        seqno: Seqno(7),
        interval: Centis(100),
        sent: Some(Stamp(1_000_000)),
    };
    let ihu = Tlv::Ihu {
        address: Some(NEIGHBOUR),
        rxcost: Metric(96),
        interval: Centis(300),
        echo: Some((Stamp(990_000), Stamp(995_000))),
    };
    let host = Ipv6Addr::new(0xfd6d, 1, 2, 3, 0x0200, 0xff, 0xfe00, 0xa);
    let updates = [
        update(host, 64, SOURCE),
        update(host, 128, SOURCE),
        update(NEIGHBOUR, 0, NEIGHBOUR),
    ];
    let requests = [
        Tlv::RouteRequest { prefix: None },
        Tlv::RouteRequest {
            prefix: Some(prefix(host, 64)),
        },
        Tlv::SeqnoRequest {
            prefix: prefix(host, 64),
            router_id: router_id(),
            seqno: Seqno(8),
            hop_count: 64,
        },
    ];
    let acks = [
        Tlv::AckRequest {
            opaque: 9,
            within: Centis(20),
        },
        Tlv::Ack { opaque: 9 },
    ];
    let all = [&[hello, ihu][..], &updates, &requests, &acks].concat();
    vec![
        ("hello", write(&[hello])),
        ("hello-and-ihu", write(&[hello, ihu])),
        ("updates", write(&updates)),
        (
            "retractions",
            write(&[retraction(None), retraction(Some(prefix(host, 64)))]),
        ),
        ("requests", write(&requests)),
        ("acks", write(&acks)),
        ("all", write(&all)),
    ]
}

/// Returns the bodies of those packets.
pub fn bodies() -> Inputs {
    let body = |(name, bytes): (_, Vec<u8>)| (name, bytes.into_iter().skip(HEADER_LEN).collect());
    packets().into_iter().map(body).collect()
}

/// Returns bodies with what authentication reads.
pub fn authenticated() -> Inputs {
    vec![
        ("hello", vec![4, 6, 0, 0, 0, 7, 0, 100]),
        ("challenge", vec![18, 4, 1, 2, 3, 4]),
        ("answer", vec![19, 4, 1, 2, 3, 4]),
        ("counter", vec![17, 8, 0, 0, 0, 1, 1, 2, 3, 4]),
        ("both", vec![18, 1, 7, 0, 19, 2, 5, 5, 1, 1, 0]),
    ]
}

fn update(address: Ipv6Addr, bits: u8, next_hop: Ipv6Addr) -> Tlv {
    Tlv::Update {
        prefix: Some(prefix(address, bits)),
        router_id: Some(router_id()),
        next_hop,
        interval: Centis(30_000),
        seqno: Seqno(1),
        metric: Metric(96),
    }
}

fn retraction(prefix: Option<Prefix>) -> Tlv {
    Tlv::Update {
        prefix,
        router_id: None,
        next_hop: SOURCE,
        interval: Centis(100),
        seqno: Seqno(1),
        metric: Metric::INFINITY,
    }
}

fn prefix(address: Ipv6Addr, bits: u8) -> Prefix {
    Prefix::new(address, bits).expect("at most 128 bits")
}

fn router_id() -> RouterId {
    RouterId::from_bytes([2, 0, 0, 0xff, 0xfe, 0, 0, 0xa]).expect("neither zeros nor ones")
}

fn write(says: &[Tlv]) -> Vec<u8> {
    let mut writer = Writer::new(SOURCE, PAYLOAD_MAX);
    for tlv in says {
        let _ = writer.push(tlv);
    }
    writer.finish(None)
}
