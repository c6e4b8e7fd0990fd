//! A whole node among the routers of its network: they learn the way to the overlay, it believes
//! what its owner allows.

use std::time::Duration;

use anyhow::ensure;
use mesh_tests::routers::{Babeld, Bird, Secret};
use mesh_tests::runner::Place;
use mesh_tests::transcript::found_org;
use mesh_tests::until::until;
use mesh_tests::yard::Yard;

/// A node says hello every four seconds.
const SOON: Duration = Duration::from_secs(60);

const SECRET: Secret = Secret {
    algorithm: "blake2s128",
    text: "the-key-of-this-yard-32-bytes-ok",
};

/// babeld's network is believed, BIRD's is not; its cable comes later than the node.
pub fn node_is_a_router_of_its_network(place: &Place) -> anyhow::Result<()> {
    let yard = Yard::new(place, &["node", "babeld", "bird"])?;
    yard.cable(("node", "e0"), ("babeld", "e0"))?;
    let home = yard.home("node")?;
    home.configure("babel.interfaces", "e0,later")?;
    home.configure("babel.import", "2001:db8:2::/48")?;
    home.configure("babel.mac_key_file", "babel.keys")?;
    home.configure("network.tun", "host")?;
    std::fs::write(home.folder.join("babel.keys"), SECRET.line())?;
    found_org("bakery", &home)?;
    let own = home.overlay_address()?;

    let babeld = Babeld::start(&yard, "babeld", &[("e0", "")], Some(SECRET), &[])?;
    for prefix in ["fd6d::/16", "fd73::/16"] {
        until(&format!("babeld knows the way to {prefix}"), SOON, || {
            babeld.origin(prefix)
        })?;
    }
    let there = yard.address("babeld")?;
    until("the node reaches babeld's network", SOON, || {
        let ping = ["-n", "-c1", "-W1", "-I", &own, &there];
        let said = home.quietly().run("ping", &ping)?;
        Ok((said.code == 0).then_some(()))
    })?;

    yard.cable(("node", "later"), ("bird", "e0"))?;
    let _bird = Bird::start(&yard, "bird", &["e0"], Some(SECRET))?;
    until("BIRD knows the way to the overlay", SOON, || {
        let count = yard.route_count("bird", Some("fd00::/8"))?;
        Ok((count == 2).then_some(()))
    })?;
    // Both ends of that adjacency stand, so what BIRD tells was heard.
    let learned = yard.ask("node", "ip -6 route show proto babel")?;
    ensure!(
        learned.lines().count() == 1 && learned.contains(&there),
        "only babeld's network is believed:\n{learned}"
    );
    drop(babeld);
    until("what babeld told is gone", SOON, || {
        let count = yard.route_count("node", Some("2001:db8:2::/48"))?;
        Ok((count == 0).then_some(()))
    })?;
    home.stop()
}
