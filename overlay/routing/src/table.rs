//! From where a packet came and its addresses to where it goes: the overlay's forwarding decision.
//!
//! A peer may use only addresses of its own /64, which its clients have, or the address of a
//! service it holds as source; an instance only its service address; a client of ours only its own
//! address; this machine only its own. What a peer sends must end here: there is no transit in
//! clear text, ever. Who may talk to an instance is the question of [`crate::access`]. Invariant:
//! for each origin a source address is lawful or not, whatever the destination is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use mesh_base::address::NODE_PREFIX;
use mesh_base::digest::Digest;
use mesh_base::identity::NodeId;

use crate::fib::upper_half;
use crate::packet::Packet;
use crate::plan::Plan;

/// Where a packet came from; proven by the TUN or the session that it came out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The TUN of this machine.
    Host,
    /// The TUN of an instance of ours.
    Instance(Digest),
    /// The session with a peer.
    Peer(NodeId),
    /// The session with the client of ours that has this address.
    Client(Ipv6Addr),
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Into the session with a peer.
    ToPeer(NodeId),
    /// Into the TUN of this machine.
    ToHost,
    /// To the door of an instance of ours.
    ToInstance(Digest),
    /// To the door of the client of ours that has this address.
    ToClient(Ipv6Addr),
    /// Nowhere.
    Drop(DropReason),
}

/// Why a packet went nowhere. Closed: each is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum DropReason {
    /// The bytes are not a whole IPv6 packet.
    Malformed,
    /// An address outside of the two prefixes: link-local chatter, multicast, strangers.
    Foreign,
    /// A source address that the origin may not use; a parcel's that is no member's.
    Source,
    /// A destination that nobody we know holds.
    Unreachable,
    /// From a peer, to another peer: in clear, or a parcel inside of a parcel.
    Transit,
    /// Back to where it came from.
    Loop,
    /// A service whose holder we are, without an instance here.
    Absent,
    /// The instance does not let this node in.
    Denied,
    /// From an instance or to this machine, and not an answer.
    Unasked,
    /// Not TCP, UDP or ICMPv6 echo or error.
    Protocol,
    /// The session is not there yet and its waiting room is full.
    NoSession,
    /// The socket or the TUN did not take it.
    Congested,
    /// The instance has no TUN now.
    Detached,
    /// A parcel that travelled too far.
    HopLimit,
    /// Routing talk that did not come over its link's own underlay.
    Relayed,
    /// A parcel of a neighbour that may still go by what our former life told it.
    Former,
    /// A datagram that belongs to no session: of somebody whom we do not know, or of one that is
    /// over.
    Stranger,
}

impl DropReason {
    /// Every reason, in the order of its discriminant.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::Foreign,
        Self::Source,
        Self::Unreachable,
        Self::Transit,
        Self::Loop,
        Self::Absent,
        Self::Denied,
        Self::Unasked,
        Self::Protocol,
        Self::NoSession,
        Self::Congested,
        Self::Detached,
        Self::HopLimit,
        Self::Relayed,
        Self::Former,
        Self::Stranger,
    ];

    /// Returns one word for counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Foreign => "foreign",
            Self::Source => "source",
            Self::Unreachable => "unreachable",
            Self::Transit => "transit",
            Self::Loop => "loop",
            Self::Absent => "absent",
            Self::Denied => "denied",
            Self::Unasked => "unasked",
            Self::Protocol => "protocol",
            Self::NoSession => "no_session",
            Self::Congested => "congested",
            Self::Detached => "detached",
            Self::HopLimit => "hop_limit",
            Self::Relayed => "relayed",
            Self::Former => "former",
            Self::Stranger => "stranger",
        }
    }
}

/// A [`Plan`] turned around for looking up addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    own: Ipv6Addr,
    addresses: BTreeMap<NodeId, Ipv6Addr>,
    nodes: BTreeMap<Ipv6Addr, NodeId>,
    holders: BTreeMap<Ipv6Addr, NodeId>,
    instances: BTreeMap<Ipv6Addr, Digest>,
    sources: BTreeMap<Digest, Ipv6Addr>,
    /// Whose each /64 is; nobody's where two claim the same.
    halves: BTreeMap<u64, Option<NodeId>>,
    /// Addresses of clients of ours, in our own /64.
    clients: BTreeSet<Ipv6Addr>,
}

impl Table {
    /// Builds the table of a plan.
    pub fn from_plan(plan: &Plan) -> Self {
        let mut halves = BTreeMap::from([(upper_half(plan.own), None)]);
        for (node, peer) in &plan.peers {
            let known = halves.entry(upper_half(peer.address));
            known.and_modify(|it| *it = None).or_insert(Some(*node));
        }
        Self {
            halves,
            clients: BTreeSet::new(),
            own: plan.own,
            addresses: plan
                .peers
                .iter()
                .map(|(node, peer)| (*node, peer.address))
                .collect(),
            nodes: plan
                .peers
                .iter()
                .map(|(node, peer)| (peer.address, *node))
                .collect(),
            holders: plan.services.clone(),
            instances: plan
                .instances
                .iter()
                .map(|(item, it)| (it.address, *item))
                .collect(),
            sources: plan
                .instances
                .iter()
                .map(|(item, it)| (*item, it.address))
                .collect(),
        }
    }

    /// Adds clients of ours. An address outside of our /64, or our own, is not one of theirs.
    #[must_use]
    pub fn with_clients(mut self, clients: impl IntoIterator<Item = Ipv6Addr>) -> Self {
        let own = self.own;
        let is_lawful = |it: &Ipv6Addr| *it != own && upper_half(*it) == upper_half(own);
        self.clients = clients.into_iter().filter(is_lawful).collect();
        self
    }

    /// Returns as whom doors judge a packet that [`Table::classify`] let pass: a client stands for
    /// the node whose it is.
    pub fn judged_as(&self, origin: Origin, source: Ipv6Addr) -> Ipv6Addr {
        match origin {
            Origin::Client(_) => self.own,
            Origin::Peer(node) if self.owner(&source) == Some(node) => {
                self.addresses.get(&node).copied().unwrap_or(source)
            }
            Origin::Host | Origin::Instance(_) | Origin::Peer(_) => source,
        }
    }

    /// Returns the peer in whose /64 a node's address lies.
    fn owner(&self, address: &Ipv6Addr) -> Option<NodeId> {
        let [first, ..] = address.segments();
        if first != NODE_PREFIX {
            return None;
        }
        self.halves.get(&upper_half(*address)).copied().flatten()
    }

    /// Returns whether an address is that of a peer.
    pub fn is_peer(&self, address: &Ipv6Addr) -> bool {
        self.nodes.contains_key(address)
    }

    /// Returns the peer that has an address, or whose client has it.
    pub fn peer_at(&self, address: &Ipv6Addr) -> Option<NodeId> {
        let node = self.nodes.get(address).copied();
        node.or_else(|| self.owner(address))
    }

    /// Decides where a packet goes.
    pub fn classify(&self, packet: &Packet<'_>, origin: Origin) -> Verdict {
        if !packet.is_overlay() {
            return Verdict::Drop(DropReason::Foreign);
        }
        if !self.may_send_as(origin, &packet.source()) {
            return Verdict::Drop(DropReason::Source);
        }
        let verdict = self.locate(&packet.destination());
        match (origin, verdict) {
            (Origin::Peer(_), Verdict::ToPeer(_)) => self.arrive(&packet.destination()),
            (Origin::Client(from), Verdict::ToClient(to)) if from == to => {
                Verdict::Drop(DropReason::Loop)
            }
            (Origin::Host, Verdict::ToHost) => Verdict::Drop(DropReason::Loop),
            (Origin::Instance(item), Verdict::ToInstance(other)) if item == other => {
                Verdict::Drop(DropReason::Loop)
            }
            _ => verdict,
        }
    }

    fn may_send_as(&self, origin: Origin, source: &Ipv6Addr) -> bool {
        match origin {
            Origin::Host => *source == self.own,
            Origin::Instance(item) => self.sources.get(&item) == Some(source),
            // Whoever is no peer has no session; being named as a holder does not make it one.
            Origin::Peer(node) => self.addresses.get(&node).is_some_and(|address| {
                address == source
                    || self.owner(source) == Some(node)
                    || self.holders.get(source) == Some(&node)
            }),
            Origin::Client(address) => address == *source && self.clients.contains(source),
        }
    }

    /// Returns who has an address. The newest holder record wins over an instance that is still
    /// here.
    fn locate(&self, destination: &Ipv6Addr) -> Verdict {
        if *destination == self.own {
            return Verdict::ToHost;
        }
        if self.clients.contains(destination) {
            return Verdict::ToClient(*destination);
        }
        if let Some(node) = self.peer_at(destination) {
            return Verdict::ToPeer(node);
        }
        match self.holders.get(destination) {
            Some(node) if self.addresses.contains_key(node) => Verdict::ToPeer(*node),
            holder => match (self.instances.get(destination), holder) {
                (Some(item), _) => Verdict::ToInstance(*item),
                (None, Some(_)) => Verdict::Drop(DropReason::Absent),
                (None, None) => Verdict::Drop(DropReason::Unreachable),
            },
        }
    }

    /// A peer's packet to a service that moved away is still for our instance, or for nobody here.
    fn arrive(&self, destination: &Ipv6Addr) -> Verdict {
        match self.instances.get(destination) {
            Some(item) => Verdict::ToInstance(*item),
            None => Verdict::Drop(DropReason::Transit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mesh_base::identity::SecretKey;
    use proptest::prelude::*;

    use super::*;
    use crate::packet::build;
    use crate::plan::{InstancePlan, PeerPlan, Role};

    const OWN: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 1);
    const ALICE: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 2);
    const BOB: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 3);
    const ALICES: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 2);
    const OURS: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 1);
    const MOVED: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 4);
    const GONE: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 5);
    const NOBODY: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 9);

    fn node(seed: u8) -> NodeId {
        NodeId(SecretKey::from_seed([seed; 32]).public())
    }

    fn item(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    fn table() -> Table {
        let peer = |address| PeerPlan {
            role: Role::Neighbour,
            drains: false,
            leaf: false,
            address,
            x25519: [0; 32],
            endpoints: Vec::new(),
        };
        let instance = |address| InstancePlan {
            address,
            allow: BTreeSet::new(),
        };
        Table::from_plan(&Plan {
            own: OWN,
            leaf: false,
            peers: BTreeMap::from([(node(2), peer(ALICE)), (node(3), peer(BOB))]),
            services: BTreeMap::from([
                (ALICES, node(2)),
                (OURS, node(1)),
                (MOVED, node(2)),
                (GONE, node(1)),
            ]),
            instances: BTreeMap::from([(item(1), instance(OURS)), (item(4), instance(MOVED))]),
            forwards: BTreeSet::new(),
        })
    }

    #[track_caller]
    fn check(origin: Origin, from: Ipv6Addr, to: Ipv6Addr, expect: Verdict) {
        let bytes = build::udp((from, 1), (to, 2), b"");
        assert_eq!(
            table().classify(&Packet::parse(&bytes).unwrap(), origin),
            expect
        );
    }

    #[test]
    fn host_reaches_nodes_and_services() {
        check(Origin::Host, OWN, ALICE, Verdict::ToPeer(node(2)));
        check(Origin::Host, OWN, ALICES, Verdict::ToPeer(node(2)));
        check(Origin::Host, OWN, OURS, Verdict::ToInstance(item(1)));
        check(Origin::Host, OWN, MOVED, Verdict::ToPeer(node(2)));
    }

    #[test]
    fn host_packets_without_a_way_are_dropped_with_the_reason() {
        check(Origin::Host, OWN, OWN, Verdict::Drop(DropReason::Loop));
        check(Origin::Host, OWN, GONE, Verdict::Drop(DropReason::Absent));
        check(
            Origin::Host,
            OWN,
            NOBODY,
            Verdict::Drop(DropReason::Unreachable),
        );
        check(Origin::Host, OURS, ALICE, Verdict::Drop(DropReason::Source));
        check(
            Origin::Host,
            OWN,
            "ff02::2".parse().unwrap(),
            Verdict::Drop(DropReason::Foreign),
        );
        check(
            Origin::Host,
            "fe80::1".parse().unwrap(),
            OWN,
            Verdict::Drop(DropReason::Foreign),
        );
    }

    #[test]
    fn peer_may_send_only_as_itself_or_its_services() {
        let alice = Origin::Peer(node(2));
        check(alice, ALICE, OWN, Verdict::ToHost);
        check(alice, ALICES, OWN, Verdict::ToHost);
        check(alice, ALICE, OURS, Verdict::ToInstance(item(1)));
        check(alice, BOB, OWN, Verdict::Drop(DropReason::Source));
        check(alice, OURS, OWN, Verdict::Drop(DropReason::Source));
        check(alice, OWN, OWN, Verdict::Drop(DropReason::Source));
        check(
            Origin::Peer(node(3)),
            ALICES,
            OWN,
            Verdict::Drop(DropReason::Source),
        );
        check(
            Origin::Peer(node(9)),
            ALICE,
            OWN,
            Verdict::Drop(DropReason::Source),
        );
    }

    const OURS_HALF: Ipv6Addr = Ipv6Addr::new(0xfd6d, 9, 9, 9, 0, 0, 0, 1);
    const PHONE: Ipv6Addr = Ipv6Addr::new(0xfd6d, 9, 9, 9, 5, 5, 5, 5);
    const TABLET: Ipv6Addr = Ipv6Addr::new(0xfd6d, 9, 9, 9, 6, 6, 6, 6);
    const CAROL: Ipv6Addr = Ipv6Addr::new(0xfd6d, 7, 7, 7, 0, 0, 0, 2);
    const CAROLS: Ipv6Addr = Ipv6Addr::new(0xfd6d, 7, 7, 7, 8, 8, 8, 8);

    /// Nodes with a /64 each; `twin` is one more in Carol's.
    fn halves(twin: bool) -> Table {
        let peer = |address| PeerPlan {
            role: Role::Neighbour,
            drains: false,
            leaf: false,
            address,
            x25519: [0; 32],
            endpoints: Vec::new(),
        };
        let mut peers = BTreeMap::from([(node(2), peer(CAROL)), (node(3), peer(BOB))]);
        if twin {
            let [a, b, c, d, ..] = CAROL.segments();
            peers.insert(node(4), peer(Ipv6Addr::new(a, b, c, d, 1, 1, 1, 1)));
        }
        let instances = BTreeMap::from([(
            item(1),
            InstancePlan {
                address: OURS,
                allow: BTreeSet::new(),
            },
        )]);
        let plan = Plan {
            own: OURS_HALF,
            leaf: false,
            peers,
            services: BTreeMap::from([(ALICES, node(2)), (OURS, node(1))]),
            instances,
            forwards: BTreeSet::new(),
        };
        Table::from_plan(&plan).with_clients([PHONE, TABLET, BOB, OURS_HALF])
    }

    #[track_caller]
    fn check_halves(origin: Origin, from: Ipv6Addr, to: Ipv6Addr, expect: Verdict) {
        let bytes = build::udp((from, 1), (to, 2), b"");
        let verdict = halves(false).classify(&Packet::parse(&bytes).unwrap(), origin);
        assert_eq!(verdict, expect);
    }

    #[test]
    fn client_reaches_what_we_reach_and_only_as_itself() {
        let phone = Origin::Client(PHONE);
        check_halves(phone, PHONE, CAROL, Verdict::ToPeer(node(2)));
        check_halves(phone, PHONE, ALICES, Verdict::ToPeer(node(2)));
        check_halves(phone, PHONE, OURS, Verdict::ToInstance(item(1)));
        check_halves(phone, PHONE, OURS_HALF, Verdict::ToHost);
        check_halves(phone, PHONE, TABLET, Verdict::ToClient(TABLET));
        check_halves(phone, PHONE, PHONE, Verdict::Drop(DropReason::Loop));
        for forged in [OURS_HALF, TABLET, CAROL, CAROLS, ALICES, OURS] {
            check_halves(phone, forged, CAROL, Verdict::Drop(DropReason::Source));
        }
        let gone = Origin::Client(CAROLS);
        check_halves(gone, CAROLS, CAROL, Verdict::Drop(DropReason::Source));
    }

    #[test]
    fn address_outside_of_our_half_is_no_client() {
        let bob = Origin::Client(BOB);
        check_halves(bob, BOB, CAROL, Verdict::Drop(DropReason::Source));
        check_halves(Origin::Host, OURS_HALF, BOB, Verdict::ToPeer(node(3)));
    }

    #[test]
    fn answers_find_the_client_here_and_its_node_elsewhere() {
        let carol = Origin::Peer(node(2));
        check_halves(carol, CAROL, PHONE, Verdict::ToClient(PHONE));
        check_halves(carol, ALICES, PHONE, Verdict::ToClient(PHONE));
        check_halves(Origin::Host, OURS_HALF, PHONE, Verdict::ToClient(PHONE));
        check_halves(
            Origin::Instance(item(1)),
            OURS,
            PHONE,
            Verdict::ToClient(PHONE),
        );
        check_halves(
            Origin::Instance(item(1)),
            OURS,
            CAROLS,
            Verdict::ToPeer(node(2)),
        );
        check_halves(Origin::Host, OURS_HALF, CAROLS, Verdict::ToPeer(node(2)));
    }

    #[test]
    fn nodes_clients_are_judged_as_the_node() {
        let carol = Origin::Peer(node(2));
        check_halves(carol, CAROLS, OURS, Verdict::ToInstance(item(1)));
        check_halves(carol, CAROLS, OURS_HALF, Verdict::ToHost);
        check_halves(carol, CAROLS, BOB, Verdict::Drop(DropReason::Transit));
        check_halves(carol, PHONE, OURS, Verdict::Drop(DropReason::Source));
        check_halves(
            Origin::Peer(node(3)),
            CAROLS,
            OURS,
            Verdict::Drop(DropReason::Source),
        );
        let table = halves(false);
        assert_eq!(table.judged_as(carol, CAROLS), CAROL);
        assert_eq!(table.judged_as(carol, ALICES), ALICES);
        assert_eq!(table.judged_as(Origin::Client(PHONE), PHONE), OURS_HALF);
    }

    #[test]
    fn half_that_two_nodes_claim_is_nobodys() {
        let table = halves(true);
        let bytes = build::udp((CAROLS, 1), (OURS, 2), b"");
        let packet = Packet::parse(&bytes).unwrap();
        for claims in [2, 4] {
            let verdict = table.classify(&packet, Origin::Peer(node(claims)));
            assert_eq!(verdict, Verdict::Drop(DropReason::Source));
        }
        let bytes = build::udp((CAROL, 1), (OURS, 2), b"");
        let verdict = table.classify(&Packet::parse(&bytes).unwrap(), Origin::Peer(node(2)));
        assert_eq!(
            verdict,
            Verdict::ToInstance(item(1)),
            "its own address stays its own"
        );
    }

    #[test]
    fn nothing_passes_through_us() {
        let alice = Origin::Peer(node(2));
        check(alice, ALICE, BOB, Verdict::Drop(DropReason::Transit));
        check(alice, ALICE, ALICES, Verdict::Drop(DropReason::Transit));
        check(alice, ALICE, NOBODY, Verdict::Drop(DropReason::Unreachable));
    }

    #[test]
    fn moved_service_still_answers_what_arrives() {
        check(
            Origin::Peer(node(3)),
            BOB,
            MOVED,
            Verdict::ToInstance(item(4)),
        );
        check(
            Origin::Instance(item(4)),
            MOVED,
            BOB,
            Verdict::ToPeer(node(3)),
        );
    }

    #[test]
    fn instance_may_send_only_as_its_service() {
        let ours = Origin::Instance(item(1));
        check(ours, OURS, ALICE, Verdict::ToPeer(node(2)));
        check(ours, OURS, OWN, Verdict::ToHost);
        check(ours, OURS, OURS, Verdict::Drop(DropReason::Loop));
        check(ours, OWN, ALICE, Verdict::Drop(DropReason::Source));
        check(ours, MOVED, ALICE, Verdict::Drop(DropReason::Source));
        check(
            Origin::Instance(item(7)),
            OURS,
            ALICE,
            Verdict::Drop(DropReason::Source),
        );
    }

    #[test]
    fn every_reason_stands_at_its_place() {
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{}", reason.name());
        }
    }

    fn address() -> impl Strategy<Value = Ipv6Addr> {
        prop_oneof![
            Just(OWN),
            Just(ALICE),
            Just(BOB),
            Just(ALICES),
            Just(OURS),
            Just(MOVED),
            Just(GONE),
            any::<u128>().prop_map(Ipv6Addr::from),
        ]
    }

    fn origin() -> impl Strategy<Value = Origin> {
        prop_oneof![
            Just(Origin::Host),
            (0u8..6).prop_map(|byte| Origin::Instance(item(byte))),
            (1u8..6).prop_map(|seed| Origin::Peer(node(seed))),
            address().prop_map(Origin::Client),
        ]
    }

    proptest! {
        #[test]
        fn lawful_source_is_needed_to_go_anywhere(
            from in address(),
            to in address(),
            origin in origin(),
        ) {
            let bytes = build::udp((from, 1), (to, 2), b"");
            let verdict = table().classify(&Packet::parse(&bytes).unwrap(), origin);
            let lawful = match origin {
                Origin::Host => from == OWN,
                Origin::Instance(it) => {
                    (it == item(1) && from == OURS) || (it == item(4) && from == MOVED)
                }
                Origin::Peer(peer) => {
                    (peer == node(2) && [ALICE, ALICES, MOVED].contains(&from))
                        || (peer == node(3) && from == BOB)
                }
                // There is none.
                Origin::Client(_) => false,
            };
            prop_assert!(lawful || matches!(verdict, Verdict::Drop(_)));
            let transit = matches!((origin, verdict), (Origin::Peer(_), Verdict::ToPeer(_)));
            prop_assert!(!transit);
        }
    }
}
