//! What a key slot's age file holds.

use minicbor::Decoder;
use zeroize::Zeroizing;

use crate::crypto::derive::{ReaderKey, WriterKey};
use crate::crypto::secret::Secret;
use crate::crypto::sign::VerifyingKey;
use crate::format::FormatError;
use crate::format::wire::{encode, read_bytes, read_map};
use crate::model::id::RepositoryId;

const WHAT: &str = "a key slot";

/// The root secret that a slot gives.
#[derive(Debug, Clone)]
pub enum RootKey {
    /// Can do everything.
    Reader(ReaderKey),
    /// Can back up and read nothing.
    Writer(WriterKey),
}

/// A key slot's content.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// The key it gives.
    pub root: RootKey,
    /// Checks the repository's signatures.
    pub verifying_key: VerifyingKey,
    /// What the slot is for, chosen by its maker.
    pub label: String,
}

impl Slot {
    /// Encodes the content to be sealed with age.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (role, secret) = match &self.root {
            RootKey::Reader(key) => (0, &key.0),
            RootKey::Writer(key) => (1, &key.0),
        };
        Zeroizing::new(encode(|e| {
            e.map(6)?.u8(0)?.u64(1)?.u8(1)?.u8(role)?.u8(2)?.bytes(secret.expose())?;
            e.u8(3)?.bytes(&self.repository.0)?.u8(4)?.bytes(&self.verifying_key.0)?.u8(5)?.str(&self.label)?;
            Ok(())
        }))
    }

    /// Decodes a slot's content.
    ///
    /// # Errors
    /// [`FormatError`] when a field is missing or a newer program wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (mut version, mut role, mut secret, mut repository, mut verifying_key) = (0, 0, None, None, None);
        let mut label = String::new();
        read_map(WHAT, &mut Decoder::new(bytes), |key, d| {
            match key {
                0 => version = d.u64()?,
                1 => role = d.u8()?,
                2 => secret = Some(Secret::take(&mut read_bytes::<32>(d)?)),
                3 => repository = Some(RepositoryId(read_bytes(d)?)),
                4 => verifying_key = Some(VerifyingKey(read_bytes(d)?)),
                5 => label = d.str()?.to_owned(),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if version != 1 {
            return Err(FormatError::Newer { what: WHAT, version });
        }
        let (Some(secret), Some(repository), Some(verifying_key)) = (secret, repository, verifying_key) else {
            return Err(FormatError::invalid(WHAT, "a field is missing"));
        };
        let root = match role {
            0 => RootKey::Reader(ReaderKey(secret)),
            1 => RootKey::Writer(WriterKey(secret)),
            other => return Err(FormatError::invalid(WHAT, format!("role {other}"))),
        };
        Ok(Self { repository, root, verifying_key, label })
    }
}
