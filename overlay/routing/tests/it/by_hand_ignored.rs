//! What RFC 8966 asks to ignore, in bytes worked out by hand, and what that leaves behind.

use mesh_routing::babel::wire::ignored::{BadPacket, Ignored};
use mesh_routing::babel::wire::reader::read;
use mesh_routing::babel::wire::tlv::{Centis, Tlv};
use mesh_routing::babel::wire::writer::{PAYLOAD_MAX, Pushed, Writer};
use mesh_routing::babel::words::{Metric, Seqno};

use crate::by_hand::{HELLO, HELLO_BYTES, ROUTER_ID, UPDATE, check};
use crate::values::{address, prefix, router_id, source, update};

#[test]
fn mandatory_sub_tlv_that_is_unknown_silences_its_tlv() {
    let cases: &[&[u8]] = &[
        &[2, 8, 0, 0, 1, 1, 0, 20, 0x80, 0],
        &[3, 4, 1, 1, 0xff, 0],
        &[4, 8, 0, 0, 0x12, 0x34, 0x01, 0x90, 0x83, 0],
        &[5, 8, 0, 0, 0, 96, 0x04, 0xb0, 0x80, 0],
        &[9, 4, 0, 0, 0x80, 0],
        &[
            10, 17, 2, 8, 0, 9, 64, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0xfd, 0x80, 0,
        ],
    ];
    for body in cases {
        check(&[body], &[], &[Ignored::Mandatory]);
    }
}

#[test]
fn silenced_tlvs_still_change_the_state() {
    let router_id: &[u8] = &[6, 12, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0];
    let next_hop: &[u8] = &[7, 12, 3, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0x80, 0];
    // Source-specific (RFC 9079), with the interval of nobody.
    let specific: &[u8] = &[
        8, 19, 2, 0x80, 32, 0, 0, 0, 0, 7, 0, 96, 0xfd, 0x6d, 0, 1, 128, 3, 16, 0x20, 1,
    ];
    let rest: &[u8] = &[8, 10, 2, 0, 32, 4, 0, 100, 0, 7, 0, 96];
    check(
        &[router_id, next_hop, specific, rest],
        &[update("fd6d:1::/32", 0x0102_0304_0506_0708, "fe80::7")],
        &[Ignored::Mandatory],
    );
    let idle: &[u8] = &[8, 14, 2, 0x80, 32, 0, 0, 0, 0, 7, 0, 96, 0xfd, 0x6d, 0, 1];
    check(
        &[ROUTER_ID, idle, rest],
        &[update("fd6d:1::/32", 0x0102_0304_0506_0708, "fe80::1")],
        &[Ignored::Interval],
    );
}

#[test]
fn what_cannot_be_resolved_is_unknown_afterwards() {
    let nobody: &[u8] = &[6, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    check(&[ROUTER_ID, nobody, UPDATE], &[], &[Ignored::RouterId]);
    let everyone: &[u8] = &[6, 10, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255];
    check(&[everyone, UPDATE], &[], &[Ignored::RouterId]);
    let short: &[u8] = &[6, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    check(
        &[ROUTER_ID, short, UPDATE],
        &[],
        &[Ignored::Short, Ignored::RouterId],
    );
    let group = [&[7, 18, 2, 0][..], &address("ff02::1").octets()];
    check(
        &[ROUTER_ID, &group.concat(), UPDATE],
        &[],
        &[Ignored::NextHop],
    );
    let cut: &[u8] = &[8, 12, 2, 0x80, 32, 0, 0, 100, 0, 7, 0, 96, 0xfd, 0x6d];
    let rest: &[u8] = &[8, 10, 2, 0, 32, 4, 0, 100, 0, 7, 0, 96];
    check(
        &[ROUTER_ID, UPDATE, cut, rest],
        &[update("fd6d:1::/32", 0x0102_0304_0506_0708, "fe80::1")],
        &[Ignored::Short, Ignored::Omitted],
    );
    // The flag of an update without an id of its own leaves nobody to believe.
    let no_id: &[u8] = &[8, 11, 2, 0x40, 8, 0, 0, 100, 0, 7, 0, 96, 0xfd];
    check(&[ROUTER_ID, no_id], &[], &[Ignored::RouterId]);
}

#[test]
fn unlawful_tlvs_are_ignored_each_with_its_reason() {
    let cases: &[(&[u8], Ignored)] = &[
        (&[2, 5, 0, 0, 1, 1, 0], Ignored::Short),
        (&[2, 6, 0, 0, 1, 1, 0, 0], Ignored::Interval),
        (&[3, 1, 1], Ignored::Short),
        (&[4, 5, 0, 0, 1, 1, 1], Ignored::Short),
        (&[4, 7, 0, 0, 1, 1, 1, 1, 5], Ignored::SubTlv),
        (&[4, 9, 0, 0, 1, 1, 1, 1, 5, 2, 0], Ignored::SubTlv),
        (&[5, 6, 0, 0, 0, 96, 0, 0], Ignored::Interval),
        (&[5, 6, 9, 0, 0, 96, 0, 1], Ignored::Encoding),
        (&[5, 10, 1, 0, 0, 96, 0, 1, 10, 0, 0, 1], Ignored::Ipv4),
        (
            &[5, 13, 3, 0, 0, 96, 0, 1, 1, 2, 3, 4, 5, 6, 7],
            Ignored::Short,
        ),
        (&[7, 2, 0, 0], Ignored::Encoding),
        (&[7, 6, 1, 0, 10, 0, 0, 1], Ignored::Ipv4),
        (&[8, 10, 0, 0, 0, 0, 0, 1, 0, 7, 0, 9], Ignored::Wildcard),
        (
            &[8, 10, 0, 0, 8, 0, 0, 1, 0, 7, 255, 255],
            Ignored::Wildcard,
        ),
        (
            &[8, 10, 0, 0, 0, 1, 0, 1, 0, 7, 255, 255],
            Ignored::Wildcard,
        ),
        (
            &[8, 10, 0, 0, 0, 0, 0, 0, 0, 7, 255, 255],
            Ignored::Interval,
        ),
        (
            &[8, 10, 9, 0, 0, 0, 0, 1, 0, 7, 255, 255],
            Ignored::Encoding,
        ),
        (
            &[8, 11, 2, 0, 16, 1, 0, 1, 0, 7, 255, 255, 1],
            Ignored::Omitted,
        ),
        (&[8, 10, 2, 0, 8, 2, 0, 1, 0, 7, 255, 255], Ignored::Omitted),
        (
            &[8, 12, 3, 0, 72, 0, 0, 1, 0, 7, 255, 255, 1, 0],
            Ignored::LinkLocal,
        ),
        (
            &[8, 11, 2, 0, 8, 0, 0, 1, 0, 7, 0, 9, 0xfd],
            Ignored::RouterId,
        ),
        (&[9, 1, 0], Ignored::Short),
        (&[9, 2, 0, 1], Ignored::Wildcard),
        (&[9, 3, 1, 8, 10], Ignored::Ipv4),
        (&[9, 3, 3, 8, 10], Ignored::LinkLocal),
        (&[9, 3, 2, 16, 10], Ignored::Short),
        (
            &[10, 14, 0, 0, 0, 9, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            Ignored::Wildcard,
        ),
        (
            &[10, 14, 2, 0, 0, 9, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            Ignored::HopCount,
        ),
        (
            &[10, 14, 2, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Ignored::RouterId,
        ),
    ];
    for (body, reason) in cases {
        check(&[body, HELLO_BYTES], &[HELLO], &[*reason]);
    }
    let long = [&[9, 19, 2, 129][..], &[0; 17]].concat();
    check(&[&long], &[], &[Ignored::PrefixLength]);
    let long = [&[8, 27, 2, 0, 129, 0, 0, 1, 0, 7, 255, 255][..], &[0; 17]].concat();
    check(&[&long], &[], &[Ignored::PrefixLength]);
    let long = [&[8, 15, 1, 0, 33, 0, 0, 1, 0, 7, 255, 255][..], &[0; 5]].concat();
    check(&[&long], &[], &[Ignored::PrefixLength]);
}

#[test]
fn tlv_longer_than_the_packet_ends_it() {
    check(
        &[HELLO_BYTES, &[77, 200], HELLO_BYTES],
        &[HELLO],
        &[Ignored::Overrun],
    );
    check(&[HELLO_BYTES, &[4]], &[HELLO], &[Ignored::Overrun]);
}

#[test]
fn packet_of_somebody_else_is_not_read() {
    let cases: &[(&[u8], BadPacket)] = &[
        (&[], BadPacket::Short(0)),
        (&[42, 2, 0], BadPacket::Short(3)),
        (&[43, 2, 0, 0], BadPacket::Magic(43)),
        (&[42, 3, 0, 0], BadPacket::Version(3)),
        (
            &[42, 2, 0, 2, 0],
            BadPacket::Body {
                declared: 2,
                carried: 1,
            },
        ),
    ];
    for (bytes, why) in cases {
        assert_eq!(read(bytes, source()).unwrap_err(), *why);
    }
    let from_afar = read(&[42, 2, 0, 0], address("fd6d::1"));
    assert_eq!(from_afar.unwrap_err(), BadPacket::Source);
}

#[test]
fn what_every_reader_ignores_is_refused() {
    let no_id = Tlv::Update {
        prefix: Some(prefix("fd6d::/16")),
        router_id: None,
        next_hop: source(),
        interval: Centis(1),
        seqno: Seqno(0),
        metric: Metric(0),
    };
    let refused = [
        no_id,
        update("fd6d::/16", 7, "ff02::1"),
        Tlv::SeqnoRequest {
            prefix: prefix("fd6d::/16"),
            router_id: router_id(7),
            seqno: Seqno(0),
            hop_count: 0,
        },
        Tlv::Ihu {
            address: None,
            rxcost: Metric(0),
            interval: Centis(0),
            echo: None,
        },
        Tlv::AckRequest {
            opaque: 0,
            within: Centis(0),
        },
    ];
    let mut writer = Writer::new(source(), PAYLOAD_MAX);
    for tlv in refused {
        assert_eq!(writer.push(&tlv), Pushed::Refused);
    }
    assert!(writer.is_empty());
}
