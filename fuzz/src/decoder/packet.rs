//! Packets out of tunnels and instances: the view, the table and the doors.

use std::collections::BTreeSet;

use mesh_routing::access::Access;
use mesh_routing::answer::answer;
use mesh_routing::limits::MTU;
use mesh_routing::packet::Packet;
use mesh_routing::probe;
use mesh_routing::reach::word;
use mesh_routing::table::{DropReason, Origin};

use crate::Outcome;
use crate::lawful;

/// Reads a packet, asks where it goes from everywhere it may come from, and knocks at the doors.
pub fn packet(data: &[u8]) -> Outcome {
    if let Ok(quoted) = Packet::parse_quoted(data) {
        let _ = quoted.transport();
    }
    let Ok(packet) = Packet::parse(data) else {
        return Outcome::Refused;
    };
    assert_eq!(packet.len(), data.len(), "a packet is as long as its bytes");
    let now = lawful::NOW.mono;
    for origin in [
        Origin::Host,
        Origin::Instance(lawful::digest(1)),
        Origin::Peer(lawful::peer()),
    ] {
        let _ = lawful::packet::table().classify(&packet, origin);
    }
    for reason in DropReason::ALL {
        if let Some(told) = answer(data, reason) {
            assert!(told.len() <= MTU, "an answer is within every MTU");
            assert!(answer(&told, reason).is_none(), "it is not answered");
        }
    }
    if let Some(read) = probe::read(&packet) {
        assert!(probe::is_probe(&packet), "{read:?}");
    }
    if let Some(read) = word::read(&packet) {
        assert!(word::looks_like_one(data), "{read:?}");
        let written = word::write(&read, packet.source(), packet.destination());
        let again = Packet::parse(&written).ok().and_then(|it| word::read(&it));
        assert_eq!(again, Some(read), "a word is read as written");
    }
    if let Some(told) = probe::exceeded(data, packet.destination()) {
        assert!(told.len() <= data.len() + 48, "no longer than its reason");
    }
    let mut door = Access::new(BTreeSet::from([packet.source()]));
    let inward = door.ingress(&packet, packet.source(), now);
    assert_eq!(
        inward.is_ok(),
        !door.is_empty(),
        "who is let in opens a flow"
    );
    let _ = door.egress(&packet, now);
    let mut door = Access::default();
    assert!(
        door.ingress(&packet, packet.source(), now).is_err(),
        "nobody is let in"
    );
    let _ = door.ingress_to_host(&packet, now);
    let _ = door.egress_of_host(&packet, now);
    let _ = door.ingress_to_host(&packet, now);
    Outcome::Read
}
