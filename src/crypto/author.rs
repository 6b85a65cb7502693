//! Author blocks: a sealed value begins with who wrote it, signed.
//!
//! The keys that open snapshots, index segments, leases and lists are shared by all who may write, so opening one says nothing of who
//! made it. The signature is inside of the envelope, where nobody else sees who wrote what, and covers all of the object but the
//! ciphertext: what it is, where it stands, what stands before the envelope, and the rest of the value.

use ed25519_dalek::{Signer as _, SigningKey};

use crate::crypto::CryptoError;
use crate::crypto::derive::{ReaderKey, WriterKey};
use crate::crypto::seal::Purpose;
use crate::crypto::sign::{SIGNATURE_LEN, VerifyingKey};
use crate::model::author::Author;
use crate::model::id::{RepositoryId, WriterId};

/// Length of an author block: who, algorithm, signature.
pub const AUTHOR_BLOCK_LEN: usize = WriterId::LEN + 1 + SIGNATURE_LEN;
/// The only algorithm.
const ED25519: u8 = 1;

/// What a signature is about, besides the value.
#[derive(Debug, Clone, Copy)]
pub struct SignedSubject<'a> {
    /// The repository.
    pub repository: RepositoryId,
    /// What the value is.
    pub purpose: Purpose,
    /// The place of the value, as its envelope has it.
    pub object: &'a [u8; 16],
    /// What stands before the envelope in the object.
    pub before: &'a [u8],
}

impl SignedSubject<'_> {
    fn message(&self, author: Author, algorithm: u8, value: &[u8]) -> Vec<u8> {
        let (context, kinds) = (b"coffre/1 author ", [self.purpose as u8, algorithm]);
        let hash = blake3::Hasher::new().update(self.before).update(value).finalize();
        let Self { repository, object, .. } = self;
        [context, &kinds[..1], &repository.0, &object[..], &author.to_bytes(), &kinds[1..], hash.as_bytes()].concat()
    }
}

/// What signs all that a holder of a key writes.
pub struct Signer {
    author: Author,
    key: SigningKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.author)
    }
}

impl Signer {
    /// Signs as a reader.
    pub fn reader(key: &ReaderKey, repository: RepositoryId) -> Self {
        Self { author: Author::Reader, key: key.signing_key(repository) }
    }

    /// Signs as the writer `id`.
    pub fn writer(id: WriterId, key: &WriterKey, repository: RepositoryId) -> Self {
        Self { author: Author::Writer(id), key: key.signing_key(repository) }
    }

    /// Returns as whom it signs.
    pub fn author(&self) -> Author {
        self.author
    }

    /// Returns the key that checks its signatures.
    #[cfg(test)]
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.key.verifying_key().to_bytes())
    }

    /// Returns the block that stands before `value`.
    pub fn block(&self, subject: &SignedSubject<'_>, value: &[u8]) -> [u8; AUTHOR_BLOCK_LEN] {
        let mut block = [ED25519; AUTHOR_BLOCK_LEN];
        block[..WriterId::LEN].copy_from_slice(&self.author.to_bytes());
        block[WriterId::LEN + 1..]
            .copy_from_slice(&self.key.sign(&subject.message(self.author, ED25519, value)).to_bytes());
        block
    }
}

/// An author block, which only claims something until it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorBlock {
    claimed: Author,
    algorithm: u8,
    signature: [u8; SIGNATURE_LEN],
}

impl AuthorBlock {
    /// Splits what an envelope gave into the block and the value.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] when it is too short.
    pub fn split(opened: &[u8]) -> Result<(Self, &[u8]), CryptoError> {
        let (block, value) = opened.split_first_chunk::<AUTHOR_BLOCK_LEN>().ok_or(CryptoError::Malformed)?;
        let (claimed, rest) = block.split_first_chunk::<{ WriterId::LEN }>().ok_or(CryptoError::Malformed)?;
        let (&algorithm, signature) = rest.split_first().ok_or(CryptoError::Malformed)?;
        let signature = signature.try_into().map_err(|_| CryptoError::Malformed)?;
        Ok((Self { claimed: Author::from_bytes(*claimed), algorithm, signature }, value))
    }

    /// Returns who wrote the value, as the block claims.
    pub fn claimed(&self) -> Author {
        self.claimed
    }

    /// Checks the claim with the key of whom it names.
    ///
    /// # Errors
    /// [`CryptoError::BadSignature`] when it is not true, [`CryptoError::Malformed`] when it is of an unknown algorithm,
    /// [`CryptoError::BadKey`] when the key is not one.
    pub fn check(&self, key: &VerifyingKey, subject: &SignedSubject<'_>, value: &[u8]) -> Result<Author, CryptoError> {
        if self.algorithm != ED25519 {
            return Err(CryptoError::Malformed);
        }
        key.check(&subject.message(self.claimed, self.algorithm, value), &self.signature)?;
        Ok(self.claimed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: RepositoryId = RepositoryId([1; 16]);
    const SUBJECT: SignedSubject<'static> =
        SignedSubject { repository: REPOSITORY, purpose: Purpose::Snapshot, object: &[2; 16], before: b"before" };

    #[test]
    fn a_block_fits_one_value_in_one_place_by_one_author() {
        let (reader, writer) = (ReaderKey::random(), WriterKey::random());
        let signers = [Signer::reader(&reader, REPOSITORY), Signer::writer(WriterId([3; 8]), &writer, REPOSITORY)];
        for (signer, other) in [(&signers[0], &signers[1]), (&signers[1], &signers[0])] {
            let opened = [&signer.block(&SUBJECT, b"value")[..], b"value"].concat();
            let (block, value) = AuthorBlock::split(&opened).expect("long enough");
            assert_eq!((block.claimed(), value), (signer.author(), &b"value"[..]));
            let key = signer.verifying_key();
            assert_eq!(block.check(&key, &SUBJECT, value), Ok(signer.author()));
            let wrong = Err(CryptoError::BadSignature);
            assert_eq!(block.check(&other.verifying_key(), &SUBJECT, value), wrong, "another author's");
            assert_eq!(block.check(&key, &SUBJECT, b"valuf"), wrong, "another value");
            for elsewhere in [
                SignedSubject { repository: RepositoryId([9; 16]), ..SUBJECT },
                SignedSubject { purpose: Purpose::Index, ..SUBJECT },
                SignedSubject { object: &[9; 16], ..SUBJECT },
                SignedSubject { before: b"after", ..SUBJECT },
            ] {
                assert_eq!(block.check(&key, &elsewhere, value), wrong, "{elsewhere:?}");
            }
            let renamed = AuthorBlock { claimed: Author::Writer(WriterId([4; 8])), ..block };
            assert_eq!(renamed.check(&key, &SUBJECT, value), wrong, "in another's name");
            assert_eq!(AuthorBlock { algorithm: 2, ..block }.check(&key, &SUBJECT, value), Err(CryptoError::Malformed));
        }
        assert_eq!(AuthorBlock::split(&[0; AUTHOR_BLOCK_LEN - 1]).map(drop), Err(CryptoError::Malformed));
    }
}
