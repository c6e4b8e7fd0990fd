//! Ports that a node keeps for its life, so that others find it again after a restart.
//!
//! A configured port is used or nothing; otherwise the remembered one if it is free, else a free
//! one, which is remembered in `HOME/ports.toml`. A port counts as free if a plain socket can be
//! bound to it on every address: libp2p itself shares ports, so it would not notice a neighbour on
//! the same one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::remember;

/// How often a free port is looked for: the first address may have one that the second has not.
const TRIES_MAX: usize = 32;

/// The ports in use, or remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// TCP, for other nodes.
    pub control: u16,
    /// UDP, for tunnels.
    pub wireguard: u16,
    /// TCP, for people with an invite.
    pub door: u16,
    /// UDP and TCP, for names where port 53 cannot be had; 0 until that happens.
    pub names: u16,
    /// TCP on loopback, for the SOCKS proxy; 0 until there is one.
    pub socks: u16,
    /// TCP on loopback, for the HTTP proxy; 0 until there is one.
    pub http: u16,
}

/// Why a port could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// Somebody else uses the configured port.
    #[error("{kind} port {port} is in use by another program")]
    Busy {
        /// TCP or UDP.
        kind: &'static str,
        /// Which.
        port: u16,
    },
    /// No port is free.
    #[error("no {kind} port is free")]
    None {
        /// TCP or UDP.
        kind: &'static str,
    },
    /// The chosen ports could not be remembered.
    #[error("cannot write {path}")]
    Remember {
        /// Where.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Both wildcard addresses: what tunnels and the door listen on.
pub const ANY: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
];

impl Ports {
    /// Chooses all ports of a node and remembers those that nobody configured.
    pub fn choose(config: &Config, file: &Path) -> Result<Self, PortError> {
        let remembered: Self = std::fs::read_to_string(file)
            .ok()
            .and_then(|text| toml::from_str(&text).ok())
            .unwrap_or_default();
        // All listen addresses without a port share the chosen one.
        let free: Vec<IpAddr> = config
            .listen
            .iter()
            .filter(|at| at.port() == 0)
            .map(SocketAddr::ip)
            .collect();
        let fixed = config
            .listen
            .iter()
            .map(SocketAddr::port)
            .find(|port| *port != 0);
        let control = match (free.is_empty(), fixed) {
            (true, Some(port)) => port,
            _ => pick("TCP", 0, remembered.control, |port| free_tcp(&free, port))?,
        };
        let wireguard = pick("UDP", config.wireguard_port, remembered.wireguard, free_udp)?;
        // Nobody is bound to the control port yet, so it still looks free; the door must not take
        // it, or one of the two answers the other's visitors.
        let door = pick("TCP", config.door_port, remembered.door, |port| {
            free_tcp(&ANY, port).filter(|port| *port != control)
        })?;
        let chosen = Self {
            control,
            wireguard,
            door,
            names: remembered.names,
            socks: remembered.socks,
            http: remembered.http,
        };
        if chosen != remembered {
            chosen.remember(file)?;
        }
        Ok(chosen)
    }

    /// Writes the ports down.
    pub fn remember(&self, file: &Path) -> Result<(), PortError> {
        let text = toml::to_string(self).unwrap_or_default();
        remember::replace(file, text.as_bytes()).map_err(|source| PortError::Remember {
            path: file.to_owned(),
            source,
        })
    }
}

fn pick(
    kind: &'static str,
    configured: u16,
    remembered: u16,
    free: impl Fn(u16) -> Option<u16>,
) -> Result<u16, PortError> {
    if configured != 0 {
        return free(configured).ok_or(PortError::Busy {
            kind,
            port: configured,
        });
    }
    if remembered != 0
        && let Some(port) = free(remembered)
    {
        return Ok(port);
    }
    (0..TRIES_MAX)
        .find_map(|_| free(0))
        .ok_or(PortError::None { kind })
}

/// Returns a TCP port that is free on all addresses that this machine has; `wanted` if it is not
/// zero.
pub fn free_tcp(addresses: &[IpAddr], wanted: u16) -> Option<u16> {
    free_on(addresses, wanted, |at| {
        let listener = TcpListener::bind(at)?;
        Ok((listener.local_addr()?.port(), listener))
    })
}

/// Returns a UDP port that is free on both wildcard addresses; `wanted` if it is not zero.
fn free_udp(wanted: u16) -> Option<u16> {
    free_on(&ANY, wanted, |at| {
        let socket = UdpSocket::bind(at)?;
        Ok((socket.local_addr()?.port(), socket))
    })
}

fn free_on<T>(
    addresses: &[IpAddr],
    wanted: u16,
    bind: impl Fn(SocketAddr) -> std::io::Result<(u16, T)>,
) -> Option<u16> {
    let mut port = wanted;
    // Each is let go before the next is tried: the IPv6 wildcard may include IPv4.
    for address in addresses {
        match bind(SocketAddr::new(*address, port)) {
            Ok((bound, socket)) => {
                port = bound;
                drop(socket);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return None,
            // The machine has no such address family.
            Err(_) => {}
        }
    }
    (port != 0).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];

    #[test]
    fn used_port_is_not_free() {
        let used = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = used.local_addr().unwrap().port();
        assert_eq!(free_tcp(&LOCAL, port), None);
        assert!(free_tcp(&LOCAL, 0).is_some());
    }

    #[test]
    fn ports_stay_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ports.toml");
        let config = Config::resolve(folder.path(), &[], |_| None, "").unwrap();
        let first = Ports::choose(&config, &file).unwrap();
        assert_eq!(Ports::choose(&config, &file).unwrap(), first);
    }

    #[test]
    fn door_and_control_network_never_share_a_port() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ports.toml");
        let port = free_tcp(&ANY, 0).unwrap();
        std::fs::write(&file, format!("control = {port}\ndoor = {port}\n")).unwrap();
        let config = Config::resolve(folder.path(), &[], |_| None, "").unwrap();
        let chosen = Ports::choose(&config, &file).unwrap();
        assert_ne!(chosen.control, chosen.door);
    }

    #[test]
    fn configured_port_in_use_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let used = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = used.local_addr().unwrap().port();
        let flags = [format!("network.door_port={port}")];
        let config = Config::resolve(folder.path(), &flags, |_| None, "").unwrap();
        let refused = Ports::choose(&config, &folder.path().join("ports.toml"));
        assert!(
            matches!(refused, Err(PortError::Busy { kind: "TCP", .. })),
            "{refused:?}"
        );
    }
}
