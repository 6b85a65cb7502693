//! Writers in the keyring: hosts that back up with keys of their own, what they may do, and whether they still may.

use minicbor::{Decoder, Encoder};

use crate::crypto::derive::{DedupSecret, ReaderKey, WriterKey};
use crate::crypto::sign::VerifyingKey;
use crate::format::FormatError;
use crate::format::dedup::{open_dedup, seal_dedup};
use crate::format::name::{open_name, seal_name};
use crate::format::object::KEYRING;
use crate::format::wire::{EncodeResult, encode_record, expect_array, read_array, read_bytes, read_map, write_array};
use crate::model::id::{DomainEpoch, DomainId, RepositoryId, WriterId};

const WHAT: &str = KEYRING.0.what;

/// A writer. What was sealed for it was sealed to a key that is in its slot alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterRecord {
    /// The writer.
    pub id: WriterId,
    /// Checks its signatures.
    pub verifying_key: VerifyingKey,
    /// Whether it was thrown out: nothing that it writes counts any more.
    pub is_revoked: bool,
    /// The writers that trust each other's index; alone without one.
    pub group: Option<u64>,
    sealed_name: Vec<u8>,
    sealed_dedups: Vec<(DomainEpoch, Vec<u8>)>,
}

/// What readers alone know of a writer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriterName {
    /// What people call it.
    pub name: String,
    /// The hosts that its snapshots may state; any when there are none.
    pub hosts: Vec<String>,
}

impl WriterName {
    /// Tells whether a snapshot of this writer may be of `host`.
    pub fn may_state(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|allowed| allowed == host)
    }
}

impl WriterRecord {
    /// Describes a new writer, which may not write to any domain yet.
    pub fn new(
        repository: RepositoryId,
        reader: &ReaderKey,
        id: WriterId,
        writer: &WriterKey,
        name: &WriterName,
        group: Option<u64>,
    ) -> Self {
        let value = encode_record(|r| {
            r.field(0, |e| e.str(&name.name));
            r.field(1, |e| write_array(e, &name.hosts, |e, host| e.str(host).map(drop)));
        });
        let sealed_name = seal_name(repository, reader, id.0, &value);
        let verifying_key = writer.verifying_key(repository);
        Self { id, verifying_key, is_revoked: false, group, sealed_name, sealed_dedups: Vec::new() }
    }

    /// Lets the writer, whose key is `writer`, write to a domain's epoch.
    pub fn grant(&mut self, repository: RepositoryId, writer: &WriterKey, name: &str, dedup: &DedupSecret) {
        let sealed = seal_dedup(&writer.wrapping_key(repository), repository, name, dedup);
        self.sealed_dedups.retain(|(at, _)| *at != dedup.at);
        self.sealed_dedups.push((dedup.at, sealed));
    }

    /// Takes a grant back, which no program does: whoever was let in once keeps what it was told.
    #[cfg(feature = "internals")]
    pub fn withdraw(&mut self, at: DomainEpoch) {
        self.sealed_dedups.retain(|(granted, _)| *granted != at);
    }

    /// Returns what it may write to.
    pub fn granted(&self) -> impl Iterator<Item = DomainEpoch> + '_ {
        self.sealed_dedups.iter().map(|(at, _)| *at)
    }

    /// Tells whether it may write to a domain's epoch.
    pub fn may_write(&self, at: DomainEpoch) -> bool {
        self.granted().any(|granted| granted == at)
    }

    /// Recovers names and dedup secrets of all that it may write to, with the writer's key.
    ///
    /// # Errors
    /// When they were not sealed for this key.
    pub fn open_dedups(
        &self,
        repository: RepositoryId,
        writer: &WriterKey,
    ) -> Result<Vec<(String, DedupSecret)>, FormatError> {
        let wrap = writer.wrapping_key(repository);
        self.sealed_dedups.iter().map(|(at, sealed)| open_dedup(&wrap, repository, *at, sealed)).collect()
    }

    /// Recovers the writer's name and hosts with the reader key.
    ///
    /// # Errors
    /// When they were not sealed for this reader key.
    pub fn open_name(&self, repository: RepositoryId, reader: &ReaderKey) -> Result<WriterName, FormatError> {
        let plain = open_name(repository, reader, self.id.0, &self.sealed_name)?;
        let mut name = WriterName::default();
        read_map(WHAT, &mut Decoder::new(&plain), |key, d| {
            match key {
                0 => name.name = d.str()?.to_owned(),
                1 => name.hosts = read_array(d, |d| d.str().map(str::to_owned))?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(name)
    }
}

/// Writes a record into the keyring.
pub(super) fn write_writer(e: &mut Encoder<&mut Vec<u8>>, writer: &WriterRecord) -> EncodeResult {
    e.map(4 + u64::from(writer.is_revoked) + u64::from(writer.group.is_some()))?;
    e.u8(0)?.bytes(&writer.id.0)?.u8(1)?.bytes(&writer.verifying_key.0)?.u8(2)?.bytes(&writer.sealed_name)?;
    write_array(e.u8(3)?, &writer.sealed_dedups, |e, (at, sealed)| {
        e.array(3)?.bytes(&at.domain.0)?.u32(at.epoch)?.bytes(sealed).map(drop)
    })?;
    if writer.is_revoked {
        e.u8(4)?.u8(1)?;
    }
    if let Some(group) = writer.group {
        e.u8(5)?.u64(group)?;
    }
    Ok(())
}

/// Reads a record of the keyring.
pub(super) fn read_writer(d: &mut Decoder<'_>) -> Result<WriterRecord, minicbor::decode::Error> {
    let (mut id, mut verifying_key, mut is_revoked, mut group) = (None, None, false, None);
    let (mut sealed_name, mut sealed_dedups) = (Vec::new(), Vec::new());
    for _ in 0..d.map()?.unwrap_or(0) {
        match d.u64()? {
            0 => id = Some(WriterId(read_bytes(d)?)),
            1 => verifying_key = Some(VerifyingKey(read_bytes(d)?)),
            2 => sealed_name = d.bytes()?.to_vec(),
            3 => sealed_dedups = read_array(d, read_dedup)?,
            4 => is_revoked = d.u64()? != 0,
            5 => group = Some(d.u64()?),
            _ => d.skip()?,
        }
    }
    match (id.filter(|id| id.0 != [0; WriterId::LEN]), verifying_key) {
        (Some(id), Some(verifying_key)) => {
            Ok(WriterRecord { id, verifying_key, is_revoked, group, sealed_name, sealed_dedups })
        }
        _ => Err(minicbor::decode::Error::message("a writer lacks its id or verifying key")),
    }
}

fn read_dedup(d: &mut Decoder<'_>) -> Result<(DomainEpoch, Vec<u8>), minicbor::decode::Error> {
    expect_array(d, 3)?;
    let at = DomainEpoch { domain: DomainId(read_bytes(d)?), epoch: d.u32()? };
    Ok((at, d.bytes()?.to_vec()))
}
