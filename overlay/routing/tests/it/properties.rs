//! What is written is read again; what is damaged is read without harm; two readers agree.

use mesh_routing::babel::wire::reader::read;
use mesh_routing::babel::wire::tlv::Tlv;
use mesh_routing::babel::wire::writer::{PAYLOAD_MIN, Pushed, Writer};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use crate::reference;
use crate::values::{packet, source, tlvs};

/// Writes values into as many packets as they need.
fn write(values: &[Tlv], limit: usize) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut writer = Writer::new(source(), limit);
    for tlv in values {
        match writer.push(tlv) {
            Pushed::Written => continue,
            Pushed::Refused => panic!("{tlv:?} is lawful"),
            Pushed::Full => {}
        }
        assert!(!writer.is_empty());
        let full = std::mem::replace(&mut writer, Writer::new(source(), limit));
        packets.push(full.finish(None));
        assert_eq!(writer.push(tlv), Pushed::Written);
    }
    packets.push(writer.finish(None));
    packets
}

/// TLVs that are nearly lawful: right types with any bodies, and sub-TLVs behind some.
fn soups() -> impl Strategy<Value = Vec<u8>> {
    let small =
        || prop_oneof![3 => 0_u8..6, 1 => Just(0x80_u8), 1 => Just(64_u8), 1 => any::<u8>()];
    let sub_tlv = (small(), vec(any::<u8>(), 0..10)).prop_map(|(kind, body)| {
        let mut bytes = vec![kind, u8::try_from(body.len()).unwrap()];
        bytes.extend(body);
        bytes
    });
    let body = (vec(small(), 0..30), vec(sub_tlv, 0..2));
    let kinds = prop_oneof![3 => Just(8_u8), 1 => Just(6_u8), 4 => 0_u8..12, 1 => any::<u8>()];
    let tlv = (kinds, body, 0_u8..20).prop_map(|(kind, (fixed, sub_tlvs), lie)| {
        let body = [fixed, sub_tlvs.concat()].concat();
        let len = u8::try_from(body.len()).unwrap();
        let len = if lie == 0 { len ^ 1 } else { len };
        [&[kind, len][..], &body].concat()
    });
    vec(tlv, 0..12).prop_map(|tlvs| tlvs.concat())
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        values in vec(tlvs(), 0..40),
        limit in PAYLOAD_MIN..600,
    ) {
        let packets = write(&values, limit);
        let mut says = Vec::new();
        for bytes in &packets {
            prop_assert!(bytes.len() <= limit);
            let mut reader = read(bytes, source()).unwrap();
            says.extend(reader.by_ref());
            prop_assert_eq!(reader.ignored().total(), 0);
            prop_assert!(reader.trailer().is_empty());
        }
        prop_assert_eq!(says, values);
    }

    #[test]
    fn written_packets_are_the_same_to_both_readers(values in vec(tlvs(), 0..40)) {
        for bytes in write(&values, 400) {
            let says: Vec<Tlv> = read(&bytes, source()).unwrap().collect();
            prop_assert_eq!(says, reference::read(&bytes, source()));
        }
    }

    #[test]
    fn soup_is_the_same_to_both_readers(body in soups()) {
        let bytes = packet(&body);
        let says: Vec<Tlv> = read(&bytes, source()).unwrap().collect();
        prop_assert_eq!(says, reference::read(&bytes, source()));
    }

    #[test]
    fn any_bytes_are_the_same_to_both_readers(body in vec(any::<u8>(), 0..200)) {
        let bytes = packet(&body);
        let says: Vec<Tlv> = read(&bytes, source()).unwrap().collect();
        prop_assert_eq!(says, reference::read(&bytes, source()));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_read_without_harm(
        values in vec(tlvs(), 0..12),
        with in any::<u8>(),
    ) {
        for bytes in write(&values, 300) {
            for end in 0..bytes.len() {
                // As it is, and with a length that fits: the first is no packet any more.
                prop_assert!(read(&bytes[..end], source()).is_err());
                if let Some(body) = bytes[..end].get(4..) {
                    let _ = read(&packet(body), source()).unwrap().count();
                }
            }
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] = with;
                if let Ok(reader) = read(&changed, source()) {
                    let says: Vec<Tlv> = reader.collect();
                    prop_assert_eq!(says, reference::read(&changed, source()));
                }
            }
        }
    }
}
