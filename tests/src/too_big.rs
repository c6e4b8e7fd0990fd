//! The word to a sender that its packet does not fit: RFC 1191 for IPv4, RFC 4443 for IPv6.
//!
//! Pure: bytes in, bytes out.

use crate::probe::checksum;

/// How much of the packet an answer quotes over IPv4: its header without options, and eight bytes.
const QUOTED_V4: usize = 28;

/// How large an answer over IPv6 may be.
const ANSWER_V6_MAX: usize = 1280;

/// Returns the answer to a packet that is larger than `mtu`, from `hop`, which is somebody on the
/// way. None for what must not be answered: no IP, IPv4 that may be fragmented, other such answers.
pub fn too_big(packet: &[u8], mtu: u16, hop: [u8; 4]) -> Option<Vec<u8>> {
    match packet.first()? >> 4 {
        4 => too_big_v4(packet, mtu, hop),
        6 => too_big_v6(packet, mtu, hop),
        _ => None,
    }
}

fn too_big_v4(packet: &[u8], mtu: u16, hop: [u8; 4]) -> Option<Vec<u8>> {
    let (flags, protocol, sender) = (packet.get(6)?, packet.get(9)?, packet.get(12..16)?);
    let is_whole_only = flags & 0x40 != 0;
    // Echo requests are worth an answer, errors are not.
    let is_error = *protocol == 1 && ![0, 8].contains(packet.get(20)?);
    if !is_whole_only || is_error {
        return None;
    }
    let quoted = packet.get(..QUOTED_V4)?;
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quoted);
    seal(&mut icmp, 2, &[]);
    let len = u16::try_from(20 + icmp.len()).ok()?;
    let mut answer = vec![0x45, 0xc0];
    answer.extend(len.to_be_bytes());
    answer.extend([0, 0, 0, 0, 64, 1, 0, 0]);
    answer.extend(hop);
    answer.extend(sender);
    seal(&mut answer, 10, &[]);
    answer.extend(icmp);
    Some(answer)
}

fn too_big_v6(packet: &[u8], mtu: u16, hop: [u8; 4]) -> Option<Vec<u8>> {
    let (next, sender) = (packet.get(6)?, packet.get(8..24)?);
    let is_error = *next == 58 && *packet.get(40)? < 128;
    if is_error {
        return None;
    }
    // Whoever is on the way has an address of documentation's with its IPv4 one at the end.
    let mut own = vec![0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0];
    own.extend(hop);
    let quoted = packet.get(..packet.len().min(ANSWER_V6_MAX - 48))?;
    let mut icmp = vec![2, 0, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quoted);
    let len = u16::try_from(icmp.len()).ok()?;
    let mut pseudo = [own.as_slice(), sender].concat();
    pseudo.extend(u32::from(len).to_be_bytes());
    pseudo.extend([0, 0, 0, 58]);
    seal(&mut icmp, 2, &pseudo);
    let mut answer = vec![0x60, 0, 0, 0];
    answer.extend(len.to_be_bytes());
    answer.extend([58, 64]);
    answer.extend(own);
    answer.extend(sender);
    answer.extend(icmp);
    Some(answer)
}

/// Writes the checksum over `pseudo` and the bytes to where their field for it is, still zero.
fn seal(bytes: &mut [u8], at: usize, pseudo: &[u8]) {
    let sum = checksum(&[pseudo, bytes].concat()).to_be_bytes();
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(flags: u8, protocol: u8, kind: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 5, 220, 0, 0, flags, 0, 64, protocol, 0, 0];
        packet.extend([192, 168, 1, 2, 11, 77, 1, 2]);
        packet.extend([kind; 1480]);
        packet
    }

    fn v6(next: u8, kind: u8) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 5, 180, next, 64];
        packet.extend([0xfd; 32]);
        packet.extend([kind; 1460]);
        packet
    }

    const HOP: [u8; 4] = [11, 77, 1, 3];

    #[test]
    fn sender_is_told_what_fits() {
        let answer = too_big(&v4(0x40, 17, 9), 1280, HOP).unwrap();
        assert_eq!(answer.len(), 20 + 8 + QUOTED_V4);
        assert_eq!(&answer[12..20], &[11, 77, 1, 3, 192, 168, 1, 2]);
        assert_eq!(&answer[20..22], &[3, 4]);
        assert_eq!(&answer[26..28], &1280_u16.to_be_bytes());
        // A sum over a checksum in its place is zero.
        assert_eq!((checksum(&answer[..20]), checksum(&answer[20..])), (0, 0));

        let answer = too_big(&v6(17, 9), 1280, HOP).unwrap();
        assert_eq!(answer.len(), ANSWER_V6_MAX);
        assert_eq!(&answer[40..42], &[2, 0]);
        assert_eq!(&answer[44..48], &1280_u32.to_be_bytes());
        let mut pseudo = answer[8..40].to_vec();
        pseudo.extend([0, 0, 4, 216, 0, 0, 0, 58]);
        assert_eq!(checksum(&[&pseudo, &answer[40..]].concat()), 0);
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        assert_eq!(too_big(&v4(0, 17, 9), 1280, HOP), None, "may be fragmented");
        assert_eq!(too_big(&v4(0x40, 1, 3), 1280, HOP), None, "an error");
        assert!(too_big(&v4(0x40, 1, 8), 1280, HOP).is_some());
        assert_eq!(too_big(&v6(58, 2), 1280, HOP), None, "an error");
        assert!(too_big(&v6(58, 128), 1280, HOP).is_some());
        assert_eq!(too_big(&[0x75; 40], 1280, HOP), None, "no IP");
        for len in 0..28 {
            assert_eq!(too_big(&v4(0x40, 17, 9)[..len], 1280, HOP), None);
        }
    }
}
