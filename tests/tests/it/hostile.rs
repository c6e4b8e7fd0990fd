//! Bar routing.privacy: a certified neighbour that misbehaves, and a stranger on the street, get
//! nothing through; each try is counted, and honest nodes notice nothing.
//!
//! ```text
//!   bakery-2 ══ bakery-1 ══ bakery-3        honest, pings all the time from end to end
//!                  │ street
//!        ┌─────────┴────────┐
//!     stranger-1           here             a member's certificate and a link; Babel and no key
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use mesh_tests::cables::Cables;
use mesh_tests::figures::Figure;
use mesh_tests::hand::{Hand, Hello, router_id, update};
use mesh_tests::home::{Home, links_between, see_each_other};
use mesh_tests::lab::Lab;
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::Place;
use mesh_tests::said::Asked;
use mesh_tests::tap::{Secrets, Tap};
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;
use serde_json::Value;

const NAMES: [&str; 4] = ["bakery-1", "bakery-2", "bakery-3", "stranger-1"];
const LINE: [(&str, &str); 2] = [("bakery-2", "bakery-1"), ("bakery-1", "bakery-3")];

/// How long a mesh may take to find its ways, or a count to be told.
const SOON: Duration = Duration::from_secs(60);

/// Longest time without an answer from end to end: a busy machine's, far below that of a lost link.
const GAP_MAX: Duration = Duration::from_secs(1);

/// What the rogue's packets hold that must not arrive, and what its honest pings hold.
const MARK: &str = "read me if you can, for I am not meant for you";
const LAWFUL: &str = "after it";

/// The stranger's own address on the street, and a prefix that it may tell of.
const OWN: &str = "fe80::99";
const NETWORK: [u8; 8] = [0x20, 0x01, 0x0d, 0xb8, 0, 0x0a, 0, 0];

/// Lets the rogue do all it knows, and looks at everybody.
pub fn bad_neighbour_is_counted_and_changes_nothing(place: &Place) -> anyhow::Result<()> {
    let lab = Lab::new(&NAMES, &place.folder, &place.programs)?;
    let [relay, near, far] = [
        lab.home("bakery-1")?,
        lab.home("bakery-2")?,
        lab.home("bakery-3")?,
    ];
    let _cables = raise_line(&lab, [relay, near, far])?;
    let mut pulse = Pulse::begin(near, &far.overlay_address()?, SOON)?;
    let begin = SystemTime::now();
    let honest = [near, far];
    let ways = routes(relay, &honest)?;
    let (dropped, refused) = (counts(relay, "dropped")?, counts(relay, "routing")?);
    let taps: anyhow::Result<Vec<Tap>> = NAMES.iter().map(|name| Tap::open(&lab, name)).collect();

    let (acts, rogue) = misbehave(place, &lab, relay, honest)?;
    let tries = counted(relay, &acts, &dropped, &refused)?;
    nothing_arrived(taps?)?;
    ensure!(routes(relay, &honest)? == ways, "a way has changed");
    rogue.answer(Duration::ZERO)?;
    let claims = stranger_on_the_street(&lab, relay, far)?;
    ensure!(routes(relay, &honest)? == ways, "a way has changed");
    let gap = pulse.outage(begin, SOON)?;
    ensure!(gap <= GAP_MAX, "honest nodes were cut off for {gap:?}");
    Figure {
        bar: "routing.privacy@hostile".to_owned(),
        text: format!(
            "hostile: {tries} packets of {} kinds by a certified neighbour and {claims} claims of \
             a stranger dropped and counted, none arrived, no way changed, longest gap of the \
             honest {:.2} s",
            acts.len(),
            gap.as_secs_f64()
        ),
        holds: true,
    }
    .tell();
    Ok(())
}

/// Makes an organisation of three honest nodes in a line; its middle stays on the street.
fn raise_line<'a>(lab: &'a Lab, homes: [&Home; 3]) -> anyhow::Result<Cables<'a>> {
    let [relay, near, far] = homes;
    relay.configure("babel.interfaces", "eth0")?;
    relay.configure("babel.import", "2001:db8::/32")?;
    found_org("bakery", relay)?;
    join(relay, near)?;
    join(relay, far)?;
    see_each_other(&homes, SOON)?;
    let cables = Cables::lay(lab, &LINE)?;
    relay.ip("link set eth0 up")?;
    relay.ip(&format!(
        "address add {}/24 dev eth0",
        lab.address("bakery-1")?
    ))?;
    until("the ends reach each other through the middle", SOON, || {
        Ok(links_between(near, "bakery-3.bakery")?.filter(|links| *links == 2))
    })?;
    see_each_other(&homes, SOON)?;
    Ok(cables)
}

/// What the rogue did: in which list it is counted, by which word, how often.
#[derive(Debug)]
#[expect(dead_code, reason = "the name is for who reads why a test failed")]
struct Act {
    list: String,
    word: String,
    times: u64,
    name: String,
}

fn misbehave(
    place: &Place,
    lab: &Lab,
    relay: &Home,
    honest: [&Home; 2],
) -> anyhow::Result<(Vec<Act>, Asked)> {
    let rogue = place.programs.join("rogue");
    let (root, node) = (relay.key("org-root.key"), relay.key("node.key"));
    let at = lab.address("bakery-1")?;
    let [control, tunnels] = ["control", "wireguard"].map(|of| relay.port(of));
    let (control, tunnels) = (format!("{at}:{}", control?), format!("{at}:{}", tunnels?));
    let [one, other] = honest.map(Home::overlay_address);
    let (one, other) = (one?, other?);
    let words = ["neighbour", &root, &node, &control, &tunnels, &one, &other];
    let stranger = lab.home("stranger-1")?;
    let mut rogue = stranger.begin(&rogue.to_string_lossy(), &words)?;
    let said = until("the rogue has done all", SOON, || {
        let said = rogue.so_far()?;
        Ok(said.contains("all was tried").then_some(said))
    });
    let acts = match said {
        Ok(said) => read_acts(&said)?,
        Err(error) => bail!("{error:#}:\n{}", rogue.answer(Duration::ZERO)?),
    };
    ensure!(29 <= acts.len(), "the rogue did too little: {acts:?}");
    Ok((acts, rogue))
}

fn read_acts(said: &str) -> anyhow::Result<Vec<Act>> {
    let lines = said.lines().map(|line| line.split('\t').collect());
    let rows = lines.filter_map(|parts: Vec<&str>| match parts[..] {
        [list, word, times, name] => Some((list, word, times, name)),
        _ => None,
    });
    let act = |(list, word, times, name): (&str, &str, &str, &str)| {
        Ok(Act {
            list: list.to_owned(),
            word: word.to_owned(),
            times: times.parse()?,
            name: name.to_owned(),
        })
    };
    rows.map(act).collect()
}

type Counts = BTreeMap<String, u64>;

fn counts(home: &Home, list: &str) -> anyhow::Result<Counts> {
    let status = home.quietly().status()?;
    let counts = status.get(list).with_context(|| format!("no {list}"))?;
    Ok(serde_json::from_value(counts.clone())?)
}

/// Waits until each try is counted by its word, and checks that nothing else is. Returns how many
/// tries there were.
fn counted(relay: &Home, acts: &[Act], dropped: &Counts, refused: &Counts) -> anyhow::Result<u64> {
    let mut total = 0;
    for (list, before) in [("dropped", dropped), ("routing", refused)] {
        let mut expect = Counts::new();
        for act in acts.iter().filter(|act| act.list == list) {
            *expect.entry(act.word.clone()).or_default() += act.times;
        }
        total += expect.values().sum::<u64>();
        let more = || -> anyhow::Result<Counts> {
            let now = counts(relay, list)?;
            let grown = now.into_iter().map(|(word, count)| {
                let more = count - before.get(&word).copied().unwrap_or(0).min(count);
                (word, more)
            });
            Ok(grown.filter(|(_, more)| 0 < *more).collect())
        };
        let of = |counts: &Counts, word: &str| counts.get(word).copied().unwrap_or(0);
        until(&format!("every try is counted in {list}"), SOON, || {
            let more = more()?;
            let all = expect.iter().all(|(word, times)| *times <= of(&more, word));
            Ok(all.then_some(()))
        })
        .with_context(|| format!("{expect:?} in {list}, {:?}, of {acts:?}", more()))?;
        let more = more()?;
        for (word, count) in &more {
            // The rogue knocks until it is known, and its own coming and going is routing.
            let is_open = word == "stranger" || (list == "routing" && !expect.contains_key(word));
            ensure!(
                is_open || *count == of(&expect, word),
                "{word} grew by {count} in {list}, not by {}: {acts:?}",
                of(&expect, word)
            );
        }
        for word in ["table-full", "too-many-changes", "neighbours-full"] {
            ensure!(of(&more, word) == 0, "{word} grew: {more:?}");
        }
    }
    Ok(total)
}

/// No marked packet came out of anybody's TUN, nor in clear over any cable; the rogue's honest ping
/// did come to the relay.
fn nothing_arrived(taps: Vec<Tap>) -> anyhow::Result<()> {
    let mut secrets = Secrets::default();
    secrets.add(MARK, MARK.as_bytes());
    secrets.add(LAWFUL, LAWFUL.as_bytes());
    for (name, tap) in NAMES.into_iter().zip(taps) {
        let heard = tap.close()?;
        let on_the_street = secrets.count_in(heard.on("eth0"));
        let elsewhere = heard.frames.iter().filter(|it| it.interface != "eth0");
        let elsewhere = secrets.count_in(elsewhere);
        ensure!(elsewhere.of(MARK) == 0, "a marked packet came to {name}");
        let lawful = elsewhere.of(LAWFUL) == 1;
        ensure!(lawful == (name == "bakery-1"), "{name}: {elsewhere:?}");
        // On the street it is heard: what the stranger without a certificate threw.
        let thrown = 0 < on_the_street.of(MARK);
        let is_there = ["bakery-1", "stranger-1"].contains(&name);
        ensure!(
            thrown == is_there,
            "the street at {name}: {on_the_street:?}"
        );
    }
    Ok(())
}

/// Somebody on the street without any key claims a node's prefix and all services, as a Babel
/// router of that network. Returns how many claims were refused.
fn stranger_on_the_street(lab: &Lab, relay: &Home, far: &Home) -> anyhow::Result<u64> {
    let here = Home::new(
        "here",
        lab.home("stranger-1")?.folder.clone(),
        &relay.folder,
    );
    here.ip(&format!("address add {OWN}/64 dev street nodad"))?;
    let address: std::net::Ipv6Addr = far.overlay_address()?.parse()?;
    let upper = address.octets();
    let upper = upper
        .first_chunk::<8>()
        .context("an address has 16 bytes")?;
    let claims = [
        router_id(u64::from_be_bytes(*upper)),
        update(0, 64, 0, upper, 0),
        update(0, 16, 0, &[0xfd, 0x73], 0),
        router_id(0x99),
        update(0, 64, 0, &NETWORK, 0),
    ];
    let before = counts(relay, "routing")?;
    let of = |counts: &Counts, word: &str| counts.get(word).copied().unwrap_or(0);
    let mut hand = Hand::new("street", OWN)?;
    until("the stranger's claims are refused", SOON, || {
        hand.speak(Hello::Multicast, &[], &claims)?;
        let now = counts(relay, "routing")?;
        let more = of(&now, "filtered") - of(&before, "filtered");
        // All three are heard, and the third may be told.
        let heard = of(&now, "update-heard") - of(&before, "update-heard");
        ensure!(more <= heard, "more is refused than heard");
        Ok((6 <= more && 9 <= heard).then_some(more))
    })
}

/// Returns how a node reaches each of others: through whom, in which state.
fn routes(home: &Home, others: &[&Home]) -> anyhow::Result<Vec<(String, String, String)>> {
    let answer = home.quietly().meshnode(&["routes", "--json"])?.json()?;
    let rows = answer.get("routes").and_then(Value::as_array);
    let rows = rows.context("no routes")?;
    let text = |row: &Value, field: &str| -> String {
        let text = row.get(field).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let ways: Vec<_> = others
        .iter()
        .filter_map(|other| {
            let name = format!("{}.bakery", other.name);
            let row = rows.iter().find(|row| text(row, "node") == name)?;
            let state = text(row, "state");
            (state == "selected").then(|| (name, text(row, "next_hop"), state))
        })
        .collect();
    ensure!(ways.len() == others.len(), "a way is missing: {answer}");
    Ok(ways)
}
