//! Streams that exist on connections over the underlay only.
//!
//! libp2p opens a stream to a peer on any connection with it. One that runs across the overlay must
//! not carry the overlay's own links, or they would stand on themselves; so such a connection does
//! not even know the protocols that are spoken here, in neither direction. Decides nothing about
//! what streams carry, and dials nobody.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::task::{Context, Poll};

use either::Either;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use libp2p_stream as stream;

use crate::swarm::underlay_only::is_overlay_address;

/// The behaviour: streams where there is no overlay below.
#[derive(Default)]
pub struct Behaviour {
    inner: stream::Behaviour,
    /// Connections over the underlay; the swarm's limits bound them.
    underlay: BTreeSet<ConnectionId>,
}

impl Behaviour {
    /// Returns who opens and accepts streams.
    pub fn new_control(&self) -> stream::Control {
        self.inner.new_control()
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Either<THandler<stream::Behaviour>, dummy::ConnectionHandler>;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if is_overlay_address(local) || is_overlay_address(remote) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        let inner = &mut self.inner;
        let handler = inner.handle_established_inbound_connection(id, peer, local, remote)?;
        self.underlay.insert(id);
        Ok(Either::Left(handler))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if is_overlay_address(address) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        let inner = &mut self.inner;
        let handler =
            inner.handle_established_outbound_connection(id, peer, address, role, port)?;
        self.underlay.insert(id);
        Ok(Either::Left(handler))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // It would choose among connections that it hears of.
        match event {
            FromSwarm::ConnectionEstablished(it) if self.underlay.contains(&it.connection_id) => {
                self.inner.on_swarm_event(event);
            }
            FromSwarm::ConnectionClosed(it) if self.underlay.remove(&it.connection_id) => {
                self.inner.on_swarm_event(event);
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
        match event {
            Either::Left(never) => match never {},
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // All that the inner one would want is to dial.
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_across_the_overlay_has_no_streams() {
        let mut behaviour = Behaviour::default();
        let peer = PeerId::random();
        let parse = |text: &str| text.parse::<Multiaddr>().unwrap();
        let (under, over) = (
            parse("/ip4/192.0.2.1/tcp/1"),
            parse("/ip6/fd6d::1/tcp/6787"),
        );
        let id = ConnectionId::new_unchecked;
        let mut inbound = |number, local: &Multiaddr, remote: &Multiaddr| {
            let made =
                behaviour.handle_established_inbound_connection(id(number), peer, local, remote);
            made.unwrap().is_left()
        };
        assert!(inbound(1, &under, &under));
        assert!(!inbound(2, &over, &over));
        assert!(!inbound(3, &under, &over));
        let mut outbound = |number, address: &Multiaddr| {
            let made = behaviour.handle_established_outbound_connection(
                id(number),
                peer,
                address,
                Endpoint::Dialer,
                PortUse::New,
            );
            made.unwrap().is_left()
        };
        assert!(outbound(4, &under));
        assert!(!outbound(5, &over));
        assert_eq!(behaviour.underlay, [id(1), id(4)].into());
    }
}
