//! Words of engines about straight ways; they travel inside the session of the two.
//!
//! ```text
//!   Observed  over a straight way: your datagrams come from this place
//!   Call      over any way: I may be at these places; try them now, as I try yours
//!   Knock     straight to a place: is it you, and do you hear me?     always of KNOCK_LEN bytes
//!   Heard     straight back: I do
//! ```
//! Each is a UDP datagram to [`PROBE_PORT`] between the addresses of two
//! nodes, which no program can send. Whoever says it is who has the session; what is said is a
//! claim. A claim costs us datagrams to the places that it names: how many, [`super::limits`] says.
//!
//! ```text
//!   body   kind │ flags │ count │ 0 │ number, 4 bytes │ nonce, 8 bytes │ count places
//!   place  family 4 or 6 │ source │ port, 2 bytes │ address, 16 bytes
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::candidate::{Candidate, Source, is_place};
use super::limits::PLACES_MAX;
use crate::packet::{HEADER_LEN, Packet, UDP, UDP_LEN};
use crate::probe::{PROBE_PORT, is_probe};
use crate::transit::HOP_LIMIT;

const BODY_LEN: usize = 16;
const PLACE_LEN: usize = 20;
const OBSERVED: u8 = 16;
const CALL: u8 = 17;
const KNOCK: u8 = 18;
const HEARD: u8 = 19;
const IS_ANSWER: u8 = 1;

/// Length of the packet of a knock and of its answer, and of no other packet of engines that comes
/// from a place where nobody was expected.
pub const KNOCK_LEN: usize = HEADER_LEN + UDP_LEN + BODY_LEN;

/// What one engine says to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Your datagrams come from this place.
    Observed(SocketAddr),
    /// Try to reach me, as I try to reach you.
    Call(Call),
    /// Is it you, and do you hear me?
    Knock(u64),
    /// I do.
    Heard(u64),
}

/// Where somebody may be, and that now is the time to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Counts the calls of one node to another.
    pub number: u32,
    /// Whether it answers one of the other's, so that it needs no answer.
    pub is_answer: bool,
    /// Where, at most [`PLACES_MAX`].
    pub places: Vec<Candidate>,
}

/// Returns whether bytes that came out of a session are a packet of this port and of a word's kind:
/// a glance, for whoever counts packets.
pub fn looks_like_one(bytes: &[u8]) -> bool {
    let [high, low] = PROBE_PORT.to_be_bytes();
    let ports = bytes.get(HEADER_LEN..HEADER_LEN + 4);
    let kind = bytes.get(HEADER_LEN + UDP_LEN);
    bytes.get(6) == Some(&UDP)
        && ports == Some(&[high, low, high, low][..])
        && kind.is_some_and(|kind| (OBSERVED..=HEARD).contains(kind))
}

/// Reads a word; none if it is none, or no whole one. Leaves out places that are none.
pub fn read(packet: &Packet<'_>) -> Option<Word> {
    if !is_probe(packet) {
        return None;
    }
    let body = packet.payload().get(UDP_LEN..)?;
    let (head, rest) = body.split_first_chunk::<BODY_LEN>()?;
    let &[kind, flags, count, 0, a, b, c, d, ref nonce @ ..] = head else {
        return None;
    };
    let nonce = u64::from_be_bytes(*nonce);
    let count = usize::from(count);
    if PLACES_MAX < count || rest.len() != count * PLACE_LEN {
        return None;
    }
    match kind {
        OBSERVED => {
            let [place] = rest.as_chunks::<PLACE_LEN>().0 else {
                return None;
            };
            Some(Word::Observed(read_place(place)?.at))
        }
        CALL => {
            let places = rest.as_chunks::<PLACE_LEN>().0.iter();
            Some(Word::Call(Call {
                number: u32::from_be_bytes([a, b, c, d]),
                is_answer: flags & IS_ANSWER != 0,
                places: places.filter_map(read_place).collect(),
            }))
        }
        KNOCK if rest.is_empty() => Some(Word::Knock(nonce)),
        HEARD if rest.is_empty() => Some(Word::Heard(nonce)),
        _ => None,
    }
}

/// Makes the packet of a word; what is beyond the most places is left out.
pub fn write(word: &Word, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    match word {
        Word::Observed(at) => {
            let place = Candidate {
                at: *at,
                source: Source::Seen,
            };
            packet([OBSERVED, 0], (0, 0), &[place], from, to)
        }
        Word::Call(call) => {
            let flags = if call.is_answer { IS_ANSWER } else { 0 };
            packet([CALL, flags], (call.number, 0), &call.places, from, to)
        }
        Word::Knock(nonce) => packet([KNOCK, 0], (0, *nonce), &[], from, to),
        Word::Heard(nonce) => packet([HEARD, 0], (0, *nonce), &[], from, to),
    }
}

/// The UDP checksum is zero: the session authenticates every byte.
fn packet(
    [kind, flags]: [u8; 2],
    (number, nonce): (u32, u64),
    places: &[Candidate],
    from: Ipv6Addr,
    to: Ipv6Addr,
) -> Vec<u8> {
    let places = places.get(..PLACES_MAX).unwrap_or(places);
    // At most 16 places of 20 bytes.
    let len = u16::try_from(UDP_LEN + BODY_LEN + places.len() * PLACE_LEN).unwrap_or(u16::MAX);
    let count = u8::try_from(places.len()).unwrap_or(u8::MAX);
    let [len_high, len_low] = len.to_be_bytes();
    let [high, low] = PROBE_PORT.to_be_bytes();
    let mut bytes = Vec::with_capacity(HEADER_LEN + usize::from(len));
    bytes.extend_from_slice(&[0x60, 0, 0, 0, len_high, len_low, UDP, HOP_LIMIT]);
    bytes.extend_from_slice(&from.octets());
    bytes.extend_from_slice(&to.octets());
    bytes.extend_from_slice(&[high, low, high, low, len_high, len_low, 0, 0]);
    bytes.extend_from_slice(&[kind, flags, count, 0]);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&nonce.to_be_bytes());
    for place in places {
        write_place(place, &mut bytes);
    }
    bytes
}

fn write_place(place: &Candidate, bytes: &mut Vec<u8>) {
    let (family, address) = match place.at.ip() {
        IpAddr::V4(ip) => (4, ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => (6, ip),
    };
    let source = match place.source {
        Source::Interface => 0,
        Source::Mapped => 1,
        Source::Seen => 2,
    };
    bytes.extend_from_slice(&[family, source]);
    bytes.extend_from_slice(&place.at.port().to_be_bytes());
    bytes.extend_from_slice(&address.octets());
}

fn read_place(bytes: &[u8; PLACE_LEN]) -> Option<Candidate> {
    let &[family, source, high, low, ref address @ ..] = bytes;
    let six = Ipv6Addr::from(*address);
    let ip = match family {
        4 => IpAddr::V4(six.to_ipv4_mapped()?),
        6 if six.to_ipv4_mapped().is_none() => IpAddr::V6(six),
        _ => return None,
    };
    let source = match source {
        0 => Source::Interface,
        1 => Source::Mapped,
        2 => Source::Seen,
        _ => return None,
    };
    let at = SocketAddr::new(ip, u16::from_be_bytes([high, low]));
    Some(Candidate { at, source }).filter(|place| is_place(&place.at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 1, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 2, 0, 0, 0, 2);

    fn place(at: &str, source: Source) -> Candidate {
        let at = at.parse().unwrap();
        Candidate { at, source }
    }

    #[track_caller]
    fn check(word: Word) -> Vec<u8> {
        let bytes = write(&word, A, B);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(read(&packet), Some(word));
        bytes
    }

    #[test]
    fn words_are_read_as_written() {
        check(Word::Observed("203.0.113.9:7".parse().unwrap()));
        let places = vec![
            place("192.168.1.2:41641", Source::Interface),
            place("[2001:db8::1]:41641", Source::Interface),
            place("203.0.113.9:7", Source::Mapped),
            place("203.0.113.9:8", Source::Seen),
        ];
        check(Word::Call(Call {
            number: 7,
            is_answer: true,
            places,
        }));
        check(Word::Call(Call {
            number: u32::MAX,
            is_answer: false,
            places: Vec::new(),
        }));
        for word in [Word::Knock(u64::MAX), Word::Heard(1)] {
            assert_eq!(check(word).len(), KNOCK_LEN);
        }
    }

    #[test]
    fn what_is_no_place_is_left_out_and_too_many_are_cut() {
        let overlay = place("[fd6d::1]:7", Source::Interface);
        let lawful = place("10.0.0.1:7", Source::Interface);
        let call = |places| {
            Word::Call(Call {
                number: 1,
                is_answer: false,
                places,
            })
        };
        let bytes = write(&call(vec![overlay, lawful]), A, B);
        let read = read(&Packet::parse(&bytes).unwrap());
        assert_eq!(read, Some(call(vec![lawful])));
        let many = write(&call(vec![lawful; 40]), A, B);
        let many = super::read(&Packet::parse(&many).unwrap());
        assert_eq!(many, Some(call(vec![lawful; PLACES_MAX])));
    }

    #[test]
    fn questions_about_ways_are_no_words() {
        let ask = crate::probe::ask(7, A, B);
        assert_eq!(read(&Packet::parse(&ask).unwrap()), None);
        let knock = write(&Word::Knock(7), A, B);
        assert_eq!(crate::probe::read(&Packet::parse(&knock).unwrap()), None);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = crate::packet::build::udp((A, PROBE_PORT), (B, PROBE_PORT), &body);
            if let Some(kind) = bytes.get_mut(HEADER_LEN + UDP_LEN) {
                *kind = OBSERVED + *kind % 4;
            }
            if let Some(Word::Call(call)) = read(&Packet::parse(&bytes).unwrap()) {
                prop_assert!(call.places.len() <= PLACES_MAX);
                prop_assert!(call.places.iter().all(|place| is_place(&place.at)));
            }
        }
    }
}
