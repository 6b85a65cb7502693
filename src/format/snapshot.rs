//! Snapshots: a session header, so that the manifest can be read from itself, and the sealed manifest.

use minicbor::Decoder;

use crate::crypto::seal::Sealed;
use crate::crypto::session::{SESSION_HEADER_LEN, SessionHeader};
use crate::format::FormatError;
use crate::format::wire::{Cursor, encode, expect_array, read_array, read_bytes, read_map};
use crate::model::id::ChunkId;
use crate::model::snapshot::{MissingStream, Snapshot, SnapshotCounts, SnapshotId, TreeRoot};
use crate::model::time::Timestamp;

const WHAT: &str = "a snapshot";
const MARK: &[u8; 8] = b"coffreS\x01";

/// Joins a snapshot object.
pub fn join_snapshot_object(header: &SessionHeader, envelope: &Sealed) -> Vec<u8> {
    [MARK.as_slice(), &header.to_bytes(), &**envelope].concat()
}

/// Splits a snapshot object into its session header and the sealed manifest.
///
/// # Errors
/// [`FormatError`] when it is not a snapshot object.
pub fn split_snapshot_object(bytes: &[u8]) -> Result<(SessionHeader, &[u8]), FormatError> {
    let mut cursor = Cursor::new(WHAT, bytes);
    cursor.mark(MARK)?;
    let header = SessionHeader::from_bytes(&cursor.array::<SESSION_HEADER_LEN>()?);
    Ok((header, cursor.rest()))
}

/// Encodes the manifest's value.
pub fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    encode(|e| {
        e.map(13 + u64::from(!snapshot.missing.is_empty()))?
            .u8(0)?
            .u64(1)?
            .u8(1)?
            .array(2)?
            .i64(snapshot.started.seconds)?
            .u32(snapshot.started.nanos)?;
        e.u8(2)?.array(2)?.i64(snapshot.finished.seconds)?.u32(snapshot.finished.nanos)?;
        e.u8(3)?.str(&snapshot.host)?.u8(4)?.str(&snapshot.user)?.u8(5)?.str(&snapshot.job)?;
        e.u8(6)?.array(snapshot.tags.len() as u64)?;
        snapshot.tags.iter().try_for_each(|tag| e.str(tag).map(|_| ()))?;
        e.u8(7)?.array(snapshot.sources.len() as u64)?;
        snapshot.sources.iter().try_for_each(|source| e.bytes(source).map(|_| ()))?;
        e.u8(8)?.str(&snapshot.program)?.u8(9)?.array(2)?.bytes(&snapshot.root.id.0)?.u8(snapshot.root.depth)?;
        let c = &snapshot.counts;
        e.u8(10)?.array(8)?;
        for count in [c.files, c.directories, c.streams, c.others, c.bytes, c.new_bytes, c.stored_bytes, c.unreadable] {
            e.u64(count)?;
        }
        e.u8(11)?;
        match snapshot.parent {
            Some(parent) => e.str(&parent.object_name())?,
            None => e.null()?,
        };
        e.u8(12)?.bytes(&snapshot.session.0)?;
        if !snapshot.missing.is_empty() {
            e.u8(13)?.array(snapshot.missing.len() as u64)?;
            snapshot.missing.iter().try_for_each(|it| e.array(2)?.str(&it.name)?.str(&it.why).map(|_| ()))?;
        }
        Ok(())
    })
}

/// Decodes an opened manifest. `id` and the header's session and domain are what the object's name and header say.
///
/// # Errors
/// [`FormatError`] when it is not a manifest, or names another session than its header.
pub fn decode_snapshot(id: SnapshotId, header: &SessionHeader, bytes: &[u8]) -> Result<Snapshot, FormatError> {
    let (mut version, mut root, mut session) = (0, None, None);
    let mut snapshot = Snapshot {
        id,
        session: header.session,
        domain: header.at.domain,
        started: Timestamp::default(),
        finished: Timestamp::default(),
        host: String::new(),
        user: String::new(),
        job: String::new(),
        tags: Vec::new(),
        sources: Vec::new(),
        program: String::new(),
        parent: None,
        root: TreeRoot { id: ChunkId([0; 32]), depth: 0 },
        counts: SnapshotCounts::default(),
        missing: Vec::new(),
    };
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
            10 => {
                expect_array(d, 8)?;
                snapshot.counts = SnapshotCounts {
                    files: d.u64()?,
                    directories: d.u64()?,
                    streams: d.u64()?,
                    others: d.u64()?,
                    bytes: d.u64()?,
                    new_bytes: d.u64()?,
                    stored_bytes: d.u64()?,
                    unreadable: d.u64()?,
                };
            }
            11 => {
                if d.datatype()? == minicbor::data::Type::Null {
                    d.null()?;
                } else {
                    snapshot.parent = SnapshotId::from_object_name(d.str()?);
                }
            }
            12 => session = Some(read_bytes::<16>(d)?),
            13 => {
                snapshot.missing = read_array(d, |d| {
                    expect_array(d, 2)?;
                    Ok(MissingStream { name: d.str()?.to_owned(), why: d.str()?.to_owned() })
                })?;
            }
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
    Ok(snapshot)
}

fn read_time(d: &mut Decoder<'_>) -> Result<Timestamp, minicbor::decode::Error> {
    expect_array(d, 2)?;
    Ok(Timestamp { seconds: d.i64()?, nanos: d.u32()?.min(999_999_999) })
}
