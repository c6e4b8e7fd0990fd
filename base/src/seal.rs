//! HPKE boxes (RFC 9180, base mode) for parameters and credentials: only one key's holder can open
//! them.
//!
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. The recipient is named by its
//! ed25519 identity; X25519 is its Montgomery form. A box is the 32-byte encapsulated key and the
//! ciphertext.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;

use crate::identity::{PublicKey, SecretKey};

/// Longest plaintext that is sealed: parameters and credentials are small.
pub const SEALED_LEN_MAX: usize = 64 * 1024;

/// Why a box could not be made or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// More plaintext than [`SEALED_LEN_MAX`].
    #[error("{0} bytes are too many to seal")]
    Long(usize),
    /// The recipient's key cannot be used for sealing.
    #[error("the recipient's key cannot be used for sealing")]
    Recipient,
    /// Not for this key, not in this context, or altered.
    #[error("the sealed box does not open")]
    Closed,
}

/// Seals `plaintext` to `recipient`; `context` must be given again to open it.
pub fn seal(
    recipient: &PublicKey,
    context: &[u8],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, SealError> {
    if SEALED_LEN_MAX < plaintext.len() {
        return Err(SealError::Long(plaintext.len()));
    }
    let key = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&recipient.to_x25519())
        .map_err(|_| SealError::Recipient)?;
    let (encapsulated, ciphertext) = hpke::single_shot_seal_with_rng::<
        ChaCha20Poly1305,
        HkdfSha256,
        X25519HkdfSha256,
    >(&OpModeS::Base, &key, context, plaintext, b"", rng)
    .map_err(|_| SealError::Recipient)?;
    let mut sealed = encapsulated.to_bytes().to_vec();
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens a box that was sealed to `secret`'s public half in the same `context`.
pub fn open(secret: &SecretKey, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let (encapsulated, ciphertext) = sealed.split_at_checked(32).ok_or(SealError::Closed)?;
    let key = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&secret.to_x25519())
        .map_err(|_| SealError::Closed)?;
    let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated)
        .map_err(|_| SealError::Closed)?;
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &key,
        &encapsulated,
        context,
        ciphertext,
        b"",
    )
    .map_err(|_| SealError::Closed)
}

/// A seeded generator for tests of this crate.
#[cfg(test)]
pub(crate) fn test_rng(seed: u64) -> rand_chacha::ChaCha20Rng {
    use rand_chacha::rand_core::SeedableRng;
    rand_chacha::ChaCha20Rng::seed_from_u64(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recipient_opens() {
        let (alice, bob) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let sealed = seal(&alice.public(), b"order", b"password", &mut test_rng(7)).unwrap();
        assert_eq!(open(&alice, b"order", &sealed).unwrap(), b"password");
        assert_eq!(open(&bob, b"order", &sealed), Err(SealError::Closed));
        assert_eq!(open(&alice, b"other", &sealed), Err(SealError::Closed));
        assert_eq!(open(&alice, b"order", &[0; 31]), Err(SealError::Closed));
    }

    #[test]
    fn too_much_is_refused() {
        let key = SecretKey::from_seed([1; 32]).public();
        let much = vec![0; SEALED_LEN_MAX + 1];
        assert_eq!(
            seal(&key, b"", &much, &mut test_rng(1)),
            Err(SealError::Long(much.len()))
        );
    }
}
