//! The TLVs of authentication (RFC 8967, §6): what a packet says about itself, and our own.

use super::limits::{INDEX_LEN_MAX, NONCE_LEN_MAX, TAGS_MAX};
use crate::babel::wire::cursor::Cursor;
use crate::babel::wire::{HEADER_LEN, MAGIC, VERSION, kind};

/// What the body of a packet says for authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said<'a> {
    /// The counter and index of the sender; those that come first count.
    pub counter: Option<(u32, &'a [u8])>,
    /// A number that we should send back.
    pub challenge: Option<&'a [u8]>,
    /// Our own number came back.
    pub answered: bool,
}

impl<'a> Said<'a> {
    /// Reads a body; `nonce` is the number that we would like to see.
    pub fn read(body: &'a [u8], nonce: Option<&[u8]>) -> Self {
        let mut said = Self::default();
        let mut counted = false;
        for (kind, body) in tlvs(body) {
            match kind {
                // A second one is ignored, and one of unlawful length is none (RFC 8967, §4.3).
                kind::PC if !counted => {
                    counted = true;
                    let parts = body.split_first_chunk::<4>();
                    let parts = parts.filter(|(_, index)| index.len() <= INDEX_LEN_MAX);
                    said.counter = parts.map(|(count, index)| (u32::from_be_bytes(*count), index));
                }
                kind::CHALLENGE_REQUEST if body.len() <= NONCE_LEN_MAX => {
                    said.challenge = Some(body);
                }
                kind::CHALLENGE_REPLY => said.answered |= nonce == Some(body),
                _ => {}
            }
        }
        said
    }
}

/// Returns the MACs in a trailer, the first few at most.
pub fn tags(trailer: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let macs = tlvs(trailer).filter(|(kind, _)| *kind == kind::MAC);
    macs.map(|(_, tag)| tag).take(TAGS_MAX)
}

/// Returns TLVs up to the end or to the first that is longer than the bytes.
fn tlvs(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> + Clone {
    let mut unread = Cursor(bytes);
    // The outer option ends the bytes, the inner one is padding of one byte.
    std::iter::from_fn(move || unread.framed()).flatten()
}

/// Returns the length of a PC TLV with an index of that many bytes.
pub fn counter_len(index_len: usize) -> usize {
    2 + 4 + index_len
}

/// Appends a PC TLV and corrects the length of the body. The packet has no trailer yet.
pub fn append_counter<const N: usize>(packet: &mut Vec<u8>, counter: u32, index: [u8; N]) {
    // Proof: our index is eight bytes.
    packet.extend([kind::PC, (4 + N) as u8]);
    packet.extend(counter.to_be_bytes());
    packet.extend(index);
    let body_len = packet.len().saturating_sub(HEADER_LEN);
    // A body beyond 16 bits is refused by every reader; a writer makes none.
    let body_len = u16::try_from(body_len).unwrap_or(u16::MAX).to_be_bytes();
    for (place, byte) in packet.iter_mut().skip(2).zip(body_len) {
        *place = byte;
    }
}

/// Returns a packet with nothing but a challenge or the answer to one.
pub fn packet(kind: u8, nonce: &[u8]) -> Vec<u8> {
    // Proof: a nonce is at most 192 bytes.
    let len = nonce.len() as u8;
    let mut packet = vec![MAGIC, VERSION, 0, len + 2, kind, len];
    packet.extend(nonce);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &[u8], expect: Said<'_>) {
        assert_eq!(Said::read(body, Some(&[5, 5])), expect);
    }

    #[test]
    fn first_counter_counts_even_if_it_is_unlawful() {
        let counter = Some((258, &[9][..]));
        let said = Said {
            counter,
            ..Said::default()
        };
        check(&[0, 17, 5, 0, 0, 1, 2, 9, 17, 4, 0, 0, 0, 1], said);
        check(&[17, 3, 0, 0, 1, 17, 4, 0, 0, 0, 1], Said::default());
        let long = [&[17, 37][..], &[0; 37], &[17, 4, 0, 0, 0, 1]].concat();
        check(&long, Said::default());
    }

    #[test]
    fn answer_is_the_number_that_was_asked() {
        let said = Said {
            challenge: Some(&[7]),
            answered: true,
            ..Said::default()
        };
        check(&[18, 1, 7, 19, 2, 5, 6, 19, 2, 5, 5], said);
        check(&[19, 2, 5, 6], Said::default());
        assert!(!Said::read(&[19, 0], None).answered);
        let long = [&[18, 193][..], &[0; 193]].concat();
        check(&long, Said::default());
    }

    #[test]
    fn nothing_is_read_behind_a_lie() {
        check(&[18, 9, 7, 17, 4, 0, 0, 0, 1], Said::default());
        let trailer = [16, 1, 7, 16, 9, 7];
        assert_eq!(tags(&trailer).collect::<Vec<_>>(), [&[7]]);
    }

    #[test]
    fn only_the_first_macs_are_looked_at() {
        let trailer = [16, 1, 7].repeat(TAGS_MAX + 1);
        assert_eq!(tags(&trailer).count(), TAGS_MAX);
    }

    #[test]
    fn longest_number_fits_a_packet() {
        let bytes = packet(kind::CHALLENGE_REPLY, &[1; NONCE_LEN_MAX]);
        assert_eq!(bytes.get(..6), Some(&[42, 2, 0, 194, 19, 192][..]));
        assert_eq!(bytes.len(), HEADER_LEN + 194);
    }
}
