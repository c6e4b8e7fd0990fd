//! Packets between two nodes and a service, and the table that knows all three.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::LazyLock;

use mesh_routing::packet::build;
use mesh_routing::plan::{InstancePlan, PeerPlan, Plan, Role};
use mesh_routing::table::Table;

use super::{digest, peer};

const OWN: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 1);
const PEER: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 2);
const SERVICE: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 3);

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let peer_plan = PeerPlan {
        role: Role::Neighbour,
        drains: false,
        leaf: false,
        address: PEER,
        x25519: [1; 32],
        endpoints: Vec::new(),
    };
    let instance = InstancePlan {
        address: SERVICE,
        allow: BTreeSet::from([PEER]),
    };
    Table::from_plan(&Plan {
        own: OWN,
        leaf: false,
        peers: BTreeMap::from([(peer(), peer_plan)]),
        services: BTreeMap::from([(SERVICE, peer())]),
        instances: BTreeMap::from([(digest(1), instance)]),
        forwards: BTreeSet::new(),
    })
});

/// Returns the table of a node with one peer and one instance.
pub fn table() -> &'static Table {
    &TABLE
}

/// Returns packets of each protocol.
pub fn packets() -> Vec<(&'static str, Vec<u8>)> {
    let syn = build::tcp((PEER, 40_000), (SERVICE, 5432), 0x02);
    vec![
        ("refused-port", build::icmp(SERVICE, PEER, 1, 4, &syn)),
        ("tcp-open", syn),
        ("tcp-end", build::tcp((SERVICE, 5432), (PEER, 40_000), 0x11)),
        ("udp", build::udp((OWN, 53), (PEER, 5353), b"question")),
        ("echo", build::icmp(OWN, PEER, 128, 7, b"ping")),
        ("echo-reply", build::icmp(PEER, OWN, 129, 7, b"ping")),
        (
            "fragment",
            build::ipv6(OWN, PEER, 44, &[6, 0, 0, 0, 0, 0, 0, 0]),
        ),
    ]
}
