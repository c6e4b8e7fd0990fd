//! Packets that no daemon sends, and what we and babeld make of them.

use anyhow::ensure;
use mesh_tests::hand::{Hand, Hello, MANDATORY, OPTIONAL, router_id, update, with};
use mesh_tests::routers::{Babeld, Bird, Ours};
use mesh_tests::runner::Place;
use mesh_tests::until::until;
use mesh_tests::yard::{HERE, Yard};
use serde_json::Value;

use super::SOON;

/// The hand's own address.
const OWN: &str = "fe80::99";

/// A bridge in the test's own namespace, with the hand on it and a cable to each plot.
fn street(place: &Place, plots: &[&str]) -> anyhow::Result<(Yard, Hand)> {
    let yard = Yard::new(place, plots)?;
    yard.shell(HERE, "ip link add name street type bridge")?;
    for (plot, end) in plots.iter().zip(["p1", "p2", "p3"]) {
        yard.cable((HERE, end), (plot, "e0"))?;
        yard.shell(
            HERE,
            &format!("ip address flush dev {end}; ip link set dev {end} master street"),
        )?;
    }
    yard.raise((HERE, "street"))?;
    Ok((yard, Hand::new("street", OWN)?))
}

/// A hand that says hello to us alone is a neighbour; and who hears hellos of ours that are for it
/// alone counts them.
pub fn unicast_hellos_count(place: &Place) -> anyhow::Result<()> {
    let (yard, mut hand) = street(place, &["ours", "babeld", "bird"])?;
    let mut ours = Ours::start(&yard, "ours", &["e0"], None, &["--unicast-hellos"])?;
    let babeld = Babeld::start(&yard, "babeld", &[("e0", " unicast true")], None, &[])?;
    let _bird = Bird::start(&yard, "bird", &["e0"], None)?;
    yard.meet("ours", "babeld", SOON)?;
    yard.meet("ours", "bird", SOON)?;
    until("babeld counts our hellos to it alone", SOON, || {
        let reach = babeld.neighbour(1, "ureach")?;
        Ok(reach.is_some_and(|bits| bits != "0000").then_some(()))
    })?;

    let route = [router_id(0x77), update(0, 64, 0, &NETWORK, 10)];
    until("a route of the hand", SOON, || {
        hand.speak(Hello::Unicast, &["fe80::1"], &route)?;
        ours.origin("2001:db8:a::/64")
    })?;
    let seen = ours.neighbour(99)?.unwrap_or_default();
    let bits = |name| seen.get(name).and_then(Value::as_u64).unwrap_or(0);
    ensure!(
        bits("hellos") == 0 && bits("unicast_hellos") != 0,
        "it said hello to us alone: {seen}"
    );
    until("a silent hand is forgotten", SOON, || {
        Ok(ours.neighbour(99)?.is_none().then_some(()))
    })
}

/// Who speaks from another port or from an address that could come from anywhere is not heard.
pub fn stranger_is_not_heard(place: &Place) -> anyhow::Result<()> {
    let (yard, mut hand) = street(place, &["ours"])?;
    yard.shell(
        HERE,
        "ip address add fe80::98/64 dev street nodad
        ip address add 2001:db8:99::1/64 dev street nodad",
    )?;
    let mut elsewhere = Hand::from_port("street", "fe80::98", 6697)?;
    let mut from_afar = Hand::new("street", "2001:db8:99::1")?;
    let mut ours = Ours::start(&yard, "ours", &["e0"], None, &[])?;
    until("the hand is heard again and again", SOON, || {
        for one in [&mut elsewhere, &mut from_afar, &mut hand] {
            one.speak(Hello::Multicast, &["fe80::1"], &[])?;
        }
        let hellos = ours
            .neighbour(99)?
            .and_then(|it| it.get("hellos")?.as_u64());
        Ok((8 <= hellos.unwrap_or(0).count_ones()).then_some(()))
    })?;
    let neighbours = ours.neighbours()?;
    ensure!(neighbours.len() == 1, "{neighbours:?}");
    Ok(())
}

/// `2001:db8:a::/64`.
const NETWORK: [u8; 8] = [0x20, 0x01, 0x0d, 0xb8, 0, 0x0a, 0, 0];

/// What a hand says, and which prefix comes of it as whose; none if nothing may come of it.
fn riddles() -> Vec<(Vec<u8>, &'static str, Option<u64>)> {
    let whole = [NETWORK.as_slice(), &[0, 0, 0, 0, 0, 0, 0, 0x42]].concat();
    let other = [0x20, 0x01, 0x0d, 0xb8, 0, 0x0c, 0, 0];
    vec![
        // The update itself is not for us, but what it says of those that follow is.
        (
            with(update(0x80, 64, 0, &NETWORK, 10), MANDATORY),
            "2001:db8:a::/64",
            None,
        ),
        (
            update(0, 80, 8, &[0, 0x0b], 10),
            "2001:db8:a:0:b::/80",
            Some(0x77),
        ),
        (
            with(update(0, 64, 0, &other, 10), OPTIONAL),
            "2001:db8:c::/64",
            Some(0x77),
        ),
        (
            with(update(0x40, 128, 0, &whole, 10), MANDATORY),
            "2001:db8:a::42/128",
            None,
        ),
        (
            update(0, 96, 8, &[0, 0x0d, 0, 0], 10),
            "2001:db8:a:0:d::/96",
            Some(0x42),
        ),
    ]
}

/// We and babeld hear the same riddles and solve them alike; nothing of it hurts a neighbour.
pub fn unknown_mandatory_sub_tlv_is_skipped(place: &Place) -> anyhow::Result<()> {
    let (yard, mut hand) = street(place, &["ours", "babeld"])?;
    let mut ours = Ours::start(&yard, "ours", &["e0"], None, &[])?;
    let babeld = Babeld::start(&yard, "babeld", &[("e0", "")], None, &[])?;
    let riddles = riddles();
    let mut said = vec![router_id(0x77)];
    said.extend(riddles.iter().map(|(tlv, ..)| tlv.clone()));
    // "I do not hear you", if it were for us.
    for number in [1, 2] {
        let unheard = mesh_tests::hand::ihu(format!("fe80::{number}").parse()?, 0xffff)?;
        said.push(with(unheard, MANDATORY));
    }
    let mut speak = || hand.speak(Hello::Multicast, &["fe80::1", "fe80::2"], &said);
    for (_, prefix, origin) in &riddles {
        let Some(origin) = origin else {
            continue;
        };
        until(&format!("{prefix} at both"), SOON, || {
            speak()?;
            let id = hexadecimal(&origin.to_be_bytes());
            let (one, other) = (ours.origin(prefix)?, babeld.origin(prefix)?);
            let is_it = |it: Option<String>| it.is_some_and(|it| it.replace(':', "") == id);
            Ok((is_it(one) && is_it(other)).then_some(()))
        })?;
    }
    let before = ours.count("update-heard")?;
    until("it was said again and again", SOON, || {
        speak()?;
        Ok((before + 20 <= ours.count("update-heard")?).then_some(()))
    })?;
    for (_, prefix, _) in riddles.iter().filter(|riddle| riddle.2.is_none()) {
        ensure!(ours.origin(prefix)?.is_none(), "{prefix} was not for us");
        ensure!(babeld.origin(prefix)?.is_none(), "{prefix} at babeld");
    }
    let seen = ours.neighbour(99)?.unwrap_or_default();
    ensure!(
        seen.get("txcost") == Some(&Value::from(96)),
        "what it says of hearing us was not for us: {seen}"
    );
    yard.meet("ours", "babeld", SOON)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
