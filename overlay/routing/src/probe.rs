//! Probes: what engines ask each other about a way; no program sends or sees them.
//!
//! ```text
//!   A ═══ B ═══ C        Ask     A → C inside their session: are you there? Of any length
//!                        Answer  C → A inside their session: yes, over so many links
//!                        Try     A → B by UDP or by the stream of their link, of any length
//!                        Tried   B → A back the way it came and as long
//!                        decoy   a parcel A → C with few hops left; it opens no session anywhere
//!                        Exceeded  B → A inside *their* session: that parcel ended here
//! ```
//! An answer is believed for one reason: it came out of the session with the node that gives it. So
//! no relay can speak in another's name, and none needs to pass clear text on. A decoy has the
//! shape of a keepalive and ends in random bytes; whoever quotes them has seen it.
//!
//! What a hostile relay can still do: be silent or late; answer for a hop that is not its own
//! place, so that it is seen twice, or that nodes behind it are not seen at all; lead parcels with
//! few hops left another way than the rest, through honest nodes that carry nothing else; hand a
//! decoy to an accomplice elsewhere, who then is seen where it is not; lower or raise the hop
//! limit, so that hop counts are claims. It cannot speak in another's name, nor make the round trip
//! to an honest node shorter than it is: nobody can guess what has to come back.
//!
//! Decides what probes look like. Leaves to the data plane who may send them and how often.

use std::net::Ipv6Addr;

use mesh_base::address::NODE_PREFIX;

use crate::answer::error;
use crate::carriage::LONG;
use crate::limits::MTU;
use crate::packet::{HEADER_LEN, Packet, Transport, UDP, UDP_LEN};
use crate::transit::{self, HOP_LIMIT, OVERHEAD};

/// The UDP port of questions and answers, at both ends; no program can use it between nodes.
pub const PROBE_PORT: u16 = 6787;

/// Length of a decoy: that of a session's keepalive.
pub const DECOY_LEN: usize = 32;

/// Random bytes of a decoy.
pub const CHANCE_LEN: usize = DECOY_LEN - 4;

const BODY_LEN: usize = 16;
const ASK: u8 = 1;
const ANSWER: u8 = 2;
const TRY: u8 = 3;
const TRIED: u8 = 4;
/// ICMPv6 "time exceeded", hop limit exceeded in transit (RFC 4443, 3.3).
const TIME_EXCEEDED: u8 = 3;

/// A datagram that no session opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decoy([u8; DECOY_LEN]);

impl Decoy {
    /// Makes a decoy; nobody may be able to guess `chance`.
    pub fn new(chance: [u8; CHANCE_LEN]) -> Self {
        let mut bytes = [0; DECOY_LEN];
        let (kind, rest) = bytes.split_at_mut(DECOY_LEN - CHANCE_LEN);
        // WireGuard's data message: type 4 and three zero bytes.
        kind.copy_from_slice(&[4, 0, 0, 0]);
        rest.copy_from_slice(&chance);
        Self(bytes)
    }

    /// Makes the parcel that carries it over at most `hops` links.
    pub fn parcel(&self, from: Ipv6Addr, to: Ipv6Addr, hops: u8) -> Option<Vec<u8>> {
        let mut parcel = vec![0; OVERHEAD + DECOY_LEN];
        let len = transit::wrap(&self.0, from, to, &mut parcel)?;
        parcel.truncate(len);
        transit::set_hops(&mut parcel, hops);
        Some(parcel)
    }
}

/// What one engine says to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Are you there?
    Ask {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// Yes.
    Answer {
        /// That of the question.
        nonce: u64,
        /// Links that the question crossed.
        hops: u8,
    },
    /// Does a packet of this length pass here?
    Try {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// Yes, in both directions.
    Tried {
        /// That of the question.
        nonce: u64,
    },
    /// Your parcel had no hop left here.
    Exceeded {
        /// What was in it.
        decoy: Decoy,
    },
}

/// Returns the links that a parcel crossed until it arrived with this hop limit.
pub fn crossed(hop_limit: u8) -> u8 {
    HOP_LIMIT.saturating_sub(hop_limit).saturating_add(1)
}

/// Returns whether a packet has the shape of a probe; no program may send such a packet.
pub fn is_probe(packet: &Packet<'_>) -> bool {
    let between_nodes = || {
        let mut ends = [packet.source(), packet.destination()].into_iter();
        ends.all(|address| address.segments().first() == Some(&NODE_PREFIX))
    };
    match packet.transport() {
        Transport::Udp { destination, .. } => destination == PROBE_PORT && between_nodes(),
        Transport::Error { about } => {
            Packet::parse_quoted(about).is_ok_and(|about| transit::is_parcel(&about))
        }
        _ => false,
    }
}

/// Reads a probe; none if it is none, or no whole one.
pub fn read(packet: &Packet<'_>) -> Option<Probe> {
    if !is_probe(packet) {
        return None;
    }
    match packet.transport() {
        Transport::Udp {
            destination: PROBE_PORT,
            ..
        } => {
            let body = packet.payload().get(UDP_LEN..)?;
            let (words, filling) = body.split_at_checked(BODY_LEN)?;
            let &[kind, hops, 0, 0, 0, 0, 0, 0, ref nonce @ ..] = words else {
                return None;
            };
            let nonce = u64::from_be_bytes(nonce.try_into().ok()?);
            match kind {
                ASK => Some(Probe::Ask { nonce }),
                ANSWER if filling.is_empty() => Some(Probe::Answer { nonce, hops }),
                TRY => Some(Probe::Try { nonce }),
                TRIED => Some(Probe::Tried { nonce }),
                _ => None,
            }
        }
        Transport::Error { about } if packet.payload().first() == Some(&TIME_EXCEEDED) => {
            let about = Packet::parse_quoted(about).ok()?;
            if !transit::is_parcel(&about) || about.source() != packet.destination() {
                return None;
            }
            let quoted = about.payload().get(UDP_LEN..)?.first_chunk()?;
            Some(Probe::Exceeded {
                decoy: Decoy(*quoted),
            })
        }
        _ => None,
    }
}

/// Makes the packet of a question.
pub fn ask(nonce: u64, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    write([ASK, 0], nonce, from, to, 0)
}

/// Makes the packet of a question that is as long as a packet of `len` bytes, if one may be so
/// short or so long.
pub fn ask_at_length(nonce: u64, len: u16, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let len = usize::from(len).min(MTU);
    let filling = len.saturating_sub(HEADER_LEN + UDP_LEN + BODY_LEN);
    write([ASK, 0], nonce, from, to, filling)
}

/// Makes the question whether a packet of `len` bytes passes on a link: up to what a link carries,
/// which is more than a program's packet.
pub fn try_length(nonce: u64, len: u16, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let len = usize::from(len.min(LONG));
    let filling = len.saturating_sub(HEADER_LEN + UDP_LEN + BODY_LEN);
    write([TRY, 0], nonce, from, to, filling)
}

/// Makes the answer to such a question, as long as that was.
pub fn tried(nonce: u64, len: usize, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let len = len.min(usize::from(LONG));
    let filling = len.saturating_sub(HEADER_LEN + UDP_LEN + BODY_LEN);
    write([TRIED, 0], nonce, from, to, filling)
}

/// Makes the packet of an answer; `hops` links were crossed by the question.
pub fn answer(nonce: u64, hops: u8, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    write([ANSWER, hops], nonce, from, to, 0)
}

/// Makes the packet that tells the sender of a parcel that it had no hop left at `own`; none if the
/// parcel is cut.
pub fn exceeded(parcel: &[u8], own: Ipv6Addr) -> Option<Vec<u8>> {
    let packet = Packet::parse(parcel).ok()?;
    let quoted = parcel.get(..parcel.len().min(OVERHEAD + DECOY_LEN))?;
    error([TIME_EXCEEDED, 0], own, packet.source(), quoted)
}

/// The UDP checksum is zero: the session authenticates every byte.
fn write(words: [u8; 2], nonce: u64, from: Ipv6Addr, to: Ipv6Addr, filling: usize) -> Vec<u8> {
    // Nobody asks for more than the largest packet; what does not fit would not be a packet.
    let len = u16::try_from(UDP_LEN + BODY_LEN + filling).unwrap_or(u16::MAX);
    let [len_high, len_low] = len.to_be_bytes();
    let [high, low] = PROBE_PORT.to_be_bytes();
    let mut bytes = Vec::with_capacity(HEADER_LEN + usize::from(len));
    bytes.extend_from_slice(&[0x60, 0, 0, 0, len_high, len_low, UDP, HOP_LIMIT]);
    bytes.extend_from_slice(&from.octets());
    bytes.extend_from_slice(&to.octets());
    bytes.extend_from_slice(&[high, low, high, low, len_high, len_low, 0, 0]);
    bytes.extend_from_slice(&words);
    bytes.extend_from_slice(&[0; 6]);
    bytes.extend_from_slice(&nonce.to_be_bytes());
    bytes.resize(HEADER_LEN + usize::from(len), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::build;

    const A: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 1, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 2, 0, 0, 0, 2);
    const C: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 3, 0, 0, 0, 3);
    const SERVICE: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 1);

    #[track_caller]
    fn check(bytes: &[u8], expect: Probe) {
        let packet = Packet::parse(bytes).unwrap();
        assert!(is_probe(&packet));
        assert_eq!(read(&packet), Some(expect));
    }

    #[test]
    fn question_and_answer_are_read_as_written() {
        check(&ask(7, A, C), Probe::Ask { nonce: 7 });
        let nonce = u64::MAX;
        check(&answer(nonce, 3, C, A), Probe::Answer { nonce, hops: 3 });
    }

    #[test]
    fn question_is_as_long_as_what_it_stands_for() {
        let len = |len| ask_at_length(7, len, A, C).len();
        assert_eq!([len(0), len(64), len(65), len(1280)], [64, 64, 65, 1280]);
        assert_eq!(len(9000), MTU);
        check(&ask_at_length(7, 1280, A, C), Probe::Ask { nonce: 7 });
        let mut long = ask_at_length(7, 100, A, C);
        long[HEADER_LEN + UDP_LEN] = ANSWER;
        let packet = Packet::parse(&long).unwrap();
        assert_eq!(read(&packet), None, "answers have one length");
    }

    #[test]
    fn trial_of_length_is_answered_by_one_as_long() {
        for len in [0, 64, 1280, LONG, u16::MAX] {
            let question = try_length(7, len, A, C);
            check(&question, Probe::Try { nonce: 7 });
            assert_eq!(question.len(), usize::from(len.clamp(64, LONG)));
            let answer = tried(7, question.len(), C, A);
            check(&answer, Probe::Tried { nonce: 7 });
            assert_eq!(answer.len(), question.len());
        }
    }

    #[test]
    fn parcel_without_hops_comes_back_as_its_decoy() {
        let decoy = Decoy::new([9; CHANCE_LEN]);
        let parcel = decoy.parcel(A, C, 1).unwrap();
        let packet = Packet::parse(&parcel).unwrap();
        assert!(transit::is_parcel(&packet));
        assert_eq!(packet.hop_limit(), 1);
        let told = exceeded(&parcel, B).unwrap();
        check(&told, Probe::Exceeded { decoy });
        let told = Packet::parse(&told).unwrap();
        assert_eq!((told.source(), told.destination()), (B, A));
    }

    #[test]
    fn quote_of_a_parcel_of_somebody_else_is_not_read() {
        let parcel = Decoy::new([9; CHANCE_LEN]).parcel(C, B, 1).unwrap();
        let told = error([TIME_EXCEEDED, 0], B, A, &parcel).unwrap();
        let told = Packet::parse(&told).unwrap();
        assert!(is_probe(&told));
        assert_eq!(read(&told), None);
    }

    #[test]
    fn packets_of_programs_are_no_probes() {
        let no = |bytes: Vec<u8>| {
            let packet = Packet::parse(&bytes).unwrap();
            assert!(!is_probe(&packet));
            assert_eq!(read(&packet), None);
        };
        no(build::udp((A, 1), (SERVICE, PROBE_PORT), b"a game"));
        no(build::udp((A, PROBE_PORT), (C, 1), b"?"));
        no(build::icmp(A, C, 128, 1, b""));
        let syn = build::tcp((A, 1), (C, 2), 2);
        no(error([TIME_EXCEEDED, 0], C, A, &syn).unwrap());
    }

    #[test]
    fn links_are_counted_from_the_first() {
        assert_eq!([crossed(64), crossed(62), crossed(0)], [1, 3, 65]);
        assert_eq!(crossed(255), 1);
    }

    proptest! {
        #[test]
        fn random_bytes_behind_the_port_never_panic(
            body in proptest::collection::vec(any::<u8>(), 0..120),
            error: bool,
        ) {
            let bytes = if error {
                let port = transit::PARCEL_PORT;
                let parcel = build::udp((A, port), (C, port), &body);
                build::icmp(B, A, 3, 0, &parcel)
            } else {
                build::udp((A, PROBE_PORT), (C, PROBE_PORT), &body)
            };
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert!(is_probe(&packet));
            let _ = read(&packet);
        }
    }
}
