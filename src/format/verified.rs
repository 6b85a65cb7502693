//! Records of verifications as objects: sealed for readers, who alone can verify.

use minicbor::Decoder;

use crate::crypto::derive::ReaderKey;
use crate::crypto::seal::{Purpose, open_envelope, seal_envelope};
use crate::format::FormatError;
use crate::format::object::VERIFIED;
use crate::format::wire::{encode_record, expect_array, read_array, read_bytes, read_items, read_map};
use crate::model::id::{PackId, RepositoryId};
use crate::model::time::Timestamp;
use crate::model::verified::{Verified, VerifiedId};

const WHAT: &str = VERIFIED.0.what;

/// Seals a record into its object.
pub fn seal_verified(reader: &ReaderKey, repository: RepositoryId, id: VerifiedId, record: &Verified) -> Vec<u8> {
    let root = reader.wrapping_key(repository);
    let envelope = seal_envelope(&root, repository, Purpose::Verified, &id.to_bytes(), &encode_verified(record));
    VERIFIED.join(&envelope)
}

/// Opens the object of the record `id`.
///
/// # Errors
/// [`FormatError`] says what is wrong with it.
pub fn open_verified(
    reader: &ReaderKey,
    repository: RepositoryId,
    id: VerifiedId,
    object: &[u8],
) -> Result<Verified, FormatError> {
    let envelope = VERIFIED.split(object)?;
    let root = reader.wrapping_key(repository);
    let value = open_envelope(&root, repository, Purpose::Verified, &id.to_bytes(), envelope)
        .map_err(|error| FormatError::invalid(WHAT, error))?;
    decode_verified(&value)
}

/// Encodes a record's value.
pub fn encode_verified(record: &Verified) -> Vec<u8> {
    encode_record(|r| {
        r.field(0, |e| e.i64(record.finished.seconds));
        r.field(1, |e| e.str(&record.host)).field(2, |e| e.str(&record.program));
        r.field_if(3, record.cursor, |e, cursor| e.bytes(&cursor.0));
        r.field(4, |e| e.u8(u8::from(record.is_complete)));
        r.field(5, |e| {
            e.array(record.read.len() as u64)?;
            for (when, packs) in &record.read {
                let ids: Vec<u8> = packs.iter().flat_map(|pack| pack.0).collect();
                e.array(2)?.i64(when.seconds)?.bytes(&ids)?;
            }
            Ok(e)
        });
    })
}

/// Decodes an opened value.
///
/// # Errors
/// [`FormatError`] when it is not a record.
pub fn decode_verified(bytes: &[u8]) -> Result<Verified, FormatError> {
    let mut record = Verified::default();
    read_map(WHAT, &mut Decoder::new(bytes), |key, d| {
        match key {
            0 => record.finished = Timestamp::from_seconds(d.i64()?),
            1 => record.host = d.str()?.to_owned(),
            2 => record.program = d.str()?.to_owned(),
            3 => record.cursor = Some(PackId(read_bytes(d)?)),
            4 => record.is_complete = d.u64()? == 1,
            5 => record.read = read_array(d, read_packs)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(record)
}

fn read_packs(d: &mut Decoder<'_>) -> Result<(Timestamp, Vec<PackId>), minicbor::decode::Error> {
    expect_array(d, 2)?;
    let when = Timestamp::from_seconds(d.i64()?);
    Ok((when, read_items(d, PackId)?))
}
