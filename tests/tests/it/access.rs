//! Bar first.access: who reaches a service and what an instance reaches, as root and as an ordinary
//! user. Every refusal has a control: the same knock is answered where it should be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, ensure};
use mesh_tests::figures::Figure;
use mesh_tests::home::Home;
use mesh_tests::probe::raw_knock;
use mesh_tests::runner::Place;
use mesh_tests::until::until;

use crate::neighbourhood::{
    INTERNET, Instance, Neighbourhood, PSQL_INSIDE, Rights, SOON, abstract_name, knocks_at, lan_v6,
};
use crate::packets::{Way, datagram, syn, syn_behind_options, syn_in_a_fragment};

/// Where PostgreSQL listens.
const POSTGRES: u16 = 5432;

/// Proves it with nodes that run as root.
pub fn only_lawful_ways_are_open_as_root(place: &Place) -> anyhow::Result<()> {
    prove(place, Rights::Root, "root")
}

/// Proves it with nodes that run as an ordinary user.
pub fn only_lawful_ways_are_open_as_user(place: &Place) -> anyhow::Result<()> {
    prove(place, Rights::None, "user")
}

fn prove(place: &Place, rights: Rights, part: &str) -> anyhow::Result<()> {
    let mut all = Neighbourhood::raise(place, rights)?;
    let (bakery, mill) = (all.cast.bakery.clone(), all.mill.clone());
    let crm = order(&bakery, "crm-db", &[])?;
    let wiki = order(&bakery, "wiki-db", &[])?;
    let flour = order(&mill, "flour-db", &[])?;
    let mut refused = strangers_are_kept_out(&all, crm)?;
    refused += neighbours_are_kept_out(&all, crm, [wiki, flour])?;
    refused += instance_is_kept_in(&mut all, crm)?;
    refused += forged_packets_are_dropped(&all, crm, wiki)?;
    refused += street_is_kept_out(&all, crm, rights)?;
    guest_is_let_in(&all, crm)?;
    ended_order_lets_nobody_in(&all, crm)?;
    Figure {
        bar: format!("first.access@{part}"),
        text: format!("{part}: {refused} ways tried from outside, beside and inside, 0 open"),
        holds: true,
    }
    .tell();
    Ok(())
}

/// Orders a database on the library's first node; returns its address.
fn order(home: &Home, name: &str, more: &[&str]) -> anyhow::Result<Ipv6Addr> {
    let words = ["order", "postgres", "--name", name, "--node", "library-1"];
    home.meshctl(&[&words[..], more].concat())?.ok()?;
    let address = home.meshctl(&["show", name, "--field", "address"])?;
    Ok(address.value()?.parse()?)
}

/// Returns a node's address in the overlay.
fn address_of(home: &Home) -> anyhow::Result<Ipv6Addr> {
    Ok(home.overlay_address()?.parse()?)
}

fn door(address: Ipv6Addr) -> String {
    format!("open/{address}/{POSTGRES}")
}

fn open(address: Ipv6Addr) -> Vec<String> {
    vec![door(address)]
}

/// Returns how many packets a node has dropped for this reason.
fn dropped(home: &Home, word: &str) -> anyhow::Result<u64> {
    let status = home.quietly().status()?;
    let dropped = status.get("dropped").context("no dropped packets")?;
    let count = dropped.get(word).and_then(serde_json::Value::as_u64);
    Ok(count.unwrap_or(0))
}

/// Waits until a node has counted so many more dropped packets.
fn counted(home: &Home, word: &str, before: u64, more: u64) -> anyhow::Result<()> {
    let what = format!("{} counts {more} more packets as {word}", home.name);
    until(&what, SOON, || {
        Ok((before + more <= dropped(home, word)?).then_some(()))
    })
}

/// Nodes of other organisations: strangers to the order, and the provider's own.
fn strangers_are_kept_out(all: &Neighbourhood, crm: Ipv6Addr) -> anyhow::Result<usize> {
    let (customer, provider) = (&all.cast.bakery, &all.cast.library);
    for member in [customer, &all.cast.bakery_2] {
        all.reaches(&member.name, &all.overlay(member)?, &open(crm))?;
    }
    // The provider knows the way, so its packets come to the door; the mill does not even know it.
    for (stranger, counting, word, told) in [
        (provider, provider, "denied", "Permission denied"),
        (&all.cast.library_2, provider, "denied", "Permission denied"),
        (&all.mill, &all.mill, "unreachable", "No route to host"),
    ] {
        let before = dropped(counting, word)?;
        let from = all.overlay(stranger)?;
        all.reaches_nothing(&stranger.name, &from, &open(crm))?;
        counted(counting, word, before, 1)?;
        all.is_told(&from, &door(crm), told)?;
    }
    Ok(3)
}

/// Instances on the same machine, of the same customer and of another.
fn neighbours_are_kept_out(
    all: &Neighbourhood,
    crm: Ipv6Addr,
    neighbours: [Ipv6Addr; 2],
) -> anyhow::Result<usize> {
    let provider = &all.cast.library;
    let mut tried = 0;
    for neighbour in neighbours {
        let from = all.instance(neighbour)?.network;
        // It reaches itself, so it could connect if it were let.
        all.reaches("a neighbour", &from, &open(neighbour))?;
        let before = dropped(provider, "unasked")?;
        let mut knocks = open(crm);
        knocks.push(format!("ping/{crm}"));
        for port in loopback_ports(all)? {
            knocks.extend(["127.0.0.1", "::1"].map(|at| format!("open/{at}/{port}")));
        }
        tried += all.reaches_nothing("a neighbour", &from, &knocks)?;
        counted(provider, "unasked", before, 2)?;
    }
    Ok(tried)
}

/// Returns the ports on 127.0.0.1 that lead into the overlay, on machines where that is the way.
fn loopback_ports(all: &Neighbourhood) -> anyhow::Result<Vec<u16>> {
    let mut ports = Vec::new();
    for (home, name) in [(&all.cast.bakery, "crm-db"), (&all.mill, "flour-db")] {
        let shown = home.meshctl(&["show", name, "--json"])?.json()?;
        let field = |name: &str| shown.get("fields")?.get(name)?.as_str();
        if field("host") == Some("127.0.0.1") {
            ports.push(field("port").context("no port")?.parse()?);
        }
    }
    Ok(ports)
}

/// From inside: the machine, its network, the Internet, the overlay.
fn instance_is_kept_in(all: &mut Neighbourhood, crm: Ipv6Addr) -> anyhow::Result<usize> {
    let provider = all.cast.library.clone();
    let machine = all.lab.home("library-1")?.clone();
    let (overlay, inside) = (all.overlay(&provider)?, all.instance(crm)?);
    let own = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
        all.lab.address("library-1")?.into(),
        lan_v6(&all.lab, "library-1")?.into(),
    ];
    let mut host: Vec<String> = own.into_iter().flat_map(knocks_at).collect();
    host.push(format!("abstract/{}", abstract_name("library-1")));
    let mut beyond = Vec::new();
    beyond.extend(knocks_at(all.lab.address("library-2")?));
    beyond.extend(knocks_at(lan_v6(&all.lab, "library-2")?));
    for address in INTERNET {
        beyond.extend(knocks_at(address.parse::<IpAddr>()?));
    }
    let node = knocks_at(address_of(&provider)?);
    let customer = knocks_at(address_of(&all.cast.bakery)?);

    // Everything is there for those for whom it is there.
    all.reaches("the machine", &machine, &host)?;
    all.reaches("the machine", &machine, &beyond)?;
    all.reaches("the machine's overlay", &overlay, &node)?;
    let customers = all.overlay(&all.cast.bakery)?;
    all.reaches("the customer's overlay", &customers, &customer)?;
    let pings: Vec<String> = customer
        .iter()
        .filter(|k| k.starts_with("ping"))
        .cloned()
        .collect();
    all.reaches("the machine's overlay", &overlay, &pings)?;

    let before = all.visits()?;
    let drops = dropped(&provider, "unasked")?;
    let knocks = [host, beyond, node, customer].concat();
    let tried = all.reaches_nothing("the instance", &inside.network, &knocks)?;
    counted(&provider, "unasked", drops, 10)?;
    let after = all.visits()?;
    let fresh: Vec<&String> = after.iter().filter(|one| !before.contains(one)).collect();
    ensure!(after == before, "the instance came to {fresh:?}");
    let calls = software_is_kept_in(all, &inside, &provider)?;
    Ok(tried + calls)
}

/// The same from the software itself, behind everything that it is locked in by.
fn software_is_kept_in(
    all: &mut Neighbourhood,
    inside: &Instance,
    provider: &Home,
) -> anyhow::Result<usize> {
    let machine = all.lab.home("library-1")?.clone();
    let hosts = [
        all.lab.address("library-1")?.to_string(),
        lan_v6(&all.lab, "library-2")?.to_string(),
        INTERNET[0].to_owned(),
        INTERNET[1].to_owned(),
    ];
    let call = |host: &str| format!("host={host} port=7001 user=x connect_timeout=2");
    for host in &hosts {
        let before = all.visits()?.len();
        machine.psql(&call(host), "select 1")?;
        ensure!(before < all.visits()?.len(), "psql does not come to {host}");
    }
    ensure!(inside.shell("test -e /data")?, "nothing runs inside");
    for path in [&provider.folder.to_string_lossy(), "/root", "/etc/hostname"] {
        ensure!(!inside.shell(&format!("test -e {path}"))?, "{path} is seen");
    }
    let before = all.visits()?.len();
    for host in &hosts {
        let line = format!("{PSQL_INSIDE} \"{}\" -c \"select 1\"", call(host));
        ensure!(!inside.shell(&line)?, "the software reaches {host}");
    }
    ensure!(before == all.visits()?.len(), "the software came through");
    ensure!(
        !inside.shell("getent hosts example.org")?,
        "names are known"
    );
    Ok(hosts.len() + 1)
}

/// Packets with sources that are not the sender's, and with headers that hide what they are.
fn forged_packets_are_dropped(
    all: &Neighbourhood,
    crm: Ipv6Addr,
    wiki: Ipv6Addr,
) -> anyhow::Result<usize> {
    let (provider, customer) = (&all.cast.library, &all.cast.bakery);
    let (lawful, member) = (address_of(customer)?, address_of(&all.cast.bakery_2)?);
    let victim = all.instance(crm)?;
    let way = |from, to, port| Way { from, to, port };
    let to_crm = |from| way(from, crm, POSTGRES);
    let to_host = |from, port| way(from, lawful, port);

    // What comes to the victim is seen, if it comes.
    let quiet = victim.received()?;
    all.reaches("the customer", &all.overlay(customer)?, &open(crm))?;
    until("the victim has received it", SOON, || {
        Ok((quiet < victim.received()?).then_some(()))
    })?;
    let quiet = at_rest(&victim)?;

    let neighbour = all.instance(wiki)?.network;
    let cases: [(&Home, &Home, &str, Vec<Vec<u8>>); 4] = [
        // A neighbour in the clothes of the customer, of the machine, of the victim itself.
        (
            &neighbour,
            provider,
            "source",
            vec![
                syn(to_crm(lawful)),
                datagram(to_crm(member)),
                syn(to_crm(address_of(provider)?)),
                syn(to_host(crm, 7001)),
                datagram(to_host(crm, 53)),
            ],
        ),
        (
            &neighbour,
            provider,
            "protocol",
            vec![
                syn_behind_options(to_crm(wiki)),
                syn_in_a_fragment(to_crm(wiki)),
                syn_in_a_fragment(to_host(wiki, 7001)),
            ],
        ),
        (
            &neighbour,
            provider,
            "unasked",
            vec![syn(to_crm(wiki)), datagram(to_crm(wiki))],
        ),
        // A program on the customer's machine in the clothes of another machine.
        (
            &all.overlay(customer)?,
            customer,
            "source",
            vec![syn(to_crm(member)), datagram(to_crm(wiki))],
        ),
    ];
    let mut tried = 0;
    for (from, counting, word, packets) in &cases {
        let before = dropped(counting, word)?;
        let knocks: Vec<String> = packets.iter().map(|packet| raw_knock(packet)).collect();
        all.reaches("the sender", from, &knocks)?;
        counted(counting, word, before, knocks.len() as u64)?;
        tried += knocks.len();
    }
    ensure!(victim.received()? == quiet, "a forged packet came through");
    Ok(tried)
}

/// Somebody on the provider's own street, who uses its machine as a router into the overlay, openly
/// and in the clothes of those who may.
fn street_is_kept_out(all: &Neighbourhood, crm: Ipv6Addr, rights: Rights) -> anyhow::Result<usize> {
    let (provider, machine) = (&all.cast.library, all.lab.home("library-1")?);
    let (outsider, gate) = (all.lab.home("isp")?, lan_v6(&all.lab, "library-1")?);
    let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
    machine.run("sh", &["-c", forward])?.ok()?;
    let route = format!("route add fd73::/16 via {gate}");
    outsider.ip(&route)?;
    let victim = all.instance(crm)?;
    let quiet = at_rest(&victim)?;

    let counts = ["foreign", "source", "denied"];
    let before = counts.map(|word| dropped(provider, word));
    let knocks = [door(crm), format!("ping/{crm}")];
    let mut tried = all.reaches_nothing("the street", outsider, &knocks)?;
    for from in [&all.cast.bakery, &all.cast.bakery_2, provider] {
        let from = address_of(from)?;
        let way = Way {
            from,
            to: crm,
            port: POSTGRES,
        };
        let forged = [raw_knock(&syn(way)), raw_knock(&datagram(way))];
        all.reaches("the street", outsider, &forged)?;
        tried += forged.len();
    }
    // As root the machine's own table leads into the overlay, and the node sees who comes.
    if rights == Rights::Root {
        for ((word, before), more) in counts.into_iter().zip(before).zip([2, 4, 2]) {
            counted(provider, word, before?, more)?;
        }
    }
    ensure!(at_rest(&victim)? == quiet, "the street came through");
    Ok(tried)
}

/// Waits until nothing comes to an instance any more; returns how much came until then.
fn at_rest(instance: &Instance) -> anyhow::Result<u64> {
    let mut last = (instance.received()?, std::time::Instant::now());
    until("the instance is at rest", SOON, || {
        let now = instance.received()?;
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        Ok((SOON / 30 <= last.1.elapsed()).then_some(last.0))
    })
}

/// An order that lets the mill in: it comes to that service and to no other.
fn guest_is_let_in(all: &Neighbourhood, crm: Ipv6Addr) -> anyhow::Result<()> {
    let (customer, mill) = (&all.cast.bakery, all.overlay(&all.mill)?);
    let shop = order(customer, "shop-db", &["--allow", "org:mill"])?;
    until("the mill reaches what it is let into", SOON, || {
        Ok((!all.answered(&mill, &open(shop))?.is_empty()).then_some(()))
    })?;
    all.reaches("the customer", &all.overlay(customer)?, &open(shop))?;
    all.reaches_nothing("the mill", &mill, &open(crm))?;
    for stranger in [&all.cast.library, &all.cast.library_2] {
        all.reaches_nothing(&stranger.name, &all.overlay(stranger)?, &open(shop))?;
    }
    let allowed = customer.meshctl(&["show", "shop-db", "--field", "allowed"])?;
    ensure!(allowed.value()? == "bakery, mill", "show does not say it");
    customer.meshctl(&["stop", "shop-db"])?.ok()?;
    all.is_told(&mill, &door(shop), "No route to host")?;
    customer.meshctl(&["destroy", "shop-db", "--yes"])?.ok()?;
    for (who, from) in [("the mill", mill), ("the customer", all.overlay(customer)?)] {
        all.reaches_nothing(who, &from, &open(shop))?;
    }
    Ok(())
}

/// When the order is released nobody is let in any more, and the instance is gone.
fn ended_order_lets_nobody_in(all: &Neighbourhood, crm: Ipv6Addr) -> anyhow::Result<()> {
    let customer = &all.cast.bakery;
    customer.meshctl(&["destroy", "crm-db", "--yes"])?.ok()?;
    for home in [customer, &all.cast.bakery_2, &all.cast.library, &all.mill] {
        all.reaches_nothing(&home.name, &all.overlay(home)?, &open(crm))?;
    }
    until("the instance is gone", SOON, || {
        Ok(all.instance(crm).is_err().then_some(()))
    })
}
