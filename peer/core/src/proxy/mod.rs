//! What a proxy for programs of this machine is asked for, and whether it is in the overlay.
//!
//! ```text
//!   bytes ─► socks | http ─► Destination ─► place (the table of names) ─► [fd73:…]:5432
//!                                    └────► NoWay: said in the words of the protocol
//! ```
//! Two protocols, read from whatever has come so far: [`socks`] (RFC 1928) and [`http`] (RFC 9110,
//! 9112). Decides where a program may go: to overlay addresses and names of the mesh, nowhere else,
//! so that the proxy is open to nobody's Internet. Leaves sockets and clocks to the shell.
//! Invariant: a place that comes out is an overlay address.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use mesh_base::address::is_overlay;

use crate::names::{Answer, Kind, Names};

pub mod http;
pub mod socks;

/// Longest name that may be asked for (RFC 1035, 2.3.4).
const NAME_LEN_MAX: usize = 255;

/// What a program calls the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, not looked up yet.
    Name(String),
}

/// Where a program wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Whom it wants.
    pub host: Host,
    /// The TCP port there.
    pub port: u16,
}

/// Why a destination is not gone to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWay {
    /// It is not in the overlay.
    Outside,
    /// No node and no service of the mesh has that name.
    Unknown,
}

impl Host {
    /// Reads a host as people and programs write it: an address, one in brackets, or a name.
    pub fn of(text: &str) -> Option<Self> {
        if let Some(inside) = text.strip_prefix('[') {
            let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let is_lawful = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
        let is_name = !text.is_empty() && text.len() <= NAME_LEN_MAX && text.bytes().all(is_lawful);
        is_name.then(|| Self::Name(text.to_owned()))
    }
}

impl Destination {
    /// Reads `HOST:PORT`; the port may lack where there is a usual one.
    pub fn of(text: &str, usual: Option<u16>) -> Option<Self> {
        let bracket = text.rfind(']').map_or(0, |at| at + 1);
        let colon = text.get(bracket..)?.rfind(':').map(|at| bracket + at);
        let (host, port) = match colon {
            Some(at) => {
                let digits = text.get(at + 1..)?;
                let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
                (text.get(..at)?, digits.parse().ok().filter(|_| is_number))
            }
            None => (text, usual),
        };
        // An address of many colons needs its brackets here.
        if !host.starts_with('[') && host.contains(':') {
            return None;
        }
        Some(Self {
            host: Host::of(host)?,
            port: port.filter(|port| *port != 0)?,
        })
    }

    /// Returns the address in the overlay.
    pub fn place(&self, names: &Names) -> Result<SocketAddrV6, NoWay> {
        let address = match &self.host {
            Host::Address(IpAddr::V6(address)) => *address,
            Host::Address(IpAddr::V4(_)) => return Err(NoWay::Outside),
            Host::Name(name) => {
                let labels = name.strip_suffix('.').unwrap_or(name).split('.');
                match names.answer(labels.map(str::as_bytes), Kind::Address) {
                    Answer::Address(address) => address,
                    Answer::Refused => return Err(NoWay::Outside),
                    _ => return Err(NoWay::Unknown),
                }
            }
        };
        match is_overlay(&address) {
            true => Ok(SocketAddrV6::new(address, self.port, 0, 0)),
            false => Err(NoWay::Outside),
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::{NodeId, OrgId, SecretKey};

    use super::*;
    use crate::names::{Bearer, Entry};

    fn names() -> Names {
        let org = OrgId(SecretKey::from_seed([1; 32]).public());
        let mut names = Names::default();
        names.add_org(org, &"bakery".parse().unwrap(), org);
        let entry = Entry {
            address: "fd73::7".parse().unwrap(),
            node: NodeId(SecretKey::from_seed([9; 32]).public()),
            bearer: Bearer::Service,
        };
        names.add(org, &"crm-db".parse().unwrap(), entry);
        names
    }

    #[track_caller]
    fn check(text: &str, expect: Result<&str, NoWay>) {
        let destination = Destination::of(text, None).unwrap();
        let place = destination.place(&names()).map(|place| place.to_string());
        assert_eq!(place, expect.map(str::to_owned), "{text}");
    }

    #[test]
    fn only_the_overlay_is_gone_to() {
        check("[fd73::7]:5432", Ok("[fd73::7]:5432"));
        check("[fd6d::1]:80", Ok("[fd6d::1]:80"));
        check("crm-db.bakery.mesh.internal:5432", Ok("[fd73::7]:5432"));
        check("CRM-DB.Bakery.Mesh.Internal.:1", Ok("[fd73::7]:1"));
        for outside in [
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[2001:db8::1]:80",
            "[fe80::1]:80",
            "127.0.0.1:80",
            "localhost:80",
            "example.org:443",
            "mesh.internal.example.org:443",
        ] {
            check(outside, Err(NoWay::Outside));
        }
        for unknown in ["oven.bakery.mesh.internal:1", "bakery.mesh.internal:1"] {
            check(unknown, Err(NoWay::Unknown));
        }
    }

    #[test]
    fn destinations_that_are_none_are_refused() {
        for text in [
            "",
            ":80",
            "a:0",
            "a:65536",
            "a:+1",
            "a:",
            "a",
            "fd73::7:80",
            "[fd73::7",
            "[a]:1",
            "a b:1",
            "a/b:1",
            "a@b:1",
            "[fd73::7%1]:1",
            "[127.0.0.1]:1",
        ] {
            assert_eq!(Destination::of(text, None), None, "{text}");
        }
        let long = format!("{}:1", "a".repeat(NAME_LEN_MAX + 1));
        assert_eq!(Destination::of(&long, None), None);
        let usual = Destination::of("a", Some(80)).unwrap();
        assert_eq!((usual.port, usual.host), (80, Host::Name("a".to_owned())));
    }
}
