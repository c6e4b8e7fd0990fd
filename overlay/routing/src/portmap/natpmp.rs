//! NAT-PMP (RFC 6886): the outer address, and mappings.
//!
//! ```text
//!   address   0 │ 0                                  answer  0 │ 128 │ result │ epoch │ address
//!   map       0 │ 1 or 2 │ 0 0 │ our port │ its port │ lifetime
//!                       answer  0 │ 129 or 130 │ result │ epoch │ our port │ its port │ lifetime
//! ```
//! Decides nothing.

use std::net::Ipv4Addr;

use super::{Transport, Wish};

const VERSION: u8 = 0;
const ADDRESS: u8 = 0;
const ANSWERS: u8 = 128;
/// The gateway does not know this version: also its answer to PCP.
pub const UNSUPPORTED_VERSION: u16 = 1;

/// What a gateway answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Zero for yes (RFC 6886, 3.5).
    pub result: u16,
    /// Seconds since the gateway began to remember.
    pub epoch_s: u32,
    /// To what it is an answer.
    pub body: Body,
}

/// The rest of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// The gateway's outer address.
    Address(Ipv4Addr),
    /// About a mapping.
    Map {
        /// As asked.
        wish: Wish,
        /// The outer port.
        external_port: u16,
        /// Seconds.
        lifetime_s: u32,
    },
    /// A refusal that does not say of what: short, as some gateways answer what they do not know.
    Short,
}

/// Writes a question for the outer address.
pub fn address() -> Vec<u8> {
    vec![VERSION, ADDRESS]
}

/// Writes a request for a mapping; a lifetime of zero takes it back.
pub fn map(wish: Wish, external_port: u16, lifetime_s: u32) -> Vec<u8> {
    let mut bytes = vec![VERSION, opcode(wish.transport), 0, 0];
    bytes.extend_from_slice(&wish.port.to_be_bytes());
    bytes.extend_from_slice(&external_port.to_be_bytes());
    bytes.extend_from_slice(&lifetime_s.to_be_bytes());
    bytes
}

const fn opcode(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
    }
}

impl Answer {
    /// Reads an answer; none if it is not one to what we ask.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[version, opcode, r0, r1], rest) = bytes.split_first_chunk::<4>()?;
        let opcode = opcode.checked_sub(ANSWERS)?;
        if version != VERSION {
            return None;
        }
        let result = u16::from_be_bytes([r0, r1]);
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let body = body_of_bytes(opcode, rest);
        Some(Self {
            result,
            epoch_s: u32::from_be_bytes(*epoch),
            body: body.or_else(|| (result != 0 && rest.is_empty()).then_some(Body::Short))?,
        })
    }

    /// Writes it, as a gateway does.
    pub fn to_bytes(self) -> Vec<u8> {
        let opcode = match self.body {
            Body::Address(_) | Body::Short => ADDRESS,
            Body::Map { wish, .. } => opcode(wish.transport),
        };
        let mut bytes = vec![VERSION, ANSWERS | opcode];
        bytes.extend_from_slice(&self.result.to_be_bytes());
        bytes.extend_from_slice(&self.epoch_s.to_be_bytes());
        match self.body {
            Body::Address(ip) => bytes.extend_from_slice(&ip.octets()),
            Body::Short => {}
            Body::Map {
                wish,
                external_port,
                lifetime_s,
            } => {
                bytes.extend_from_slice(&wish.port.to_be_bytes());
                bytes.extend_from_slice(&external_port.to_be_bytes());
                bytes.extend_from_slice(&lifetime_s.to_be_bytes());
            }
        }
        bytes
    }
}

fn body_of_bytes(opcode: u8, bytes: &[u8]) -> Option<Body> {
    let transport = match opcode {
        ADDRESS => {
            let ip = <[u8; 4]>::try_from(bytes).ok()?;
            return Some(Body::Address(ip.into()));
        }
        1 => Transport::Udp,
        2 => Transport::Tcp,
        _ => return None,
    };
    let &[i0, i1, e0, e1, l0, l1, l2, l3] = <&[u8; 8]>::try_from(bytes).ok()?;
    Some(Body::Map {
        wish: Wish {
            transport,
            port: u16::from_be_bytes([i0, i1]),
        },
        external_port: u16::from_be_bytes([e0, e1]),
        lifetime_s: u32::from_be_bytes([l0, l1, l2, l3]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISH: Wish = Wish {
        transport: Transport::Tcp,
        port: 0x1234,
    };

    #[test]
    fn requests_have_the_bytes_of_the_standard() {
        assert_eq!(address(), [0, 0]);
        let expect = [0, 2, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x1c, 0x20];
        assert_eq!(map(WISH, 0x5678, 7_200), expect);
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        for body in [
            Body::Address(Ipv4Addr::new(11, 0, 0, 1)),
            Body::Map {
                wish: WISH,
                external_port: 9,
                lifetime_s: 8,
            },
            Body::Short,
        ] {
            let answer = Answer {
                result: u16::from(body == Body::Short),
                epoch_s: 7,
                body,
            };
            assert_eq!(Answer::of_bytes(&answer.to_bytes()), Some(answer));
        }
    }

    #[test]
    fn what_is_no_answer_is_not_read() {
        let good = Answer {
            result: 0,
            epoch_s: 7,
            body: Body::Address(Ipv4Addr::new(11, 0, 0, 1)),
        };
        let good = good.to_bytes();
        for len in 0..good.len() {
            assert_eq!(Answer::of_bytes(&good[..len]), None, "{len}");
        }
        for (at, wrong) in [(0, 2), (1, 0), (1, 131)] {
            let mut bytes = good.clone();
            bytes[at] = wrong;
            assert_eq!(Answer::of_bytes(&bytes), None, "byte {at}");
        }
    }
}
