//! Congestion marks through tunnels, as RFC 6040 wants them: a queue on the way that marks instead
//! of dropping is heard by the ends.
//!
//! ```text
//!   packet ── its mark ──► parcel ── its mark ──► datagram on the underlay ─► marked by a queue
//!   packet ◄─ combined ─── parcel ◄─ combined ─── datagram as it arrived
//! ```
//! Decides what a mark becomes at the end of a tunnel, not where it stands on the underlay.
//! Invariant: a mark of congestion is never lost; what cannot carry it is dropped.

/// The two bits of RFC 3168.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ecn {
    /// The sender does not understand marks.
    #[default]
    NotEct,
    /// It does, in the way of RFC 9331.
    Ect1,
    /// It does.
    Ect0,
    /// A queue on the way was full.
    Ce,
}

impl Ecn {
    /// Returns the mark in the two lowest bits of a traffic class.
    pub fn of_class(class: u8) -> Self {
        match class & 3 {
            1 => Self::Ect1,
            2 => Self::Ect0,
            3 => Self::Ce,
            _ => Self::NotEct,
        }
    }

    /// Returns the two bits.
    pub fn bits(self) -> u8 {
        self as u8
    }

    /// Returns the mark of an IPv6 packet; what is none has none.
    pub fn of(packet: &[u8]) -> Self {
        match packet {
            [first, second, ..] if first >> 4 == 6 => Self::of_class(second >> 4),
            _ => Self::NotEct,
        }
    }

    /// Writes the mark into an IPv6 packet. Its header has no checksum.
    pub fn write(self, packet: &mut [u8]) {
        if let [first, second, ..] = packet
            && *first >> 4 == 6
        {
            *second = *second & 0b1100_1111 | self.bits() << 4;
        }
    }

    /// Returns what a packet's mark becomes when what carried it had the mark `outer`; none if the
    /// packet must be dropped (RFC 6040, 4.2).
    pub fn carried_by(self, outer: Self) -> Option<Self> {
        match (self, outer) {
            (Self::NotEct, Self::Ce) => None,
            (Self::NotEct, _) => Some(Self::NotEct),
            (_, Self::Ce) => Some(Self::Ce),
            (Self::Ect0, Self::Ect1) => Some(Self::Ect1),
            (own, _) => Some(own),
        }
    }
}

/// Lets a packet come out of a tunnel. Returns false if it must be dropped. What is too short for a
/// packet, as a keepalive, carries nothing.
pub fn unwrap_mark(packet: &mut [u8], outer: Ecn) -> bool {
    if outer == Ecn::NotEct || packet.is_empty() {
        return true;
    }
    match Ecn::of(packet).carried_by(outer) {
        Some(mark) => {
            mark.write(packet);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Packet, build};

    const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

    #[test]
    fn marks_combine_as_the_table_of_rfc_6040_says() {
        let of = |inner: Ecn| ALL.map(|outer| inner.carried_by(outer));
        let same = |mark| [Some(mark), Some(mark), Some(mark)];
        let [a, b, c] = same(Ecn::NotEct);
        assert_eq!(of(Ecn::NotEct), [a, b, c, None]);
        let [a, b, c] = same(Ecn::Ect1);
        assert_eq!(of(Ecn::Ect1), [a, b, c, Some(Ecn::Ce)]);
        let zero = Some(Ecn::Ect0);
        assert_eq!(of(Ecn::Ect0), [zero, Some(Ecn::Ect1), zero, Some(Ecn::Ce)]);
        assert_eq!(of(Ecn::Ce), [Some(Ecn::Ce); 4]);
    }

    #[test]
    fn mark_is_written_where_it_is_read_and_nowhere_else() {
        let ends = ("fd6d::1".parse().unwrap(), "fd6d::2".parse().unwrap());
        let clean = build::udp((ends.0, 1), (ends.1, 2), b"body");
        for mark in ALL {
            let mut packet = clean.clone();
            packet[1] |= 0xcf;
            mark.write(&mut packet);
            assert_eq!(Ecn::of(&packet), mark);
            assert_eq!(packet[1] & 0xcf, 0xcf, "class and flow label stay");
            assert_eq!(packet[2..], clean[2..]);
            assert!(Packet::parse(&packet).is_ok());
        }
        for none in [&[][..], &[0x60], &[0x45, 0xff, 0, 0]] {
            assert_eq!(Ecn::of(none), Ecn::NotEct);
            let mut bytes = none.to_vec();
            Ecn::Ce.write(&mut bytes);
            assert_eq!(bytes, none);
        }
    }

    #[test]
    fn packet_that_cannot_carry_a_mark_of_congestion_is_dropped() {
        let ends = ("fd6d::1".parse().unwrap(), "fd6d::2".parse().unwrap());
        let mut packet = build::udp((ends.0, 1), (ends.1, 2), b"body");
        assert!(unwrap_mark(&mut packet, Ecn::Ect0));
        assert_eq!(Ecn::of(&packet), Ecn::NotEct);
        assert!(!unwrap_mark(&mut packet, Ecn::Ce));
        Ecn::Ect0.write(&mut packet);
        assert!(unwrap_mark(&mut packet, Ecn::Ce));
        assert_eq!(Ecn::of(&packet), Ecn::Ce);
        assert!(unwrap_mark(&mut [], Ecn::Ce), "a keepalive");
    }
}
