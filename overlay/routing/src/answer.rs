//! What the overlay says to a sender whose packet it does not carry, so that programs need not wait
//! for their timeouts: ICMPv6 "destination unreachable" (RFC 4443, 3.1).
//!
//! ```text
//!   door closed to the sender ─► code 1, administratively prohibited
//!   nobody is there now       ─► code 3, address unreachable
//!   forged, foreign, unasked, unreadable, crowded ─► silence
//! ```
//! The answer comes from the address that was asked: the only one of which the sender's own door
//! takes an error. Decides what is said and how often, not to whom: the caller has proven the
//! sender. Invariant: no answer is an answer to an answer, and each is within the smallest MTU.

use std::net::Ipv6Addr;

use mesh_base::time::Moment;

use crate::limits::{ANSWER_INTERVAL, ANSWERS_BURST, MTU};
use crate::packet::{HEADER_LEN, ICMPV6, Packet, Transport};
use crate::table::DropReason;

/// Length of what stands before the quoted packet.
const ERROR_LEN: usize = 8;
const UNREACHABLE: u8 = 1;
const PROHIBITED: u8 = 1;
const NO_SUCH_ADDRESS: u8 = 3;

/// Returns the packet that tells the sender of `bytes` why they went nowhere; none if nothing may
/// or should be said.
pub fn answer(bytes: &[u8], reason: DropReason) -> Option<Vec<u8>> {
    let code = match reason {
        DropReason::Denied => PROHIBITED,
        DropReason::Absent | DropReason::Detached | DropReason::Unreachable => NO_SUCH_ADDRESS,
        _ => return None,
    };
    let packet = Packet::parse(bytes).ok()?;
    // Errors, and whatever may hide one behind an extension header, are never answered (2.4, e); an
    // address outside of the overlay may be of many.
    let may_be_answered = match packet.transport() {
        Transport::Tcp { flags, .. } => !flags.resets(),
        Transport::Udp { .. } | Transport::EchoRequest { .. } => true,
        Transport::EchoReply { .. } | Transport::Error { .. } | Transport::Other => false,
    };
    if !may_be_answered || !packet.is_overlay() {
        return None;
    }
    let quoted = bytes.get(..bytes.len().min(MTU - HEADER_LEN - ERROR_LEN))?;
    error(
        [UNREACHABLE, code],
        packet.destination(),
        packet.source(),
        quoted,
    )
}

/// Returns an ICMPv6 error of this type and code; none if the quote is longer than a packet may be.
pub(crate) fn error(
    [kind, code]: [u8; 2],
    from: Ipv6Addr,
    to: Ipv6Addr,
    quoted: &[u8],
) -> Option<Vec<u8>> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(quoted);
    let sum = checksum(from, to, &message);
    message.splice(2..4, sum.to_be_bytes());
    let length = u16::try_from(message.len()).ok()?;
    let mut error = vec![0x60, 0, 0, 0];
    error.extend_from_slice(&length.to_be_bytes());
    error.extend_from_slice(&[ICMPV6, 64]);
    error.extend_from_slice(&from.octets());
    error.extend_from_slice(&to.octets());
    error.extend_from_slice(&message);
    Some(error)
}

/// Returns the checksum of an ICMPv6 message whose own field is zero (RFC 8200, 8.1): it covers a
/// pseudo-header too.
pub fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u64 {
        let pairs = bytes.chunks(2);
        let word = |pair: &[u8]| match *pair {
            [high, low] => u64::from(u16::from_be_bytes([high, low])),
            [high] => u64::from(high) << 8,
            _ => 0,
        };
        pairs.map(word).sum()
    };
    let mut sum = words(&from.octets()) + words(&to.octets()) + words(message);
    sum += message.len() as u64 + u64::from(ICMPV6);
    while 0xffff < sum {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// How many answers may be given: a burst, then a steady few (RFC 4443, 2.4, f).
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// When it will be full again; not in the past by more than matters.
    full_at: Moment,
}

impl Default for Budget {
    fn default() -> Self {
        Self { full_at: Moment(0) }
    }
}

impl Budget {
    /// Takes one answer out; false if none is left.
    pub fn take(&mut self, now: Moment) -> bool {
        let full_at = self.full_at.max(now) + ANSWER_INTERVAL;
        if now + ANSWER_INTERVAL * ANSWERS_BURST < full_at {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::access::Access;
    use crate::packet::build;

    const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 2);
    const SERVICE: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 1);
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;

    /// Checks the header, the checksum and that the client's own door takes the answer.
    #[track_caller]
    fn check(asked: &[u8], reason: DropReason, code: u8) {
        let answer = answer(asked, reason).unwrap();
        let packet = Packet::parse(&answer).unwrap();
        assert_eq!((packet.source(), packet.destination()), (SERVICE, CLIENT));
        assert_eq!(answer[40..42], [UNREACHABLE, code]);
        assert_eq!(checksum(SERVICE, CLIENT, &answer[40..]), 0, "a good sum");
        let mut door = Access::default();
        let now = Moment(1);
        assert!(door.ingress_to_host(&packet, now).is_err(), "nobody asked");
        let out = Packet::parse(asked).unwrap();
        assert_eq!(door.egress_of_host(&out, now), Ok(()));
        assert_eq!(door.ingress_to_host(&packet, now), Ok(()));
    }

    #[track_caller]
    fn check_silence(bytes: &[u8], reason: DropReason) {
        assert_eq!(answer(bytes, reason), None);
    }

    #[test]
    fn lawful_sender_is_told_why() {
        let (client, service) = ((CLIENT, 40_000), (SERVICE, 5432));
        let syn = build::tcp(client, service, SYN);
        check(&syn, DropReason::Denied, 1);
        for reason in [
            DropReason::Absent,
            DropReason::Detached,
            DropReason::Unreachable,
        ] {
            check(&syn, reason, 3);
        }
        check(&build::udp(client, service, b"?"), DropReason::Denied, 1);
        let ping = build::icmp(CLIENT, SERVICE, 128, 7, b"");
        check(&ping, DropReason::Denied, 1);
    }

    #[test]
    fn other_reasons_are_not_told() {
        let syn = build::tcp((CLIENT, 1), (SERVICE, 2), SYN);
        let told = DropReason::ALL
            .into_iter()
            .filter(|reason| answer(&syn, *reason).is_some());
        let told: Vec<_> = told.collect();
        assert_eq!(
            told,
            [
                DropReason::Unreachable,
                DropReason::Absent,
                DropReason::Denied,
                DropReason::Detached,
            ]
        );
    }

    #[test]
    fn what_answers_or_hides_is_never_answered() {
        let denied = DropReason::Denied;
        let syn = build::tcp((CLIENT, 1), (SERVICE, 2), SYN);
        check_silence(&build::tcp((CLIENT, 1), (SERVICE, 2), RST), denied);
        check_silence(&build::icmp(CLIENT, SERVICE, 1, 0, &syn), denied);
        check_silence(&build::icmp(CLIENT, SERVICE, 129, 7, b""), denied);
        check_silence(&build::icmp(CLIENT, SERVICE, 137, 0, b""), denied);
        check_silence(&build::ipv6(CLIENT, SERVICE, 44, &[6; 40]), denied);
        check_silence(&build::ipv6(CLIENT, SERVICE, 0, &[58; 40]), denied);
        let group = "ff02::1".parse().unwrap();
        check_silence(&build::udp((CLIENT, 1), (group, 2), b"?"), denied);
        check_silence(&build::udp((group, 1), (SERVICE, 2), b"?"), denied);
    }

    #[test]
    fn answer_to_an_answer_is_none() {
        let syn = build::tcp((CLIENT, 1), (SERVICE, 2), SYN);
        let told = answer(&syn, DropReason::Denied).unwrap();
        for reason in DropReason::ALL {
            check_silence(&told, reason);
        }
    }

    #[test]
    fn long_packet_is_quoted_up_to_the_smallest_mtu() {
        let long = build::udp((CLIENT, 1), (SERVICE, 2), &[7; 4000]);
        let told = answer(&long, DropReason::Denied).unwrap();
        assert_eq!(told.len(), MTU);
        check(&long, DropReason::Denied, 1);
    }

    #[test]
    fn budget_allows_a_burst_and_then_a_steady_few() {
        let mut budget = Budget::default();
        let start = Moment(5_000_000);
        let mut count = |now| (0..1000).filter(|_| budget.take(now)).count();
        let burst = ANSWERS_BURST as usize;
        assert_eq!(count(start), burst);
        assert_eq!(count(start), 0);
        assert_eq!(count(start + ANSWER_INTERVAL * 3), 3);
        assert_eq!(count(start + Duration::from_secs(3600)), burst);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_are_never_answered_at_length(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..1500),
            lawful: bool,
            next_header in prop_oneof![Just(6u8), Just(17), Just(58), any::<u8>()],
        ) {
            if lawful && HEADER_LEN < bytes.len() {
                let body = bytes.split_off(HEADER_LEN);
                bytes = build::ipv6(CLIENT, SERVICE, next_header, &body);
            }
            for reason in DropReason::ALL {
                if let Some(told) = answer(&bytes, reason) {
                    prop_assert!(told.len() <= MTU && told.len() <= bytes.len() + 48);
                    prop_assert!(answer(&told, reason).is_none());
                }
            }
        }
    }
}
