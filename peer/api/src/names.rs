//! Names: what one means, and where programs can ask for them.

use std::net::{Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What a name means on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The whole name.
    pub name: String,
    /// Its overlay address.
    pub address: Ipv6Addr,
    /// What bears the name.
    pub bearer: Bearer,
    /// The organisation whose name it is.
    pub owner: String,
    /// The node itself, or the one that holds the service now.
    pub node: String,
    /// That node's organisation.
    pub org: String,
    /// How long the answer may be kept, in seconds.
    pub ttl_s: u32,
}

/// What bears a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bearer {
    /// A node.
    Node,
    /// A service.
    Service,
}

impl Bearer {
    /// Returns the word that people see.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Service => "service",
        }
    }
}

/// Where programs on this machine can ask for names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answering {
    /// The sockets that answer over UDP and TCP; none if nobody does.
    pub listen: Vec<SocketAddr>,
    /// Who asks there, or what is in the way.
    pub sentence: String,
    /// How many names there are.
    pub names: u64,
    /// How many had no room.
    pub left_out: u64,
}
