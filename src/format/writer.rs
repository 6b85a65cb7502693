//! Writers in the keyring: hosts that back up with keys of their own, what they may do, and whether they still may.

use minicbor::{Decoder, Encoder};

use crate::crypto::derive::{DedupSecret, ReaderKey, WriterKey};
use crate::crypto::secret::Secret;
use crate::crypto::sign::VerifyingKey;
use crate::format::FormatError;
use crate::format::dedup::{open_dedup, seal_dedup};
use crate::format::name::{open_name, seal_name};
use crate::format::object::KEYRING;
use crate::format::wire::{
    EncodeResult, encode_secret, expect_array, read_array, read_bytes, read_map, read_secret, write_array,
};
use crate::model::id::{DomainEpoch, DomainId, RepositoryId, WriterId};

const WHAT: &str = KEYRING.0.what;
/// Bytes of what readers know of a writer, besides its name and hosts.
const ROOM: usize = 64;
/// Bytes that an encoded host takes besides its name.
const HOST_ROOM: usize = 9;

/// A writer. What is sealed for it is sealed to a key that comes from the one in its slot, and that readers know.
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
    /// For one that was thrown out: SHA-256 of the lists of cleaning up that say which of its snapshots count all the same.
    pub counting: Vec<[u8; 32]>,
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
        let wrap = writer.wrapping_key(repository);
        let room = name.hosts.iter().map(|host| host.len() + HOST_ROOM).sum::<usize>() + name.name.len() + ROOM;
        let value = encode_secret(room, |e| {
            write_array(e.map(3)?.u8(0)?.str(&name.name)?.u8(1)?, &name.hosts, |e, host| e.str(host).map(drop))?;
            e.u8(2)?.bytes(wrap.expose()).map(drop)
        });
        let sealed_name = seal_name(repository, reader, id.0, &value);
        let verifying_key = writer.verifying_key(repository);
        let (is_revoked, counting, sealed_dedups) = (false, Vec::new(), Vec::new());
        Self { id, verifying_key, is_revoked, group, counting, sealed_name, sealed_dedups }
    }

    /// Lets the writer write to a domain's epoch.
    ///
    /// # Errors
    /// When the record was not sealed for this reader key.
    pub fn grant(
        &mut self,
        repository: RepositoryId,
        reader: &ReaderKey,
        name: &str,
        dedup: &DedupSecret,
    ) -> Result<(), FormatError> {
        let (_, wrap) = self.open_known(repository, reader)?;
        let wrap = wrap.ok_or_else(|| FormatError::invalid(WHAT, "a writer without the key to which is sealed"))?;
        let sealed = seal_dedup(&wrap, repository, name, dedup);
        self.sealed_dedups.retain(|(at, _)| *at != dedup.at);
        self.sealed_dedups.push((dedup.at, sealed));
        Ok(())
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
        Ok(self.open_known(repository, reader)?.0)
    }

    /// Recovers what readers alone know: the name, and the key to which is sealed what the writer is to open.
    fn open_known(
        &self,
        repository: RepositoryId,
        reader: &ReaderKey,
    ) -> Result<(WriterName, Option<Secret>), FormatError> {
        let plain = open_name(repository, reader, self.id.0, &self.sealed_name)?;
        let (mut name, mut wrap) = (WriterName::default(), None);
        read_map(WHAT, &mut Decoder::new(&plain), |key, d| {
            match key {
                0 => name.name = d.str()?.to_owned(),
                1 => name.hosts = read_array(d, |d| d.str().map(str::to_owned))?,
                2 => wrap = Some(read_secret(d)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok((name, wrap))
    }
}

/// Writes a record into the keyring.
pub(super) fn write_writer(e: &mut Encoder<&mut Vec<u8>>, writer: &WriterRecord) -> EncodeResult {
    let optional = [writer.is_revoked, writer.group.is_some(), !writer.counting.is_empty()];
    e.map(4 + optional.into_iter().map(u64::from).sum::<u64>())?;
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
    if !writer.counting.is_empty() {
        write_array(e.u8(6)?, &writer.counting, |e, list| e.bytes(list).map(drop))?;
    }
    Ok(())
}

/// Reads a record of the keyring.
pub(super) fn read_writer(d: &mut Decoder<'_>) -> Result<WriterRecord, minicbor::decode::Error> {
    let (mut id, mut verifying_key, mut is_revoked, mut group) = (None, None, false, None);
    let (mut sealed_name, mut sealed_dedups, mut counting) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..d.map()?.unwrap_or(0) {
        match d.u64()? {
            0 => id = Some(WriterId(read_bytes(d)?)),
            1 => verifying_key = Some(VerifyingKey(read_bytes(d)?)),
            2 => sealed_name = d.bytes()?.to_vec(),
            3 => sealed_dedups = read_array(d, read_dedup)?,
            4 => is_revoked = d.u64()? != 0,
            5 => group = Some(d.u64()?),
            6 => counting = read_array(d, read_bytes)?,
            _ => d.skip()?,
        }
    }
    match (id.filter(|id| id.0 != [0; WriterId::LEN]), verifying_key) {
        (Some(id), Some(verifying_key)) => {
            Ok(WriterRecord { id, verifying_key, is_revoked, group, counting, sealed_name, sealed_dedups })
        }
        _ => Err(minicbor::decode::Error::message("a writer lacks its id or verifying key")),
    }
}

fn read_dedup(d: &mut Decoder<'_>) -> Result<(DomainEpoch, Vec<u8>), minicbor::decode::Error> {
    expect_array(d, 3)?;
    let at = DomainEpoch { domain: DomainId(read_bytes(d)?), epoch: d.u32()? };
    Ok((at, d.bytes()?.to_vec()))
}
