//! One canonical byte form for everything that is signed, stored or sent.
//!
//! CBOR (RFC 8949) as ciborium writes it for serde structs: fields in declaration order, shortest
//! integers, definite lengths. [`decode`] refuses bytes that would not be written the same way
//! again, so one value has one byte string and one signature. No floats, no hash maps in encoded
//! types. A length that the bytes only claim takes no memory, see `unhinted`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::unhinted::Modest;

mod unhinted;

/// Deepest nesting that is read; ours is at most eight.
const DEPTH_MAX: usize = 24;

/// Why bytes could not be read as a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// More bytes than the caller allows for this kind of value.
    #[error("{len} bytes, at most {max} are allowed")]
    Long {
        /// How many came.
        len: usize,
        /// How many may come.
        max: usize,
    },
    /// Not CBOR, or not of this shape.
    #[error("the bytes are not a value of the expected shape")]
    Shape,
    /// Readable, but written in another way than ours.
    #[error("the bytes are not in canonical form")]
    NotCanonical,
}

/// Returns the canonical bytes of a value.
///
/// # Panics
/// Never for types without floats, hash maps and failing `Serialize`: writing to memory cannot
/// fail.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Proof: a Vec writer is infallible and our types' Serialize implementations return no errors.
    ciborium::ser::into_writer(value, &mut bytes).expect("encoding to memory cannot fail");
    bytes
}

/// Reads one value of at most `len_max` bytes; nothing may follow it.
pub fn decode<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    len_max: usize,
) -> Result<T, DecodeError> {
    if len_max < bytes.len() {
        return Err(DecodeError::Long {
            len: bytes.len(),
            max: len_max,
        });
    }
    let Modest(value) =
        ciborium::de::from_reader_with_recursion_limit::<Modest<T>, _>(bytes, DEPTH_MAX)
            .map_err(|_| DecodeError::Shape)?;
    // Trailing bytes fail here too: the value's own bytes are shorter.
    if encode(&value) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expect: Result<u32, DecodeError>) {
        assert_eq!(decode::<u32>(bytes, 8), expect);
    }

    #[test]
    fn shortest_integer_is_read() {
        check(&[0x05], Ok(5));
    }

    #[test]
    fn longer_integer_than_needed_is_not_canonical() {
        check(&[0x18, 0x05], Err(DecodeError::NotCanonical));
    }

    #[test]
    fn trailing_byte_is_not_canonical() {
        check(&[0x05, 0x00], Err(DecodeError::NotCanonical));
    }

    #[test]
    fn other_shape_is_refused() {
        check(&[0x61, 0x61], Err(DecodeError::Shape));
    }

    #[test]
    fn long_input_is_refused_before_it_is_read() {
        check(&[0; 9], Err(DecodeError::Long { len: 9, max: 8 }));
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert_eq!(decode::<Vec<u8>>(&[0x81; 64], 64), Err(DecodeError::Shape));
    }

    #[test]
    fn list_takes_no_room_for_elements_that_are_only_claimed() {
        use serde::de::{SeqAccess, Visitor};

        struct Hint;
        struct Hints(Option<usize>);

        impl<'de> Visitor<'de> for Hint {
            type Value = Hints;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Hints, A::Error> {
                Ok(Hints(access.size_hint()))
            }
        }

        impl<'de> serde::Deserialize<'de> for Hints {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_seq(Hint)
            }
        }

        // An array of 2^32 elements of which none has come.
        let claim = [0x9b, 0, 0, 0, 1, 0, 0, 0, 0];
        let plain: Hints = ciborium::from_reader(claim.as_slice()).unwrap();
        let Modest(Hints(hint)) = ciborium::from_reader(claim.as_slice()).unwrap();
        assert_eq!((plain.0, hint), (Some(1 << 32), None));
    }
}
