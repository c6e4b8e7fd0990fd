//! SOCKS version 5 (RFC 1928), the side of the proxy: greeting, request, reply.
//!
//! ```text
//!   program: 5 · count · methods            ─►   proxy: 5 · 0, or 5 · 255
//!   program: 5 · CONNECT · 0 · kind, host, port ─►   proxy: 5 · reply · 0 · 1 · 0.0.0.0:0
//! ```
//! Without authentication: whoever reaches the port is a program of this machine. CONNECT only.
//! Each reader is given everything that has come so far and says how much of it was its own. Reads
//! never past what a message declares. Decides nothing about destinations.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::proxy::{Destination, Host, NoWay};

/// Longest message of a program: a request with the longest name.
pub const MESSAGE_LEN_MAX: usize = 262;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// What a program is told about its request (RFC 1928, 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Connected; bytes pass from now on.
    Succeeded,
    /// Something here failed.
    Failed,
    /// Not in the overlay.
    NotAllowed,
    /// Nobody answers there, or the name is nobody's.
    HostUnreachable,
    /// The port is closed.
    Refused,
    /// Nobody answered in time.
    Expired,
    /// Neither BIND nor UDP is offered.
    CommandNotSupported,
    /// A kind of address that is none.
    AddressNotSupported,
}

/// Why a message is not read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocksError {
    /// Not SOCKS 5: nothing can be said in reply.
    Version,
    /// The program wants to say who it is, and nothing else.
    Method,
    /// The request is answered with this.
    Request(Reply),
}

impl Reply {
    /// Returns the message. The address that it could name is of no use to a program, and all zero.
    pub fn message(self) -> [u8; 10] {
        let code = match self {
            Self::Succeeded => 0,
            Self::Failed => 1,
            Self::NotAllowed => 2,
            Self::HostUnreachable => 4,
            Self::Refused => 5,
            // "TTL expired" is what programs show as a timeout.
            Self::Expired => 6,
            Self::CommandNotSupported => 7,
            Self::AddressNotSupported => 8,
        };
        [VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
    }
}

impl From<NoWay> for Reply {
    fn from(no_way: NoWay) -> Self {
        match no_way {
            NoWay::Outside => Self::NotAllowed,
            NoWay::Unknown => Self::HostUnreachable,
        }
    }
}

/// Returns what a greeting is answered with.
pub fn method(greeting: Result<(), SocksError>) -> Option<[u8; 2]> {
    match greeting {
        Ok(()) => Some([VERSION, NO_AUTHENTICATION]),
        Err(SocksError::Method) => Some([VERSION, NO_METHOD]),
        Err(_) => None,
    }
}

/// Reads a greeting; none if more must come. The number is its length.
pub fn read_greeting(bytes: &[u8]) -> Result<Option<usize>, SocksError> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Err(SocksError::Version);
    }
    let &[_, count, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let Some(methods) = rest.get(..usize::from(count)) else {
        return Ok(None);
    };
    match methods.contains(&NO_AUTHENTICATION) {
        true => Ok(Some(2 + methods.len())),
        false => Err(SocksError::Method),
    }
}

/// Reads a request; none if more must come. The number is its length.
pub fn read_request(bytes: &[u8]) -> Result<Option<(Destination, usize)>, SocksError> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Err(SocksError::Version);
    }
    let &[_, command, _, kind, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let host_len = match (kind, rest.first()) {
        (IPV4, _) => 4,
        (IPV6, _) => 16,
        (NAME, Some(len)) => 1 + usize::from(*len),
        (NAME, None) => return Ok(None),
        _ => return Err(SocksError::Request(Reply::AddressNotSupported)),
    };
    let Some((host, rest)) = rest.split_at_checked(host_len) else {
        return Ok(None);
    };
    let &[high, low, ..] = rest else {
        return Ok(None);
    };
    // Read to its end before it is refused, or the program would not hear the reply.
    if command != CONNECT {
        return Err(SocksError::Request(Reply::CommandNotSupported));
    }
    let host = host_of(kind, host).ok_or(SocksError::Request(Reply::AddressNotSupported))?;
    let port = u16::from_be_bytes([high, low]);
    Ok(Some((Destination { host, port }, 4 + host_len + 2)))
}

fn host_of(kind: u8, bytes: &[u8]) -> Option<Host> {
    match kind {
        IPV4 => {
            let octets: [u8; 4] = bytes.try_into().ok()?;
            Some(Host::Address(Ipv4Addr::from(octets).into()))
        }
        IPV6 => {
            let octets: [u8; 16] = bytes.try_into().ok()?;
            Some(Host::Address(Ipv6Addr::from(octets).into()))
        }
        // The first byte is the name's length.
        _ => Host::of(std::str::from_utf8(bytes.get(1..)?).ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u8, host: &[u8], port: u16) -> Vec<u8> {
        [&[5, 1, 0, kind], host, &port.to_be_bytes()].concat()
    }

    #[track_caller]
    fn check(bytes: &[u8], expect: Result<&str, SocksError>) {
        let expect = expect.map(|text| {
            let to = Destination::of(text, None).unwrap();
            Some((to, bytes.len()))
        });
        assert_eq!(read_request(bytes), expect);
        // Nothing is decided before everything is there, and nothing after it is taken.
        let longer = [bytes, b"more"].concat();
        assert_eq!(read_request(&longer), expect);
        if expect.is_ok() {
            for len in 0..bytes.len() {
                assert_eq!(read_request(&bytes[..len]), Ok(None), "{len}");
            }
        }
    }

    #[test]
    fn requests_name_addresses_of_both_kinds_and_names() {
        let service: Ipv6Addr = "fd73::7".parse().unwrap();
        check(&request(4, &service.octets(), 5432), Ok("[fd73::7]:5432"));
        check(&request(1, &[192, 0, 2, 1], 80), Ok("192.0.2.1:80"));
        check(&request(3, b"\x03abc", 80), Ok("abc:80"));
        check(
            &request(3, b"\x0f0123456789abcde", 80),
            Ok("0123456789abcde:80"),
        );
        // Programs write addresses where names belong.
        check(&request(3, b"\x07fd73::7", 80), Ok("[fd73::7]:80"));
        check(&request(3, b"\x09[fd73::7]", 80), Ok("[fd73::7]:80"));
    }

    #[test]
    fn unlawful_requests_have_their_own_replies() {
        let refused = |reply| Err(SocksError::Request(reply));
        let udp = [&[5, 3, 0, 1][..], &[0; 6]].concat();
        check(&udp, refused(Reply::CommandNotSupported));
        check(&request(2, &[0; 4], 1), refused(Reply::AddressNotSupported));
        check(&request(3, b"\x00", 1), refused(Reply::AddressNotSupported));
        check(
            &request(3, b"\x02\xff\xfe", 1),
            refused(Reply::AddressNotSupported),
        );
        check(b"GET / HTTP/1.1\r\n\r\n", Err(SocksError::Version));
        check(&[4, 1, 0, 80, 127, 0, 0, 1, 0], Err(SocksError::Version));
    }

    #[test]
    fn greeting_needs_a_method_without_authentication() {
        assert_eq!(read_greeting(&[5, 2, 2, 0, 9]), Ok(Some(4)));
        assert_eq!(read_greeting(&[5, 2, 0]), Ok(None));
        assert_eq!(read_greeting(&[5]), Ok(None));
        assert_eq!(read_greeting(&[]), Ok(None));
        assert_eq!(read_greeting(&[5, 1, 2]), Err(SocksError::Method));
        assert_eq!(read_greeting(&[5, 0]), Err(SocksError::Method));
        assert_eq!(read_greeting(&[4]), Err(SocksError::Version));
        assert_eq!(method(Ok(())), Some([5, 0]));
        assert_eq!(method(Err(SocksError::Method)), Some([5, 255]));
        assert_eq!(method(Err(SocksError::Version)), None);
    }

    #[test]
    fn longest_message_is_as_long_as_the_limit() {
        let greeting = [&[5, 255][..], &[0; 255]].concat();
        assert_eq!(read_greeting(&greeting), Ok(Some(257)));
        let name = [&[255][..], &[b'a'; 255]].concat();
        let longest = request(3, &name, 1);
        assert_eq!(longest.len(), MESSAGE_LEN_MAX);
        assert!(read_request(&longest).unwrap().is_some());
    }
}
