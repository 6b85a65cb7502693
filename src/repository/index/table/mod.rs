//! A sorted table of chunks in the local cache, searched through a memory map.
//!
//! A table is made once from index segments and never changed. It is the client's own file, not part of the repository
//! format, and is not believed over it: what is not as it was written is not there, and the table is made again ([`sound`]).
//!
//! ```text
//! header 96 | segment ids 16 each | session headers 1204 each | packs 112 each | frames 20 each
//!           | filter 64 a block | chunk keys 16 each, ascending | places 12 each | sums 8 for each page of 4096
//! ```
//!
//! The filter is a blocked Bloom filter of about 1.3 bytes a chunk, whose hash functions are the key's own random bits.
//! Keys are evenly spread, so interpolation finds one in a few steps however large the table.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use memmap2::{Advice, Mmap};

use crate::crypto::seal::COMMITMENT_LEN;
use crate::crypto::session::{SESSION_HEADER_LEN, SessionHeader};
use crate::format::index::PackEntry;
use crate::format::pack::{Codec, PackKind};
use crate::model::author::Author;
use crate::model::id::{ChunkKey, PackId, SegmentId};
use crate::repository::index::table::layout::{FRAME_LEN, KEY_LEN, Layout, PACK_LEN, PLACE_LEN, not_a_table, u32_at};
use crate::repository::index::table::sound::Looked;
#[cfg(any(test, feature = "internals"))]
pub use crate::repository::index::table::write::TableWriter;
pub use crate::repository::index::table::write::{merge_tables, write_table};

mod layout;
mod search;
mod sound;
mod write;

/// Rows read one after the other, of 28 bytes each, after which the pages of a large table are given back.
const ROWS_BEFORE_RELEASE: usize = 1 << 20;
/// Session headers kept decoded; there is one of 1204 bytes for each run.
const HEADERS_KEPT: usize = 256;

/// Where a chunk lies: a pack, a frame in it, a place in the frame's plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkPlace {
    /// The pack.
    pub pack: PackId,
    /// Who says so.
    pub author: Author,
    /// What the pack holds.
    pub kind: PackKind,
    /// Number of the frame in its pack.
    pub frame: u32,
    /// Offset of the sealed frame in the pack.
    pub frame_offset: u32,
    /// Length of the sealed frame.
    pub sealed_len: u32,
    /// Length of the frame's plaintext.
    pub plain_len: u32,
    /// How the plaintext was encoded.
    pub codec: Codec,
    /// Offset of the chunk in the plaintext, or of its recipe.
    pub offset: u32,
    /// Length of the chunk, or of its recipe.
    pub length: u32,
}

/// A frame as the index tells of it. Two segments may tell differently of one frame; what is known of it so says nothing of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FramePlace {
    /// The pack.
    pub pack: PackId,
    frame: u32,
    offset: u32,
    sealed_len: u32,
    plain_len: u32,
    codec: Codec,
}

impl ChunkPlace {
    /// Returns the place regardless of who says so: as a reader would.
    pub(crate) fn by_anybody(self) -> Self {
        Self { author: Author::Reader, ..self }
    }

    /// Tells whether another place is the same, whoever says so.
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.by_anybody() == other.by_anybody()
    }

    /// Tells whether a chunk of this length may lie there. How long one is that is made by a recipe, the recipe alone tells.
    pub fn may_be_of(&self, length: u32) -> bool {
        self.codec.holds_recipes() || self.length == length
    }

    /// Returns the frame.
    pub fn frame_place(&self) -> FramePlace {
        let Self { pack, frame, frame_offset: offset, sealed_len, plain_len, codec, .. } = *self;
        FramePlace { pack, frame, offset, sealed_len, plain_len, codec }
    }
}

/// What opening frames of a pack needs to know besides their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackInfo {
    /// The pack.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// Length of the object.
    pub size: u32,
    /// Number of frames.
    pub frames: u32,
    /// The commitment to its key.
    pub commitment: [u8; COMMITMENT_LEN],
    /// The session that wrote it.
    pub header: Arc<SessionHeader>,
    /// SHA-256 of the whole object.
    pub digest: [u8; 32],
    /// The day until which the store keeps it at least; 0 where nothing is known.
    pub locked_until: u32,
    /// Who says so.
    pub author: Author,
}

impl PackInfo {
    /// Tells whether another record says the same of the pack, whoever says it.
    pub fn tells_the_same(&self, other: &Self) -> bool {
        *self == Self { author: self.author, ..other.clone() }
    }

    /// Tells whether a record says what the pack says of itself, which is all but its digest, how long it is kept, and who says so.
    pub fn agrees(&self, own: &Self) -> bool {
        let Self { id, kind, size, frames, commitment, header, digest: _, locked_until: _, author: _ } = self;
        (id, kind, size, frames, commitment, header)
            == (&own.id, &own.kind, &own.size, &own.frames, &own.commitment, &own.header)
    }
}

impl PackEntry {
    /// Returns what a table keeps of the pack itself, as `author` tells of it.
    pub(crate) fn info(&self, author: Author) -> PackInfo {
        PackInfo {
            id: self.id,
            kind: self.kind,
            size: self.size,
            frames: self.directory.frames.len() as u32,
            commitment: self.commitment,
            header: self.header.clone(),
            digest: self.digest,
            locked_until: self.locked_until,
            author,
        }
    }
}

/// That a segment tells of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackTelling {
    /// The pack.
    pub pack: PackId,
    /// The segment.
    pub segment: SegmentId,
    /// Whose word it is.
    pub author: Author,
    /// Frames of the pack.
    pub frames: u32,
}

/// A table, mapped into memory.
pub struct Table {
    /// `None` for one that has no name, and goes with this value.
    path: Option<PathBuf>,
    map: Mmap,
    layout: Layout,
    /// `None` for one that this run has written.
    looked: Option<Looked>,
    /// Decoded headers by their place, at most [`HEADERS_KEPT`].
    sessions: Mutex<HashMap<usize, Arc<SessionHeader>>>,
    segments: Vec<SegmentId>,
    /// Pack ids with their rows, sorted, to find a pack by its id.
    packs: Vec<(PackId, u32)>,
    searches: AtomicUsize,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} segments, {} packs, {} chunks)", self.segments.len(), self.layout.packs, self.layout.chunks)
    }
}

/// One chunk on its way into a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The chunk.
    pub key: ChunkKey,
    /// Number of its frame among all frames of the table.
    pub frame: u32,
    /// Offset in the frame's plaintext.
    pub offset: u32,
    /// Length.
    pub length: u32,
}

impl Table {
    /// Opens a table that lies under a name. One whose head is not as it was written gives an error of kind `InvalidData`; what else
    /// is not is found when it is read, and is then not in the table. Such a table loses its name.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let looked = Looked::at_head(&file)?.ok_or_else(not_a_table)?;
        Self::mapped(&file, Some(path.to_path_buf()), Some(looked))
    }

    /// Maps a table that this process has just written.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when its numbers do not fit each other.
    pub fn map(file: &File, path: Option<PathBuf>) -> io::Result<Self> {
        Self::mapped(file, path, None)
    }

    fn mapped(file: &File, path: Option<PathBuf>, looked: Option<Looked>) -> io::Result<Self> {
        // SAFETY: tables are written under a temporary name, renamed and never changed; only this user may write there.
        let map = unsafe { Mmap::map(file)? };
        let layout = Layout::decode(&map, map.len()).ok_or_else(not_a_table)?;
        // Not fatal where the system cannot be advised.
        let _ = map.advise(Advice::Random);
        let segments = map[layout.segments_at()..layout.sessions_at()]
            .chunks_exact(SegmentId::LEN)
            .map(|id| SegmentId(id.try_into().expect("16 bytes")))
            .collect();
        let mut table = Self {
            path,
            map,
            layout,
            looked,
            sessions: Mutex::default(),
            segments,
            packs: Vec::with_capacity(layout.packs),
            searches: AtomicUsize::new(0),
        };
        for row in 0..layout.packs {
            let record = table.pack_record(row);
            if u32_at(record, 52) as usize >= layout.sessions || PackKind::from_byte(record[60]).is_none() {
                return Err(not_a_table());
            }
            table.packs.push((PackId(record[..16].try_into().expect("16 bytes")), row as u32));
        }
        table.packs.sort_unstable();
        Ok(table)
    }

    /// Returns where the table's file was when it was opened, if it had a name.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns the index segments that the table covers.
    pub fn segments(&self) -> &[SegmentId] {
        &self.segments
    }

    /// Returns the number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.layout.chunks
    }

    /// Returns the packs.
    pub fn packs(&self) -> impl Iterator<Item = PackInfo> + '_ {
        (0..self.layout.packs).map(|row| self.pack_at(row))
    }

    /// Returns the id and the length of every pack.
    pub fn pack_sizes(&self) -> impl Iterator<Item = (PackId, u32)> + '_ {
        self.packs.iter().map(|&(id, row)| (id, u32_at(self.pack_record(row as usize), 48)))
    }

    /// Returns what the segments tell of each pack, each with how long it is about.
    pub fn tellings(&self) -> impl Iterator<Item = PackTelling> + '_ {
        (0..self.layout.packs).filter_map(|row| {
            let record = self.pack_record(row);
            let pack = PackId(record[..16].try_into().expect("16 bytes"));
            let segment = *self.segments.get(self.segment_at(row))?;
            Some(PackTelling { pack, segment, author: author_in(record), frames: u32_at(record, 56) })
        })
    }

    /// Returns how long the segments are about, on average.
    pub fn segment_bytes(&self) -> u64 {
        let Layout { sessions, packs, frames, chunks, .. } = self.layout;
        let bytes = sessions * SESSION_HEADER_LEN + packs * 96 + frames * 8 + chunks * 18;
        (bytes / self.segments.len().max(1)) as u64
    }

    /// Finds a pack by its id: all that the table's segments tell of it, which is one record for each author unless one of them lies.
    pub fn pack(&self, id: PackId) -> impl Iterator<Item = PackInfo> + '_ {
        self.rows_of(id).map(|row| self.pack_at(row))
    }

    /// Returns everybody who knows a pack.
    pub fn authors(&self, id: PackId) -> impl Iterator<Item = Author> + '_ {
        self.rows_of(id).map(|row| author_in(self.pack_record(row)))
    }

    /// Returns where a pack's records stand.
    fn rows_of(&self, id: PackId) -> impl Iterator<Item = usize> + '_ {
        let first = self.packs.partition_point(|&(known, _)| known < id);
        self.packs[first..].iter().take_while(move |&&(known, _)| known == id).map(|&(_, row)| row as usize)
    }

    /// Returns how many chunks the table places in packs, and the plaintext bytes of those stored plain, leaving out packs for which
    /// `counts`, asked in the order of [`Table::packs`], says so. Reads the whole table if there are any.
    pub fn content(&self, mut counts: impl FnMut(PackId) -> bool) -> (u64, u64) {
        let ids = (0..self.layout.packs).map(|row| PackId(self.pack_record(row)[..16].try_into().expect("16 bytes")));
        let counted: Vec<bool> = ids.map(&mut counts).collect();
        let start = self.layout.frames_at();
        let frames = self.map[start..start + self.layout.frames * FRAME_LEN].as_chunks::<FRAME_LEN>().0;
        let is_counted = |frame: &[u8; FRAME_LEN]| counted.get(u32_at(frame, 0) as usize).copied().unwrap_or(true);
        let coded = frames.iter().filter(|frame| is_counted(frame)).map(|frame| u32_at(frame, 16));
        let is_plain = |coded: &u32| Codec::from_byte((coded >> 28) as u8).is_some_and(|codec| !codec.holds_recipes());
        let plain_bytes = coded.filter(is_plain).map(|coded| u64::from(coded & 0x0fff_ffff)).sum();
        let chunks = match counted.iter().all(|counts| *counts) {
            true => self.chunk_count(),
            false => self.rows().filter(|row| frames.get(row.frame as usize).is_none_or(is_counted)).count(),
        };
        (chunks as u64, plain_bytes)
    }

    /// Returns all rows in order of their keys, which are all that it was made with where it [is sound](Table::is_sound).
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (0..self.layout.chunks).filter_map(|i| {
            if i % ROWS_BEFORE_RELEASE == 0 {
                self.release();
            }
            self.row(i)
        })
    }

    /// Tells where a row's chunk lies; `None` when the table was written wrong.
    pub fn location(&self, row: &Row) -> Option<ChunkPlace> {
        let at = self.layout.frames_at() + row.frame as usize * FRAME_LEN;
        let frame = self.map.get(at..at + FRAME_LEN).filter(|_| (row.frame as usize) < self.layout.frames)?;
        let pack = u32_at(frame, 0) as usize;
        if pack >= self.layout.packs {
            return None;
        }
        let record = self.pack_record(pack);
        let coded = u32_at(frame, 16);
        let plain_len = coded & 0x0fff_ffff;
        if row.offset.checked_add(row.length)? > plain_len {
            return None;
        }
        Some(ChunkPlace {
            pack: PackId(record[..16].try_into().expect("16 bytes")),
            author: author_in(record),
            kind: PackKind::from_byte(record[60])?,
            frame: u32_at(frame, 4),
            frame_offset: u32_at(frame, 8),
            sealed_len: u32_at(frame, 12),
            plain_len,
            codec: Codec::from_byte((coded >> 28) as u8)?,
            offset: row.offset,
            length: row.length,
        })
    }

    fn key(&self, row: usize) -> Option<&[u8; KEY_LEN]> {
        let key = self.bytes(self.layout.keys_at() + row * KEY_LEN, KEY_LEN)?;
        Some(key.try_into().expect("16 bytes"))
    }

    /// Returns the row of a number; `None` where it is not as it was written.
    pub(crate) fn row(&self, i: usize) -> Option<Row> {
        let place = self.bytes(self.layout.places_at() + i * PLACE_LEN, PLACE_LEN)?;
        let [frame, offset, length] = [0, 4, 8].map(|at| u32_at(place, at));
        Some(Row { key: ChunkKey(*self.key(i)?), frame, offset, length })
    }

    /// Returns the number of the segment that tells of the pack in this row.
    fn segment_at(&self, row: usize) -> usize {
        u32_at(self.pack_record(row), 68) as usize
    }

    fn pack_record(&self, row: usize) -> &[u8] {
        &self.map[self.layout.packs_at() + row * PACK_LEN..][..PACK_LEN]
    }

    fn session(&self, place: usize) -> Arc<SessionHeader> {
        let mut kept = self.sessions.lock().expect("no panic while held");
        if let Some(header) = kept.get(&place) {
            return header.clone();
        }
        let bytes = &self.map[self.layout.sessions_at() + place * SESSION_HEADER_LEN..][..SESSION_HEADER_LEN];
        let header = Arc::new(SessionHeader::from_bytes(bytes.try_into().expect("a header's length")));
        if kept.len() >= HEADERS_KEPT {
            kept.clear();
        }
        kept.insert(place, header.clone());
        header
    }

    fn pack_at(&self, row: usize) -> PackInfo {
        let record = self.pack_record(row);
        PackInfo {
            id: PackId(record[..16].try_into().expect("16 bytes")),
            commitment: record[16..48].try_into().expect("32 bytes"),
            size: u32_at(record, 48),
            header: self.session(u32_at(record, 52) as usize),
            frames: u32_at(record, 56),
            kind: PackKind::from_byte(record[60]).expect("checked when opened"),
            locked_until: u32_at(record, 64),
            digest: record[72..104].try_into().expect("32 bytes"),
            author: author_in(record),
        }
    }
}

/// Reads who says what a pack's record says.
fn author_in(record: &[u8]) -> Author {
    Author::from_bytes(record[104..112].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::index::PackEntry;
    use crate::format::pack::{FrameRecord, PackDirectory};
    use crate::repository::index::table::layout::HEADER_LEN;

    fn pack(id: u8, keys: &[u8]) -> PackEntry {
        let chunks: Vec<_> = keys.iter().map(|key| (ChunkKey([*key; 16]), 10)).collect();
        let plain_len = 10 * chunks.len() as u32;
        PackEntry {
            id: PackId([id; 16]),
            kind: PackKind::Data,
            size: 5000,
            digest: [id ^ 0xff; 32],
            locked_until: u32::from(id),
            commitment: [id; 32],
            header: Arc::new(SessionHeader::from_bytes(&[id; SESSION_HEADER_LEN])),
            directory: PackDirectory {
                frames: vec![FrameRecord { sealed_len: 100, plain_len, codec: Codec::Stored, chunks }],
            },
        }
    }

    fn made(path: &Path) -> File {
        File::options().create(true).truncate(true).read(true).write(true).open(path).expect("made")
    }

    #[test]
    fn a_merged_table_has_every_place_of_a_chunk_that_was_stored_twice() {
        let directory = tempfile::tempdir().expect("made");
        let table = |name: &str, packs: &[PackEntry]| {
            let path = directory.path().join(name);
            write_table(&made(&path), &[SegmentId([packs[0].id.0[0]; 16])], Author::Reader, packs).expect("written");
            Arc::new(Table::open(&path).expect("a table"))
        };
        let (one, two) = (table("one", &[pack(1, &[7, 8, 9])]), table("two", &[pack(2, &[8]), pack(3, &[9, 8])]));
        let path = directory.path().join("merged");
        merge_tables(&made(&path), &[one, two]).expect("merged");
        let merged = Table::open(&path).expect("a table");

        let places = |key: u8| {
            let mut found: Vec<_> =
                merged.find_all(&ChunkKey([key; 16])).iter().map(|at| (at.pack.0[0], at.offset)).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(places(7), [(1, 0)]);
        assert_eq!(places(8), [(1, 10), (2, 0), (3, 10)]);
        assert_eq!(places(9), [(1, 20), (3, 0)]);
        assert_eq!(places(6), []);
        let placed = |pack: u8| {
            merged.rows().filter(|row| merged.location(row).is_some_and(|at| at.pack == PackId([pack; 16]))).count()
        };
        assert_eq!([1, 2, 3].map(placed), [3, 1, 2]);
    }

    #[test]
    fn a_table_with_any_byte_changed_is_none_or_lacks_what_stands_there_and_goes() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("one.table");
        let packs = [pack(1, &[7, 8, 9]), pack(2, &[10])];
        write_table(&made(&path), &[SegmentId([1; 16])], Author::Reader, &packs).expect("written");
        let whole = std::fs::read(&path).expect("there");
        let table = Table::open(&path).expect("a table");
        let told = |table: &Table| [7, 8, 9, 10].map(|key| table.find(&ChunkKey([key; 16])));
        let right = told(&table);
        assert!(right.iter().all(Option::is_some) && table.is_sound() && path.exists());
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&path, changed).expect("writable");
            match Table::open(&path) {
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {at} of {}", whole.len()),
                Ok(table) => {
                    let found = told(&table);
                    let agrees =
                        |(found, right): (&Option<ChunkPlace>, &Option<ChunkPlace>)| found.is_none() || found == right;
                    assert!(found.iter().zip(&right).all(agrees), "byte {at}: {found:?}");
                    assert!(!table.is_sound() && !path.exists(), "byte {at} of {}", whole.len());
                }
            }
        }
        for len in [0, HEADER_LEN - 1, HEADER_LEN, whole.len() - 1, whole.len() + 1] {
            let mut changed = whole.clone();
            changed.resize(len, 0);
            std::fs::write(&path, changed).expect("writable");
            assert!(Table::open(&path).is_err(), "{len} bytes");
        }
    }

    /// Of a table of many pages, opening looks at few of them, and a wrong one hides what stands on it alone.
    #[test]
    fn a_wrong_page_is_found_when_it_is_read_and_hides_no_others() {
        const CHUNKS: u64 = 20_000;
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("large.table");
        let key = |i: u64| {
            let mut key = [i as u8; 16];
            key[..8].copy_from_slice(&(i * (u64::MAX / CHUNKS)).to_be_bytes());
            ChunkKey(key)
        };
        let mut writer = TableWriter::default();
        writer.push_segment(SegmentId([1; 16]));
        writer.push_pack(Author::Reader, &pack(1, &[1, 2, 3]), |_| {});
        let rows = (0..CHUNKS).map(|i| Row { key: key(i), frame: 0, offset: 0, length: 10 });
        writer.finish(&made(&path), CHUNKS as usize, rows).expect("written");
        let whole = std::fs::read(&path).expect("there");
        let missing = || {
            let table = Table::open(&path).expect("its head is right");
            let found = (0..CHUNKS).filter(|i| table.find(&key(*i)).is_some()).count() as u64;
            assert_eq!(table.is_sound(), found == CHUNKS);
            (CHUNKS - found, CHUNKS - table.rows().count() as u64)
        };
        assert_eq!(missing(), (0, 0));
        let layout = Layout::decode(&whole, whole.len()).expect("a table");
        let at_most = 4096 / PLACE_LEN as u64 + 2;
        for (at, hidden, rows) in [
            (layout.filter_at() + 5000, 4096 / 64 * 50 * 2, 0),
            // Many are looked for by way of them.
            (layout.keys_at() + 5000, CHUNKS / 4, at_most),
            (layout.places_at() + 5000, at_most, at_most),
        ] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, changed).expect("writable");
            let missing = missing();
            assert!((1..=hidden).contains(&missing.0) && missing.1 <= rows, "{missing:?}, at {at}");
            assert!(!path.exists(), "the next run makes it anew");
        }
    }

    #[test]
    fn each_session_is_kept_once_and_two_that_claim_one_id_stay_apart() {
        let mut writer = TableWriter::default();
        let header = |session: u8, rest: u8| {
            let mut bytes = [rest; SESSION_HEADER_LEN];
            bytes[..16].fill(session);
            Arc::new(SessionHeader::from_bytes(&bytes))
        };
        let headers = [(1, 1), (2, 2), (1, 1), (1, 9), (2, 2), (1, 9)].map(|(session, rest)| header(session, rest));
        let places: Vec<_> = headers.iter().map(|header| writer.session_place(header)).collect();
        assert_eq!(places, [0, 1, 0, 2, 1, 2]);
        assert_eq!(writer.sessions.len(), 3);
    }
}
