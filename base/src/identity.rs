//! Ed25519 key pairs of nodes, organisations and services, and signatures bound to a context.
//!
//! A signature always covers `"meshstead/1" 0x00 context 0x00 message`, so bytes signed for one
//! purpose prove nothing for another (RFC 8032 keys and signatures, our own domain separation).
//! Invariant: a [`PublicKey`] that exists is a point that ed25519-dalek accepts and is not weak.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::memo::{Memo, remembered};

/// What a signature is for; two purposes never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A membership certificate.
    Certificate,
    /// A record of the ledger.
    Record,
    /// The head of a document's history.
    Head,
    /// A holder record of a service address.
    Holder,
    /// Terms offered to another organisation.
    Terms,
    /// An invitation.
    Invite,
    /// A node's contact addresses.
    Contact,
    /// A recipe or a software index.
    Recipe,
}

impl Context {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Certificate => b"certificate",
            Self::Record => b"record",
            Self::Head => b"head",
            Self::Holder => b"holder",
            Self::Terms => b"terms",
            Self::Invite => b"invite",
            Self::Contact => b"contact",
            Self::Recipe => b"recipe",
        }
    }
}

/// Why bytes or text are not a key or a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes are not a point of the curve, or a weak one.
    #[error("these 32 bytes are not an ed25519 public key")]
    NotAKey,
    /// The text is not 52 base32 letters.
    #[error("a key is written as 52 letters and digits, this has {0}")]
    Text(usize),
    /// The signature does not fit key, context and message.
    #[error("the signature does not match")]
    Signature,
}

/// A checked ed25519 public key. Its text form is 52 base32 letters in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

thread_local! {
    static CHECKED: Memo<()> = const { RefCell::new(BTreeMap::new()) };
    static MONTGOMERY: Memo<[u8; 32]> = const { RefCell::new(BTreeMap::new()) };
}

fn check_point(bytes: &[u8; 32]) -> Result<(), KeyError> {
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAKey)?;
    if key.is_weak() {
        Err(KeyError::NotAKey)
    } else {
        Ok(())
    }
}

impl PublicKey {
    /// Returns the key if the bytes are one.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        // Each message names the same few keys many times, and decompressing a point takes 10 µs.
        CHECKED.with(|memo| remembered(memo, &bytes, || check_point(&bytes)))?;
        Ok(Self(bytes))
    }

    /// Returns the 32 bytes of RFC 8032.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the X25519 form of this key (RFC 7748), for WireGuard and for sealing.
    pub fn to_x25519(&self) -> [u8; 32] {
        // A checked key is a point, so the conversion cannot fail; the zero key would only fail to
        // open.
        let convert =
            || VerifyingKey::from_bytes(&self.0).map(|key| key.to_montgomery().to_bytes());
        MONTGOMERY
            .with(|memo| remembered(memo, &self.0, convert))
            .unwrap_or([0; 32])
    }

    /// Checks a signature over `message` in `context`.
    pub fn verify(
        &self,
        context: Context,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), KeyError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| KeyError::NotAKey)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&framed(context, message), &signature)
            .map_err(|_| KeyError::Signature)
    }

    /// Returns the first eight letters of the text form: for screens and logs, never for decisions.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.short())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or(KeyError::Text(text.len()))?;
        Self::from_bytes(bytes)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map_err(serde::de::Error::custom);
        }
        let bytes = serde_bytes::ByteArray::<32>::deserialize(deserializer)?;
        Self::from_bytes(bytes.into_array()).map_err(serde::de::Error::custom)
    }
}

macro_rules! role_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub PublicKey);

        impl $name {
            /// Returns the key behind the role.
            pub fn key(&self) -> &PublicKey {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                text.parse().map(Self)
            }
        }
    };
}

role_key! {
    /// The key of a machine that runs `meshnode`.
    NodeId
}
role_key! {
    /// The root key of an organisation.
    OrgId
}
role_key! {
    /// The key of a service, held by the organisation that ordered it.
    ServiceId
}

/// An ed25519 signature (RFC 8032), 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&data_encoding::HEXLOWER.encode_display(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let bytes = data_encoding::HEXLOWER
                .decode(text.as_bytes())
                .ok()
                .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
            return bytes
                .map(Self)
                .ok_or_else(|| serde::de::Error::custom(KeyError::Signature));
        }
        serde_bytes::ByteArray::<64>::deserialize(deserializer)
            .map(|bytes| Self(bytes.into_array()))
    }
}

/// The secret half of an identity. It is never formatted; keep it out of every log and error.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Returns the key pair of a 32-byte seed (RFC 8032, 5.1.5). The seed must come from real
    /// entropy.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Returns the 32-byte seed, for the one file that keeps it and for libp2p's own key type.
    pub fn to_seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Returns the public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Returns the X25519 secret whose public key is [`PublicKey::to_x25519`] of the public half.
    pub fn to_x25519(&self) -> [u8; 32] {
        self.0.to_scalar_bytes()
    }

    /// Signs `message` for one purpose.
    pub fn sign(&self, context: Context, message: &[u8]) -> Signature {
        Signature(self.0.sign(&framed(context, message)).to_bytes())
    }

    /// Derives an independent key pair for `purpose`: the same secret and purpose give the same
    /// pair.
    pub fn derive(&self, purpose: &[u8]) -> Self {
        let seed =
            crate::digest::Digest::of_parts(&[b"meshstead/derive", &self.0.to_bytes(), purpose]);
        Self::from_seed(*seed.as_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

fn framed(context: Context, message: &[u8]) -> Vec<u8> {
    let label = context.label();
    let mut bytes = Vec::with_capacity(13 + label.len() + message.len());
    bytes.extend_from_slice(b"meshstead/1\0");
    bytes.extend_from_slice(label);
    bytes.push(0);
    bytes.extend_from_slice(message);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(byte: u8) -> SecretKey {
        SecretKey::from_seed([byte; 32])
    }

    #[test]
    fn signature_is_bound_to_its_context() {
        let key = pair(1);
        let signature = key.sign(Context::Record, b"x");
        assert_eq!(
            key.public().verify(Context::Record, b"x", &signature),
            Ok(())
        );
        assert_eq!(
            key.public().verify(Context::Head, b"x", &signature),
            Err(KeyError::Signature)
        );
    }

    #[test]
    fn text_form_comes_back() {
        let key = pair(2).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!("abc".parse::<PublicKey>(), Err(KeyError::Text(3)));
    }

    #[test]
    fn weak_point_is_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(PublicKey::from_bytes(one), Err(KeyError::NotAKey));
    }

    #[test]
    fn x25519_halves_belong_together() {
        // RFC 7748: the public key is the secret times the base point.
        let key = pair(3);
        let (secret, public) = (key.to_x25519(), key.public().to_x25519());
        let (boxed_secret, boxed) = (key.to_x25519(), key.public().to_x25519());
        assert_eq!((secret, public), (boxed_secret, boxed));
        let sealed = crate::seal::seal(
            &key.public(),
            b"ctx",
            b"hello",
            &mut crate::seal::test_rng(1),
        )
        .unwrap();
        assert_eq!(crate::seal::open(&key, b"ctx", &sealed).unwrap(), b"hello");
    }

    #[test]
    fn secret_is_never_formatted() {
        let key = pair(4);
        let text = format!("{key:?}");
        assert!(!text.contains("04040404"), "{text}");
    }
}
