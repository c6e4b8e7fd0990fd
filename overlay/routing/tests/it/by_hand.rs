//! Each TLV with bytes that were worked out by hand from RFC 8966, §4.6 and RFC 9616, §5.

use mesh_routing::babel::wire::ignored::{BadPacket, Ignored};
use mesh_routing::babel::wire::reader::read;
use mesh_routing::babel::wire::tlv::{Cast, Centis, Stamp, Tlv};
use mesh_routing::babel::wire::writer::{PAYLOAD_MAX, Pushed, Writer};
use mesh_routing::babel::words::{Metric, Seqno};

use crate::values::{address, packet, prefix, retraction, router_id, source, update};

/// Reads TLVs of a body and compares what they say and why the rest was ignored.
#[track_caller]
fn check(body: &[&[u8]], says: &[Tlv], ignored: &[Ignored]) {
    let bytes = packet(&body.concat());
    let mut reader = read(&bytes, source()).unwrap();
    let got: Vec<Tlv> = reader.by_ref().collect();
    let reasons: Vec<Ignored> = reader.ignored().iter().map(|(reason, _)| reason).collect();
    assert_eq!((got.as_slice(), reasons.as_slice()), (says, ignored));
}

/// Checks that a TLV is written as these bytes, and that they are read as this TLV.
#[track_caller]
fn check_both(body: &[u8], tlv: Tlv) {
    check(&[body], &[tlv], &[]);
    let mut writer = Writer::new(source(), PAYLOAD_MAX);
    assert_eq!(writer.push(&tlv), Pushed::Written);
    assert_eq!(writer.finish(None), packet(body));
}

const HELLO: Tlv = Tlv::Hello {
    cast: Cast::Multicast,
    seqno: Seqno(0x1234),
    interval: Centis(400),
    sent: None,
};
const HELLO_BYTES: &[u8] = &[4, 6, 0, 0, 0x12, 0x34, 0x01, 0x90];
const ROUTER_ID: &[u8] = &[6, 10, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// fd6d:1::/32 with the flag that later ones may abbreviate against it.
const UPDATE: &[u8] = &[8, 14, 2, 0x80, 32, 0, 0, 100, 0, 7, 0, 96, 0xfd, 0x6d, 0, 1];

#[test]
fn acknowledgments_are_two_bytes_and_their_requests_six() {
    let within = Centis(20);
    let opaque = 0xbeef;
    check_both(
        &[2, 6, 0, 0, 0xbe, 0xef, 0, 20],
        Tlv::AckRequest { opaque, within },
    );
    check_both(&[3, 2, 0xbe, 0xef], Tlv::Ack { opaque });
}

#[test]
fn hello_has_a_cast_a_number_an_interval_and_maybe_a_stamp() {
    check_both(HELLO_BYTES, HELLO);
    let unicast = Tlv::Hello {
        cast: Cast::Unicast,
        seqno: Seqno(1),
        interval: Centis(0),
        sent: Some(Stamp(0x0102_0304)),
    };
    check_both(&[4, 12, 0x80, 0, 0, 1, 0, 0, 3, 4, 1, 2, 3, 4], unicast);
}

#[test]
fn ihu_names_its_neighbour_in_one_of_three_ways() {
    let ihu = |address, echo| Tlv::Ihu {
        address,
        rxcost: Metric(96),
        interval: Centis(1200),
        echo,
    };
    check_both(&[5, 6, 0, 0, 0, 96, 0x04, 0xb0], ihu(None, None));
    check_both(
        &[
            5, 24, 3, 0, 0, 96, 0x04, 0xb0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 8, 0, 0, 0, 1, 0, 0, 0, 2,
        ],
        ihu(Some(address("fe80::2")), Some((Stamp(1), Stamp(2)))),
    );
    let global = [
        &[5, 22, 2, 0, 0, 96, 0x04, 0xb0][..],
        &address("fd6d::9").octets(),
    ];
    check_both(&global.concat(), ihu(Some(address("fd6d::9")), None));
}

#[test]
fn updates_share_router_id_prefix_and_next_hop() {
    let first = update("fd6d:1::/32", 0x0102_0304_0506_0708, "fe80::1");
    let second = update("fd6d:1:0:2::/64", 0x0102_0304_0506_0708, "fe80::1");
    let third = update("fd6d:1:0:2::/64", 0x0102_0304_0506_0708, "fe80::7");
    let abbreviated: &[u8] = &[8, 14, 2, 0x80, 64, 4, 0, 100, 0, 7, 0, 96, 0, 0, 0, 2];
    // What is the same up to its end needs no byte.
    let abbreviated_by_zeros: &[u8] = &[8, 11, 2, 0x80, 64, 7, 0, 100, 0, 7, 0, 96, 2];
    let next_hop: &[u8] = &[7, 10, 3, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let same: &[u8] = &[8, 10, 2, 0x80, 64, 8, 0, 100, 0, 7, 0, 96];
    check(
        &[ROUTER_ID, UPDATE, abbreviated, next_hop, same],
        &[first, second, third],
        &[],
    );
    let mut writer = Writer::new(source(), PAYLOAD_MAX);
    for tlv in [first, second, third] {
        assert_eq!(writer.push(&tlv), Pushed::Written);
    }
    let body = [ROUTER_ID, UPDATE, abbreviated_by_zeros, next_hop, same].concat();
    assert_eq!(writer.finish(None), packet(&body));
}

#[test]
fn prefix_that_ends_in_its_router_id_tells_it() {
    let host = update("fd6d::1:2:3:4/128", 0x0001_0002_0003_0004, "fe80::1");
    let body = [
        &[8, 26, 2, 0xc0, 128, 0, 0, 100, 0, 7, 0, 96][..],
        &address("fd6d::1:2:3:4").octets(),
    ];
    check_both(&body.concat(), host);
    // The address of an IPv4 prefix counts too, with zeros before it (§4.6.9).
    let of_v4: &[u8] = &[8, 14, 1, 0x40, 32, 0, 0, 100, 0, 7, 0, 96, 10, 0, 0, 1];
    let behind = update("fd6d:1::/32", 0x0a00_0001, "fe80::1");
    check(&[of_v4, UPDATE], &[behind], &[Ignored::Ipv4]);
}

#[test]
fn retractions_need_neither_router_id_nor_prefix() {
    check_both(
        &[8, 11, 2, 0x80, 8, 0, 0, 100, 0, 7, 0xff, 0xff, 0xfd],
        retraction(Some(prefix("fd00::/8"))),
    );
    check_both(
        &[8, 10, 0, 0, 0, 0, 0, 100, 0, 7, 0xff, 0xff],
        retraction(None),
    );
}

#[test]
fn requests_carry_whole_prefixes() {
    check_both(&[9, 2, 0, 0], Tlv::RouteRequest { prefix: None });
    check_both(
        &[9, 5, 2, 20, 0xfd, 0x6d, 0x10],
        Tlv::RouteRequest {
            prefix: Some(prefix("fd6d:1000::/20")),
        },
    );
    check_both(
        &[
            10, 16, 2, 16, 0, 9, 64, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0xfd, 0x6d,
        ],
        Tlv::SeqnoRequest {
            prefix: prefix("fd6d::/16"),
            router_id: router_id(0x0102_0304_0506_0708),
            seqno: Seqno(9),
            hop_count: 64,
        },
    );
}

#[test]
fn padding_unknown_tlvs_and_optional_sub_tlvs_are_skipped() {
    let padded: &[u8] = &[
        4, 14, 0, 0, 0x12, 0x34, 0x01, 0x90, 0, 1, 1, 9, 0x7f, 2, 9, 9,
    ];
    check(
        &[&[0], &[1, 3, 9, 9, 9], &[77, 1, 0], padded, &[0]],
        &[HELLO],
        &[Ignored::Unknown],
    );
    // Bits that must be zero are nobody's business when read.
    check(
        &[&[4, 6, 0x7f, 0xff, 0x12, 0x34, 0x01, 0x90]],
        &[HELLO],
        &[],
    );
}

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
fn trailer_is_kept_and_not_read_as_a_body() {
    let mut bytes = packet(HELLO_BYTES);
    bytes.extend(HELLO_BYTES);
    let reader = read(&bytes, source()).unwrap();
    assert_eq!(reader.trailer(), HELLO_BYTES);
    assert_eq!(reader.count(), 1);
}

#[test]
fn hello_gets_the_time_of_sending() {
    let stamped = |stamp| Tlv::Hello {
        cast: Cast::Multicast,
        seqno: Seqno(1),
        interval: Centis(100),
        sent: stamp,
    };
    let mut writer = Writer::new(source(), PAYLOAD_MAX);
    for tlv in [stamped(Some(Stamp(0))), HELLO, stamped(Some(Stamp(0)))] {
        assert_eq!(writer.push(&tlv), Pushed::Written);
    }
    let bytes = writer.finish(Some(Stamp(77)));
    let says: Vec<Tlv> = read(&bytes, source()).unwrap().collect();
    let now = stamped(Some(Stamp(77)));
    assert_eq!(says, [now, HELLO, now]);
}

#[test]
fn padded_packet_is_as_long_as_asked_and_says_the_same() {
    for len in [8..30, 255..275, PAYLOAD_MAX - 3..PAYLOAD_MAX + 9]
        .into_iter()
        .flatten()
    {
        let mut writer = Writer::new(source(), PAYLOAD_MAX);
        assert_eq!(writer.push(&HELLO), Pushed::Written);
        writer.pad_to(len);
        let bytes = writer.finish(None);
        assert_eq!(bytes.len(), len.clamp(12, PAYLOAD_MAX));
        let mut reader = read(&bytes, source()).unwrap();
        assert_eq!(reader.by_ref().collect::<Vec<_>>(), [HELLO]);
        assert_eq!(reader.ignored().total(), 0);
    }
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
