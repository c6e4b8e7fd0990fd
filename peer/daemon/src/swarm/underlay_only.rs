//! Keeps the control network off the overlay where nobody asked for it: what finds the overlay's
//! links must not travel inside it by accident.
//!
//! A listener on all interfaces also answers on the TUN's addresses, and contacts may name
//! anything; so every connection is asked here for both its ends before a byte is exchanged. The
//! one exception is the control address of [`across`], on purpose and for nodes that have no other
//! way.

use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use mesh_base::address::is_overlay;

use crate::swarm::across;

/// Why a connection was not begun.
#[derive(Debug, thiserror::Error)]
#[error("{0} is an overlay address; the control network does not use those")]
pub struct OverlayAddress(Multiaddr);

/// Denies connections from, to or through overlay addresses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Behaviour {
    /// Whether connections to and from control addresses may be.
    pub across: bool,
}

/// Returns whether an address leads into the overlay.
pub fn is_overlay_address(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip6(ip) => is_overlay(&ip),
        _ => false,
    })
}

fn deny_overlay(address: &Multiaddr) -> Result<(), ConnectionDenied> {
    if is_overlay_address(address) {
        return Err(ConnectionDenied::new(OverlayAddress(address.clone())));
    }
    Ok(())
}

impl Behaviour {
    fn check_dialed(self, address: &Multiaddr) -> Result<(), ConnectionDenied> {
        if self.across && across::parse(address).is_some() {
            return Ok(());
        }
        deny_overlay(address)
    }

    fn check_accepted(self, local: &Multiaddr, remote: &Multiaddr) -> Result<(), ConnectionDenied> {
        if self.across && across::parse(local).is_some() && is_overlay_address(remote) {
            return Ok(());
        }
        deny_overlay(local)?;
        deny_overlay(remote)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.check_accepted(local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.check_accepted(local, remote)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        addresses
            .iter()
            .try_for_each(|address| self.check_dialed(address))?;
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.check_dialed(address)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

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
mod tests {
    use super::*;

    #[test]
    fn connections_through_the_overlay_are_denied() {
        let mut behaviour = Behaviour::default();
        let id = ConnectionId::new_unchecked(1);
        let under: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        for over in ["/ip6/fd6d::1/tcp/1", "/ip6/fd73::1/tcp/1"] {
            let over: Multiaddr = over.parse().unwrap();
            assert!(
                behaviour
                    .handle_pending_inbound_connection(id, &over, &under)
                    .is_err()
            );
            assert!(
                behaviour
                    .handle_pending_inbound_connection(id, &under, &over)
                    .is_err()
            );
            let dialed = [under.clone(), over];
            let dial =
                behaviour.handle_pending_outbound_connection(id, None, &dialed, Endpoint::Dialer);
            assert!(dial.is_err());
        }
        assert!(
            behaviour
                .handle_pending_inbound_connection(id, &under, &under)
                .is_ok()
        );
    }

    #[test]
    fn control_address_is_the_exception_where_it_is_asked_for() {
        let mut behaviour = Behaviour { across: true };
        let id = ConnectionId::new_unchecked(1);
        let parse = |text: &str| text.parse::<Multiaddr>().unwrap();
        let (control, other) = (
            parse("/ip6/fd6d::1/tcp/6787"),
            parse("/ip6/fd6d::2/tcp/40000"),
        );
        let mut accepted = |local: &Multiaddr, remote: &Multiaddr| {
            behaviour
                .handle_pending_inbound_connection(id, local, remote)
                .is_ok()
        };
        assert!(accepted(&control, &other));
        assert!(!accepted(&other, &control));
        assert!(!accepted(&control, &parse("/ip4/192.0.2.1/tcp/1")));
        let mut dialed = |address: Multiaddr| {
            behaviour
                .handle_pending_outbound_connection(id, None, &[address], Endpoint::Dialer)
                .is_ok()
        };
        assert!(dialed(control));
        assert!(!dialed(other));
    }
}
