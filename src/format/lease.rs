//! A session's lease: who runs, since when, and until when to believe it.

use minicbor::Decoder;

use crate::crypto::seal::Sealed;
use crate::format::FormatError;
use crate::format::wire::{Cursor, encode, read_map};
use crate::model::id::{DomainEpoch, DomainId};
use crate::model::time::Timestamp;

const WHAT: &str = "a lease";
const MARK: &[u8; 8] = b"coffreL\x01";

/// A running operation's claim to be alive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lease {
    /// Host it runs on.
    pub host: String,
    /// What it does: `backup`, `prune`.
    pub operation: String,
    /// When it started.
    pub started: Timestamp,
    /// When it was last renewed.
    pub renewed: Timestamp,
    /// After this time it counts as dead.
    pub expires: Timestamp,
    /// Number of index segments it saw at its start.
    pub index_segments: u64,
}

impl Lease {
    /// Encodes the value that is sealed under the index key.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| {
            e.map(6)?.u8(0)?.str(&self.host)?.u8(1)?.str(&self.operation)?.u8(2)?.i64(self.started.seconds)?;
            e.u8(3)?.i64(self.renewed.seconds)?.u8(4)?.i64(self.expires.seconds)?.u8(5)?.u64(self.index_segments)?;
            Ok(())
        })
    }

    /// Decodes an opened value.
    ///
    /// # Errors
    /// [`FormatError`] when it is not a lease.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut lease = Lease::default();
        read_map(WHAT, &mut Decoder::new(bytes), |key, d| {
            match key {
                0 => lease.host = d.str()?.to_owned(),
                1 => lease.operation = d.str()?.to_owned(),
                2 => lease.started = Timestamp::from_seconds(d.i64()?),
                3 => lease.renewed = Timestamp::from_seconds(d.i64()?),
                4 => lease.expires = Timestamp::from_seconds(d.i64()?),
                5 => lease.index_segments = d.u64()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(lease)
    }
}

/// Puts the mark and the domain's key epoch before a sealed lease.
pub fn join_lease_object(at: DomainEpoch, envelope: &Sealed) -> Vec<u8> {
    join_domain_object(MARK, at, envelope)
}

/// Splits a lease object into the domain's key epoch and the sealed lease.
///
/// # Errors
/// [`FormatError`] when it is not a lease object.
pub fn split_lease_object(bytes: &[u8]) -> Result<(DomainEpoch, &[u8]), FormatError> {
    split_domain_object(WHAT, MARK, bytes)
}

/// Mark, domain, epoch, envelope: the form of objects that are sealed under a domain's index key.
pub(crate) fn join_domain_object(mark: &[u8; 8], at: DomainEpoch, envelope: &Sealed) -> Vec<u8> {
    [mark.as_slice(), &at.domain.0, &at.epoch.to_le_bytes(), &**envelope].concat()
}

pub(crate) fn split_domain_object<'a>(
    what: &'static str,
    mark: &[u8; 8],
    bytes: &'a [u8],
) -> Result<(DomainEpoch, &'a [u8]), FormatError> {
    let mut cursor = Cursor::new(what, bytes);
    cursor.mark(mark)?;
    let at = DomainEpoch { domain: DomainId(cursor.array()?), epoch: cursor.u32()? };
    Ok((at, cursor.rest()))
}
