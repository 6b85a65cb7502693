//! Signatures over configurations and keyrings: only a holder of the reader key makes them, every key slot checks them.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey as DalekKey};

use crate::crypto::CryptoError;
use crate::crypto::derive::{ReaderKey, WriterKey};
use crate::model::id::RepositoryId;

/// Length of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// What is signed; part of the signed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// A configuration.
    Config,
    /// A keyring.
    Keyring,
}

impl Signed {
    fn context(self) -> &'static [u8] {
        match self {
            Signed::Config => b"coffre/1 config",
            Signed::Keyring => b"coffre/1 keyring",
        }
    }
}

/// The key that checks a repository's signatures; part of every key slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// Checks that `signature` was made over `payload` by the repository's reader key.
    ///
    /// # Errors
    /// [`CryptoError::BadSignature`] when it was not, [`CryptoError::BadKey`] when this key is not one.
    pub fn verify(
        &self,
        what: Signed,
        repository: RepositoryId,
        payload: &[u8],
        signature: &[u8; SIGNATURE_LEN],
    ) -> Result<(), CryptoError> {
        self.check(&message(what, repository, payload), signature)
    }

    /// Checks a signature over `message`, strictly: no weak keys, canonical encodings.
    pub(super) fn check(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Result<(), CryptoError> {
        let key = DalekKey::from_bytes(&self.0).map_err(|_| CryptoError::BadKey)?;
        key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| CryptoError::BadSignature)
    }
}

impl ReaderKey {
    /// Returns the key that checks this reader's signatures.
    pub fn verifying_key(&self, repository: RepositoryId) -> VerifyingKey {
        VerifyingKey(self.signing_key(repository).verifying_key().to_bytes())
    }

    /// Signs `payload` (Ed25519, RFC 8032).
    pub fn sign(&self, what: Signed, repository: RepositoryId, payload: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.signing_key(repository).sign(&message(what, repository, payload)).to_bytes()
    }

    pub(super) fn signing_key(&self, repository: RepositoryId) -> SigningKey {
        SigningKey::from_bytes(self.signing_seed(repository).expose())
    }
}

impl WriterKey {
    /// Returns the key that checks this writer's signatures.
    pub fn verifying_key(&self, repository: RepositoryId) -> VerifyingKey {
        VerifyingKey(self.signing_key(repository).verifying_key().to_bytes())
    }

    pub(super) fn signing_key(&self, repository: RepositoryId) -> SigningKey {
        SigningKey::from_bytes(self.signing_seed(repository).expose())
    }
}

fn message(what: Signed, repository: RepositoryId, payload: &[u8]) -> Vec<u8> {
    [what.context(), &repository.0, payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_fits_one_payload_kind_and_repository() {
        let reader = ReaderKey::random();
        let repository = RepositoryId([1; 16]);
        let key = reader.verifying_key(repository);
        let signature = reader.sign(Signed::Keyring, repository, b"payload");
        assert_eq!(key.verify(Signed::Keyring, repository, b"payload", &signature), Ok(()));
        assert!(key.verify(Signed::Config, repository, b"payload", &signature).is_err());
        assert!(key.verify(Signed::Keyring, repository, b"other", &signature).is_err());
        assert!(key.verify(Signed::Keyring, RepositoryId([2; 16]), b"payload", &signature).is_err());
    }
}
