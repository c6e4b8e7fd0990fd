//! Clients: stock WireGuard devices that this node's owner lets into the mesh through it.
//!
//! ```text
//!   meshnode wg export ── name, public key ──► journal ──► Effect::Clients ──► data plane
//! ```
//! A client is this node's own matter: no record tells of it, and other nodes see an address in
//! this node's /64. Decides who is let in and which address it has; the secret never comes here.
//! Invariant: a client that was told of is in the journal, and so is its end.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use mesh_api::client::{ClientAdded, ClientRow, WireguardKey};
use mesh_api::{ApiError, ErrorKind, Reply};
use mesh_base::address::{NODE_PREFIX, SERVICE_PREFIX};
use mesh_base::digest::Digest;
use mesh_base::name::Name;
use mesh_base::time::Wall;
use mesh_routing::limits::CLIENTS_MAX;
use mesh_routing::limits::MTU;

use crate::entry::Entry;
use crate::explain::ClientSeen;
use crate::node::Node;
use crate::places::best_first;
use crate::port::Effect;

/// What addresses are computed for.
const PURPOSE: &[u8] = b"address of a client";

/// A client as the journal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its public key.
    pub key: [u8; 32],
    /// When it was let in.
    pub since: Wall,
}

/// Returns the address of the client with this key behind the node with the address `own`: the
/// node's /64 and 64 bits of the key's digest. The same key always has the same address.
fn address(own: Ipv6Addr, key: &[u8; 32]) -> Ipv6Addr {
    let mut octets = own.octets();
    let digest = Digest::of_parts(&[PURPOSE, key]);
    for (octet, byte) in octets.iter_mut().skip(8).zip(digest.as_bytes()) {
        *octet = *byte;
    }
    Ipv6Addr::from(octets)
}

impl Node {
    /// Tells the data plane whom to let in, once that is on disk.
    pub(crate) fn publish_clients(&mut self) {
        let clients = self.clients.values();
        let keys = clients.map(|client| (address(self.address, &client.key), client.key));
        self.out.durable(Effect::Clients(keys.collect()));
    }

    pub(crate) fn client_add(&mut self, name: &Name, key: WireguardKey) -> Result<Reply, ApiError> {
        self.may_be_added(name, key.0)?;
        let since = self.now.wall;
        let client = Client { key: key.0, since };
        self.clients.insert(name.clone(), client);
        self.out.append(&Entry::Client {
            name: name.clone(),
            key: key.0,
            since,
        });
        self.publish_clients();
        let added = ClientAdded {
            name: name.to_string(),
            key,
            address: address(self.address, &key.0),
            node: self.full_name(&self.id),
            node_key: WireguardKey(self.id.key().to_x25519()),
            endpoints: best_first(&self.underlay.wireguard),
            mtu: u16::try_from(MTU).unwrap_or(u16::MAX),
            networks: [NODE_PREFIX, SERVICE_PREFIX]
                .map(|prefix| format!("{prefix:x}::/16"))
                .into(),
        };
        Ok(Reply::ClientAdded(Box::new(added)))
    }

    fn may_be_added(&self, name: &Name, key: [u8; 32]) -> Result<(), ApiError> {
        let remove = |name: &Name| format!("remove it first: meshnode wg remove {name}");
        if self.clients.contains_key(name) {
            return Err(ApiError::new(
                ErrorKind::Conflict,
                format!("there is a client \"{name}\" already"),
                remove(name),
            ));
        }
        let twin = self.clients.iter().find(|(_, client)| client.key == key);
        if let Some((twin, _)) = twin {
            return Err(ApiError::new(
                ErrorKind::Conflict,
                format!("this is the key of the client \"{twin}\""),
                remove(twin),
            ));
        }
        let members = self.roster.members().map(|(node, _)| node);
        let mut nodes = members.chain([&self.id]);
        if let Some(node) = nodes.find(|node| node.key().to_x25519() == key) {
            return Err(ApiError::new(
                ErrorKind::Conflict,
                format!("this is the key of the node {}", self.full_name(node)),
                "let the device make a key of its own: `wg genkey`",
            ));
        }
        if CLIENTS_MAX <= self.clients.len() {
            return Err(ApiError::new(
                ErrorKind::Conflict,
                format!("this node has {CLIENTS_MAX} clients already"),
                "remove one that is not needed: meshnode wg list",
            ));
        }
        Ok(())
    }

    pub(crate) fn client_remove(&mut self, name: &Name) -> Result<Reply, ApiError> {
        if self.clients.remove(name).is_none() {
            return Err(ApiError::new(
                ErrorKind::NotFound,
                format!("there is no client \"{name}\" here"),
                "list them: meshnode wg list",
            ));
        }
        self.out.append(&Entry::ClientGone { name: name.clone() });
        self.publish_clients();
        Ok(Reply::ClientRemoved {
            name: name.to_string(),
        })
    }

    /// Returns the clients with what the data plane has seen of them.
    pub(crate) fn client_rows(&self, seen: &[ClientSeen]) -> Reply {
        let seen: BTreeMap<Ipv6Addr, &ClientSeen> =
            seen.iter().map(|seen| (seen.address, seen)).collect();
        let rows = self.clients.iter().map(|(name, client)| {
            let address = address(self.address, &client.key);
            let seen = seen.get(&address);
            ClientRow {
                name: name.to_string(),
                key: WireguardKey(client.key),
                address,
                since: client.since,
                endpoint: seen.and_then(|seen| seen.endpoint),
                silent_ms: seen.and_then(|seen| seen.silent_ms),
                received_bytes: seen.map_or(0, |seen| seen.received_bytes),
                sent_bytes: seen.map_or(0, |seen| seen.sent_bytes),
            }
        });
        Reply::Clients {
            clients: rows.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_lies_in_the_nodes_half_and_follows_the_key() {
        let own: Ipv6Addr = "fd6d:1:2:3:4:5:6:7".parse().unwrap();
        let first = address(own, &[1; 32]);
        assert_eq!(first.segments()[..4], own.segments()[..4]);
        assert_eq!(first, address(own, &[1; 32]));
        assert_ne!(first, address(own, &[2; 32]));
        assert_ne!(first, own);
    }
}
