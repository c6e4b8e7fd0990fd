//! Remembers which signatures were right, so that 20 simulated nodes check each of them once.
//!
//! A wrong signature is never remembered. What is remembered is the digest of everything that was
//! checked, so the answer cannot differ from a fresh check.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use mesh_base::digest::Digest;
use mesh_base::identity::{Context, KeyError, PublicKey, Signature};
use mesh_ledger::gate::Verifier;

/// One memory, shared by all nodes of a run.
#[derive(Debug, Clone, Default)]
pub struct Notary(Arc<Mutex<BTreeSet<Digest>>>);

impl Verifier for Notary {
    fn verify(
        &mut self,
        key: &PublicKey,
        context: Context,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), KeyError> {
        let parts = [
            key.as_bytes().as_slice(),
            &[context as u8],
            message,
            &signature.0,
        ];
        let name = Digest::of_parts(&parts);
        let Ok(mut known) = self.0.lock() else {
            return key.verify(context, message, signature);
        };
        if known.contains(&name) {
            return Ok(());
        }
        key.verify(context, message, signature)?;
        known.insert(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_base::identity::SecretKey;

    #[test]
    fn only_right_signatures_are_remembered() {
        let (key, mut notary) = (SecretKey::from_seed([1; 32]), Notary::default());
        let signature = key.sign(Context::Record, b"x");
        for _ in 0..2 {
            assert_eq!(
                notary.verify(&key.public(), Context::Record, b"x", &signature),
                Ok(())
            );
            let wrong = notary.verify(&key.public(), Context::Head, b"x", &signature);
            assert_eq!(wrong, Err(KeyError::Signature));
        }
    }
}
