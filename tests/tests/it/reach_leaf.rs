//! Bar reach.leaf: Debian's wireguard-go and wg on a machine without a node of ours, by the file
//! that `meshnode wg export` printed and nothing else.
//!
//! ```text
//!   phone ══ c3 ══ bakery-1 ══ c1 ══ relay-1 ══ c2 ══ bakery-2
//!         ══ c4 ══
//!   wireguard-go   meshnode          meshnode         meshnode, crm-db
//! ```
//! The phone pings its node and one two links behind it, asks the database there, changes its
//! network while a query runs, outlives its node's restart, tries what a client must not, and is
//! shut out.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use mesh_tests::cables::Cables;
use mesh_tests::figures::Figure;
use mesh_tests::home::{Home, links_between, see_each_other};
use mesh_tests::lab::Lab;
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::Place;
use mesh_tests::said::{Asked, array, at};
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;

const NAMES: [&str; 4] = ["bakery-1", "relay-1", "bakery-2", "phone"];
const LINE: [(&str, &str); 4] = [
    ("bakery-1", "relay-1"),
    ("relay-1", "bakery-2"),
    ("phone", "bakery-1"),
    ("phone", "bakery-1"),
];

/// How long a mesh may take to find its ways, or a device that lost its session to make another:
/// wireguard-go notices after 15 seconds.
const SOON: Duration = Duration::from_secs(60);

/// Longest time without an answer while the phone changes its address: WireGuard's own roaming is
/// its next packet.
const ROAM_MAX: Duration = Duration::from_secs(2);

/// Where the phone goes: from the last cable to the one before it, with another address.
const ELSEWHERE: &str = "10.78.0.9";

/// A hundred rows, each a twentieth of a second after the one before, over one connection.
const LONG: &str = "select count(*) from (select pg_sleep(0.05) from generate_series(1,100)) rows";

/// Lets the phone do all that it may, and then what it may not.
pub fn stock_wireguard_attaches(place: &Place) -> anyhow::Result<()> {
    let lab = Lab::new(&NAMES, &place.folder, &place.programs)?;
    let [gateway, relay, far, phone] = [
        lab.home("bakery-1")?,
        lab.home("relay-1")?,
        lab.home("bakery-2")?,
        lab.home("phone")?,
    ];
    let _cables = raise_line(&lab, [gateway, relay, far])?;
    let order = [
        "order", "postgres", "--name", "crm-db", "--node", "bakery-2",
    ];
    gateway.meshctl(&order)?.ok()?;
    let url = gateway.url("crm-db")?;
    ensure!(url.contains("[fd73:"), "the service has its own address");

    let begin = Instant::now();
    let device = Device::attach(&lab, gateway, phone)?;
    answers(phone, &gateway.overlay_address()?)?;
    let attached = begin.elapsed();
    answers(phone, &far.overlay_address()?)?;
    let sum = phone.psql(&url, "select 6 * 7")?.value()?;
    ensure!(sum == "42", "the database two links away answers: {sum}");

    let gap = roam(&lab, gateway, phone, &url, &far.overlay_address()?)?;
    let back = restart(gateway, phone)?;
    let tries = misbehave(gateway, phone, &device, &far.overlay_address()?)?;
    shut_out(gateway, phone)?;
    device.end(phone)?;
    let figure = Figure {
        bar: "reach.leaf".to_owned(),
        text: format!(
            "Debian wireguard-go by the exported file: first answer after {:.2} s, a node and \
             postgres two links away answer, a running query outlives a change of network (gap \
             {:.2} s), back {:.1} s after the node's restart, {tries} forbidden packets dropped \
             and counted, shut out when removed",
            attached.as_secs_f64(),
            gap.as_secs_f64(),
            back.as_secs_f64(),
        ),
        holds: gap <= ROAM_MAX,
    };
    figure.hold()
}

/// Makes an organisation of three nodes in a line; the phone hangs on the first.
fn raise_line<'a>(lab: &'a Lab, homes: [&Home; 3]) -> anyhow::Result<Cables<'a>> {
    let [gateway, relay, far] = homes;
    for home in [gateway, relay] {
        home.configure("capacity.slots", 0)?;
    }
    found_org("bakery", gateway)?;
    join(gateway, relay)?;
    join(gateway, far)?;
    see_each_other(&homes, SOON)?;
    let cables = Cables::lay(lab, &LINE)?;
    until("the ends reach each other through the relay", SOON, || {
        Ok(links_between(gateway, "bakery-2.bakery")?.filter(|links| *links == 2))
    })?;
    see_each_other(&homes, SOON)?;
    Ok(cables)
}

/// A running wireguard-go, and what the exported file says.
struct Device {
    asked: Asked,
    address: String,
}

impl Device {
    /// Exports the file and gives it to Debian's tools as they stand.
    fn attach(lab: &Lab, gateway: &Home, phone: &Home) -> anyhow::Result<Self> {
        let conf = gateway.meshnode(&["wg", "export", "phone"])?.ok()?.stdout;
        let said = |key: &str| -> anyhow::Result<String> {
            let line = conf.lines().find_map(|line| line.strip_prefix(key));
            let value = line.and_then(|rest| rest.strip_prefix(" = "));
            Ok(value
                .with_context(|| format!("no {key} in {conf}"))?
                .to_owned())
        };
        let expect = format!("{}:", lab.address("bakery-1")?);
        let endpoint = said("Endpoint")?;
        ensure!(endpoint.starts_with(&expect), "the endpoint is {endpoint}");
        let path = phone.folder.join("phone.conf");
        fs::create_dir_all(&phone.folder)?;
        fs::write(&path, &conf).context("cannot hand the file over")?;
        // Its socket is a file in /run, which is not ours.
        let start =
            "mount -t tmpfs none /run && mkdir /run/wireguard && exec wireguard-go -f phone";
        let asked = phone.ask("unshare", &["-m", "sh", "-ec", start])?;
        until("wireguard-go makes its interface", SOON, || {
            let shown = phone.quietly().run("ip", &["link", "show", "phone"])?;
            Ok((shown.code == 0).then_some(()))
        })?;
        let (address, mtu) = (said("Address")?, said("MTU")?);
        let device = Self {
            asked,
            address: address.trim_end_matches("/128").to_owned(),
        };
        // What wg-quick does with the file.
        let path = path.to_string_lossy().into_owned();
        device.wg(phone, &format!("wg setconf phone <(wg-quick strip {path})"))?;
        phone.ip(&format!("-6 address add {address} dev phone"))?;
        phone.ip(&format!("link set phone mtu {mtu} up"))?;
        for network in said("AllowedIPs")?.split(", ") {
            phone.ip(&format!("-6 route add {network} dev phone"))?;
        }
        Ok(device)
    }

    /// Runs a line where wireguard-go's socket is.
    fn wg(&self, phone: &Home, line: &str) -> anyhow::Result<String> {
        let pid = self.asked.pid().to_string();
        let words = ["-t", &pid, "-m", "--", "bash", "-ec", line];
        phone.quietly().run("nsenter", &words)?.value()
    }

    /// Ends it: it lives as long as its interface.
    fn end(self, phone: &Home) -> anyhow::Result<()> {
        phone.ip("link delete phone")?;
        self.asked.answer(SOON).map(drop)
    }
}

/// Waits until an address answers the phone.
fn answers(phone: &Home, to: &str) -> anyhow::Result<()> {
    until(&format!("{to} answers the phone"), SOON, || {
        Ok(pings(phone, to)?.then_some(()))
    })
}

fn pings(phone: &Home, to: &str) -> anyhow::Result<bool> {
    let said = phone.quietly().run("ping", &["-n", "-c1", "-W1", to])?;
    Ok(said.code == 0)
}

/// The phone's network changes while a query runs. Returns the longest time without an answer.
fn roam(lab: &Lab, gateway: &Home, phone: &Home, url: &str, far: &str) -> anyhow::Result<Duration> {
    let mut pulse = Pulse::begin(phone, far, SOON)?;
    let words = ["-X", "-At", "-v", "ON_ERROR_STOP=1", url, "-c", LONG];
    let query = phone.quietly().ask("psql", &words)?;
    let sessions = "select count(*) from pg_stat_activity where query like '%pg_sleep(0.05)%' \
                    and pid <> pg_backend_pid()";
    until("the query runs", SOON, || {
        let running = gateway.quietly().psql(url, sessions)?.value()?;
        Ok((running == "1").then_some(()))
    })?;
    let begin = SystemTime::now();
    let (old, node) = (lab.address("phone")?, lab.address("bakery-1")?);
    gateway.ip(&format!("route add {ELSEWHERE}/32 dev c3"))?;
    phone.ip(&format!("address add {ELSEWHERE}/32 dev c3"))?;
    phone.ip("link set c4 down")?;
    phone.ip(&format!("route add {node}/32 dev c3 src {ELSEWHERE}"))?;
    phone.ip(&format!("address del {old}/32 dev lo"))?;
    let count = query.answer(SOON)?.value()?;
    ensure!(count == "100", "the query that ran meanwhile: {count}");
    let gap = pulse.outage(begin, SOON)?;
    pulse.end()?;
    let seen = client(gateway)?;
    let endpoint = at(&seen, "endpoint")
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ensure!(
        endpoint.starts_with(ELSEWHERE),
        "the phone is at {endpoint}"
    );
    Ok(gap)
}

/// Returns the only row of the node's list of clients.
fn client(gateway: &Home) -> anyhow::Result<serde_json::Value> {
    let list = gateway
        .quietly()
        .meshnode(&["wg", "list", "--json"])?
        .json()?;
    let [row] = array(&list, "clients") else {
        anyhow::bail!("not one client: {list}");
    };
    ensure!(at(row, "name") == "phone", "{row}");
    Ok(row.clone())
}

/// The node forgets no client when it ends, and the phone finds it again by itself. Returns how
/// long that took.
fn restart(gateway: &Home, phone: &Home) -> anyhow::Result<Duration> {
    let before = at(&client(gateway)?, "address").clone();
    let node = gateway.overlay_address()?;
    gateway.stop()?;
    ensure!(!pings(phone, &node)?, "a node that has stopped answers");
    gateway.start()?;
    let begin = Instant::now();
    ensure!(
        *at(&client(gateway)?, "address") == before,
        "the address stays"
    );
    answers(phone, &node)?;
    Ok(begin.elapsed())
}

type Counts = BTreeMap<String, u64>;

fn dropped(gateway: &Home) -> anyhow::Result<Counts> {
    let status = gateway.quietly().status()?;
    Ok(serde_json::from_value(at(&status, "dropped").clone())?)
}

/// Sends what a client must not send. Returns how many packets were counted.
fn misbehave(gateway: &Home, phone: &Home, device: &Device, far: &str) -> anyhow::Result<u64> {
    let before = dropped(gateway)?;
    let more = |word: &str| -> anyhow::Result<u64> {
        let count = |counts: &Counts| counts.get(word).copied().unwrap_or(0);
        Ok(count(&dropped(gateway)?).saturating_sub(count(&before)))
    };
    // Its neighbour in the /64, and its own node.
    let (half, _) = device.address.rsplit_once(':').context("no IPv6 address")?;
    let own = gateway.overlay_address()?;
    for forged in [&format!("{half}:1"), &own] {
        phone.ip(&format!("-6 address add {forged}/128 dev phone nodad"))?;
        let words = ["-n", "-c3", "-i0.2", "-W1", "-I", forged, far];
        let said = phone.quietly().run("ping", &words)?;
        ensure!(said.code != 0, "somebody answers {forged}");
        phone.ip(&format!("-6 address del {forged}/128 dev phone"))?;
    }
    // A parcel's port and a probe's, at its node and at another, and the control network.
    for to in [far, &own] {
        for port in [6786, 6787] {
            let line = format!("echo -n let-me-in > /dev/udp/{to}/{port}");
            phone.quietly().run("bash", &["-c", &line])?.ok()?;
        }
        let line = format!("timeout 1 bash -c 'exec 3<>/dev/tcp/{to}/6787'");
        let said = phone.quietly().run("bash", &["-c", &line])?;
        ensure!(
            said.code != 0,
            "the control network of {to} is open to a phone"
        );
    }
    until("each try is counted", SOON, || {
        let counted = (more("source")?, more("protocol")?);
        Ok((6 <= counted.0 && 6 <= counted.1).then_some(counted.0 + counted.1))
    })
}

/// A client that is removed has no session from that moment, and its name is free.
fn shut_out(gateway: &Home, phone: &Home) -> anyhow::Result<()> {
    ensure!(pings(phone, &gateway.overlay_address()?)?, "it was let in");
    gateway.meshnode(&["wg", "remove", "phone"])?.ok()?;
    ensure!(
        !pings(phone, &gateway.overlay_address()?)?,
        "a removed client is let in"
    );
    let list = gateway
        .quietly()
        .meshnode(&["wg", "list", "--json"])?
        .json()?;
    ensure!(array(&list, "clients").is_empty(), "{list}");
    gateway
        .meshnode(&["wg", "remove", "phone"])?
        .refused(5, "there is no client \"phone\" here")
}
