//! Records of retention as objects: sealed for readers, who alone may forget.

use minicbor::Decoder;
use minicbor::decode::Error;

use crate::crypto::derive::ReaderKey;
use crate::crypto::seal::{Purpose, open_envelope, seal_envelope};
use crate::format::FormatError;
use crate::format::cleanup::{read_removed, removed_bytes};
use crate::format::object::RETENTION;
use crate::format::wire::{encode_record, expect_array, read_array, read_bytes, read_items, read_map, write_array};
use crate::model::cleanup::RemovedSnapshot;
use crate::model::forgetting::{RetentionId, RetentionRecord};
use crate::model::hold::{Forgotten, Hold};
use crate::model::id::RepositoryId;
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;

const WHAT: &str = RETENTION.0.what;

/// Seals a record into its object.
pub fn seal_retention(
    reader: &ReaderKey,
    repository: RepositoryId,
    id: RetentionId,
    record: &RetentionRecord,
) -> Vec<u8> {
    let root = reader.wrapping_key(repository);
    let envelope = seal_envelope(&root, repository, Purpose::Retention, &id.to_bytes(), &encode_retention(record));
    RETENTION.join(&envelope)
}

/// Opens the object of the record `id`.
///
/// # Errors
/// [`FormatError`] says what is wrong with it.
pub fn open_retention(
    reader: &ReaderKey,
    repository: RepositoryId,
    id: RetentionId,
    object: &[u8],
) -> Result<RetentionRecord, FormatError> {
    let envelope = RETENTION.split(object)?;
    let root = reader.wrapping_key(repository);
    let value = open_envelope(&root, repository, Purpose::Retention, &id.to_bytes(), envelope)
        .map_err(|error| FormatError::invalid(WHAT, error))?;
    decode_retention(&value)
}

/// Encodes a record's value.
pub fn encode_retention(record: &RetentionRecord) -> Vec<u8> {
    let ids = |ids: &[SnapshotId]| some(ids.iter().flat_map(SnapshotId::to_bytes).collect());
    let (brought_back, released) = (ids(&record.brought_back), ids(&record.released));
    let given_up = some(record.given_up.iter().flat_map(|id| id.to_bytes()).collect());
    let forgotten = Some(&record.forgotten).filter(|forgotten| !forgotten.is_empty());
    let held = Some(&record.held).filter(|held| !held.is_empty());
    encode_record(|r| {
        r.field(0, |e| e.i64(record.made.seconds));
        r.field(1, |e| e.str(&record.host)).field(2, |e| e.str(&record.program));
        r.field_if(3, some(record.before.concat()), |e, digests| e.bytes(&digests));
        r.field_if(4, record.is_complete.then_some(1), |e, it| e.u8(it));
        r.field_if(5, forgotten, |e, forgotten| {
            write_array(e, forgotten, |e, (removed, it)| {
                e.array(3)?.bytes(&removed_bytes(removed))?.i64(it.when.seconds)?.str(&it.reason).map(drop)
            })
        });
        r.field_if(6, brought_back, |e, ids| e.bytes(&ids));
        r.field_if(7, held, |e, held| {
            write_array(e, held, |e, (id, it)| {
                e.array(4)?.bytes(&id.to_bytes())?.i64(it.when.seconds)?.str(&it.reason)?;
                match it.until {
                    Some(until) => e.i64(until.seconds).map(drop),
                    None => e.null().map(drop),
                }
            })
        });
        r.field_if(8, released, |e, ids| e.bytes(&ids)).field_if(9, given_up, |e, ids| e.bytes(&ids));
    })
}

fn some(bytes: Vec<u8>) -> Option<Vec<u8>> {
    Some(bytes).filter(|bytes| !bytes.is_empty())
}

/// Decodes an opened value.
///
/// # Errors
/// [`FormatError`] when it is not a record.
pub fn decode_retention(bytes: &[u8]) -> Result<RetentionRecord, FormatError> {
    let mut record = RetentionRecord::default();
    read_map(WHAT, &mut Decoder::new(bytes), |key, d| {
        match key {
            0 => record.made = seconds(d)?,
            1 => record.host = d.str()?.to_owned(),
            2 => record.program = d.str()?.to_owned(),
            3 => record.before = read_items(d, |digest| digest)?,
            4 => record.is_complete = d.u64()? == 1,
            5 => record.forgotten = read_array(d, read_forgotten)?,
            6 => record.brought_back = read_items(d, SnapshotId::from_bytes)?,
            7 => record.held = read_array(d, read_hold)?,
            8 => record.released = read_items(d, SnapshotId::from_bytes)?,
            9 => record.given_up = read_items(d, RetentionId::from_bytes)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(record)
}

fn seconds(d: &mut Decoder<'_>) -> Result<Timestamp, Error> {
    Ok(Timestamp::from_seconds(d.i64()?))
}

fn read_forgotten(d: &mut Decoder<'_>) -> Result<(RemovedSnapshot, Forgotten), Error> {
    expect_array(d, 3)?;
    let removed = read_removed(read_bytes(d)?);
    Ok((removed, Forgotten { when: seconds(d)?, reason: d.str()?.to_owned() }))
}

fn read_hold(d: &mut Decoder<'_>) -> Result<(SnapshotId, Hold), Error> {
    expect_array(d, 4)?;
    let id = SnapshotId::from_bytes(read_bytes(d)?);
    let (when, reason) = (seconds(d)?, d.str()?.to_owned());
    let until = match d.datatype()? {
        minicbor::data::Type::Null => d.null().map(|()| None)?,
        _ => Some(seconds(d)?),
    };
    Ok((id, Hold { when, reason, until }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_round_trips_and_what_is_cut_off_is_refused() {
        let at = Timestamp::from_seconds;
        let id = |byte| SnapshotId::new(at(-1), [byte; 8]);
        let forgotten = [None, Some([9; 32])].map(|before| {
            let removed = RemovedSnapshot { id: id(1), digest: [8; 32], before };
            (removed, Forgotten { when: at(7), reason: "no rule keeps it".into() })
        });
        let held = [None, Some(at(-9))].map(|until| (id(2), Hold { when: at(8), reason: String::new(), until }));
        let record = RetentionRecord {
            made: at(9),
            host: "backup1".into(),
            program: "coffre".into(),
            before: vec![[1; 32], [2; 32]],
            is_complete: true,
            forgotten: forgotten.into(),
            brought_back: vec![id(3)],
            held: held.into(),
            released: vec![id(4), id(5)],
            given_up: vec![RetentionId::new(at(6), [6; 8])],
        };
        for record in [record, RetentionRecord::default()] {
            assert_eq!(decode_retention(&encode_retention(&record)), Ok(record));
        }
        for (key, len) in [(3, 31), (6, 15), (8, 17), (9, 1)] {
            let cut = encode_record(|r| {
                r.field(key, |e| e.bytes(&[1; 40][..len]));
            });
            assert!(decode_retention(&cut).is_err(), "{key}");
        }
        for (key, items) in [(5, 2), (5, 4), (7, 3), (7, 5)] {
            let wrong = encode_record(|r| {
                r.field(key, |e| {
                    e.array(1)?.array(items)?.bytes(&[1; 80][..if key == 5 { 80 } else { 16 }])?.i64(1)?.str("")?;
                    for _ in 3..items {
                        e.null()?;
                    }
                    Ok(e)
                });
            });
            assert!(decode_retention(&wrong).is_err(), "{key}: {items}");
        }
    }
}
