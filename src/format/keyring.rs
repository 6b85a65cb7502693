//! The keyring: domains, their key epochs and their wrapped keys, and the key slots that there must be.

use minicbor::Decoder;

use crate::crypto::derive::{DedupSecret, ReaderKey, WriterKey};
use crate::crypto::seal::{Purpose, open_envelope, seal_envelope};
use crate::crypto::secret::Secret;
use crate::crypto::session::{DomainPublicKey, DomainSecretKey};
use crate::crypto::sign::{SIGNATURE_LEN, Signed, VerifyingKey};
use crate::format::FormatError;
use crate::format::object::KEYRING;
use crate::format::slot::Role;
use crate::format::wire::{encode, encode_secret, expect_array, read_array, read_bytes, read_map, read_secret};
use crate::model::id::{DomainEpoch, DomainId, RepositoryId, SlotId};

const WHAT: &str = KEYRING.0.what;
/// Bytes of an encoded dedup secret besides the domain's name.
const ROOM: usize = 64;

/// The list of domains, signed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Counts keyrings; a client refuses one lower than it saw.
    pub counter: u64,
    /// The domains' keys, one record for each epoch.
    pub domains: Vec<DomainRecord>,
    /// The key slots that there must be.
    pub slots: Vec<SlotRecord>,
}

/// A key slot as the keyring knows it, so that one which was changed, exchanged or removed is noticed before it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRecord {
    /// The slot.
    pub id: SlotId,
    /// The key that it gives: the number of a [`Role`], or one that a newer program knows.
    pub role: u64,
    hash: [u8; 32],
}

impl SlotRecord {
    /// Describes the slot `id`, whose object is `object`.
    pub fn of(id: SlotId, role: Role, object: &[u8]) -> Self {
        Self { id, role: role as u64, hash: *blake3::hash(object).as_bytes() }
    }

    /// Returns BLAKE3 of the slot's object.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Tells whether these are the bytes of the slot.
    pub fn is(&self, object: &[u8]) -> bool {
        blake3::hash(object) == self.hash
    }
}

/// One key epoch of one domain, its secrets wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRecord {
    /// The domain and its epoch, which counts the domain's keys; new sessions use the highest.
    pub at: DomainEpoch,
    /// The X-Wing public key to which sessions are sealed.
    pub public_key: DomainPublicKey,
    sealed_secret: Vec<u8>,
    sealed_dedup: Vec<u8>,
}

impl DomainRecord {
    /// Wraps a new domain key.
    pub fn seal(
        repository: RepositoryId,
        reader: &ReaderKey,
        name: &str,
        dedup: &DedupSecret,
        secret_key: &DomainSecretKey,
        public_key: DomainPublicKey,
    ) -> Self {
        let id = dedup.at.domain;
        let named = encode_secret(name.len() + ROOM, |e| {
            e.map(2)?.u8(0)?.str(name)?.u8(1)?.bytes(dedup.secret.expose())?;
            Ok(())
        });
        let reader_wrap = reader.wrapping_key(repository);
        let writer_wrap = reader.writer_key(repository).wrapping_key(repository);
        Self {
            at: dedup.at,
            public_key,
            sealed_secret: seal_envelope(&reader_wrap, repository, Purpose::DomainKey, &id.0, secret_key.0.expose())
                .into_bytes(),
            sealed_dedup: seal_envelope(&writer_wrap, repository, Purpose::DomainDedup, &id.0, &named).into_bytes(),
        }
    }

    /// Recovers the domain's name and dedup secret with the writer key.
    ///
    /// # Errors
    /// When the record was not sealed for this writer key.
    pub fn open_dedup(
        &self,
        repository: RepositoryId,
        writer: &WriterKey,
    ) -> Result<(String, DedupSecret), FormatError> {
        let wrap = writer.wrapping_key(repository);
        let plain = open_envelope(&wrap, repository, Purpose::DomainDedup, &self.at.domain.0, &self.sealed_dedup)
            .map_err(|e| FormatError::invalid(WHAT, e))?;
        let (mut name, mut secret) = (String::new(), None);
        read_map(WHAT, &mut Decoder::new(&plain), |key, d| {
            match key {
                0 => name = d.str()?.to_owned(),
                1 => secret = Some(read_secret(d)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let secret = secret.ok_or_else(|| FormatError::invalid(WHAT, "a domain without dedup secret"))?;
        Ok((name, DedupSecret { secret, at: self.at }))
    }

    /// Recovers the secret half of the domain's key with the reader key.
    ///
    /// # Errors
    /// When the record was not sealed for this reader key.
    pub fn open_secret(&self, repository: RepositoryId, reader: &ReaderKey) -> Result<DomainSecretKey, FormatError> {
        let wrap = reader.wrapping_key(repository);
        let plain = open_envelope(&wrap, repository, Purpose::DomainKey, &self.at.domain.0, &self.sealed_secret)
            .map_err(|e| FormatError::invalid(WHAT, e))?;
        let secret = Secret::from_slice(&plain).ok_or_else(|| FormatError::invalid(WHAT, "a key of wrong length"))?;
        Ok(DomainSecretKey(secret))
    }
}

impl Keyring {
    /// Encodes the keyring, signed by the reader key.
    pub fn encode(&self, reader: &ReaderKey) -> Vec<u8> {
        let payload = encode(|e| {
            e.map(4)?.u8(0)?.bytes(&self.repository.0)?.u8(1)?.u64(self.counter)?;
            e.u8(2)?.array(self.domains.len() as u64)?;
            for domain in &self.domains {
                e.map(5)?.u8(0)?.bytes(&domain.at.domain.0)?.u8(1)?.u32(domain.at.epoch)?;
                e.u8(2)?.bytes(domain.public_key.as_bytes())?;
                e.u8(3)?.bytes(&domain.sealed_secret)?.u8(4)?.bytes(&domain.sealed_dedup)?;
            }
            e.u8(5)?.array(self.slots.len() as u64)?;
            for slot in &self.slots {
                e.array(3)?.bytes(&slot.id.0)?.u64(slot.role)?.bytes(&slot.hash)?;
            }
            Ok(())
        });
        let signature: [u8; SIGNATURE_LEN] = reader.sign(Signed::Keyring, self.repository, &payload);
        KEYRING.join(&signature, &payload)
    }

    /// Decodes a keyring and checks its signature.
    ///
    /// # Errors
    /// [`FormatError`] when it is not one, is another repository's, or was not signed by the repository's reader.
    pub fn decode(bytes: &[u8], repository: RepositoryId, key: &VerifyingKey) -> Result<Self, FormatError> {
        let (signature, payload) = KEYRING.split(bytes)?;
        key.verify(Signed::Keyring, repository, payload, signature).map_err(|e| FormatError::invalid(WHAT, e))?;
        let mut keyring = Keyring { repository, counter: 0, domains: Vec::new(), slots: Vec::new() };
        let mut stated = None;
        read_map(WHAT, &mut Decoder::new(payload), |key, d| {
            match key {
                0 => stated = Some(RepositoryId(read_bytes(d)?)),
                1 => keyring.counter = d.u64()?,
                2 => keyring.domains = read_array(d, read_domain)?,
                5 => keyring.slots = read_array(d, read_slot)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if stated != Some(repository) {
            return Err(FormatError::invalid(WHAT, "it is another repository's"));
        }
        Ok(keyring)
    }
}

fn read_domain(d: &mut Decoder<'_>) -> Result<DomainRecord, minicbor::decode::Error> {
    let (mut id, mut epoch, mut public_key, mut sealed_secret, mut sealed_dedup) = (None, 0, None, vec![], vec![]);
    let len = d.map()?.unwrap_or(0);
    for _ in 0..len {
        match d.u64()? {
            0 => id = Some(DomainId(read_bytes(d)?)),
            1 => epoch = d.u32()?,
            2 => public_key = DomainPublicKey::from_slice(d.bytes()?),
            3 => sealed_secret = d.bytes()?.to_vec(),
            4 => sealed_dedup = d.bytes()?.to_vec(),
            _ => d.skip()?,
        }
    }
    match (id, public_key) {
        (Some(id), Some(public_key)) => {
            let at = DomainEpoch { domain: id, epoch };
            Ok(DomainRecord { at, public_key, sealed_secret, sealed_dedup })
        }
        _ => Err(minicbor::decode::Error::message("a domain lacks its id or public key")),
    }
}

fn read_slot(d: &mut Decoder<'_>) -> Result<SlotRecord, minicbor::decode::Error> {
    expect_array(d, 3)?;
    Ok(SlotRecord { id: SlotId(read_bytes(d)?), role: d.u64()?, hash: read_bytes(d)? })
}
