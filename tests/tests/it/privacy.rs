//! Bar routing.privacy: what a relay of a line of three hears while the ends talk.
//!
//! ```text
//!   bakery-1 ══ c1 ══ relay-1 ══ c2 ══ bakery-2      psql, pings →        ← its answers
//!      tap               tap                         all of one organisation, led by the relay
//! ```
//! The relay's tap hears both cables and its TUN, the customer's tap hears what the customer's own
//! programs say in clear: the same search that finds nothing at the relay finds all of it there.

use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{bail, ensure};
use mesh_tests::cables::Cables;
use mesh_tests::chance::Chance;
use mesh_tests::figures::Figure;
use mesh_tests::home::{Home, links_between, see_each_other};
use mesh_tests::lab::Lab;
use mesh_tests::runner::Place;
use mesh_tests::tap::{Capture, Frame, Secrets, Tap};
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;

/// How long a mesh may take to find its ways after everything was rewired.
const SOON: Duration = Duration::from_secs(60);

/// The customer, the relay, the provider, and the line of cables between them.
const NAMES: [&str; 3] = ["bakery-1", "relay-1", "bakery-2"];
const LINE: [(&str, &str); 2] = [("bakery-1", "relay-1"), ("relay-1", "bakery-2")];

/// The cables' ends at the relay, and every node's TUN.
const CABLES: [&str; 2] = ["c1", "c2"];
const TUN: &str = "mesh0";

/// Questions to the database, each with so many letters there, and as many back.
const QUESTIONS: usize = 4;
const LETTERS: usize = 30_000;

/// Type of a WireGuard message with payload, and what it adds to a packet.
const PAYLOAD: [u8; 4] = [4, 0, 0, 0];

/// Words of what the relay must not see.
const THERE: &str = "the question";
const BACK: &str = "the answer";
const PING: &str = "the ping";
const SEGMENT: &str = "a segment's ports, numbers or body";
const SERVICE: &str = "the service's address";
const END: &str = "an end's address";

/// Lets two nodes talk through a third and looks at everything that passes there.
pub fn relay_hears_neither_bytes_nor_ends(place: &Place) -> anyhow::Result<()> {
    let lab = Lab::new(&NAMES, &place.folder, &place.programs)?;
    let [customer, relay, provider] = [
        lab.home("bakery-1")?,
        lab.home("relay-1")?,
        lab.home("bakery-2")?,
    ];
    let _cables = raise_line(&lab, [customer, relay, provider])?;

    let (at_customer, at_relay) = (Tap::open(&lab, "bakery-1")?, Tap::open(&lab, "relay-1")?);
    let words = Words::draw();
    let service = exchange(customer, provider, &words)?;
    // The tap on the relay's TUN hears what there is to hear: the relay's own talk.
    ping(relay, &provider.overlay_address()?, &words.own_ping)?;
    let (at_customer, at_relay) = (at_customer.close()?, at_relay.close()?);

    let nodes = Nodes {
        customer: customer.overlay_address()?.parse()?,
        relay: relay.overlay_address()?.parse()?,
        provider: provider.overlay_address()?.parse()?,
        service,
    };
    let secrets = words.secrets(&nodes, &at_customer);
    let spoken = all_is_heard_at_the_customer(&at_customer, &secrets, &words, &nodes)?;
    let carried = nothing_is_heard_on_the_cables(&lab, &at_relay, &secrets, spoken)?;
    nothing_is_heard_on_the_tun(&at_relay, &secrets, &words, &nodes)?;
    Figure {
        bar: "routing.privacy@capture".to_owned(),
        text: format!(
            "capture: {} KiB said and answered in the session, heard at the relay as {} KiB on \
             two cables: none of {} eight-byte pieces of it, nothing on its TUN",
            spoken.iter().sum::<usize>() >> 10,
            carried >> 10,
            secrets.len()
        ),
        holds: true,
    }
    .tell();
    Ok(())
}

/// Makes an organisation of three nodes that the relay leads, then takes the street away.
fn raise_line<'a>(lab: &'a Lab, homes: [&Home; 3]) -> anyhow::Result<Cables<'a>> {
    let [customer, relay, provider] = homes;
    for home in [customer, relay] {
        home.configure("capacity.slots", 0)?;
    }
    found_org("bakery", relay)?;
    join(relay, customer)?;
    join(relay, provider)?;
    see_each_other(&homes, SOON)?;
    let cables = Cables::lay(lab, &LINE)?;
    until("the ends reach each other through the relay", SOON, || {
        Ok(links_between(customer, "bakery-2.bakery")?.filter(|links| *links == 2))
    })?;
    see_each_other(&homes, SOON)?;
    Ok(cables)
}

/// What is said, so that it can be known again.
struct Words {
    /// One for each question.
    there: Vec<String>,
    ping: [u8; 16],
    own_ping: [u8; 16],
}

/// Addresses in the overlay.
struct Nodes {
    customer: Ipv6Addr,
    relay: Ipv6Addr,
    provider: Ipv6Addr,
    service: Ipv6Addr,
}

impl Words {
    fn draw() -> Self {
        let mut chance = Chance::new(0x5ec2e7);
        let letters: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
        let mut text = || -> String {
            let draws = (0..LETTERS).filter_map(|_| chance.one(&letters));
            draws.collect()
        };
        let there = (0..QUESTIONS).map(|_| text()).collect();
        let mut bytes = || {
            let halves = [chance.number(), chance.number()];
            let mut both = [0; 16];
            for (place, half) in both.chunks_mut(8).zip(halves) {
                place.copy_from_slice(&half.to_be_bytes());
            }
            both
        };
        Self {
            there,
            ping: bytes(),
            own_ping: bytes(),
        }
    }

    /// Returns everything that only the two ends may see.
    fn secrets(&self, nodes: &Nodes, at_customer: &Capture) -> Secrets {
        let mut secrets = Secrets::default();
        for text in &self.there {
            secrets.add(THERE, text.as_bytes());
            secrets.add(BACK, reversed(text).as_bytes());
        }
        secrets.add(PING, &[self.ping, self.ping].concat());
        for frame in at_customer.on(TUN).filter(|it| nodes.is_of_service(it)) {
            let packet = frame.packet();
            // Ports and both numbers. Options are left out: a host's other connections have them
            // too. Then the body, which begins as many words behind the header as it says.
            let Some((header, words)) =
                packet.get(40..53).and_then(|it| it.split_last_chunk::<1>())
            else {
                continue;
            };
            let [words] = *words;
            let body = 40 + usize::from(words >> 4) * 4;
            secrets.add(SEGMENT, header);
            secrets.add(SEGMENT, packet.get(body..).unwrap_or_default());
        }
        secrets.add_address(SERVICE, nodes.service);
        for end in [nodes.customer, nodes.provider] {
            secrets.add_address(END, end);
        }
        secrets
    }
}

impl Nodes {
    fn is_of_service(&self, frame: &Frame) -> bool {
        let ends = frame.ends();
        ends.is_some_and(|(from, to)| from == self.service || to == self.service)
    }
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

/// Orders a database at the far end, asks it, and pings its node. Returns the service's address.
fn exchange(customer: &Home, provider: &Home, words: &Words) -> anyhow::Result<Ipv6Addr> {
    let order = ["order", "postgres", "--name", "crm-db"];
    customer
        .meshctl(&[&order[..], &["--node", "bakery-2"]].concat())?
        .ok()?;
    let url = customer.url("crm-db")?;
    for text in &words.there {
        let answer = customer.psql(&url, &format!("select reverse('{text}')"))?;
        ensure!(answer.value()? == reversed(text), "the database answers");
    }
    ping(customer, &provider.overlay_address()?, &words.ping)?;
    let address = customer.meshctl(&["show", "crm-db", "--field", "address"])?;
    Ok(address.value()?.parse()?)
}

/// Pings a node with a body that is known again, until it answers.
fn ping(home: &Home, to: &str, body: &[u8; 16]) -> anyhow::Result<()> {
    let hex: String = body.map(|byte| format!("{byte:02x}")).concat();
    until(&format!("{} pings {to}", home.name), SOON, || {
        let words = ["-n", "-c5", "-i0.05", "-W1", "-s1000", "-p", &hex, to];
        let said = home.quietly().run("ping", &words)?;
        Ok((said.code == 0).then_some(()))
    })
}

/// The search finds what it looks for where it is said. Returns the bytes of all packets between
/// the ends, there and back.
fn all_is_heard_at_the_customer(
    heard: &Capture,
    secrets: &Secrets,
    words: &Words,
    nodes: &Nodes,
) -> anyhow::Result<[usize; 2]> {
    let letters: usize = words.there.iter().map(String::len).sum();
    let found = secrets.count_in(heard.on(TUN));
    for (word, least) in [
        // What stands across two segments is in neither.
        (THERE, letters / 2),
        (BACK, letters / 2),
        (PING, 16),
        (SEGMENT, 1000),
        (SERVICE, 9),
        (END, 18),
    ] {
        let found = found.of(word);
        ensure!(
            least <= found,
            "only {found} windows of {word} are heard where it is said"
        );
    }
    let far = [nodes.provider, nodes.service];
    let mut spoken = [0; 2];
    for frame in heard.on(TUN) {
        let Some((from, to)) = frame.ends() else {
            bail!("something else than IPv6 on the TUN: {frame:?}");
        };
        let [there, back] = &mut spoken;
        if far.contains(&to) {
            *there += frame.packet().len();
        } else if far.contains(&from) {
            *back += frame.packet().len();
        }
    }
    ensure!(
        spoken.iter().all(|bytes| letters < *bytes),
        "the ends hardly talk: {spoken:?}"
    );
    Ok(spoken)
}

/// Both cables carry all of it, between their own two ends, and nothing of it can be read. Returns
/// how many bytes of WireGuard's were heard.
fn nothing_is_heard_on_the_cables(
    lab: &Lab,
    heard: &Capture,
    secrets: &Secrets,
    spoken: [usize; 2],
) -> anyhow::Result<usize> {
    let relay = lab.address("relay-1")?.octets();
    let mut total = 0;
    for (cable, (a, b)) in CABLES.into_iter().zip(LINE) {
        let ends = [lab.address(a)?.octets(), lab.address(b)?.octets()];
        // There and back: what goes to the relay on the first cable leaves it on the second.
        let mut carried = [0; 2];
        for frame in heard.on(cable) {
            if let Some((word, at)) = secrets.first_in(&frame.bytes) {
                bail!("{word} is heard on {cable} at byte {at}: {frame:?}");
            }
            let Some((from, to, body)) = frame.udp4() else {
                continue;
            };
            ensure!(
                ends.contains(&from) && ends.contains(&to) && from != to,
                "{cable} carries a datagram of others: {frame:?}"
            );
            if body.starts_with(&PAYLOAD) {
                let goes_there = (to == relay) == (a != "relay-1");
                let [there, back] = &mut carried;
                *(if goes_there { there } else { back }) += body.len();
            }
        }
        for (carried, spoken) in carried.iter().zip(spoken) {
            ensure!(
                spoken <= *carried,
                "{cable} carries {carried} bytes of {spoken} that were said"
            );
        }
        total += carried.iter().sum::<usize>();
    }
    for frame in &heard.frames {
        let allowed = frame.interface == TUN;
        ensure!(
            allowed || secrets.first_in(&frame.bytes).is_none(),
            "heard beside the cables: {frame:?}"
        );
    }
    Ok(total)
}

/// The relay's TUN hears its own talk, and no transit.
fn nothing_is_heard_on_the_tun(
    heard: &Capture,
    secrets: &Secrets,
    words: &Words,
    nodes: &Nodes,
) -> anyhow::Result<()> {
    let mut own = Secrets::default();
    own.add("its own ping", &[words.own_ping, words.own_ping].concat());
    ensure!(
        own.count_in(heard.on(TUN)).of("its own ping") == 16,
        "the tap does not hear the relay's own TUN"
    );
    for frame in heard.on(TUN) {
        let ends = frame.ends();
        ensure!(
            ends.is_some_and(|(from, to)| from == nodes.relay || to == nodes.relay),
            "a packet of others is on the relay's TUN: {frame:?}"
        );
        // Whom the relay talks with itself, it knows.
        let inner = frame.packet().get(40..).unwrap_or_default();
        if let Some((word, at)) = secrets.first_in(inner) {
            bail!("{word} is heard on the relay's TUN at byte {at}: {frame:?}");
        }
    }
    Ok(())
}
