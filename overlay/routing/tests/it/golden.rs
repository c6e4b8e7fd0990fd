//! Packets that babeld and BIRD sent: `tests/golden/README.md` tells how they were recorded.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use mesh_base::time::Now;
use mesh_routing::babel::mac::key::{Algorithm, Key, Keys, PORT, Path};
use mesh_routing::babel::mac::machine::{Dropped, MacMachine, Verdict};
use mesh_routing::babel::wire::ignored::{Ignored, IgnoredCounts};
use mesh_routing::babel::wire::reader::read;
use mesh_routing::babel::wire::tlv::{Cast, Centis, Stamp, Tlv};
use mesh_routing::babel::words::{Metric, Prefix, RouterId, Seqno};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::reference;
use crate::values::{address, prefix, router_id};

const FILES: [(&str, &str); 7] = [
    ("plain", include_str!("../golden/plain.txt")),
    ("rtt", include_str!("../golden/rtt.txt")),
    ("unicast", include_str!("../golden/unicast.txt")),
    ("acks", include_str!("../golden/acks.txt")),
    ("mac-blake2s", include_str!("../golden/mac-blake2s.txt")),
    ("mac-hmac", include_str!("../golden/mac-hmac.txt")),
    ("mac-two-keys", include_str!("../golden/mac-two-keys.txt")),
];
const KEY: &[u8] = b"meshstead-golden-key-32-bytes-ok";
const OTHER_KEY: &[u8] = b"meshstead-older-key-32-bytes-sure";
const ID_OF_A: u64 = 0x0200_00ff_fe00_000a;
const ID_OF_B: u64 = 11;

/// One packet of a file.
struct Recorded {
    path: Path,
    payload: Vec<u8>,
}

impl Recorded {
    fn says(&self) -> Vec<Tlv> {
        read(&self.payload, self.path.source).unwrap().collect()
    }

    fn is_from_a(&self) -> bool {
        self.path.source == a()
    }
}

fn recorded(name: &str) -> Vec<Recorded> {
    let (_, text) = FILES.iter().find(|(file, _)| *file == name).unwrap();
    let packets = text.lines().map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        assert_eq!((fields[2], fields[4]), ("6696", "6696"));
        let digits = fields[5].as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        Recorded {
            path: Path {
                source: address(fields[1]),
                destination: address(fields[3]),
            },
            payload: digits.map(|pair| byte(pair).unwrap()).collect(),
        }
    });
    packets.collect()
}

fn a() -> Ipv6Addr {
    address("fe80::ff:fe00:a")
}

fn b() -> Ipv6Addr {
    address("fe80::ff:fe00:b")
}

fn hello(seqno: u16) -> Tlv {
    Tlv::Hello {
        cast: Cast::Multicast,
        seqno: Seqno(seqno),
        interval: Centis(100),
        sent: None,
    }
}

/// An update of one of them, every four seconds.
fn update(about: Option<Prefix>, id: u64, seqno: u16, metric: Metric, from: Ipv6Addr) -> Tlv {
    Tlv::Update {
        prefix: about,
        router_id: metric.is_finite().then(|| router_id(id)),
        next_hop: from,
        interval: Centis(400),
        seqno: Seqno(seqno),
        metric,
    }
}

#[test]
fn other_programs_say_nothing_that_is_ignored_but_ipv4() {
    // babeld made up a source prefix for what it retracts from memory that it had given back.
    let made_up = [0, 0, 0, 0, 3, 3, 3];
    for ((name, _), made_up) in FILES.into_iter().zip(made_up) {
        let mut counts = IgnoredCounts::default();
        for packet in recorded(name) {
            let mut reader = read(&packet.payload, packet.path.source).unwrap();
            let says: Vec<Tlv> = reader.by_ref().collect();
            assert_eq!(says, reference::read(&packet.payload, packet.path.source));
            assert_eq!(reader.trailer().is_empty(), !name.starts_with("mac"));
            counts.add_all(reader.ignored());
        }
        assert_eq!(counts.count(Ignored::Mandatory), made_up, "{name}");
        let of_v4 = u64::from(counts.count(Ignored::Ipv4));
        assert_eq!(counts.total(), of_v4 + u64::from(made_up), "{name}");
        assert_eq!(of_v4 == 0, name == "acks");
    }
}

#[test]
fn babeld_begins_by_asking_for_everything_and_forgetting_everything() {
    let packets = recorded("plain");
    let everything = Tlv::RouteRequest { prefix: None };
    assert_eq!(packets[0].says(), [hello(0x1535), everything]);
    let Tlv::Update {
        prefix: None,
        router_id: None,
        metric: Metric::INFINITY,
        interval: Centis(0xffff),
        ..
    } = packets[1].says()[1]
    else {
        panic!("{:?}", packets[1].says());
    };
    // Three prefixes of its own, each shorter by what it shares with the one before.
    let own = |text| update(Some(prefix(text)), ID_OF_A, 0x39b5, Metric::ZERO, a());
    let says = packets[3].says();
    assert_eq!(
        says[2..5],
        [
            own("fd6d:a:1::1/128"),
            own("fd6d:a:2::1/128"),
            own("fd6d:a:1::/64")
        ]
    );
    assert_eq!(says[5..], [everything]);
}

#[test]
fn bird_begins_the_same_way_in_one_packet() {
    let packets = recorded("plain");
    assert_eq!(
        packets[2].says(),
        [
            hello(1),
            update(None, 0, 1, Metric::INFINITY, b()),
            Tlv::RouteRequest { prefix: None },
            update(Some(prefix("fd6d:b:1::/64")), ID_OF_B, 1, Metric::ZERO, b()),
        ]
    );
    assert_eq!(packets[4].path.destination, a());
    let heard = Tlv::Ihu {
        address: Some(a()),
        rxcost: Metric(96),
        interval: Centis(300),
        echo: None,
    };
    assert_eq!(packets[4].says(), [heard]);
}

#[test]
fn lost_route_is_retracted_and_asked_for_by_prefix_and_by_number() {
    let packets = recorded("plain");
    let lost = Some(prefix("fd6d:b:1::/64"));
    let gone = update(lost, 0, 1, Metric::INFINITY, b());
    assert_eq!(packets[36].says(), [gone]);
    assert_eq!(packets[37].says(), [Tlv::RouteRequest { prefix: lost }]);
    let newer = |text| Tlv::SeqnoRequest {
        prefix: prefix(text),
        router_id: router_id(ID_OF_A),
        seqno: Seqno(0x39b6),
        hop_count: 255,
    };
    let asked = ["fd6d:a:1::1/128", "fd6d:a:2::1/128", "fd6d:a:1::/64"];
    assert_eq!(packets[46].says(), asked.map(newer));
}

#[test]
fn bird_passes_routes_on_with_the_router_id_of_their_origin() {
    let packets = recorded("plain");
    let mut ids: BTreeSet<(Prefix, RouterId, Metric)> = BTreeSet::new();
    for tlv in packets[21].says() {
        let Tlv::Update {
            prefix: Some(prefix),
            router_id: Some(id),
            metric,
            ..
        } = tlv
        else {
            panic!("{tlv:?}");
        };
        ids.insert((prefix, id, metric));
    }
    let of_a = |text| (prefix(text), router_id(ID_OF_A), Metric(96));
    let expect = [
        of_a("fd6d:a:1::/64"),
        of_a("fd6d:a:1::1/128"),
        of_a("fd6d:a:2::1/128"),
        (prefix("fd6d:b:1::/64"), router_id(ID_OF_B), Metric::ZERO),
    ];
    assert_eq!(ids, BTreeSet::from(expect));
}

#[test]
fn timestamps_come_back_as_they_were_sent() {
    let mut sent: [Vec<Stamp>; 2] = Default::default();
    let mut echo_count = 0;
    for packet in recorded("rtt") {
        let from = usize::from(packet.is_from_a());
        for tlv in packet.says() {
            match tlv {
                Tlv::Hello { sent: stamp, .. } => sent[from].push(stamp.unwrap()),
                Tlv::Ihu { echo, .. } => {
                    let (origin, received) = echo.unwrap();
                    assert!(sent[1 - from].contains(&origin));
                    // Both have one machine's clock; the first were read late, at start.
                    assert!(received.0.wrapping_sub(origin.0) < 20_000);
                    echo_count += 1;
                }
                _ => {}
            }
        }
    }
    assert_eq!((sent[0].len(), sent[1].len(), echo_count), (21, 20, 14));
}

#[test]
fn updates_may_come_by_unicast() {
    let mut counts = [0; 2];
    for packet in recorded("unicast") {
        let to_all = packet.path.destination.is_multicast();
        for tlv in packet.says() {
            match tlv {
                Tlv::Hello { .. } => assert!(to_all),
                Tlv::Update { metric, .. } => {
                    assert!(!to_all);
                    counts[usize::from(metric.is_finite())] += 1;
                }
                _ => assert!(!to_all),
            }
        }
    }
    assert_eq!(counts, [11, 11]);
}

#[test]
fn acknowledgments_come_with_unicast_hellos() {
    let (mut acks, mut hellos) = (Vec::new(), Vec::new());
    for packet in recorded("acks") {
        for tlv in packet.says() {
            match tlv {
                Tlv::Ack { opaque } => acks.push(opaque),
                Tlv::Hello {
                    cast: Cast::Unicast,
                    seqno,
                    interval: Centis(0),
                    sent: Some(_),
                } => {
                    assert_eq!(packet.path.destination, a());
                    hellos.push(seqno);
                }
                Tlv::Hello { cast, .. } => assert_eq!(cast, Cast::Multicast),
                _ => {}
            }
        }
    }
    assert_eq!(acks, Vec::from_iter(2..=16));
    assert_eq!(hellos, [Seqno(1), Seqno(2), Seqno(3)]);
}

/// Returns what a machine with some keys says about each packet of a and of b.
fn verdicts(name: &str, keys: Vec<Key>) -> [BTreeSet<Dropped>; 2] {
    let mut reasons: [BTreeSet<Dropped>; 2] = Default::default();
    let mut rng = ChaCha20Rng::seed_from_u64(0);
    let mut machine = MacMachine::new(Keys::new(keys).unwrap(), &mut rng);
    for packet in recorded(name) {
        let verdict = machine.open(&packet.payload, packet.path, Now::default(), &mut rng);
        let Verdict::Drop(why) = verdict else {
            panic!("nobody answered our challenge");
        };
        reasons[usize::from(!packet.is_from_a())].insert(why);
    }
    reasons
}

#[track_caller]
fn check_keys(name: &str, keys: &[(Algorithm, &[u8])], a: Dropped, b: Dropped) {
    let key = |(algorithm, secret): &(_, &[u8])| Key::new(*algorithm, secret).unwrap();
    let expect = [BTreeSet::from([a]), BTreeSet::from([b])];
    assert_eq!(verdicts(name, keys.iter().map(key).collect()), expect);
}

#[test]
fn macs_of_other_programs_are_ours() {
    let (blake, hmac) = (Algorithm::Blake2s128, Algorithm::HmacSha256);
    let (right, wrong) = (Dropped::Unproven, Dropped::WrongKey);
    check_keys("mac-blake2s", &[(blake, KEY)], right, right);
    check_keys("mac-blake2s", &[(hmac, KEY)], wrong, wrong);
    check_keys("mac-blake2s", &[(blake, &OTHER_KEY[..32])], wrong, wrong);
    check_keys("mac-hmac", &[(hmac, KEY)], right, right);
    check_keys("mac-hmac", &[(blake, KEY)], wrong, wrong);
    check_keys("mac-hmac", &[(hmac, OTHER_KEY)], wrong, wrong);
    check_keys("mac-two-keys", &[(blake, KEY)], right, right);
    check_keys("mac-two-keys", &[(hmac, OTHER_KEY)], wrong, right);
    check_keys(
        "mac-two-keys",
        &[(hmac, OTHER_KEY), (blake, KEY)],
        right,
        right,
    );
    let unsigned = Dropped::Unsigned;
    check_keys("plain", &[(blake, KEY)], unsigned, unsigned);
}

#[test]
fn port_of_the_recordings_is_that_of_babel() {
    assert_eq!(PORT, 6696);
}
