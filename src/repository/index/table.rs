//! A sorted table of chunks in the local cache, searched through a memory map.
//!
//! A table is made once from index segments and never changed. It is the client's own file, not part of the repository
//! format, and is not believed over it: a checksum is compared when it is opened, and a damaged one is made again.
//!
//! ```text
//! header 96 | segment ids 16 each | session headers 1204 each | packs 72 each | frames 20 each
//!           | filter 64 a block | chunk keys 16 each, ascending | places 12 each
//! ```
//!
//! The filter is a blocked Bloom filter of about 1.3 bytes a chunk, whose hash functions are the key's own random bits.
//! Keys are evenly spread, so interpolation finds one in a few steps however large the table.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use memmap2::{Advice, Mmap, UncheckedAdvice};

use crate::crypto::seal::COMMITMENT_LEN;
use crate::crypto::session::{SESSION_HEADER_LEN, SessionHeader};
use crate::format::index::PackEntry;
use crate::format::pack::{Codec, PackKind};
use crate::model::id::{ChunkKey, PackId, SegmentId};

const MARK: &[u8; 8] = b"coffreT\x03";
/// Mark, six numbers, checksum, and room.
const HEADER_LEN: usize = 96;
/// Where the checksum stands in the header.
const SUM_AT: usize = 56;
const SUM_LEN: usize = blake3::OUT_LEN;
const PACK_LEN: usize = 72;
const FRAME_LEN: usize = 20;
const BLOCK_LEN: usize = 64;
const KEY_LEN: usize = ChunkKey::LEN;
const PLACE_LEN: usize = 12;
/// Chunks for each filter block of 512 bits: 10.2 bits a chunk, about 1 % false positives.
const CHUNKS_A_BLOCK: usize = 50;
/// After this many searches in a large table its pages are given back. A search touches about five places, and the kernel
/// maps up to 64 KiB around each: 170 MiB in all (`benches/index.rs`).
const SEARCHES_BEFORE_RELEASE: usize = 512;
/// The same for rows that are read one after the other, of 28 bytes each.
const ROWS_BEFORE_RELEASE: usize = 1 << 20;
/// Tables below this size may stay resident.
const LARGE_TABLE: usize = 48 << 20;
/// Bytes written, or read to be compared with the checksum, at once.
const BUFFER_LEN: usize = 1 << 18;
/// Session headers kept decoded; there is one of 1204 bytes for each run.
const HEADERS_KEPT: usize = 256;

/// Where a chunk lies: a pack, a frame in it, a place in the frame's plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
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
    /// Offset of the chunk in the plaintext.
    pub offset: u32,
    /// Length of the chunk.
    pub length: u32,
}

/// What opening frames of a pack needs to know besides their places.
#[derive(Debug, Clone)]
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
}

/// A table, mapped into memory.
pub struct Table {
    /// `None` for one that has no name, and goes with this value.
    path: Option<PathBuf>,
    map: Mmap,
    layout: Layout,
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

/// Numbers of items and where each section starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    segments: usize,
    sessions: usize,
    packs: usize,
    frames: usize,
    blocks: usize,
    chunks: usize,
}

impl Layout {
    fn segments_at(&self) -> usize {
        HEADER_LEN
    }
    fn sessions_at(&self) -> usize {
        self.segments_at() + self.segments * SegmentId::LEN
    }
    fn packs_at(&self) -> usize {
        self.sessions_at() + self.sessions * SESSION_HEADER_LEN
    }
    fn frames_at(&self) -> usize {
        self.packs_at() + self.packs * PACK_LEN
    }
    fn filter_at(&self) -> usize {
        (self.frames_at() + self.frames * FRAME_LEN).next_multiple_of(BLOCK_LEN)
    }
    fn keys_at(&self) -> usize {
        self.filter_at() + self.blocks * BLOCK_LEN
    }
    fn places_at(&self) -> usize {
        self.keys_at() + self.chunks * KEY_LEN
    }
    fn len(&self) -> usize {
        self.places_at() + self.chunks * PLACE_LEN
    }

    /// The sections that are written side by side, each with a checksum of its own.
    fn sections(&self) -> [Range<usize>; 4] {
        let borders = [self.segments_at(), self.filter_at(), self.keys_at(), self.places_at(), self.len()];
        std::array::from_fn(|i| borders[i]..borders[i + 1])
    }

    /// Returns the checksum of a table from those of its sections.
    fn checksum(&self, sections: [blake3::Hash; 4]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.encode()[..SUM_AT]);
        for section in sections {
            hasher.update(section.as_bytes());
        }
        hasher.finalize()
    }

    fn numbers(&self) -> [usize; 6] {
        [self.segments, self.sessions, self.packs, self.frames, self.blocks, self.chunks]
    }

    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MARK);
        for (slot, number) in bytes[8..SUM_AT].chunks_exact_mut(8).zip(self.numbers()) {
            slot.copy_from_slice(&(number as u64).to_le_bytes());
        }
        bytes
    }

    /// Reads a header; `len` is the length of the whole file.
    fn decode(bytes: &[u8], len: usize) -> Option<Self> {
        let header = bytes.get(..HEADER_LEN)?;
        if &header[..8] != MARK {
            return None;
        }
        let number = |i: usize| {
            let value = u64::from_le_bytes(header[8 + 8 * i..16 + 8 * i].try_into().expect("8 bytes"));
            usize::try_from(value).ok().filter(|&value| value < 1 << 40)
        };
        let layout = Self {
            segments: number(0)?,
            sessions: number(1)?,
            packs: number(2)?,
            frames: number(3)?,
            blocks: number(4)?,
            chunks: number(5)?,
        };
        (layout.len() == len).then_some(layout)
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

/// Gathers packs and writes a table.
#[derive(Default)]
pub struct TableWriter {
    segments: Vec<SegmentId>,
    sessions: Vec<Arc<SessionHeader>>,
    /// Where each header stands in `sessions`.
    session_places: HashMap<Arc<SessionHeader>, usize>,
    packs: Vec<u8>,
    pack_count: usize,
    frames: Vec<u8>,
    frame_count: u32,
}

impl TableWriter {
    /// Notes that the table covers `segment`.
    pub fn push_segment(&mut self, segment: SegmentId) {
        self.segments.push(segment);
    }

    /// Adds a pack and its frames, and hands each of its chunks to `row`.
    pub fn push_pack(&mut self, pack: &PackEntry, mut row: impl FnMut(Row)) {
        let first = self.frame_count;
        let mut frame_offset = 0;
        for (number, frame) in (0u32..).zip(&pack.directory.frames) {
            self.push_frame(number, frame_offset, frame.sealed_len, frame.plain_len, frame.codec);
            frame_offset += frame.sealed_len;
            let mut offset = 0;
            for &(key, length) in &frame.chunks {
                row(Row { key, frame: self.frame_count - 1, offset, length });
                offset += length;
            }
        }
        let frames = self.frame_count - first;
        let info = PackInfo {
            id: pack.id,
            kind: pack.kind,
            size: pack.size,
            frames,
            commitment: pack.commitment,
            header: pack.header.clone(),
        };
        self.push_pack_info(&info);
    }

    /// Adds all packs and frames of `table`, whose rows then count frames from the returned number.
    fn push_table(&mut self, table: &Table) -> u32 {
        let first_frame = self.frame_count;
        let first_pack = self.pack_count as u32;
        self.segments.extend(&table.segments);
        (0..table.layout.packs).for_each(|row| self.push_pack_info(&table.pack_at(row)));
        let frames = &table.map[table.layout.frames_at()..][..table.layout.frames * FRAME_LEN];
        for frame in frames.chunks_exact(FRAME_LEN) {
            let pack = u32_at(frame, 0) + first_pack;
            self.frames.extend_from_slice(&pack.to_le_bytes());
            self.frames.extend_from_slice(&frame[4..]);
            self.frame_count += 1;
        }
        first_frame
    }

    fn push_frame(&mut self, number: u32, offset: u32, sealed_len: u32, plain_len: u32, codec: Codec) {
        let pack = self.pack_count as u32;
        for value in [pack, number, offset, sealed_len, plain_len | (codec as u32) << 28] {
            self.frames.extend_from_slice(&value.to_le_bytes());
        }
        self.frame_count += 1;
    }

    fn push_pack_info(&mut self, info: &PackInfo) {
        let session = self.session_place(&info.header);
        self.packs.extend_from_slice(&info.id.0);
        self.packs.extend_from_slice(&info.commitment);
        for value in [info.size, session as u32, info.frames, info.kind as u32] {
            self.packs.extend_from_slice(&value.to_le_bytes());
        }
        self.packs.extend_from_slice(&[0; 8]);
        self.pack_count += 1;
    }

    fn session_place(&mut self, header: &Arc<SessionHeader>) -> usize {
        let next = self.sessions.len();
        let place = *self.session_places.entry(header.clone()).or_insert(next);
        if place == next {
            self.sessions.push(header.clone());
        }
        place
    }

    /// Writes the table to `file`, which is empty. `rows` gives `chunks` rows in ascending order of keys.
    pub fn finish(self, file: &File, chunks: usize, rows: impl Iterator<Item = Row>) -> io::Result<()> {
        let layout = Layout {
            segments: self.segments.len(),
            sessions: self.sessions.len(),
            packs: self.pack_count,
            frames: self.frame_count as usize,
            blocks: chunks.div_ceil(CHUNKS_A_BLOCK).max(1),
            chunks,
        };
        file.set_len(layout.len() as u64)?;
        // Keys ascend and choose their filter block by their high bits, so all sections are written front to back.
        let [mut head, mut filter, mut keys, mut places] =
            layout.sections().map(|section| SectionWriter::new(file, section.start));
        self.segments.iter().try_for_each(|segment| head.write(&segment.0))?;
        self.sessions.iter().try_for_each(|session| head.write(&session.to_bytes()))?;
        head.write(&self.packs)?;
        head.write(&self.frames)?;
        let head_len = layout.frames_at() + layout.frames * FRAME_LEN;
        head.write(&[0; BLOCK_LEN][..layout.filter_at() - head_len])?;

        let mut block = [0u8; BLOCK_LEN];
        let mut current = 0;
        let mut written = 0;
        for row in rows {
            let wanted = block_of(&row.key, layout.blocks);
            while current < wanted {
                filter.write(&block)?;
                block = [0; BLOCK_LEN];
                current += 1;
            }
            for bit in filter_bits(&row.key) {
                block[bit / 8] |= 1 << (bit % 8);
            }
            keys.write(&row.key.0)?;
            let mut place = [0; PLACE_LEN];
            for (slot, value) in place.chunks_exact_mut(4).zip([row.frame, row.offset, row.length]) {
                slot.copy_from_slice(&value.to_le_bytes());
            }
            places.write(&place)?;
            written += 1;
        }
        while current < layout.blocks {
            filter.write(&block)?;
            block = [0; BLOCK_LEN];
            current += 1;
        }
        assert_eq!(written, chunks, "as many rows as announced");
        let sections = [head.finish()?, filter.finish()?, keys.finish()?, places.finish()?];
        let mut header = layout.encode();
        header[SUM_AT..][..SUM_LEN].copy_from_slice(layout.checksum(sections).as_bytes());
        file.write_all_at(&header, 0)
    }
}

/// Writes one section of a file front to back, beside others, and sums it up.
struct SectionWriter<'a> {
    file: &'a File,
    at: u64,
    buffer: Vec<u8>,
    hasher: blake3::Hasher,
}

impl<'a> SectionWriter<'a> {
    fn new(file: &'a File, at: usize) -> Self {
        Self { file, at: at as u64, buffer: Vec::with_capacity(BUFFER_LEN), hasher: blake3::Hasher::new() }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(BUFFER_LEN) {
            if self.buffer.len() + piece.len() > BUFFER_LEN {
                self.flush()?;
            }
            self.buffer.extend_from_slice(piece);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.at)?;
        self.hasher.update(&self.buffer);
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<blake3::Hash> {
        self.flush()?;
        Ok(self.hasher.finalize())
    }
}

/// Writes a table of the given packs to an empty file.
pub fn write_table(file: &File, segments: &[SegmentId], packs: &[PackEntry]) -> io::Result<()> {
    let mut writer = TableWriter::default();
    segments.iter().for_each(|segment| writer.push_segment(*segment));
    let mut rows = Vec::new();
    packs.iter().for_each(|pack| writer.push_pack(pack, |row| rows.push(row)));
    rows.sort_unstable();
    writer.finish(file, rows.len(), rows.into_iter())
}

/// Writes a table with everything that `tables` hold to an empty file, in memory that does not grow with their chunks.
pub fn merge_tables(file: &File, tables: &[Arc<Table>]) -> io::Result<()> {
    let mut writer = TableWriter::default();
    let mut heads: Vec<_> = tables
        .iter()
        .map(|table| {
            let first = writer.push_table(table);
            let mut rows = table.rows().map(move |row| Row { frame: row.frame + first, ..row });
            (rows.next(), rows)
        })
        .collect();
    let chunks = tables.iter().map(|table| table.layout.chunks).sum();
    let merged = std::iter::from_fn(move || {
        let (_, least) = heads.iter().enumerate().filter_map(|(i, (head, _))| Some((head.as_ref()?, i))).min()?;
        let (head, rows) = &mut heads[least];
        std::mem::replace(head, rows.next())
    });
    writer.finish(file, chunks, merged)
}

impl Table {
    /// Opens a table that lies under a name. One that is not as it was written gives an error of kind `InvalidData`.
    ///
    /// Reads the whole file once, for its checksum.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !is_whole(&file)? {
            return Err(not_a_table());
        }
        Self::map(&file, Some(path.to_path_buf()))
    }

    /// Maps a table that this process has just written, or whose checksum was compared.
    pub(crate) fn map(file: &File, path: Option<PathBuf>) -> io::Result<Self> {
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

    /// Finds a pack by its id.
    pub fn pack(&self, id: PackId) -> Option<PackInfo> {
        let at = self.packs.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(self.pack_at(self.packs[at].1 as usize))
    }

    /// Tells where a chunk lies, if the table has it. Of several places, it is any.
    pub fn find(&self, key: &ChunkKey) -> Option<Location> {
        self.location(&self.row(self.find_row(key)?))
    }

    /// Tells every place where a chunk lies: a merged table may hold one that two hosts stored at the same time.
    pub fn find_all(&self, key: &ChunkKey) -> Vec<Location> {
        let Some(found) = self.find_row(key) else { return Vec::new() };
        let equal = |row: &usize| self.key(*row) == &key.0;
        let before = (0..found).rev().take_while(equal);
        let after = (found + 1..self.layout.chunks).take_while(equal);
        let rows = std::iter::once(found).chain(before).chain(after);
        rows.filter_map(|row| self.location(&self.row(row))).collect()
    }

    fn find_row(&self, key: &ChunkKey) -> Option<usize> {
        if !self.may_contain(key) {
            return None;
        }
        let found = self.search(key);
        if self.searches.fetch_add(1, Ordering::Relaxed) % SEARCHES_BEFORE_RELEASE == SEARCHES_BEFORE_RELEASE - 1 {
            self.release();
        }
        found
    }

    /// Gives the pages of a large table back to the system.
    fn release(&self) {
        if self.map.len() > LARGE_TABLE {
            // SAFETY: the map is file-backed and read-only; released pages are read again from the file.
            let _ = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }

    /// Returns how many chunks the table places in each pack, in the order of [`Table::packs`]. Reads the whole table.
    pub fn chunks_in_packs(&self) -> Vec<u32> {
        let mut counts = vec![0; self.layout.packs];
        let start = self.layout.frames_at();
        for row in self.rows().filter(|row| (row.frame as usize) < self.layout.frames) {
            let pack = u32_at(&self.map, start + row.frame as usize * FRAME_LEN) as usize;
            if let Some(count) = counts.get_mut(pack) {
                *count += 1;
            }
        }
        counts
    }

    /// Returns the plaintext bytes of all frames, which is those of all chunks.
    pub fn plain_bytes(&self) -> u64 {
        let start = self.layout.frames_at();
        let frames = self.map[start..start + self.layout.frames * FRAME_LEN].chunks_exact(FRAME_LEN);
        frames.map(|frame| u64::from(u32_at(frame, 16) & 0x0fff_ffff)).sum()
    }

    /// Returns all rows in order of their keys.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (0..self.layout.chunks).map(|i| {
            if i % ROWS_BEFORE_RELEASE == 0 {
                self.release();
            }
            self.row(i)
        })
    }

    /// Tells where a row's chunk lies; `None` when the table is damaged.
    pub fn location(&self, row: &Row) -> Option<Location> {
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
        Some(Location {
            pack: PackId(record[..16].try_into().expect("16 bytes")),
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

    fn may_contain(&self, key: &ChunkKey) -> bool {
        let at = self.layout.filter_at() + block_of(key, self.layout.blocks) * BLOCK_LEN;
        let block = &self.map[at..at + BLOCK_LEN];
        filter_bits(key).into_iter().all(|bit| block[bit / 8] & 1 << (bit % 8) != 0)
    }

    /// Interpolation search: keys are evenly spread, so the first guess is off by about the root of their number.
    fn search(&self, key: &ChunkKey) -> Option<usize> {
        let wanted = leading(&key.0);
        let (mut low, mut high) = (0, self.layout.chunks);
        let (mut low_value, mut high_value) = (0u64, u64::MAX);
        while low < high {
            let span = u128::from(high_value - low_value).max(1);
            let guess = u128::from(wanted.saturating_sub(low_value)) * (high - low) as u128 / span;
            let middle = low + (guess as usize).min(high - low - 1);
            let found = self.key(middle);
            match found.cmp(&key.0) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => (low, low_value) = (middle + 1, leading(found)),
                std::cmp::Ordering::Greater => (high, high_value) = (middle, leading(found)),
            }
        }
        None
    }

    fn key(&self, row: usize) -> &[u8; KEY_LEN] {
        let at = self.layout.keys_at() + row * KEY_LEN;
        self.map[at..at + KEY_LEN].try_into().expect("16 bytes")
    }

    fn row(&self, i: usize) -> Row {
        let at = self.layout.places_at() + i * PLACE_LEN;
        let place = &self.map[at..at + PLACE_LEN];
        Row { key: ChunkKey(*self.key(i)), frame: u32_at(place, 0), offset: u32_at(place, 4), length: u32_at(place, 8) }
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
        }
    }
}

/// Compares a file with the checksum in it.
fn is_whole(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    let len = usize::try_from(metadata.len()).map_err(|_| not_a_table())?;
    if !metadata.is_file() || len < HEADER_LEN {
        return Ok(false);
    }
    let mut header = [0; HEADER_LEN];
    file.read_exact_at(&mut header, 0)?;
    let Some(layout) = Layout::decode(&header, len) else { return Ok(false) };
    let mut buffer = vec![0; BUFFER_LEN];
    let mut sections = [blake3::Hash::from_bytes([0; SUM_LEN]); 4];
    for (sum, section) in sections.iter_mut().zip(layout.sections()) {
        let mut hasher = blake3::Hasher::new();
        let mut at = section.start;
        while at < section.end {
            let piece = &mut buffer[..BUFFER_LEN.min(section.end - at)];
            file.read_exact_at(piece, at as u64)?;
            hasher.update(piece);
            at += piece.len();
        }
        *sum = hasher.finalize();
    }
    // What stands behind the checksum is zero.
    let rest = header[SUM_AT + SUM_LEN..].iter().all(|&byte| byte == 0);
    Ok(rest && layout.checksum(sections).as_bytes()[..] == header[SUM_AT..][..SUM_LEN])
}

fn not_a_table() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an index table")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn leading(key: &[u8; KEY_LEN]) -> u64 {
    u64::from_be_bytes(key[..8].try_into().expect("8 bytes"))
}

/// The filter block of a key: its high bits scaled to the number of blocks, so blocks ascend with keys.
fn block_of(key: &ChunkKey, blocks: usize) -> usize {
    ((u128::from(leading(&key.0)) * blocks as u128) >> 64) as usize
}

/// Six bits of a block of 512, from the half of the key that does not choose the block.
fn filter_bits(key: &ChunkKey) -> [usize; 6] {
    let bits = u64::from_be_bytes(key.0[8..].try_into().expect("8 bytes"));
    std::array::from_fn(|i| (bits >> (9 * i)) as usize & 511)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{FrameRecord, PackDirectory};

    fn pack(id: u8, keys: &[u8]) -> PackEntry {
        let chunks: Vec<_> = keys.iter().map(|key| (ChunkKey([*key; 16]), 10)).collect();
        let plain_len = 10 * chunks.len() as u32;
        PackEntry {
            id: PackId([id; 16]),
            kind: PackKind::Data,
            size: 5000,
            commitment: [id; 32],
            header: Arc::new(SessionHeader::from_bytes(&[id; SESSION_HEADER_LEN])),
            directory: PackDirectory {
                frames: vec![FrameRecord { sealed_len: 100, plain_len, codec: Codec::Stored, chunks }],
            },
        }
    }

    #[test]
    fn a_merged_table_has_every_place_of_a_chunk_that_was_stored_twice() {
        let directory = tempfile::tempdir().expect("made");
        let table = |name: &str, packs: &[PackEntry]| {
            let path = directory.path().join(name);
            let file = File::create(&path).expect("made");
            write_table(&file, &[SegmentId([packs[0].id.0[0]; 16])], packs).expect("written");
            Arc::new(Table::open(&path).expect("a table"))
        };
        let (one, two) = (table("one", &[pack(1, &[7, 8, 9])]), table("two", &[pack(2, &[8]), pack(3, &[9, 8])]));
        let path = directory.path().join("merged");
        merge_tables(&File::create(&path).expect("made"), &[one, two]).expect("merged");
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
        let counts: Vec<_> = merged.packs().zip(merged.chunks_in_packs()).map(|(pack, n)| (pack.id.0[0], n)).collect();
        assert_eq!(counts, [(1, 3), (2, 1), (3, 2)]);
    }

    #[test]
    fn a_table_with_any_byte_changed_is_none() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("one.table");
        let file = File::create(&path).expect("made");
        write_table(&file, &[SegmentId([1; 16])], &[pack(1, &[7, 8, 9]), pack(2, &[10])]).expect("written");
        let whole = std::fs::read(&path).expect("there");
        Table::open(&path).expect("a table");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&path, changed).expect("writable");
            let error = Table::open(&path).expect_err("changed");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {at} of {}", whole.len());
        }
        for len in [0, HEADER_LEN - 1, HEADER_LEN, whole.len() - 1, whole.len() + 1] {
            let mut changed = whole.clone();
            changed.resize(len, 0);
            std::fs::write(&path, changed).expect("writable");
            assert!(Table::open(&path).is_err(), "{len} bytes");
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
