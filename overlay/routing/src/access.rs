//! Doors: who may begin a conversation, and that everything else is an answer.
//!
//! ```text
//!   instance's door      in: from `allow` only ── opens a flow ──►   out: only what answers a flow
//!   this machine's door  out: anything ── opens a flow ──►           in: answers and echo requests
//!   client's door        out: anything but nodes' own ports ──►      in: answers
//! ```
//! A flow is protocol, both addresses and both ports (or the echo identifier), seen from inside the
//! door. So an instance has no egress of its own, and a machine in the mesh offers nothing to its
//! peers but the services it sells and its control network. Flows are remembered up to a limit and
//! a silence, see [`crate::limits`]. Losing one costs little: the opener's next packet opens it
//! again, so connections outlive a restart of the node. Invariant: `flows` and `expiry` hold the
//! same flows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_base::time::Moment;

use crate::fib::upper_half;
use crate::limits::{
    CLIENT_FLOWS_MAX, ECHO_IDLE_MAX, EXPIRY_STEP, FLOWS_MAX, TCP_IDLE_MAX, TCP_TRANSITORY_MAX,
    UDP_IDLE_MAX,
};
use crate::packet::{Packet, TcpFlags, Transport};
use crate::table::DropReason;

/// The TCP port of every node's control network, in the overlay only: the one thing that a machine
/// itself offers there. Who may go further is decided by the membership gate behind it.
pub const CONTROL_PORT: u16 = 6787;

/// Names a conversation, seen from inside the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    remote: Ipv6Addr,
    local: Ipv6Addr,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Tcp { remote: u16, local: u16 },
    Udp { remote: u16, local: u16 },
    Echo { identifier: u16 },
}

/// Which way a packet passes the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

#[derive(Debug, Clone, Copy)]
struct State {
    expires: Moment,
    closing: bool,
}

/// Remembers the flows through one door.
///
/// The methods answer at once; there is nothing to poll.
#[derive(Debug)]
pub struct Access {
    allow: BTreeSet<Ipv6Addr>,
    flows: BTreeMap<Flow, State>,
    expiry: BTreeSet<(Moment, Flow)>,
    flows_max: usize,
}

impl Access {
    /// Returns the door of an instance that lets `allow` in.
    pub fn new(allow: BTreeSet<Ipv6Addr>) -> Self {
        Self {
            allow,
            ..Self::default()
        }
    }

    /// Returns the door of a client: behind it is one device, which is not ours.
    pub fn of_client() -> Self {
        Self {
            flows_max: CLIENT_FLOWS_MAX,
            ..Self::default()
        }
    }

    /// Changes who is let in; flows of nodes that are not any more end at once, and those of their
    /// clients.
    pub fn allow_only(&mut self, allow: BTreeSet<Ipv6Addr>) {
        if self.allow == allow {
            return;
        }
        let halves: BTreeSet<u64> = allow.iter().map(|it| upper_half(*it)).collect();
        let stays = |flow: &Flow| halves.contains(&upper_half(flow.remote));
        self.flows.retain(|flow, _| stays(flow));
        self.expiry.retain(|(_, flow)| stays(flow));
        self.allow = allow;
    }

    /// Decides about a packet to the instance, of somebody who is judged as `who`.
    pub fn ingress(
        &mut self,
        packet: &Packet<'_>,
        who: Ipv6Addr,
        now: Moment,
    ) -> Result<(), DropReason> {
        if !self.allow.contains(&who) {
            return Err(DropReason::Denied);
        }
        self.open(packet, Way::In, now)
    }

    /// Decides about a packet from the instance: it may only answer.
    pub fn egress(&mut self, packet: &Packet<'_>, now: Moment) -> Result<(), DropReason> {
        self.answer(packet, Way::Out, now)
    }

    /// Decides about a packet from this machine, whose own programs may ask anybody.
    pub fn egress_of_host(&mut self, packet: &Packet<'_>, now: Moment) -> Result<(), DropReason> {
        if matches!(packet.transport(), Transport::EchoReply { .. }) {
            // The answer to an echo request, which has opened no flow.
            return Ok(());
        }
        self.open(packet, Way::Out, now)
    }

    /// Decides about a packet to this machine: answers, echo requests so that people can ping, and
    /// the control network of nodes that cannot reach each other over the underlay.
    pub fn ingress_to_host(&mut self, packet: &Packet<'_>, now: Moment) -> Result<(), DropReason> {
        match packet.transport() {
            Transport::EchoRequest { .. } => Ok(()),
            Transport::Tcp {
                destination: CONTROL_PORT,
                ..
            } => Ok(()),
            _ => self.answer(packet, Way::In, now),
        }
    }

    /// Decides about a packet from the client: it may ask whom this machine's programs may ask, but
    /// is no engine and no node of its own.
    pub fn egress_of_client(&mut self, packet: &Packet<'_>, now: Moment) -> Result<(), DropReason> {
        match packet.transport() {
            Transport::Tcp {
                destination: CONTROL_PORT,
                ..
            } => Err(DropReason::Protocol),
            _ => self.open(packet, Way::Out, now),
        }
    }

    /// Decides about a packet to the client: only an answer.
    pub fn ingress_to_client(
        &mut self,
        packet: &Packet<'_>,
        now: Moment,
    ) -> Result<(), DropReason> {
        self.answer(packet, Way::In, now)
    }

    /// Returns how many flows are remembered.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Returns whether no flow is remembered.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Passes a packet on the way on which conversations may begin.
    fn open(&mut self, packet: &Packet<'_>, way: Way, now: Moment) -> Result<(), DropReason> {
        match Flow::of(packet, way)? {
            Found::Flow(flow, flags) => {
                self.touch(flow, flags, now);
                Ok(())
            }
            // An answer to an answer: nobody inside can have asked for it.
            Found::Reply(_) => Err(DropReason::Unasked),
            Found::About(flow) => self
                .known(&flow, now)
                .ok_or(DropReason::Unasked)
                .map(|_| ()),
        }
    }

    /// Passes a packet on the way on which only answers go.
    fn answer(&mut self, packet: &Packet<'_>, way: Way, now: Moment) -> Result<(), DropReason> {
        let (flow, flags) = match Flow::of(packet, way)? {
            // A segment that asks for a new connection is no answer, whatever flow it names.
            Found::Flow(_, Some(flags)) if flags.opens() => return Err(DropReason::Unasked),
            Found::Flow(
                Flow {
                    kind: Kind::Echo { .. },
                    ..
                },
                _,
            ) => return Err(DropReason::Unasked),
            Found::Flow(flow, flags) => (flow, flags),
            Found::Reply(flow) => (flow, None),
            Found::About(flow) => {
                return self
                    .known(&flow, now)
                    .ok_or(DropReason::Unasked)
                    .map(|_| ());
            }
        };
        self.known(&flow, now).ok_or(DropReason::Unasked)?;
        self.touch(flow, flags, now);
        Ok(())
    }

    fn known(&self, flow: &Flow, now: Moment) -> Option<&State> {
        self.flows.get(flow).filter(|state| now < state.expires)
    }

    /// Notes that a flow is alive, and makes room if it is new.
    fn touch(&mut self, flow: Flow, flags: Option<TcpFlags>, now: Moment) {
        let before = self.known(&flow, now).copied();
        let closing = match (flags, before) {
            (Some(flags), _) if flags.ends() => true,
            (Some(flags), _) if flags.syn() => false,
            (_, state) => state.is_some_and(|state| state.closing),
        };
        let expires = now + silence_max(&flow, flags, closing);
        if let Some(state) = before {
            let late = state.expires + EXPIRY_STEP;
            if state.closing == closing && state.expires <= expires && expires < late {
                return;
            }
        }
        match self.flows.insert(flow, State { expires, closing }) {
            Some(state) => {
                self.expiry.remove(&(state.expires, flow));
            }
            None => self.make_room(now),
        }
        self.expiry.insert((expires, flow));
    }

    /// Forgets what has expired and, at the limit, what would expire first; the newest is not in
    /// `expiry` yet, so it stays.
    fn make_room(&mut self, now: Moment) {
        while let Some((expires, flow)) = self.expiry.first().copied() {
            if now < expires && self.flows.len() <= self.flows_max {
                return;
            }
            self.expiry.pop_first();
            self.flows.remove(&flow);
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            allow: BTreeSet::new(),
            flows: BTreeMap::new(),
            expiry: BTreeSet::new(),
            flows_max: FLOWS_MAX,
        }
    }
}

fn silence_max(flow: &Flow, flags: Option<TcpFlags>, closing: bool) -> Duration {
    match flow.kind {
        Kind::Tcp { .. } if closing || flags.is_some_and(TcpFlags::syn) => TCP_TRANSITORY_MAX,
        Kind::Tcp { .. } => TCP_IDLE_MAX,
        Kind::Udp { .. } => UDP_IDLE_MAX,
        Kind::Echo { .. } => ECHO_IDLE_MAX,
    }
}

/// What a packet has to do with a flow.
enum Found {
    /// It is part of one.
    Flow(Flow, Option<TcpFlags>),
    /// It is the echo reply of one.
    Reply(Flow),
    /// It is an ICMPv6 error about a packet of one, which went the other way.
    About(Flow),
}

impl Flow {
    fn of(packet: &Packet<'_>, way: Way) -> Result<Found, DropReason> {
        let (remote, local) = match way {
            Way::In => (packet.source(), packet.destination()),
            Way::Out => (packet.destination(), packet.source()),
        };
        let orient = |source, destination| match way {
            Way::In => (source, destination),
            Way::Out => (destination, source),
        };
        let found = |kind, flags| {
            Ok(Found::Flow(
                Self {
                    remote,
                    local,
                    kind,
                },
                flags,
            ))
        };
        match packet.transport() {
            Transport::Tcp {
                source,
                destination,
                flags,
            } => {
                let (remote, local) = orient(source, destination);
                found(Kind::Tcp { remote, local }, Some(flags))
            }
            Transport::Udp {
                source,
                destination,
            } => {
                let (remote, local) = orient(source, destination);
                found(Kind::Udp { remote, local }, None)
            }
            Transport::EchoRequest { identifier } => found(Kind::Echo { identifier }, None),
            Transport::EchoReply { identifier } => Ok(Found::Reply(Self {
                remote,
                local,
                kind: Kind::Echo { identifier },
            })),
            Transport::Error { about } => Self::of_quoted(about, way, (remote, local)),
            Transport::Other => Err(DropReason::Protocol),
        }
    }

    /// Reads the packet that an error quotes. It went the other way, between the same two: nobody
    /// else in the overlay has anything to say about it.
    fn of_quoted(about: &[u8], way: Way, ends: (Ipv6Addr, Ipv6Addr)) -> Result<Found, DropReason> {
        let quoted = Packet::parse_quoted(about).map_err(|_| DropReason::Malformed)?;
        if matches!(quoted.transport(), Transport::Error { .. }) {
            return Err(DropReason::Protocol);
        }
        let back = match way {
            Way::In => Way::Out,
            Way::Out => Way::In,
        };
        match Self::of(&quoted, back)? {
            Found::Flow(flow, _) | Found::Reply(flow) if (flow.remote, flow.local) == ends => {
                Ok(Found::About(flow))
            }
            _ => Err(DropReason::Unasked),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::build;

    const IN: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 1);
    const FRIEND: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 2);
    const STRANGER: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 1, 0, 0, 0, 3);
    /// In the friend's /64.
    const PHONE: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 5, 5, 5, 5);
    const START: Moment = Moment(1_000_000);
    const SYN: u8 = 0x02;
    const SYN_ACK: u8 = 0x12;
    const ACK: u8 = 0x10;
    const FIN: u8 = 0x11;

    fn door() -> Access {
        Access::new(BTreeSet::from([FRIEND]))
    }

    fn ingress(door: &mut Access, bytes: &[u8], now: Moment) -> Result<(), DropReason> {
        let packet = Packet::parse(bytes).unwrap();
        door.ingress(&packet, packet.source(), now)
    }

    fn egress(door: &mut Access, bytes: &[u8], now: Moment) -> Result<(), DropReason> {
        door.egress(&Packet::parse(bytes).unwrap(), now)
    }

    /// Lets `inward` in from the friend and checks what happens to `outward`.
    #[track_caller]
    fn check(inward: &[u8], outward: &[u8], expect: Result<(), DropReason>) {
        let mut door = door();
        assert_eq!(
            egress(&mut door, outward, START),
            Err(DropReason::Unasked),
            "nobody asked yet"
        );
        assert_eq!(ingress(&mut door, inward, START), Ok(()));
        assert_eq!(egress(&mut door, outward, START), expect);
    }

    #[test]
    fn only_the_allowed_come_in() {
        let packet = build::tcp((STRANGER, 9), (IN, 5432), SYN);
        assert_eq!(
            ingress(&mut door(), &packet, START),
            Err(DropReason::Denied)
        );
        assert!(door().is_empty());
    }

    #[test]
    fn answers_go_out() {
        let (friend, inside) = ((FRIEND, 9), (IN, 5432));
        check(
            &build::tcp(friend, inside, SYN),
            &build::tcp(inside, friend, SYN_ACK),
            Ok(()),
        );
        check(
            &build::udp(friend, inside, b"q"),
            &build::udp(inside, friend, b"a"),
            Ok(()),
        );
        check(
            &build::icmp(FRIEND, IN, 128, 7, b""),
            &build::icmp(IN, FRIEND, 129, 7, b""),
            Ok(()),
        );
    }

    #[test]
    fn only_answers_go_out() {
        let (friend, inside) = ((FRIEND, 9), (IN, 5432));
        let unasked = Err(DropReason::Unasked);
        let asked = build::tcp(friend, inside, SYN);
        check(&asked, &build::tcp(inside, friend, SYN), unasked);
        check(&asked, &build::tcp(inside, (FRIEND, 10), ACK), unasked);
        check(&asked, &build::tcp(inside, (STRANGER, 9), ACK), unasked);
        check(&asked, &build::udp(inside, friend, b""), unasked);
        check(
            &build::icmp(FRIEND, IN, 128, 7, b""),
            &build::icmp(IN, FRIEND, 129, 8, b""),
            unasked,
        );
        check(
            &build::icmp(FRIEND, IN, 128, 7, b""),
            &build::icmp(IN, FRIEND, 128, 7, b""),
            unasked,
        );
    }

    #[test]
    fn unreachable_port_is_said_to_who_asked() {
        let asked = build::udp((FRIEND, 9), (IN, 53), b"q");
        check(&asked, &build::icmp(IN, FRIEND, 1, 0, &asked), Ok(()));
        let other = build::udp((FRIEND, 9), (IN, 54), b"q");
        check(
            &asked,
            &build::icmp(IN, FRIEND, 1, 0, &other),
            Err(DropReason::Unasked),
        );
        check(
            &asked,
            &build::icmp(IN, STRANGER, 1, 0, &asked),
            Err(DropReason::Unasked),
        );
    }

    #[test]
    fn errors_about_errors_pass_no_door() {
        let asked = build::udp((FRIEND, 9), (IN, 53), b"q");
        let error = build::icmp(FRIEND, IN, 1, 0, &asked);
        let nested = build::icmp(IN, FRIEND, 1, 0, &error);
        assert_eq!(
            egress(&mut door(), &nested, START),
            Err(DropReason::Protocol)
        );
    }

    #[test]
    fn silent_flow_is_forgotten_and_opened_again() {
        let (asked, answer) = (
            build::udp((FRIEND, 9), (IN, 53), b""),
            build::udp((IN, 53), (FRIEND, 9), b""),
        );
        let mut door = door();
        ingress(&mut door, &asked, START).unwrap();
        let late = START + UDP_IDLE_MAX;
        assert_eq!(egress(&mut door, &answer, late), Err(DropReason::Unasked));
        ingress(&mut door, &asked, late).unwrap();
        assert_eq!(egress(&mut door, &answer, late), Ok(()));
        assert_eq!(door.len(), 1);
    }

    #[test]
    fn closed_connection_is_forgotten_earlier() {
        let (friend, inside) = ((FRIEND, 9), (IN, 5432));
        let mut door = door();
        ingress(&mut door, &build::tcp(friend, inside, ACK), START).unwrap();
        let later = START + TCP_TRANSITORY_MAX;
        egress(&mut door, &build::tcp(inside, friend, FIN), later).unwrap();
        ingress(&mut door, &build::tcp(friend, inside, ACK), later).unwrap();
        let last = later + TCP_TRANSITORY_MAX;
        let answer = build::tcp(inside, friend, ACK);
        assert_eq!(egress(&mut door, &answer, last), Err(DropReason::Unasked));
    }

    #[test]
    fn full_door_forgets_what_would_expire_first() {
        let mut door = door();
        ingress(&mut door, &build::udp((FRIEND, 1), (IN, 53), b""), START).unwrap();
        ingress(&mut door, &build::tcp((FRIEND, 2), (IN, 5432), ACK), START).unwrap();
        for port in 0..u16::try_from(FLOWS_MAX).unwrap() {
            let now = START + Duration::from_millis(1 + u64::from(port));
            ingress(
                &mut door,
                &build::udp((FRIEND, 10 + port), (IN, 53), b""),
                now,
            )
            .unwrap();
        }
        assert_eq!(door.len(), FLOWS_MAX);
        assert_eq!(door.expiry.len(), FLOWS_MAX);
        let now = START + Duration::from_secs(10);
        let forgotten = build::udp((IN, 53), (FRIEND, 1), b"");
        assert_eq!(egress(&mut door, &forgotten, now), Err(DropReason::Unasked));
        assert_eq!(
            egress(&mut door, &build::tcp((IN, 5432), (FRIEND, 2), ACK), now),
            Ok(())
        );
    }

    #[test]
    fn withdrawn_permission_ends_flows() {
        let mut door = door();
        ingress(&mut door, &build::udp((FRIEND, 1), (IN, 53), b""), START).unwrap();
        door.allow_only(BTreeSet::from([STRANGER]));
        let answer = build::udp((IN, 53), (FRIEND, 1), b"");
        assert_eq!(egress(&mut door, &answer, START), Err(DropReason::Unasked));
        assert!(door.is_empty() && door.expiry.is_empty());
    }

    #[test]
    fn clients_flows_end_with_the_permission_of_their_node() {
        let mut door = door();
        let asked = build::udp((PHONE, 1), (IN, 53), b"");
        let packet = Packet::parse(&asked).unwrap();
        assert_eq!(door.ingress(&packet, PHONE, START), Err(DropReason::Denied));
        assert_eq!(door.ingress(&packet, FRIEND, START), Ok(()));
        let answer = build::udp((IN, 53), (PHONE, 1), b"");
        door.allow_only(BTreeSet::from([FRIEND, STRANGER]));
        assert_eq!(egress(&mut door, &answer, START), Ok(()));
        door.allow_only(BTreeSet::from([STRANGER]));
        assert_eq!(egress(&mut door, &answer, START), Err(DropReason::Unasked));
        assert!(door.is_empty() && door.expiry.is_empty());
    }

    #[test]
    fn client_asks_and_is_not_asked() {
        let mut door = Access::of_client();
        let (phone, service) = ((PHONE, 9), (IN, 5432));
        let mut goes = |bytes: &[u8]| {
            let packet = Packet::parse(bytes).unwrap();
            door.egress_of_client(&packet, START)
        };
        assert_eq!(goes(&build::tcp(phone, service, SYN)), Ok(()));
        assert_eq!(goes(&build::icmp(PHONE, FRIEND, 128, 7, b"")), Ok(()));
        let control = build::tcp(phone, (FRIEND, CONTROL_PORT), SYN);
        assert_eq!(goes(&control), Err(DropReason::Protocol));
        let mut comes = |bytes: &[u8]| {
            let packet = Packet::parse(bytes).unwrap();
            door.ingress_to_client(&packet, START)
        };
        assert_eq!(comes(&build::tcp(service, phone, SYN_ACK)), Ok(()));
        assert_eq!(comes(&build::icmp(FRIEND, PHONE, 129, 7, b"")), Ok(()));
        for unasked in [
            build::tcp(service, phone, SYN),
            build::tcp((STRANGER, 1), phone, SYN_ACK),
            build::icmp(FRIEND, PHONE, 128, 7, b""),
            build::udp((FRIEND, 1), phone, b""),
        ] {
            assert_eq!(comes(&unasked), Err(DropReason::Unasked));
        }
    }

    #[test]
    fn clients_door_is_full_earlier() {
        let mut door = Access::of_client();
        for port in 0..=u16::try_from(CLIENT_FLOWS_MAX).unwrap() {
            let bytes = build::udp((PHONE, port), (IN, 53), b"");
            let packet = Packet::parse(&bytes).unwrap();
            door.egress_of_client(&packet, START).unwrap();
        }
        assert_eq!(door.len(), CLIENT_FLOWS_MAX);
    }

    #[test]
    fn machine_asks_and_is_not_asked() {
        const OWN: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 1);
        let mut door = Access::default();
        let mut come = |bytes: &[u8]| door.ingress_to_host(&Packet::parse(bytes).unwrap(), START);
        assert_eq!(
            come(&build::tcp((FRIEND, 9), (OWN, 22), SYN)),
            Err(DropReason::Unasked)
        );
        assert_eq!(
            come(&build::tcp((FRIEND, 9), (OWN, CONTROL_PORT), SYN)),
            Ok(())
        );
        assert_eq!(
            come(&build::udp((FRIEND, 9), (OWN, CONTROL_PORT), b"")),
            Err(DropReason::Unasked)
        );
        assert_eq!(come(&build::icmp(FRIEND, OWN, 128, 1, b"")), Ok(()));
        assert_eq!(
            come(&build::icmp(FRIEND, OWN, 129, 1, b"")),
            Err(DropReason::Unasked)
        );
        let mut go = |bytes: &[u8]| door.egress_of_host(&Packet::parse(bytes).unwrap(), START);
        assert_eq!(go(&build::tcp((OWN, 40_000), (IN, 5432), SYN)), Ok(()));
        assert_eq!(go(&build::icmp(OWN, FRIEND, 128, 1, b"")), Ok(()));
        assert_eq!(go(&build::icmp(OWN, FRIEND, 129, 1, b"")), Ok(()));
        let mut come = |bytes: &[u8]| door.ingress_to_host(&Packet::parse(bytes).unwrap(), START);
        assert_eq!(
            come(&build::tcp((IN, 5432), (OWN, 40_000), SYN_ACK)),
            Ok(())
        );
        assert_eq!(come(&build::icmp(FRIEND, OWN, 129, 1, b"")), Ok(()));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_never_leave_unasked(
            bodies in proptest::collection::vec(
                (any::<bool>(), prop_oneof![Just(6u8), Just(17), Just(58), any::<u8>()],
                 proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..80)),
                0..40),
        ) {
            let mut door = door();
            for (place, (friend, protocol, body)) in bodies.iter().enumerate() {
                let now = START + Duration::from_secs(place as u64);
                let from = if *friend { FRIEND } else { STRANGER };
                let inward = build::ipv6(from, IN, *protocol, body);
                let passed = ingress(&mut door, &inward, now);
                prop_assert!(*friend || passed == Err(DropReason::Denied));
                let outward = build::ipv6(IN, STRANGER, *protocol, body);
                prop_assert!(egress(&mut door, &outward, now).is_err());
                prop_assert_eq!(door.flows.len(), door.expiry.len());
            }
        }
    }
}
