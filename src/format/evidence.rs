//! Records of runs as values: sealed like snapshots, so that whoever may write puts them, and readers alone read them.

use minicbor::Decoder;

use crate::format::FormatError;
use crate::format::object::EVIDENCE;
use crate::format::snapshot::read_time;
use crate::format::wire::{encode_record, read_bytes, read_map};
use crate::model::outcome::Outcome;
use crate::model::run::{RunId, RunKind, RunRecord};
use crate::model::snapshot::SnapshotId;

const WHAT: &str = EVIDENCE.what();

/// Encodes a record's value.
pub fn encode_run(record: &RunRecord) -> Vec<u8> {
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    encode_record(|r| {
        r.field(0, |e| e.str(record.kind.name()));
        for (key, time) in [(1, record.started), (2, record.finished)] {
            r.field(key, |e| e.array(2)?.i64(time.seconds)?.u32(time.nanos));
        }
        r.field(3, |e| e.str(&record.host));
        r.field_if(4, text(&record.job), |e, job| e.str(&job));
        r.field(5, |e| e.str(&record.program));
        r.field(6, |e| e.u8(record.exit_code)).field(7, |e| e.str(&record.outcome));
        r.field_if(8, text(&record.why), |e, why| e.str(&why));
        r.field_if(9, record.snapshot, |e, snapshot| e.bytes(&snapshot.to_bytes()));
        r.field_if(10, Some(&record.counts).filter(|counts| !counts.is_empty()), |e, counts| {
            e.map(counts.len() as u64)?;
            for (name, count) in counts {
                e.str(name)?.u64(*count)?;
            }
            Ok(e)
        });
        r.field_if(11, record.before, |e, (id, digest)| e.bytes(&[&id.to_bytes()[..], &digest].concat()));
    })
}

/// Decodes an opened value; `id` is what the object's name says.
///
/// # Errors
/// [`FormatError`] when it is not a record, or another second than that of its end stands in its name.
pub fn decode_run(id: RunId, bytes: &[u8]) -> Result<RunRecord, FormatError> {
    let mut record = RunRecord::new(RunKind::Other(String::new()), <_>::default(), String::new(), Outcome::Failed);
    let mut kind = None;
    read_map(WHAT, &mut Decoder::new(bytes), |key, d| {
        match key {
            0 => kind = Some(RunKind::of_name(d.str()?)),
            1 => record.started = read_time(d)?,
            2 => record.finished = read_time(d)?,
            3 => record.host = d.str()?.to_owned(),
            4 => record.job = d.str()?.to_owned(),
            5 => record.program = d.str()?.to_owned(),
            6 => record.exit_code = d.u8()?,
            7 => record.outcome = d.str()?.to_owned(),
            8 => record.why = d.str()?.to_owned(),
            9 => record.snapshot = Some(SnapshotId::from_bytes(read_bytes(d)?)),
            10 => read_counts(d, &mut record)?,
            11 => record.before = Some(read_before(d)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    record.kind = kind.ok_or_else(|| FormatError::invalid(WHAT, "it does not say what ran"))?;
    if record.finished.seconds != id.time().seconds {
        return Err(FormatError::invalid(WHAT, "its end is not that of its name"));
    }
    Ok(record)
}

fn read_counts(d: &mut Decoder<'_>, record: &mut RunRecord) -> Result<(), minicbor::decode::Error> {
    let Some(len) = d.map()? else { return Err(minicbor::decode::Error::message("a map without length")) };
    for _ in 0..len {
        let name = d.str()?.to_owned();
        record.counts.insert(name, d.u64()?);
    }
    Ok(())
}

fn read_before(d: &mut Decoder<'_>) -> Result<(RunId, [u8; 32]), minicbor::decode::Error> {
    let bytes = read_bytes::<48>(d)?;
    let (id, digest) = bytes.split_first_chunk().expect("48 bytes");
    Ok((RunId::from_bytes(*id), digest.try_into().expect("32 bytes")))
}
