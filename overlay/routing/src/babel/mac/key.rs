//! Secrets of an interface and the message authentication codes they make (RFC 8967, §4.1).
//!
//! ```text
//!   MAC( source 16 | port 2 | destination 16 | port 2 | header and body of the packet )
//! ```

use std::fmt;
use std::net::Ipv6Addr;

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::limits::{KEYS_MAX, SECRET_LEN_MIN};

/// The UDP port of Babel, at both ends (RFC 8966, §4).
pub const PORT: u16 = 6696;

/// How a MAC is made (RFC 8967, §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256 (RFC 6234): 32 bytes.
    HmacSha256,
    /// Keyed BLAKE2s (RFC 7693): 16 bytes.
    Blake2s128,
}

impl Algorithm {
    /// Returns the length of its MACs.
    pub fn tag_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::Blake2s128 => 16,
        }
    }

    /// Returns the length of its longest secret.
    pub fn secret_len_max(self) -> usize {
        match self {
            // A block of SHA-256; longer ones would be hashed first and gain nothing.
            Self::HmacSha256 => 64,
            Self::Blake2s128 => 32,
        }
    }
}

/// Why bytes cannot be the keys of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret can be guessed, or does not fit the algorithm.
    #[error("cannot use a secret of {len} bytes where {min} to {max} are needed")]
    SecretLength {
        /// Length of the secret.
        len: usize,
        /// Shortest lawful one.
        min: usize,
        /// Longest lawful one.
        max: usize,
    },
    /// An interface has one key at least, and few at most.
    #[error("cannot use {0} keys on one interface, where 1 to {KEYS_MAX} are lawful")]
    Count(usize),
}

/// One secret with its algorithm.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    algorithm: Algorithm,
    secret: Vec<u8>,
}

impl Key {
    /// Takes a secret if its length is lawful.
    pub fn new(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let (min, max) = (SECRET_LEN_MIN, algorithm.secret_len_max());
        if !(min..=max).contains(&secret.len()) {
            let len = secret.len();
            return Err(KeyError::SecretLength { len, min, max });
        }
        Ok(Self {
            algorithm,
            secret: secret.to_vec(),
        })
    }

    /// Appends the MAC of a packet.
    fn sign(&self, path: Path, packet: &[u8], to: &mut Vec<u8>) {
        match self.algorithm {
            Algorithm::HmacSha256 => to.extend(self.hmac(path, packet).finalize().into_bytes()),
            Algorithm::Blake2s128 => to.extend(self.blake2s(path, packet).finalize().into_bytes()),
        }
    }

    /// Returns whether one of some MACs is that of a packet; every wrong one takes the same time.
    fn verify<'a>(
        &self,
        path: Path,
        packet: &[u8],
        mut tags: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        match self.algorithm {
            Algorithm::HmacSha256 => {
                let mac = self.hmac(path, packet);
                tags.any(|tag| mac.clone().verify_slice(tag).is_ok())
            }
            Algorithm::Blake2s128 => {
                let mac = self.blake2s(path, packet);
                tags.any(|tag| mac.clone().verify_slice(tag).is_ok())
            }
        }
    }

    fn hmac(&self, path: Path, packet: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        let keyed = Hmac::<Sha256>::new_from_slice(&self.secret);
        keyed
            .expect("HMAC refuses no length")
            .chain_update(path.pseudo_header())
            .chain_update(packet)
    }

    fn blake2s(&self, path: Path, packet: &[u8]) -> Blake2sMac<U16> {
        // `new` lets no secret pass that is longer than the 32 bytes of BLAKE2s.
        let keyed = Blake2sMac::<U16>::new_from_slice(&self.secret);
        keyed
            .expect("the secret is at most 32 bytes")
            .chain_update(path.pseudo_header())
            .chain_update(packet)
    }
}

impl fmt::Debug for Key {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.algorithm).finish()
    }
}

/// The keys of an interface: packets are sealed with all of them and opened with any.
///
/// To change a key without an outage, every node gets the new one first, then loses the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// Takes one key up to [`KEYS_MAX`].
    pub fn new(keys: Vec<Key>) -> Result<Self, KeyError> {
        if keys.is_empty() || KEYS_MAX < keys.len() {
            return Err(KeyError::Count(keys.len()));
        }
        Ok(Self(keys))
    }

    /// Returns the length of all MACs together, with their heads.
    pub(super) fn trailer_len(&self) -> usize {
        let lens = self.0.iter().map(|key| 2 + key.algorithm.tag_len());
        lens.sum()
    }

    /// Appends a MAC for each key.
    pub(super) fn seal(&self, kind: u8, path: Path, mut packet: Vec<u8>) -> Vec<u8> {
        let mut trailer = Vec::with_capacity(self.trailer_len());
        for key in &self.0 {
            // Proof: at most 32.
            trailer.extend([kind, key.algorithm.tag_len() as u8]);
            key.sign(path, &packet, &mut trailer);
        }
        packet.extend(trailer);
        packet
    }

    /// Returns whether a packet carries the MAC of any key.
    pub(super) fn verify<'a>(
        &self,
        path: Path,
        packet: &[u8],
        tags: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> bool {
        let mut keys = self.0.iter();
        keys.any(|key| key.verify(path, packet, tags.clone()))
    }
}

/// From where to where a packet goes; sealed with it, so that it is no good elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The link-local address of the sender.
    pub source: Ipv6Addr,
    /// That of the receiver, or the group of all.
    pub destination: Ipv6Addr,
}

impl Path {
    fn pseudo_header(self) -> [u8; 36] {
        let mut header = [0; 36];
        let source = self.source.octets().into_iter().chain(PORT.to_be_bytes());
        let destination = self.destination.octets().into_iter();
        let bytes = source.chain(destination.chain(PORT.to_be_bytes()));
        for (place, byte) in header.iter_mut().zip(bytes) {
            *place = byte;
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_of_unlawful_length_is_refused() {
        for (algorithm, len, lawful) in [
            (Algorithm::HmacSha256, 15, false),
            (Algorithm::HmacSha256, 16, true),
            (Algorithm::HmacSha256, 64, true),
            (Algorithm::HmacSha256, 65, false),
            (Algorithm::Blake2s128, 32, true),
            (Algorithm::Blake2s128, 33, false),
        ] {
            let key = Key::new(algorithm, &vec![7; len]);
            assert_eq!(key.is_ok(), lawful, "{algorithm:?} {len}");
            let max = algorithm.secret_len_max();
            let error = KeyError::SecretLength { len, min: 16, max };
            assert!(lawful || key == Err(error));
        }
    }

    #[test]
    fn interface_has_a_key_and_not_many() {
        let key = Key::new(Algorithm::Blake2s128, &[7; 16]).unwrap();
        assert_eq!(Keys::new(vec![]), Err(KeyError::Count(0)));
        assert!(Keys::new(vec![key.clone(); KEYS_MAX]).is_ok());
        let many = Keys::new(vec![key; KEYS_MAX + 1]);
        assert_eq!(many, Err(KeyError::Count(KEYS_MAX + 1)));
    }

    #[test]
    fn secret_is_never_formatted() {
        let key = Key::new(Algorithm::Blake2s128, &[0xab; 16]).unwrap();
        assert_eq!(format!("{key:?}"), "Key(Blake2s128)");
    }
}
