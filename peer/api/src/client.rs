//! Answers about clients: stock WireGuard devices that this node lets into the mesh, and the file
//! that such a device reads.
//!
//! Decides the file's words (wg-quick(8), wg(8)); keys and addresses are the node's. The secret of
//! a client is written here and nowhere else: no request and no reply holds one.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use data_encoding::BASE64;
use mesh_base::time::Wall;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An X25519 key as WireGuard's tools write it: 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WireguardKey(pub [u8; 32]);

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a WireGuard key is 44 characters of base64, as `wg pubkey` prints it")]
pub struct NotAKey;

impl FromStr for WireguardKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| NotAKey)?;
        bytes.try_into().map(Self).map_err(|_| NotAKey)
    }
}

impl fmt::Display for WireguardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for WireguardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a secret.
        f.write_str("WireguardKey(…)")
    }
}

impl Serialize for WireguardKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WireguardKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A client that this node has let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRow {
    /// What its owner calls it.
    pub name: String,
    /// Its public key.
    pub key: WireguardKey,
    /// Its address in the mesh.
    pub address: Ipv6Addr,
    /// When it was let in.
    pub since: Wall,
    /// Where its packets come from; none before the first since this node's start.
    pub endpoint: Option<SocketAddr>,
    /// Milliseconds since its last packet; none if there was none since this node's start.
    pub silent_ms: Option<u64>,
    /// Bytes of packets from it since this node's start.
    pub received_bytes: u64,
    /// Bytes of packets to it, likewise.
    pub sent_bytes: u64,
}

/// What a new client needs to know, but for its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAdded {
    /// What its owner calls it.
    pub name: String,
    /// Its public key.
    pub key: WireguardKey,
    /// Its address in the mesh.
    pub address: Ipv6Addr,
    /// This node, `name.org`.
    pub node: String,
    /// This node's public key.
    pub node_key: WireguardKey,
    /// Where this node may be reached, the best guess first.
    pub endpoints: Vec<SocketAddr>,
    /// The largest packet.
    pub mtu: u16,
    /// What is reached through this node.
    pub networks: Vec<String>,
}

/// Seconds between two signs of life of an idle client: most routers forget a way after thirty.
const KEEPALIVE_S: u8 = 25;

impl ClientAdded {
    /// Returns the file for the client. Without a secret it says where the owner's goes.
    pub fn conf(&self, endpoint: &str, secret: Option<WireguardKey>) -> String {
        let Self {
            name,
            key,
            address,
            node,
            node_key,
            mtu,
            ..
        } = self;
        let secret = match secret {
            Some(secret) => format!("PrivateKey = {secret}"),
            None => format!("# PrivateKey = the one that belongs to {key}"),
        };
        let networks = self.networks.join(", ");
        format!(
            "# {name}: a client of {node}.\n\
             # End to end begins at {node}: that machine sees what this device says.\n\
             [Interface]\n\
             {secret}\n\
             Address = {address}/128\n\
             MTU = {mtu}\n\
             \n\
             [Peer]\n\
             PublicKey = {node_key}\n\
             AllowedIPs = {networks}\n\
             Endpoint = {endpoint}\n\
             PersistentKeepalive = {KEEPALIVE_S}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added() -> ClientAdded {
        ClientAdded {
            name: "phone".into(),
            key: WireguardKey([1; 32]),
            address: "fd6d:1:2:3::9".parse().unwrap(),
            node: "bakery-1.bakery".into(),
            node_key: WireguardKey([2; 32]),
            endpoints: vec!["203.0.113.9:41641".parse().unwrap()],
            mtu: 1280,
            networks: vec!["fd6d::/16".into(), "fd73::/16".into()],
        }
    }

    #[test]
    fn file_is_what_wireguard_reads() {
        assert_eq!(
            added().conf("203.0.113.9:41641", Some(WireguardKey([3; 32]))),
            "# phone: a client of bakery-1.bakery.\n\
             # End to end begins at bakery-1.bakery: that machine sees what this device says.\n\
             [Interface]\n\
             PrivateKey = AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n\
             Address = fd6d:1:2:3::9/128\n\
             MTU = 1280\n\
             \n\
             [Peer]\n\
             PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n\
             AllowedIPs = fd6d::/16, fd73::/16\n\
             Endpoint = 203.0.113.9:41641\n\
             PersistentKeepalive = 25\n"
        );
    }

    #[test]
    fn owner_who_keeps_the_secret_is_told_where_it_goes() {
        let conf = added().conf("home.example:7", None);
        let line = "# PrivateKey = the one that belongs to \
                    AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";
        assert!(conf.contains(line), "{conf}");
        assert!(conf.contains("Endpoint = home.example:7\n"), "{conf}");
    }

    #[test]
    fn key_is_44_characters_and_nothing_else() {
        let text = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";
        assert_eq!(text.parse(), Ok(WireguardKey([3; 32])));
        assert_eq!(WireguardKey([3; 32]).to_string(), text);
        for wrong in ["", "AwM=", &text[1..], &format!("{text}="), "phone"] {
            assert_eq!(wrong.parse::<WireguardKey>(), Err(NotAKey), "{wrong}");
        }
        assert!(!format!("{:?}", WireguardKey([3; 32])).contains("Aw"));
    }
}
