//! A session's lease: who runs, since when, and until when to believe it.

use minicbor::Decoder;

use crate::format::FormatError;
use crate::format::object::LEASE;
use crate::format::wire::{encode_record, read_map};
use crate::model::time::Timestamp;

const WHAT: &str = LEASE.0.what;

/// A running operation's claim to be alive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lease {
    /// Host it runs on.
    pub host: String,
    /// What it does: `backup`, `prune`, `verify`.
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
        encode_record(|r| {
            r.field(0, |e| e.str(&self.host)).field(1, |e| e.str(&self.operation));
            r.field(2, |e| e.i64(self.started.seconds)).field(3, |e| e.i64(self.renewed.seconds));
            r.field(4, |e| e.i64(self.expires.seconds)).field(5, |e| e.u64(self.index_segments));
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
