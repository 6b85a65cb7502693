//! Snapshots: a session header, so that the manifest can be read from itself, and the sealed manifest.

use minicbor::Decoder;

use crate::crypto::session::SessionHeader;
use crate::format::FormatError;
use crate::format::object::SNAPSHOT;
use crate::format::tree::DEPTH_MAX;
use crate::format::wire::{encode_record, expect_array, read_array, read_bytes, read_map, write_array};
use crate::model::anomaly::AnomalyKind;
use crate::model::author::Author;
use crate::model::id::ChunkId;
use crate::model::snapshot::{Anomaly, MissingStream, Snapshot, SnapshotCounts, SnapshotId, TreeRoot};
use crate::model::time::Timestamp;

const WHAT: &str = SNAPSHOT.0.what;

/// Encodes the manifest's value.
pub fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    let c = &snapshot.counts;
    let counts = [c.files, c.directories, c.streams, c.others, c.bytes, c.new_bytes, c.stored_bytes, c.unreadable];
    let missing = Some(&snapshot.missing).filter(|missing| !missing.is_empty());
    let anomalies = Some(&snapshot.anomalies).filter(|anomalies| !anomalies.is_empty());
    let epochs = Some(&snapshot.other_epochs).filter(|epochs| !epochs.is_empty());
    encode_record(|r| {
        r.field(0, |e| e.u64(1));
        for (key, time) in [(1, snapshot.started), (2, snapshot.finished)] {
            r.field(key, |e| e.array(2)?.i64(time.seconds)?.u32(time.nanos));
        }
        for (key, text) in [(3, &snapshot.host), (4, &snapshot.user), (5, &snapshot.job)] {
            r.field(key, |e| e.str(text));
        }
        r.field(6, |e| write_array(e, &snapshot.tags, |e, tag| e.str(tag).map(drop)));
        r.field(7, |e| write_array(e, &snapshot.sources, |e, source| e.bytes(source).map(drop)));
        r.field(8, |e| e.str(&snapshot.program));
        r.field(9, |e| e.array(2)?.bytes(&snapshot.root.id.0)?.u8(snapshot.root.depth));
        r.field(10, |e| write_array(e, &counts, |e, count| e.u64(*count).map(drop)));
        r.field(11, |e| match snapshot.parent {
            Some(parent) => e.str(&parent.object_name()),
            None => e.null(),
        });
        r.field(12, |e| e.bytes(&snapshot.session.0));
        r.field_if(13, missing, |e, missing| {
            write_array(e, missing, |e, it| e.array(2)?.str(&it.name)?.str(&it.why).map(drop))
        });
        r.field(14, |e| e.u64(snapshot.position.number));
        r.field_if(15, snapshot.position.before, |e, digest| e.bytes(&digest));
        r.field_if(16, snapshot.honoured, |e, honoured| e.u64(honoured));
        r.field_if(17, epochs, |e, epochs| write_array(e, epochs, |e, epoch| e.u32(*epoch).map(drop)));
        r.field_if(18, anomalies, |e, anomalies| {
            write_array(e, anomalies, |e, it| {
                e.array(4)?.str(it.kind.name())?.str(&it.subject)?.str(&it.why)?;
                match it.since {
                    Some(since) => e.str(&since.object_name())?,
                    None => e.null()?,
                };
                Ok(())
            })
        });
    })
}

/// Decodes an opened manifest. `id`, the header's session and domain, and `author` are what the object's name, its header and its
/// author block say.
///
/// # Errors
/// [`FormatError`] when it is not a manifest, or names another session than its header.
pub fn decode_snapshot(
    id: SnapshotId,
    header: &SessionHeader,
    author: Author,
    bytes: &[u8],
) -> Result<Snapshot, FormatError> {
    let (mut version, mut root, mut session, mut number) = (0, None, None, None);
    let mut snapshot = Snapshot::blank(id, header.session, header.at, author);
    read_map(WHAT, &mut Decoder::new(bytes), |key, d| {
        match key {
            0 => version = d.u64()?,
            1 => snapshot.started = read_time(d)?,
            2 => snapshot.finished = read_time(d)?,
            3 => snapshot.host = d.str()?.to_owned(),
            4 => snapshot.user = d.str()?.to_owned(),
            5 => snapshot.job = d.str()?.to_owned(),
            6 => snapshot.tags = read_array(d, |d| d.str().map(str::to_owned))?,
            7 => snapshot.sources = read_array(d, |d| d.bytes().map(<[u8]>::to_vec))?,
            8 => snapshot.program = d.str()?.to_owned(),
            9 => {
                expect_array(d, 2)?;
                root = Some(TreeRoot { id: ChunkId(read_bytes(d)?), depth: d.u8()? });
            }
            10 => snapshot.counts = read_counts(d)?,
            11 => snapshot.parent = read_name(d)?,
            12 => session = Some(read_bytes::<16>(d)?),
            13 => snapshot.missing = read_array(d, read_missing)?,
            14 => number = Some(d.u64()?),
            15 => snapshot.position.before = Some(read_bytes(d)?),
            16 => snapshot.honoured = Some(d.u64()?),
            17 => snapshot.other_epochs = read_array(d, |d| d.u32())?,
            18 => snapshot.anomalies = read_array(d, read_anomaly)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if version != 1 {
        return Err(FormatError::Newer { what: WHAT, version });
    }
    if session != Some(header.session.0) {
        return Err(FormatError::invalid(WHAT, "its session is not that of its header"));
    }
    snapshot.root = root.ok_or_else(|| FormatError::invalid(WHAT, "it has no tree"))?;
    if !(1..=DEPTH_MAX).contains(&snapshot.root.depth) {
        return Err(FormatError::invalid(WHAT, "its tree is not from 1 to 16 levels deep"));
    }
    snapshot.position.number = number.ok_or_else(|| FormatError::invalid(WHAT, "it has no number in its series"))?;
    if (snapshot.position.number == 0) != snapshot.position.before.is_none() {
        return Err(FormatError::invalid(WHAT, "the first of a series is the one that names none before it"));
    }
    if snapshot.started.seconds != id.time().seconds {
        return Err(FormatError::invalid(WHAT, "its start is not that of its name"));
    }
    Ok(snapshot)
}

fn read_counts(d: &mut Decoder<'_>) -> Result<SnapshotCounts, minicbor::decode::Error> {
    expect_array(d, 8)?;
    Ok(SnapshotCounts {
        files: d.u64()?,
        directories: d.u64()?,
        streams: d.u64()?,
        others: d.u64()?,
        bytes: d.u64()?,
        new_bytes: d.u64()?,
        stored_bytes: d.u64()?,
        unreadable: d.u64()?,
    })
}

fn read_name(d: &mut Decoder<'_>) -> Result<Option<SnapshotId>, minicbor::decode::Error> {
    if d.datatype()? == minicbor::data::Type::Null {
        d.null()?;
        return Ok(None);
    }
    Ok(SnapshotId::from_object_name(d.str()?))
}

fn read_missing(d: &mut Decoder<'_>) -> Result<MissingStream, minicbor::decode::Error> {
    expect_array(d, 2)?;
    Ok(MissingStream { name: d.str()?.to_owned(), why: d.str()?.to_owned() })
}

fn read_anomaly(d: &mut Decoder<'_>) -> Result<Anomaly, minicbor::decode::Error> {
    expect_array(d, 4)?;
    let (kind, subject, why) = (AnomalyKind::of_name(d.str()?), d.str()?.to_owned(), d.str()?.to_owned());
    Ok(Anomaly { kind, subject, why, since: read_name(d)? })
}

pub(super) fn read_time(d: &mut Decoder<'_>) -> Result<Timestamp, minicbor::decode::Error> {
    expect_array(d, 2)?;
    Ok(Timestamp { seconds: d.i64()?, nanos: d.u32()?.min(999_999_999) })
}
