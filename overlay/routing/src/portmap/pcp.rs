//! PCP (RFC 6887): MAP and ANNOUNCE, over IPv4.
//!
//! ```text
//!   request   version 2 │ opcode    │ 0 0           │ lifetime │ our address, v4-mapped   24 bytes
//!   answer    version 2 │ opcode|80 │ 0    │ result │ lifetime │ epoch │ 12 bytes of 0    24 bytes
//!   MAP       nonce (12) │ protocol │ 0 0 0 │ our port │ its port │ its address, v4-mapped   36
//! ```
//! Decides nothing; options of an answer are ignored, for we ask for none.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use super::{Transport, Wish};

/// The port that gateways answer on, for PCP and for NAT-PMP.
pub const PORT: u16 = 5351;
/// The version of PCP.
const VERSION: u8 = 2;
/// Longest answer (RFC 6887, 7).
pub const ANSWER_LEN_MAX: usize = 1_100;

const HEADER_LEN: usize = 24;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
const ANSWERS: u8 = 0x80;

/// Proves that later words about a mapping are its owner's.
pub type Nonce = [u8; 12];

/// One request for a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapRequest {
    /// Our address.
    pub own: Ipv4Addr,
    /// The same for the mapping's whole life.
    pub nonce: Nonce,
    /// What is to lead where.
    pub wish: Wish,
    /// The outer port that we would like; zero if any will do.
    pub external_port: u16,
    /// Seconds; zero takes the mapping back.
    pub lifetime_s: u32,
}

/// What a gateway answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Zero for yes (RFC 6887, 7.4).
    pub result: u8,
    /// Seconds for which the answer holds.
    pub lifetime_s: u32,
    /// Seconds since the gateway began to remember.
    pub epoch_s: u32,
    /// To what it is an answer.
    pub body: Body,
}

/// The rest of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// The gateway is there.
    Announce,
    /// About a mapping.
    Map {
        /// As asked.
        nonce: Nonce,
        /// As asked.
        wish: Wish,
        /// Where the world reaches it.
        external: SocketAddrV4,
    },
}

impl MapRequest {
    /// Writes it.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = header(MAP, self.lifetime_s, self.own);
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(&[self.wish.transport.number(), 0, 0, 0]);
        bytes.extend_from_slice(&self.wish.port.to_be_bytes());
        bytes.extend_from_slice(&self.external_port.to_be_bytes());
        // Any IPv4 address of the gateway's.
        bytes.extend_from_slice(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
        bytes
    }
}

/// Writes a question whether the gateway is there.
pub fn announce(own: Ipv4Addr) -> Vec<u8> {
    header(ANNOUNCE, 0, own)
}

fn header(opcode: u8, lifetime_s: u32, own: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![VERSION, opcode, 0, 0];
    bytes.extend_from_slice(&lifetime_s.to_be_bytes());
    bytes.extend_from_slice(&own.to_ipv6_mapped().octets());
    bytes
}

impl Answer {
    /// Reads an answer; none if it is not one to what we ask.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        if ANSWER_LEN_MAX < bytes.len() || !bytes.len().is_multiple_of(4) {
            return None;
        }
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let &[
            version,
            opcode,
            _,
            result,
            l0,
            l1,
            l2,
            l3,
            e0,
            e1,
            e2,
            e3,
            ..,
        ] = header;
        if version != VERSION {
            return None;
        }
        let body = match opcode.checked_sub(ANSWERS)? {
            ANNOUNCE => Body::Announce,
            MAP => map_of_bytes(rest)?,
            _ => return None,
        };
        Some(Self {
            result,
            lifetime_s: u32::from_be_bytes([l0, l1, l2, l3]),
            epoch_s: u32::from_be_bytes([e0, e1, e2, e3]),
            body,
        })
    }

    /// Writes it, as a gateway does.
    pub fn to_bytes(self) -> Vec<u8> {
        let opcode = match self.body {
            Body::Announce => ANNOUNCE,
            Body::Map { .. } => MAP,
        };
        let mut bytes = vec![VERSION, ANSWERS | opcode, 0, self.result];
        bytes.extend_from_slice(&self.lifetime_s.to_be_bytes());
        bytes.extend_from_slice(&self.epoch_s.to_be_bytes());
        bytes.extend_from_slice(&[0; 12]);
        if let Body::Map {
            nonce,
            wish,
            external,
        } = self.body
        {
            bytes.extend_from_slice(&nonce);
            bytes.extend_from_slice(&[wish.transport.number(), 0, 0, 0]);
            bytes.extend_from_slice(&wish.port.to_be_bytes());
            bytes.extend_from_slice(&external.port().to_be_bytes());
            bytes.extend_from_slice(&external.ip().to_ipv6_mapped().octets());
        }
        bytes
    }
}

fn map_of_bytes(bytes: &[u8]) -> Option<Body> {
    let (nonce, rest) = bytes.split_first_chunk::<12>()?;
    let (ports, rest) = rest.split_first_chunk::<8>()?;
    let (address, _) = rest.split_first_chunk::<16>()?;
    let &[protocol, _, _, _, i0, i1, e0, e1] = ports;
    let transport = [Transport::Udp, Transport::Tcp]
        .into_iter()
        .find(|transport| transport.number() == protocol)?;
    let ip = Ipv6Addr::from(*address).to_ipv4_mapped()?;
    Some(Body::Map {
        nonce: *nonce,
        wish: Wish {
            transport,
            port: u16::from_be_bytes([i0, i1]),
        },
        external: SocketAddrV4::new(ip, u16::from_be_bytes([e0, e1])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISH: Wish = Wish {
        transport: Transport::Udp,
        port: 0x1234,
    };

    fn answer() -> Answer {
        Answer {
            result: 0,
            lifetime_s: 120,
            epoch_s: 7,
            body: Body::Map {
                nonce: [9; 12],
                wish: WISH,
                external: "11.0.0.1:4660".parse().unwrap(),
            },
        }
    }

    #[test]
    fn request_has_the_bytes_of_the_standard() {
        let request = MapRequest {
            own: Ipv4Addr::new(192, 168, 1, 2),
            nonce: [9; 12],
            wish: WISH,
            external_port: 0x5678,
            lifetime_s: 0x0102,
        };
        let mut expect = vec![2, 1, 0, 0, 0, 0, 1, 2];
        expect.extend([0; 10]);
        expect.extend([0xff, 0xff, 192, 168, 1, 2]);
        expect.extend([9; 12]);
        expect.extend([17, 0, 0, 0, 0x12, 0x34, 0x56, 0x78]);
        expect.extend([0; 10]);
        expect.extend([0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(request.to_bytes(), expect);
        assert_eq!(announce(request.own).len(), HEADER_LEN);
    }

    #[test]
    fn answer_is_read_as_it_was_written() {
        assert_eq!(Answer::of_bytes(&answer().to_bytes()), Some(answer()));
        let announce = Answer {
            body: Body::Announce,
            ..answer()
        };
        assert_eq!(Answer::of_bytes(&announce.to_bytes()), Some(announce));
    }

    #[test]
    fn what_is_no_answer_is_not_read() {
        let good = answer().to_bytes();
        for len in 0..good.len() {
            assert_eq!(Answer::of_bytes(&good[..len]), None, "{len}");
        }
        for (at, wrong) in [(0, 0), (1, 1), (1, 0x83), (36, 1), (44, 1)] {
            let mut bytes = good.clone();
            bytes[at] = wrong;
            assert_eq!(Answer::of_bytes(&bytes), None, "byte {at}");
        }
        let mut long = good;
        long.resize(ANSWER_LEN_MAX + 4, 0);
        assert_eq!(Answer::of_bytes(&long), None);
    }
}
