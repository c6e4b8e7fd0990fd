//! Each TLV with bytes that were worked out by hand from RFC 8966, §4.6 and RFC 9616, §5.

use mesh_routing::babel::wire::ignored::Ignored;
use mesh_routing::babel::wire::reader::read;
use mesh_routing::babel::wire::tlv::{Cast, Centis, Stamp, Tlv};
use mesh_routing::babel::wire::writer::{PAYLOAD_MAX, Pushed, Writer};
use mesh_routing::babel::words::{Metric, Seqno};

use crate::values::{address, packet, prefix, retraction, router_id, source, update};

/// Reads TLVs of a body and compares what they say and why the rest was ignored.
#[track_caller]
pub fn check(body: &[&[u8]], says: &[Tlv], ignored: &[Ignored]) {
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

pub const HELLO: Tlv = Tlv::Hello {
    cast: Cast::Multicast,
    seqno: Seqno(0x1234),
    interval: Centis(400),
    sent: None,
};
pub const HELLO_BYTES: &[u8] = &[4, 6, 0, 0, 0x12, 0x34, 0x01, 0x90];
pub const ROUTER_ID: &[u8] = &[6, 10, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// fd6d:1::/32 with the flag that later ones may abbreviate against it.
pub const UPDATE: &[u8] = &[8, 14, 2, 0x80, 32, 0, 0, 100, 0, 7, 0, 96, 0xfd, 0x6d, 0, 1];

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
