//! What a relay can know with all its keys, and what a bad neighbour gets through: nothing.
//!
//! ```text
//!   1 ── 2 ── 3     2 made by hand: opens its own links, writes down everything, hands it on
//!   4 ── 2 ── 3     4 made by hand: has its session with 2 and sends what it likes
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use mesh_dataplane::session::OVERHEAD;
use mesh_dataplane::{HostAccess, LinkStats};
use mesh_routing::packet::{HEADER_LEN, Packet, build};
use mesh_routing::plan::InstancePlan;
use mesh_routing::table::DropReason;
use mesh_routing::talk::{BABEL_GROUP, Talk, link_local, write};
use mesh_routing::transit::{self, PARCEL_PORT};

use crate::ground::{ITEM, Outside, SERVICE, eventually, id, start};
use crate::hand::Hand;
use crate::mesh::{address, links_up, mesh_plan, routes, speaking};

/// How many packets go each way.
const COUNT: usize = 200;

/// Returns bytes without a pattern, the same for the same seed (SplitMix64).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let words = (1..).map(|count: u64| {
        let mut mixed = seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_be_bytes()
    });
    words.flatten().take(len).collect()
}

/// Returns a packet of a conversation with unusual marks in every field of its header.
fn said(number: usize, from: (Ipv6Addr, u16), to: (Ipv6Addr, u16)) -> Vec<u8> {
    let mut packet = build::udp(from, to, &noise(number as u64, 100 + number % 200 * 5));
    packet[..4].copy_from_slice(&[0x6b, 0x85, 0x43, 0x21]);
    packet[7] = 77;
    packet
}

/// Every eight bytes in a row of the packets, and of the service's address.
fn secrets(packets: &[Vec<u8>]) -> HashSet<&[u8]> {
    let inner = packets
        .iter()
        .flat_map(|packet| packet[HEADER_LEN..].windows(8));
    let headers = packets.iter().map(|packet| &packet[..8]);
    let addresses = packets.iter().flat_map(|packet| packet[8..40].windows(8));
    // The two nodes' own addresses are what a parcel must show, and our service's is mostly zeros.
    let all: HashSet<&[u8]> = inner.chain(headers).collect();
    let shown: HashSet<&[u8]> = addresses.collect();
    all.difference(&shown).copied().collect()
}

/// Says that it is over, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn relay_that_opens_its_links_sees_two_node_addresses_and_lengths() {
    let (first, last) = (start(1, HostAccess::Open), start(3, HostAccess::Open));
    let mut relay = Hand::new(2, &[1, 3]);
    let near = [(2, Some(relay.port()))];
    let mut plan = mesh_plan(1, &near, &[3]);
    plan.services.insert(SERVICE, id(3));
    first.plane.apply(&plan);
    let mut plan = mesh_plan(3, &near, &[1]);
    plan.services.insert(SERVICE, id(3));
    let allow = BTreeSet::from([address(1)]);
    let offered = InstancePlan {
        address: SERVICE,
        allow,
    };
    plan.instances.insert(ITEM, offered);
    last.plane.apply(&plan);
    let (instance, tun) = Outside::pair();
    last.plane.attach(ITEM, tun).unwrap();
    routes(&first.plane, &[(2, 2), (3, 2)]);
    routes(&last.plane, &[(2, 2), (1, 2)]);

    let (client, server) = ((address(1), 40_321), (SERVICE, 54_321));
    let there: Vec<_> = (0..COUNT).map(|n| said(n, client, server)).collect();
    let back: Vec<_> = (0..COUNT).map(|n| said(1000 + n, server, client)).collect();
    let over = AtomicBool::new(false);
    let (tell, opened) = sync_channel(100_000);
    std::thread::scope(|scope| {
        let _ended = End(&over);
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let Some((from, mut packet)) = relay.receive() else {
                    continue;
                };
                // The engines' words to the relay itself are no parcels.
                let to = Packet::parse(&packet).map(|packet| packet.destination());
                if to == Ok(address(2)) {
                    continue;
                }
                tell.send((from, packet.clone())).unwrap();
                transit::spend_hop(&mut packet);
                // What comes before the other side is there is lost, as on any way.
                let _ = relay.send(if from == 1 { 3 } else { 1 }, &packet);
            }
        });
        eventually("the session through the relay works", || {
            first.host.put(&there[0]);
            instance.take_within(Duration::from_millis(50)).is_some()
        });
        while instance.take_within(Duration::from_millis(100)).is_some() {}
        for (question, answer) in there.iter().zip(&back) {
            first.host.put(question);
            instance.expect(question);
            instance.put(answer);
            first.host.expect(answer);
        }
    });
    drop(tell);

    let packets = [there, back].concat();
    let secrets = secrets(&packets);
    let sees = |bytes: &[u8]| bytes.windows(8).any(|window| secrets.contains(window));
    assert!(packets.iter().all(|packet| sees(packet)), "it can be seen");
    let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
    for (from, parcel) in opened.iter() {
        let far = if from == 1 { 3 } else { 1 };
        // Everything that a parcel shows of itself, but for its length.
        let mut shown = [0; transit::OVERHEAD];
        transit::wrap(&[], address(from), address(far), &mut shown).unwrap();
        for field in [4..6, 44..46] {
            shown[field.clone()].copy_from_slice(&parcel[field]);
        }
        assert_eq!(parcel[..transit::OVERHEAD], shown, "from {from}");
        let message = &parcel[transit::OVERHEAD..];
        assert!((1..=4).contains(&message[0]) && message[1..4] == [0; 3]);
        assert!(!sees(&parcel), "from {from}: {parcel:02x?}");
        *lengths.entry(message.len()).or_default() += 1;
    }
    // A relay learns how long each packet is, to the byte.
    for packet in &packets {
        assert!(lengths.contains_key(&(packet.len() + OVERHEAD)));
    }
    assert!(2 * COUNT < lengths.values().sum());
}

/// Returns a parcel that may cross so many links.
fn parcel(message: &[u8], from: Ipv6Addr, to: Ipv6Addr, hops: u8) -> Vec<u8> {
    let mut out = vec![0; message.len() + transit::OVERHEAD];
    transit::wrap(message, from, to, &mut out).unwrap();
    transit::set_hops(&mut out, hops);
    out
}

/// What a bad neighbour does, and what each of it is counted as.
fn acts() -> Vec<(&'static str, DropReason, Vec<u8>)> {
    let (own, relay, far) = (address(4), address(2), address(3));
    let clear = |from, to| build::udp((from, 7), (to, 5432), b"read me if you can");
    let sealed = &[4, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0][..];
    let stranger = Ipv6Addr::new(0xfd6d, 9, 9, 9, 9, 9, 9, 9);
    let outside: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let talk = |source| {
        let payload = b"*\x02\0\0";
        let destination = BABEL_GROUP;
        let talk = Talk {
            source,
            destination,
            payload,
        };
        write(talk).unwrap()
    };
    vec![
        ("clear transit", DropReason::Transit, clear(own, far)),
        (
            "clear transit to a service",
            DropReason::Transit,
            clear(own, SERVICE),
        ),
        (
            "clear, to nobody",
            DropReason::Unreachable,
            clear(own, stranger),
        ),
        ("clear, as another", DropReason::Source, clear(far, relay)),
        (
            "clear, as a service of another",
            DropReason::Source,
            clear(SERVICE, relay),
        ),
        ("clear, as the relay", DropReason::Source, clear(relay, far)),
        (
            "clear, from outside",
            DropReason::Foreign,
            clear(outside, relay),
        ),
        (
            "clear, to outside",
            DropReason::Foreign,
            clear(own, outside),
        ),
        (
            "parcel of a stranger",
            DropReason::Source,
            parcel(sealed, stranger, far, 64),
        ),
        (
            "parcel of the relay",
            DropReason::Source,
            parcel(sealed, relay, far, 64),
        ),
        (
            "parcel of whom it is for",
            DropReason::Source,
            parcel(sealed, far, far, 64),
        ),
        (
            "parcel that comes back",
            DropReason::Loop,
            parcel(sealed, far, own, 64),
        ),
        (
            "parcel to nobody",
            DropReason::Unreachable,
            parcel(sealed, own, stranger, 64),
        ),
        (
            "parcel without a hop",
            DropReason::HopLimit,
            parcel(sealed, own, far, 1),
        ),
        (
            "parcel of clear text",
            DropReason::Malformed,
            parcel(b"GET / HTTP", own, far, 64),
        ),
        (
            "parcel of no session",
            DropReason::Stranger,
            parcel(sealed, own, relay, 64),
        ),
        ("talk as another", DropReason::Source, talk(link_local(far))),
    ]
}

#[test]
fn bad_neighbour_gets_nothing_through_and_each_try_is_counted() {
    let (relay, talks, _ups) = speaking(2);
    let last = start(3, HostAccess::Open);
    let mut bad = Hand::new(4, &[2]);
    let port = relay.plane.local_port();
    let mut plan = mesh_plan(2, &[(3, None), (4, None)], &[]);
    plan.services.insert(SERVICE, id(3));
    relay.plane.apply(&plan);
    last.plane.apply(&mesh_plan(3, &[(2, Some(port))], &[4]));
    routes(&relay.plane, &[(3, 3), (4, 4)]);
    eventually("the honest link is up", || links_up(&relay, &[3]));
    bad.meet(2, port);
    let honest = build::udp((address(4), 1), (address(2), 2), b"as it should be");
    bad.send(2, &honest);
    relay.host.expect(&honest);

    let counted = || -> BTreeMap<DropReason, u64> { relay.plane.drops().into_iter().collect() };
    let (mut expect, before) = (counted(), relayed(&relay.plane.links()));
    let mut once = |reason| *expect.entry(reason).or_default() += 1;
    for (_, reason, packet) in acts() {
        assert!(bad.send(2, &packet));
        once(reason);
    }
    // Talk, and a parcel, that came in a parcel: of the very session with the relay.
    let talk = Talk {
        source: link_local(address(4)),
        destination: BABEL_GROUP,
        payload: b"*\x02\0\0",
    };
    let inner = [
        (DropReason::Relayed, write(talk).unwrap()),
        (
            DropReason::Transit,
            build::udp((address(4), 7), (address(3), PARCEL_PORT), b"\x04\0\0\0"),
        ),
    ];
    for (reason, packet) in inner {
        let sealed = bad.seal(2, &packet).unwrap();
        assert!(bad.send(2, &parcel(&sealed, address(4), address(2), 64)));
        once(reason);
    }
    // A stranger's handshake, and noise.
    let mut stranger = Hand::new(9, &[2]);
    stranger.throw(&noise(9, 200), port);
    once(DropReason::Stranger);
    stranger.knock(2, port);
    once(DropReason::Stranger);
    let all = |counts: &BTreeMap<DropReason, u64>| counts.values().sum::<u64>();
    eventually("every try is counted", || all(&expect) <= all(&counted()));
    assert_eq!(counted(), expect, "by its word");

    bad.send(2, &honest);
    relay.host.expect(&honest);
    assert_eq!(counted(), expect);
    assert_eq!(
        relay.host.take_within(Duration::ZERO),
        None,
        "nothing on its TUN"
    );
    assert_eq!(
        last.host.take_within(Duration::ZERO),
        None,
        "nothing at the far end"
    );
    assert_eq!(
        relayed(&relay.plane.links()),
        before,
        "nothing was handed on"
    );
    assert!(talks.try_recv().is_err(), "nothing was said");
    assert!(Packet::parse(&honest).is_ok());
}

fn relayed(links: &[LinkStats]) -> u64 {
    links.iter().map(|link| link.relayed_bytes).sum()
}
