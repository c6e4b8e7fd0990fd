//! Keeps one machine from taking all the room at a port: how many connections that nobody has
//! vouched for yet may come from one place, and how many such from strangers altogether.
//!
//! A place is an IPv4 address or an IPv6 /64. The swarm's own limits count connections, whoever
//! they are of, so without this a single stranger who opens sixty-four and says nothing shuts out
//! everybody. A place from which a member was admitted is remembered, and the last of the room is
//! for such places. Decides nothing about who is admitted. Invariant: what is counted is bounded by
//! the room, what is remembered by `FRIENDS_MAX`.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::swarm::identity;

/// Most places that are remembered: as many as a node has peers. The newest are kept.
const FRIENDS_MAX: usize = 256;

/// Why a connection was not accepted.
#[derive(Debug, thiserror::Error)]
#[error("too many connections from {0}")]
pub struct Crowded(IpAddr);

/// How long a connection counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Until it is established: then its peer is proven to be a member, and its place a friend.
    UntilAdmitted,
    /// Until it ends: whoever wants a key has one.
    UntilClosed,
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// From one place.
    pub per_place_max: usize,
    /// From places that are no friends.
    pub strangers_max: usize,
    /// How long each counts.
    pub counted: Counted,
}

/// Denies connections over the limits.
#[derive(Debug)]
pub struct Behaviour {
    room: Room,
    here: BTreeMap<ConnectionId, Guest>,
    friends: VecDeque<IpAddr>,
}

#[derive(Debug, Clone, Copy)]
struct Guest {
    place: IpAddr,
    is_friend: bool,
}

impl Behaviour {
    /// Begins to count.
    pub fn new(room: Room) -> Self {
        Self {
            room,
            here: BTreeMap::new(),
            friends: VecDeque::new(),
        }
    }

    fn admit(&mut self, place: IpAddr) {
        self.friends.retain(|friend| *friend != place);
        if FRIENDS_MAX <= self.friends.len() {
            self.friends.pop_front();
        }
        self.friends.push_back(place);
    }
}

fn place_of(address: &Multiaddr) -> IpAddr {
    let ip = identity::socket_addr(address).map(|address| address.ip().to_canonical());
    match ip {
        Some(IpAddr::V6(six)) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
        Some(four) => four,
        // What has no address shares one place.
        None => Ipv6Addr::UNSPECIFIED.into(),
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let place = place_of(remote);
        let is_friend = self.friends.contains(&place);
        let count = |which: &dyn Fn(&Guest) -> bool| {
            let guests = self.here.values();
            guests.filter(|guest| which(guest)).count()
        };
        let is_full = self.room.per_place_max <= count(&|guest| guest.place == place)
            || !is_friend && self.room.strangers_max <= count(&|guest| !guest.is_friend);
        if is_full {
            return Err(ConnectionDenied::new(Crowded(place)));
        }
        self.here.insert(connection, Guest { place, is_friend });
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        if self.room.counted == Counted::UntilAdmitted {
            self.here.remove(&connection);
            self.admit(place_of(remote));
        }
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(failure) => {
                self.here.remove(&failure.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.here.remove(&closed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::net::{TcpSocket, TcpStream};

    use super::*;

    const GATE: Room = Room {
        per_place_max: 3,
        strangers_max: 5,
        counted: Counted::UntilAdmitted,
    };

    /// Opens many connections from one other address of this machine, and says nothing on them.
    pub(crate) async fn silent_crowd(to: SocketAddr) -> Vec<TcpStream> {
        let mut crowd = Vec::new();
        for _ in 0..200 {
            let socket = TcpSocket::new_v4().unwrap();
            let from = Ipv4Addr::new(127, 9, 9, 9);
            socket.bind(SocketAddr::from((from, 0))).unwrap();
            crowd.push(socket.connect(to).await.unwrap());
        }
        crowd
    }

    fn knock(behaviour: &mut Behaviour, number: usize, from: &str) -> bool {
        let id = ConnectionId::new_unchecked(number);
        let (local, remote) = (
            "/ip4/192.0.2.1/tcp/1".parse().unwrap(),
            from.parse().unwrap(),
        );
        let knocked = behaviour.handle_pending_inbound_connection(id, &local, &remote);
        knocked.is_ok()
    }

    fn admit(behaviour: &mut Behaviour, number: usize, from: &str) {
        let id = ConnectionId::new_unchecked(number);
        let remote = from.parse().unwrap();
        let peer = PeerId::random();
        let admitted = behaviour.handle_established_inbound_connection(id, peer, &remote, &remote);
        assert!(admitted.is_ok());
    }

    #[test]
    fn one_place_has_its_limit_and_strangers_have_theirs() {
        let mut all = Behaviour::new(GATE);
        let from_one = (0..10).filter(|number| knock(&mut all, *number, "/ip4/192.0.2.9/tcp/7"));
        assert_eq!(from_one.count(), 3);
        // One /64 is one place, whatever addresses are in it.
        let from_six = (10..20).filter(|number| {
            let from = format!("/ip6/2001:db8::{number}/tcp/7");
            knock(&mut all, *number, &from)
        });
        assert_eq!(from_six.count(), 2, "five strangers");
        assert_eq!(all.here.len(), 5);
    }

    #[test]
    fn place_of_a_member_has_room_though_strangers_have_none() {
        let mut all = Behaviour::new(GATE);
        assert!(knock(&mut all, 0, "/ip4/192.0.2.9/tcp/7"));
        admit(&mut all, 0, "/ip4/192.0.2.9/tcp/7");
        assert_eq!(all.here.len(), 0, "who is admitted is not counted");
        for number in 1..=5 {
            let from = format!("/ip4/198.51.100.{number}/tcp/7");
            assert!(knock(&mut all, number, &from));
        }
        assert!(!knock(&mut all, 6, "/ip4/198.51.100.6/tcp/7"));
        assert!(knock(&mut all, 7, "/ip4/192.0.2.9/tcp/8"), "a friend");
    }

    #[test]
    fn who_only_has_a_key_is_counted_until_it_goes() {
        let counted = Counted::UntilClosed;
        let mut door = Behaviour::new(Room { counted, ..GATE });
        for number in 0..3 {
            assert!(knock(&mut door, number, "/ip4/192.0.2.9/tcp/7"));
            admit(&mut door, number, "/ip4/192.0.2.9/tcp/7");
        }
        assert!(!knock(&mut door, 3, "/ip4/192.0.2.9/tcp/7"));
        assert!(door.friends.is_empty());
    }

    #[test]
    fn friends_have_a_limit() {
        let mut all = Behaviour::new(GATE);
        for number in 0..1000 {
            let from = format!("/ip4/10.0.{}.{}/tcp/7", number / 250, number % 250);
            admit(&mut all, number, &from);
        }
        assert_eq!(all.friends.len(), FRIENDS_MAX);
        assert_eq!(all.friends.back(), Some(&IpAddr::from([10, 0, 3, 249])));
    }
}
