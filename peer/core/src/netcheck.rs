//! What this machine's network lets through, judged from what the node has seen.
//!
//! ```text
//!   shell: where others see us, IPv6, sessions, routes ─┐
//!   node: links, control connections, contacts, router ─┴─► Netcheck: facts, paths, what to do
//! ```
//! Decides verdicts and words. Nothing is sent for it: who asks sees what the mesh has learnt by
//! living in this network. Invariant: what nobody has seen is unknown, never no.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};

use mesh_api::netcheck::{Answer, Finding, Nat, NatKind, Netcheck, PathRow};
use mesh_api::route::Way;
use mesh_api::status::PortMapping;
use mesh_base::identity::NodeId;
use mesh_routing::carriage::{Carrier, Why};
use mesh_routing::plan::Role;
use mesh_routing::reach::outer::Mapping;

use crate::explain::{RouteSeen, SessionSeen, carried};
use crate::mapped::port_mapping;
use crate::node::Node;
use crate::places::is_wide;
use crate::port::LinkSeen;

/// A link that was silent longer says nothing about the network of now: several keepalives.
const FRESH_MS: u64 = 15_000;

/// What the shell found about the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetSeen {
    /// Every session.
    pub sessions: Vec<SessionSeen>,
    /// Every route.
    pub routes: Vec<RouteSeen>,
    /// Where other nodes see our UDP socket.
    pub seen: Vec<SocketAddr>,
    /// What their words say about the mapping of IPv4 ports.
    pub mapping: Mapping,
    /// The address from which the Internet would be reached over IPv6; none without a way there.
    pub ipv6: Option<Ipv6Addr>,
}

impl Node {
    /// Returns the verdicts about what the shell found.
    pub(crate) fn netcheck(&self, found: &NetSeen) -> Netcheck {
        let own: Vec<SocketAddr> = self
            .underlay
            .wireguard
            .iter()
            .filter(|at| !at.ip().is_loopback())
            .copied()
            .collect();
        let port_mapping = self.mapped.as_ref().map(port_mapping);
        // What the router maps is told to others as a place of ours, and is not one of our own.
        let mapped: BTreeSet<SocketAddr> = port_mapping
            .iter()
            .flat_map(|it| it.ports.iter().map(|port| port.external))
            .collect();
        let own: Vec<SocketAddr> = own.into_iter().filter(|at| !mapped.contains(at)).collect();
        let nat = nat(&own, found);
        let udp = self.udp();
        let paths = self.paths(found, &nat, &udp);
        Netcheck {
            next: next(&nat, &udp, port_mapping.as_ref(), &own),
            seen: found.seen.clone(),
            ipv6: ipv6(found.ipv6),
            own,
            nat,
            udp,
            port_mapping,
            paths,
        }
    }

    /// Whether datagrams pass: by the links that live, and by those that should and do not.
    fn udp(&self) -> Finding {
        let alive: Vec<NodeId> = self
            .links
            .values()
            .filter(|link| is_answered(link))
            .map(|link| link.peer)
            .collect();
        if !alive.is_empty() {
            return Finding {
                answer: Answer::Yes,
                sentence: format!(
                    "{} by UDP",
                    count(alive.len(), "node answers", "nodes answer")
                ),
            };
        }
        let wanted = |node: &&NodeId| {
            let plan = self
                .last_plan
                .as_ref()
                .and_then(|plan| plan.peers.get(*node));
            plan.is_some_and(|peer| peer.role == Role::Neighbour && !peer.endpoints.is_empty())
        };
        let tried: Vec<&NodeId> = self
            .peers
            .connected()
            .map(|(node, _)| node)
            .filter(wanted)
            .collect();
        if tried.is_empty() {
            return Finding {
                answer: Answer::Unknown,
                sentence: "no node is connected that could answer".to_owned(),
            };
        }
        let nobody = count(tried.len(), "node that is", "nodes that are");
        Finding {
            answer: Answer::No,
            sentence: format!("none of {nobody} connected answers by UDP"),
        }
    }

    fn paths(&self, found: &NetSeen, nat: &Nat, udp: &Finding) -> Vec<PathRow> {
        let ages: BTreeMap<[u8; 8], u64> = found
            .routes
            .iter()
            .filter_map(|seen| {
                let octets = seen.view.prefix.address().octets();
                Some((*octets.first_chunk::<8>()?, seen.age_ms?))
            })
            .collect();
        let mut rows: Vec<PathRow> = found
            .sessions
            .iter()
            .map(|seen| {
                let address = self.overlay_address(&seen.peer);
                let half = address.and_then(|it| it.octets().first_chunk::<8>().copied());
                let age = half.and_then(|half| ages.get(&half).copied());
                self.path(seen, age, (nat, udp))
            })
            .collect();
        // Whoever is not reached, and then whoever is not reached directly, matters most.
        rows.sort_by(|a, b| (order(&a.path), &a.name).cmp(&(order(&b.path), &b.name)));
        rows
    }

    fn path(&self, seen: &SessionSeen, age: Option<u64>, (nat, udp): (&Nat, &Finding)) -> PathRow {
        let way = self.way_to(seen);
        let link = seen.neighbour.as_ref().and_then(|view| view.rtt);
        let link = link.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
        let control = || self.peers.peer(&seen.peer).and_then(|peer| peer.rtt_us);
        let is_direct = way == Way::Direct;
        let by_udp = is_direct && by_udp(seen.carrier);
        PathRow {
            name: self.full_name(&seen.peer),
            carrier: is_direct.then(|| carried(seen.carrier)),
            endpoint: seen.endpoint.filter(|_| by_udp),
            since_ms: if is_direct { seen.up_ms.or(age) } else { age },
            rtt_us: link.filter(|_| is_direct).or_else(control),
            why: (!is_direct).then(|| self.why_not_direct(&seen.peer, nat, udp)),
            path: way,
        }
    }

    fn why_not_direct(&self, node: &NodeId, nat: &Nat, udp: &Finding) -> String {
        let plan = self
            .last_plan
            .as_ref()
            .and_then(|plan| plan.peers.get(node));
        let Some(plan) = plan else {
            return "nobody has said where it is".to_owned();
        };
        if self.links.get(node).is_some_and(is_alive) {
            return "the way through the other is shorter".to_owned();
        }
        if plan.role != Role::Neighbour {
            return "there is no link: enough others are near".to_owned();
        }
        if plan.endpoints.is_empty() {
            return "it has told no address".to_owned();
        }
        if udp.answer == Answer::No {
            return "UDP does not pass here".to_owned();
        }
        let places = count(plan.endpoints.len(), "address", "addresses");
        if nat.kind == NatKind::Symmetric {
            return format!(
                "it does not answer at {places}; routers at both ends, and this one's port differs \
                 for each destination"
            );
        }
        format!("it does not answer at {places}: a router or a firewall is between")
    }
}

/// Whether a link lives, by UDP or by a stream.
fn is_alive(link: &LinkSeen) -> bool {
    link.link_silent_ms.is_some_and(|silent| silent <= FRESH_MS)
}

/// Whether UDP carries a link.
fn by_udp(carrier: Carrier) -> bool {
    match carrier {
        Carrier::Udp | Carrier::UdpNarrow => true,
        Carrier::Stream(_) => false,
    }
}

/// Whether datagrams pass on a link: one that takes a stream for long ones only was answered.
fn is_answered(link: &LinkSeen) -> bool {
    let passes = by_udp(link.carrier) || link.carrier == Carrier::Stream(Why::Narrow);
    passes && link.endpoint.is_some() && is_alive(link)
}

fn order(way: &Way) -> u8 {
    match way {
        Way::None => 0,
        Way::Around { .. } => 1,
        Way::Direct => 2,
    }
}

/// Returns `1 node` or `3 nodes`.
fn count(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}

/// What stands between us and the Internet, from where others see us over IPv4. Who sees us at an
/// address of our own that the world does not know is in the same network, and says nothing.
fn nat(own: &[SocketAddr], found: &NetSeen) -> Nat {
    let of = |kind, sentence: &str| Nat {
        kind,
        sentence: sentence.to_owned(),
    };
    let outer: Vec<&SocketAddr> = found.seen.iter().filter(|at| at.is_ipv4()).collect();
    let is_own = |at: &SocketAddr| own.iter().any(|own| own.ip() == at.ip());
    if outer.iter().any(|at| !is_own(at)) {
        return match found.mapping {
            Mapping::Same => of(
                NatKind::EndpointIndependent,
                "a router gives this machine the same port for everybody: others find it there",
            ),
            Mapping::Differs => of(
                NatKind::Symmetric,
                "a router gives this machine another port for each destination: nobody finds it \
                 by asking others",
            ),
            Mapping::Unknown => of(
                NatKind::Unknown,
                "this machine is behind a router; fewer than two nodes outside have said where \
                 they see it",
            ),
        };
    }
    let wide = |at: &SocketAddr| at.is_ipv4() && is_wide(&at.ip());
    if outer.iter().any(|at| wide(at)) {
        return of(
            NatKind::None,
            "others see this machine at its own public address",
        );
    }
    if own.iter().any(wide) {
        return of(
            NatKind::None,
            "this machine has a public address of its own",
        );
    }
    of(
        NatKind::Unknown,
        "no node outside of this network has said where it sees this machine",
    )
}

fn ipv6(source: Option<Ipv6Addr>) -> Finding {
    match source {
        Some(address) if is_wide(&address.into()) => Finding {
            answer: Answer::Yes,
            sentence: format!("the Internet is reached from {address}"),
        },
        Some(address) => Finding {
            answer: Answer::No,
            sentence: format!("there is a way out, but {address} is known in this network only"),
        },
        None => Finding {
            answer: Answer::No,
            sentence: "no way leads to the Internet over IPv6".to_owned(),
        },
    }
}

fn next(
    nat: &Nat,
    udp: &Finding,
    mapping: Option<&PortMapping>,
    own: &[SocketAddr],
) -> Vec<String> {
    let mut steps = Vec::new();
    if udp.answer == Answer::No {
        steps.push(
            "let UDP out of this network; until then packets go through streams of TCP or through \
             other nodes"
                .to_owned(),
        );
    }
    if udp.answer == Answer::Unknown {
        steps.push("see whether other nodes run: meshnode peers".to_owned());
    }
    let is_mapped = mapping.is_some_and(|it| it.ports.iter().any(|port| port.transport == "UDP"));
    let hidden = match nat.kind {
        NatKind::Symmetric | NatKind::EndpointIndependent => true,
        NatKind::Unknown => own.iter().all(|at| !is_wide(&at.ip())),
        NatKind::None => false,
    };
    if hidden && !is_mapped {
        let port = own
            .first()
            .map_or_else(String::new, |at| format!(" {}", at.port()));
        steps.push(format!(
            "for direct ways from everywhere, turn on PCP, NAT-PMP or UPnP in the router, or lead \
             its UDP port{port} here and name it with network.advertise"
        ));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[track_caller]
    fn check(own: &[&str], seen: &[&str], mapping: Mapping, expect: NatKind) {
        let found = NetSeen {
            seen: places(seen),
            mapping,
            ..NetSeen::default()
        };
        let nat = nat(&places(own), &found);
        assert_eq!(nat.kind, expect, "{}", nat.sentence);
    }

    #[test]
    fn kind_of_nat_follows_from_where_others_see_us() {
        use Mapping::{Differs, Same, Unknown};
        let home = &["192.168.1.7:9", "[fd00::5]:9"][..];
        check(home, &["203.0.113.9:9"], Same, NatKind::EndpointIndependent);
        check(
            home,
            &["203.0.113.9:9", "203.0.113.9:10"],
            Differs,
            NatKind::Symmetric,
        );
        check(home, &["203.0.113.9:9"], Unknown, NatKind::Unknown);
        check(home, &["192.168.1.7:9"], Same, NatKind::Unknown);
        check(home, &["[2001:db8::1]:9"], Same, NatKind::Unknown);
        check(home, &[], Unknown, NatKind::Unknown);
        check(&["203.0.113.9:9"], &["203.0.113.9:9"], Same, NatKind::None);
        check(&["203.0.113.9:9"], &[], Unknown, NatKind::None);
        // The public address of a cloud's machine is its provider's.
        check(
            &["10.0.0.2:9"],
            &["203.0.113.9:9"],
            Same,
            NatKind::EndpointIndependent,
        );
    }

    #[test]
    fn way_out_over_ipv6_needs_an_address_that_the_world_knows() {
        let answer = |text: Option<&str>| ipv6(text.map(|it| it.parse().unwrap())).answer;
        assert_eq!(answer(Some("2001:db8::5")), Answer::Yes);
        assert_eq!(answer(Some("fd00::5")), Answer::No);
        assert_eq!(answer(None), Answer::No);
    }

    #[test]
    fn every_step_is_said_once_and_only_where_it_helps() {
        let of = |kind| Nat {
            kind,
            sentence: String::new(),
        };
        let udp = |answer| Finding {
            answer,
            sentence: String::new(),
        };
        let own = places(&["192.168.1.7:9"]);
        let steps = |kind, answer| next(&of(kind), &udp(answer), None, &own);
        assert!(steps(NatKind::None, Answer::Yes).is_empty());
        assert_eq!(steps(NatKind::Symmetric, Answer::Yes).len(), 1);
        assert!(steps(NatKind::Symmetric, Answer::Yes)[0].contains("UDP port 9 here"));
        assert_eq!(steps(NatKind::Symmetric, Answer::No).len(), 2);
        assert_eq!(steps(NatKind::None, Answer::Unknown).len(), 1);
    }
}
