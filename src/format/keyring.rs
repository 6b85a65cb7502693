//! The keyring: domains, their key epochs and their wrapped keys, the writers, what was erased, and the key slots that there
//! must be.

use minicbor::Decoder;

use crate::crypto::derive::{DedupSecret, ReaderKey};
use crate::crypto::seal::{Purpose, open_envelope, seal_envelope};
use crate::crypto::secret::Secret;
use crate::crypto::session::{DomainPublicKey, DomainSecretKey};
use crate::crypto::sign::{SIGNATURE_LEN, Signed, VerifyingKey};
use crate::format::FormatError;
use crate::format::dedup::{open_dedup, seal_dedup};
use crate::format::name::{open_name, seal_name};
use crate::format::object::KEYRING;
use crate::format::slot::Role;
use crate::format::wire::{encode, encode_record, expect_array, read_array, read_bytes, read_map, write_array};
use crate::format::writer::{WriterRecord, read_writer, write_writer};
use crate::model::id::{DomainEpoch, DomainId, RepositoryId, SlotId, WriterId};
use crate::model::time::Timestamp;

const WHAT: &str = KEYRING.0.what;

/// Who and what there is, signed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Counts keyrings; a client refuses one lower than it saw.
    pub counter: u64,
    /// The domains' keys, one record for each epoch.
    pub domains: Vec<DomainRecord>,
    /// Those who write with keys of their own, thrown out ones among them.
    pub writers: Vec<WriterRecord>,
    /// The domains and epochs whose keys were destroyed.
    pub erased: Vec<Erased>,
    /// The key slots that there must be.
    pub slots: Vec<SlotRecord>,
}

/// A key slot as the keyring knows it, so that one which was changed, exchanged or removed is noticed before it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRecord {
    /// The slot.
    pub id: SlotId,
    /// The key that it gives: the number of a [`Role`], or one that a newer program knows.
    pub role: u64,
    hash: [u8; 32],
    sealed_name: Vec<u8>,
}

/// What readers alone know of a key slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotName {
    /// What it is for, chosen by its maker.
    pub label: String,
    /// When it was made.
    pub made: Timestamp,
}

impl SlotRecord {
    /// Describes the slot `id`, whose object is `object`.
    pub fn new(
        repository: RepositoryId,
        reader: &ReaderKey,
        (id, role): (SlotId, Role),
        object: &[u8],
        name: &SlotName,
    ) -> Self {
        let value = encode_record(|r| {
            r.field(0, |e| e.str(&name.label));
            r.field(1, |e| e.i64(name.made.seconds));
        });
        let sealed_name = seal_name(repository, reader, id.0, &value);
        Self { id, role: role as u64, hash: *blake3::hash(object).as_bytes(), sealed_name }
    }

    /// Recovers what the slot is for with the reader key.
    ///
    /// # Errors
    /// When it was not sealed for this reader key.
    pub fn open_name(&self, repository: RepositoryId, reader: &ReaderKey) -> Result<SlotName, FormatError> {
        let plain = open_name(repository, reader, self.id.0, &self.sealed_name)?;
        let mut name = SlotName::default();
        read_map(WHAT, &mut Decoder::new(&plain), |key, d| {
            match key {
                0 => name.label = d.str()?.to_owned(),
                1 => name.made = Timestamp::from_seconds(d.i64()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(name)
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

/// A domain's epoch whose keys were destroyed, and its data with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// What was erased.
    pub at: DomainEpoch,
    /// When.
    pub when: Timestamp,
}

/// One key epoch of one domain, its secrets wrapped for readers.
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
        let (id, wrap) = (dedup.at.domain, reader.wrapping_key(repository));
        let sealed_secret = seal_envelope(&wrap, repository, Purpose::DomainKey, &id.0, secret_key.0.expose());
        let sealed_dedup = seal_dedup(&wrap, repository, name, dedup);
        Self { at: dedup.at, public_key, sealed_secret: sealed_secret.into_bytes(), sealed_dedup }
    }

    /// Recovers the domain's name and dedup secret with the reader key.
    ///
    /// # Errors
    /// When the record was not sealed for this reader key.
    pub fn open_dedup(
        &self,
        repository: RepositoryId,
        reader: &ReaderKey,
    ) -> Result<(String, DedupSecret), FormatError> {
        open_dedup(&reader.wrapping_key(repository), repository, self.at, &self.sealed_dedup)
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
            e.map(6)?.u8(0)?.bytes(&self.repository.0)?.u8(1)?.u64(self.counter)?;
            e.u8(2)?.array(self.domains.len() as u64)?;
            for domain in &self.domains {
                e.map(5)?.u8(0)?.bytes(&domain.at.domain.0)?.u8(1)?.u32(domain.at.epoch)?;
                e.u8(2)?.bytes(domain.public_key.as_bytes())?;
                e.u8(3)?.bytes(&domain.sealed_secret)?.u8(4)?.bytes(&domain.sealed_dedup)?;
            }
            write_array(e.u8(3)?, &self.writers, write_writer)?;
            e.u8(4)?.array(self.erased.len() as u64)?;
            for erased in &self.erased {
                e.array(3)?.bytes(&erased.at.domain.0)?.u32(erased.at.epoch)?.i64(erased.when.seconds)?;
            }
            e.u8(5)?.array(self.slots.len() as u64)?;
            for slot in &self.slots {
                e.array(4)?.bytes(&slot.id.0)?.u64(slot.role)?.bytes(&slot.hash)?.bytes(&slot.sealed_name)?;
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
        Self::decode_payload(payload, repository)
    }

    /// Decodes what a keyring's signature is over, which nothing may be told of before that was checked.
    ///
    /// # Errors
    /// [`FormatError`] when it is not one, or is another repository's.
    pub fn decode_payload(payload: &[u8], repository: RepositoryId) -> Result<Self, FormatError> {
        let (domains, writers, erased, slots) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut keyring = Keyring { repository, counter: 0, domains, writers, erased, slots };
        let mut stated = None;
        read_map(WHAT, &mut Decoder::new(payload), |key, d| {
            match key {
                0 => stated = Some(RepositoryId(read_bytes(d)?)),
                1 => keyring.counter = d.u64()?,
                2 => keyring.domains = read_array(d, read_domain)?,
                3 => keyring.writers = read_array(d, read_writer)?,
                4 => keyring.erased = read_array(d, read_erased)?,
                5 => keyring.slots = read_array(d, read_slot)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if stated != Some(repository) {
            return Err(FormatError::invalid(WHAT, "it is another repository's"));
        }
        let mut ids: Vec<WriterId> = keyring.writers.iter().map(|writer| writer.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|two| two[0] == two[1]) {
            return Err(FormatError::invalid(WHAT, "two writers have the same id"));
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

fn read_erased(d: &mut Decoder<'_>) -> Result<Erased, minicbor::decode::Error> {
    expect_array(d, 3)?;
    let at = DomainEpoch { domain: DomainId(read_bytes(d)?), epoch: d.u32()? };
    Ok(Erased { at, when: Timestamp::from_seconds(d.i64()?) })
}

fn read_slot(d: &mut Decoder<'_>) -> Result<SlotRecord, minicbor::decode::Error> {
    expect_array(d, 4)?;
    let (id, role, hash) = (SlotId(read_bytes(d)?), d.u64()?, read_bytes(d)?);
    Ok(SlotRecord { id, role, hash, sealed_name: d.bytes()?.to_vec() })
}
